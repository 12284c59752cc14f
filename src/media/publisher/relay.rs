//! Which of two encodes of one stream comes through while one takes the place of the other.
//!
//! In here: the change from one to the other at a moment that is set beforehand, so that what is presented before it is all
//! of the one, what is presented from it on all of the other, nothing comes twice and nothing is missing, in whichever order
//! the two deliver. Not in here: who sets the moment (`sink`), where it goes (`outlet`). Pure.

use crate::timeline::MediaTime;

/// What is presented within so many nanoseconds is presented at the same moment: less than half of the shortest packet of
/// sound, more than what encoders round away.
const TOLERANCE: u64 = 4_000_000;

/// Encodes of a stream in their order; the first one is 0.
pub(super) type Generation = u64;

/// What has left an encoder.
#[derive(Clone, Debug)]
pub(super) struct Encoded<T> {
    pub generation: Generation,
    /// When it is presented.
    pub at: MediaTime,
    /// Whether it can be decoded without anything before it.
    pub is_key: bool,
    pub item: T,
}

#[derive(Debug)]
pub(super) struct Relay<T> {
    passing: Generation,
    next: Option<Next<T>>,
    /// So many of the one are waited with for the other, which is not ready in time if there are more.
    most_held: usize,
}

/// One that is to take the place of what passes.
#[derive(Debug)]
struct Next<T> {
    generation: Generation,
    stage: Stage,
    /// Of the one that passes, from the moment on.
    held: Vec<(MediaTime, T)>,
}

/// How far the next one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing came of it that a decoder could begin with.
    Rehearses,
    /// It encodes, and may take over.
    Ready,
    /// It takes over with what is presented from then on, by its first key frame.
    Enters(MediaTime),
    /// It passes, or is not there.
    Settled,
}

impl<T> Relay<T> {
    pub fn new(most_held: usize) -> Self {
        Self { passing: 0, next: None, most_held }
    }

    pub fn passing(&self) -> Generation {
        self.passing
    }

    pub fn stage(&self) -> Stage {
        self.next.as_ref().map_or(Stage::Settled, |next| next.stage)
    }

    /// Listens to another one, which comes to nobody yet.
    pub fn rehearse(&mut self, generation: Generation) {
        self.next = Some(Next { generation, stage: Stage::Rehearses, held: Vec::new() });
    }

    /// The next one takes over with what is presented from then on.
    pub fn enter(&mut self, at: MediaTime) {
        if let Some(next) = &mut self.next {
            next.stage = Stage::Enters(at);
        }
    }

    /// The one that passes goes on, with what was held of it.
    pub fn forget(&mut self, mut pass: impl FnMut(T)) {
        if let Some(next) = self.next.take() {
            next.held.into_iter().for_each(|(_, item)| pass(item));
        }
    }

