//! A clip: its frames are read twice, first for where the face is and where the clip can go round, then to be written.
//!
//! Memory does not grow with the size of the frames and little with their number: of each frame a thumbnail and the mouth are
//! kept, 2 kB, its mesh is on the disk.

use std::collections::VecDeque;
use std::ops::Range;

use super::closing::shut;
use super::cutting::Cutter;
use super::loop_cut::{self, Closing, LoopCut, LoopOptions, Shown, Signature};
use super::{CLIP_SIDE, Made, PreparationError, Stage, Work};
use crate::avatar::film::FilmWriter;
use crate::avatar::manifest::{Kind, MatteSource};
use crate::avatar::{CycleKind, files};
use crate::face::track::{Sight, Track, Tracker};
use crate::face::{self, FaceError, FaceProblem, Mesh, overlay, parts};
use crate::media::{Clip, ClipOptions};
use crate::picture::{CropBox, Cutout, Mask, RgbPicture};
use crate::portrait::file::PortraitData;
use crate::portrait::{self, place};

/// A clip goes round from so many frames on, two seconds; below it is too short to look at.
const LEAST_FRAMES: usize = 50;
/// How much of the whole the first reading takes.
const FIRST_READING: f64 = 0.6;
/// A frame of this width has one unit of a pose for each pixel.
const POSE_WIDTH: f32 = 256.0;

/// What of a clip goes round.
pub(super) struct Found {
    pub options: ClipOptions,
    pub seen: Seen,
    pub round: LoopCut,
}

/// Reads the clip for the first time, which takes so much of the whole, and finds where it goes round.
pub(super) fn find_loop(work: &mut Work<'_>, share: f64) -> Result<Found, PreparationError> {
    let request = work.request;
    let largest_side = request.side.unwrap_or(CLIP_SIDE);
    let alpha = request.alpha == Some(MatteSource::Own);
    let options = ClipOptions { largest_side, alpha, ..request.clip };
    let seen = look(work, &options, share)?;
    let stretch = usable(&seen.track).filter(|stretch| stretch.len() >= LEAST_FRAMES);
    let Some(stretch) = stretch else { return Err(refused(work, &seen, &options)) };
    let part = seen.signatures.get(stretch.clone()).unwrap_or_default();
    let found = loop_cut::find(part, &LoopOptions::default());
    let round = found.ok_or_else(|| clip_error(work, "has no frames".to_owned()))?;
    let round = LoopCut { start: round.start + stretch.start, end: round.end + stretch.start, ..round };
    tracing::info!(
        frames = seen.track.sights().len(), from = round.start, to = round.end, closing = ?round.closing,
        error = round.error, "a clip goes round"
    );
    Ok(Found { options, seen, round })
}

impl Found {
    /// How many frames the loop has.
    pub(super) fn len(&self) -> usize {
        self.round.end.saturating_sub(self.round.start)
    }

    /// The mesh of a frame of the loop.
    pub(super) fn mesh(&self, number: usize) -> Result<Mesh, FaceError> {
        // Whatever goes round has a face in each frame.
        let none = |at: usize| FaceError::Meshes { problem: format!("there is none of frame {at}") };
        let mesh = |at: usize| self.seen.track.mesh(at)?.ok_or_else(|| none(at));
        match self.round.shown(number) {
            Shown::Frame(at) => mesh(at),
            Shown::Blend { from, to, share } => {
                let (from, to) = (mesh(from)?, mesh(to)?);
                let between = |(from, to): (&[f32; 3], &[f32; 3])| {
                    [0, 1, 2].map(|axis| from[axis] + share * (to[axis] - from[axis]))
                };
                Ok(Mesh { points: from.points.iter().zip(&to.points).map(between).collect(), presence: from.presence })
            }
        }
    }

    /// How the frames follow each other.
    pub(super) fn cycle(&self) -> CycleKind {
        if self.round.closing == Closing::PingPong { CycleKind::PingPong } else { CycleKind::Loop }
    }

    /// Which frames of the clip the loop is made of, for the manifest.
    pub(super) fn decided(&self) -> toml::Table {
        let frame = |at: usize| toml::Value::Integer(i64::try_from(at).unwrap_or(i64::MAX));
        let last = self.round.end.saturating_sub(1);
        [("first_frame".to_owned(), frame(self.round.start)), ("last_frame".to_owned(), frame(last))]
            .into_iter()
            .collect()
    }
}

