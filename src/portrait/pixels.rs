//! Looks up colours of a picture between its pixels, on the CPU.
//!
//! In here: bilinear samples, brightness and redness. Not in here: tensors (`field`).

use crate::picture::RgbPicture;

/// A picture to sample.
pub(super) struct Pixels<'a> {
    picture: &'a RgbPicture,
}

impl<'a> Pixels<'a> {
    pub(super) fn new(picture: &'a RgbPicture) -> Self {
        Self { picture }
    }

    /// Whether a place lies in the picture.
    pub(super) fn contains(&self, [x, y]: [f32; 2]) -> bool {
        (0.0..self.picture.width as f32).contains(&x) && (0.0..self.picture.height as f32).contains(&y)
    }

    /// The colour at a place, 0 to 255; beyond the edge that of the edge.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the picture's pixels")]
    pub(super) fn at(&self, [x, y]: [f32; 2]) -> [f32; 3] {
        let (right, bottom) = (self.picture.width.saturating_sub(1), self.picture.height.saturating_sub(1));
        let (x, y) = ((x - 0.5).clamp(0.0, right as f32), (y - 0.5).clamp(0.0, bottom as f32));
        let (left, top) = (x as u32, y as u32);
        let (fx, fy) = (x - left as f32, y - top as f32);
        let pixel = |x: u32, y: u32| {
            let start = (y.min(bottom) as usize * self.picture.width as usize + x.min(right) as usize) * 3;
            let pixel = self.picture.rgb.get(start..start + 3).and_then(|pixel| pixel.first_chunk::<3>());
            pixel.copied().unwrap_or_default().map(f32::from)
        };
        let (a, b) = (pixel(left, top), pixel(left + 1, top));
        let (c, d) = (pixel(left, top + 1), pixel(left + 1, top + 1));
        std::array::from_fn(|channel| {
            let upper = a[channel] + fx * (b[channel] - a[channel]);
            let lower = c[channel] + fx * (d[channel] - c[channel]);
            upper + fy * (lower - upper)
        })
    }
}

/// Brightness of a colour, 0 to 255 (BT.601).
pub(super) fn brightness([red, green, blue]: [f32; 3]) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// How red a colour is, whatever its brightness: about .05 for skin and .15 for lips.
pub(super) fn redness([red, green, blue]: [f32; 3]) -> f32 {
    (red - green) / (red + green + blue + 30.0)
}
