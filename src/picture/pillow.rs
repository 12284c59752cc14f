//! Scaling as Pillow does it, to the level: what upstream's face parsing gets its picture and its mask by.
//!
//! Pure. After Pillow's `src/libImaging/Resample.c`: the filter is widened where it shrinks, weights have 22 bits behind the
//! point, columns come first, and what is between is rounded to levels. Not in here: how OpenCV scales (`resize`).

/// A filter of Pillow's, by its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `BILINEAR`.
    Bilinear,
    /// `BICUBIC`, whose a is -0.5.
    Bicubic,
}

/// Weights have so many bits behind the point.
const BITS: u32 = 22;

impl Filter {
    /// How far it reaches, in pixels of the coarser picture.
    const fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Self::Bicubic => 0.0,
        }
    }

    /// The first pixel that counts for one of the result, and the weights from there on.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places in a row, weights below 2^23")]
    fn weights(self, at: usize, from: usize, to: usize) -> (usize, Vec<i64>) {
        let scale = from as f64 / to as f64;
        let wide = scale.max(1.0);
        let (centre, support) = ((at as f64 + 0.5) * scale, self.support() * wide);
        let first = ((centre - support + 0.5) as i64).max(0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let raw: Vec<f64> = (first..end).map(|pixel| self.weight((pixel as f64 - centre + 0.5) / wide)).collect();
        let sum: f64 = raw.iter().sum();
        let fixed = |weight: &f64| {
            let fixed = weight / sum * f64::from(1_u32 << BITS);
            (if fixed < 0.0 { fixed - 0.5 } else { fixed + 0.5 }) as i64
        };
        (first, raw.iter().map(fixed).collect())
    }
}

/// Pixels of `N` levels, `[width, height]` of them in rows from the top, scaled to another width and height. Where there are
/// no pixels, none come.
pub fn scaled<const N: usize>(
    pixels: &[[u8; N]],
    [width, height]: [usize; 2],
    [to_width, to_height]: [usize; 2],
    filter: Filter,
) -> Vec<[u8; N]> {
    if (width, height) == (to_width, to_height) {
        return pixels.to_vec();
    }
    const HALF: i64 = 1 << (BITS - 1);
    let mixed = |sum: i64| u8::try_from((sum >> BITS).clamp(0, 255)).unwrap_or_default();
    let add = |sums: &mut [i64; N], pixel: &[u8; N], weight: i64| {
        sums.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += i64::from(*level) * weight);
    };
    let columns: Vec<(usize, Vec<i64>)> = (0..to_width).map(|at| filter.weights(at, width, to_width)).collect();
    let mut across = Vec::with_capacity(to_width * height);
    for row in pixels.chunks_exact(width.max(1)) {
        across.extend(columns.iter().map(|(first, weights)| {
            let mut sums = [HALF; N];
            row.iter().skip(*first).zip(weights).for_each(|(pixel, weight)| add(&mut sums, pixel, *weight));
            sums.map(mixed)
        }));
    }
    let mut scaled = Vec::with_capacity(to_width * to_height);
    for at in 0..to_height {
        let (first, weights) = filter.weights(at, height, to_height);
        let mut sums = vec![[HALF; N]; to_width];
        for (row, weight) in across.chunks_exact(to_width.max(1)).skip(first).zip(weights) {
            sums.iter_mut().zip(row).for_each(|(sums, pixel)| add(sums, pixel, weight));
        }
        scaled.extend(sums.into_iter().map(|sums| sums.map(mixed)));
    }
    scaled
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::picture::png;

    #[test]
    fn a_picture_is_scaled_as_pillow_scales_it_to_the_level() {
        let fixture = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/musetalk").join(name);
            png::read_rgb(&path).unwrap()
        };
        let from = fixture("scaled-from.png");
        let size = |picture: &crate::picture::RgbPicture| [picture.width as usize, picture.height as usize];
        for (name, filter) in [
            ("scaled-smaller.png", Filter::Bilinear),
            ("scaled-larger.png", Filter::Bilinear),
            ("scaled-cubic.png", Filter::Bicubic),
        ] {
            let theirs = fixture(name);
            let ours = scaled(from.rgb.as_chunks::<3>().0, size(&from), size(&theirs), filter);
            assert!(ours.as_flattened() == theirs.rgb, "{name}");
        }
    }

    #[test]
    fn no_pixels_are_scaled_to_none() {
        assert!(scaled::<1>(&[], [0, 0], [0, 3], Filter::Bilinear).is_empty());
    }
}
