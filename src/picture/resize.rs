//! Scaling pictures: [`lanczos4`] as OpenCV's `INTER_LANCZOS4` for bytes, which is what MuseTalk's encoder was trained on, and
//! [`smaller`] for people to look at.
//!
//! In here: that arithmetic. Not in here: scaling a generated mouth back (`picture::blend`), which is bilinear upstream.
//! `lanczos4` is from OpenCV's `modules/imgproc/src/resize.cpp`: eight taps at distances -3 to 4, half-pixel centres, borders
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

/// Scales a picture down to `width` x `height` without stairs or patterns: Lanczos over three pixels of the result. A picture
/// without pixels becomes black.
pub fn smaller(from: &RgbPicture, width: u32, height: u32) -> RgbPicture {
    if from.width == 0 || from.height == 0 {
        return RgbPicture { width, height, rgb: vec![0; width as usize * height as usize * 3] };
    }
    let columns: Vec<Span> = (0..width).map(|at| Span::of(at, from.width, width)).collect();
    let (pixels, _) = from.rgb.as_chunks::<3>();
    let across =
        |row: &[[u8; 3]]| -> Vec<[f32; 3]> { columns.iter().map(|span| span.sum(row.iter().copied())).collect() };
    // Only the rows that the present one of the result needs are kept.
    let mut kept: std::collections::VecDeque<(usize, Vec<[f32; 3]>)> = std::collections::VecDeque::new();
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for y in 0..height {
        let span = Span::of(y, from.height, height);
        kept.retain(|(row, _)| *row >= span.first);
        for row in span.first..span.first + span.weights.len() {
            if kept.iter().all(|(known, _)| *known != row) {
                let line = pixels.chunks_exact(from.width as usize).nth(row).unwrap_or_default();
                kept.push_back((row, across(line)));
            }
        }
        for column in 0..columns.len() {
            let mut sum = [0.0_f32; 3];
            for (weight, (_, line)) in span.weights.iter().zip(&kept) {
                let pixel = line.get(column).copied().unwrap_or_default();
                sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += weight * level);
            }
            rgb.extend(sum.map(to_level));
        }
    }
    RgbPicture { width, height, rgb }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
fn to_level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// The pixels along one side that make one of the result.
struct Span {
    first: usize,
    weights: Vec<f32>,
}

impl Span {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positions within a picture")]
    fn of(target: u32, from: u32, to: u32) -> Self {
        let scale = (f64::from(from) / f64::from(to)).max(1.0);
        let middle = (f64::from(target) + 0.5) * f64::from(from) / f64::from(to);
        let first = (middle - 3.0 * scale).floor().clamp(0.0, f64::from(from) - 1.0) as usize;
        let end = ((middle + 3.0 * scale).ceil() as usize).clamp(first + 1, from as usize);
        let weight = |pixel: usize| {
            let distance = (pixel as f64 + 0.5 - middle) / scale;
            let sinc = |x: f64| if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) };
            if distance.abs() < 3.0 { sinc(distance) * sinc(distance / 3.0) } else { 0.0 }
        };
        let raw: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = raw.iter().sum();
        Self { first, weights: raw.iter().map(|weight| (weight / sum) as f32).collect() }
    }

    fn sum(&self, pixels: impl Iterator<Item = [u8; 3]>) -> [f32; 3] {
        let mut sum = [0.0_f32; 3];
        for (weight, pixel) in self.weights.iter().zip(pixels.skip(self.first)) {
            sum.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += weight * f32::from(level));
        }
        sum
    }
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
    fn a_fine_pattern_becomes_its_mean_and_edges_stay_where_they_are() {
        let checks = (0..64 * 64).map(|at| if (at % 64 + at / 64) % 2 == 0 { 255 } else { 0 });
        let picture = RgbPicture { width: 64, height: 64, rgb: checks.flat_map(|level| [level; 3]).collect() };
        let small = smaller(&picture, 16, 16);
        let inside = |at: usize| (2..14).contains(&(at % 16)) && (2..14).contains(&(at / 16));
        let (pixels, _) = small.rgb.as_chunks::<3>();
        assert!(pixels.iter().enumerate().all(|(at, pixel)| !inside(at) || pixel[0].abs_diff(128) < 3));
        let halves = (0..64 * 64).map(|at| if at % 64 < 32 { 20 } else { 220 });
        let picture = RgbPicture { width: 64, height: 64, rgb: halves.flat_map(|level| [level; 3]).collect() };
        let small = smaller(&picture, 20, 10);
        assert_eq!((small.rgb[3 * 4], small.rgb[3 * 15]), (20, 220));
        assert!(small.rgb[3 * 9] < 120 && small.rgb[3 * 10] > 120);
    }

    #[test]
    fn a_picture_without_pixels_becomes_black() {
        let none = RgbPicture { width: 0, height: 0, rgb: Vec::new() };
        assert_eq!(lanczos4(&none, 2, 2), RgbPicture { width: 2, height: 2, rgb: vec![0; 12] });
    }
}
