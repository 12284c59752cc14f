//! What each attention looks like: where it looks, how far the head goes with the eyes, how it holds itself.
//!
//! In here: those numbers, and how one goes over into the next.

use super::chance::{Chance, Span, Stream, ease};
use super::{Attention, AttentionChange, EARLY, FIXATION, HEAD_DELAY, RATE, SACCADE};

/// How a head behaves while it attends to something. Angles in degrees; x to the right as seen, y down.
struct Manner {
    /// How many fixations are not on the viewer.
    away: f32,
    /// How far one on the viewer is beside them.
    near: [f32; 2],
    /// How far one elsewhere is away.
    far: [f32; 2],
    /// Where those elsewhere lie about.
    aside: [f32; 2],
    /// How much of its way the head goes with the eyes.
    follow: f32,
    /// How far the head is elsewhere than where it looks: yaw, pitch, roll.
    own: [f32; 3],
    /// How the head is held: yaw, pitch, roll.
    held: [f32; 3],
    /// How much nearer the head is, as a part of its size.
    lean: f32,
    /// Seconds of a move of the head.
    seconds: f64,
    /// How far the lids are down.
    lids: f32,
}

const IDLE: Manner = Manner {
    away: 0.35,
    near: [1.2, 0.8],
    far: [7.0, 2.5],
    aside: [0.0, -0.5],
    follow: 0.45,
    own: [1.4, 0.9, 1.0],
    held: [0.0, 0.0, 0.0],
    lean: 0.0,
    seconds: 0.9,
    lids: 0.0,
};
const LISTENING: Manner = Manner {
    away: 0.06,
    near: [0.8, 0.5],
    far: [3.0, 1.0],
    aside: [0.0, 0.0],
    follow: 0.4,
    own: [0.7, 0.4, 1.2],
    held: [0.0, 0.7, 0.0],
    lean: 0.012,
    seconds: 0.8,
    lids: 0.0,
};
const THINKING: Manner = Manner {
    away: 0.85,
    near: [1.5, 1.0],
    far: [6.5, 1.5],
    aside: [0.0, -5.5],
    follow: 0.4,
    own: [1.0, 0.7, 0.9],
    held: [0.0, -0.6, 0.0],
    lean: -0.004,
    seconds: 1.2,
    lids: 0.04,
};
const SPEAKING: Manner = Manner {
    away: 0.22,
    near: [1.3, 0.8],
    far: [5.0, 2.0],
    aside: [0.0, -0.8],
    follow: 0.5,
    own: [2.0, 1.0, 1.3],
    held: [0.0, 0.2, 0.0],
    lean: 0.004,
    seconds: 0.65,
    lids: 0.0,
};
const ALL: [(Attention, Manner); 4] = [
    (Attention::Idle, IDLE),
    (Attention::Listening, LISTENING),
    (Attention::Thinking, THINKING),
    (Attention::Speaking, SPEAKING),
];

/// How the head is while it looks at something.
#[derive(Default)]
pub(super) struct Held {
    /// Yaw, pitch, roll.
    pub(super) head: [f32; 3],
    pub(super) lean: f32,
}

/// How much there is of each attention; all together are 1.
pub(super) struct Mix([f32; 4]);

/// The attention of one pose, without a way to it.
pub(super) fn state_at(changes: &[AttentionChange], at: u64) -> Attention {
    changes.iter().rev().find(|change| change.from_pose <= at).map_or(Attention::Idle, |change| change.attention)
}

impl Mix {
    /// Every change takes `ramp` poses, those that come meanwhile too: the sum of ways is as smooth as each of them.
    pub(super) fn at(changes: &[AttentionChange], at: u64, ramp: f64) -> Self {
        let begun = |change: &AttentionChange| {
            at.checked_sub(change.from_pose).map_or(0.0, |passed| ease((passed as f64 + 1.0) / (ramp + 1.0)))
        };
        let mut parts = [0.0; 4];
        let mut current = Attention::Idle;
        let mut given = 1.0;
        for change in changes {
            let way = begun(change);
            Self::add(&mut parts, current, given - way);
            (current, given) = (change.attention, way);
        }
        Self::add(&mut parts, current, given);
        Self(parts)
    }

