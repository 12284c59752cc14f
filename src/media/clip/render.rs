//! From what a decoder gives to upright RGB of the size that is wanted.
//!
//! In here: sizes, and one conversion of GStreamer's (`GstVideoConverter`: formats and a Lanczos filter in one pass), then
//! colours (`matrix`, `tone_map`), transparency over white, and turning. Not in here: when pictures are shown (`sampling`).
//! Runs on: the caller's thread.

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::error::{LEAST_SIDE, SourceFault};
use super::matrix::Matrix;
use super::orientation::Orientation;
use super::tone_map::ToneMap;
use crate::picture::{Cutout, Mask, RgbPicture};

/// A converter for pictures of one clip or of one photo.
#[derive(Debug)]
pub(in crate::media) struct Renderer {
    largest_side: u32,
    orientation: Orientation,
    /// Instead of showing pictures over white.
    keeps_alpha: bool,
    /// What all pictures become, before they are turned: that of the first.
    target: Option<Size>,
    conversion: Option<Conversion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
}

/// From pictures of one description.
#[derive(Debug)]
struct Conversion {
    from: gst_video::VideoInfo,
    to: gst_video::VideoInfo,
    converter: gst_video::VideoConverter,
    colours: Colours,
    /// Written anew for each picture.
    buffer: Option<gst::Buffer>,
}

/// What GStreamer's conversion gives and what remains to be done.
#[derive(Debug)]
enum Colours {
    /// R, G, B.
    Rgb,
    /// R, G, B and alpha.
    Rgba,
    /// Alpha, Y, Cb, Cr.
    Ayuv(Matrix),
    /// R, G, B and alpha of 16 bits, of the stream's own light.
    Wide(Box<ToneMap>),
}

impl Colours {
    fn of(info: &gst_video::VideoInfo, brightest: Option<f32>) -> Self {
        match ToneMap::of(info, brightest) {
            Some(map) => Self::Wide(Box::new(map)),
            None if info.is_yuv() => Self::Ayuv(Matrix::of(&info.colorimetry())),
            None if info.has_alpha() => Self::Rgba,
            None => Self::Rgb,
        }
    }

    fn format(&self) -> gst_video::VideoFormat {
        match self {
            Self::Rgb => gst_video::VideoFormat::Rgb,
            Self::Rgba => gst_video::VideoFormat::Rgba,
            Self::Ayuv(_) => gst_video::VideoFormat::Ayuv,
            Self::Wide(_) => gst_video::VideoFormat::Rgba64Le,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Rgb => 3,
            Self::Rgba | Self::Ayuv(_) => 4,
            Self::Wide(_) => 8,
        }
    }

    /// A row as R, G and B, over white or as if all were opaque; `None` if it is that already.
    fn opaque(&self, row: &[u8], over_white: impl Fn([u8; 3], u8) -> [u8; 3]) -> Option<Vec<u8>> {
        let mut rgb = Vec::with_capacity(row.len() / self.bytes() * 3);
        match self {
            Self::Rgb => return None,
            Self::Rgba => {
                for [red, green, blue, alpha] in row.as_chunks().0 {
                    rgb.extend_from_slice(&over_white([*red, *green, *blue], *alpha));
                }
            }
            Self::Ayuv(matrix) => {
                for [alpha, luma, cb, cr] in row.as_chunks().0 {
                    let pixel = matrix.rgb(*luma, *cb, *cr);
                    rgb.extend_from_slice(&if *alpha == 255 { pixel } else { over_white(pixel, *alpha) });
                }
            }
            Self::Wide(map) => {
                for pixel in row.as_chunks().0 {
                    rgb.extend_from_slice(&map.apply(pixel));
                }
            }
        }
        Some(rgb)
    }
}

