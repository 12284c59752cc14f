//! What one session's avatar does besides speaking: whom it attends to, and gestures. Pure.
//!
//! What was decided for a pose stays: mouths are drawn for it and its picture is made before it is seen. A change therefore
//! begins at the first pose that nobody has asked for yet, the horizon.

use crate::still::{Attention, AttentionChange, Gesture, GestureAt, HeadPose, Motion};

/// Poses for which what is over may still be asked for: two seconds, for ramps and for frames that are kept.
const REMEMBERED: u64 = 50;

/// A stretch of a film's frames behind the idle ones that is played once.
#[derive(Clone, Copy, Debug)]
struct Played {
    from_pose: u64,
    first: usize,
    frames: u64,
}

/// From each pose to what the avatar does at it.
#[derive(Debug)]
pub(super) struct Path {
    motion: Motion,
    changes: Vec<AttentionChange>,
    gestures: Vec<GestureAt>,
    played: Vec<Played>,
    /// The first pose of which nothing is decided.
    horizon: u64,
}

impl Path {
    pub(super) fn new(motion: Motion) -> Self {
        Self { motion, changes: Vec::new(), gestures: Vec::new(), played: Vec::new(), horizon: 0 }
    }

    /// What a photo's head does. Decides it.
    pub(super) fn head(&mut self, pose: u64) -> HeadPose {
        self.horizon = self.horizon.max(pose + 1);
        self.motion.pose(&self.changes, &self.gestures, pose)
    }

    /// Which frame of a film stands at a pose, if a gesture is played then. Decides it.
    pub(super) fn played(&mut self, pose: u64) -> Option<usize> {
        self.horizon = self.horizon.max(pose + 1);
        self.played.iter().rev().find_map(|played| {
            let passed = pose.checked_sub(played.from_pose).filter(|passed| *passed < played.frames)?;
            Some(played.first + usize::try_from(passed).ok()?)
        })
    }

    /// Attends to something else from the horizon on.
    pub(super) fn attend(&mut self, attention: Attention) {
        self.forget();
        if self.changes.last().map_or(Attention::Idle, |last| last.attention) != attention {
            self.changes.push(AttentionChange { from_pose: self.horizon, attention });
        }
    }

    /// Moves the head as a gesture does, from the horizon on; one at a time.
    pub(super) fn gesture(&mut self, gesture: Gesture) {
        self.forget();
        let free = self.gestures.last().map_or(0, |last| last.from_pose + last.gesture.poses());
        if free <= self.horizon {
            self.gestures.push(GestureAt { from_pose: self.horizon, gesture });
        }
    }

    /// Plays frames of a film once, from the horizon on; what plays then is cut off.
    pub(super) fn play(&mut self, first: usize, frames: u64) {
        self.forget();
        self.played.push(Played { from_pose: self.horizon, first, frames });
    }

    /// Lets go of what is over for good.
    fn forget(&mut self) {
        let old = self.horizon.saturating_sub(REMEMBERED);
        // The last change before is what the head attended to then.
        let kept = self.changes.iter().rposition(|change| change.from_pose < old).unwrap_or(0);
        self.changes.drain(..kept);
        self.gestures.retain(|at| at.from_pose + at.gesture.poses() > old);
        self.played.retain(|played| played.from_pose + played.frames > old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_never_changes_however_attention_does() {
        let mut path = Path::new(Motion::new(3));
        let before: Vec<HeadPose> = (0..40).map(|pose| path.head(pose)).collect();
        path.attend(Attention::Speaking);
        path.gesture(Gesture::Nod);
        assert_eq!((0..40).map(|pose| path.head(pose)).collect::<Vec<_>>(), before);
        let mut calm = Path::new(Motion::new(3));
        assert!((40..80).any(|pose| path.head(pose) != calm.head(pose)), "and what comes does");
    }

    #[test]
    fn a_gesture_of_a_film_is_played_once_from_the_first_undecided_pose() {
        let mut path = Path::new(Motion::none());
        assert_eq!(path.played(9), None);
        path.play(100, 3);
        let frames: Vec<Option<usize>> = (8..14).map(|pose| path.played(pose)).collect();
        assert_eq!(frames, [None, None, Some(100), Some(101), Some(102), None]);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut path = Path::new(Motion::new(1));
        for pose in 0..10_000 {
            path.head(pose);
            path.attend(if pose / 30 % 2 == 0 { Attention::Listening } else { Attention::Idle });
            path.gesture(Gesture::Shake);
            path.play(5, 2);
        }
        assert!(path.changes.len() < 5 && path.gestures.len() < 4 && path.played.len() < 60);
    }
}
