//! An avatar of what upstream's realtime script prepared: its folder `results/v15/avatars/ID` or `results/avatars/ID`.
//!
//! In here: what is read of that folder, what of it is checked, and where it goes. Nothing in it is run: its pickles may hold
//! tensors and integers alone (`models::checkpoint`). Not in here: preparing (`musetalk`). Memory holds one frame and all
//! latents, 16 kB a frame.
//!
//! Upstream stores every frame twice, there and back; one half is taken, and played there and back.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::musetalk::mask::MeanMask;
use super::musetalk::{FIRST, latents, part};
use super::{Made, PreparationError, Progress, Request, Stage};
use crate::avatar::draft::Draft;
use crate::avatar::film::{FilmWriter, MOST_FRAMES};
use crate::avatar::manifest::{Kind, LONGEST_SIDE, SHORTEST_SIDE};
use crate::avatar::{AvatarError, AvatarStore, CycleKind, files};
use crate::models::checkpoint::integer_rows;
use crate::models::{Checkpoint, DType};
use crate::musetalk::ModelConfig;
use crate::picture::{CropBox, Mask, RgbPicture, png};

/// What upstream's avatars are made for unless their folder says else.
const LATEST: &str = "musetalk-v1.5";
/// What upstream's `avator_info.json` says of that.
const VERSION: &str = "v15";
/// The longest such file that is read, in bytes.
const LONGEST_INFO: u64 = 1 << 16;
/// Channels, rows and columns of upstream's latents, and the side of its faces in pixels.
const SHAPE: [u64; 3] = [8, 32, 32];
const SIDE: u32 = 256;

/// What is wrong with a file of upstream's folder.
fn unusable(path: &Path, problem: impl std::fmt::Display) -> PreparationError {
    PreparationError::Upstream(AvatarError::file(path, problem))
}

/// Which model a folder was prepared for, by what is written in it; 1.5 if nothing is.
pub fn upstream_model(folder: &Path) -> Result<&'static str, PreparationError> {
    let path = folder.join("avator_info.json");
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(LONGEST_INFO).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(LATEST),
        Err(error) => return Err(unusable(&path, error)),
    }
    let info: serde_json::Value = serde_json::from_slice(&text).map_err(|error| unusable(&path, error))?;
    // Version 1.0 wrote none.
    Ok(if info.get("version").and_then(serde_json::Value::as_str) == Some(VERSION) { LATEST } else { FIRST })
}

/// Makes an avatar in the folder of all avatars of one that upstream prepared, whose folder is the request's source. The
/// folder of models may lack the model; if it is there, the latents must fit it. Told to stop, or failing, it leaves nothing.
pub fn import_upstream(
    avatars: &AvatarStore,
    models: &Path,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
    stop: &CancellationToken,
) -> Result<PathBuf, PreparationError> {
    progress(Progress { stage: Stage::Reading, share: 0.0 });
    let (shape, side) = sizes(&models.join(&request.model).join("config.json"))?;
    let folder = Folder::open(&request.source, shape)?;
    let draft = avatars.begin(&request.id, request.replace)?;
    let made = {
        let mut reached = |stage: Stage, share: f64| {
            if stop.is_cancelled() {
                return Err(PreparationError::Stopped);
            }
            progress(Progress { stage, share });
            Ok(())
        };
        folder.write(&draft, (shape, side), &mut reached)?
    };
    let hashed = Request { source: folder.latents_path.clone(), ..request.clone() };
    let manifest = super::manifest(&hashed, &made)?;
    let place = super::finish(draft, manifest, stop)?;
    progress(Progress { stage: Stage::Writing, share: 1.0 });
    Ok(place)
}

/// What the model wants; upstream's own sizes if it is not there.
fn sizes(config: &Path) -> Result<([u64; 3], u32), PreparationError> {
    if !config.is_file() {
        return Ok((SHAPE, SIDE));
    }
    let config = ModelConfig::load(config)?;
    let rows = config.latent_size();
    let shape = [config.unet.in_channels, rows, rows].map(|length| u64::try_from(length).unwrap_or(0));
    Ok((shape, u32::try_from(config.crop_size).unwrap_or(SIDE)))
}

/// Upstream's folder, its lists read and checked.
struct Folder {
    path: PathBuf,
    latents_path: PathBuf,
    latents: Checkpoint,
    /// Left, top, right and bottom of each face and of the square of its mask; of the frames that are taken.
    faces: Vec<[i64; 4]>,
    masks: Vec<[i64; 4]>,
}

