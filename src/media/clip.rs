//! A clip in a file, as upright RGB pictures at 25 a second.
//!
//! In here: opening what an operator brings, its limits, and one picture after the other by time and not by index. Decoded by
//! GStreamer (`decoder`) or, where pictures merely move, in Rust (`animation`). A file is not trusted: it is judged by its
//! content (`sniff`), only elements of a list of ours see it (`codecs`), and sizes are looked at before memory is taken
//! (`guard`). What it does not do: sound is left alone, image sequences and playlists are not read.
//! A clip that breaks off after its first second is used up to there, and `Clip::broke_off` says so.
//! Runs on: the caller's thread, which waits; it is one for blocking. Dropping a clip frees its pipeline and waits for that.

mod animation;
mod codecs;
mod decoder;
mod error;
mod guard;
mod matrix;
mod orientation;
mod render;
mod sampling;
mod sniff;
mod tone_map;
mod trim;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use gstreamer as gst;
use image::RgbaImage;

use self::animation::Animation;
use self::decoder::Decoder;
use self::render::{packed_info, sample_parts};
use self::sampling::{Sampler, Timed};
use self::sniff::Format;
use crate::picture::{Cutout, RgbPicture};
use crate::timeline::{FPS, FRAME_DURATION};

pub(in crate::media) use self::error::MOST_PHOTO_PIXELS;
pub use self::error::{LONGEST_CLIP, SourceError, SourceFault};
pub(in crate::media) use self::orientation::Orientation;
pub(in crate::media) use self::render::Renderer;
pub(in crate::media) use self::sniff::{Format as SourceFormat, format_of};
pub use self::sniff::{SourceKind, sniff};
pub use self::trim::{Trim, TrimError};

/// A part that starts later than this is sought; up to there is decoded faster than an index is read.
const SEEK_FROM: Duration = Duration::from_secs(2);
/// It is sought by this much too early: decoders think that a picture whose rate is not known lasts no time, and leave out the
/// one that is on the screen at the start.
const SEEK_BEFORE: Duration = Duration::from_secs(1);
/// What may be missing of what a file says to last: its sound is often a little longer than its pictures.
const MISSING: Duration = Duration::from_millis(500);

/// What is taken of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipOptions {
    /// Which part.
    pub trim: Trim,
    /// Seen as in a mirror, as cameras of laptops show people to themselves.
    pub mirror: bool,
    /// Whether its alpha channel is kept, which it must have, instead of seeing it over white.
    pub alpha: bool,
    /// Neither width nor height is larger than this afterwards, in pixels; nothing is made larger.
    pub largest_side: u32,
}

impl Default for ClipOptions {
    fn default() -> Self {
        Self { trim: Trim::default(), mirror: false, alpha: false, largest_side: 1920 }
    }
}

/// What a clip is and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipInfo {
    /// Of the pictures that come out, in pixels, even.
    pub width: u32,
    /// Of the pictures that come out, in pixels, even.
    pub height: u32,
    /// Of the part that is taken, where the file says how long it is.
    pub duration: Option<Duration>,
    /// As people call the format.
    pub codec: &'static str,
    /// There is sound; it is not used.
    pub has_sound: bool,
    /// In the order in which it is done.
    pub done: Vec<Treatment>,
}

/// Something that is done to pictures beside decoding them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Two fields become one picture.
    Deinterlaced,
    /// Pixels become square.
    Squared,
    /// Made smaller.
    Scaled,
    /// HDR or wide colours to sRGB.
    ToneMapped,
    /// Transparency over white.
    Flattened,
    /// Turned as the camera was held.
    Turned,
    /// As `ClipOptions` asks.
    Mirrored,
}

impl Treatment {
    /// One word or two for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deinterlaced => "deinterlaced",
            Self::Squared => "pixels squared",
            Self::Scaled => "scaled down",
            Self::ToneMapped => "HDR to SDR",
            Self::Flattened => "over white",
            Self::Turned => "turned upright",
            Self::Mirrored => "mirrored",
        }
    }
}

/// A clip being read.
#[derive(Debug)]
pub struct Clip {
    path: PathBuf,
    source: Source,
    sampler: Sampler<Picture>,
    renderer: Renderer,
    info: ClipInfo,
    /// The picture that told the size, until it is taken.
    first: Option<Timed<Picture>>,
    /// What was given last, for as long as it stays.
    last: Option<Cutout>,
    /// Different pictures given.
    given: u64,
    is_part: bool,
    broke_off: Option<SourceFault>,
}

