//! A photo in a file, as an upright picture of sRGB.
//!
//! In here: JPEG (progressive and CMYK too), PNG, WebP, BMP and the first picture of what moves, decoded in Rust; the way the
//! camera was held (EXIF); colours by the ICC profile that is in the file, Display P3 for one; transparency over white. A file
//! is not trusted: it is judged by its content, and refused by its header before memory is taken. Not in here: HEIC and AVIF,
//! for which there is no decoder that is not C.
//! Runs on: the caller's thread.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::clip::{MOST_PHOTO_PIXELS, Orientation, Renderer, SourceError, SourceFault, SourceFormat, format_of};
use crate::picture::RgbPicture;

/// Of a file: photos of 50 million pixels are smaller, and a decoder may read all of it.
const MOST_MEGABYTES: u64 = 128;
/// Of a decoded picture: 50 million pixels of three bytes, or 32 million of eight.
const MOST_MEMORY: u64 = 256 << 20;
/// What decoders may take beside it.
const MOST_BESIDE: u64 = 192 << 20;

/// Reads a photo; no side is larger than `largest_side` afterwards, in pixels, and both are even. Blocks.
///
/// # Errors
/// The file is no photo, is damaged or larger than is read here.
pub fn read_photo(path: &Path, largest_side: u32) -> Result<RgbPicture, SourceError> {
    read(path, largest_side).map_err(|fault| fault.of(path))
}

fn read(path: &Path, largest_side: u32) -> Result<RgbPicture, SourceFault> {
    gstreamer::init().map_err(|error| SourceFault::Start(error.to_string()))?;
    let format = match format_of(path)? {
        SourceFormat::Photo(format) | SourceFormat::Animation(format) => format,
        SourceFormat::Film(_) => return Err(SourceFault::Clip),
    };
    let file = File::open(path)?;
    let megabytes = file.metadata()?.len() >> 20;
    if megabytes > MOST_MEGABYTES {
        return Err(SourceFault::TooLarge { megabytes, most_megabytes: MOST_MEGABYTES });
    }
    let mut reader = ImageReader::with_format(BufReader::new(file), format);
    // A decoder looks at the header alone before it is asked for pixels.
    reader.limits(Limits::default());
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PHOTO_PIXELS || decoder.total_bytes() > MOST_MEMORY {
        return Err(SourceFault::TooManyPixels { width, height, most: MOST_PHOTO_PIXELS });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_MEMORY + MOST_BESIDE);
    decoder.set_limits(limits).map_err(damaged)?;
    // Neither is worth a photo that can be read.
    let held =
        decoder.orientation().map_or_else(|_| Orientation::default(), |held| Orientation::from_exif(held.to_exif()));
    let profile = decoder.icc_profile().ok().flatten();
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let has_alpha = decoded.color().has_alpha();
    let pixels = if has_alpha { decoded.into_rgba8().into_raw() } else { decoded.into_rgb8().into_raw() };
    let mut picture = Renderer::new(largest_side, held).packed(pixels, width, height, has_alpha)?;
    if let Some(profile) = profile {
        to_srgb(&mut picture, &profile);
    }
    Ok(picture)
}

/// Colours of an RGB profile in sRGB; those of another or of a broken one stay.
fn to_srgb(picture: &mut RgbPicture, profile: &[u8]) {
    let Ok(from) = ColorProfile::new_from_slice(profile) else { return };
    if from.color_space != DataColorSpace::Rgb {
        return;
    }
    let to = ColorProfile::new_srgb();
    let Ok(transform) = from.create_transform_8bit(Layout::Rgb, &to, Layout::Rgb, TransformOptions::default()) else {
        return;
    };
    let mut converted = vec![0; picture.rgb.len()];
    if transform.transform(&picture.rgb, &mut converted).is_ok() {
        picture.rgb = converted;
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn damaged(error: ImageError) -> SourceFault {
    SourceFault::Damaged { at: std::time::Duration::ZERO, reason: error.to_string() }
}
