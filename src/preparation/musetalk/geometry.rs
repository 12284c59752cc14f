//! Which part of a frame MuseTalk redraws: upstream's arithmetic on upstream's points, found in our mesh.
//!
//! Pure. After `get_landmark_and_bbox` of upstream's `musetalk/utils/preprocessing.py` and the margin of its
//! `scripts/realtime_inference.py`.

use crate::face::Mesh;
use crate::picture::{CropBox, RgbPicture};

/// The points of the mesh that stand for iBUG's 68, in iBUG's order: the jaw from the left ear to the right (17), the brows
/// (10), the bridge of the nose (4) and its base (5), the eyes (12), the lips outside (12) and inside (8). It is the list that
/// is in common use for MediaPipe's mesh; upstream has the same points from DWPose.
const IBUG_68: [usize; 68] = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389, //
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, //
    168, 197, 5, 4, 75, 97, 2, 326, 305, //
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380, //
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, //
    78, 82, 13, 312, 308, 317, 14, 87,
];
/// Of those, the one on the bridge of the nose that the middle of the box lies on.
const MIDDLE: usize = 29;

/// How upstream's versions frame a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// 1.0: the middle is moved down by so many pixels, which opens the mouth further; up if negative.
    Shifted(i32),
    /// 1.5: so many pixels are added below the chin.
    Margin(u32),
}

/// What 1.5 adds below the chin unless it is told another margin, in pixels.
pub const MARGIN: u32 = 10;

/// The 68 points of a mesh, in whole pixels: cut off, as upstream cuts them.
#[allow(clippy::cast_possible_truncation, reason = "places in a picture; others saturate")]
pub fn points(mesh: &Mesh) -> [[i32; 2]; 68] {
    IBUG_68.map(|at| {
        let [x, y, _] = mesh.point(at);
        [x as i32, y as i32]
    })
}

/// The box around a face: as wide as its points, down to the lowest, and as far up from the middle as down.
///
/// Upstream leaves a box that begins left of the frame to another detector, and lets one end right of it; here both are cut at
/// the frame. `None` if nothing of it is in the frame.
pub fn face_box(points: &[[i32; 2]; 68], framing: Framing, (width, height): (u32, u32)) -> Option<CropBox> {
    let (width, height) = (i64::from(width), i64::from(height));
    let mut points = points.map(|point| point.map(i64::from));
    if let Framing::Shifted(down) = framing {
        // Upstream moves the point itself, so that it counts for the lowest too.
        points[MIDDLE][1] += i64::from(down);
    }
    let middle = points[MIDDLE][1];
    let along = |axis: usize| points.iter().map(move |point| point[axis]);
    let (left, right, lowest) = (along(0).min()?, along(0).max()?, along(1).max()?);
    let top = (2 * middle - lowest).max(0);
    let bottom = match framing {
        Framing::Shifted(_) => lowest,
        Framing::Margin(below) => lowest + i64::from(below),
    };
    let (left, right, bottom) = (left.clamp(0, width), right.clamp(0, width), bottom.min(height));
    let length = |from: i64, to: i64| u32::try_from(to - from).ok().filter(|length| *length > 0);
    Some(CropBox {
        x: i32::try_from(left).ok()?,
        y: i32::try_from(top).ok()?,
        width: length(left, right)?,
        height: length(top, bottom)?,
    })
}

/// The square around a box of which upstream makes a mask; may reach outside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Of the left edge.
    pub x: i32,
    /// Of the top edge.
    pub y: i32,
    /// Pixels a side, even.
    pub side: u32,
}

/// How far the square around a box goes, of half the box's longer side: one and a half times.
const EXPANSION: (u32, u32) = (3, 2);

impl Surroundings {
    /// Those of a box: upstream's `get_crop_box`.
    pub fn of(crop: CropBox) -> Self {
        let half = crop.width.max(crop.height) / 2 * EXPANSION.0 / EXPANSION.1;
        let middle = |from: i32, length: u32| {
            let doubled = 2 * i64::from(from) + i64::from(length);
            doubled.div_euclid(2) - i64::from(half)
        };
        let place = |at: i64| i32::try_from(at).unwrap_or(i32::MIN);
        Self { x: place(middle(crop.x, crop.width)), y: place(middle(crop.y, crop.height)), side: 2 * half }
    }

    /// Its pixels, black where it is outside the frame.
    pub fn pixels(&self, frame: &RgbPicture) -> RgbPicture {
        let (frame_width, side) = (frame.width as usize * 3, self.side as usize * 3);
        let mut rgb = vec![0; side * self.side as usize];
        // Bytes of a row that are skipped here and there, where one begins left of the other.
        let skipped = |at: i32| usize::try_from(at).unwrap_or(0) * 3;
        let (from, to) = (skipped(self.x), skipped(self.x.saturating_neg()));
        for (y, row) in (i64::from(self.y)..).zip(rgb.chunks_exact_mut(side.max(1))) {
            let start = usize::try_from(y).ok().filter(|y| *y < frame.height as usize).map(|y| y * frame_width);
            let line = start.and_then(|start| frame.rgb.get(start + from.min(frame_width)..start + frame_width));
            let inside = row.iter_mut().skip(to);
            inside.zip(line.unwrap_or_default()).for_each(|(to, from)| *to = *from);
        }
        RgbPicture { width: self.side, height: self.side, rgb }
    }
}
