//! How a photo is framed: a head in a wide scene is taken out of it, so that it fills a picture of the size that is asked for.
//!
//! Pure.

use crate::face::FaceBox;
use crate::picture::RgbPicture;

/// A face that is higher than this share of the picture is left as it is framed.
const LARGE_ENOUGH: f32 = 0.28;
/// What a face gets of the height where it is framed anew.
const OF_HEIGHT: f32 = 0.34;
/// A frame is not made smaller than so many pixels of a photo.
const LEAST_HEIGHT: f32 = 480.0;
/// Where the middle of the face is then, from the top.
const FROM_TOP: f32 = 0.44;
/// The widest and the narrowest that a frame becomes, width by height.
const WIDEST: f32 = 4.0 / 3.0;
const NARROWEST: f32 = 3.0 / 4.0;

/// A part of a picture; even, inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// Which part of a picture of this size shows the head and shoulders of a face; `None` if all of it does.
pub(super) fn head_and_shoulders((width, height): (u32, u32), face: &FaceBox) -> Option<Part> {
    let (whole_width, whole_height) = (width as f32, height as f32);
    if face.height > LARGE_ENOUGH * whole_height {
        return None;
    }
    let part_height = (face.height / OF_HEIGHT).max(LEAST_HEIGHT).min(whole_height);
    let part_width = (part_height * (whole_width / whole_height).clamp(NARROWEST, WIDEST)).min(whole_width);
    let [x, y] = face.centre();
    let left = (x - part_width / 2.0).clamp(0.0, whole_width - part_width);
    let top = (y - FROM_TOP * part_height).clamp(0.0, whole_height - part_height);
    Some(Part { x: even(left), y: even(top), width: even(part_width).max(2), height: even(part_height).max(2) })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "inside a picture")]
fn even(length: f32) -> u32 {
    (length.max(0.0) as u32) & !1
}

/// That part alone.
pub(super) fn cut(picture: &RgbPicture, part: Part) -> RgbPicture {
    let columns = part.x as usize * 3..(part.x + part.width) as usize * 3;
    let rows = picture.rgb.chunks_exact(picture.width as usize * 3).skip(part.y as usize).take(part.height as usize);
    let rgb = rows.flat_map(|row| row.get(columns.clone()).unwrap_or_default()).copied().collect();
    RgbPicture { width: part.width, height: part.height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn face(x: f32, y: f32, side: f32) -> FaceBox {
        FaceBox { x, y, width: side, height: side }
    }

    #[test]
    fn a_portrait_stays_as_it_is_and_a_head_in_a_scene_is_framed() {
        assert_eq!(head_and_shoulders((512, 512), &face(150.0, 100.0, 200.0)), None);
        let part = head_and_shoulders((4000, 3000), &face(2000.0, 1000.0, 300.0)).unwrap();
        assert_eq!((part.height, part.width), (882, 1176));
        let middle = (part.x + part.width / 2, part.y + part.height * 44 / 100);
        assert!(middle.0.abs_diff(2150) < 4 && middle.1.abs_diff(1150) < 4, "{part:?}");
    }

    #[test]
    fn a_frame_never_leaves_the_picture() {
        for (x, y) in [(0.0, 0.0), (1900.0, 1060.0), (-40.0, 500.0)] {
            let part = head_and_shoulders((1920, 1080), &face(x, y, 100.0)).unwrap();
            assert!(part.x + part.width <= 1920 && part.y + part.height <= 1080, "{part:?}");
        }
    }

    #[test]
    fn a_part_has_its_own_pixels() {
        let rgb = (0..4 * 4 * 3).map(|at| u8::try_from(at).unwrap()).collect();
        let picture = RgbPicture { width: 4, height: 4, rgb };
        let part = cut(&picture, Part { x: 2, y: 2, width: 2, height: 2 });
        assert_eq!(part.rgb, [30, 31, 32, 33, 34, 35, 42, 43, 44, 45, 46, 47]);
    }
}
