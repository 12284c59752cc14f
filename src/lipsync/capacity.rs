//! What a device can draw: the time that a batch takes, learned from every batch drawn, and the largest that its memory
//! holds. Pure.
//!
//! A batch costs what its size does, and something for each further window of sound: sessions that are drawn together hear a
//! window each. Both are learned from the time on the clock, so what else the machine does is in them. What makes one size slow
//! makes all slow, so each batch says something of the other sizes too: one that was slow at a bad moment would otherwise not be
//! drawn again, and nothing would say that it is quick.

use std::time::Duration;

use super::batch::BATCH_SIZES;

/// Share of what was not expected in what is expected from then on: an eighth smooths a scheduler's noise and follows a clock
/// that drops.
const LEARNING: f64 = 0.125;
/// The same of a batch that took less than half of what was expected: what made one slow, once, is not expected for long, as
/// nothing is drawn of which too much is.
const UNLEARNING: f64 = 0.5;
/// How much of a size's change, as a factor, the others follow: its square root. With all of it, what is wrong between two sizes
/// would stay wrong however often both are drawn.
const FOLLOWING: f64 = 0.5;
/// The most that one batch changes the others by, as a factor, either way.
const MOST_FOLLOWED: f64 = 1.5;
/// How much dearer a frame of a larger batch is believed to be than one of a smaller, at most.
const DEAREST_LARGER: f64 = 1.25;
/// What no batch is believed to take longer than.
const LONGEST: f64 = 3_600.0;
/// Before anything was drawn.
const GUESS_A_FRAME: Duration = crate::timeline::FRAME_DURATION;

/// Times of batches, by size.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// With one window of sound.
    times: [Option<Duration>; BATCH_SIZES.len()],
    /// Each further window.
    window: Duration,
    limit: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { times: [None; BATCH_SIZES.len()], window: Duration::ZERO, limit: LARGEST }
    }
}

const LARGEST: usize = BATCH_SIZES[BATCH_SIZES.len() - 1];

impl Capacity {
    /// Remembers how long a batch with so many windows of sound took. Sizes that are not among [`BATCH_SIZES`] teach nothing.
    pub fn learn(&mut self, frames: usize, windows: usize, took: Duration) {
        let Some(at) = BATCH_SIZES.iter().position(|size| *size == frames) else { return };
        let further = f64::from(count(windows) - 1);
        let known = self.times[at];
        let before = known.unwrap_or_else(|| took.saturating_sub(self.window.mul_f64(further))).as_secs_f64();
        let window = self.window.as_secs_f64();
        // The step of least squares: whichever of the two there is more of in the batch is blamed more.
        let error = took.as_secs_f64() - before - window * further;
        let expected = before + window * further;
        let learning = if took.as_secs_f64() * 2.0 < expected { UNLEARNING } else { LEARNING };
        let step = learning * error / (1.0 + further * further);
        self.times[at] = Some(believable(before + step));
        self.window = believable(window + step * further);
        if before > 0.0 {
            let change = ((before + step).max(0.0) / before).powf(FOLLOWING);
            self.follow(at, change.clamp(1.0 / MOST_FOLLOWED, MOST_FOLLOWED));
        }
    }

    /// All sizes but one take so much longer or shorter than was thought.
    fn follow(&mut self, but: usize, change: f64) {
        for (at, time) in self.times.iter_mut().enumerate() {
            if let Some(time) = time.as_mut().filter(|_| at != but) {
                *time = believable(time.as_secs_f64() * change);
            }
        }
    }

    /// What a batch is expected to take. A size that was never drawn is guessed: one between two by the rate of the smaller, a
    /// larger one by what each further frame took from the one before the largest to the largest.
    pub fn time_of(&self, frames: usize, windows: usize) -> Duration {
        let further = self.window * (count(windows) - 1);
        let known = || self.believed();
        let Some((size, time)) = known().rev().find(|(size, _)| *size <= frames).or_else(|| known().next()) else {
            return GUESS_A_FRAME * count(frames);
        };
        let by_rate = time * count(frames) / count(size);
        let before = known().rev().find(|(other, _)| *other < size);
        let guess = match before {
            Some((smaller, took)) if frames > size && known().next_back() == Some((size, time)) => {
                let a_frame = time.saturating_sub(took) / count(size - smaller);
                (time + a_frame * count(frames - size)).min(by_rate)
            }
            _ => by_rate,
        };
        guess + further
    }

