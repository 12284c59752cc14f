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
use crate::picture::{Cutout, RgbPicture};

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
    read(path, largest_side, false).map(|read| read.picture).map_err(|fault| fault.of(path))
}

/// The same with the alpha channel of the photo, instead of over white.
///
/// # Errors
/// As `read_photo`, and if it has no alpha channel.
pub fn read_cutout(path: &Path, largest_side: u32) -> Result<Cutout, SourceError> {
    read(path, largest_side, true).map_err(|fault| fault.of(path))
}

fn read(path: &Path, largest_side: u32, keeps_alpha: bool) -> Result<Cutout, SourceFault> {
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
    // Fewer of those that take more memory each.
    let most = MOST_PHOTO_PIXELS.min(MOST_MEMORY / u64::from(decoder.color_type().bytes_per_pixel()).max(1));
    if u64::from(width) * u64::from(height) > most {
        return Err(SourceFault::TooManyPixels { width, height, most });
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
    if keeps_alpha && !has_alpha {
        return Err(SourceFault::Opaque);
    }
    let pixels = if has_alpha { decoded.into_rgba8().into_raw() } else { decoded.into_rgb8().into_raw() };
    let mut renderer = Renderer::new(largest_side, held, keeps_alpha);
    let mut read = renderer.packed(pixels, width, height, has_alpha)?;
    if let Some(profile) = profile {
        to_srgb(&mut read.picture, &profile);
    }
    Ok(read)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgba, RgbaImage};

    use super::*;

    const SIDE: u32 = 32;
    const LEFT: [u8; 3] = [180, 90, 60];
    const RIGHT: [u8; 3] = [20, 120, 130];

    /// Its left half of one colour, its right of another.
    fn halves() -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|at| if at % SIDE < SIDE / 2 { LEFT } else { RIGHT }).collect()
    }

    /// Those that nothing here writes; Pillow wrote them, of the same two colours.
    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/photos").join(name)
    }

    /// A file whose name says nothing of what it is.
    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".mp4").tempfile().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn read_bytes(bytes: &[u8]) -> Result<RgbPicture, SourceError> {
        read_photo(file(bytes).path(), 1920)
    }

    fn jpeg(exif: Option<Vec<u8>>, icc: Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        if let Some(exif) = exif {
            encoder.set_exif_metadata(exif).unwrap();
        }
        if let Some(icc) = icc {
            encoder.set_icc_profile(icc).unwrap();
        }
        encoder.write_image(&halves(), SIDE, SIDE, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    #[track_caller]
    fn assert_near(picture: &RgbPicture, x: u32, y: u32, expected: [u8; 3], within: u8) {
        let at = (y * picture.width + x) as usize * 3;
        let pixel = &picture.rgb[at..at + 3];
        assert!(
            pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= within),
            "{pixel:?} at {x},{y}, not {expected:?}"
        );
    }

    #[test]
    fn jpeg_is_read_plain_progressive_and_of_four_inks_and_webp_too() {
        let read = |name: &str| read_photo(&fixture(name), 1920).unwrap();
        for (picture, within) in [
            (read_bytes(&jpeg(None, None)).unwrap(), 6),
            (read("progressive.jpg"), 6),
            (read("cmyk.jpg"), 6),
            (read("plain.webp"), 12),
        ] {
            assert_eq!((picture.width, picture.height), (SIDE, SIDE));
            assert_near(&picture, 6, 20, LEFT, within);
            assert_near(&picture, 26, 20, RIGHT, within);
        }
    }

    #[test]
    fn a_photo_is_turned_as_the_camera_was_held() {
        // TIFF's head, one entry: orientation, of 16 bits.
        let exif = |number: u8| {
            let mut bytes = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
            bytes.extend([number, 0, 0, 0, 0, 0, 0]);
            bytes
        };
        let upright = |number| read_bytes(&jpeg(Some(exif(number)), None)).unwrap();
        // What is stored at the left is seen at the left, right, right, left, top, top, bottom and bottom.
        let seen = [(4, 16), (28, 16), (28, 16), (4, 16), (16, 4), (16, 4), (16, 28), (16, 28)];
        for (number, (x, y)) in (1..).zip(seen) {
            assert_near(&upright(number), x, y, LEFT, 6);
            assert_near(&upright(number), SIDE - 1 - x, SIDE - 1 - y, RIGHT, 6);
        }
    }

    #[test]
    fn colours_of_display_p3_become_those_of_srgb() {
        let profile = moxcms::ColorProfile::new_display_p3().encode().unwrap();
        let picture = read_bytes(&jpeg(None, Some(profile))).unwrap();
        // The same numbers are a stronger red in P3.
        assert_near(&picture, 6, 20, [193, 87, 53], 8);
        let broken = read_bytes(&jpeg(None, Some(vec![7; 200]))).unwrap();
        assert_near(&broken, 6, 20, LEFT, 6);
    }

    #[test]
    fn png_is_exact_whatever_its_depth_and_what_is_cut_out_lies_over_white() {
        let encoded = |colour, depth, palette: Option<Vec<u8>>, data: &[u8]| {
            let mut bytes = Vec::new();
            let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
            encoder.set_color(colour);
            encoder.set_depth(depth);
            if let Some(palette) = palette {
                encoder.set_palette(palette);
            }
            encoder.write_header().unwrap().write_image_data(data).unwrap();
            read_bytes(&bytes).unwrap().rgb
        };
        let (eight, sixteen) = (png::BitDepth::Eight, png::BitDepth::Sixteen);
        assert_eq!(encoded(png::ColorType::Rgb, eight, None, &halves()), halves());
        let wide: Vec<u8> = halves().iter().flat_map(|level| [*level; 2]).collect();
        assert_eq!(encoded(png::ColorType::Rgb, sixteen, None, &wide), halves());
        let indices: Vec<u8> = (0..SIDE * SIDE).map(|at| u8::from(at % SIDE >= SIDE / 2)).collect();
        assert_eq!(encoded(png::ColorType::Indexed, eight, Some([LEFT, RIGHT].concat()), &indices), halves());
        let half: Vec<u8> = halves().chunks(3).flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 128]).collect();
        assert_eq!(encoded(png::ColorType::Rgba, eight, None, &half)[..3], [217, 172, 157]);
    }

    #[test]
    fn bmp_is_read_and_of_what_moves_the_first_picture() {
        let mut bmp = std::io::Cursor::new(Vec::new());
        image::write_buffer_with_format(&mut bmp, &halves(), SIDE, SIDE, ExtendedColorType::Rgb8, ImageFormat::Bmp)
            .unwrap();
        assert_eq!(read_bytes(bmp.get_ref()).unwrap().rgb, halves());
        let mut gif = Vec::new();
        let frame = |level| image::Frame::new(RgbaImage::from_pixel(SIDE, SIDE, Rgba([level, level, level, 255])));
        image::codecs::gif::GifEncoder::new(&mut gif).encode_frames([frame(50), frame(200)]).unwrap();
        assert_near(&read_bytes(&gif).unwrap(), 0, 0, [50; 3], 2);
    }

    #[test]
    fn a_large_photo_is_made_smaller() {
        let mut bytes = Vec::new();
        let grey: Vec<u8> = (0..800 * 100).map(|at| (at % 800 / 4) as u8).collect();
        JpegEncoder::new(&mut bytes).write_image(&grey, 800, 100, ExtendedColorType::L8).unwrap();
        let picture = read_photo(file(&bytes).path(), 400).unwrap();
        assert_eq!((picture.width, picture.height), (400, 50));
        assert_near(&picture, 200, 25, [100; 3], 2);
    }

    /// A PNG of these sides, of which there is the head alone.
    fn png_head(width: u32, height: u32) -> Vec<u8> {
        let mut chunk = b"IHDR".to_vec();
        chunk.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
        chunk.extend([8, 6, 0, 0, 0]);
        let mut sum = flate2::Crc::new();
        sum.update(&chunk);
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        bytes.extend(chunk);
        bytes.extend(sum.sum().to_be_bytes());
        bytes.extend(b"\0\0\x10\0IDAT");
        bytes.extend([0; 64]);
        bytes
    }

    #[test]
    fn a_bomb_is_refused_by_its_head() {
        let words = |bytes: &[u8]| read_bytes(bytes).unwrap_err().fault.to_string();
        assert!(words(&png_head(16_384, 16_384)).starts_with("is of 16384x16384 pixels"));
        assert!(words(&png_head(2_000_000_000, 2_000_000_000)).starts_with("is damaged"));
        let mut jpeg = jpeg(None, None);
        let size = jpeg.windows(4).position(|bytes| bytes[..2] == [0xff, 0xc0]).unwrap() + 5;
        jpeg[size..size + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        assert!(words(&jpeg).starts_with("is of 65535x65535 pixels"));
        let gif = [&b"GIF89a"[..], &[0xff; 4], &[0; 20]].concat();
        assert!(words(&gif).starts_with("is of 65535x65535 pixels"));
    }

    #[test]
    fn what_is_cut_off_or_no_photo_is_told_so() {
        let words = |bytes: &[u8]| read_bytes(bytes).unwrap_err().fault.to_string();
        let png = png_head(64, 64);
        assert!(words(&png).starts_with("is damaged"), "{}", words(&png));
        assert!(words(&jpeg(None, None)[..100]).starts_with("is damaged"));
        assert_eq!(words(b""), "is empty");
        assert_eq!(words(b"not a photo"), "is neither a photo nor a clip: it seems to be text");
        assert_eq!(words(b"\0\0\0\x20ftypisom...."), "is a clip, not a photo");
    }
}
