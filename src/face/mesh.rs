//! The dense mesh of one face: MediaPipe's face landmark network on a crop that follows the face.
//!
//! In here: how a crop is chosen, the network, and the way back to pixels. Not in here: where a face is to begin with
//! (`detector`). After MediaPipe's `face_landmark_front_cpu` graph (Apache-2.0).

use std::path::Path;
use std::sync::Arc;

use rten::ThreadPool;

use super::detector::Detection;
use super::network::{Layout, Network};
use super::sampling::{Beyond, Crop, Levels};
use super::topology::MIRROR;
use super::{FaceBox, FaceError, Mesh, POINTS, parts};
use crate::picture::RgbPicture;

/// How much larger a crop is than the face in it.
const MARGIN: f32 = 1.5;
/// Below this presence the network sees no face and its points mean nothing.
pub(super) const LEAST_PRESENCE: f32 = 0.5;

const LANDMARK: Layout = Layout {
    file: "face_landmark.onnx",
    input: "input_1",
    size: 192,
    outputs: ["conv2d_20", "conv2d_30"],
    lengths: [POINTS * 3, 1],
};

impl Crop {
    /// What the mesh is looked for in, after the detector.
    pub(super) fn around(detection: &Detection) -> Self {
        let [left, right] = detection.eyes;
        let bounds = detection.bounds;
        Self {
            centre: bounds.centre(),
            side: bounds.width.max(bounds.height) * MARGIN,
            roll: (right[1] - left[1]).atan2(right[0] - left[0]),
        }
    }

    /// What the mesh is looked for in again, after it was found.
    pub(super) fn follow(mesh: &Mesh) -> Self {
        let roll = mesh.roll();
        let (sin, cos) = roll.sin_cos();
        let turned = mesh.points.iter().map(|[x, y, _]| [x * cos + y * sin, y * cos - x * sin]);
        let bounds = FaceBox::of(turned);
        let [x, y] = bounds.centre();
        let side = bounds.width.max(bounds.height) * MARGIN;
        Self { centre: [x * cos - y * sin, x * sin + y * cos], side, roll }
    }
}

pub(super) struct MeshNetwork(Network);

impl MeshNetwork {
    pub(super) fn load(folder: &Path, pool: &Arc<ThreadPool>) -> Result<Self, FaceError> {
        Network::load(folder, &LANDMARK, pool).map(Self)
    }

    /// The mesh in a crop, whether there is a face or not.
    pub(super) fn look(&self, picture: &RgbPicture, crop: &Crop, mirrored: bool) -> Result<Mesh, FaceError> {
        let size = self.0.size();
        let planes = crop.take(picture, size, Levels { black: 0.0 }, Beyond::Edge, mirrored);
        let [raw, flag] = self.0.run(planes)?;
        let presence = flag.first().map_or(0.0, |flag| 1.0 / (1.0 + (-flag).exp()));
        let size = size as f32;
        let (raw, _) = raw.as_chunks::<3>();
        let of = |[x, y, z]: &[f32; 3]| {
            let x = if mirrored { 1.0 - x / size } else { x / size };
            let [x, y] = crop.place([x, y / size]);
            [x, y, z / size * crop.side]
        };
        let points = match mirrored {
            false => raw.iter().map(of).collect(),
            true => MIRROR.iter().filter_map(|at| raw.get(usize::from(*at))).map(of).collect(),
        };
        let mesh = Mesh { points, presence };
        let finite = mesh.points.iter().flatten().all(|value| value.is_finite()) && presence.is_finite();
        Ok(if finite { mesh } else { Mesh { points: vec![[0.0; 3]; POINTS], presence: 0.0 } })
    }

    /// The mean of what is found in a crop and in its mirror image: the network leans to one side, more on drawn faces,
    /// and the mirror image leans to the other.
    pub(super) fn look_both_ways(&self, picture: &RgbPicture, crop: &Crop) -> Result<Mesh, FaceError> {
        let mut mesh = self.look(picture, crop, false)?;
        let mirrored = self.look(picture, crop, true)?;
        for (point, other) in mesh.points.iter_mut().zip(&mirrored.points) {
            point.iter_mut().zip(other).for_each(|(value, other)| *value = (*value + other) / 2.0);
        }
        mesh.presence = mesh.presence.min(mirrored.presence);
        Ok(mesh)
    }
}

impl Mesh {
    /// How far the line through the eyes is turned, in radians, clockwise as seen.
    pub fn roll(&self) -> f32 {
        let [left, right] = parts::OUTER_EYE_CORNERS.map(|at| self.point(at));
        (right[1] - left[1]).atan2(right[0] - left[0])
    }

    /// Between the middles of the eyes, in pixels, depth included, so that a turned head has the same.
    pub fn eye_distance(&self) -> f32 {
        let middle = |outer: usize, inner: usize| {
            let (outer, inner) = (self.point(outer), self.point(inner));
            [0, 1, 2].map(|axis| (outer[axis] + inner[axis]) / 2.0)
        };
        let [left, right] = [0, 1].map(|side| middle(parts::OUTER_EYE_CORNERS[side], parts::INNER_EYE_CORNERS[side]));
        (0..3).map(|axis| (right[axis] - left[axis]).powi(2)).sum::<f32>().sqrt()
    }

    /// What all points lie in, in pixels.
    pub fn bounds(&self) -> FaceBox {
        FaceBox::of(self.points.iter().map(|[x, y, _]| [*x, *y]))
    }

    /// One of the 468 points; the origin if a mesh has fewer, which none of this module's has.
    pub fn point(&self, at: usize) -> [f32; 3] {
        self.points.get(at).copied().unwrap_or_default()
    }
}
