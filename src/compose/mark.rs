//! A mark in a frame with a fresh mouth, for whoever measures when speech is seen. Off unless a server is asked for it.
//!
//! White beside black in the top left corner. Both halves are many times what an encoder blurs, and whoever reads it
//! compares one with the other, so it does not matter what the avatar shows there.

use crate::picture::I420Frame;

/// Each half is a square of this many pixels; even, so that it covers whole chroma samples.
const HALF: usize = 32;
const WHITE: u8 = 235;
const BLACK: u8 = 16;
const GREY: u8 = 128;

/// Draws the mark; of a frame that is smaller than it, what there is room for.
pub fn draw(frame: &mut I420Frame) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let (luma, chroma) = frame.data.split_at_mut(width * height);
    for row in luma.chunks_exact_mut(width).take(HALF) {
        for (pixels, value) in row.chunks_mut(HALF).zip([WHITE, BLACK]) {
            pixels.fill(value);
        }
    }
    for plane in chroma.chunks_exact_mut(width / 2 * (height / 2)) {
        for row in plane.chunks_exact_mut(width / 2).take(HALF / 2) {
            row.iter_mut().take(HALF).for_each(|value| *value = GREY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(width: u32, height: u32) -> I420Frame {
        let mut frame = I420Frame { width, height, data: vec![77; (width * height * 3 / 2) as usize] };
        draw(&mut frame);
        frame
    }

    #[test]
    fn the_mark_is_white_beside_black_and_everything_else_stays() {
        let frame = marked(128, 64);
        for (at, value) in frame.data[..128 * 64].iter().enumerate() {
            let expected = match (at % 128, at / 128) {
                (0..32, 0..32) => WHITE,
                (32..64, 0..32) => BLACK,
                _ => 77,
            };
            assert_eq!(*value, expected, "luma {at}");
        }
        for (at, value) in frame.data[128 * 64..].iter().enumerate() {
            let (x, y) = (at % 64, at / 64 % 32);
            assert_eq!(*value, if x < 32 && y < 16 { GREY } else { 77 }, "chroma {at}");
        }
    }

    #[test]
    fn a_frame_smaller_than_the_mark_is_filled() {
        assert!(marked(16, 16).data.iter().all(|value| *value != 77));
    }
}
