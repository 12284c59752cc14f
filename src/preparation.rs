//! From a photo or a clip to an avatar.
//!
//! In here: [`create`]; `photo` and `clip` are its two ways, `framing` the part of a photo that is taken, `cutting` what is
//! transparent, and `backdrop` a plain background, `closing` shuts an open mouth, `loop_cut` where a clip is cut to go round, `musetalk` what is done where latents draw the mouth; and
//! [`import_upstream`], which takes what upstream's own script prepared. Not in here: reading files (`media`), finding faces
//! (`face`), measuring mouths (`portrait`), the folder (`avatar`).
//! Runs on: whoever asks, which takes seconds to minutes.

mod backdrop;
mod clip;
mod closing;
mod cutting;
mod framing;
pub mod loop_cut;
mod musetalk;
mod photo;
mod request;
mod upstream;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::avatar::draft::Draft;
use crate::avatar::files;
use crate::avatar::manifest::{FORMAT, Kind, Manifest, Prepared, Source};
use crate::avatar::{AvatarError, AvatarStore, CycleKind, PORTRAIT_MODEL};
use crate::face::FaceFinder;
use crate::media::{self, LONGEST_CLIP, SourceKind};
use crate::picture::{Cutout, Mask, png};
use crate::timeline::FPS;

pub use request::{CLIP_SIDE, MaskSource, PHOTO_SIDE, ParsingMode, PreparationError, Progress, Request, Stage};
pub use upstream::{import_upstream, upstream_model};

/// The longest side of an avatar's picture in a list, in pixels.
const PREVIEW_SIDE: u32 = 256;

/// Makes an avatar in the folder of all avatars, with the networks of `models`. Told to stop, or failing, it leaves nothing.
pub fn create(
    avatars: &AvatarStore,
    models: &Path,
    request: &Request,
    progress: &mut dyn FnMut(Progress),
    stop: &CancellationToken,
) -> Result<PathBuf, PreparationError> {
    let model = match request.model == PORTRAIT_MODEL {
        true => None,
        false => Some(musetalk::Model::load(models, request)?),
    };
    if model.is_none() {
        let refused = |problem: String| Err(PreparationError::Model { model: request.model.clone(), problem });
        if request.mask.is_some() || request.parsing_mode.is_some() {
            return refused("knows no --mask and no --parsing-mode, only MuseTalk's models do".to_owned());
        }
        if !models.join(&request.model).join("config.json").is_file() {
            return refused(format!("is not in {}", models.display()));
        }
    }
    progress(Progress { stage: Stage::Reading, share: 0.0 });
    let kind = media::sniff(&request.source)?;
    let draft = avatars.begin(&request.id, request.replace)?;
    let finder = FaceFinder::load_with_threads(&models.join(crate::face::FOLDER), finder_threads())?;
    let work = Work { request, avatars, draft: &draft, finder, progress, stop };
    let made = match (kind, &model) {
        (SourceKind::Photo, None) => photo::prepare(work).map(|made| (made, None)),
        (SourceKind::Clip, None) => clip::prepare(work).map(|made| (made, None)),
        (SourceKind::Photo, Some(model)) => musetalk::photo(work, model).map(|(made, kept)| (made, Some(kept))),
        (SourceKind::Clip, Some(model)) => musetalk::clip(work, model).map(|(made, kept)| (made, Some(kept))),
    };
    let (made, kept) = made.map_err(|error| error.about(&request.file_name))?;
    let manifest = manifest(request, &made)?;
    progress(Progress { stage: Stage::Writing, share: 0.97 });
    let folder = finish(draft, manifest, stop)?;
    if let Some(kept) = kept {
        kept.forget();
    }
    progress(Progress { stage: Stage::Writing, share: 1.0 });
    Ok(folder)
}

/// Gives the avatar its place, unless told to stop; nothing of it is left then.
fn finish(draft: Draft, manifest: Manifest, stop: &CancellationToken) -> Result<PathBuf, PreparationError> {
    if stop.is_cancelled() {
        return Err(PreparationError::Stopped);
    }
    Ok(draft.finish(manifest, &mut |_| ())?)
}

/// What both ways have in hand.
struct Work<'a> {
    request: &'a Request,
    avatars: &'a AvatarStore,
    draft: &'a Draft,
    finder: FaceFinder,
    progress: &'a mut dyn FnMut(Progress),
    stop: &'a CancellationToken,
}

