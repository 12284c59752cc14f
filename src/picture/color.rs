//! RGB to planar YUV 4:2:0, BT.601 limited range ("studio swing"), as the caps of the publish pipelines say.
//!
//! Coefficients are ITU-R BT.601's in 8-bit fixed point. Chroma is the mean of its four pixels.

use crate::picture::{I420Frame, Region};

/// Converts a whole frame; `width` and `height` are even and `rgb` holds `width * height * 3` bytes.
pub fn rgb_to_i420(rgb: &[u8], width: u32, height: u32) -> I420Frame {
    let size = (width * height) as usize;
    let mut frame = I420Frame { width, height, data: vec![0; size + size / 2] };
    write_region(&mut frame, 0, 0, width, height, rgb);
    frame
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
    fn a_region_converted_alone_equals_that_part_of_the_whole() {
        let rgb: Vec<u8> = (0..16 * 12 * 3).map(|at| (at * 37 % 251) as u8).collect();
        let whole = rgb_to_i420(&rgb, 16, 12);
        let mut patched = whole.clone();
        let part: Vec<u8> = (4..10).flat_map(|row| rgb[(row * 16 + 2) * 3..(row * 16 + 12) * 3].to_vec()).collect();
        write_region(&mut patched, 2, 4, 10, 6, &part);
        assert_eq!(whole, patched);
    }
}
