//! RGB to planar YUV 4:2:0 and back, BT.601 limited range ("studio swing"), as the caps of the publish pipelines say.
//!
//! Coefficients are ITU-R BT.601's in 8-bit fixed point. Chroma is the mean of its four pixels.

use crate::picture::{I420Frame, Region, RgbPicture};

/// Converts a whole frame; `width` and `height` are even and `rgb` holds `width * height * 3` bytes.
pub fn rgb_to_i420(rgb: &[u8], width: u32, height: u32) -> I420Frame {
    let size = (width * height) as usize;
    let mut frame = I420Frame { width, height, data: vec![0; size + size / 2] };
    write_region(&mut frame, 0, 0, width, height, rgb);
    frame
}

/// The way back: colours lie between those of the nearest four chroma samples, each of which is in the middle of its pixels.
pub fn i420_to_rgb(frame: &I420Frame) -> RgbPicture {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let (luma, chroma) = frame.data.split_at_checked(width * height).unwrap_or_default();
    let (blue, red) = chroma.split_at_checked(width * height / 4).unwrap_or_default();
    let (columns, rows) = (width / 2, height / 2);
    // The nearest sample counts three times, the one beyond the pixel once.
    let pair = |at: usize, count: usize| {
        let near = at / 2;
        let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count.saturating_sub(1)) };
        (near, far)
    };
    let across: Vec<(usize, usize)> = (0..width).map(|x| pair(x, columns)).collect();
    let mut rgb = Vec::with_capacity(width * height * 3);
    for (y, line) in luma.chunks_exact(width.max(1)).enumerate() {
        let (near, far) = pair(y, rows);
        let mixed = |plane: &[u8]| -> Vec<i32> {
            let row = |row: usize| plane.get(row * columns..(row + 1) * columns).unwrap_or_default();
            row(near).iter().zip(row(far)).map(|(near, far)| 3 * i32::from(*near) + i32::from(*far)).collect()
        };
        let (u, v) = (mixed(blue), mixed(red));
        for (level, (near, far)) in line.iter().zip(&across) {
            // Sixteen times the sample, around 0.
            let at = |row: &[i32]| {
                let one = |at: usize| row.get(at).copied().unwrap_or(4 * 128);
                3 * one(*near) + one(*far) - 16 * 128
            };
            let (u, v) = (at(&u), at(&v));
            // BT.601's factors in 16 bits, those of chroma divided by the sixteen.
            let bright = (i32::from(*level) - 16) * 76_309 + 32_768;
            rgb.extend(
                [bright + 6_537 * v, bright - 1_605 * u - 3_330 * v, bright + 8_263 * u].map(|sum| to_u8(sum >> 16)),
            );
        }
    }
    RgbPicture { width: frame.width, height: frame.height, rgb }
}

/// Writes a rectangle of RGB into a frame. Its numbers are even, so each chroma sample is made of its own pixels only
/// and a rectangle converted alone equals the same rectangle of a whole frame.
pub(crate) fn write_region(frame: &mut I420Frame, x: u32, y: u32, width: u32, height: u32, rgb: &[u8]) {
    let stride = frame.width as usize;
    let luma_size = stride * frame.height as usize;
    let (luma, chroma) = frame.data.split_at_mut(luma_size);
    let (blue, red) = chroma.split_at_mut(luma_size / 4);
    let (x, y, width, height) = (x as usize, y as usize, width as usize, height as usize);
    for row in 0..height {
        let line = &rgb[row * width * 3..(row + 1) * width * 3];
        let out = &mut luma[(y + row) * stride + x..][..width];
        for (value, pixel) in out.iter_mut().zip(line.chunks_exact(3)) {
            let [r, g, b] = [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2])];
            *value = to_u8(((66 * r + 129 * g + 25 * b + 128) >> 8) + 16);
        }
    }
    for row in 0..height / 2 {
        let upper = &rgb[row * 2 * width * 3..][..width * 3];
        let lower = &rgb[(row * 2 + 1) * width * 3..][..width * 3];
        let start = (y / 2 + row) * (stride / 2) + x / 2;
        let pairs = upper.chunks_exact(6).zip(lower.chunks_exact(6));
        let outs = blue[start..].iter_mut().zip(red[start..].iter_mut());
        for ((above, below), (u, v)) in pairs.zip(outs) {
            let sum = |at: usize| {
                i32::from(above[at]) + i32::from(above[at + 3]) + i32::from(below[at]) + i32::from(below[at + 3])
            };
            let (r, g, b) = (sum(0), sum(1), sum(2));
            // Sums of four pixels, hence two bits more to shift and to round.
            *u = to_u8(((-38 * r - 74 * g + 112 * b + 512) >> 10) + 128);
            *v = to_u8(((112 * r - 94 * g - 18 * b + 512) >> 10) + 128);
        }
    }
}

