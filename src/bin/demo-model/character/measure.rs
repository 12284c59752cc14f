//! How far a mouth stands open, measured from the pixels of a crop alone, drawn or generated.

use super::CROP_SIZE;

/// The mouth's whereabouts in the crop, as an ellipse: centre and radii. Wider than any mouth, clear of hair and neck.
pub const REGION: (f32, f32, f32, f32) = (64.0, 44.0, 46.0, 34.0);

/// Area of the mouth's interior (cavity, teeth, tongue) as a fraction of the crop's area. Takes a crop in RGB; a buffer of another size measures 0.
///
/// Colour decides, softly, so that blur and slight colour errors change the area little: the palette keeps the
/// interior apart from lips and skin in "more blue than green" and in "nearly grey".
pub fn mouth_opening(rgb_crop: &[u8]) -> f32 {
    let side = CROP_SIZE as usize;
    if rgb_crop.len() != side * side * 3 {
        return 0.0;
    }
    let mut area = 0.0;
    let (cx, cy, rx, ry) = REGION;
    for (y, row) in (0_u8..).zip(rgb_crop.chunks_exact(side * 3)) {
        for (x, pixel) in (0_u8..).zip(row.chunks_exact(3)) {
            let (dx, dy) = ((f32::from(x) - cx) / rx, (f32::from(y) - cy) / ry);
            if dx * dx + dy * dy < 1.0 {
                area += interior(f32::from(pixel[0]), f32::from(pixel[1]), f32::from(pixel[2]));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "128 * 128 is exact")]
    let whole = (side * side) as f32;
    area / whole
}

/// How surely a colour belongs to the mouth's interior, 0..=1.
fn interior(r: f32, g: f32, b: f32) -> f32 {
    let purple = (b - g - 2.0) / 6.0;
    let grey = (30.0 - (r - g)) / 8.0;
    let dark = (70.0 - r) / 16.0;
    purple.max(grey).max(dark).clamp(0.0, 1.0)
}
