//! The mask that MuseTalk's mouth is pasted through: upstream's, of each frame, and their mean.
//!
//! In here: from a map of classes to a feathered lower half of the face, in the arithmetic of Pillow (resizing) and OpenCV
//! (blur), and one mask for all frames. Pure. After `get_image_prepare_material` of upstream's `musetalk/utils/blending.py`.

use super::geometry::Surroundings;
use super::parsing;
use crate::picture::pillow::{Filter, scaled};
use crate::picture::{CropBox, Mask};

/// The blur's kernel, of the surroundings' side: a tenth.
const FEATHER: u32 = 10;

/// The mask of one frame, as large as its box, from 0 or 255 for each pixel of a map of its surroundings: without its upper
/// half, and feathered.
pub fn of_frame(map: &[u8], crop: CropBox, around: Surroundings) -> Mask {
    let side = around.side as usize;
    let scaled = scaled(map.as_chunks::<1>().0, [parsing::SIDE; 2], [side; 2], Filter::Bicubic);
    let scaled = scaled.as_flattened();
    let [left, top] = offset(crop, around);
    let (width, height) = (crop.width as usize, crop.height as usize);
    let mut plane = vec![0.0; side * side];
    for y in top.max(side / 2)..(top + height).min(side) {
        let across = y * side + left.min(side)..y * side + (left + width).min(side);
        let from = scaled.get(across.clone()).unwrap_or_default();
        let to = plane.get_mut(across).into_iter().flatten();
        to.zip(from).for_each(|(to, from)| *to = f32::from(*from));
    }
    // Floor of a tenth of the side, made odd; in integers what upstream has in floats.
    let kernel = (around.side / FEATHER / 2 * 2 + 1) as usize;
    let blurred = blurred(&plane, side, kernel);
    let rows = (top..top + height).map(|y| blurred.get(y * side + left..y * side + left + width).unwrap_or_default());
    let alpha = rows.flatten().map(|value| level(*value)).collect();
    Mask { width: crop.width, height: crop.height, alpha }
}

/// Where a box lies in its surroundings.
fn offset(crop: CropBox, around: Surroundings) -> [usize; 2] {
    [crop.x - around.x, crop.y - around.y].map(|offset| usize::try_from(offset).unwrap_or(0))
}

/// Frames of which a mask is the mean, spread over all.
const MASKED: usize = 64;

/// The mean of masks of boxes of any size, each stretched over a square.
pub struct MeanMask {
    side: u32,
    /// Every so many frames one is wanted.
    every: usize,
    sums: Vec<f32>,
    count: u32,
}

impl MeanMask {
    /// A mask of so many pixels a side, of so many frames.
    pub fn new(side: u32, frames: usize) -> Self {
        let every = frames.div_ceil(MASKED).max(1);
        Self { side, every, sums: vec![0.0; side as usize * side as usize], count: 0 }
    }

    /// Whether this frame's mask is one of those that count: as many as tell, and not more.
    pub fn wants(&self, frame: usize) -> bool {
        frame.is_multiple_of(self.every)
    }

    /// Counts another one.
    pub fn add(&mut self, mask: &Mask) {
        if mask.width == 0 || mask.height == 0 {
            return;
        }
        let columns: Vec<_> =
            (0..self.side).map(|at| crate::picture::blend::neighbours(at, self.side, mask.width)).collect();
        let alpha =
            |x: u32, y: u32| f32::from(mask.alpha.get((y * mask.width + x) as usize).copied().unwrap_or_default());
        let mut sums = self.sums.iter_mut();
        for y in 0..self.side {
            let (above, below, down) = crate::picture::blend::neighbours(y, self.side, mask.height);
            for (&(left, right, across), sum) in columns.iter().zip(&mut sums) {
                let line = |y: u32| alpha(left, y) + (alpha(right, y) - alpha(left, y)) * across;
                *sum += line(above) + (line(below) - line(above)) * down;
            }
        }
        self.count += 1;
    }

    /// The mean, and the latent rows, of `rows`, that a decoder has to draw for it. Black if there were none.
    pub fn finish(self, rows: i64) -> (Mask, [i64; 2]) {
        let count = self.count.max(1) as f32;
        let alpha: Vec<u8> = self.sums.iter().map(|sum| level(sum / count)).collect();
        let mask = Mask { width: self.side, height: self.side, alpha };
        let side = i64::from(self.side.max(1));
        // A pixel of the box is mixed of the two that are nearest in the mouth.
        let rows = mask.bounds().map_or([0, rows], |bounds| {
            let (top, bottom) = (i64::from(bounds.top) - 1, i64::from(bounds.bottom) + 1);
            [(top.max(0) * rows) / side, ((bottom * rows + side - 1) / side).min(rows)]
        });
        (mask, rows)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a level")]
fn level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// A square under OpenCV's Gaussian of so many pixels, an odd number, whose deviation follows from that; the edge is a mirror.
fn blurred(plane: &[f32], side: usize, kernel: usize) -> Vec<f32> {
    let reach = kernel / 2;
    let deviation = 0.3 * ((kernel as f64 - 1.0) * 0.5 - 1.0) + 0.8;
    let raw: Vec<f64> =
        (0..kernel).map(|at| (-(at as f64 - reach as f64).powi(2) / (2.0 * deviation * deviation)).exp()).collect();
    let sum: f64 = raw.iter().sum();
    #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let weights: Vec<f32> = raw.iter().map(|weight| (weight / sum) as f32).collect();
    let inside = |at: usize| {
        // Counted from `reach` before the edge on; where the square is smaller than the kernel, its last pixel goes on.
        let at = at.abs_diff(reach);
        if at < side { at } else { (2 * side).saturating_sub(2 + at).min(side.saturating_sub(1)) }
    };
    let mut down = vec![0.0; plane.len()];
    for (y, sums) in down.chunks_exact_mut(side.max(1)).enumerate() {
        for (at, weight) in weights.iter().enumerate() {
            let row = plane.chunks_exact(side.max(1)).nth(inside(y + at)).unwrap_or_default();
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    let mut blurred = Vec::with_capacity(plane.len());
    for row in down.chunks_exact(side.max(1)) {
        let padded: Vec<f32> =
            (0..side + 2 * reach).map(|at| row.get(inside(at)).copied().unwrap_or_default()).collect();
        blurred.extend(
            padded
                .windows(kernel)
                .map(|values| values.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f32>()),
        );
    }
    blurred
}