    /// The sizes that were drawn, and what each is believed to take.
    fn believed(&self) -> impl DoubleEndedIterator<Item = (usize, Duration)> + '_ {
        let known = |at: usize| Some((*BATCH_SIZES.get(at)?, (*self.times.get(at)?)?));
        let believe = move |at: usize| {
            let (size, time) = known(at)?;
            let smaller = (0..at).filter_map(known);
            let dearest = smaller.map(|(other, took)| took.mul_f64(DEAREST_LARGER) * count(size) / count(other)).min();
            Some((size, dearest.map_or(time, |dearest| time.min(dearest))))
        };
        (0..BATCH_SIZES.len()).filter_map(believe)
    }

    /// What batches took says nothing any more: the next ones say it anew.
    pub fn forget(&mut self) {
        self.times = [None; BATCH_SIZES.len()];
    }

    /// Frames that a batch may have.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Memory ran out. False if a batch cannot be smaller.
    pub fn halve_limit(&mut self) -> bool {
        let smaller = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        smaller
    }

    /// Memory may be there again. False if batches are as large as they get.
    pub fn double_limit(&mut self) -> bool {
        let larger = self.limit < LARGEST;
        self.limit = (self.limit * 2).min(LARGEST);
        larger
    }

    /// The largest size that is expected to be drawn within a time; 1 if none is.
    pub fn largest_within(&self, time: Duration) -> usize {
        self.sizes().rev().find(|size| self.time_of(*size, 1) <= time).unwrap_or(1)
    }

    /// Frames a second at the size that is cheapest for each frame, of those that take no longer than `longest`; `None`
    /// before anything was drawn.
    pub fn frames_per_second(&self, longest: Duration) -> Option<f64> {
        self.times.iter().any(Option::is_some).then(|| self.learned_rate(longest))
    }

    fn learned_rate(&self, longest: Duration) -> f64 {
        let rate = |size: usize| f64::from(count(size)) / self.time_of(size, 1).as_secs_f64().max(1e-6);
        let fit = self.sizes().filter(|size| self.time_of(*size, 1) <= longest);
        fit.map(rate).fold(rate(1), f64::max)
    }

    fn sizes(&self) -> impl DoubleEndedIterator<Item = usize> + '_ {
        BATCH_SIZES.into_iter().filter(|size| *size <= self.limit)
    }
}

fn believable(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST)).unwrap_or(Duration::ZERO)
}

