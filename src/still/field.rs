//! How the parts of a picture go with the head: how deep each lies, how much it follows, how far a breath lifts it; and the
//! map of a pose, in cells of eight pixels.
//!
//! In here: the turn. Not in here: lids and eyes (`eyes`), which are too small for cells.
//!
//! The head turns in space around a point in the neck. Whatever lies beside it follows less and less, down to the
//! shoulders, the background and the picture's edge, which stand still, so nothing is ever uncovered and nothing tears.

use wide::i16x8;

use crate::face::{Mesh, parts, topology};

use super::HeadPose;
use super::frame::{HeadFrame, smooth};
use super::sampling::{Displacements, LANES, STEPS};

/// Pixels of a cell's side.
const CELL: usize = LANES;
/// The most that a pixel is moved, in pixels: half of what 16 bits hold.
const MOST: f32 = 120.0;
/// How deep the axis is that the head turns around, and how far below the middle of the face, in face widths.
const PIVOT: [f32; 2] = [0.45, 0.55];
/// How deep the outermost hair is, in face widths.
const BACK: f32 = 0.4;

/// What a place of the picture has to do with the head.
#[derive(Clone, Copy, Default)]
struct Part {
    /// How much it follows, 0 to 1.
    follows: f32,
    /// How deep it is, in pixels; smaller is nearer.
    depth: f32,
    /// How much a breath lifts it, 0 to 1.
    lifted: f32,
}

/// The picture's parts at the corners of its cells.
#[derive(Debug)]
pub(super) struct Field {
    columns: usize,
    rows: usize,
    parts: Vec<Part>,
}

/// Where each corner of the cells is sampled, relative to itself, in [`STEPS`] of a pixel.
pub(super) struct Map {
    columns: usize,
    by: Vec<[i16; 2]>,
}

/// The turn of a pose: a matrix around a pivot, then a shift; a breath.
struct Turn {
    pivot: [f32; 3],
    /// Less the identity; what a place moves by, given its distance from the pivot.
    matrix: [[f32; 3]; 2],
    shift: [f32; 2],
    lift: [f32; 2],
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.follows, self.depth, self.lifted)
    }
}

impl Field {
    pub(super) fn new(width: u32, height: u32, mesh: &Mesh, head: &HeadFrame) -> Self {
        // Chroma has half the pixels in cells of its own, of every other corner.
        let corners = |side: u32| 2 * (side as usize).div_ceil(2 * CELL) + 1;
        let (columns, rows) = (corners(width), corners(height));
        let depths = Depths::new(columns, rows, mesh, head);
        let size = [width as f32, height as f32];
        let parts = (0..rows * columns).map(|at| {
            let place = [(at % columns * CELL) as f32, (at / columns * CELL) as f32];
            let [u, v] = head.to_head(place).map(|distance| distance / head.width);
            let edge = |at: f32, side: f32| smooth(0.0, 0.25 * head.width, at.min(side - 1.0 - at));
            let edges = edge(place[0], size[0]) * edge(place[1], size[1]);
            let around = 1.0 - smooth(1.0, 1.75, (u / 0.8).hypot(v));
            let neck = 1.0 - smooth(0.5, 1.15, v);
            let chest = smooth(0.5, 1.15, v) * (1.0 - smooth(1.1, 2.0, u.abs()));
            let follows = edges * around * neck;
            Part { follows, depth: depths.levels[at], lifted: 0.5 * follows + edges * chest }
        });
        Self { columns, rows, parts: parts.collect() }
    }

    /// The map of a pose without its lids and eyes.
    pub(super) fn map(&self, pose: &HeadPose, head: &HeadFrame) -> Map {
        let turn = Turn::new(pose, head);
        let corners = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (column, row)));
        let by = corners.zip(&self.parts).map(|((column, row), part)| {
            if part.follows == 0.0 && part.lifted == 0.0 {
                return [0; 2];
            }
            let place = [(column * CELL) as f32, (row * CELL) as f32];
            // The part that comes to lie here is not the one that is here: once more from where it comes from.
            let [x, y] = turn.moves(place, *part);
            let source = [place[0] - x, place[1] - y];
            turn.moves(source, self.part(source)).map(|by| steps(-by))
        });
        Map { columns: self.columns, by: by.collect() }
    }

    /// Between corners.
    fn part(&self, [x, y]: [f32; 2]) -> Part {
        let (column, right) = cell(x, self.columns);
        let (row, below) = cell(y, self.rows);
        let at = row * self.columns + column;
        let corner = |at: usize| self.parts.get(at).copied().unwrap_or_default();
        let mix = |one: Part, other: Part, part: f32| Part {
            follows: one.follows + (other.follows - one.follows) * part,
            depth: one.depth + (other.depth - one.depth) * part,
            lifted: one.lifted + (other.lifted - one.lifted) * part,
        };
        let above = mix(corner(at), corner(at + 1), right);
        mix(above, mix(corner(at + self.columns), corner(at + self.columns + 1), right), below)
    }
}