impl Colours {
    /// How opaque each pixel of a row is, three times; `None` if all are.
    fn alphas(&self, row: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::Rgb => return None,
            Self::Rgba => row.as_chunks().0.iter().flat_map(|[.., alpha]: &[u8; 4]| [*alpha; 3]).collect(),
            Self::Ayuv(_) => row.as_chunks().0.iter().flat_map(|[alpha, ..]: &[u8; 4]| [*alpha; 3]).collect(),
            // The upper byte of two.
            Self::Wide(_) => row.as_chunks().0.iter().flat_map(|[.., alpha]: &[u8; 8]| [*alpha; 3]).collect(),
        })
    }
}

/// What is done to a picture beside decoding it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::media) struct Treatment {
    /// It is of more colours or light than a screen of sRGB has.
    pub is_tone_mapped: bool,
    /// Its pixels are not square.
    pub is_squared: bool,
    /// It is made smaller.
    pub is_scaled: bool,
    /// It lies over white.
    pub is_flattened: bool,
}

impl Renderer {
    pub fn new(largest_side: u32, orientation: Orientation, keeps_alpha: bool) -> Self {
        Self { largest_side: largest_side.max(LEAST_SIDE), orientation, keeps_alpha, target: None, conversion: None }
    }

    /// The size of what comes out for pictures like this one, and what is done to them.
    pub fn plan(&mut self, info: &gst_video::VideoInfo) -> Result<(u32, u32, Treatment), SourceFault> {
        let target = self.target_for(info)?;
        let shown = shown_size(info);
        let treatment = Treatment {
            is_tone_mapped: ToneMap::of(info, None).is_some(),
            is_squared: info.par() != gst::Fraction::new(1, 1),
            is_scaled: shown.width > target.width + 1 || shown.height > target.height + 1,
            is_flattened: info.has_alpha() && !self.keeps_alpha,
        };
        let Size { width, height } = target;
        let (width, height) = if self.orientation.is_transposed() { (height, width) } else { (width, height) };
        Ok((width, height, treatment))
    }

    /// A decoded picture of a stream.
    pub fn sample(&mut self, sample: &gst::Sample) -> Result<Cutout, SourceFault> {
        let (info, buffer) = sample_parts(sample)?;
        let light = sample.caps().and_then(brightest);
        self.render(buffer, &info, light)
    }

    /// Packed pixels of RGB, or of RGB and alpha.
    pub fn packed(&mut self, pixels: Vec<u8>, width: u32, height: u32, has_alpha: bool) -> Result<Cutout, SourceFault> {
        let info = packed_info(width, height, has_alpha)?;
        let buffer = gst::Buffer::from_mut_slice(pixels);
        self.render(&buffer, &info, None)
    }

    fn render(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        brightest: Option<f32>,
    ) -> Result<Cutout, SourceFault> {
        let target = self.target_for(info)?;
        let known = self.conversion.take().filter(|known| known.from == *info);
        let mut conversion = match known {
            Some(conversion) => conversion,
            None => Conversion::new(info, target, brightest)?,
        };
        let (rgb, alpha) = conversion.run(buffer, self.orientation, self.keeps_alpha)?;
        self.conversion = Some(conversion);
        let (width, height) = match self.orientation.is_transposed() {
            true => (target.height, target.width),
            false => (target.width, target.height),
        };
        let picture = RgbPicture::new(width, height, rgb);
        let picture = picture.ok_or_else(|| failed("a picture of another size came out"))?;
        Ok(Cutout { picture, matte: alpha.map(|alpha| Mask { width, height, alpha }) })
    }

    fn target_for(&mut self, info: &gst_video::VideoInfo) -> Result<Size, SourceFault> {
        let (width, height) = (info.width(), info.height());
        if width < LEAST_SIDE || height < LEAST_SIDE {
            return Err(SourceFault::TooSmall { width, height });
        }
        let largest = self.largest_side;
        Ok(*self.target.get_or_insert_with(|| fitted(shown_size(info), largest)))
    }
}

/// What the pixels of a sample are.
pub(super) fn sample_parts(sample: &gst::Sample) -> Result<(gst_video::VideoInfo, &gst::BufferRef), SourceFault> {
    let caps = sample.caps().ok_or_else(|| failed("a picture without a description"))?;
    let info = gst_video::VideoInfo::from_caps(&with_matrix(caps)).map_err(|error| failed(&error.to_string()))?;
    Ok((info, sample.buffer().ok_or_else(|| failed("a picture without pixels"))?))
}

