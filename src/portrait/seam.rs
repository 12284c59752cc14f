//! Finds the line between the lips in the picture's pixels, near the one that the mesh says.
//!
//! In here: the dark seam of shut lips, the two edges of an open mouth, and where the seam ends: dynamic programming over
//! heights, one for each column. A mesh is off by a few units, more on drawn faces, and a line that is off leaves a dark
//! seam on one lip when they part.

use super::analysis::HALF_COLUMNS;
use super::light::Tone;
use super::pixels::{Pixels, brightness, redness};
use super::plate::{COLUMNS, MouthPlate};

/// Heights are tried at steps of this.
const STEP: f32 = 0.5;
/// How far the seam is from the mesh's at most.
const SEAM_REACH: i16 = 14;
/// How far an edge of an open mouth is.
const EDGE_REACH: i16 = 12;

/// How far the lines of a plate are apart in the middle.
pub(super) fn gap(plate: &MouthPlate) -> f32 {
    plate.lower[COLUMNS / 2] - plate.upper[COLUMNS / 2]
}

/// Whether what is between the lines of a plate is the lips themselves, and so the mouth is shut after all: nothing there is
/// much darker than the lips, nor as little red as teeth.
pub(super) fn is_shut(plate: &MouthPlate, pixels: &Pixels<'_>, tone: &Tone, narrow: bool) -> bool {
    let (level, red, skin) = (brightness(tone.lip), redness(tone.lip), redness(tone.skin));
    let columns = columns(plate).zip(plate.upper.iter().zip(&plate.lower));
    let middle = columns.filter(|(u, _)| u.abs() < 0.5 * plate.half);
    let seen = middle.flat_map(|(u, (upper, lower))| {
        [0.3, 0.5, 0.7].map(|share| soft(plate, pixels, u, upper + share * (lower - upper)))
    });
    let (mut lips, mut all) = (0_u16, 0_u16);
    for colour in seen {
        // A narrow dark line is the seam of shut lips.
        let is_dark = !narrow && brightness(colour) < 0.55 * level;
        let is_tooth = redness(colour) < 0.5 * red + 0.5 * skin.min(red) - 0.02;
        lips += u16::from(!is_dark && !is_tooth);
        all += 1;
    }
    2 * lips > all
}

/// Moves both lines of a plate to the darkest line between shut lips.
pub(super) fn find_seam(plate: &mut MouthPlate, pixels: &Pixels<'_>) {
    let base: [f32; COLUMNS] = std::array::from_fn(|column| (plate.upper[column] + plate.lower[column]) / 2.0);
    let costs: Vec<Vec<f32>> = columns(plate)
        .zip(base)
        .map(|(u, v)| {
            let levels: Vec<f32> = heights(SEAM_REACH).map(|o| brightness(soft(plate, pixels, u, v + o))).collect();
            let mean = levels.iter().sum::<f32>() / levels.len() as f32;
            let spread = levels.iter().map(|level| (level - mean).powi(2)).sum::<f32>() / levels.len() as f32;
            let dark = levels.iter().map(|level| (level - mean) / (spread.sqrt() + 2.0));
            dark.zip(heights(SEAM_REACH)).map(|(dark, o)| dark + 1.2 * (o / 7.0).powi(2)).collect()
        })
        .collect();
    let line = smooth(&cheapest(&costs, SEAM_REACH, 0.5), 9);
    for column in 0..COLUMNS {
        plate.upper[column] = base[column] + line[column];
        plate.lower[column] = plate.upper[column];
    }
}

/// Moves the lines of a plate to the edges of an open mouth: from lip to teeth or darkness.
pub(super) fn find_edges(plate: &mut MouthPlate, pixels: &Pixels<'_>, tone: &Tone) {
    let lip = brightness(tone.lip).max(8.0);
    let find = |line: &[f32; COLUMNS], outwards: f32| {
        let costs: Vec<Vec<f32>> = columns(plate)
            .zip(line)
            .map(|(u, v)| {
                // At the corners there is nothing between the lips that an edge could be seen against.
                let seen = 1.0 - (u / plate.half).powi(4);
                let edge = |o: f32| {
                    let at = |o: f32| soft(plate, pixels, u, v + outwards * o);
                    let (out, inside) = (at(o + 2.0), at(o - 2.0));
                    let red = (redness(out) - redness(inside)).clamp(0.0, 0.12) / 0.03;
                    // Teeth are less red than lips; where there is darkness, it is darker.
                    let dark = brightness(inside) < 0.55 * lip;
                    let rise = (brightness(out) - brightness(inside)) / (0.6 * lip);
                    if dark { red.max(4.0 * rise.clamp(0.0, 1.0)) } else { red }
                };
                heights(EDGE_REACH).map(|o| 0.6 * (o / 3.5).powi(2) - seen * edge(o)).collect()
            })
            .collect();
        let found = smooth(&cheapest(&costs, EDGE_REACH, 1.5), 3);
        std::array::from_fn(|column| line[column] + outwards * found[column])
    };
    let (upper, lower): ([f32; COLUMNS], [f32; COLUMNS]) = (find(&plate.upper, -1.0), find(&plate.lower, 1.0));
    for column in 0..COLUMNS {
        plate.upper[column] = upper[column].min(lower[column]);
        plate.lower[column] = lower[column].max(upper[column]);
    }
}

