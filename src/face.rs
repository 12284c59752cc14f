//! Finds faces in pictures: boxes, and a dense mesh with lips, lids and jaw.
//!
//! In here: the networks of `models/face` (MediaPipe's BlazeFace and face mesh, Apache-2.0) run by `rten`. Not in here:
//! what is done with a face (`portrait`, `still`, `preparation`). Runs on: the caller's thread, and those that
//! [`FaceFinder::load`] is told to use.
//!
//! Coordinates are in pixels of the picture, x to the right and y down; (0, 0) is the upper left corner of its first
//! pixel, whose middle is (0.5, 0.5). Left and right are as seen, not the person's.

mod contour;
mod detector;
mod judging;
mod mesh;
mod network;
mod overlay;
pub mod parts;
mod sampling;
pub mod topology;
pub mod track;

use std::path::Path;
use std::sync::Arc;

use rten::ThreadPool;

use crate::picture::RgbPicture;
pub use contour::{Fit, fit};
use detector::{Detection, Detector};
pub use judging::{Attitude, FaceProblem, choose};
use mesh::{LEAST_PRESENCE, MeshNetwork};
pub use overlay::overlay;
use sampling::Crop;

/// The networks' folder in `models/`.
pub const FOLDER: &str = "face";

/// How many points a mesh has.
pub const POINTS: usize = 468;

/// Boxes with a lower score are kept only if the mesh, too, sees a face.
const SURE: f32 = 0.7;
/// Two meshes that share more of their union are one face.
const SAME_FACE: f32 = 0.4;
/// A face that moved by more than this share of its width is looked for once more where it went.
const FAR: f32 = 0.12;

/// The points of one face.
#[derive(Clone, Debug, PartialEq)]
pub struct Mesh {
    /// [`POINTS`] of them: x and y in pixels of the picture, z in the same scale, smaller is nearer, 0 about the middle of
    /// the head's front. [`parts`] names them.
    pub points: Vec<[f32; 3]>,
    /// How sure the network is that this is a face, 0 to 1.
    pub presence: f32,
}

/// A rectangle in pixels of the picture; may reach outside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaceBox {
    /// Of the left edge.
    pub x: f32,
    /// Of the upper edge.
    pub y: f32,
    /// Not below 0.
    pub width: f32,
    /// Not below 0.
    pub height: f32,
}

/// A face in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// How sure the detector is, 0.5 to 1.
    pub score: f32,
    /// The detector's box: from the brows to the chin, from ear to ear.
    pub bounds: FaceBox,
    /// Its points; without meaning where [`Mesh::presence`] is low.
    pub mesh: Mesh,
}

/// Why faces cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum FaceError {
    /// A network's file cannot be used.
    #[error("{file} {problem}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A network fails.
    #[error("the network of {file} fails: {problem}")]
    Network {
        /// Its path.
        file: String,
        /// What `rten` says.
        problem: String,
    },
    /// A clip's meshes cannot be kept on the disk.
    #[error("a clip's meshes cannot be kept on the disk: {problem}")]
    Meshes {
        /// What the system says.
        problem: String,
    },
}

/// Looks for faces.
pub struct FaceFinder {
    detector: Detector,
    mesh: MeshNetwork,
}

impl FaceFinder {
    /// Reads the networks of a folder, `models/face`; they will run on one thread.
    pub fn load(folder: &Path) -> Result<Self, FaceError> {
        Self::load_with_threads(folder, 1)
    }

    /// Reads the networks of a folder; they will run on so many threads, at least one.
    pub fn load_with_threads(folder: &Path, threads: usize) -> Result<Self, FaceError> {
        let pool = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        Ok(Self { detector: Detector::load(folder, &pool)?, mesh: MeshNetwork::load(folder, &pool)? })
    }

    /// All faces, the largest first; whether one will do is for who asks.
    pub fn find(&mut self, picture: &RgbPicture) -> Result<Vec<Face>, FaceError> {
        let detections = self.detector.find(picture)?;
        self.meshes_of(picture, detections)
    }

    /// Faces that are not small in the picture, the largest first: quicker than [`Self::find`] where there is none.
    fn find_large(&mut self, picture: &RgbPicture) -> Result<Vec<Face>, FaceError> {
        let detections = self.detector.find_large(picture)?;
        self.meshes_of(picture, detections)
    }

    fn meshes_of(&mut self, picture: &RgbPicture, detections: Vec<Detection>) -> Result<Vec<Face>, FaceError> {
        let mut faces: Vec<Face> = Vec::new();
        for detection in detections {
            let mut mesh = self.mesh.look(picture, &Crop::around(&detection), false)?;
            if mesh.presence >= LEAST_PRESENCE {
                mesh = self.mesh.look_both_ways(picture, &Crop::follow(&mesh))?;
            }
            let seen = mesh.presence >= LEAST_PRESENCE;
            let known = faces.iter().any(|face| {
                let other = &face.mesh;
                seen && other.presence >= LEAST_PRESENCE && other.bounds().overlap(&mesh.bounds()) > SAME_FACE
            });
            if !known && (seen || detection.score >= SURE) {
                faces.push(Face { score: detection.score, bounds: detection.bounds, mesh });
            }
        }
        Ok(faces)
    }

    /// What keeps a face that was found in a picture from being used, if anything does.
    pub fn judge(&mut self, picture: &RgbPicture, face: &Face) -> Result<Option<FaceProblem>, FaceError> {
        if let Some(problem) = judging::problem(picture, face) {
            return Ok(Some(problem));
        }
        let mut meshes = vec![face.mesh.clone()];
        for crop in judging::variations(&face.mesh) {
            meshes.push(self.mesh.look(picture, &crop, false)?);
        }
        Ok(judging::covered(&meshes))
    }

    /// Where a face of the picture before is in this one; `None` if it is no longer where it was.
    pub fn follow(&mut self, picture: &RgbPicture, last: &Mesh) -> Result<Option<Mesh>, FaceError> {
        let mut mesh = self.mesh.look_both_ways(picture, &Crop::follow(last))?;
        let ([x, y], [before_x, before_y]) = (mesh.bounds().centre(), last.bounds().centre());
        if mesh.presence >= LEAST_PRESENCE && (x - before_x).hypot(y - before_y) > FAR * last.width() {
            mesh = self.mesh.look_both_ways(picture, &Crop::follow(&mesh))?;
        }
        Ok((mesh.presence >= LEAST_PRESENCE).then_some(mesh))
    }
}

impl FaceBox {
    fn of(points: impl Iterator<Item = [f32; 2]>) -> Self {
        let (mut least, mut most) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for point in points {
            for axis in [0, 1] {
                least[axis] = least[axis].min(point[axis]);
                most[axis] = most[axis].max(point[axis]);
            }
        }
        match least[0] <= most[0] {
            true => Self { x: least[0], y: least[1], width: most[0] - least[0], height: most[1] - least[1] },
            false => Self { x: 0.0, y: 0.0, width: 0.0, height: 0.0 },
        }
    }

    /// Its middle.
    pub fn centre(&self) -> [f32; 2] {
        [self.x + self.width / 2.0, self.y + self.height / 2.0]
    }

    fn area(&self) -> f32 {
        self.width * self.height
    }

    /// The share of both together that belongs to both, 0 to 1.
    fn overlap(&self, other: &Self) -> f32 {
        let along = |a: f32, length: f32, b: f32, other: f32| ((a + length).min(b + other) - a.max(b)).max(0.0);
        let both = along(self.x, self.width, other.x, other.width) * along(self.y, self.height, other.y, other.height);
        let either = self.area() + other.area() - both;
        if either > 0.0 { both / either } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