/// A stream that says its range and not its matrix loses both in GStreamer: the matrix is then that of its size.
fn with_matrix(caps: &gst::CapsRef) -> gst::Caps {
    let mut caps = caps.to_owned();
    let completed = caps.structure(0).and_then(|structure| {
        let text = structure.get::<&str>("colorimetry").ok()?;
        let [range, "0", rest @ ..] = &text.split(':').collect::<Vec<_>>()[..] else { return None };
        let is_high = structure.get::<i32>("height").is_ok_and(|height| height > 576);
        // GstVideoColorMatrix: 3 is BT.709's, 4 BT.601's.
        Some(format!("{range}:{}:{}", if is_high { 3 } else { 4 }, rest.join(":")))
    });
    if let Some(colours) = completed {
        caps.make_mut().set("colorimetry", colours);
    }
    caps
}

pub(super) fn packed_info(width: u32, height: u32, has_alpha: bool) -> Result<gst_video::VideoInfo, SourceFault> {
    let (format, bytes) = match has_alpha {
        true => (gst_video::VideoFormat::Rgba, 4),
        false => (gst_video::VideoFormat::Rgb, 3),
    };
    let stride = i32::try_from(width).ok().and_then(|width| width.checked_mul(bytes)).unwrap_or_default();
    gst_video::VideoInfo::builder(format, width, height)
        .stride(&[stride])
        .offset(&[0])
        .size(usize::try_from(stride).unwrap_or_default().saturating_mul(height as usize))
        .build()
        .map_err(|error| failed(&error.to_string()))
}

/// With square pixels.
fn shown_size(info: &gst_video::VideoInfo) -> Size {
    let (width, height) = (info.width(), info.height());
    let (across, down) = (info.par().numer().max(1), info.par().denom().max(1));
    // Those of a damaged file may say anything.
    let shape = (f64::from(across) / f64::from(down)).clamp(0.1, 10.0);
    if shape >= 1.0 {
        Size { width: scaled(width, shape), height }
    } else {
        Size { width, height: scaled(height, 1.0 / shape) }
    }
}

