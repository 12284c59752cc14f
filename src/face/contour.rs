//! Lips and jaw moved to where the picture has their edges.
//!
//! In here: active contours. The mesh network knows faces rather than this face: it puts the chin a tenth of the eyes'
//! distance too high, further on drawings and open mouths, and lips by a few pixels beside their edges. The edges are in the
//! picture, so the outlines are let slide along their normals to them, by dynamic programming (A. Amini, T. Weymouth and
//! R. Jain, "Using dynamic programming for solving variational problems in vision", 1990), and the points around follow.
//! Not in here: the line between closed lips and the edges within an open mouth (`portrait`).

use super::sampling::colour;
use super::{Mesh, parts};
use crate::picture::RgbPicture;

/// Places on a contour for each edge of the mesh.
const DENSE: usize = 4;
const ROUNDS: usize = 3;
/// The outline from the right cheek over the chin to the left one.
const JAW: std::ops::Range<usize> = 10..27;

// Lengths are in shares of the eyes' distance, from here on.
/// How far around a contour the mesh follows it.
const FOLLOWS: f32 = 0.12;
const LIP_STEP: f32 = 0.008;
const LIP_REACH: usize = 20;
/// Beyond the lips by so much is skin.
const SKIN: f32 = 0.22;
const JAW_STEP: f32 = 0.01;
const JAW_INWARD: usize = 6;
const JAW_OUTWARD: usize = 30;

/// A mesh with better lips and jaw, from the picture that it was found in; other points stay or follow a little.
pub fn fit(picture: &RgbPicture, mesh: &Mesh) -> Mesh {
    let mut fitted = mesh.clone();
    let unit = mesh.eye_distance();
    if unit < 4.0 || mesh.points.len() != super::POINTS {
        return fitted;
    }
    let ring: Vec<usize> =
        parts::UPPER_LIP_OUTER.iter().chain(parts::LOWER_LIP_OUTER[1..10].iter().rev()).copied().collect();
    let jaw = &parts::OUTLINE[JAW];
    let lids = [parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID, parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID];
    let mut fixed: Vec<usize> = lids.into_iter().flatten().collect();
    for _ in 0..ROUNDS {
        let lips = Contour::new(&fitted, &ring, true);
        let offsets = lips.settle(&lip_costs(picture, &fitted, &lips, unit), 0.02, LIP_STEP * unit, LIP_REACH, 4);
        follow(&mut fitted, &ring, &lips.moves(&offsets), unit * FOLLOWS, &fixed);
    }
    fixed.extend(ring.iter().chain(&parts::UPPER_LIP_INNER).chain(&parts::LOWER_LIP_INNER));
    for _ in 0..ROUNDS {
        let edge = Contour::new(&fitted, jaw, false);
        let costs = jaw_costs(picture, &edge, unit);
        let mut offsets = edge.settle(&costs, 0.01, JAW_STEP * unit, JAW_INWARD, 6);
        // The ends stay where the mesh has them.
        let last = offsets.len().max(2) as f32 - 1.0;
        for (at, offset) in offsets.iter_mut().enumerate() {
            let end = (at as f32).min(last - at as f32) / last;
            *offset *= (end * 8.0).min(1.0);
        }
        follow(&mut fitted, jaw, &edge.moves(&offsets), unit * FOLLOWS, &fixed);
    }
    fitted
}

/// A line through points of the mesh, and which way is outward along it.
struct Contour {
    places: Vec<[f32; 2]>,
    normals: Vec<[f32; 2]>,
    closed: bool,
}

