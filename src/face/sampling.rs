//! Square crops of a picture, turned and scaled for a network, and the way back.
//!
//! In here: geometry and resampling. Not in here: which crop a network is to see (`detector`, `mesh`).

use crate::picture::RgbPicture;

/// Samples along one side of a target pixel, at most: a reduction beyond that skips pixels.
const MOST_SAMPLES: u32 = 16;
/// From so many samples on each is the nearest pixel: the mean of many needs nothing finer.
const MANY_SAMPLES: u32 = 4;

/// A square of a picture, turned about its centre. Coordinates are those of [`super::Mesh`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Crop {
    /// In pixels of the picture.
    pub(super) centre: [f32; 2],
    /// Length of a side, in pixels of the picture.
    pub(super) side: f32,
    /// How far the crop's upper edge is turned from the picture's, in radians, clockwise as seen.
    pub(super) roll: f32,
}

/// What a crop shows beyond the picture's edge.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    Black,
    /// The nearest pixel.
    Edge,
}

/// How bytes become numbers: 0 is `black`, 255 is 1.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) black: f32,
}

impl Crop {
    /// Where a place in the crop, 0 to 1 each way, lies in the picture.
    pub(super) fn place(&self, at: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.roll.sin_cos();
        let [x, y] = at.map(|at| (at - 0.5) * self.side);
        [self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos]
    }

    /// The crop as `[3, size, size]`, averaged where it is reduced; `mirrored` swaps left and right within it.
    pub(super) fn take(
        &self,
        picture: &RgbPicture,
        size: u32,
        levels: Levels,
        beyond: Beyond,
        mirrored: bool,
    ) -> Vec<f32> {
        let plane = size as usize * size as usize;
        let mut planes = vec![0.0_f32; plane * 3];
        let (pixels, _) = picture.rgb.as_chunks::<3>();
        let source = Source { pixels, width: i64::from(picture.width), height: i64::from(picture.height), beyond };
        if source.width == 0 || source.height == 0 {
            return planes;
        }
        let step = self.side / size as f32;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float becomes a bounded integer")]
        let samples = (step.ceil() as u32).clamp(1, MOST_SAMPLES);
        let scale = (1.0 - levels.black) / 255.0 / (samples * samples) as f32;
        let inside = size as f32 * samples as f32;
        let (sin, cos) = self.roll.sin_cos();
        let part = self.side / inside;
        for (row, y) in (0..plane).step_by(size as usize).zip(0..size) {
            for (at, x) in (row..).zip(0..size) {
                let mut sums = [0.0_f32; 3];
                for v in 0..samples {
                    let down = ((y * samples + v) as f32 + 0.5 - inside / 2.0) * part;
                    for u in 0..samples {
                        let across = ((x * samples + u) as f32 + 0.5 - inside / 2.0) * part;
                        let across = if mirrored { -across } else { across };
                        let x = self.centre[0] + across * cos - down * sin;
                        let y = self.centre[1] + across * sin + down * cos;
                        match samples >= MANY_SAMPLES {
                            true => source.add_pixel(integer(x), integer(y), 1.0, &mut sums),
                            false => source.add_between(x - 0.5, y - 0.5, &mut sums),
                        }
                    }
                }
                for (plane_at, sum) in (at..).step_by(plane).zip(sums) {
                    if let Some(value) = planes.get_mut(plane_at) {
                        *value = levels.black + sum * scale;
                    }
                }
            }
        }
        planes
    }
}

/// A picture's colour between its pixels, its edge beyond it.
pub(super) fn colour(picture: &RgbPicture, [x, y]: [f32; 2]) -> [f32; 3] {
    let (pixels, _) = picture.rgb.as_chunks::<3>();
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    let source = Source { pixels, width, height, beyond: Beyond::Edge };
    let mut sums = [0.0; 3];
    if width > 0 && height > 0 {
        source.add_between(x - 0.5, y - 0.5, &mut sums);
    }
    sums
}

struct Source<'a> {
    pixels: &'a [[u8; 3]],
    width: i64,
    height: i64,
    beyond: Beyond,
}

impl Source<'_> {
    /// Adds the picture's colour at a place, measured from the middle of its first pixel.
    #[inline]
    fn add_between(&self, x: f32, y: f32, sums: &mut [f32; 3]) {
        let (left, top) = (integer(x), integer(y));
        let (right_share, lower_share) = (x - left as f32, y - top as f32);
        let shares = [1.0 - right_share, right_share];
        for (row, share) in [(top, 1.0 - lower_share), (top.saturating_add(1), lower_share)] {
            let inside = left >= 0 && row >= 0 && left < self.width - 1 && row < self.height;
            let start = usize::try_from(row * self.width + left).unwrap_or(usize::MAX);
            match self.pixels.get(start..start.saturating_add(2)).filter(|_| inside) {
                Some([a, b]) => {
                    for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                        *sum += share * (shares[0] * f32::from(*a) + shares[1] * f32::from(*b));
                    }
                }
                _ => {
                    self.add_pixel(left, row, share * shares[0], sums);
                    self.add_pixel(left.saturating_add(1), row, share * shares[1], sums);
                }
            }
        }
    }

    /// Adds a share of a pixel.
    #[inline]
    fn add_pixel(&self, column: i64, row: i64, share: f32, sums: &mut [f32; 3]) {
        let outside = column < 0 || row < 0 || column >= self.width || row >= self.height;
        if outside && self.beyond == Beyond::Black {
            return;
        }
        let at = row.clamp(0, self.height - 1) * self.width + column.clamp(0, self.width - 1);
        if let Some(pixel) = usize::try_from(at).ok().and_then(|at| self.pixels.get(at)) {
            sums.iter_mut().zip(pixel).for_each(|(sum, level)| *sum += share * f32::from(*level));
        }
    }
}

/// The integer below, or the nearest that there is, far beyond any picture. `floor` would be a call for each pixel.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "bounded")]
fn integer(value: f32) -> i64 {
    let towards_zero = value.clamp(-1e9, 1e9) as i32;
    let above = towards_zero as f32 > value;
    i64::from(towards_zero) - i64::from(above)
}
