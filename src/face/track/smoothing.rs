//! What is made of a shot's meshes once all are there: gaps are filled, jitter is taken out.
//!
//! In here: what a frame becomes by those around it; no more of them are in memory at once. Smoothing is a bilateral filter over time (C. Tomasi and R. Manduchi, 1998): each point is the
//! mean of itself in the frames around it, weighted by how near they are in time and in place. What rests is averaged over
//! half a second; what moves by more than the network's noise is averaged with nothing. It looks both ways alike, so
//! nothing lags behind, and the face as a whole is aligned first, so that a moving head rests within itself.

use std::collections::VecDeque;
use std::ops::Range;

use super::Sight;
use super::mesh_list::MeshList;
use crate::face::judging::FaceProblem;
use crate::face::{FaceError, Mesh, POINTS};

/// Longer gaps are not filled: half a second at 25 fps.
const LONGEST_GAP: usize = 12;
/// Frames to either side that count.
const REACH: usize = 6;
/// Spread over time, in frames.
const SIGMA_TIME: f32 = 3.0;
/// Spread over place, in shares of the face's width: about thrice the network's noise, a seventh of how far lips part.
const SIGMA_PLACE: f32 = 0.006;
/// The same for the head as a whole: points' noise falls out of its mean, so less is needed.
const SIGMA_HEAD: f32 = 0.004;

/// A shot, from one cut to the next: fills and smooths its meshes. `problems` is why frames have none; what is given back is
/// where each is from.
pub(super) fn shot(
    meshes: &mut MeshList,
    problems: &[Option<FaceProblem>],
    frames: Range<usize>,
) -> Result<Vec<Sight>, FaceError> {
    let problem = |at: usize| problems.get(at).cloned().flatten();
    let mut sights: Vec<Sight> = frames.clone().map(|at| problem(at).map_or(Sight::Seen, Sight::Lost)).collect();
    fill(meshes, &mut sights, frames.clone())?;
    smooth(meshes, frames)?;
    Ok(sights)
}

/// Gives short gaps a mesh.
fn fill(meshes: &mut MeshList, sights: &mut [Sight], frames: Range<usize>) -> Result<(), FaceError> {
    let mut at = frames.start;
    while at < frames.end {
        if meshes.has(at) {
            at += 1;
            continue;
        }
        let end = (at..frames.end).find(|at| meshes.has(*at)).unwrap_or(frames.end);
        if end - at <= LONGEST_GAP {
            let before = if at > frames.start { meshes.get(at - 1)? } else { None };
            let after = if end < frames.end { meshes.get(end)? } else { None };
            let steps = (end - at + 1) as f32;
            for (step, at) in (1_u16..).zip(at..end) {
                let share = f32::from(step) / steps;
                let (mesh, own) = match (&before, &after) {
                    (Some(before), Some(after)) => (between(before, after, share), Sight::Between),
                    (Some(mesh), None) | (None, Some(mesh)) => (mesh.clone(), Sight::Held),
                    (None, None) => continue,
                };
                meshes.set(at, &mesh)?;
                if let Some(sight) = sights.get_mut(at - frames.start) {
                    *sight = own;
                }
            }
        }
        at = end;
    }
    Ok(())
}

fn between(before: &Mesh, after: &Mesh, share: f32) -> Mesh {
    let mix = |a: f32, b: f32| a + (b - a) * share;
    let points = before.points.iter().zip(&after.points);
    Mesh {
        points: points.map(|(a, b)| std::array::from_fn(|axis| mix(a[axis], b[axis]))).collect(),
        presence: before.presence.min(after.presence),
    }
}

/// Where a head is: its middle, and the vector along its eyes, both the mean over many points.
#[derive(Clone, Copy)]
struct Head {
    middle: [f32; 3],
    /// Scale and turn in one: how the shape of the first mesh lies in this one.
    turn: [f32; 2],
}

/// Points that speech and blinking leave alone: brow bones, temples, bridge and sides of the nose.
const FIRM: [usize; 24] =
    [6, 8, 9, 10, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 168, 197, 195, 5, 4, 1, 98, 327];

impl Head {
    fn of(mesh: &Mesh, shape: &[[f32; 2]; FIRM.len()]) -> Self {
        let mean = |axis: usize| FIRM.iter().map(|at| mesh.point(*at)[axis]).sum::<f32>() / FIRM.len() as f32;
        let middle = [mean(0), mean(1), mean(2)];
        let (mut along, mut across, mut size) = (0.0, 0.0, 1e-6);
        for (at, [x, y]) in FIRM.iter().zip(shape) {
            let point = mesh.point(*at);
            let (px, py) = (point[0] - middle[0], point[1] - middle[1]);
            along += x * px + y * py;
            across += x * py - y * px;
            size += x * x + y * y;
        }
        Self { middle, turn: [along / size, across / size] }
    }