impl Contour {
    fn new(mesh: &Mesh, points: &[usize], closed: bool) -> Self {
        let corners: Vec<[f32; 2]> = points.iter().map(|at| flat(mesh, *at)).collect();
        let count = corners.len();
        let edges = if closed { count } else { count.saturating_sub(1) };
        let mut places = Vec::with_capacity(edges * DENSE + 1);
        for at in 0..edges {
            let (a, b) = (corners[at], corners[(at + 1) % count]);
            places.extend((0..DENSE).map(|step| {
                let share = step as f32 / DENSE as f32;
                [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share]
            }));
        }
        if !closed {
            places.extend(corners.last());
        }
        let all = places.len();
        let middle = match closed {
            true => [0, 1].map(|axis| places.iter().map(|place| place[axis]).sum::<f32>() / all.max(1) as f32),
            false => flat(mesh, parts::NOSE_TIP),
        };
        let mut normals: Vec<[f32; 2]> = (0..all)
            .map(|at| {
                let (before, after) = match closed {
                    true => ((at + all - 2) % all, (at + 2) % all),
                    false => (at.saturating_sub(1), (at + 1).min(all - 1)),
                };
                let (a, b) = (places[before], places[after]);
                let length = (b[0] - a[0]).hypot(b[1] - a[1]).max(1e-6);
                [(b[1] - a[1]) / length, (a[0] - b[0]) / length]
            })
            .collect();
        let outward: f32 = places
            .iter()
            .zip(&normals)
            .map(|(place, normal)| (place[0] - middle[0]) * normal[0] + (place[1] - middle[1]) * normal[1])
            .sum();
        if outward < 0.0 {
            normals.iter_mut().for_each(|normal| *normal = normal.map(|part| -part));
        }
        Self { places, normals, closed }
    }

    fn beside(&self, at: usize, offset: f32) -> [f32; 2] {
        let (place, normal) = (self.places[at], self.normals[at]);
        [place[0] + normal[0] * offset, place[1] + normal[1] * offset]
    }

    /// The offset of each place, in pixels, that costs the least in all, bends included, evened out over `even` places to
    /// each side. A row of costs is of one place, its columns lie `step` apart, and `zero` of them inwards.
    fn settle(&self, costs: &[Vec<f32>], stiff: f32, step: f32, zero: usize, even: usize) -> Vec<f32> {
        let count = costs.len();
        // A closed line is gone round thrice, so that what is taken from the middle round has no ends.
        let rounds = if self.closed { 3 } else { 1 };
        let columns = costs.first().map_or(0, Vec::len);
        let mut best = vec![0.0_f32; columns];
        let mut from: Vec<Vec<usize>> = Vec::with_capacity(count * rounds);
        for row in std::iter::repeat_n(costs, rounds).flatten() {
            let mut next = Vec::with_capacity(columns);
            let mut origins = Vec::with_capacity(columns);
            for (column, cost) in row.iter().enumerate() {
                let (mut least, mut origin) = (f32::INFINITY, column);
                for (other, sum) in best.iter().enumerate() {
                    let sum = sum + stiff * (other.abs_diff(column) as f32).powi(2);
                    if sum < least {
                        (least, origin) = (sum, other);
                    }
                }
                next.push(least + cost);
                origins.push(origin);
            }
            best = next;
            from.push(origins);
        }
        let mut column = best.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(column, _)| column);
        let mut path = vec![0.0_f32; from.len()];
        for (offset, origins) in path.iter_mut().zip(&from).rev() {
            *offset = (column as f32 - zero as f32) * step;
            column = origins.get(column).copied().unwrap_or_default();
        }
        let start = if self.closed { count } else { 0 };
        let at = |place: usize, away: isize| {
            let last = path.len().saturating_sub(1);
            path[(start + place).saturating_add_signed(away).min(last)]
        };
        let reach = even.cast_signed();
        let weight = |away: isize| 1.0 + (std::f32::consts::PI * away as f32 / (even as f32 + 1.0)).cos();
        let total: f32 = (-reach..=reach).map(weight).sum();
        (0..count)
            .map(|place| (-reach..=reach).map(|away| weight(away) * at(place, away)).sum::<f32>() / total)
            .collect()
    }

    /// How far each point of the mesh on the line moves.
    fn moves(&self, offsets: &[f32]) -> Vec<[f32; 2]> {
        let moves = self.normals.iter().zip(offsets).step_by(DENSE);
        moves.map(|(normal, offset)| normal.map(|part| part * offset)).collect()
    }
}

fn flat(mesh: &Mesh, at: usize) -> [f32; 2] {
    let [x, y, _] = mesh.point(at);
    [x, y]
}

