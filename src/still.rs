//! A still comes alive: one picture of a head, seen turned, breathing, blinking, looking about.
//!
//! In here: [`HeadPose`], what a head does at one moment; [`Motion`], where poses come from; [`Still`], the picture that is
//! drawn at a pose. Not in here: mouths (`lipsync`, pasted into the picture before it is turned), when a pose is shown
//! (`playout`). Runs on: [`Still::new`] once where an avatar is loaded, [`Still::draw`] on the threads that compose.

mod drawing;
mod eyes;
mod field;
mod frame;
mod motion;
mod sampling;

use std::sync::Arc;

use crate::face::{Mesh, POINTS};
use crate::picture::{I420Frame, Mask, RgbPicture, color};
use eyes::Eye;
use field::Field;
use frame::HeadFrame;
pub use motion::{Attention, AttentionChange, Gesture, GestureAt, Motion};

/// The longest side of a still, in pixels.
pub const MAX_SIDE: u32 = 1920;

/// The most that a head is turned on each axis, in degrees.
const MOST_TURN: f32 = 10.0;
/// The most that it is moved, in face widths, and scaled.
const MOST_SHIFT: f32 = 0.06;
/// The most that eyes are turned, in degrees.
const MOST_GAZE: f32 = 15.0;

/// How a head is held at one moment, against its picture; the default is the picture itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadPose {
    /// Degrees to the right as seen.
    pub yaw: f32,
    /// Degrees down.
    pub pitch: f32,
    /// Degrees clockwise as seen.
    pub roll: f32,
    /// How far the head is moved to the right and down, in face widths.
    pub shift: [f32; 2],
    /// How much larger the head is, as a part of its size.
    pub scale: f32,
    /// How far a breath lifts the chest, in face widths; the head goes half of it.
    pub breath: f32,
    /// The upper lids: 0 as in the picture, 1 shut.
    pub lids: f32,
    /// How far the eyes are turned in the head, in degrees to the right as seen and down.
    pub gaze: [f32; 2],
}

/// One picture of a head, ready to be drawn at any pose.
#[derive(Debug)]
pub struct Still {
    base: Arc<I420Frame>,
    head: HeadFrame,
    field: Field,
    eyes: Vec<Eye>,
}

/// Why a picture cannot come alive.
#[derive(Debug, thiserror::Error)]
pub enum StillError {
    /// Its size is none that a still may have.
    #[error("the picture is {width}x{height}, a still has even sides of 2 to {MAX_SIDE} pixels")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The mesh is none of a face.
    #[error("the mesh has {points} points, a face has {POINTS}, all of them finite and apart")]
    Mesh {
        /// How many it has.
        points: usize,
    },
}

impl Still {
    /// The picture of a head whose mesh is known.
    pub fn new(picture: &RgbPicture, mesh: &Mesh) -> Result<Self, StillError> {
        let &RgbPicture { width, height, ref rgb } = picture;
        let fits = |side: u32| (2..=MAX_SIDE).contains(&side) && side.is_multiple_of(2);
        if !fits(width) || !fits(height) {
            return Err(StillError::Size { width, height });
        }
        let problem = StillError::Mesh { points: mesh.points.len() };
        if mesh.points.len() != POINTS || !mesh.points.iter().flatten().all(|value| value.is_finite()) {
            return Err(problem);
        }
        let head = HeadFrame::of(mesh).ok_or(problem)?;
        let base = Arc::new(color::rgb_to_i420(rgb, width, height));
        let field = Field::new(width, height, mesh, &head);
        let eyes = Eye::both(picture, mesh, &head);
        Ok(Self { base, head, field, eyes })
    }

    /// The picture itself.
    pub fn base(&self) -> &Arc<I420Frame> {
        &self.base
    }

    /// The head at a pose. `base` is the still's own picture, or that with a mouth in it; another size comes back as it is.
    pub fn draw(&self, base: &I420Frame, pose: &HeadPose) -> I420Frame {
        let mut frame = base.clone();
        if *pose != HeadPose::default() && (base.width, base.height) == (self.base.width, self.base.height) {
            drawing::draw(self, base, &pose.clamped(), &mut frame);
        }
        frame
    }
}

impl Still {
    /// The matte of the picture at a pose, moved as [`Still::draw`] moves its colours; one of another size comes back as it is.
    pub fn draw_matte(&self, matte: &Mask, pose: &HeadPose) -> Mask {
        let mut drawn = matte.clone();
        if *pose != HeadPose::default() && (matte.width, matte.height) == (self.base.width, self.base.height) {
            drawing::draw_matte(self, &matte.alpha, &pose.clamped(), &mut drawn.alpha);
        }
        drawn
    }
}

impl HeadPose {
    /// Within what a picture of a head bears.
    fn clamped(&self) -> Self {
        let within = |value: f32, most: f32| if value.is_finite() { value.clamp(-most, most) } else { 0.0 };
        Self {
            yaw: within(self.yaw, MOST_TURN),
            pitch: within(self.pitch, MOST_TURN),
            roll: within(self.roll, MOST_TURN),
            shift: self.shift.map(|shift| within(shift, MOST_SHIFT)),
            scale: within(self.scale, MOST_SHIFT),
            breath: within(self.breath, MOST_SHIFT),
            lids: within(self.lids, 1.0).max(0.0),
            gaze: self.gaze.map(|gaze| within(gaze, MOST_GAZE)),
        }
    }
}

#[cfg(test)]
mod tests;