/// Writes the finished planes of a region, Y, U and V one after the other, into a frame. What is too short is left out.
pub(crate) fn write_planes(frame: &mut I420Frame, region: &Region, planes: &[u8]) {
    let stride = frame.width as usize;
    let luma_size = stride * frame.height as usize;
    let (x, y) = (region.x as usize, region.y as usize);
    let (width, height) = (region.width as usize, region.height as usize);
    let mut lines = planes;
    let mut copy = |start: usize, stride: usize, width: usize, height: usize| {
        for row in 0..height {
            let Some((line, rest)) = lines.split_at_checked(width) else { return };
            lines = rest;
            if let Some(out) = frame.data.get_mut(start + row * stride..start + row * stride + width) {
                out.copy_from_slice(line);
            }
        }
    };
    copy(y * stride + x, stride, width, height);
    for plane in [luma_size, luma_size + luma_size / 4] {
        copy(plane + y / 2 * (stride / 2) + x / 2, stride / 2, width / 2, height / 2);
    }
}

fn to_u8(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(rgb: [u8; 3]) -> (u8, u8, u8) {
        let frame = rgb_to_i420(&rgb.repeat(4), 2, 2);
        (frame.data[0], frame.data[4], frame.data[5])
    }

    #[test]
    fn colours_come_back_as_they_were_but_for_rounding() {
        let colours = [[0, 0, 0], [255, 255, 255], [200, 30, 40], [20, 180, 60], [30, 60, 220], [128, 128, 128]];
        for colour in colours {
            let back = i420_to_rgb(&rgb_to_i420(&colour.repeat(4), 2, 2));
            let off = back.rgb.iter().zip(colour.repeat(4)).map(|(is, was)| is.abs_diff(was)).max();
            assert!(off <= Some(3), "{colour:?}: {:?}", back.rgb);
        }
    }

    #[test]
    fn black_white_and_primaries_are_those_of_bt601_limited_range() {
        assert_eq!(plain([0, 0, 0]), (16, 128, 128));
        assert_eq!(plain([255, 255, 255]), (235, 128, 128));
        for (rgb, expected) in
            [([255, 0, 0], (82, 90, 240)), ([0, 255, 0], (145, 54, 34)), ([0, 0, 255], (41, 240, 110))]
        {
            let got = plain(rgb);
            let near = |a: u8, b: u8| a.abs_diff(b) <= 1;
            assert!(near(got.0, expected.0) && near(got.1, expected.1) && near(got.2, expected.2), "{rgb:?}: {got:?}");
        }
    }

    #[test]
    fn a_frame_becomes_the_picture_again_that_it_was_made_of() {
        // Slopes, as chroma has half the resolution.
        let pixels = (0..64 * 48).map(|at| (at % 64, at / 64));
        let rgb: Vec<u8> =
            pixels.flat_map(|(x, y)| [30 + x * 3, 200 - y * 3, 40 + x + 2 * y].map(|level| level as u8)).collect();
        let back = i420_to_rgb(&rgb_to_i420(&rgb, 64, 48));
        let farthest = back.rgb.iter().zip(&rgb).map(|(back, own)| back.abs_diff(*own)).max().unwrap();
        assert!(farthest <= 4, "{farthest} levels off");
        let plain = i420_to_rgb(&rgb_to_i420(&[[255, 0, 0]; 4].concat(), 2, 2));
        assert!(plain.rgb.chunks(3).all(|rgb| rgb[0] >= 252 && rgb[1] <= 3 && rgb[2] <= 3), "{plain:?}");
    }

    #[test]
    fn a_region_converted_alone_equals_that_part_of_the_whole() {
        let rgb: Vec<u8> = (0..16 * 12 * 3).map(|at| (at * 37 % 251) as u8).collect();
        let whole = rgb_to_i420(&rgb, 16, 12);
        let mut patched = whole.clone();
        let part: Vec<u8> = (4..10).flat_map(|row| rgb[(row * 16 + 2) * 3..(row * 16 + 12) * 3].to_vec()).collect();
        write_region(&mut patched, 2, 4, 10, 6, &part);
        assert_eq!(whole, patched);
    }
}
