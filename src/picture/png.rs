//! Pictures in PNG files: whatever colours a file is in, to 8 bits of RGB or of grey, and back into a file.
//!
//! In here: files and the conversion of their samples. Not in here: what a picture has to be to belong to an avatar
//! (`avatar`). Colour profiles are not applied.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Filter, Transformations};

use super::{Cutout, Mask, RgbPicture};

/// The longest side of a picture that is read, in pixels.
const MAX_SIDE: u32 = 4096;
/// How much of red, green and blue the eye takes for brightness (BT.709).
const BRIGHTNESS: [f32; 3] = [0.2126, 0.7152, 0.0722];

/// Why a picture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// It cannot be opened.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is no PNG file, or a broken one.
    #[error(transparent)]
    Decoding(#[from] png::DecodingError),
    /// It cannot be written.
    #[error(transparent)]
    Encoding(#[from] png::EncodingError),
    /// Transparency is wanted of it.
    #[error("has no alpha channel")]
    Opaque,
    /// It has more pixels than any avatar.
    #[error("is {width}x{height}, the most is {MAX_SIDE}x{MAX_SIDE}")]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

/// Reads a picture as RGB; what is transparent in it is shown.
pub fn read_rgb(path: &Path) -> Result<RgbPicture, PngError> {
    let file = Samples::read(path)?;
    let (width, height) = (file.width, file.height);
    let rgb = match (file.colours, file.wide) {
        (3, false) => file.bytes,
        _ => file.pixels().flatten().map(level).collect(),
    };
    Ok(RgbPicture { width, height, rgb })
}

/// Reads a picture and its alpha channel, which it must have. What it is multiplied with by whoever wrote it is not undone.
pub fn read_cutout(path: &Path) -> Result<Cutout, PngError> {
    let file = Samples::read(path)?;
    let (width, height) = (file.width, file.height);
    let alpha = file.alphas().map(level).collect::<Vec<u8>>();
    if alpha.is_empty() {
        return Err(PngError::Opaque);
    }
    let rgb = file.pixels().flatten().map(level).collect();
    Ok(Cutout { picture: RgbPicture { width, height, rgb }, matte: Some(Mask { width, height, alpha }) })
}

/// Reads a picture as a mask: the brighter a pixel, the more opaque.
pub fn read_mask(path: &Path) -> Result<Mask, PngError> {
    let file = Samples::read(path)?;
    let (width, height) = (file.width, file.height);
    let alpha = match (file.colours, file.wide) {
        (1, false) => file.bytes,
        (1 | 2, _) => file.pixels().map(|[grey, ..]| level(grey)).collect(),
        _ => file.pixels().map(|rgb| level(rgb.iter().zip(BRIGHTNESS).map(|(one, part)| one * part).sum())).collect(),
    };
    Ok(Mask { width, height, alpha })
}

/// Writes 8-bit RGB, `width * height * 3` bytes, as small as it gets.
pub fn write_rgb(path: &Path, width: u32, height: u32, rgb: &[u8]) -> Result<(), PngError> {
    write(path, width, height, ColorType::Rgb, rgb)
}

/// Writes 8-bit RGB, with an alpha channel if there is a matte, as small as it gets.
pub fn write_cutout(path: &Path, cutout: &Cutout) -> Result<(), PngError> {
    let Cutout { picture, matte } = cutout;
    let Some(matte) = matte else { return write_rgb(path, picture.width, picture.height, &picture.rgb) };
    let pixels = picture.rgb.as_chunks::<3>().0.iter().zip(&matte.alpha);
    let rgba: Vec<u8> = pixels.flat_map(|([red, green, blue], alpha)| [*red, *green, *blue, *alpha]).collect();
    write(path, picture.width, picture.height, ColorType::Rgba, &rgba)
}

/// The bytes of a PNG file of a picture, for whoever sends it on.
pub fn to_bytes(picture: &RgbPicture) -> Result<Vec<u8>, PngError> {
    let mut bytes = Vec::new();
    encode(&mut bytes, (picture.width, picture.height), ColorType::Rgb, Compression::Balanced, &picture.rgb)?;
    Ok(bytes)
}

/// Writes 8-bit grey, `width * height` bytes, as small as it gets.
pub fn write_grey(path: &Path, width: u32, height: u32, levels: &[u8]) -> Result<(), PngError> {
    write(path, width, height, ColorType::Grayscale, levels)
}

fn write(path: &Path, width: u32, height: u32, colour: ColorType, bytes: &[u8]) -> Result<(), PngError> {
    encode(BufWriter::new(File::create(path)?), (width, height), colour, Compression::High, bytes)
}

fn encode(
    out: impl Write,
    (width, height): (u32, u32),
    colour: ColorType,
    compression: Compression,
    bytes: &[u8],
) -> Result<(), PngError> {
    let mut encoder = Encoder::new(out, width, height);
    encoder.set_color(colour);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(compression);
    encoder.set_filter(Filter::Adaptive);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(bytes)?;
    writer.finish()?;
    Ok(())
}

/// What a file holds, palettes and samples of fewer than 8 bits resolved.
struct Samples {
    width: u32,
    height: u32,
    /// Samples of a pixel: grey, grey and alpha, RGB, or RGB and alpha.
    colours: usize,
    /// Of 16 bits, big end first, not of 8.
    wide: bool,
    bytes: Vec<u8>,
}

impl Samples {
    fn read(path: &Path) -> Result<Self, PngError> {
        let mut decoder = Decoder::new(BufReader::new(File::open(path)?));
        decoder.set_transformations(Transformations::EXPAND);
        let &png::Info { width, height, .. } = decoder.read_header_info()?;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(PngError::TooLarge { width, height });
        }
        let mut reader = decoder.read_info()?;
        let (colour, depth) = reader.output_color_type();
        let mut bytes = vec![0; reader.output_buffer_size().ok_or(PngError::TooLarge { width, height })?];
        let frame = reader.next_frame(&mut bytes)?;
        bytes.truncate(frame.buffer_size());
        Ok(Self { width, height, colours: colour.samples(), wide: depth == BitDepth::Sixteen, bytes })
    }

    /// Red, green and blue of each pixel, 0 to 255; grey is as much of each.
    fn pixels(&self) -> impl Iterator<Item = [f32; 3]> {
        let size = if self.wide { 2 } else { 1 };
        self.bytes.chunks_exact(self.colours * size).map(move |pixel| {
            let at = |index: usize| sample(&pixel[index * size..(index + 1) * size]);
            if self.colours < 3 { [at(0); 3] } else { [at(0), at(1), at(2)] }
        })
    }

    /// Of each pixel, 0 to 255; nothing if there is no such channel.
    fn alphas(&self) -> impl Iterator<Item = f32> {
        let size = if self.wide { 2 } else { 1 };
        let has_alpha = self.colours.is_multiple_of(2);
        let pixels = self.bytes.chunks_exact(self.colours * size).take_while(move |_| has_alpha);
        pixels.map(move |pixel| pixel.get(pixel.len() - size..).map_or(0.0, sample))
    }
}

/// One of 8 bits or of 16, 0 to 255.
fn sample(bytes: &[u8]) -> f32 {
    match *bytes {
        [high, low] => f32::from(u16::from_be_bytes([high, low])) / 257.0,
        [byte] => f32::from(byte),
        _ => 0.0,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255, and the cast saturates")]
fn level(sample: f32) -> u8 {
    sample.round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(colour: ColorType, depth: BitDepth, bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let samples = bytes.len() / colour.samples() / if depth == BitDepth::Sixteen { 2 } else { 1 };
        let mut encoder = Encoder::new(file.reopen().unwrap(), u32::try_from(samples).unwrap(), 1);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == ColorType::Indexed {
            encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
        }
        encoder.write_header().unwrap().write_image_data(bytes).unwrap();
        file
    }

    #[test]
    fn whatever_colours_a_file_is_in_it_is_read_as_rgb() {
        let rgb = |colour, depth, bytes: &[u8]| read_rgb(file(colour, depth, bytes).path()).unwrap().rgb;
        assert_eq!(rgb(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(rgb(ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0, 4, 5, 6, 255]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(rgb(ColorType::Grayscale, BitDepth::Eight, &[7, 8]), [7, 7, 7, 8, 8, 8]);
        assert_eq!(rgb(ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 0, 8, 255]), [7, 7, 7, 8, 8, 8]);
        assert_eq!(rgb(ColorType::Indexed, BitDepth::Eight, &[1, 0]), [40, 50, 60, 10, 20, 30]);
        let wide = [0, 128, 0, 129, 255, 255, 127, 255, 1, 1, 0, 0];
        assert_eq!(rgb(ColorType::Rgb, BitDepth::Sixteen, &wide), [0, 1, 255, 127, 1, 0]);
    }

    #[test]
    fn a_mask_is_as_opaque_as_its_file_is_bright() {
        let alpha = |colour, depth, bytes: &[u8]| read_mask(file(colour, depth, bytes).path()).unwrap().alpha;
        assert_eq!(alpha(ColorType::Grayscale, BitDepth::Eight, &[0, 9, 255]), [0, 9, 255]);
        assert_eq!(alpha(ColorType::GrayscaleAlpha, BitDepth::Eight, &[9, 0, 255, 1]), [9, 255]);
        assert_eq!(alpha(ColorType::Grayscale, BitDepth::Sixteen, &[255, 255, 0, 128]), [255, 0]);
        let greys: Vec<u8> = (0..=255).flat_map(|grey| [grey; 3]).collect();
        assert_eq!(alpha(ColorType::Rgb, BitDepth::Eight, &greys), (0..=255).collect::<Vec<u8>>());
        let colours = [255, 0, 0, 0, 255, 0, 0, 0, 255];
        assert_eq!(alpha(ColorType::Rgb, BitDepth::Eight, &colours), [54, 182, 18]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let rgb: Vec<u8> = (0..60).collect();
        write_rgb(&path, 5, 4, &rgb).unwrap();
        assert_eq!(read_rgb(&path).unwrap(), RgbPicture { width: 5, height: 4, rgb });
        write_grey(&path, 2, 1, &[3, 200]).unwrap();
        assert_eq!(read_mask(&path).unwrap(), Mask { width: 2, height: 1, alpha: vec![3, 200] });
    }

    #[test]
    fn an_alpha_channel_is_written_and_read_and_missed_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        let picture = RgbPicture { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] };
        let matte = Some(Mask { width: 2, height: 1, alpha: vec![0, 200] });
        let cutout = Cutout { picture: picture.clone(), matte };
        write_cutout(&path, &cutout).unwrap();
        assert_eq!(read_cutout(&path).unwrap(), cutout);
        write_cutout(&path, &Cutout::from(picture)).unwrap();
        assert!(matches!(read_cutout(&path), Err(PngError::Opaque)));
        let wide = file(ColorType::GrayscaleAlpha, BitDepth::Sixteen, &[128, 128, 64, 64, 1, 1, 255, 255]);
        assert_eq!(read_cutout(wide.path()).unwrap().matte.unwrap().alpha, [64, 255]);
    }

    #[test]
    fn a_file_that_is_too_large_cut_off_or_no_picture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        write_grey(&path, MAX_SIDE + 1, 1, &[0; MAX_SIDE as usize + 1]).unwrap();
        assert!(matches!(read_rgb(&path), Err(PngError::TooLarge { width: 4097, height: 1 })));
        write_rgb(&path, 64, 64, &(0..64 * 64 * 3).map(|at| (at * at % 251) as u8).collect::<Vec<u8>>()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(read_rgb(&path), Err(PngError::Decoding(_))));
        std::fs::write(&path, b"GIF89a").unwrap();
        assert!(matches!(read_mask(&path), Err(PngError::Decoding(_))));
        assert!(matches!(read_mask(&folder.path().join("none.png")), Err(PngError::File(_))));
    }
}