impl Folder {
    fn open(path: &Path, shape: [u64; 3]) -> Result<Self, PreparationError> {
        let faces_path = path.join("coords.pkl");
        let mut faces: Vec<[i64; 4]> =
            integer_rows(&faces_path).map_err(|error| unusable(&faces_path, error.problem))?;
        let masks_path = path.join("mask_coords.pkl");
        let mut masks: Vec<[i64; 4]> =
            integer_rows(&masks_path).map_err(|error| unusable(&masks_path, error.problem))?;
        let latents_path = path.join("latents.pt");
        let latents = Checkpoint::open(&latents_path).map_err(|error| unusable(&latents_path, error.problem))?;
        let count = faces.len();
        if count == 0 || masks.len() != count || latents.tensors().len() != count {
            let (masks, latents) = (masks.len(), latents.tensors().len());
            return Err(unusable(
                path,
                format!("has {count} faces, {masks} masks and {latents} latents: they must be as many"),
            ));
        }
        let wanted: Vec<u64> = [1].into_iter().chain(shape).collect();
        let fits = |shape: &[u64], dtype: DType| shape == wanted && matches!(dtype, DType::F16 | DType::F32);
        if let Some(other) = latents.tensors().iter().find(|latent| !fits(&latent.shape, latent.dtype)) {
            let problem =
                format!("latent {} is {} {:?}, the model wants {wanted:?}", other.name, other.dtype, other.shape);
            return Err(unusable(&latents_path, problem));
        }
        let folder = Self { path: path.to_owned(), latents_path, latents, faces: Vec::new(), masks: Vec::new() };
        let kept = if folder.goes_back(&faces, &masks)? { count / 2 } else { count };
        if kept > MOST_FRAMES {
            return Err(unusable(path, format!("has {kept} frames, the most are {MOST_FRAMES}")));
        }
        faces.truncate(kept);
        masks.truncate(kept);
        Ok(Self { faces, masks, ..folder })
    }

