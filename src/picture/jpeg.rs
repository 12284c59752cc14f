//! Pictures in JPEG files: RGB into a file, and a file into RGB or straight into the I420 that encoders take.
//!
//! In here: baseline files as this program writes them for an avatar's frames (`avatar::film`), read as if anybody had.
//! Not in here: photographs that people bring, with their rotation and profiles (`media::clip`). JPEG's YCbCr has BT.601's
//! matrix at full range; ours is limited, so reading as I420 maps the levels and never passes through RGB. Reading is
//! integer arithmetic and gives the same bytes on every machine.

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{I420Frame, RgbPicture};

/// How many colours there are for each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// One for four pixels, as in I420.
    Quarter,
    /// One for each.
    Full,
}

/// Why a picture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JpegError {
    /// It is no JPEG, or a damaged one.
    #[error("is no JPEG or a damaged one: {0}")]
    Decoding(String),
    /// It cannot be written.
    #[error("cannot be written as JPEG: {0}")]
    Encoding(#[from] jpeg_encoder::EncodingError),
    /// It is another size than it has to be.
    #[error("is {width}x{height}, must be {wanted_width}x{wanted_height}")]
    Size {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Pixels.
        wanted_width: u32,
        /// Pixels.
        wanted_height: u32,
    },
}

/// Writes a picture of at most 65535 pixels a side; `quality` is 1 to 100, as libjpeg's.
pub fn write_rgb(picture: &RgbPicture, quality: u8, chroma: Chroma) -> Result<Vec<u8>, JpegError> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(match chroma {
        Chroma::Quarter => SamplingFactor::F_2_2,
        Chroma::Full => SamplingFactor::F_1_1,
    });
    // What does not fit becomes zero, which the encoder refuses.
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(0);
    encoder.encode(&picture.rgb, side(picture.width), side(picture.height), ColorType::Rgb)?;
    Ok(bytes)
}

/// Reads a picture that has to be of this size.
pub fn read_rgb(bytes: &[u8], width: u32, height: u32) -> Result<RgbPicture, JpegError> {
    Ok(RgbPicture { width, height, rgb: decode(bytes, width, height, ColorSpace::RGB)? })
}

/// Reads a picture that has to be of this size, whose sides are even. Chroma is the mean of its four pixels.
pub fn read_i420(bytes: &[u8], width: u32, height: u32) -> Result<I420Frame, JpegError> {
    let pixels = decode(bytes, width, height, ColorSpace::YCbCr)?;
    let (columns, rows) = (width as usize, height as usize);
    let mut data = vec![0; columns * rows * 3 / 2];
    let (luma, chroma) = data.split_at_mut(columns * rows);
    let (blue, red) = chroma.split_at_mut(columns * rows / 4);
    for (level, [y, ..]) in luma.iter_mut().zip(pixels.as_chunks::<3>().0) {
        *level = LUMA[usize::from(*y)];
    }
    let chroma = blue.chunks_exact_mut(columns / 2).zip(red.chunks_exact_mut(columns / 2));
    for ((blue, red), pair) in chroma.zip(pixels.chunks_exact(columns * 6)) {
        let (above, below) = pair.split_at(columns * 3);
        let fours = above.as_chunks::<6>().0.iter().zip(below.as_chunks::<6>().0);
        for ((blue, red), (above, below)) in blue.iter_mut().zip(red).zip(fours) {
            let sum = |at: usize| {
                usize::from(above[at])
                    + usize::from(above[at + 3])
                    + usize::from(below[at])
                    + usize::from(below[at + 3])
            };
            *blue = CHROMA[sum(1)];
            *red = CHROMA[sum(2)];
        }
    }
    Ok(I420Frame { width, height, data })
}

