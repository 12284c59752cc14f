//! A still at a pose: turn, lids and gaze become one map, and each pixel that it moves is sampled once.
//!
//! In here: which pixels those are. Cells that stand still are not touched, so their pixels are the base's own; in cells
//! with an eye the place of each pixel is found by itself, in all others between the corners.

use wide::i16x8;

use crate::picture::I420Frame;

use super::eyes::{EyeMap, Second};
use super::field::{Corners, Map};
use super::sampling::{Displacements, LANES, Plane, STEPS, Samples};
use super::{HeadPose, Still};

/// An eye that moves, and the cells that it may touch: columns and rows, in pixels.
struct MovingEye<'a> {
    map: EyeMap<'a>,
    bounds: [f32; 4],
}

/// What else is seen in eight pixels beside each other: how much of each it is, where it comes from, what is added to it.
struct Over {
    parts: [f32; LANES],
    by: Displacements,
    tints: [[f32; 3]; LANES],
}

/// A plane of the picture, and of which size its pixels are.
struct Drawing<'a> {
    map: &'a Map,
    eyes: &'a [MovingEye<'a>],
    /// Pixels of the picture to one of the plane.
    each: usize,
    width: usize,
    height: usize,
}

/// Draws over `frame`, a copy of `base`, which is of the still's size.
pub(super) fn draw(still: &Still, base: &I420Frame, pose: &HeadPose, frame: &mut I420Frame) {
    let map = still.field.map(pose, &still.head);
    let eyes: Vec<MovingEye<'_>> =
        still.eyes.iter().filter_map(|eye| Some(MovingEye { map: eye.at(pose)?, bounds: eye.bounds() })).collect();
    let (width, height) = (base.width as usize, base.height as usize);
    let luma = width * height;
    let Some((from_luma, from_chroma)) = base.data.split_at_checked(luma) else { return };
    let Some((to_luma, to_chroma)) = frame.data.split_at_mut_checked(luma) else { return };
    let drawing = Drawing { map: &map, eyes: &eyes, each: 1, width, height };
    drawing.planes([from_luma], [to_luma]);
    let Some((from_u, from_v)) = from_chroma.split_at_checked(luma / 4) else { return };
    let Some((to_u, to_v)) = to_chroma.split_at_mut_checked(luma / 4) else { return };
    let drawing = Drawing { each: 2, width: width / 2, height: height / 2, ..drawing };
    drawing.planes([from_u, from_v], [to_u, to_v]);
}

/// Draws over `drawn`, a copy of `matte`, both of one byte for each of the still's pixels. Eyes move within what is opaque.
pub(super) fn draw_matte(still: &Still, matte: &[u8], pose: &HeadPose, drawn: &mut [u8]) {
    let map = still.field.map(pose, &still.head);
    let (width, height) = (still.base.width as usize, still.base.height as usize);
    let drawing = Drawing { map: &map, eyes: &[], each: 1, width, height };
    drawing.planes([matte], [drawn]);
}

impl Drawing<'_> {
    fn planes<const N: usize>(&self, from: [&[u8]; N], mut to: [&mut [u8]; N]) {
        let from = from.map(|levels| Plane { width: self.width, height: self.height, levels });
        for row in 0..self.height.div_ceil(LANES) {
            for column in 0..self.width.div_ceil(LANES) {
                let corners = self.map.cell(column, row, self.each);
                let eye = self.eye_in(column, row, &corners);
                if eye.is_none() && corners.stands_still() {
                    continue;
                }
                let (x, top) = (column * LANES, row * LANES);
                for y in top..(top + LANES).min(self.height) {
                    let mut by = corners.row(y - top);
                    let second = eye.and_then(|eye| self.through(eye, [x, y], &mut by));
                    let second = second.map(|over| (Samples::new(x, y, over.by), over));
                    let samples = Samples::new(x, y, by);
                    for (plane, (from, to)) in from.iter().zip(&mut to).enumerate() {
                        let mut levels = samples.of(from);
                        if let Some((samples, Over { parts, tints, .. })) = &second {
                            let over = samples.of(from);
                            for lane in 0..LANES {
                                // Planes are drawn in the order of a frame, chroma by itself.
                                let tint = tints[lane][plane + self.each - 1];
                                levels[lane] = blend(levels[lane], f32::from(over[lane]) + tint, parts[lane]);
                            }
                        }
                        let count = LANES.min(self.width - x);
                        let start = y * self.width + x;
                        if let Some(to) = to.get_mut(start..start + count) {
                            to.copy_from_slice(&levels[..count]);
                        }
                    }
                }
            }
        }
    }

    /// The eye that a cell may show a part of.
    fn eye_in(&self, column: usize, row: usize, corners: &Corners) -> Option<&MovingEye<'_>> {
        let side = (LANES * self.each) as f32;
        let [x, y] = [column as f32 * side, row as f32 * side];
        let [low, high] = corners.reach().map(|by| by.map(|by| by * self.each as f32));
        self.eyes.iter().find(|eye| {
            let [left, top, right, bottom] = eye.bounds;
            x + high[0] + side >= left && x + low[0] <= right && y + high[1] + side >= top && y + low[1] <= bottom
        })
    }

    /// Sends what the eye moves on to where it comes from. What is given back is what else is seen in these pixels.
    fn through(&self, eye: &MovingEye<'_>, [x, y]: [usize; 2], by: &mut Displacements) -> Option<Over> {
        let each = self.each as f32;
        let turned = [by.x.to_array(), by.y.to_array()];
        let (mut parts, mut tints) = ([0.0; LANES], [[0.0; 3]; LANES]);
        let mut lids = turned;
        let mut over = turned;
        let mut found = false;
        for lane in 0..LANES {
            let turned = turned.map(|by| f32::from(by[lane]) / STEPS as f32);
            // The middle of a pixel of chroma is where four of luma meet.
            let place = [(x + lane) as f32 + turned[0], y as f32 + turned[1]].map(|at| (at + 0.5) * each);
            let source = eye.map.source(place);
            for axis in 0..2 {
                lids[axis][lane] = steps(turned[axis] + source.by[axis] / each);
            }
            if let Some(Second { part, by, tint }) = source.second {
                found = true;
                (parts[lane], tints[lane]) = (part, tint);
                for axis in 0..2 {
                    over[axis][lane] = steps(turned[axis] + by[axis] / each);
                }
            }
        }
        let of = |[x, y]: [[i16; LANES]; 2]| Displacements { x: i16x8::new(x), y: i16x8::new(y) };
        *by = of(lids);
        found.then(|| Over { parts, by: of(over), tints })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the cast saturates")]
fn steps(pixels: f32) -> i16 {
    (pixels * STEPS as f32).round() as i16
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn blend(one: u8, other: f32, part: f32) -> u8 {
    (f32::from(one) + (other - f32::from(one)) * part).round() as u8
}