/// Moves points, and those around them by as much, less the farther they are; some stay.
fn follow(mesh: &mut Mesh, points: &[usize], moves: &[[f32; 2]], reach: f32, fixed: &[usize]) {
    let places: Vec<[f32; 2]> = points.iter().map(|at| flat(mesh, *at)).collect();
    for (at, point) in mesh.points.iter_mut().enumerate() {
        if let Some(own) = points.iter().position(|point| *point == at) {
            let own = moves.get(own).copied().unwrap_or_default();
            (point[0], point[1]) = (point[0] + own[0], point[1] + own[1]);
            continue;
        }
        if fixed.contains(&at) {
            continue;
        }
        let (mut sum, mut total, mut most) = ([0.0_f32; 2], 1e-9_f32, 0.0_f32);
        for (place, moved) in places.iter().zip(moves) {
            let away = (point[0] - place[0]).powi(2) + (point[1] - place[1]).powi(2);
            let weight = (-away / (2.0 * reach * reach)).exp();
            sum = [sum[0] + weight * moved[0], sum[1] + weight * moved[1]];
            (total, most) = (total + weight, most.max(weight));
        }
        let share = (1.3 * most).min(1.0) / total;
        (point[0], point[1]) = (point[0] + share * sum[0], point[1] + share * sum[1]);
    }
}

/// Tells two groups of colours apart (Fisher's linear discriminant).
struct Divide {
    from: [f32; 3],
    along: [f32; 3],
    /// The squared distance of the groups, in deviations.
    apart: f32,
}

impl Divide {
    fn new(lip: &[[f32; 3]], skin: &[[f32; 3]]) -> Self {
        let (from, to) = (median(skin), median(lip));
        let mut spread = [[0.0_f32; 3]; 3];
        let away = lip.iter().map(|colour| (colour, to)).chain(skin.iter().map(|colour| (colour, from)));
        for (colour, middle) in away {
            for row in 0..3 {
                for column in 0..3 {
                    spread[row][column] += (colour[row] - middle[row]) * (colour[column] - middle[column]);
                }
            }
        }
        let count = (lip.len() + skin.len()).max(1) as f32;
        // The noise that a picture has even where all colours are the same.
        let noise = 30.0;
        for (row, values) in spread.iter_mut().enumerate() {
            values.iter_mut().for_each(|value| *value /= count);
            values[row] += noise;
        }
        let difference = [0, 1, 2].map(|axis| to[axis] - from[axis]);
        let along = solve(spread, difference);
        let apart = along.iter().zip(difference).map(|(a, b)| a * b).sum();
        Self { from, along, apart }
    }

    /// 0 for skin, 1 for lips.
    fn lip(&self, colour: [f32; 3]) -> f32 {
        let sum: f32 = (0..3).map(|axis| (colour[axis] - self.from[axis]) * self.along[axis]).sum();
        (sum / self.apart.max(1e-3)).clamp(-1.0, 2.0)
    }

    /// How much it can be relied on: nothing where the groups overlap.
    fn weight(&self) -> f32 {
        ((self.apart - 2.0) / 6.0).clamp(0.0, 1.0)
    }
}

fn median(colours: &[[f32; 3]]) -> [f32; 3] {
    [0, 1, 2].map(|axis| {
        let mut levels: Vec<f32> = colours.iter().map(|colour| colour[axis]).collect();
        levels.sort_by(f32::total_cmp);
        levels.get(levels.len() / 2).copied().unwrap_or_default()
    })
}