/// Moves the corners to where the lips' red ends along the seam, if lips are redder than skin at all.
pub(super) fn find_corners(plate: &mut MouthPlate, pixels: &Pixels<'_>, tone: &Tone) {
    let half = plate.half;
    let (lip, skin) = (redness(tone.lip), redness(tone.skin));
    if lip - skin < 0.025 {
        return;
    }
    let limit = 0.45 * lip + 0.55 * skin;
    let end = |side: f32| {
        let is_lip = |u: f32| {
            let v = line_at(&plate.upper, half, u);
            (-6i16..=6).any(|o| redness(soft(plate, pixels, u, v + f32::from(o) * 0.5)) > limit)
        };
        let places = (0..=60u16).map(|at| half * (0.6 + f32::from(at) * 0.01));
        places.take_while(|u| is_lip(side * u)).last().unwrap_or(half).clamp(0.86 * half, 1.1 * half)
    };
    let (left, right) = (end(-1.0), end(1.0));
    let (middle, wide) = ((right - left) / 2.0, (right + left) / 2.0);
    let line: [f32; COLUMNS] =
        std::array::from_fn(|column| line_at(&plate.upper, half, middle + wide * (column as f32 / HALF_COLUMNS - 1.0)));
    plate.origin = plate.to_pixels([middle, 0.0]);
    (plate.half, plate.upper, plate.lower) = (wide, line, line);
}

/// u of each column.
fn columns(plate: &MouthPlate) -> impl Iterator<Item = f32> {
    let half = plate.half;
    (0..COLUMNS).map(move |column| half * (column as f32 / HALF_COLUMNS - 1.0))
}

fn heights(reach: i16) -> impl Iterator<Item = f32> {
    (-reach..=reach).map(|step| f32::from(step) * STEP)
}

/// A colour without the picture's noise.
fn soft(plate: &MouthPlate, pixels: &Pixels<'_>, u: f32, v: f32) -> [f32; 3] {
    let around = [[0.0, 0.0], [-0.6, 0.0], [0.6, 0.0], [0.0, -0.3], [0.0, 0.3]];
    let colours = around.map(|[du, dv]| pixels.at(plate.to_pixels([u + du, v + dv])));
    std::array::from_fn(|channel| colours.iter().map(|colour| colour[channel]).sum::<f32>() / 5.0)
}

/// A line of columns at u, held beyond the corners.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the columns")]
fn line_at(line: &[f32; COLUMNS], half: f32, u: f32) -> f32 {
    let place = ((u / half + 1.0) * HALF_COLUMNS).clamp(0.0, 2.0 * HALF_COLUMNS);
    let left = (place as usize).min(COLUMNS - 2);
    line[left] + (place - left as f32) * (line[left + 1] - line[left])
}

/// The cheapest height of each column, if a change of height from one to the next costs its square times `bend`.
fn cheapest(costs: &[Vec<f32>], reach: i16, bend: f32) -> Vec<f32> {
    let offsets: Vec<f32> = heights(reach).collect();
    let mut totals = vec![0.0; offsets.len()];
    let mut came_from: Vec<Vec<usize>> = Vec::with_capacity(costs.len());
    for column in costs {
        let mut best = Vec::with_capacity(offsets.len());
        let mut from = Vec::with_capacity(offsets.len());
        for (offset, cost) in offsets.iter().zip(column) {
            let ways = totals.iter().zip(&offsets).map(|(total, other)| total + bend * (offset - other).powi(2));
            let (way, total) =
                ways.enumerate().min_by(|left, right| left.1.total_cmp(&right.1)).unwrap_or((0, f32::INFINITY));
            best.push(total + cost);
            from.push(way);
        }
        (totals, _) = (best, came_from.push(from));
    }
    let last = totals.iter().enumerate().min_by(|left, right| left.1.total_cmp(right.1));
    let mut at = last.map_or(0, |(at, _)| at);
    let mut line: Vec<f32> = came_from
        .iter()
        .rev()
        .map(|from| {
            let here = offsets[at];
            at = from[at];
            here
        })
        .collect();
    line.reverse();
    line
}

/// Hann-weighted means over so many columns to either side; beyond the ends the ends go on.
fn smooth(line: &[f32], half: i16) -> [f32; COLUMNS] {
    let weights: Vec<(i16, f32)> = (-half..=half)
        .map(|at| (at, 0.5 + 0.5 * (std::f32::consts::PI * f32::from(at) / (f32::from(half) + 1.0)).cos()))
        .collect();
    let sum: f32 = weights.iter().map(|(_, weight)| weight).sum();
    std::array::from_fn(|column| {
        let value = |offset: i16| {
            let at = column.saturating_add_signed(isize::from(offset)).min(line.len().saturating_sub(1));
            line.get(at).copied().unwrap_or_default()
        };
        weights.iter().map(|(offset, weight)| weight * value(*offset)).sum::<f32>() / sum
    })
}
