//! How a head moves that nobody directs: breathing, small turns, blinks, glances; and what an attention or a gesture adds.
//!
//! In here: [`Motion`], a pure function of a seed and a pose number; `chance` has its random numbers, `gestures` what is
//! asked for by name. Not in here: what a pose does to a picture (`still::Still`). Runs on: whichever thread asks; nothing
//! is kept from one pose to the next, so any of them may be asked for first.
//!
//! Eyes go first and the head follows: a *fixation* is a place that is looked at. The eyes are there within three poses,
//! the head takes part of the way half a second later, and meanwhile the eyes turn back in the head.

mod chance;
mod gestures;
mod manner;

use chance::{Chance, Stream};
pub use gestures::{Gesture, GestureAt};
use manner::{Mix, state_at};

use super::HeadPose;

/// Poses a second, as the timeline has frames.
const RATE: f64 = 25.0;
/// Poses that the head takes from one attention to the next.
const HEAD_RAMP: f64 = 15.0;
/// Poses that the eyes take.
const EYE_RAMP: f64 = 4.0;
/// Poses between two fixations, as the mean.
const FIXATION: f64 = 2.6 * RATE;
/// Part of its span of time within which a fixation begins; the rest is the least that it lasts.
const EARLY: f64 = 0.45;
/// Poses of a glance from one fixation to the next.
const SACCADE: f64 = 3.0;
/// Poses by which the head is later than the eyes.
const HEAD_DELAY: f64 = 3.0;
/// Poses of a breath, as the mean.
const BREATH: f64 = 4.1 * RATE;
/// The chest's lift, in face widths.
const BREATH_LIFT: f32 = 0.016;
/// Poses between two blinks, as the mean; each begins within the first half of its span, so 2 to 6 s lie between them.
const BLINK: f64 = 4.0 * RATE;
/// The lids in the poses of a blink.
const LIDS: [f32; 7] = [0.25, 0.8, 1.0, 0.9, 0.6, 0.3, 0.1];
/// One blink in so many is followed by another.
const DOUBLE: f32 = 0.12;
/// The most that an eye turns in the head, in degrees.
const MOST_GAZE: f32 = 9.0;

/// What the head attends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Attention {
    /// Nothing in particular: it looks about a little.
    #[default]
    Idle,
    /// Whoever speaks to it: calm, towards the viewer, nodding now and then.
    Listening,
    /// What it is going to say: eyes up and aside, slowly.
    Thinking,
    /// What it says: lively, with small beats.
    Speaking,
}

/// From which pose on the head attends to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionChange {
    /// The first pose on the way to it, which takes half a second.
    pub from_pose: u64,
    /// What it is from then on.
    pub attention: Attention,
}

/// What moves a head, endlessly and never twice the same way. 25 poses make a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motion {
    /// `None` stands still.
    chance: Option<Chance>,
}

impl Motion {
    /// Motion for ever; another seed moves otherwise.
    pub fn new(seed: u64) -> Self {
        Self { chance: Some(Chance { seed, period: None }) }
    }

    /// Motion that begins again after `poses`, without a jump: pose `poses` is pose 0. For frames that are stored; 200 to
    /// 250 poses leave room for two breaths and three fixations.
    pub fn looped(seed: u64, poses: u64) -> Self {
        Self { chance: Some(Chance { seed, period: Some(poses.max(1)) }) }
    }

    /// The picture as it is, at every pose.
    pub fn none() -> Self {
        Self { chance: None }
    }

