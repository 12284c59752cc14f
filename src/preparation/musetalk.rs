//! A photo or a clip prepared for MuseTalk, or another model whose mouths come from latents.
//!
//! In here: what is done frame by frame: its box, its pixels in the film, its face for the encoder, the mask. `geometry` says
//! where the box is, `parsing` and `mask` what is pasted through, `latents` keeps what was encoded. Not in here: where a clip's
//! loop is cut (`clip`), which part of a photo is taken (`photo`), the networks (`musetalk` of the library).

pub(super) mod geometry;
pub(super) mod latents;
pub(super) mod mask;
pub(super) mod parsing;

use std::path::{Path, PathBuf};

use super::clip::{self, Reader};
use super::closing::shut;
use super::cutting::Cutter;
use super::{Made, MaskSource, ParsingMode, PreparationError, Request, Stage, Work, photo};
use crate::avatar::film::FilmWriter;
use crate::avatar::manifest::Kind;
use crate::avatar::{CycleKind, files};
use crate::face::track::Tracker;
use crate::face::{FaceError, Mesh};
use crate::musetalk::{DeviceChoice, FaceEncoder, FaceParser, find_device};
use crate::picture::resize::lanczos4;
use crate::picture::{CropBox, Cutout, RgbPicture, color};
use crate::still::{Motion, Still};
use geometry::{Framing, MARGIN, Surroundings};
use latents::{Done, Latents, Unfinished};
use mask::MeanMask;
use parsing::Classes;

/// The published model that has the older framing and mask.
pub(super) const FIRST: &str = "musetalk-v1.0";
/// The loop that is drawn of a photo: nine seconds.
const LOOP: u64 = 225;
/// The same photo moves the same way each time.
const SEED: u64 = 1;
/// How much of the whole finding the face takes: little beside the encoder.
const FINDING: f64 = 0.15;
/// Where encoding ends.
const ENCODED: f64 = 0.95;

/// What draws the mouths, and how it wants faces.
pub(super) struct Model {
    encoder: FaceEncoder,
    framing: Framing,
    bbox_shift: i32,
    /// What finds the face's parts for the mask; without it they are the mesh's.
    parser: Option<FaceParser>,
    parsing_mode: ParsingMode,
}

impl Model {
    /// The model that is asked for, from the folder of all models.
    pub(super) fn load(models: &Path, request: &Request) -> Result<Self, PreparationError> {
        let wrong = |problem: String| PreparationError::Model { model: request.model.clone(), problem };
        let folder = models.join(&request.model);
        if !folder.join("config.json").is_file() {
            return Err(wrong(format!(
                "is not in {}: `mouthpiece models list` says what can be fetched",
                models.display()
            )));
        }
        let framing = framing(request)?;
        let device = find_device(DeviceChoice::Auto)?;
        let encoder = FaceEncoder::load(&folder, device).map_err(|error| wrong(error.to_string()))?;
        let parser = match parser_file(models, request.mask).map_err(&wrong)? {
            // Weights that are there and cannot be used are not passed over.
            Some(file) => Some(FaceParser::load(&file, device).map_err(|error| {
                wrong(format!("its mask cannot come from face parsing (--mask mesh makes one without it): {error}"))
            })?),
            None => None,
        };
        let parsing_mode = request.parsing_mode.unwrap_or(match framing {
            Framing::Shifted(_) => ParsingMode::Raw,
            Framing::Margin(_) => ParsingMode::Jaw,
        });
        Ok(Self { encoder, framing, bbox_shift: request.bbox_shift, parser, parsing_mode })
    }
}

/// The weights of face parsing, if the mask is to be made by it.
fn parser_file(models: &Path, mask: Option<MaskSource>) -> Result<Option<PathBuf>, String> {
    let file = FaceParser::path(models);
    match (mask, file.is_file()) {
        (Some(MaskSource::Mesh), _) | (None, false) => Ok(None),
        (_, true) => Ok(Some(file)),
        (Some(MaskSource::Parsing), false) => Err(format!(
            "--mask parsing wants the weights of face parsing, and there is no {}: models/README.md says where they come from",
            file.display()
        )),
    }
}