    fn add(parts: &mut [f32; 4], attention: Attention, part: f32) {
        let places = parts.iter_mut().zip(&ALL);
        places.filter(|(_, (other, _))| *other == attention).for_each(|(sum, _)| *sum += part);
    }

    pub(super) fn listening(&self) -> f32 {
        self.0[1]
    }

    pub(super) fn speaking(&self) -> f32 {
        self.0[3]
    }

    pub(super) fn lids(&self) -> f32 {
        self.parts().map(|(part, manner)| part * manner.lids).sum()
    }

    /// Where the eyes look, in degrees from the viewer: from one fixation to the next in a glance, trembling meanwhile.
    pub(super) fn fixation_of_eyes(&self, chance: &Chance, time: f64) -> [f32; 2] {
        let mut place = [0.0; 2];
        for (part, manner) in self.parts() {
            let [from, to] = fixations(chance, time, |span| manner.looks_at(span));
            let way = ease(to.1 / SACCADE);
            place.iter_mut().zip(from.0.iter().zip(to.0)).for_each(|(sum, (from, to))| {
                *sum += part * (from + (to - from) * way);
            });
        }
        let micro = |which| {
            let (here, last) = (0, 1);
            let [here, last] = [here, last].map(|before| chance.span(Stream::Micro, 0.7 * RATE, time, before));
            let way = ease(here.passed() * here.length / 2.0);
            0.7 * (last.signed(which) + (here.signed(which) - last.signed(which)) * way)
        };
        [place[0] + micro(0), place[1] + 0.5 * micro(1)]
    }

    /// How the head is held meanwhile: it follows the eyes later and slower, part of the way.
    pub(super) fn fixation_of_head(&self, chance: &Chance, time: f64) -> Held {
        let mut held = Held::default();
        for (part, manner) in self.parts() {
            let [from, to] = fixations(chance, time, |span| manner.holds(span));
            let way = ease((to.1 - HEAD_DELAY) / (manner.seconds * RATE));
            held.head.iter_mut().zip(from.0.iter().zip(to.0)).for_each(|(sum, (from, to))| {
                *sum += part * (from + (to - from) * way);
            });
            held.lean += part * manner.lean;
        }
        held
    }

    fn parts(&self) -> impl Iterator<Item = (f32, &'static Manner)> {
        self.0.into_iter().zip(&ALL).filter(|(part, _)| *part > 0.0).map(|(part, (_, manner))| (part, manner))
    }
}

impl Manner {
    fn looks_at(&self, span: &Span<'_>) -> [f32; 2] {
        let [x, y] = [span.signed(1), span.signed(2)];
        if span.draw(3) < self.away {
            // Not by a little: aside is beside the viewer.
            let x = if x < 0.0 { x / 2.0 - 0.5 } else { x / 2.0 + 0.5 };
            [self.aside[0] + self.far[0] * x, self.aside[1] + self.far[1] * y]
        } else {
            [self.near[0] * x, self.near[1] * y]
        }
    }

    fn holds(&self, span: &Span<'_>) -> [f32; 3] {
        let [x, y] = self.looks_at(span).map(|turn| self.follow * turn);
        let own: [f32; 3] = std::array::from_fn(|axis| self.held[axis] + self.own[axis] * span.signed(4 + axis as u64));
        [x + own[0], y + own[1], own[2]]
    }
}

/// What the last fixation and the present one have, each with the poses that have passed since it began.
fn fixations<T>(chance: &Chance, time: f64, of: impl Fn(&Span<'_>) -> T) -> [(T, f64); 2] {
    let at = |before: i64| {
        let span = chance.span(Stream::Fixation, FIXATION, time, before);
        let passed = (span.passed() - EARLY * f64::from(span.draw(0))) * span.length;
        (span, passed)
    };
    let present = if at(0).1 >= 0.0 { 0 } else { 1 };
    [at(present + 1), at(present)].map(|(span, passed)| (of(&span), passed))
}