    fn shape(mesh: &Mesh) -> [[f32; 2]; FIRM.len()] {
        let mean = |axis: usize| FIRM.iter().map(|at| mesh.point(*at)[axis]).sum::<f32>() / FIRM.len() as f32;
        let middle = [mean(0), mean(1)];
        FIRM.map(|at| [mesh.point(at)[0] - middle[0], mesh.point(at)[1] - middle[1]])
    }

    fn scale(&self) -> f32 {
        self.turn[0].hypot(self.turn[1]).max(1e-6)
    }

    /// A point of the picture as one of the head, in the scale of the shot's first mesh.
    fn inward(&self, point: [f32; 3]) -> [f32; 3] {
        let [x, y] = [point[0] - self.middle[0], point[1] - self.middle[1]];
        let [c, s] = self.turn;
        let square = (c * c + s * s).max(1e-12);
        [(c * x + s * y) / square, (c * y - s * x) / square, (point[2] - self.middle[2]) / self.scale()]
    }

    fn outward(&self, point: [f32; 3]) -> [f32; 3] {
        let [c, s] = self.turn;
        [
            self.middle[0] + c * point[0] - s * point[1],
            self.middle[1] + s * point[0] + c * point[1],
            self.middle[2] + point[2] * self.scale(),
        ]
    }
}

/// A frame's mesh as it was before smoothing: where the head is, and its points as the head's.
struct Around {
    at: usize,
    head: Head,
    points: Vec<[f32; 3]>,
}

fn smooth(meshes: &mut MeshList, frames: Range<usize>) -> Result<(), FaceError> {
    let Some(first) = frames.clone().find(|at| meshes.has(*at)) else { return Ok(()) };
    let Some(first) = meshes.get(first)? else { return Ok(()) };
    let (shape, width) = (Head::shape(&first), first.width());
    let mut around: VecDeque<Around> = VecDeque::with_capacity(2 * REACH + 1);
    let mut next = frames.start;
    for at in frames.clone() {
        while next < frames.end && next <= at + REACH {
            if let Some(mesh) = meshes.get(next)? {
                let head = Head::of(&mesh, &shape);
                let points = mesh.points.iter().map(|point| head.inward(*point)).collect();
                around.push_back(Around { at: next, head, points });
            }
            next += 1;
        }
        while around.front().is_some_and(|frame| frame.at + REACH < at) {
            around.pop_front();
        }
        let Some(own) = around.iter().find(|frame| frame.at == at) else { continue };
        let Some(mut mesh) = meshes.get(at)? else { continue };
        mesh.points = smoothed(own, &around, width);
        meshes.set(at, &mesh)?;
    }
    Ok(())
}

/// The points of a frame among those around it. `width`: of the face in the shot's first mesh.
fn smoothed(own: &Around, around: &VecDeque<Around>, width: f32) -> Vec<[f32; 3]> {
    let near = |other: usize| (-(own.at.abs_diff(other) as f32 / SIGMA_TIME).powi(2) / 2.0).exp();
    let head = own.head;
    let mut sum = Head { middle: [0.0; 3], turn: [0.0; 2] };
    let mut total = 0.0;
    for &Around { at: other, head: there, .. } in around {
        let moved = (0..2).map(|axis| (there.middle[axis] - head.middle[axis]).powi(2)).sum::<f32>();
        // A turn moves the head's edge by half its width.
        let turned = (0..2).map(|axis| (there.turn[axis] - head.turn[axis]).powi(2)).sum::<f32>() * width * width / 4.0;
        let weight = near(other) * (-(moved + turned) / (2.0 * (SIGMA_HEAD * width * head.scale()).powi(2))).exp();
        total += weight;
        sum.middle.iter_mut().zip(there.middle).for_each(|(sum, value)| *sum += weight * value);
        sum.turn.iter_mut().zip(there.turn).for_each(|(sum, value)| *sum += weight * value);
    }
    let total = if total > 0.0 { total } else { 1.0 };
    let head = Head { middle: sum.middle.map(|sum| sum / total), turn: sum.turn.map(|sum| sum / total) };

    let limit = 2.0 * (SIGMA_PLACE * width).powi(2);
    let mut sums = vec![[0.0_f32; 4]; POINTS.min(own.points.len())];
    for Around { at: other, points, .. } in around {
        let near = near(*other);
        for ((sum, own), point) in sums.iter_mut().zip(&own.points).zip(points) {
            let moved = (point[0] - own[0]).powi(2) + (point[1] - own[1]).powi(2);
            let weight = near * (-moved / limit).exp();
            sum.iter_mut().zip(point.iter().chain([&1.0])).for_each(|(sum, value)| *sum += weight * value);
        }
    }
    sums.into_iter()
        .map(|[x, y, z, total]| {
            let total = total.max(1e-6);
            head.outward([x / total, y / total, z / total])
        })
        .collect()
}
