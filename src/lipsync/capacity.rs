//! What a device can draw: the time that a batch takes, learned from every batch drawn, and the largest that its memory
//! holds. Pure.
//!
//! A batch costs what its size does, and something for each further window of sound: sessions that are drawn together hear a
//! window each. Both are learned from the time on the clock, so what else the machine does is in them.

use std::time::Duration;

use super::batch::BATCH_SIZES;

/// Share of what was not expected in what is expected from then on: an eighth smooths a scheduler's noise and follows a clock
/// that drops.
const LEARNING: f64 = 0.125;
/// The same of a batch that took less than half of what was expected: what made one slow, once, is not expected for long, as
/// nothing is drawn of which too much is.
const UNLEARNING: f64 = 0.5;
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
        let at_least_nothing = |seconds: f64| Duration::from_secs_f64(seconds.max(0.0));
        self.times[at] = Some(at_least_nothing(before + step));
        self.window = at_least_nothing(window + step * further);
    }

    /// What a batch is expected to take. A size that was never drawn is guessed: one between two by the rate of the smaller, a
    /// larger one by what each further frame took from the one before the largest to the largest.
    pub fn time_of(&self, frames: usize, windows: usize) -> Duration {
        let further = self.window * (count(windows) - 1);
        let known = || BATCH_SIZES.iter().zip(&self.times).filter_map(|(size, time)| Some((*size, (*time)?)));
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