/// The cell that a place is in, and how far into it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the cells that there are")]
fn cell(at: f32, corners: usize) -> (usize, f32) {
    let at = (at / CELL as f32).clamp(0.0, (corners - 1) as f32 - 0.001);
    (at as usize, at.fract())
}

#[allow(clippy::cast_possible_truncation, reason = "clamped to what fits")]
fn steps(pixels: f32) -> i16 {
    (pixels.clamp(-MOST, MOST) * STEPS as f32).round() as i16
}

impl Turn {
    fn new(pose: &HeadPose, head: &HeadFrame) -> Self {
        let [(sy, cy), (sp, cp), (sr, cr)] =
            [pose.yaw, pose.pitch, pose.roll].map(|degrees| degrees.to_radians().sin_cos());
        // Seen along z, nearer is smaller: to the right and down with what is near.
        let yawed = [[cy, 0.0, -sy], [0.0, 1.0, 0.0], [sy, 0.0, cy]];
        let pitched = [yawed[0], [0, 1, 2].map(|k| cp * yawed[1][k] - sp * yawed[2][k])];
        let rolled = [
            [0, 1, 2].map(|k| cr * pitched[0][k] - sr * pitched[1][k]),
            [0, 1, 2].map(|k| sr * pitched[0][k] + cr * pitched[1][k]),
        ];
        let size = 1.0 + pose.scale;
        let mut matrix = rolled.map(|row| row.map(|value| value * size));
        matrix[0][0] -= 1.0;
        matrix[1][1] -= 1.0;
        let [x, y] = head.to_picture([0.0, PIVOT[1] * head.width]);
        Self {
            pivot: [x, y, PIVOT[0] * head.width],
            matrix,
            shift: pose.shift.map(|shift| shift * head.width),
            lift: [0.0, -pose.breath * head.width],
        }
    }

    fn moves(&self, [x, y]: [f32; 2], part: Part) -> [f32; 2] {
        let arm = [x - self.pivot[0], y - self.pivot[1], part.depth - self.pivot[2]];
        std::array::from_fn(|axis| {
            let [a, b, c] = self.matrix[axis];
            part.follows * (a * arm[0] + b * arm[1] + c * arm[2] + self.shift[axis]) + part.lifted * self.lift[axis]
        })
    }
}

impl Map {
    /// The cells of one plane's size that move, each with its four corners: upper left and right, lower left and right.
    /// `each` is 1 for luma and 2 for chroma, whose pixels are twice as large.
    pub(super) fn cell(&self, column: usize, row: usize, each: usize) -> Corners {
        let at = row * each * self.columns + column * each;
        let corner = |at: usize| self.by.get(at).copied().unwrap_or_default().map(|by| i32::from(by) >> (each - 1));
        Corners([
            corner(at),
            corner(at + each),
            corner(at + each * self.columns),
            corner(at + each * self.columns + each),
        ])
    }
}

/// Where the corners of a cell are sampled, in [`STEPS`] of a pixel.
pub(super) struct Corners([[i32; 2]; 4]);

impl Corners {
    /// The least and the most that it is moved by, in pixels.
    pub(super) fn reach(&self) -> [[f32; 2]; 2] {
        let of = |axis: usize, choose: fn(f32, f32) -> f32| {
            self.0.iter().map(|by| by[axis] as f32 / STEPS as f32).reduce(choose).unwrap_or_default()
        };
        [[of(0, f32::min), of(1, f32::min)], [of(0, f32::max), of(1, f32::max)]]
    }

    pub(super) fn stands_still(&self) -> bool {
        self.0 == [[0; 2]; 4]
    }

    /// Where the pixels of a row of the cell are sampled.
    #[allow(clippy::cast_possible_truncation, reason = "rows of a cell")]
    pub(super) fn row(&self, row: usize) -> Displacements {
        let [above_left, above_right, below_left, below_right] = self.0;
        let below = row as i32;
        let [x, y] = [0, 1].map(|axis| {
            // In 1/8 of a step.
            let left = above_left[axis] * 8 + (below_left[axis] - above_left[axis]) * below;
            let right = above_right[axis] * 8 + (below_right[axis] - above_right[axis]) * below;
            let across = i16x8::splat(short(right - left)).mul_keep_high(EIGHTHS);
            i16x8::splat(short((left + 4) >> 3)) + across
        });
        Displacements { x, y }
    }
}

#[cfg(test)]
impl Map {
    /// Where a place is sampled, relative to itself, in pixels.
    pub(super) fn at(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (x, y) = (x as usize, y as usize);
        let row = self.cell(x / CELL, y / CELL, 1).row(y % CELL);
        [row.x, row.y].map(|by| f32::from(by.to_array()[x % CELL]) / STEPS as f32)
    }
}