/// Even, no side above `largest`, never made larger.
fn fitted(shown: Size, largest: u32) -> Size {
    let scale = (f64::from(largest) / f64::from(shown.width.max(shown.height))).min(1.0);
    let even = |side: u32| if scale < 1.0 { (scaled(side, scale / 2.0) * 2).max(2) } else { side & !1 };
    Size { width: even(shown.width), height: even(shown.height) }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, sides are positive")]
fn scaled(side: u32, scale: f64) -> u32 {
    (f64::from(side) * scale).round() as u32
}

/// The brightest light of a stream in cd/m2, where its caps say it (MaxCLL of CTA-861.3).
fn brightest(caps: &gst::CapsRef) -> Option<f32> {
    let text = caps.structure(0)?.get::<&str>("content-light-level").ok()?;
    text.split(':').next()?.parse().ok()
}

impl Conversion {
    fn new(from: &gst_video::VideoInfo, target: Size, brightest: Option<f32>) -> Result<Self, SourceFault> {
        let broken = |error: gst::glib::BoolError| failed(&error.to_string());
        let colours = Colours::of(from, brightest);
        let mut to = gst_video::VideoInfo::builder(colours.format(), target.width, target.height)
            .fps(from.fps())
            .interlace_mode(from.interlace_mode());
        let wide = gst_video::VideoColorimetry::new(
            gst_video::VideoColorRange::Range0_255,
            gst_video::VideoColorMatrix::Rgb,
            from.colorimetry().transfer(),
            from.colorimetry().primaries(),
        );
        // GStreamer only takes its matrix off, and none at all of eight bits.
        let own = from.colorimetry();
        match colours {
            Colours::Wide(_) => to = to.colorimetry(&wide),
            Colours::Ayuv(_) => to = to.colorimetry(&own),
            Colours::Rgb | Colours::Rgba => {}
        }
        let to = to.build().map_err(broken)?;

        let mut config = gst_video::VideoConverterConfig::new();
        config.set_resampler_method(gst_video::VideoResamplerMethod::Lanczos);
        config.set_chroma_resampler_method(gst_video::VideoResamplerMethod::Linear);
        config.set_dither_method(gst_video::VideoDitherMethod::None);
        config.set_alpha_mode(gst_video::VideoAlphaMode::Copy);
        let side = |side: u32| i32::try_from(side).unwrap_or(i32::MAX);
        let shown = shown_size(from);
        if (shown.width & !1, shown.height & !1) == (target.width, target.height) && shown == from.into() {
            // An odd last row or column is left out, which leaves all other pixels as they are.
            config.set_src_width(Some(side(target.width)));
            config.set_src_height(Some(side(target.height)));
        } else {
            // Of another shape than the first picture: whole, with black beside it.
            let scale = (f64::from(target.width) / f64::from(shown.width))
                .min(f64::from(target.height) / f64::from(shown.height));
            let inside = |shown: u32, target: u32| {
                let inside = scaled(shown, scale).clamp(1, target);
                // What rounding leaves is no border.
                if target - inside <= 2 { target } else { inside }
            };
            let (width, height) = (inside(shown.width, target.width), inside(shown.height, target.height));
            config.set_dest_x(side((target.width - width) / 2));
            config.set_dest_y(side((target.height - height) / 2));
            config.set_dest_width(Some(side(width)));
            config.set_dest_height(Some(side(height)));
        }
        let converter = gst_video::VideoConverter::new(from, &to, Some(config)).map_err(broken)?;
        Ok(Self { from: from.clone(), to, converter, colours, buffer: None })
    }

    /// The pixels of a picture, upright, and how opaque each is if that is kept and known.
    fn run(
        &mut self,
        buffer: &gst::BufferRef,
        orientation: Orientation,
        keeps_alpha: bool,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), SourceFault> {
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.from)
            .map_err(|error| failed(&error.to_string()))?;
        let out = match self.buffer.take() {
            Some(buffer) => buffer,
            None => gst::Buffer::with_size(self.to.size()).map_err(|error| failed(&error.to_string()))?,
        };
        let mut out = gst_video::VideoFrame::from_buffer_writable(out, &self.to)
            .map_err(|_| failed("no memory for a picture"))?;
        self.converter.frame_ref(&source, &mut out.as_mut_video_frame_ref());
        let (width, height) = (self.to.width() as usize, self.to.height() as usize);
        let stride = usize::try_from(self.to.stride().first().copied().unwrap_or_default()).unwrap_or_default();
        let plane = out.plane_data(0).map_err(|error| failed(&error.to_string()))?;
        let rows: Vec<&[u8]> = plane.chunks(stride.max(1)).take(height).collect();
        let rows: Option<Vec<&[u8]>> = rows.into_iter().map(|row| row.get(..width * self.colours.bytes())).collect();
        let rows = rows.filter(|rows| rows.len() == height).ok_or_else(|| failed("a picture is cut off"))?;
        let shown = |rgb, alpha| if keeps_alpha { rgb } else { over_white(rgb, alpha) };
        let opaque: Vec<Vec<u8>> = rows.iter().map_while(|row| self.colours.opaque(row, shown)).collect();
        let alphas: Vec<Vec<u8>> =
            rows.iter().map_while(|row| self.colours.alphas(row).filter(|_| keeps_alpha)).collect();
        let alphas: Vec<&[u8]> = alphas.iter().map(Vec::as_slice).collect();
        let alpha = (!alphas.is_empty())
            .then(|| orientation.turn(&alphas, width).as_chunks::<3>().0.iter().map(|[alpha, ..]| *alpha).collect());
        let rgb = if opaque.is_empty() {
            orientation.turn(&rows, width)
        } else {
            orientation.turn(&opaque.iter().map(Vec::as_slice).collect::<Vec<_>>(), width)
        };
        self.buffer = Some(out.into_buffer());
        Ok((rgb, alpha))
    }
}

