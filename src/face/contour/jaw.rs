//! The jaw, moved to the edge that the picture has around it.
//!
//! In here: what that edge looks like, and how far away it is looked for. Not in here: how (`contour`).

use super::{Contour, FOLLOWS, ROUNDS, flat, follow};
use crate::face::sampling::colour;
use crate::face::{Mesh, parts};
use crate::picture::RgbPicture;

/// The outline from the right cheek over the chin to the left one.
const JAW: std::ops::Range<usize> = 10..27;
// Lengths are in shares of the eyes' distance.
const STEP: f32 = 0.01;
const INWARD: usize = 6;
const OUTWARD: usize = 30;
/// How far the network is off by at most: so much, and more if it was off at the lips, and by so large a part of how far
/// the lips are apart, as it leaves the chin of an open mouth behind.
const OFF: f32 = 0.11;
const MORE: f32 = 2.0;
const OPEN: f32 = 0.5;
/// From the mouth down to where the jaw goes with the lower lip altogether.
const BELOW: f32 = 0.5;

/// Lets the jaw go with the lower lip, as far as that was moved since the mesh was found: so many shares of the eyes'
/// distance down, which is returned.
pub(super) fn sink(mesh: &mut Mesh, found: &Mesh, unit: f32, fixed: &[usize]) -> f32 {
    let (sin, cos) = mesh.roll().sin_cos();
    let lip = [84, 17, 314].map(|at| {
        let (to, from) = (flat(mesh, at), flat(found, at));
        (to[1] - from[1]) * cos - (to[0] - from[0]) * sin
    });
    let down = lip.iter().sum::<f32>() / 3.0;
    let [x, y] = flat(mesh, 17);
    for (at, point) in mesh.points.iter_mut().enumerate() {
        if fixed.contains(&at) {
            continue;
        }
        let below = ((point[1] - y) * cos - (point[0] - x) * sin) / unit;
        let share = (below / BELOW + 0.4).clamp(0.0, 1.0) * down;
        (point[0], point[1]) = (point[0] - share * sin, point[1] + share * cos);
    }
    down / unit
}

pub(super) fn fit(picture: &RgbPicture, mesh: &mut Mesh, sunk: f32, unit: f32, fixed: &[usize]) {
    let (above, below) = (flat(mesh, 13), flat(mesh, 14));
    let open = (below[0] - above[0]).hypot(below[1] - above[1]);
    let most = (OFF + MORE * sunk.abs()) * unit + OPEN * open;
    let jaw = parts::OUTLINE.get(JAW).unwrap_or_default();
    let start = mesh.clone();
    for _ in 0..ROUNDS {
        let edge = Contour::new(mesh, jaw, false);
        let mut offsets = edge.settle(&costs(picture, &edge, unit), 0.01, STEP * unit, INWARD, 6);
        // The ends stay where the mesh has them.
        let last = offsets.len().max(2) as f32 - 1.0;
        for (at, offset) in offsets.iter_mut().enumerate() {
            let end = (at as f32).min(last - at as f32) / last;
            *offset *= (end * 8.0).min(1.0);
        }
        for (at, offset) in offsets.iter_mut().enumerate() {
            // Farther than the network is off by is another edge.
            let place = edge.beside(at, *offset);
            let own = Contour::new(&start, jaw, false);
            let (from, normal) = (own.places[at], own.normals[at]);
            let away = (place[0] - from[0]) * normal[0] + (place[1] - from[1]) * normal[1];
            *offset -= (away - most).max(0.0);
        }
        follow(mesh, jaw, &edge.moves(&offsets), unit * FOLLOWS, fixed);
    }
}

/// What it costs the jaw to be at each offset: it is the first edge outwards that counts, not the collar beyond.
fn costs(picture: &RgbPicture, edge: &Contour, unit: f32) -> Vec<Vec<f32>> {
    const SIDE: usize = 4;
    /// Edges below are the skin's own shading.
    const PLAIN: f32 = 0.33;
    let columns = INWARD + OUTWARD + 1;
    (0..edge.places.len())
        .map(|at| {
            let colours: Vec<[f32; 3]> = (0..columns + 2 * SIDE)
                .map(|step| (step as f32 - (INWARD + SIDE) as f32) * STEP * unit)
                .map(|offset| colour(picture, edge.beside(at, offset)))
                .collect();
            let edge = |column: usize| {
                let mean = |from: usize, axis: usize| {
                    colours[from..from + SIDE].iter().map(|colour| colour[axis]).sum::<f32>() / SIDE as f32
                };
                let squares = (0..3).map(|axis| (mean(column + SIDE + 1, axis) - mean(column, axis)).powi(2));
                let step = squares.sum::<f32>().sqrt();
                step / (step + 18.0)
            };
            let edges: Vec<f32> = (0..columns).map(edge).collect();
            (0..columns)
                .map(|column| {
                    let offset = (column as f32 - INWARD as f32) * STEP;
                    // An edge reaches over its neighbours, which are not passed before it.
                    let passed = edges.iter().take(column.saturating_sub(4)).skip(4);
                    let passed: f32 = passed.map(|edge| (edge - PLAIN).max(0.0)).sum();
                    0.2 * ((offset - 0.08) / 0.2).powi(2) - edges[column] + 0.2 * passed
                })
                .collect()
        })
        .collect()
}