fn decode(bytes: &[u8], width: u32, height: u32, colours: ColorSpace) -> Result<Vec<u8>, JpegError> {
    let failed = |error: zune_jpeg::errors::DecodeErrors| JpegError::Decoding(error.to_string());
    let options = DecoderOptions::new_fast().set_strict_mode(true).jpeg_set_out_colorspace(colours);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(failed)?;
    let (found_width, found_height) = decoder.dimensions().unwrap_or_default();
    if (found_width, found_height) != (width as usize, height as usize) {
        let (wanted_width, wanted_height) = (width, height);
        return Err(JpegError::Size { width: found_width, height: found_height, wanted_width, wanted_height });
    }
    let pixels = decoder.decode().map_err(failed)?;
    // A greyscale file may come as one byte a pixel, whatever was asked for.
    if pixels.len() as u64 == u64::from(width) * u64::from(height) * 3 {
        Ok(pixels)
    } else {
        Err(JpegError::Decoding("it is not in colour".to_owned()))
    }
}

/// Full range to limited: 0 to 255 becomes 16 to 235, rounded.
const LUMA: [u8; 256] = {
    let mut levels = [0; 256];
    let mut at = 0;
    while at < 256 {
        levels[at] = to_u8(16 + (at * 219 + 127) / 255);
        at += 1;
    }
    levels
};

/// The sum of four samples of full range to one of limited: 128 stays, a span of 255 becomes one of 224, rounded.
const CHROMA: [u8; 1021] = {
    let mut levels = [0; 1021];
    let mut at = 0;
    while at < 1021 {
        // 128 + (at / 4 - 128) * 224 / 255, all of it over 1020 and above zero.
        levels[at] = to_u8((128 * 1020 + at * 224 + 510 - 512 * 224) / 1020);
        at += 1;
    }
    levels
};

#[allow(clippy::cast_possible_truncation, reason = "16 to 240, by the two tables above")]
const fn to_u8(level: usize) -> u8 {
    level as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::color;

    /// Slopes of all three colours, as a face has them.
    fn picture(width: u32, height: u32) -> RgbPicture {
        let pixels = (0..width * height).map(|at| (at % width, at / width));
        let rgb = pixels.flat_map(|(x, y)| [40 + x * 160 / width, 30 + y * 190 / height, 200 - (x + y) * 60 / width]);
        RgbPicture::new(width, height, rgb.map(|level| level as u8).collect()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_within_a_few_levels_and_always_the_same() {
        let picture = picture(70, 42);
        for chroma in [Chroma::Quarter, Chroma::Full] {
            let bytes = write_rgb(&picture, 96, chroma).unwrap();
            let near = |got: &[u8], wanted: &[u8]| got.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            let rgb = read_rgb(&bytes, 70, 42).unwrap();
            assert!(near(&rgb.rgb, &picture.rgb) <= 8, "{chroma:?} {}", near(&rgb.rgb, &picture.rgb));
            let i420 = read_i420(&bytes, 70, 42).unwrap();
            let wanted = color::rgb_to_i420(&picture.rgb, 70, 42);
            assert_eq!(i420.data.len(), wanted.data.len());
            assert!(near(&i420.data, &wanted.data) <= 3, "{chroma:?} {}", near(&i420.data, &wanted.data));
            assert_eq!(read_i420(&bytes, 70, 42).unwrap(), i420);
        }
    }

    #[test]
    fn full_range_becomes_limited_range() {
        assert_eq!((LUMA[0], LUMA[255]), (16, 235));
        assert_eq!((CHROMA[0], CHROMA[512], CHROMA[1020]), (16, 128, 240));
    }

    #[test]
    fn a_file_of_another_size_cut_off_or_no_picture_is_refused() {
        let bytes = write_rgb(&picture(64, 64), 90, Chroma::Quarter).unwrap();
        let error = |bytes: &[u8], width| read_i420(bytes, width, 64).unwrap_err().to_string();
        assert!(error(&bytes, 66).contains("64x64, must be 66x64"));
        for damaged in [&bytes[..bytes.len() / 2], &bytes[..40], b"GIF89a", b""] {
            assert!(error(damaged, 64).contains("JPEG"), "{}", damaged.len());
        }
        let flat = RgbPicture { width: 70_000, height: 1, rgb: vec![0; 210_000] };
        assert!(write_rgb(&flat, 90, Chroma::Full).is_err());
    }
}