fn count(frames: usize) -> u32 {
    u32::try_from(frames).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn sizes_that_were_never_drawn_are_guessed_from_their_neighbours() {
        let mut capacity = Capacity::default();
        assert_eq!(capacity.time_of(2, 1), GUESS_A_FRAME * 2);
        capacity.learn(2, 1, ms(20));
        assert_eq!((capacity.time_of(1, 1), capacity.time_of(2, 1), capacity.time_of(8, 1)), (ms(10), ms(20), ms(80)));
        capacity.learn(4, 1, ms(30));
        assert_eq!((capacity.time_of(3, 1), capacity.time_of(8, 1), capacity.time_of(16, 1)), (ms(30), ms(50), ms(90)));
    }

    #[test]
    fn one_slow_batch_is_not_believed_and_many_are() {
        let mut capacity = Capacity::default();
        capacity.learn(1, 1, ms(10));
        capacity.learn(1, 1, ms(90));
        assert_eq!(capacity.time_of(1, 1), ms(20));
        (0..60).for_each(|_| capacity.learn(1, 1, ms(90)));
        assert!(capacity.time_of(1, 1) > ms(89));
    }

    #[test]
    fn a_size_that_was_slow_once_and_is_not_drawn_again_is_believed_to_be_as_quick_as_the_others() {
        let mut capacity = Capacity::default();
        capacity.learn(4, 1, ms(40));
        capacity.learn(8, 1, ms(900));
        assert_eq!((capacity.time_of(4, 1), capacity.time_of(8, 1)), (ms(40), ms(100)));
    }

    #[test]
    fn what_makes_one_size_slow_makes_all_slow_until_it_is_over() {
        let mut capacity = Capacity::default();
        for (size, took) in [(1, 10), (4, 30), (8, 50)] {
            capacity.learn(size, 1, ms(took));
        }
        let before = capacity.clone();
        (0..60).for_each(|_| capacity.learn(4, 1, ms(90)));
        assert!(capacity.time_of(1, 1) > ms(15) && capacity.time_of(8, 1) > ms(80), "{capacity:?}");
        (0..60).for_each(|_| capacity.learn(4, 1, ms(30)));
        for size in [1, 4, 8] {
            assert!(capacity.time_of(size, 1).abs_diff(before.time_of(size, 1)) < ms(1), "{capacity:?}");
        }
    }

    #[test]
    fn what_is_wrong_between_two_sizes_is_put_right_where_both_are_drawn() {
        let mut capacity = Capacity::default();
        capacity.learn(1, 1, ms(10));
        capacity.learn(4, 1, ms(45));
        (0..200).for_each(|at| capacity.learn([1, 4][at % 2], 1, ms([12, 24][at % 2])));
        let near = |found: Duration, wanted: u64| found.abs_diff(ms(wanted)) < ms(2);
        assert!(near(capacity.time_of(1, 1), 12) && near(capacity.time_of(4, 1), 24), "{capacity:?}");
    }

    #[test]
    fn batches_that_take_for_ever_and_no_time_at_all_by_turns_leave_times_that_can_be_reckoned_with() {
        let mut capacity = Capacity::default();
        for at in 0..10_000 {
            let took = if at % 3 == 0 { Duration::MAX } else { Duration::ZERO };
            capacity.learn(BATCH_SIZES[at % 5], 1 + at % 4, took);
            BATCH_SIZES
                .into_iter()
                .for_each(|size| assert!(capacity.time_of(size, 16) < Duration::from_secs(100_000_000)));
        }
        (0..200).for_each(|at| capacity.learn(BATCH_SIZES[at % 5], 1, ms(10)));
        assert!(capacity.time_of(1, 1) < ms(20), "{capacity:?}");
    }

    /// One frame takes 20 ms, each window of sound after the first 6.
    #[test]
    fn what_further_windows_take_is_told_from_what_frames_take() {
        let mut capacity = Capacity::default();
        capacity.learn(4, 1, ms(80));
        (0..60).for_each(|at| capacity.learn(4, 1 + at % 4, ms(80 + 6 * (at as u64 % 4))));
        let near = |found: Duration, wanted: u64| found.abs_diff(ms(wanted)) < ms(2);
        assert!(near(capacity.time_of(4, 1), 80) && near(capacity.time_of(4, 4), 98), "{capacity:?}");
        // Beside other programs everything takes twice as long.
        (0..600).for_each(|at| capacity.learn(4, 1 + at % 4, ms(160 + 12 * (at as u64 % 4))));
        assert!(near(capacity.time_of(4, 1), 160) && near(capacity.time_of(4, 4), 196), "{capacity:?}");
    }

    #[test]
    fn the_rate_is_the_best_size_that_keeps_others_from_waiting_long() {
        assert_eq!(Capacity::default().frames_per_second(ms(60)), None);
        let mut capacity = Capacity::default();
        for (size, took) in [(1, 16), (2, 25), (4, 44), (8, 80), (16, 144)] {
            capacity.learn(size, 1, ms(took));
        }
        assert_eq!(capacity.largest_within(ms(60)), 4);
        assert_eq!(capacity.largest_within(ms(1)), 1);
        assert!((capacity.frames_per_second(ms(60)).unwrap() - 4.0 / 0.044).abs() < 0.1);
        assert!((capacity.frames_per_second(ms(200)).unwrap() - 16.0 / 0.144).abs() < 0.1);
    }

    #[test]
    fn batches_are_smaller_after_memory_ran_out_until_it_is_back() {
        let mut capacity = Capacity::default();
        BATCH_SIZES.into_iter().for_each(|size| capacity.learn(size, 1, ms(10)));
        assert_eq!((capacity.largest_within(ms(60)), capacity.double_limit()), (16, false));
        assert!(capacity.halve_limit() && capacity.halve_limit());
        assert_eq!((capacity.limit(), capacity.largest_within(ms(60))), (4, 4));
        assert!((capacity.frames_per_second(ms(60)).unwrap() - 400.0).abs() < 0.1);
        assert!(capacity.halve_limit() && capacity.halve_limit() && !capacity.halve_limit());
        assert_eq!((capacity.limit(), capacity.double_limit(), capacity.limit()), (1, true, 2));
    }
}
