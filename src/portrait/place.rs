//! Where a mouth is drawn in each frame, and through which mask it is pasted.
//!
//! In here: a box about the lower face, of one size for all frames of an avatar, and the share by which things may move
//! towards its edge. Not in here: what moves (`field`).

use super::PortraitError;
use super::plate::MouthPlate;
use crate::picture::{CropBox, Mask};

/// Share of a side of the box over which movement ends.
const MARGIN: f32 = 0.14;
/// How far around the mouth things move, in units or shares: to the sides of the jaw, above the mouth, below the chin.
const SIDE: f32 = 1.22;
const ABOVE: f32 = 1.75;
const BELOW: f32 = 44.0;

/// The boxes of an avatar's frames, all of one even size, inside the frame.
pub fn crops(plates: &[MouthPlate], width: u32, height: u32) -> Result<Vec<CropBox>, PortraitError> {
    let bounds: Vec<[f32; 4]> = plates.iter().map(reach).collect();
    let longest = |low: usize, high: usize| bounds.iter().map(|edge| edge[high] - edge[low]).fold(0.0, f32::max);
    let size = (even(longest(0, 2)).min(width & !1).min(4096), even(longest(1, 3)).min(height & !1).min(4096));
    if size.0 < 16 || size.1 < 16 {
        return Err(PortraitError::Mouth(format!("there is no room for a mouth in frames of {width}x{height}")));
    }
    let place = |low: f32, high: f32, length: u32, frame: u32| {
        let start = ((low + high) / 2.0 - length as f32 / 2.0).round().clamp(0.0, (frame - length) as f32);
        whole(start)
    };
    Ok(bounds
        .iter()
        .map(|[left, top, right, bottom]| CropBox {
            x: place(*left, *right, size.0, width),
            y: place(*top, *bottom, size.1, height),
            width: size.0,
            height: size.1,
        })
        .collect())
}

/// What a mouth moves, as left, top, right and bottom in pixels.
fn reach(plate: &MouthPlate) -> [f32; 4] {
    let side = SIDE * plate.side.max(plate.half + 20.0);
    let (top, bottom) = (-(ABOVE * plate.nose + 6.0), plate.chin + BELOW);
    let corners = [[-side, top], [side, top], [-side, bottom], [side, bottom]].map(|corner| plate.to_pixels(corner));
    let edge = |axis: usize, start: f32, choose: fn(f32, f32) -> f32| {
        corners.iter().map(|corner| corner[axis]).fold(start, choose)
    };
    [
        edge(0, f32::INFINITY, f32::min),
        edge(1, f32::INFINITY, f32::min),
        edge(0, f32::NEG_INFINITY, f32::max),
        edge(1, f32::NEG_INFINITY, f32::max),
    ]
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is cut to the frame")]
fn even(length: f32) -> u32 {
    (length.max(0.0).ceil() as u32).saturating_add(1) & !1
}

#[allow(clippy::cast_possible_truncation, reason = "inside a frame")]
fn whole(place: f32) -> i32 {
    place as i32
}

/// How much of its movement a pixel keeps, from its distances to the ends of a row or column of `length` pixels: 0 at the
/// outermost pixel, 1 from the margin on.
pub(super) fn keeps(at: f32, length: f32) -> f32 {
    super::shape::smoothstep(0.0, MARGIN * length, at.min(length - 1.0 - at))
}

/// The mask of all boxes of an avatar: transparent where nothing can move.
pub fn mask(crop: &CropBox) -> Mask {
    let (width, height) = (crop.width as f32, crop.height as f32);
    // The mask may end sooner than the movement does only where there is none: it is opaque well before.
    let opaque = |at: f32, length: f32| (at.min(length - 1.0 - at) / (0.25 * MARGIN * length)).clamp(0.0, 1.0);
    let mut alpha = Vec::with_capacity(crop.width as usize * crop.height as usize);
    for y in 0..crop.height {
        let row = opaque(y as f32, height);
        alpha.extend((0..crop.width).map(|x| level(255.0 * row * opaque(x as f32, width))));
    }
    Mask { width: crop.width, height: crop.height, alpha }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
fn level(value: f32) -> u8 {
    value.round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portrait::plate::tests::plate;

    #[test]
    fn boxes_of_all_frames_have_one_even_size_and_lie_inside_the_frame() {
        let (still, near) = (plate(30.0), MouthPlate { scale: 1.1, origin: [20.0, 150.0], ..plate(30.0) });
        let crops = crops(&[still, near], 200, 160).unwrap();
        for crop in &crops {
            assert_eq!((crop.width % 2, crop.height % 2), (0, 0));
            assert_eq!((crop.width, crop.height), (crops[0].width, crops[0].height));
            assert!(crop.x >= 0 && crop.y >= 0 && crop.x as u32 + crop.width <= 200);
            assert!(crop.y as u32 + crop.height <= 160);
        }
    }

    #[test]
    fn the_mask_is_clear_at_the_edge_and_opaque_where_things_move() {
        let crop = CropBox { x: 0, y: 0, width: 120, height: 80 };
        let mask = mask(&crop);
        let at = |x: usize, y: usize| mask.alpha[y * 120 + x];
        assert!((0..120).all(|x| at(x, 0) == 0 && at(x, 79) == 0));
        assert!((0..80).all(|y| at(0, y) == 0 && at(119, y) == 0));
        assert_eq!(at(60, 40), 255);
        // Where less than a twentieth of the movement is left, the mask may be half clear, but no sooner.
        assert!((0..120).all(|x| at(x, 40) == 255 || keeps(x as f32, 120.0) < 0.16));
    }

    #[test]
    fn a_frame_without_room_is_refused() {
        assert!(crops(&[plate(30.0)], 200, 10).unwrap_err().to_string().contains("200x10"));
    }
}
