//! How a face is scaled to the size that MuseTalk's encoder takes: OpenCV's `INTER_LANCZOS4` for bytes, which is what its
//! weights were trained on.
//!
//! In here: that arithmetic. Not in here: scaling a generated mouth back (`picture::blend`), which is bilinear upstream.
//! From OpenCV's `modules/imgproc/src/resize.cpp`: eight taps at distances -3 to 4, half-pixel centres, borders
//! repeated, no smoothing before a reduction, weights in 11 bits.

use std::f64::consts::PI;

use super::RgbPicture;

const TAPS: usize = 8;
/// Taps before the pixel that a position falls on.
const BEFORE: i64 = 3;
const BITS: u32 = 11;

/// Scales a picture to `width` x `height`; a picture without pixels becomes black.
pub fn lanczos4(from: &RgbPicture, width: u32, height: u32) -> RgbPicture {
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    if from.width == 0 || from.height == 0 {
        rgb.resize(rgb.capacity(), 0);
        return RgbPicture { width, height, rgb };
    }
    let columns: Vec<Taps> = (0..width).map(|at| Taps::of(at, from.width, width)).collect();
    let (pixels, _) = from.rgb.as_chunks::<3>();
    let row_of = |row: u32| &pixels[row as usize * from.width as usize..][..from.width as usize];
    for y in 0..height {
        let rows = Taps::of(y, from.height, height);
        for columns in &columns {
            let mut sums = [0_i64; 3];
            for (row, down) in rows.iter() {
                let mut across = [0_i64; 3];
                for (column, weight) in columns.iter() {
                    let pixel = row_of(row)[column as usize];
                    across.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += weight * i64::from(level));
                }
                sums.iter_mut().zip(across).for_each(|(sum, across)| *sum += down * across);
            }
            rgb.extend(sums.map(|sum| {
                let rounded = (sum + (1 << (2 * BITS - 1))) >> (2 * BITS);
                u8::try_from(rounded.clamp(0, 255)).unwrap_or_default()
            }));
        }
    }
    RgbPicture { width, height, rgb }
}

/// Where along one side a pixel of the result comes from, and how much of each.
struct Taps {
    at: [u32; TAPS],
    weights: [i64; TAPS],
}

impl Taps {
    #[allow(clippy::cast_possible_truncation, reason = "positions within a picture, weights of a few thousand")]
    fn of(target: u32, from: u32, to: u32) -> Self {
        let position = (f64::from(target) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
        let first = position.floor();
        let fraction = position - first;
        let distance = |tap: usize| fraction + BEFORE as f64 - tap as f64;
        let raw: [f64; TAPS] = std::array::from_fn(|tap| lanczos(distance(tap)));
        let sum: f64 = raw.iter().sum();
        let pixel = |tap: usize| (first as i64 - BEFORE + tap as i64).clamp(0, i64::from(from) - 1);
        Self {
            at: std::array::from_fn(|tap| u32::try_from(pixel(tap)).unwrap_or_default()),
            weights: raw.map(|weight| (weight / sum * f64::from(1 << BITS)).round_ties_even() as i64),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.at.into_iter().zip(self.weights)
    }
}

/// sinc(x) sinc(x / 4)
fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) };
    sinc(x) * sinc(x / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_its_own_size_stays_as_it_is() {
        let rgb = (0..9 * 7).map(|at| (at % 9, at / 9)).flat_map(|(x, y)| [x * 28, y * 36, x * y * 4]).collect();
        let picture = RgbPicture { width: 9, height: 7, rgb };
        assert_eq!(lanczos4(&picture, 9, 7), picture);
    }

    #[test]
    fn a_picture_without_pixels_becomes_black() {
        let none = RgbPicture { width: 0, height: 0, rgb: Vec::new() };
        assert_eq!(lanczos4(&none, 2, 2), RgbPicture { width: 2, height: 2, rgb: vec![0; 12] });
    }
}