pub(super) fn prepare(mut work: Work<'_>) -> Result<Made, PreparationError> {
    let found = find_loop(&mut work, FIRST_READING)?;
    let Found { options, seen, round } = &found;
    let crops = crops(&found)?;
    let first_crop = crops.first().copied().ok_or_else(|| clip_error(&work, "has no frames".to_owned()))?;
    let mut film = FilmWriter::create(work.draft.path(), seen.width, seen.height)?;
    let mut analyses = Vec::with_capacity(found.len());
    let mut preview = None;
    let mut frames = Reader::open(&work, options)?;
    let mut cutter = Cutter::new(work.request.alpha, &work.request.file_name);
    for (number, crop) in crops.iter().enumerate() {
        let share = number as f64 / found.len() as f64;
        work.reached(Stage::MeasuringMouth, FIRST_READING + (0.95 - FIRST_READING) * share)?;
        let frame = frames.shown(round, number)?;
        let frame = frame.ok_or_else(|| clip_error(&work, format!("ends at frame {number} when read again")))?;
        let mesh = found.mesh(number)?;
        let mut cutout = cutter.cut(frame, &mesh)?;
        if work.request.closed {
            let (closed, mesh) = shut(&mut work, &cutout.picture, &mesh)?;
            analyses.push(portrait::analyse(&closed, &mesh)?);
            cutout.picture = closed;
        } else {
            analyses.push(portrait::analyse(&cutout.picture, &mesh)?);
        }
        film.push(&cutout, *crop)?;
        preview.get_or_insert(cutout);
    }
    work.reached(Stage::Writing, 0.95)?;
    let count = film.finish()?;
    let (plates, complexion) =
        portrait::steady(&analyses).ok_or_else(|| clip_error(&work, "has no frames".to_owned()))?;
    drop(analyses);
    PortraitData { plates, complexion }.write(&work.path(files::PORTRAIT))?;
    work.write_mask(&place::mask(&first_crop))?;
    if let Some(cutout) = preview {
        work.write_preview(&cutout)?;
    }
    let size = (seen.width, seen.height);
    Ok(Made {
        kind: Kind::Clip,
        width: size.0,
        height: size.1,
        frames: u32::try_from(count).unwrap_or(u32::MAX),
        cycle: found.cycle(),
        source: size,
        options: found.decided(),
        decode_rows: None,
    })
}

/// Where the mouth's box is in each frame of the loop.
fn crops(found: &Found) -> Result<Vec<CropBox>, PreparationError> {
    let mut rough = Vec::with_capacity(found.len());
    for number in 0..found.len() {
        rough.push(portrait::analysis::of_mesh(&found.mesh(number)?)?);
    }
    Ok(place::crops(&rough, found.seen.width, found.seen.height)?)
}

/// What the first reading finds.
pub(super) struct Seen {
    pub width: u32,
    pub height: u32,
    track: Track,
    signatures: Vec<Signature>,
}

/// Reads the whole clip and follows the face.
fn look(work: &mut Work<'_>, options: &ClipOptions, share: f64) -> Result<Seen, PreparationError> {
    let request = work.request;
    let mut clip = Clip::open(&request.source, options)?;
    let (width, height) = (clip.info().width, clip.info().height);
    let mut signatures = Vec::new();
    let (progress, stop) = (&mut *work.progress, work.stop);
    let mut tracker = Tracker::new(&mut work.finder, request.face, work.draft.path())?;
    while let Some(picture) = clip.next_frame()? {
        if stop.is_cancelled() {
            return Err(PreparationError::Stopped);
        }
        let pose = tracker.push(&picture)?.map_or_else(|_| Vec::new(), |mesh| pose(&mesh, width));
        let grey: Vec<u8> = picture.rgb.as_chunks::<3>().0.iter().map(|[_, green, _]| *green).collect();
        signatures.push(Signature::of_grey(&grey, width as usize, height as usize, pose));
        let share = share * clip.progress();
        progress(super::Progress { stage: Stage::FindingFace, share });
    }
    if let Some(fault) = clip.broke_off() {
        tracing::warn!(file = request.file_name, %fault, "the clip breaks off: what came before is used");
    }
    Ok(Seen { width, height, track: tracker.finish()?, signatures })
}

/// The head and the mouth in numbers of which one is barely seen.
fn pose(mesh: &Mesh, width: u32) -> Vec<f32> {
    let scale = POSE_WIDTH / width.max(1) as f32;
    let ([x, y], attitude) = (mesh.bounds().centre(), mesh.attitude());
    let [upper, lower] = [parts::UPPER_LIP_INNER, parts::LOWER_LIP_INNER].map(|lip| mesh.point(lip[lip.len() / 2])[1]);
    vec![
        x * scale,
        y * scale,
        mesh.eye_distance() * scale,
        attitude.yaw,
        attitude.pitch,
        attitude.roll,
        (lower - upper) * scale,
    ]
}