/// How the model that is asked for frames a face.
fn framing(request: &Request) -> Result<Framing, PreparationError> {
    match (request.model.as_str(), request.bbox_shift) {
        (FIRST, shift) => Ok(Framing::Shifted(shift)),
        (_, 0) => Ok(Framing::Margin(MARGIN)),
        _ => {
            let problem = format!("knows no --bbox-shift, only {FIRST} does");
            Err(PreparationError::Model { model: request.model.clone(), problem })
        }
    }
}

/// What is kept until the avatar has its place.
pub(super) struct Kept(Done);

impl Kept {
    /// The avatar is there.
    pub(super) fn forget(self) {
        self.0.forget();
    }
}

/// A clip's loop.
pub(super) fn clip(mut work: Work<'_>, model: &Model) -> Result<(Made, Kept), PreparationError> {
    let found = clip::find_loop(&mut work, FINDING)?;
    let mut reader = Reader::open(&work, &found.options)?;
    let (file, closed) = (&work.request.file_name, work.request.closed);
    let mut cutter = Cutter::new(work.request.alpha, file);
    let mut next = |number: usize| {
        let ended = || PreparationError::Clip {
            file: file.clone(),
            problem: format!("ends at frame {number} when read again"),
        };
        let frame = reader.shown(&found.round, number)?.ok_or_else(ended)?;
        cutter.cut(frame, &found.mesh(number)?)
    };
    let size = (found.seen.width, found.seen.height);
    let meshes = Meshes { count: found.len(), of: &|number| found.mesh(number) };
    let written = write(&mut work, model, size, &meshes, closed, &mut next)?;
    let made = Made { cycle: found.cycle(), source: size, options: options(model, found.decided()), ..written.made };
    Ok((made, written.kept))
}

/// A loop drawn of a photo; one frame, if it keeps still.
pub(super) fn photo(mut work: Work<'_>, model: &Model) -> Result<(Made, Kept), PreparationError> {
    let framed = photo::framed(&mut work, FINDING / 2.0)?;
    let problem = |problem: String| PreparationError::Clip { file: work.request.file_name.clone(), problem };
    let own = &framed.cutout;
    let still = Still::new(&own.picture, &framed.mesh).map_err(|error| problem(error.to_string()))?;
    let (motion, poses) = if work.request.still { (Motion::none(), 1) } else { (Motion::looped(SEED, LOOP), LOOP) };
    let draw = |number: usize| match motion.pose(&[], &[], number as u64) {
        pose if pose == Default::default() => own.clone(),
        pose => Cutout {
            picture: color::i420_to_rgb(&still.draw(still.base(), &pose)),
            matte: own.matte.as_ref().map(|matte| still.draw_matte(matte, &pose)),
        },
    };
    let mut meshes = vec![framed.mesh.clone()];
    if poses > 1 {
        meshes = follow(&mut work, poses, &|number| draw(number).picture)?;
    }
    let size = (own.picture.width, own.picture.height);
    let mesh_of = |number: usize| Ok(meshes.get(number).cloned().unwrap_or_else(|| framed.mesh.clone()));
    let meshes = Meshes { count: meshes.len(), of: &mesh_of };
    let written = write(&mut work, model, size, &meshes, false, &mut |number| Ok(draw(number)))?;
    let made = Made { source: framed.source, options: options(model, toml::Table::new()), ..written.made };
    Ok((made, written.kept))
}

/// The meshes of frames that are drawn.
fn follow(work: &mut Work<'_>, frames: u64, draw: &dyn Fn(usize) -> RgbPicture) -> Result<Vec<Mesh>, PreparationError> {
    let (progress, stop) = (&mut *work.progress, work.stop);
    let mut tracker = Tracker::new(&mut work.finder, None, work.draft.path())?;
    for number in 0..frames {
        if stop.is_cancelled() {
            return Err(PreparationError::Stopped);
        }
        let share = FINDING / 2.0 * (1.0 + number as f64 / frames as f64);
        progress(super::Progress { stage: Stage::FindingFace, share });
        // Found or not is asked when all are known.
        let _ = tracker.push(&draw(usize::try_from(number).unwrap_or(usize::MAX)))?;
    }
    let track = tracker.finish()?;
    let meshes = track.frames().map(|frame| frame.map(|frame| frame.mesh)).collect::<Result<Option<Vec<Mesh>>, _>>()?;
    meshes.ok_or_else(|| PreparationError::Clip {
        file: work.request.file_name.clone(),
        problem: "shows no face any more when its head turns".to_owned(),
    })
}

