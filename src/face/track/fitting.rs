//! Whether a shot's meshes are those of the network or those that were fitted to its pictures.
//!
//! In here: a vote, as a mouth must not be measured now in one way and now in the other. Not in here: fitting (`contour`).

use std::ops::Range;

use super::mesh_list::MeshList;
use crate::face::FaceError;

/// Lips must be clear in this share of the frames.
const MOST: f32 = 0.8;

/// Makes a shot's meshes the fitted ones if its lips are clear in most frames; where a frame has none, the network's are moved
/// as in the nearest frame that has. Otherwise they stay.
pub(super) fn shot(seen: &mut MeshList, fits: &MeshList, frames: Range<usize>) -> Result<(), FaceError> {
    let found = frames.clone().filter(|at| seen.has(*at)).count() as f32;
    let clear: Vec<usize> = frames.clone().filter(|at| fits.has(*at)).collect();
    if clear.is_empty() || (clear.len() as f32) < MOST * found {
        return Ok(());
    }
    for at in frames {
        let next = clear.partition_point(|other| *other < at);
        let near = clear.get(next.saturating_sub(1)..(next + 1).min(clear.len())).unwrap_or_default();
        let Some(other) = near.iter().copied().min_by_key(|other| other.abs_diff(at)) else { continue };
        if other == at {
            continue;
        }
        let Some(mut mesh) = seen.get(at)? else { continue };
        let (Some(from), Some(to)) = (seen.get(other)?, fits.get(other)?) else { continue };
        for (point, (from, to)) in mesh.points.iter_mut().zip(from.points.iter().zip(&to.points)) {
            *point = [0, 1, 2].map(|axis| point[axis] + (to[axis] - from[axis]));
        }
        seen.set(at, &mesh)?;
    }
    for at in clear {
        if let (Some(mut mesh), Some(fit)) = (seen.get(at)?, fits.get(at)?) {
            mesh.points = fit.points;
            seen.set(at, &mesh)?;
        }
    }
    Ok(())
}