    /// Gives to `pass` what goes on because of this.
    pub fn arrives(&mut self, encoded: Encoded<T>, mut pass: impl FnMut(T)) {
        let Encoded { generation, at, is_key, item } = encoded;
        let Some(next) = &mut self.next else {
            if generation == self.passing {
                pass(item);
            }
            return;
        };
        let is_reached = |moment: MediaTime| at.nanos() + TOLERANCE >= moment.nanos();
        if generation == next.generation {
            match next.stage {
                Stage::Rehearses if is_key => next.stage = Stage::Ready,
                Stage::Enters(moment) if is_key && is_reached(moment) => {
                    let before = |held: MediaTime| held.nanos() + TOLERANCE < at.nanos();
                    for (_, item) in std::mem::take(&mut next.held).into_iter().filter(|(held, _)| before(*held)) {
                        pass(item);
                    }
                    self.passing = generation;
                    self.next = None;
                    pass(item);
                }
                _ => {}
            }
        } else if generation == self.passing {
            match next.stage {
                Stage::Enters(moment) if is_reached(moment) => {
                    next.held.push((at, item));
                    if next.held.len() > self.most_held {
                        // It comes too late: another moment.
                        next.stage = Stage::Ready;
                        std::mem::take(&mut next.held).into_iter().for_each(|(_, item)| pass(item));
                    }
                }
                _ => pass(item),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELD: usize = 3;

    fn at(frame: u64) -> MediaTime {
        MediaTime::from_nanos(frame * 40_000_000)
    }

    fn encoded(generation: Generation, frame: u64, is_key: bool) -> Encoded<(Generation, u64)> {
        Encoded { generation, at: at(frame), is_key, item: (generation, frame) }
    }

    fn arrive(relay: &mut Relay<(Generation, u64)>, encoded: Encoded<(Generation, u64)>) -> Vec<(Generation, u64)> {
        let mut passed = Vec::new();
        relay.arrives(encoded, |item| passed.push(item));
        passed
    }

    #[test]
    fn the_next_one_comes_from_its_key_frame_on_and_the_last_one_up_to_it() {
        let mut relay = Relay::new(HELD);
        assert_eq!(arrive(&mut relay, encoded(0, 0, true)), [(0, 0)]);
        relay.rehearse(1);
        assert_eq!(arrive(&mut relay, encoded(1, 1, true)), []);
        assert_eq!((relay.stage(), arrive(&mut relay, encoded(0, 1, false))), (Stage::Ready, vec![(0, 1)]));
        relay.enter(at(3));
        assert_eq!(arrive(&mut relay, encoded(1, 2, true)), [], "too early");
        assert_eq!(arrive(&mut relay, encoded(0, 2, false)), [(0, 2)]);
        assert_eq!(arrive(&mut relay, encoded(0, 3, false)), [], "held");
        assert_eq!(arrive(&mut relay, encoded(1, 3, true)), [(1, 3)]);
        assert_eq!((relay.stage(), relay.passing()), (Stage::Settled, 1));
        assert_eq!(arrive(&mut relay, encoded(0, 4, true)), [], "what comes late of the last one");
        assert_eq!(arrive(&mut relay, encoded(1, 4, false)), [(1, 4)]);
    }

    #[test]
    fn one_that_does_not_come_in_time_lets_the_other_go_on() {
        let mut relay = Relay::new(HELD);
        relay.rehearse(1);
        arrive(&mut relay, encoded(1, 0, true));
        relay.enter(at(1));
        let passed: Vec<_> = (0..6).flat_map(|frame| arrive(&mut relay, encoded(0, frame, false))).collect();
        assert_eq!(passed, (0..6).map(|frame| (0, frame)).collect::<Vec<_>>(), "each once, in order");
        assert_eq!(relay.stage(), Stage::Ready);
        relay.enter(at(7));
        assert_eq!(arrive(&mut relay, encoded(0, 7, false)), []);
        let mut released = Vec::new();
        relay.forget(|item| released.push(item));
        assert_eq!((released, relay.passing()), (vec![(0, 7)], 0));
    }

    #[test]
    fn packets_of_another_length_follow_without_a_hole() {
        // Of 20 ms before, of 60 ms after, which begin on a grid of their own.
        let ms = |ms: u64| MediaTime::from_nanos(ms * 1_000_000);
        let packet = |generation, at| Encoded { generation, at: ms(at), is_key: true, item: (generation, at) };
        let mut relay = Relay::new(6);
        relay.rehearse(1);
        let mut passed = Vec::new();
        relay.arrives(packet(1, 0), |item| passed.push(item));
        relay.enter(ms(80));
        for encoded in [(0, 60), (1, 60), (0, 80), (0, 100), (1, 120)].map(|(generation, at)| packet(generation, at)) {
            relay.arrives(encoded, |item| passed.push(item));
        }
        assert_eq!(passed, [(0, 60), (0, 80), (0, 100), (1, 120)]);
    }

    proptest! {
        /// However late either of the two delivers, as long as the next one is not much later than the other.
        #[test]
        fn every_picture_comes_once_and_in_order(moment in 3..20u64, delays in prop::collection::vec((0..2u64, 0..3u64), 40)) {
            let mut deliveries = Vec::new();
            let (mut old, mut new) = (0, 0);
            for (frame, (one, other)) in (0u64..).zip(&delays) {
                // An encoder delivers in order.
                old = old.max((frame + one) * 10);
                new = new.max((frame + other) * 10 + 1);
                deliveries.push((old, 0, frame));
                deliveries.push((new, 1, frame));
            }
            deliveries.sort_by_key(|(due, generation, frame)| (*due, *generation, *frame));
            let mut relay = Relay::new(HELD);
            relay.rehearse(1);
            let mut passed = Vec::new();
            for (_, generation, frame) in deliveries {
                if relay.stage() == Stage::Ready {
                    relay.enter(at(moment));
                }
                passed.extend(arrive(&mut relay, encoded(generation, frame, generation == 0 || frame == 0 || frame == moment)));
            }
            let frames: Vec<u64> = passed.iter().map(|(_, frame)| *frame).collect();
            prop_assert_eq!(frames, (0..40).collect::<Vec<_>>());
            prop_assert_eq!(passed.iter().filter(|(generation, _)| *generation == 0).count() as u64, moment);
        }
    }
}