fn options(model: &Model, mut decided: toml::Table) -> toml::Table {
    match model.framing {
        Framing::Shifted(_) => decided.insert("bbox_shift".to_owned(), i64::from(model.bbox_shift).into()),
        Framing::Margin(below) => decided.insert("margin".to_owned(), i64::from(below).into()),
    };
    let source = if model.parser.is_some() { MaskSource::Parsing } else { MaskSource::Mesh };
    decided.insert("mask".to_owned(), source.name().into());
    decided.insert("parsing_mode".to_owned(), model.parsing_mode.name().into());
    decided
}

/// The meshes of a loop's frames.
struct Meshes<'a> {
    count: usize,
    of: &'a dyn Fn(usize) -> Result<Mesh, FaceError>,
}

struct Written {
    made: Made,
    kept: Kept,
}

/// Everything that is written of frames whose meshes are known: film, latents, mask, preview. `next` is asked for each once,
/// in order; `closed`: mouths that are open in them are shut first.
fn write(
    work: &mut Work<'_>,
    model: &Model,
    (width, height): (u32, u32),
    meshes: &Meshes<'_>,
    closed: bool,
    next: &mut dyn FnMut(usize) -> Result<Cutout, PreparationError>,
) -> Result<Written, PreparationError> {
    let encoder = &model.encoder;
    let mut film = FilmWriter::create(work.draft.path(), width, height)?;
    let mut latents = Latents::begin(work.avatars.root(), &work.request.id, encoder);
    if latents.found() > 0 {
        tracing::info!(faces = latents.found(), "a preparation that was cut off is gone on with");
    }
    let mut mask = MeanMask::new(encoder.side(), meshes.count);
    for number in 0..meshes.count {
        let mesh = (meshes.of)(number)?;
        let share = number as f64 / meshes.count as f64;
        work.reached(Stage::Encoding, FINDING + (ENCODED - FINDING) * share)?;
        let Cutout { picture, matte } = next(number)?;
        let (picture, mesh) = if closed { shut(work, &picture, &mesh)? } else { (picture, mesh) };
        let crop = geometry::face_box(&geometry::points(&mesh), model.framing, (width, height));
        let crop = crop.ok_or_else(|| PreparationError::Clip {
            file: work.request.file_name.clone(),
            problem: format!("has its face outside frame {number}"),
        })?;
        let cutout = Cutout { picture, matte };
        let picture = &cutout.picture;
        film.push(&cutout, crop)?;
        latents.push(lanczos4(&part(picture, crop), encoder.side(), encoder.side()))?;
        if mask.wants(number) {
            let around = Surroundings::of(crop);
            let classes = match &model.parser {
                Some(parser) => Classes::found(parser, picture, around)?,
                None => Classes::drawn(&mesh, around),
            };
            mask.add(&mask::of_frame(&classes.shown(model.parsing_mode), crop, around));
        }
        if number == 0 {
            work.write_preview(&cutout)?;
        }
    }
    let frames = film.finish()?;
    let done = latents.finish(&work.path(files::LATENTS)).map_err(|error| match error {
        Unfinished::Network(error) => PreparationError::from(error),
        Unfinished::File(error) => error.into(),
    })?;
    let (mask, rows) = mask.finish(encoder.config().latent_size());
    if mask.bounds().is_none() {
        let problem = "has a face that no mouth can be pasted into".to_owned();
        return Err(PreparationError::Clip { file: work.request.file_name.clone(), problem });
    }
    work.write_mask(&mask)?;
    work.reached(Stage::Writing, ENCODED)?;
    let made = Made {
        kind: Kind::Clip,
        width,
        height,
        frames: u32::try_from(frames).unwrap_or(u32::MAX),
        cycle: CycleKind::Loop,
        source: (width, height),
        options: toml::Table::new(),
        decode_rows: Some(rows),
    };
    Ok(Written { made, kept: Kept(done) })
}

/// The pixels of a box that lies in the picture.
pub(super) fn part(picture: &RgbPicture, crop: CropBox) -> RgbPicture {
    let place = |at: i32| u32::try_from(at).unwrap_or(0);
    let part = super::framing::Part { x: place(crop.x), y: place(crop.y), width: crop.width, height: crop.height };
    super::framing::cut(picture, part)
}

#[cfg(test)]
mod tests;
