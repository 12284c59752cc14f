//! Lips and jaw moved to where the picture has their edges.
//!
//! Active contours: the mesh network knows faces rather than this face: it puts the chin a tenth of the eyes'
//! distance too high, further on drawings and open mouths, and lips by a few pixels beside their edges. The edges are in the
//! picture, so the outlines are let slide along their normals to them, by dynamic programming (A. Amini, T. Weymouth and
//! R. Jain, "Using dynamic programming for solving variational problems in vision", 1990), and the points around follow.
//! In here: contours. `lips` and `jaw` know what their edges look like, `divide` tells lips from skin. Not in here: the seam of
//! closed lips (`portrait`).

mod divide;
mod jaw;
mod lips;

use super::{Mesh, parts};
use crate::picture::RgbPicture;

/// Places on a contour for each edge of the mesh.
const DENSE: usize = 4;
const ROUNDS: usize = 3;
/// How far around a contour the mesh follows it, in shares of the eyes' distance.
const FOLLOWS: f32 = 0.12;

/// What [`fit`] makes of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// With the jaw where the picture has its edge, and the lips, if they were found.
    pub mesh: Mesh,
    /// Whether the picture is clear about the lips; if not, they are where the network has them.
    pub lips: bool,
}

/// A mesh with better lips and jaw, from the picture that it was found in; other points stay or follow a little. On drawings
/// that is most of the network's error, on photographs the chin's share.
pub fn fit(picture: &RgbPicture, mesh: &Mesh) -> Fit {
    let mut fitted = mesh.clone();
    let unit = mesh.eye_distance();
    if unit < 4.0 || mesh.points.len() != super::POINTS {
        return Fit { mesh: fitted, lips: false };
    }
    let lids = [parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID, parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID];
    let mut fixed: Vec<usize> = lids.into_iter().flatten().collect();
    let lips = lips::fit(picture, &mut fitted, unit, &fixed);
    fixed.extend(lips::RING.iter().chain(&parts::UPPER_LIP_INNER).chain(&parts::LOWER_LIP_INNER));
    let sunk = jaw::sink(&mut fitted, mesh, unit, &fixed);
    jaw::fit(picture, &mut fitted, sunk, unit, &fixed);
    Fit { mesh: fitted, lips }
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
