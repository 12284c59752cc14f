//! Colours for what is transparent: those of what is opaque go on behind its edge, ever smoother.
//!
//! In here: pull and push over a pyramid (Gortler et al., "The Lumigraph", 1996, 3.4): each level has the mean of what is known
//! of the finer one, and fills what is not known there. Not in here: which pixels are known, which whoever asks says.

use super::RgbPicture;

/// A level of the pyramid: red, green and blue times how well they are known, and that, 0 to 1.
struct Level {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 4]>,
}

impl Level {
    fn at(&self, x: usize, y: usize) -> [f32; 4] {
        self.pixels.get(y * self.width + x).copied().unwrap_or_default()
    }

    /// Half as large. What is known of any of four pixels is known of all.
    fn halved(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let mut sum = [0.0; 4];
                for (column, row) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let (x, y) = (x * 2 + column, y * 2 + row);
                    if x < self.width && y < self.height {
                        let pixel = self.at(x, y);
                        sum = std::array::from_fn(|at| sum[at] + pixel[at]);
                    }
                }
                let scale = if sum[3] > 1.0 { 1.0 / sum[3] } else { 1.0 };
                pixels.push(sum.map(|value| value * scale));
            }
        }
        Self { width, height, pixels }
    }

    /// What is not known comes from the level above, whose pixels are all known by now.
    fn filled_by(&mut self, above: &Self) {
        let near = |at: usize, count: usize| {
            let near = at / 2;
            let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count - 1) };
            [near, far]
        };
        for y in 0..self.height {
            let rows = near(y, above.height);
            for x in 0..self.width {
                let Some(pixel) = self.pixels.get_mut(y * self.width + x) else { continue };
                let missing = 1.0 - pixel[3];
                if missing <= 0.0 {
                    continue;
                }
                let columns = near(x, above.width);
                let mut sum = [0.0; 4];
                for (row, down) in rows.into_iter().zip([0.75, 0.25]) {
                    for (column, across) in columns.into_iter().zip([0.75, 0.25]) {
                        let other = above.at(column, row);
                        sum = std::array::from_fn(|at| sum[at] + down * across * other[at]);
                    }
                }
                *pixel = std::array::from_fn(|at| pixel[at] + missing * sum[at]);
            }
        }
    }
}

/// The picture with the colours of pixels that are not known, or not well, made of those around them. `known` says of each
/// pixel how well it is, 0 to 1; one that is known stays to the bit. A picture of which nothing is known becomes grey.
pub fn extended(picture: &RgbPicture, known: &[f32]) -> RgbPicture {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let pixels = picture.rgb.as_chunks::<3>().0;
    let weighed = |([red, green, blue], known): (&[u8; 3], &f32)| {
        let known = known.clamp(0.0, 1.0);
        [f32::from(*red) * known, f32::from(*green) * known, f32::from(*blue) * known, known]
    };
    let mut levels = vec![Level { width, height, pixels: pixels.iter().zip(known).map(weighed).collect() }];
    while let Some(last) = levels.last().filter(|last| last.width > 1 || last.height > 1) {
        levels.push(last.halved());
    }
    let Some(mut above) = levels.pop() else { return picture.clone() };
    for pixel in &mut above.pixels {
        *pixel = if pixel[3] > 0.0 { pixel.map(|value| value / pixel[3]) } else { [128.0, 128.0, 128.0, 1.0] };
    }
    while let Some(mut level) = levels.pop() {
        level.filled_by(&above);
        above = level;
    }
    let rgb = above.pixels.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue].map(level)).collect();
    RgbPicture { width: picture.width, height: picture.height, rgb }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn level(value: f32) -> u8 {
    value.round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_and_the_rest_takes_the_nearest_colours() {
        let (width, height) = (50, 30);
        let colour = |x: u32| {
            if x < 10 {
                [200, 40, 30]
            } else if x >= 40 {
                [20, 60, 220]
            } else {
                [0, 255, 0]
            }
        };
        let rgb: Vec<u8> = (0..width * height).flat_map(|at| colour(at % width)).collect();
        let known: Vec<f32> =
            (0..width * height).map(|at| if (10..40).contains(&(at % width)) { 0.0 } else { 1.0 }).collect();
        let picture = RgbPicture { width, height, rgb };
        let full = extended(&picture, &known);
        let at = |x: usize| &full.rgb[(15 * 50 + x) * 3..][..3];
        assert_eq!((at(9), at(40)), (&[200, 40, 30][..], &[20, 60, 220][..]));
        // Nothing of the green that is not known.
        assert!(full.rgb.chunks(3).all(|pixel| pixel[1] <= 60), "{:?}", at(25));
        assert!(at(11)[0] > 150 && at(38)[2] > 150, "{:?} {:?}", at(11), at(38));
    }

    #[test]
    fn a_picture_of_which_nothing_is_known_is_grey() {
        let picture = RgbPicture { width: 3, height: 5, rgb: vec![7; 45] };
        assert!(extended(&picture, &[0.0; 15]).rgb.iter().all(|level| *level == 128));
        assert_eq!(extended(&picture, &[1.0; 15]), picture);
    }
}