/// The longest stretch of frames of one shot in which the face can be used.
fn usable(track: &Track) -> Option<Range<usize>> {
    let (mut best, mut from) = (0..0, 0);
    for (at, sight) in track.sights().iter().enumerate() {
        if matches!(sight, Sight::Lost(_)) {
            from = at + 1;
        } else if track.cuts.contains(&at) {
            from = at;
        }
        if at + 1 - from.min(at + 1) > best.len() {
            best = from..at + 1;
        }
    }
    (!best.is_empty()).then_some(best)
}

/// Why no stretch is long enough: the fault of most frames, with a picture of one that has it.
fn refused(work: &mut Work<'_>, seen: &Seen, options: &ClipOptions) -> PreparationError {
    let mut faults: Vec<(usize, usize, &FaceProblem)> = Vec::new();
    for (at, sight) in seen.track.sights().iter().enumerate() {
        let Sight::Lost(problem) = sight else { continue };
        let same = |known: &FaceProblem| std::mem::discriminant(known) == std::mem::discriminant(problem);
        match faults.iter_mut().find(|(.., known)| same(known)) {
            Some((count, ..)) => *count += 1,
            None => faults.push((1, at, problem)),
        }
    }
    let Some((_, at, problem)) = faults.into_iter().max_by_key(|(count, ..)| *count) else {
        let problem = format!("has {} frames, at least {LEAST_FRAMES} are needed", seen.track.sights().len());
        return clip_error(work, problem);
    };
    let shown = Reader::open(work, options).and_then(|mut reader| reader.frame(at));
    match shown {
        Ok(Some(Cutout { picture, .. })) => {
            let faces = work.finder.find(&picture).unwrap_or_default();
            let chosen = face::choose(&faces, work.request.face).ok();
            let found = Box::new(overlay(&picture, &faces, chosen));
            PreparationError::Face { file: work.request.file_name.clone(), problem: problem.clone(), found }
        }
        _ => clip_error(work, problem.to_string()),
    }
}

fn clip_error(work: &Work<'_>, problem: String) -> PreparationError {
    PreparationError::Clip { file: work.request.file_name.clone(), problem }
}

/// Reads the clip once more, from its beginning; keeps as many frames as a cross-fade needs.
pub(super) struct Reader {
    clip: Clip,
    next: usize,
    kept: VecDeque<(usize, Cutout)>,
}

impl Reader {
    pub(super) fn open(work: &Work<'_>, options: &ClipOptions) -> Result<Self, PreparationError> {
        Ok(Self { clip: Clip::open(&work.request.source, options)?, next: 0, kept: VecDeque::new() })
    }

    /// Which frames before the first of the loop it fades into.
    fn faded(round: &LoopCut) -> Range<usize> {
        match round.closing {
            Closing::CrossFade(frames) => round.start.saturating_sub(frames)..round.start,
            Closing::Cut | Closing::PingPong => 0..0,
        }
    }

    /// What is shown at a place of the loop; `None` if the clip ends before.
    pub(super) fn shown(&mut self, round: &LoopCut, number: usize) -> Result<Option<Cutout>, PreparationError> {
        let faded = Self::faded(round);
        let (at, fade) = match round.shown(number) {
            Shown::Frame(at) => (at, None),
            Shown::Blend { from, to, share } => (from, Some((to, share))),
        };
        while self.next < at {
            let number = self.next;
            let Some(picture) = self.take()? else { return Ok(None) };
            if faded.contains(&number) {
                self.kept.push_back((number, picture));
            }
        }
        let Some(picture) = self.take()? else { return Ok(None) };
        let Some((to, share)) = fade else { return Ok(Some(picture)) };
        let appears = self.kept.iter().find(|(number, _)| *number == to);
        Ok(Some(appears.map_or(picture.clone(), |(_, appears)| blended(&picture, appears, share))))
    }

    /// One frame of the clip; none before it may be asked for.
    fn frame(&mut self, at: usize) -> Result<Option<Cutout>, PreparationError> {
        while self.next < at {
            if self.take()?.is_none() {
                return Ok(None);
            }
        }
        self.take()
    }

    fn take(&mut self) -> Result<Option<Cutout>, PreparationError> {
        self.next += 1;
        Ok(self.clip.next_cutout()?)
    }
}

/// `to` over `from`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two levels")]
fn blended(from: &Cutout, to: &Cutout, share: f32) -> Cutout {
    let mix = |(from, to): (&u8, &u8)| {
        (f32::from(*from) + share * (f32::from(*to) - f32::from(*from))).round().clamp(0.0, 255.0) as u8
    };
    let rgb = from.picture.rgb.iter().zip(&to.picture.rgb).map(mix).collect();
    let mattes = from.matte.as_ref().zip(to.matte.as_ref());
    let matte = mattes.map(|(from, to)| Mask { alpha: from.alpha.iter().zip(&to.alpha).map(mix).collect(), ..*from });
    Cutout { picture: RgbPicture { rgb, ..from.picture }, matte }
}