/// What a way leaves for the manifest.
struct Made {
    kind: Kind,
    width: u32,
    height: u32,
    frames: u32,
    cycle: CycleKind,
    /// Of the source, upright.
    source: (u32, u32),
    /// What was decided by the way itself.
    options: toml::Table,
    /// Rows of the latent that the mask shows, where there is one.
    decode_rows: Option<[i64; 2]>,
}

impl Work<'_> {
    /// Tells how far it is; an error if it is to stop.
    fn reached(&mut self, stage: Stage, share: f64) -> Result<(), PreparationError> {
        if self.stop.is_cancelled() {
            return Err(PreparationError::Stopped);
        }
        (self.progress)(Progress { stage, share });
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.draft.path().join(name)
    }

    fn write_mask(&self, mask: &Mask) -> Result<(), AvatarError> {
        write_mask(self.draft, mask)
    }

    /// What a list shows of it.
    fn write_preview(&self, cutout: &Cutout) -> Result<(), AvatarError> {
        write_preview(self.draft, cutout)
    }

    fn write_picture(&self, name: &str, cutout: &Cutout) -> Result<(), AvatarError> {
        write_picture(self.draft, name, cutout)
    }
}

fn write_mask(draft: &Draft, mask: &Mask) -> Result<(), AvatarError> {
    let path = draft.path().join(files::MASK);
    png::write_grey(&path, mask.width, mask.height, &mask.alpha).map_err(|error| AvatarError::file(&path, error))
}

fn write_preview(draft: &Draft, cutout: &Cutout) -> Result<(), AvatarError> {
    let picture = &cutout.picture;
    let longest = picture.width.max(picture.height).max(1);
    let side = |length: u32| (length * PREVIEW_SIDE.min(longest) / longest).max(1);
    let small = cutting::smaller(cutout, side(picture.width), side(picture.height));
    write_picture(draft, files::PREVIEW, &small)
}

fn write_picture(draft: &Draft, name: &str, cutout: &Cutout) -> Result<(), AvatarError> {
    let path = draft.path().join(name);
    png::write_cutout(&path, cutout).map_err(|error| AvatarError::file(&path, error))
}

/// As many as there are cores, four at most: more do not make a mesh sooner.
fn finder_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

fn manifest(request: &Request, made: &Made) -> Result<Manifest, PreparationError> {
    let hash = crate::models::manifest::sha256(&request.source);
    let sha256 = hash.map_err(|error| AvatarError::file(&request.source, error))?;
    let mut options = made.options.clone();
    let mut option = |name: &str, value: toml::Value| drop(options.insert(name.to_owned(), value));
    if let Some(side) = request.side {
        option("size", i64::from(side).into());
    }
    if request.closed {
        option("closed", true.into());
    }
    if request.whole {
        option("whole", true.into());
    }
    let trim = &request.clip.trim;
    let trim = (!trim.is_all()).then(|| [trim.start, trim.end.unwrap_or(LONGEST_CLIP)].map(|at| at.as_secs_f64()));
    Ok(Manifest {
        format: FORMAT,
        id: request.id.clone(),
        name: request.name.clone(),
        model: request.model.clone(),
        kind: made.kind,
        still: request.still && made.kind == Kind::Photo,
        matte: request.alpha,
        width: made.width,
        height: made.height,
        fps: FPS,
        frames: Some(made.frames),
        cycle: made.cycle,
        decode_rows: made.decode_rows,
        decoder: None,
        licence: Some(request.licence.clone()),
        consent: Some(request.consent.clone()),
        voice: request.voice.clone(),
        dialogue: crate::dialogue::Persona::default(),
        clips: std::collections::BTreeMap::new(),
        source: Some(Source {
            file: request.file_name.clone(),
            sha256,
            width: made.source.0,
            height: made.source.1,
            trim,
            mirror: request.clip.mirror,
            face: request.face.and_then(|face| u32::try_from(face).ok()),
        }),
        prepared: Some(Prepared {
            program: concat!("mouthpiece ", env!("CARGO_PKG_VERSION")).to_owned(),
            date: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            options,
        }),
        files: files::Files::new(),
    })
}
