//! Pictures that move and are no film: animated GIF, WebP and PNG, decoded in Rust one picture at a time.
//!
//! In here: their pictures and times, played once. Not in here: sizes and transparency (`render`).
//! Runs on: the caller's thread.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder, ImageError, ImageFormat, Limits, RgbaImage};

use super::error::{MOST_CLIP_PIXELS, SourceFault};
use super::sampling::Timed;

/// Browsers show pictures of GIF that are to stay for less than 20 ms for this long.
const GIF_DEFAULT: Duration = Duration::from_millis(100);
/// Four pictures of the largest size.
const MOST_MEMORY: u64 = MOST_CLIP_PIXELS * 4 * 4;

/// A moving picture being read.
pub(super) struct Animation {
    frames: Frames<'static>,
    is_gif: bool,
    at: Duration,
}

impl std::fmt::Debug for Animation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Animation").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Whether a file of one of these formats has more than one picture. What cannot be read has not.
pub(super) fn moves(file: File, format: ImageFormat) -> bool {
    let reader = BufReader::new(file);
    match format {
        ImageFormat::WebP => WebPDecoder::new(reader).is_ok_and(|decoder| decoder.has_animation()),
        ImageFormat::Png => PngDecoder::new(reader).and_then(|decoder| decoder.is_apng()).unwrap_or(false),
        _ => gif(reader).is_ok_and(|frames| frames.take(2).filter(Result::is_ok).count() == 2),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY);
    limits
}

fn gif(reader: BufReader<File>) -> Result<Frames<'static>, SourceFault> {
    let mut decoder = GifDecoder::new(reader).map_err(damaged)?;
    check_size(decoder.dimensions())?;
    decoder.set_limits(limits()).map_err(damaged)?;
    Ok(decoder.into_frames())
}

impl Animation {
    pub fn open(path: &Path, format: ImageFormat) -> Result<Self, SourceFault> {
        let reader = BufReader::new(File::open(path)?);
        let frames = match format {
            ImageFormat::WebP => {
                let mut decoder = WebPDecoder::new(reader).map_err(damaged)?;
                check_size(decoder.dimensions())?;
                decoder.set_limits(limits()).map_err(damaged)?;
                decoder.into_frames()
            }
            ImageFormat::Png => {
                let decoder = PngDecoder::with_limits(reader, limits()).map_err(damaged)?;
                check_size(decoder.dimensions())?;
                decoder.apng().map_err(damaged)?.into_frames()
            }
            _ => gif(reader)?,
        };
        Ok(Self { frames, is_gif: format == ImageFormat::Gif, at: Duration::ZERO })
    }

    /// The next picture; `None` after the last.
    pub fn next(&mut self) -> Result<Option<Timed<RgbaImage>>, SourceFault> {
        let Some(frame) = self.frames.next() else { return Ok(None) };
        let frame = frame.map_err(|error| self.damaged_here(&error))?;
        let mut lasts = Duration::from(frame.delay());
        if self.is_gif && lasts < Duration::from_millis(20) {
            lasts = GIF_DEFAULT;
        }
        let at = self.at;
        self.at += lasts;
        Ok(Some(Timed { at, lasts: Some(lasts), picture: frame.into_buffer() }))
    }

    fn damaged_here(&self, error: &ImageError) -> SourceFault {
        SourceFault::Damaged { at: self.at, reason: error.to_string() }
    }
}

fn check_size((width, height): (u32, u32)) -> Result<(), SourceFault> {
    if u64::from(width) * u64::from(height) > MOST_CLIP_PIXELS {
        return Err(SourceFault::TooManyPixels { width, height, most: MOST_CLIP_PIXELS });
    }
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn damaged(error: ImageError) -> SourceFault {
    SourceFault::Damaged { at: Duration::ZERO, reason: error.to_string() }
}
