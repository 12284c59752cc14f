//! Whether a shot's meshes are those of the network or those that were fitted to its pictures.
//!
//! In here: a vote, as a mouth must not be measured now in one way and now in the other. Not in here: fitting (`contour`).

use crate::face::Mesh;
use crate::face::judging::FaceProblem;

/// Lips must be clear in this share of the frames.
const MOST: f32 = 0.8;

/// Makes a shot's meshes the fitted ones if its lips are clear in most frames; where a frame has none, the network's are moved
/// as in the nearest frame that has. Otherwise they stay.
pub(super) fn shot(seen: &mut [Result<Mesh, FaceProblem>], fits: &[Option<Mesh>]) {
    let found = seen.iter().filter(|seen| seen.is_ok()).count() as f32;
    let clear: Vec<(usize, &Mesh)> =
        fits.iter().enumerate().filter_map(|(at, fit)| Some((at, fit.as_ref()?))).take(seen.len()).collect();
    if clear.is_empty() || (clear.len() as f32) < MOST * found {
        return;
    }
    for at in 0..seen.len() {
        let next = clear.partition_point(|(other, _)| *other < at);
        let near = clear.get(next.saturating_sub(1)..(next + 1).min(clear.len())).unwrap_or_default();
        let Some((other, fit)) = near.iter().min_by_key(|(other, _)| other.abs_diff(at)) else { continue };
        let Some(Ok(from)) = seen.get(*other) else { continue };
        if *other == at {
            continue;
        }
        let points = from.points.iter().zip(&fit.points);
        let by: Vec<[f32; 3]> = points.map(|(from, to)| [0, 1, 2].map(|axis| to[axis] - from[axis])).collect();
        let Some(Ok(mesh)) = seen.get_mut(at) else { continue };
        for (point, by) in mesh.points.iter_mut().zip(by) {
            point.iter_mut().zip(by).for_each(|(value, by)| *value += by);
        }
    }
    for (at, fit) in clear {
        if let Some(Ok(mesh)) = seen.get_mut(at) {
            mesh.points.clone_from(&fit.points);
        }
    }
}
