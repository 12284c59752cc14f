//! Pastes a generated crop into one of the avatar's own frames, through the avatar's mask.
//!
//! Only the rectangle under the mask is touched; every other byte of the frame is the avatar's own.

use crate::picture::{AvatarFrame, CropBox, I420Frame, Mask, MouthFrame, Region, color};

/// The avatar's frame with the mouth in it.
pub fn paste(own: &AvatarFrame, mask: &Mask, mouth: &MouthFrame) -> I420Frame {
    let region = &own.region;
    let rgb = paste_rgb(own, mask, mouth);
    let mut frame = own.picture.as_ref().clone();
    color::write_region(&mut frame, region.x, region.y, region.width, region.height, &rgb);
    frame
}

/// The frame's region with the mouth in it, in RGB.
pub fn paste_rgb(own: &AvatarFrame, mask: &Mask, mouth: &MouthFrame) -> Vec<u8> {
    let region = &own.region;
    let mut rgb = region.rgb.clone();
    let crop = own.crop;
    let plain = (mouth.width, mouth.height) == (crop.width, crop.height)
        && (mask.width, mask.height) == (crop.width, crop.height);
    for row in 0..region.height {
        let Some(crop_y) = inside(region.y + row, crop.y, crop.height) else { continue };
        let line = &mut rgb[(row * region.width * 3) as usize..((row + 1) * region.width * 3) as usize];
        for (column, pixel) in (0u32..).zip(line.chunks_exact_mut(3)) {
            let Some(crop_x) = inside(region.x + column, crop.x, crop.width) else { continue };
            let (alpha, source) = if plain {
                let at = (crop_y * crop.width + crop_x) as usize;
                let source = &mouth.rgb[at * 3..at * 3 + 3];
                (mask.alpha[at], [source[0], source[1], source[2]])
            } else {
                scaled(mask, mouth, crop, crop_x, crop_y)
            };
            if alpha > 0 {
                for (own_value, new_value) in pixel.iter_mut().zip(source) {
                    *own_value = mix(new_value, *own_value, alpha);
                }
            }
        }
    }
    rgb
}

/// Where a frame coordinate lies in the crop, if it does.
fn inside(at: u32, origin: i32, length: u32) -> Option<u32> {
    let offset = u32::try_from(i64::from(at) - i64::from(origin)).ok()?;
    (offset < length).then_some(offset)
}

/// `new` over `own`, rounded as PIL's paste does: exact for 0 and 255 (MuseTalk's own way, which is PIL's).
fn mix(new: u8, own: u8, alpha: u8) -> u8 {
    let total = u32::from(new) * u32::from(alpha) + u32::from(own) * (255 - u32::from(alpha)) + 128;
    u8::try_from(((total >> 8) + total) >> 8).unwrap_or(u8::MAX)
}

/// Alpha and colour where the generated crop or the mask is of another size than the box: bilinear with half-pixel
/// centres and no antialiasing, as OpenCV's INTER_LINEAR.
fn scaled(mask: &Mask, mouth: &MouthFrame, crop: CropBox, x: u32, y: u32) -> (u8, [u8; 3]) {
    let alpha = Bilinear::at(x, y, crop, mask.width, mask.height).sample(|index| mask.alpha[index]);
    let colour = Bilinear::at(x, y, crop, mouth.width, mouth.height);
    (alpha, [0, 1, 2].map(|channel| colour.sample(|index| mouth.rgb[index * 3 + channel])))
}

/// Four neighbours and how far between them a sample lies.
struct Bilinear {
    corners: [usize; 4],
    right: f32,
    below: f32,
}

impl Bilinear {
    fn at(x: u32, y: u32, crop: CropBox, width: u32, height: u32) -> Self {
        let (left, next_x, right) = neighbours(x, crop.width, width);
        let (top, next_y, below) = neighbours(y, crop.height, height);
        let index = |x: u32, y: u32| (y * width + x) as usize;
        Self {
            corners: [index(left, top), index(next_x, top), index(left, next_y), index(next_x, next_y)],
            right,
            below,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "a mix of u8 values stays within 0 to 255")]
    #[allow(clippy::cast_sign_loss, reason = "as above")]
    fn sample(&self, value: impl Fn(usize) -> u8) -> u8 {
        let [a, b, c, d] = self.corners.map(|index| f32::from(value(index)));
        let top = a + (b - a) * self.right;
        let bottom = c + (d - c) * self.right;
        (top + (bottom - top) * self.below).round() as u8
    }
}

/// Where a crop lies over a region of a frame.
pub(crate) struct Placing<'a> {
    /// The part of the frame that may change.
    pub region: &'a Region,
    /// Where the crop lies in the same frame.
    pub crop: CropBox,
}

impl Placing<'_> {
    /// How opaque each pixel of the region is: the mask's value where the crop covers it, else 0.
    pub fn alpha(&self, mask: &Mask) -> Vec<u8> {
        let (region, crop) = (self.region, self.crop);
        let value = |at: u32| {
            let (column, row) = (at % region.width, at / region.width);
            let x = inside(region.x + column, crop.x, crop.width)?;
            let y = inside(region.y + row, crop.y, crop.height)?;
            Some(Bilinear::at(x, y, crop, mask.width, mask.height).sample(|index| mask.alpha[index]))
        };
        (0..region.width * region.height).map(|at| value(at).unwrap_or(0)).collect()
    }
}

/// The two source pixels around a destination pixel's centre and the weight of the second.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are at most 4096"
)]
pub(crate) fn neighbours(at: u32, destination: u32, source: u32) -> (u32, u32, f32) {
    let position = ((at as f32 + 0.5) * source as f32 / destination as f32 - 0.5).clamp(0.0, (source - 1) as f32);
    let first = position.floor() as u32;
    (first, (first + 1).min(source - 1), position - first as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_exact_at_both_ends_and_rounds_between() {
        for own in [0u8, 1, 127, 254, 255] {
            for new in [0u8, 3, 128, 255] {
                assert_eq!(mix(new, own, 255), new);
                assert_eq!(mix(new, own, 0), own);
                for alpha in 0..=255u8 {
                    let ideal =
                        (f64::from(new) * f64::from(alpha) + f64::from(own) * (255.0 - f64::from(alpha))) / 255.0;
                    assert!((f64::from(mix(new, own, alpha)) - ideal).abs() <= 0.5 + 1e-9);
                }
            }
        }
    }
}