    /// The head at pose `at`.
    ///
    /// Both lists are sorted by pose. Idle is what it attends to before the first change, so whoever forgets changes keeps
    /// those of the last second and the one before them; a gesture is over after [`Gesture::poses`].
    pub fn pose(&self, changes: &[AttentionChange], gestures: &[GestureAt], at: u64) -> HeadPose {
        let Some(chance) = &self.chance else { return HeadPose::default() };
        let time = chance.time(at);
        let slow = Mix::at(changes, at, HEAD_RAMP);
        let fast = Mix::at(changes, at, EYE_RAMP);
        let looked_at = slow.fixation_of_head(chance, time);
        let sway = |stream| {
            let slow = chance.drift(Stream::Sway(stream), 1.9 * RATE, time);
            slow + 0.35 * chance.drift(Stream::Sway(stream + 8), 0.83 * RATE, time)
        };
        let [yaw, pitch, roll] = looked_at.head;
        let gesture = gestures::all(gestures, at);
        let beat = slow.speaking() * beats(chance, time);
        let nod = slow.listening() * nods(chance, time);
        let breath = breath(chance, time);
        let mut pose = HeadPose {
            yaw: yaw + 0.5 * sway(0) + slow.speaking() * 0.5 * sway(3) + gesture.yaw,
            pitch: pitch + 0.35 * sway(1) + beat + nod + gesture.pitch - 0.25 * breath,
            roll: roll + 0.3 * sway(2) + gesture.roll,
            shift: [0.003 * sway(4), 0.0015 * sway(5)],
            scale: looked_at.lean,
            breath: BREATH_LIFT * breath,
            lids: 0.0,
            gaze: [0.0; 2],
        };
        let eyes = fast.fixation_of_eyes(chance, time);
        // A nod does not take the eyes off whoever is looked at.
        pose.gaze = [eyes[0] - pose.yaw, eyes[1] - pose.pitch].map(|turn| soft(turn, MOST_GAZE));
        let follow = (0.022 * pose.gaze[1]).max(0.0) + slow.lids();
        pose.lids = follow + (1.0 - follow) * blink(chance, changes, at);
        pose
    }
}

/// `value`, never beyond `most` in size, without a corner.
fn soft(value: f32, most: f32) -> f32 {
    most * (value / most).tanh()
}

/// How full the chest is, 0 to 1: in faster than out, no breath as long as the last.
fn breath(chance: &Chance, time: f64) -> f32 {
    let late = f64::from(0.12 * chance.drift(Stream::Breath, 2.3 * BREATH, time));
    let phase = std::f64::consts::TAU * (chance.spans(BREATH, time) + late);
    #[allow(clippy::cast_possible_truncation, reason = "0 to 1")]
    let full = (0.5 - 0.5 * (phase + 0.45 * phase.sin()).cos()) as f32;
    full * (1.0 + 0.2 * chance.drift(Stream::Depth, BREATH, time))
}

/// Small nods by which speech is stressed, in degrees.
fn beats(chance: &Chance, time: f64) -> f32 {
    let each = 0.9 * RATE;
    (0..2)
        .map(|before| {
            let span = chance.span(Stream::Beat, each, time, before);
            let (begins, size) = (0.4 * span.draw(0), span.draw(1));
            let length = 0.55 + 0.35 * span.draw(2);
            let bump = gestures::bump((span.passed() - f64::from(begins)) / f64::from(length));
            if size < 0.3 { 0.0 } else { 1.7 * size * bump }
        })
        .sum()
}

/// Nods of somebody who listens, in degrees.
fn nods(chance: &Chance, time: f64) -> f32 {
    (0..2)
        .map(|before| {
            let span = chance.span(Stream::Nod, 3.4 * RATE, time, before);
            let begins = 0.6 * f64::from(span.draw(0));
            let poses = (span.passed() - begins) * span.length;
            if span.draw(1) < 0.45 { 0.0 } else { (0.45 + 0.35 * span.draw(2)) * gestures::nod(poses) }
        })
        .sum()
}

/// How far the lids are down for a blink, 0 to 1.
fn blink(chance: &Chance, changes: &[AttentionChange], at: u64) -> f32 {
    let time = chance.time(at);
    (0..2)
        .map(|before| {
            let span = chance.span(Stream::Blink, BLINK, time, before);
            let begins = (0.5 * f64::from(span.draw(0)) * span.length).round();
            let passed = span.passed() * span.length - begins;
            let double = span.draw(1) < DOUBLE;
            let [first, second] = [passed, passed - 10.0].map(lids);
            // The attention at its beginning decides, so that no blink is cut off.
            let attention = state_at(changes, pose_before(at, passed));
            let seldom = attention == Attention::Listening && span.draw(2) < 0.4;
            if seldom { 0.0 } else { first.max(if double { second } else { 0.0 }) }
        })
        .fold(0.0, f32::max)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates at 0")]
fn pose_before(at: u64, poses: f64) -> u64 {
    at.saturating_sub(poses.round() as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is negative is sorted out before")]
fn lids(passed: f64) -> f32 {
    if passed < -0.5 { 0.0 } else { LIDS.get(passed.round() as usize).copied().unwrap_or(0.0) }
}

#[cfg(test)]
mod tests;