impl From<&gst_video::VideoInfo> for Size {
    fn from(info: &gst_video::VideoInfo) -> Self {
        Self { width: info.width(), height: info.height() }
    }
}

/// As a page shows a picture that is cut out.
fn over_white(rgb: [u8; 3], alpha: u8) -> [u8; 3] {
    rgb.map(|level| {
        let sum = u32::from(level) * u32::from(alpha) + 255 * u32::from(255 - alpha);
        u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
    })
}

fn failed(reason: &str) -> SourceFault {
    SourceFault::Start(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(width: u32, height: u32, largest: u32) -> (u32, u32) {
        let size = fitted(Size { width, height }, largest);
        (size.width, size.height)
    }

    #[test]
    fn pictures_are_made_smaller_and_even_but_never_larger() {
        assert_eq!(fit(3840, 2160, 1920), (1920, 1080));
        assert_eq!(fit(2160, 3840, 1920), (1080, 1920));
        assert_eq!(fit(641, 361, 1920), (640, 360));
        assert_eq!(fit(4000, 3001, 1920), (1920, 1440));
        assert_eq!(fit(64, 48, 1920), (64, 48));
        assert_eq!(fit(4096, 16, 1920), (1920, 8));
    }

    fn picture(width: u32, height: u32) -> Vec<u8> {
        (0..width * height).flat_map(|at| [at % width * 5, at / width * 7, at % 251].map(|level| level as u8)).collect()
    }

    #[test]
    fn a_picture_that_needs_nothing_stays_as_it_is_to_the_bit() {
        crate::media::init().unwrap();
        let mut renderer = Renderer::new(1920, Orientation::default(), false);
        let out = renderer.packed(picture(34, 20), 34, 20, false).unwrap().picture;
        assert_eq!(out, RgbPicture { width: 34, height: 20, rgb: picture(34, 20) });
    }

    #[test]
    fn an_odd_side_loses_its_last_pixel_and_no_other_changes() {
        crate::media::init().unwrap();
        let out =
            Renderer::new(1920, Orientation::default(), false).packed(picture(35, 21), 35, 21, false).unwrap().picture;
        assert_eq!((out.width, out.height), (34, 20));
        let expected: Vec<u8> =
            picture(35, 21).chunks(35 * 3).take(20).flat_map(|row| row[..34 * 3].to_vec()).collect();
        assert_eq!(out.rgb, expected);
    }

    #[test]
    fn what_is_transparent_lies_over_white() {
        crate::media::init().unwrap();
        let pixels: Vec<u8> = (0..16 * 16).flat_map(|at| [200, 100, 0, if at % 2 == 0 { 128 } else { 0 }]).collect();
        let out = Renderer::new(1920, Orientation::default(), false).packed(pixels, 16, 16, true).unwrap().picture;
        assert_eq!(out.rgb[..6], [227, 177, 127, 255, 255, 255]);
    }

    #[test]
    fn a_picture_of_another_shape_than_the_first_is_seen_whole() {
        crate::media::init().unwrap();
        let mut renderer = Renderer::new(1920, Orientation::default(), false);
        renderer.packed(vec![255; 64 * 64 * 3], 64, 64, false).unwrap();
        let out = renderer.packed(vec![255; 64 * 32 * 3], 64, 32, false).unwrap().picture;
        assert_eq!((out.width, out.height), (64, 64));
        let levels: Vec<u8> = out.rgb.iter().step_by(64 * 3).copied().collect();
        assert!(levels[..16].iter().chain(&levels[48..]).all(|level| *level == 0), "{levels:?}");
        assert!(levels[16..48].iter().all(|level| *level == 255), "{levels:?}");
    }

    #[test]
    fn a_picture_in_which_nothing_can_be_seen_is_refused() {
        crate::media::init().unwrap();
        let error =
            Renderer::new(1920, Orientation::default(), false).packed(vec![0; 8 * 64 * 3], 8, 64, false).unwrap_err();
        assert!(matches!(error, SourceFault::TooSmall { width: 8, height: 64 }), "{error}");
    }
}
