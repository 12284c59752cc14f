//! Coordinates of a head in a picture: x to its side, y down its face, whichever way it is tilted.

use crate::face::{Mesh, parts};

/// The top of the forehead in the mesh.
const FOREHEAD: usize = 10;

/// Where a head is, how large, and how tilted.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadFrame {
    /// Of the face, in pixels of the picture.
    pub(super) middle: [f32; 2],
    /// From ear to ear, in pixels, however the head is turned.
    pub(super) width: f32,
    cos: f32,
    sin: f32,
}

impl HeadFrame {
    /// `None` if the mesh is none of a face: no width, or much too large.
    pub(super) fn of(mesh: &Mesh) -> Option<Self> {
        let [left, right] = parts::CHEEKS.map(|at| mesh.point(at));
        let width = (0..3).map(|axis| (right[axis] - left[axis]).powi(2)).sum::<f32>().sqrt();
        let (top, chin) = (mesh.point(FOREHEAD), mesh.point(parts::CHIN));
        let (sin, cos) = mesh.roll().sin_cos();
        let middle = [0, 1].map(|axis| (top[axis] + chin[axis]) / 2.0);
        (16.0..8192.0).contains(&width).then_some(Self { middle, width, cos, sin })
    }

    /// The same tilt about another place.
    pub(super) fn about(self, middle: [f32; 2]) -> Self {
        Self { middle, ..self }
    }

    pub(super) fn to_head(self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (x, y) = (x - self.middle[0], y - self.middle[1]);
        [x * self.cos + y * self.sin, y * self.cos - x * self.sin]
    }

    pub(super) fn to_picture(self, [u, v]: [f32; 2]) -> [f32; 2] {
        let [x, y] = self.along([u, v]);
        [self.middle[0] + x, self.middle[1] + y]
    }

    /// A direction in the picture.
    pub(super) fn along(self, [u, v]: [f32; 2]) -> [f32; 2] {
        [u * self.cos - v * self.sin, u * self.sin + v * self.cos]
    }
}

/// 0 below `from`, 1 above `to`, smooth in between.
pub(super) fn smooth(from: f32, to: f32, at: f32) -> f32 {
    let part = ((at - from) / (to - from)).clamp(0.0, 1.0);
    part * part * (3.0 - 2.0 * part)
}
