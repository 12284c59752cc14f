//! Gestures: movements of the head that are asked for by name.
//!
//! In here: their curves over time. A smile is no gesture of a still: its mouth belongs to who draws mouths.

use super::chance::ease;
use super::{RATE, soft};

/// The most that gestures turn a head together, in degrees.
const MOST: f32 = 7.0;

/// A movement that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gesture {
    /// Yes: down and up, and once more less.
    Nod,
    /// No: to one side and the other.
    Shake,
    /// Towards one shoulder for a while, as with a question.
    Tilt,
}

/// When a gesture begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GestureAt {
    /// Its first pose.
    pub from_pose: u64,
    /// What it is.
    pub gesture: Gesture,
}

/// How far the head is turned by gestures, in degrees.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    pub(super) yaw: f32,
    pub(super) pitch: f32,
    pub(super) roll: f32,
}

impl Gesture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nod, Self::Shake, Self::Tilt];

    /// What it is called where it is asked for.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nod => "nod",
            Self::Shake => "shake",
            Self::Tilt => "tilt",
        }
    }

    /// How many poses it takes.
    pub const fn poses(self) -> u64 {
        match self {
            Self::Nod => 25,
            Self::Shake => 38,
            Self::Tilt => 60,
        }
    }

    fn turn(self, poses: f64) -> Turn {
        let passed = poses / self.poses() as f64;
        match self {
            Self::Nod => Turn { pitch: 1.6 * nod(poses), ..Turn::default() },
            Self::Shake => {
                #[allow(clippy::cast_possible_truncation, reason = "-1 to 1")]
                let side = (2.0 * std::f64::consts::TAU * passed).sin() as f32;
                Turn { yaw: 3.6 * bump(passed).sqrt().min(1.0) * side, ..Turn::default() }
            }
            Self::Tilt => {
                let way = ease(poses / 18.0) * (1.0 - ease((poses - 38.0) / 22.0));
                Turn { roll: 2.7 * way, pitch: 0.6 * way, yaw: 0.5 * way }
            }
        }
    }
}

/// What all gestures do together.
pub(super) fn all(gestures: &[GestureAt], at: u64) -> Turn {
    let mut sum = Turn::default();
    for GestureAt { from_pose, gesture } in gestures {
        let Some(passed) = at.checked_sub(*from_pose).filter(|passed| *passed < gesture.poses()) else { continue };
        let turn = gesture.turn(passed as f64);
        sum = Turn { yaw: sum.yaw + turn.yaw, pitch: sum.pitch + turn.pitch, roll: sum.roll + turn.roll };
    }
    Turn { yaw: soft(sum.yaw, MOST), pitch: soft(sum.pitch, MOST), roll: soft(sum.roll, MOST) }
}

/// A nod of 25 poses, in degrees, of which the first dip has 2.2.
pub(super) fn nod(poses: f64) -> f32 {
    let seconds = poses / RATE;
    2.2 * bump(seconds / 0.56) + 1.2 * bump((seconds - 0.44) / 0.52)
}

/// Up to 1 and back to 0 while `passed` goes from 0 to 1; its second derivative has no jump.
pub(super) fn bump(passed: f64) -> f32 {
    let at = passed.clamp(0.0, 1.0);
    let side = 4.0 * at * (1.0 - at);
    #[allow(clippy::cast_possible_truncation, reason = "0 to 1")]
    let height = (side * side * side) as f32;
    height
}