#[derive(Debug)]
enum Source {
    Film(Box<Decoder>),
    Animation(Animation),
}

#[derive(Debug)]
enum Picture {
    Sample(gst::Sample),
    Rgba(RgbaImage),
}

impl Source {
    fn next(&mut self) -> Result<Option<Timed<Picture>>, SourceFault> {
        let timed = |at, lasts, picture| Some(Timed { at, lasts, picture });
        Ok(match self {
            Self::Film(film) => film.next()?.and_then(|next| timed(next.at, next.lasts, Picture::Sample(next.picture))),
            Self::Animation(moving) => {
                moving.next()?.and_then(|next| timed(next.at, next.lasts, Picture::Rgba(next.picture)))
            }
        })
    }
}

impl Clip {
    /// Opens a clip and decodes its first picture. Blocks.
    ///
    /// # Errors
    /// Whatever forbids its use and can be known now; `next_frame` finds the rest.
    pub fn open(path: &Path, options: &ClipOptions) -> Result<Self, SourceError> {
        Self::opened(path, options).map_err(|fault| fault.of(path))
    }

    /// What comes out.
    pub fn info(&self) -> &ClipInfo {
        &self.info
    }

    /// The next of 25 pictures a second: the one that is on the screen then. `None` at the end. Blocks.
    ///
    /// # Errors
    /// The clip is damaged in its first second, has one picture only, is too long, or nothing comes for 20 s.
    pub fn next_frame(&mut self) -> Result<Option<RgbPicture>, SourceError> {
        Ok(self.next_cutout()?.map(|cutout| cutout.picture))
    }

    /// The same, with its matte if `ClipOptions` asks for it.
    ///
    /// # Errors
    /// As `next_frame`.
    pub fn next_cutout(&mut self) -> Result<Option<Cutout>, SourceError> {
        self.next().map_err(|fault| fault.of(&self.path))
    }

    /// How much was read, from 0 to 1.
    pub fn progress(&self) -> f64 {
        let by_time = self
            .info
            .duration
            .filter(|duration| !duration.is_zero())
            .map(|duration| f64::from(self.sampler.given()) / f64::from(FPS) / duration.as_secs_f64());
        let read = || match &self.source {
            Source::Film(film) => film.share_read(),
            Source::Animation(_) => 0.0,
        };
        by_time.unwrap_or_else(read).clamp(0.0, 1.0)
    }

    /// Why the clip ended before its end, once `next_frame` gave `None`: what came until then is good.
    pub fn broke_off(&self) -> Option<&SourceFault> {
        self.broke_off.as_ref()
    }

    fn opened(path: &Path, options: &ClipOptions) -> Result<Self, SourceFault> {
        gst::init().map_err(|error| SourceFault::Start(error.to_string()))?;
        let mut source = match format_of(path)? {
            Format::Photo(_) => return Err(SourceFault::Photo),
            Format::Animation(format) => Source::Animation(Animation::open(path, format)?),
            Format::Film(container) => Source::Film(Box::new(Decoder::open(path, container, options.alpha)?)),
        };
        let Some(first) = source.next()? else {
            return Err(match &mut source {
                Source::Film(film) => film.take_failure().unwrap_or(SourceFault::NoVideo),
                Source::Animation(_) => SourceFault::NoVideo,
            });
        };
        let Trim { start, end } = options.trim;
        let whole = match &source {
            Source::Film(film) => film.duration(),
            Source::Animation(_) => None,
        };
        let part = whole.map(|whole| end.map_or(whole, |end| end.min(whole)).saturating_sub(start));
        if let Some(ends) = whole.filter(|whole| *whole <= start && !start.is_zero()) {
            return Err(SourceFault::TrimmedAway { ends, start });
        }
        if let Some(lasts) = part.filter(|lasts| *lasts > LONGEST_CLIP) {
            return Err(SourceFault::TooLong { lasts });
        }
        let (renderer, info) = described(&source, &first.picture, options, part)?;
        let mut clip = Self {
            path: path.to_path_buf(),
            source,
            sampler: Sampler::new(options.trim),
            renderer,
            info,
            first: Some(first),
            last: None,
            given: 0,
            is_part: options.trim != Trim::default(),
            broke_off: None,
        };
        if let Source::Film(film) = &clip.source
            && start >= SEEK_FROM
            && film.seeks_exactly()
            && film.seek(start.saturating_sub(SEEK_BEFORE))
        {
            clip.first = None;
        }
        Ok(clip)
    }