/// Cramer's rule; the matrix is positive definite.
fn solve(matrix: [[f32; 3]; 3], right: [f32; 3]) -> [f32; 3] {
    let determinant = |m: [[f32; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(matrix).max(1e-6);
    [0, 1, 2].map(|axis| {
        let mut part = matrix;
        part.iter_mut().zip(right).for_each(|(row, value)| row[axis] = value);
        determinant(part) / whole
    })
}

/// What it costs the lips' outer edge to be at each offset: nothing pays but lip inside and skin outside. Both lips have
/// their own colours; a pale one stays where it is.
fn lip_costs(picture: &RgbPicture, mesh: &Mesh, ring: &Contour, unit: f32) -> Vec<Vec<f32>> {
    let half = 10 * DENSE;
    let lips = [
        (parts::UPPER_LIP_OUTER, parts::UPPER_LIP_INNER, 0..half + 1),
        (parts::LOWER_LIP_OUTER, parts::LOWER_LIP_INNER, half..ring.places.len()),
    ];
    let [upper, lower] = lips.clone().map(|(outer, inner, places)| {
        let middle = |at: usize| {
            let (a, b) = (flat(mesh, outer[at]), flat(mesh, inner[at]));
            colour(picture, [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0])
        };
        let skin = |at: usize| colour(picture, ring.beside(at, SKIN * unit));
        ((1..10).map(middle).collect::<Vec<_>>(), places.map(skin).collect::<Vec<_>>())
    });
    // Where the network puts the upper lip, there may be skin; the lower one it hits.
    let (own, other) = (Divide::new(&upper.0, &upper.1), Divide::new(&lower.0, &upper.1));
    let divides = [if 3.0 * own.apart > other.apart { own } else { other }, Divide::new(&lower.0, &lower.1)];
    (0..ring.places.len())
        .map(|at| {
            let side = usize::from(at > half);
            let (divide, (outer, inner, _)) = (&divides[side], &lips[side]);
            let near = if side == 0 { at / DENSE } else { 20_usize.saturating_sub(at / DENSE) }.min(10);
            let (a, b) = (flat(mesh, outer[near]), flat(mesh, inner[near]));
            let thick = (a[0] - b[0]).hypot(a[1] - b[1]);
            // Lips as the contour would have them, three steps beyond either end.
            let values: Vec<f32> = (0..2 * LIP_REACH + 7)
                .map(|step| (step as f32 - LIP_REACH as f32 - 3.0) * LIP_STEP * unit)
                .map(|offset| divide.lip(colour(picture, ring.beside(at, offset))))
                .collect();
            (0..=2 * LIP_REACH)
                .map(|column| {
                    let offset = (column as f32 - LIP_REACH as f32) * LIP_STEP;
                    let mean = |from: usize| values[from..from + 3].iter().sum::<f32>() / 3.0;
                    let edge = (mean(column) - mean(column + 4)).clamp(-0.5, 1.0);
                    // Half of a lip is left at least.
                    let squeezed = -offset * unit > (0.5 * thick).max(LIP_STEP * unit);
                    0.5 * (offset / 0.12).powi(2) - divide.weight() * edge + if squeezed { 4.0 } else { 0.0 }
                })
                .collect()
        })
        .collect()
}

/// What it costs the jaw to be at each offset: it is the first edge outwards that counts, not the collar beyond.
fn jaw_costs(picture: &RgbPicture, jaw: &Contour, unit: f32) -> Vec<Vec<f32>> {
    const SIDE: usize = 4;
    /// Edges below are the skin's own shading.
    const PLAIN: f32 = 0.33;
    let columns = JAW_INWARD + JAW_OUTWARD + 1;
    (0..jaw.places.len())
        .map(|at| {
            let colours: Vec<[f32; 3]> = (0..columns + 2 * SIDE)
                .map(|step| (step as f32 - (JAW_INWARD + SIDE) as f32) * JAW_STEP * unit)
                .map(|offset| colour(picture, jaw.beside(at, offset)))
                .collect();
            let edge = |column: usize| {
                let mean = |from: usize, axis: usize| {
                    colours[from..from + SIDE].iter().map(|colour| colour[axis]).sum::<f32>() / SIDE as f32
                };
                let steps = (0..3).map(|axis| (mean(column + SIDE + 1, axis) - mean(column, axis)).powi(2));
                let step = steps.sum::<f32>().sqrt();
                step / (step + 18.0)
            };
            let edges: Vec<f32> = (0..columns).map(edge).collect();
            (0..columns)
                .map(|column| {
                    let offset = (column as f32 - JAW_INWARD as f32) * JAW_STEP;
                    // An edge reaches over its neighbours, which are not passed before it.
                    let passed = edges.iter().take(column.saturating_sub(4)).skip(4);
                    let passed: f32 = passed.map(|edge| (edge - PLAIN).max(0.0)).sum();
                    0.2 * ((offset - 0.08) / 0.2).powi(2) - edges[column] + 0.2 * passed
                })
                .collect()
        })
        .collect()
}
