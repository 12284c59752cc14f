//! Y'CbCr of eight bits to R'G'B', to the nearest level.
//!
//! In here: the matrices of ITU-R BT.601, BT.709, BT.2020 and their older kin, for both ranges, in fixed point. GStreamer's
//! own conversion of eight bits is off by two levels, which is more than a face that nothing moves may differ by.

use gst_video::{VideoColorMatrix, VideoColorRange, VideoColorimetry};
use gstreamer_video as gst_video;

const BITS: u32 = 14;

/// A matrix in fixed point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix {
    black: i32,
    luma: i32,
    red_of_cr: i32,
    green_of_cb: i32,
    green_of_cr: i32,
    blue_of_cb: i32,
}

impl Matrix {
    /// For a stream that says what its colours are; its size must decide where it does not.
    pub fn of(colours: &VideoColorimetry) -> Self {
        let (red, blue) = match colours.matrix() {
            VideoColorMatrix::Bt709 => (0.2126, 0.0722),
            VideoColorMatrix::Bt2020 => (0.2627, 0.0593),
            VideoColorMatrix::Fcc => (0.3, 0.11),
            VideoColorMatrix::Smpte240m => (0.212, 0.087),
            _ => (0.299, 0.114),
        };
        Self::new(red, blue, colours.range() == VideoColorRange::Range0_255)
    }

    #[allow(clippy::cast_possible_truncation, reason = "factors below 4")]
    fn new(red: f64, blue: f64, is_full_range: bool) -> Self {
        let (luma, chroma) = if is_full_range { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let green = 1.0 - red - blue;
        let fixed = |factor: f64| (factor * f64::from(1 << BITS)).round() as i32;
        Self {
            black: if is_full_range { 0 } else { 16 },
            luma: fixed(luma),
            red_of_cr: fixed(2.0 * (1.0 - red) * chroma),
            green_of_cb: fixed(-2.0 * blue * (1.0 - blue) / green * chroma),
            green_of_cr: fixed(-2.0 * red * (1.0 - red) / green * chroma),
            blue_of_cb: fixed(2.0 * (1.0 - blue) * chroma),
        }
    }

    /// One pixel.
    #[inline]
    pub fn rgb(&self, luma: u8, cb: u8, cr: u8) -> [u8; 3] {
        let luma = (i32::from(luma) - self.black) * self.luma + (1 << (BITS - 1));
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        [luma + self.red_of_cr * cr, luma + self.green_of_cb * cb + self.green_of_cr * cr, luma + self.blue_of_cb * cb]
            .map(|sum| u8::try_from((sum >> BITS).clamp(0, 255)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greys_and_primaries_are_those_of_the_recommendations() {
        let sd = Matrix::new(0.299, 0.114, false);
        assert_eq!([sd.rgb(16, 128, 128), sd.rgb(235, 128, 128), sd.rgb(40, 128, 128)], [[0; 3], [255; 3], [28; 3]]);
        let near = |got: [u8; 3], expected: [u8; 3]| {
            assert!(got.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2), "{got:?}, not {expected:?}");
        };
        near(sd.rgb(82, 90, 240), [255, 0, 0]);
        near(sd.rgb(145, 54, 34), [0, 255, 0]);
        near(sd.rgb(41, 240, 110), [0, 0, 255]);
        let hd = Matrix::new(0.2126, 0.0722, false);
        near(hd.rgb(63, 102, 240), [255, 0, 0]);
        near(hd.rgb(173, 42, 26), [0, 255, 0]);
        near(hd.rgb(32, 240, 118), [0, 0, 255]);
        let full = Matrix::new(0.299, 0.114, true);
        assert_eq!(
            (0..=255).map(|level| full.rgb(level, 128, 128)[1]).collect::<Vec<_>>(),
            (0..=255).collect::<Vec<_>>()
        );
    }
}