#[cfg(test)]
impl Corners {
    /// How far apart neighbours are sampled: along a row, and along a column.
    pub(super) fn stretch(&self) -> [f32; 2] {
        let [left, right, below, _] = self.0;
        let side = (CELL as i32 * STEPS) as f32;
        [1.0 + (right[0] - left[0]) as f32 / side, 1.0 + (below[1] - left[1]) as f32 / side]
    }
}

/// The lanes' places in a cell, as parts of 65536 * 8.
const EIGHTHS: i16x8 = i16x8::new([0, 1024, 2048, 3072, 4096, 5120, 6144, 7168]);

fn short(value: i32) -> i16 {
    i16::try_from(value).unwrap_or(if value < 0 { i16::MIN } else { i16::MAX })
}

/// How deep everything is, in pixels, at the corners of cells.
struct Depths {
    levels: Vec<f32>,
}

impl Depths {
    fn new(columns: usize, rows: usize, mesh: &Mesh, head: &HeadFrame) -> Self {
        let place = |at: usize| [(at % columns * CELL) as f32, (at / columns * CELL) as f32];
        let outline = parts::OUTLINE.map(|at| {
            let [x, y, depth] = mesh.point(at);
            let [u, v] = head.to_head([x, y]);
            Outline { angle: v.atan2(u), distance: u.hypot(v), depth }
        });
        let mut levels: Vec<f32> = (0..rows * columns).map(|at| beyond(place(at), &outline, head)).collect();
        let mut nearest = vec![f32::INFINITY; levels.len()];
        for triangle in topology::TRIANGLES {
            let [a, b, c] = triangle.map(|at| mesh.point(usize::from(at)));
            let area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
            let range = |axis: usize, corners: usize| {
                let (low, high) = (a[axis].min(b[axis]).min(c[axis]), a[axis].max(b[axis]).max(c[axis]));
                cell(low, corners).0..=cell(high, corners).0
            };
            for row in range(1, rows) {
                for column in range(0, columns) {
                    let [x, y] = [(column * CELL) as f32, (row * CELL) as f32];
                    let part = |one: [f32; 3], other: [f32; 3]| {
                        ((one[0] - x) * (other[1] - y) - (other[0] - x) * (one[1] - y)) / area
                    };
                    let (of_a, of_b) = (part(b, c), part(c, a));
                    let of_c = 1.0 - of_a - of_b;
                    if of_a >= 0.0 && of_b >= 0.0 && of_c >= 0.0 {
                        let depth = of_a * a[2] + of_b * b[2] + of_c * c[2];
                        let known = &mut nearest[row * columns + column];
                        *known = known.min(depth);
                    }
                }
            }
        }
        for (level, nearest) in levels.iter_mut().zip(nearest) {
            if nearest.is_finite() {
                *level = nearest;
            }
        }
        let radius = cell(0.05 * head.width, 64).0.max(1);
        for _ in 0..2 {
            blur(&mut levels, columns, radius, 1, columns);
            blur(&mut levels, rows, radius, columns, 1);
        }
        Self { levels }
    }
}

/// A point of the face's outline, as seen from its middle.
struct Outline {
    angle: f32,
    distance: f32,
    depth: f32,
}

/// Depth beside the face: from that of its outline nearby back to that of the outermost hair.
fn beyond(place: [f32; 2], outline: &[Outline], head: &HeadFrame) -> f32 {
    use std::f32::consts::{PI, TAU};
    let [u, v] = head.to_head(place);
    let angle = v.atan2(u);
    let mut sums = [0.0; 3];
    for point in outline {
        let away = ((point.angle - angle + PI).rem_euclid(TAU) - PI).abs();
        let near = (1.0 - away / 0.5).max(0.0).powi(2) + 1e-6;
        sums = [sums[0] + near, sums[1] + near * point.distance, sums[2] + near * point.depth];
    }
    let [all, distance, depth] = sums;
    let (distance, depth) = (distance / all, depth / all);
    let out = ((u.hypot(v) / distance.max(1.0) - 1.0) / 0.7).clamp(0.0, 1.0);
    depth + (BACK * head.width - depth) * (1.0 - (1.0 - out).powi(2))
}

/// A running mean over `2 * radius + 1` levels of each line; `step` lies between neighbours, `next` between lines.
fn blur(levels: &mut [f32], length: usize, radius: usize, step: usize, next: usize) {
    let lines = levels.len() / length.max(1);
    let mut line = vec![0.0; length];
    for start in (0..lines).map(|line| line * next) {
        line.iter_mut().enumerate().for_each(|(at, level)| *level = levels[start + at * step]);
        for at in 0..length {
            let near = &line[at.saturating_sub(radius)..(at + radius + 1).min(length)];
            levels[start + at * step] = near.iter().sum::<f32>() / near.len() as f32;
        }
    }
}