    fn next(&mut self) -> Result<Option<Cutout>, SourceFault> {
        let (first, source) = (&mut self.first, &mut self.source);
        let pull = || match first.take() {
            Some(first) => Ok(Some(first)),
            None => source.next(),
        };
        let Some(shown) = self.sampler.next(pull)? else { return self.ended() };
        if shown.is_new || self.last.is_none() {
            let cutout = match shown.picture {
                Picture::Sample(sample) => self.renderer.sample(sample)?,
                Picture::Rgba(pixels) => {
                    let (width, height) = pixels.dimensions();
                    self.renderer.packed(pixels.as_raw().clone(), width, height, true)?
                }
            };
            self.given += 1;
            self.last = Some(cutout);
        }
        let lasts = FRAME_DURATION * self.sampler.given();
        if lasts > LONGEST_CLIP {
            return Err(SourceFault::TooLong { lasts });
        }
        Ok(self.last.clone())
    }

    /// Whether what was given is a clip.
    fn ended(&mut self) -> Result<Option<Cutout>, SourceFault> {
        let failure = match &mut self.source {
            Source::Film(film) => film.take_failure(),
            Source::Animation(_) => None,
        };
        let position = self.sampler.position();
        let cut_off = || {
            let missing = self.info.duration?.checked_sub(FRAME_DURATION * self.sampler.given())?;
            (missing > MISSING && self.sampler.given() > 0).then(|| SourceFault::Damaged {
                at: position,
                reason: format!("it ends there, {:.1} s before its end", missing.as_secs_f64()),
            })
        };
        match failure.or_else(cut_off) {
            Some(failure) if self.sampler.given() < FPS => return Err(failure),
            Some(failure) => self.broke_off = Some(failure),
            None if self.sampler.given() == 0 => {
                let (ends, start) = (self.sampler.end(), self.sampler.position());
                return Err(SourceFault::TrimmedAway { ends, start });
            }
            None if self.given == 1 && !self.is_part => return Err(SourceFault::OnePicture),
            None => {}
        }
        Ok(None)
    }
}

/// What is known once the first picture is there, and how pictures are made from then on.
fn described(
    source: &Source,
    first: &Picture,
    options: &ClipOptions,
    duration: Option<Duration>,
) -> Result<(Renderer, ClipInfo), SourceFault> {
    let pixels = match first {
        Picture::Sample(sample) => sample_parts(sample)?.0,
        Picture::Rgba(pixels) => packed_info(pixels.width(), pixels.height(), true)?,
    };
    let (codec, has_sound, is_interlaced, turned) = match source {
        Source::Film(film) => {
            let shared = film.shared();
            let tag = shared.orientation.get().map(String::as_str).unwrap_or_default();
            let codec = shared.codec.get().copied().unwrap_or_default();
            (codec, shared.sound.load(Ordering::Relaxed), film.is_interlaced(), Orientation::from_tag(tag))
        }
        Source::Animation(_) => ("an animation", false, false, Orientation::default()),
    };
    let orientation = if options.mirror { turned.then_mirrored() } else { turned };
    let mut renderer = Renderer::new(options.largest_side, orientation, options.alpha);
    let (width, height, treated) = renderer.plan(&pixels)?;
    if options.alpha && !pixels.has_alpha() {
        return Err(SourceFault::Opaque);
    }
    let done = [
        (is_interlaced, Treatment::Deinterlaced),
        (treated.is_squared, Treatment::Squared),
        (treated.is_scaled, Treatment::Scaled),
        (treated.is_tone_mapped, Treatment::ToneMapped),
        (treated.is_flattened, Treatment::Flattened),
        (!turned.is_upright(), Treatment::Turned),
        (options.mirror, Treatment::Mirrored),
    ];
    let done = done.into_iter().filter_map(|(is_done, treatment)| is_done.then_some(treatment)).collect();
    Ok((renderer, ClipInfo { width, height, duration, codec, has_sound, done }))
}
