//! Whether a shot's meshes are those of the network or those that were fitted to its pictures.
//!
//! In here: a vote, as a mouth must not be measured now in one way and now in the other. Not in here: fitting (`contour`).

use crate::face::Mesh;
use crate::face::judging::FaceProblem;

/// Lips must be clear in this share of the frames.
const MOST: f32 = 0.8;

/// The meshes of a shot. If its lips are clear in most frames, they are the fitted ones, and where a frame has none, the
/// network's, moved as in the nearest frame that has.
pub(super) fn shot(seen: &[Result<Mesh, FaceProblem>], fits: &[Option<Mesh>]) -> Vec<Result<Mesh, FaceProblem>> {
    let found = seen.iter().filter(|seen| seen.is_ok()).count() as f32;
    let clear: Vec<(usize, &Mesh, &Mesh)> = seen
        .iter()
        .zip(fits)
        .enumerate()
        .filter_map(|(at, (seen, fit))| Some((at, seen.as_ref().ok()?, fit.as_ref()?)))
        .collect();
    if clear.is_empty() || (clear.len() as f32) < MOST * found {
        return seen.to_vec();
    }
    let moved = |(at, seen): (usize, &Result<Mesh, FaceProblem>)| {
        let mesh = seen.as_ref().map_err(FaceProblem::clone)?;
        let next = clear.partition_point(|(other, ..)| *other < at);
        let near = clear.get(next.saturating_sub(1)..(next + 1).min(clear.len())).unwrap_or_default();
        let Some((_, from, to)) = near.iter().min_by_key(|(other, ..)| other.abs_diff(at)) else {
            return Ok(mesh.clone());
        };
        let points = mesh.points.iter().zip(from.points.iter().zip(&to.points));
        let points = points.map(|(own, (from, to))| [0, 1, 2].map(|axis| own[axis] + to[axis] - from[axis]));
        Ok(Mesh { points: points.collect(), presence: mesh.presence })
    };
    seen.iter().enumerate().map(moved).collect()
}
