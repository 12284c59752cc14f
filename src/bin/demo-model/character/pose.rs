//! How the character holds itself while it idles: a loop of slight motion, and where the mouth crop lies in it.
//!
//! Not here: what the motion looks like (the drawing files). Pure computation.

use std::f32::consts::TAU;

use tiny_skia::Transform;

use super::canvas::{lerp, smoothstep, to_i32};
use super::{CROP_SIZE, FRAME_SIZE, IDLE_FRAMES};

/// The joint that the head sways and rolls about, in frame coordinates.
const NECK: (f32, f32) = (256.0, 404.0);
/// The middle of the mouth crop on a head at rest. Speech moves more below the mouth than above it.
const CROP_CENTRE: (f32, f32) = (256.0, 340.0);

/// Everything that moves except the mouth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pose {
    /// Head displacement in pixels.
    pub sway: f32,
    pub nod: f32,
    /// Head tilt in degrees, clockwise.
    pub roll: f32,
    /// Turn of the face, -1 left to 1 right: moves the features across the head.
    pub turn: f32,
    /// Filling of the chest, 0..=1.
    pub breath: f32,
    /// Closing of the lids, 0..=1.
    pub blink: f32,
    /// Pixels that the irises move.
    pub gaze: (f32, f32),
}

impl Pose {
    /// From head coordinates (those of the frame, for a head at rest) to the frame.
    pub(super) fn head(&self) -> Transform {
        Transform::from_rotate_at(self.roll, NECK.0, NECK.1).post_translate(self.sway, self.nod)
    }

    /// From feature coordinates (eyes, nose, mouth) to the frame.
    pub(super) fn features(&self) -> Transform {
        self.head().pre_translate(self.turn * 1.4, self.nod * 0.25)
    }

    /// Hair behind the head and the crown turn the other way.
    pub(super) fn behind(&self) -> Transform {
        self.head().pre_translate(self.turn * -0.9, 0.0)
    }

    /// From chest coordinates to the frame.
    pub(super) fn chest(&self) -> Transform {
        Transform::from_translate(self.sway * 0.18, self.breath * -1.7)
    }
}

/// The pose of one frame of the idle loop. Every motion has a whole number of cycles in the loop, so it closes.
pub fn idle_pose(frame: usize) -> Pose {
    let frame = u16::try_from(frame % IDLE_FRAMES).unwrap_or(0);
    let length = u16::try_from(IDLE_FRAMES).unwrap_or(1);
    let at = f32::from(frame);
    let cycle = |times: f32, shift: f32| (TAU * (times * at / f32::from(length) + shift)).sin();
    Pose {
        sway: 2.6 * cycle(1.0, 0.0) + 0.8 * cycle(2.0, 0.21),
        nod: 1.0 * cycle(1.0, 0.33) + 0.7 * cycle(2.0, 0.6),
        roll: 0.55 * cycle(1.0, 0.08) + 0.2 * cycle(2.0, 0.4),
        turn: 0.75 * cycle(1.0, 0.04) + 0.25 * cycle(3.0, 0.1),
        breath: 0.5 - 0.5 * cycle(1.0, 0.25),
        blink: blink(at - 31.0).max(blink(at - 94.0)),
        gaze: gaze(at),
    }
}

/// Lids fall within two frames, rest for one and rise more slowly.
fn blink(since: f32) -> f32 {
    if since < 0.0 { smoothstep(-2.4, 0.0, since) } else { 1.0 - smoothstep(0.8, 4.6, since) }
}

/// Eyes rest on a point and jump to the next, a jump taking two frames.
fn gaze(at: f32) -> (f32, f32) {
    const POINTS: [(f32, f32, f32); 5] =
        [(0.0, 0.0, 0.0), (22.0, 1.1, 0.2), (47.0, 0.3, -0.3), (70.0, -1.0, 0.1), (96.0, 0.0, 0.0)];
    let mut gaze = (0.0, 0.0);
    for (start, x, y) in POINTS {
        let t = smoothstep(start, start + 2.5, at);
        gaze = (lerp(gaze.0, x, t), lerp(gaze.1, y, t));
    }
    gaze
}

/// Top-left corner of the mouth crop in the frame: even, so that it falls on whole chroma samples.
pub fn crop_origin(pose: &Pose) -> (u32, u32) {
    let mut centre = tiny_skia::Point::from_xy(CROP_CENTRE.0, CROP_CENTRE.1);
    pose.head().map_point(&mut centre);
    let limit = FRAME_SIZE - CROP_SIZE;
    #[expect(clippy::cast_precision_loss, reason = "a crop is 128 pixels wide")]
    let even = |middle: f32| {
        let half = to_i32((middle - CROP_SIZE as f32 / 2.0) / 2.0);
        (u32::try_from(half).unwrap_or(0) * 2).min(limit)
    };
    (even(centre.x), even(centre.y))
}