    /// Whether the second half is the first one backwards: boxes, latents and pictures, byte by byte.
    fn goes_back(&self, faces: &[[i64; 4]], masks: &[[i64; 4]]) -> Result<bool, PreparationError> {
        let count = faces.len();
        let same = |boxes: &[[i64; 4]]| boxes.iter().eq(boxes.iter().rev());
        if !count.is_multiple_of(2) || !same(faces) || !same(masks) {
            return Ok(false);
        }
        for at in 0..count / 2 {
            let [one, other] = [at, count - 1 - at];
            if self.latent(one)? != self.latent(other)? {
                return Ok(false);
            }
            let bytes = |number: usize| {
                let path = self.frame_path(number);
                std::fs::read(&path).map_err(|error| unusable(&path, error))
            };
            if bytes(one)? != bytes(other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn frame_path(&self, number: usize) -> PathBuf {
        self.path.join("full_imgs").join(format!("{number:08}.png"))
    }

    /// Of one frame, 16-bit floats.
    fn latent(&self, number: usize) -> Result<Vec<u8>, PreparationError> {
        let failed = |problem: String| unusable(&self.latents_path, problem);
        let latent = self.latents.tensors().get(number).ok_or_else(|| failed(format!("has no latent {number}")))?;
        self.latents.read_weights_as(latent, DType::F16).map_err(|error| failed(error.problem.to_string()))
    }

    /// Writes everything but the manifest.
    fn write(
        &self,
        draft: &Draft,
        (shape, side): ([u64; 3], u32),
        reached: &mut dyn FnMut(Stage, f64) -> Result<(), PreparationError>,
    ) -> Result<Made, PreparationError> {
        let first = self.frame(0)?;
        let (width, height) = (first.width, first.height);
        let mut film = FilmWriter::create(draft.path(), width, height)?;
        let mut mask = MeanMask::new(side, self.faces.len());
        for (number, (face, around)) in self.faces.iter().zip(&self.masks).enumerate() {
            reached(Stage::Reading, 0.9 * number as f64 / self.faces.len() as f64)?;
            let picture = self.frame(number)?;
            let path = self.frame_path(number);
            if (picture.width, picture.height) != (width, height) {
                let problem = format!("is {}x{}, the first frame is {width}x{height}", picture.width, picture.height);
                return Err(unusable(&path, problem));
            }
            let beside = || unusable(&path, format!("has its face in {face:?}, which does not lie in it"));
            let crop = crop_of(*face, (width, height)).ok_or_else(beside)?;
            film.push(&picture.into(), crop)?;
            if mask.wants(number) {
                mask.add(&self.mask(number, crop, *around)?);
            }
        }
        let frames = film.finish()?;
        let (mask, decode_rows) = mask.finish(i64::try_from(shape[1]).unwrap_or(0));
        if mask.bounds().is_none() {
            return Err(unusable(&self.path.join("mask"), "has masks that are all black"));
        }
        super::write_mask(draft, &mask)?;
        super::write_preview(draft, &first.into())?;
        let latents = (0..self.faces.len()).map(|number| self.latent(number)).collect::<Result<Vec<_>, _>>()?.concat();
        latents::write(&draft.path().join(files::LATENTS), self.faces.len(), shape, latents)?;
        reached(Stage::Writing, 0.95)?;
        let size = (width, height);
        Ok(Made {
            kind: Kind::Clip,
            width,
            height,
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
            cycle: CycleKind::PingPong,
            source: size,
            options: [("from_musetalk".to_owned(), toml::Value::Boolean(true))].into_iter().collect(),
            decode_rows: Some(decode_rows),
        })
    }

    /// A frame, without its last row or column where there is an odd number of them.
    fn frame(&self, number: usize) -> Result<RgbPicture, PreparationError> {
        let path = self.frame_path(number);
        let picture = png::read_rgb(&path).map_err(|error| unusable(&path, error))?;
        let (width, height) = (picture.width & !1, picture.height & !1);
        if [width, height].iter().any(|side| !(SHORTEST_SIDE..=LONGEST_SIDE).contains(side)) {
            let problem = format!("is {width}x{height}, a side must have {SHORTEST_SIDE} to {LONGEST_SIDE} pixels");
            return Err(unusable(&path, problem));
        }
        if (width, height) == (picture.width, picture.height) {
            return Ok(picture);
        }
        Ok(part(&picture, CropBox { x: 0, y: 0, width, height }))
    }

    /// The part of a frame's mask that lies on its face.
    fn mask(
        &self,
        number: usize,
        crop: CropBox,
        [left, top, right, bottom]: [i64; 4],
    ) -> Result<Mask, PreparationError> {
        let path = self.path.join("mask").join(format!("{number:08}.png"));
        let whole = png::read_mask(&path).map_err(|error| unusable(&path, error))?;
        let size = (i64::from(whole.width), i64::from(whole.height));
        if size != (right.saturating_sub(left), bottom.saturating_sub(top)) {
            let problem = format!("is {}x{}, mask_coords.pkl has {left}, {top} to {right}, {bottom}", size.0, size.1);
            return Err(unusable(&path, problem));
        }
        let (across, down) = (i64::from(crop.x) - left, i64::from(crop.y) - top);
        let alpha = |x: u32, y: u32| {
            let (x, y) = (u32::try_from(across + i64::from(x)).ok()?, u32::try_from(down + i64::from(y)).ok()?);
            let inside = x < whole.width && y < whole.height;
            inside.then(|| whole.alpha.get(y as usize * whole.width as usize + x as usize).copied()).flatten()
        };
        let pixels = (0..crop.height).flat_map(|y| (0..crop.width).map(move |x| (x, y)));
        let alpha = pixels.map(|(x, y)| alpha(x, y).unwrap_or(0)).collect();
        Ok(Mask { width: crop.width, height: crop.height, alpha })
    }
}

/// A box of upstream's, which says its ends; `None` unless some of it is in the frame and it is of a size that a film may have.
fn crop_of([left, top, right, bottom]: [i64; 4], (width, height): (u32, u32)) -> Option<CropBox> {
    const FARTHEST: u32 = 4096;
    let place = |at: i64, side: u32| {
        i32::try_from(at).ok().filter(|at| at.unsigned_abs() <= FARTHEST && i64::from(*at) < i64::from(side))
    };
    let length = |from: i64, to: i64| {
        let length = u32::try_from(to.checked_sub(from)?).ok()?;
        (to > 0 && (1..=FARTHEST).contains(&length)).then_some(length)
    };
    let (x, y) = (place(left, width)?, place(top, height)?);
    Some(CropBox { x, y, width: length(left, right)?, height: length(top, bottom)? })
}
