//! Which waiting runs of frames are drawn next, together. Pure: time and capacity are arguments.
//!
//! A *run* is a few consecutive frames of one session, which share a window of sound; a *batch* is what the network draws
//! in one go, runs of several sessions. The rules:
//! - Earliest deadline first, across sessions. A run's deadline is when its first frame is due on screen. Runs without one
//!   (films) come last and never wait.
//! - A batch is no larger than what still meets its first deadline, and takes no longer than [`LONGEST_BATCH`], which is
//!   what a first word may have to wait. Its size is one of [`BATCH_SIZES`].
//! - A batch that could be larger waits for company while its first deadline is further than [`SAFE_DISTANCE`] away and nothing
//!   else could be drawn meanwhile.
//! - If not all that waits can be in time, every second frame is left out of what is drawn, and batches are as large as
//!   they may be. What would mostly come too late is not drawn at all, or all that follows would be late as well. Playout
//!   shows the mouth before once more, and the sound goes on.
//!
//! Fairness follows: a session has a bounded number of frames ahead of the screen (`animation`), so however much text it has
//! queued, another's first word has the earlier deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::BATCH_SIZES;
use super::capacity::Capacity;
use crate::timeline::FRAME_DURATION;

/// Longest that a batch should take.
pub const LONGEST_BATCH: Duration = Duration::from_millis(80);
/// Distance of a deadline from which on waiting for company is no risk: a few batches of the longest.
pub const SAFE_DISTANCE: Duration = Duration::from_millis(240);

/// A run that waits to be drawn: consecutive frames of a session.
#[derive(Debug)]
pub struct Pending<T> {
    /// When the first frame is due on screen, and each other one [`FRAME_DURATION`] later.
    pub deadline: Option<Instant>,
    /// How many.
    pub frames: usize,
    /// Playout waits for it, so it is drawn however late: the first of a sentence.
    pub awaited: bool,
    /// What is given back with it.
    pub item: T,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Draw these together.
    Draw(Vec<Scheduled<T>>),
    /// Nothing that waits needs to be drawn before then.
    Wait(Instant),
    /// Nothing waits.
    Nothing,
}

/// A run that is to be drawn.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheduled<T> {
    /// As it was pushed.
    pub item: T,
    /// Draw its first frame and every second one after it.
    pub every_second: bool,
}

/// The runs that wait.
#[derive(Debug)]
pub struct Scheduler<T> {
    /// By deadline, none last; then by arrival.
    waiting: BTreeMap<(bool, Option<Instant>, u64), Pending<T>>,
    arrivals: u64,
}

impl<T> Default for Scheduler<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), arrivals: 0 }
    }
}

impl<T> Scheduler<T> {
    /// How many runs wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in a run.
    pub fn push(&mut self, run: Pending<T>) {
        self.waiting.insert((run.deadline.is_none(), run.deadline, self.arrivals), run);
        self.arrivals += 1;
    }

    /// Takes out what nobody wants any more.
    pub fn remove_if(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        self.take(|run| unwanted(&run.item))
    }

    /// Takes out what would come when more than half of it has left.
    pub fn remove_late(&mut self, now: Instant, capacity: &Capacity) -> Vec<T> {
        let full = capacity.time_of(capacity.largest_within(LONGEST_BATCH));
        let halved = self.is_overloaded(now, capacity);
        self.take(|run| {
            // Without time for all, what is drawn is drawn in full batches.
            let done = now + if halved { full } else { capacity.time_of(run.frames) };
            let half = FRAME_DURATION * u32::try_from(run.frames / 2).unwrap_or(u32::MAX);
            !run.awaited && run.deadline.is_some_and(|first| done > first + half)
        })
    }

    fn take(&mut self, mut condition: impl FnMut(&Pending<T>) -> bool) -> Vec<T> {
        self.waiting.extract_if(.., |_, run| condition(run)).map(|(_, run)| run.item).collect()
    }

    /// Decides, and takes out what is to be drawn.
    pub fn next(&mut self, now: Instant, capacity: &Capacity) -> Next<T> {
        let Some(first) = self.waiting.values().next() else { return Next::Nothing };
        let halved = self.is_overloaded(now, capacity);
        let longest = capacity.largest_within(LONGEST_BATCH).max(first.frames);
        let alone = capacity.time_of(first.frames);
        let room = match first.deadline {
            None => LONGEST_BATCH,
            Some(deadline) => {
                let begin = deadline.checked_sub(alone + SAFE_DISTANCE).unwrap_or(now);
                let enough = self.waiting.values().map(|run| run.frames).sum::<usize>() >= longest;
                let film = self.waiting.keys().next_back().is_some_and(|(film, ..)| *film);
                if begin > now && !enough && !film {
                    return Next::Wait(begin);
                }
                deadline.saturating_duration_since(now)
            }
        };
        let room = if halved { LONGEST_BATCH } else { room.max(alone) };
        let most = capacity.largest_within(room).clamp(first.frames, longest);
        Next::Draw(self.take_batch(most, halved))
    }

    /// Whether some run would miss its deadline if all were drawn in order, whole.
    fn is_overloaded(&self, now: Instant, capacity: &Capacity) -> bool {
        let mut frames = 0;
        self.waiting.values().any(|run| {
            frames += run.frames;
            !run.awaited && run.deadline.is_some_and(|deadline| now + capacity.time_of(frames) > deadline)
        })
    }

    /// The first run and whichever of those behind it fit, to one of the fixed sizes.
    fn take_batch(&mut self, most: usize, halved: bool) -> Vec<Scheduled<T>> {
        let drawn = |run: &Pending<T>| if halved && !run.awaited { run.frames.div_ceil(2) } else { run.frames };
        let (mut keys, mut total) = (Vec::new(), 0);
        // Up to where the chosen ones make one of the fixed sizes.
        let mut good = 1;
        for (key, run) in &self.waiting {
            if keys.is_empty() || total + drawn(run) <= most {
                keys.push(*key);
                total += drawn(run);
                if BATCH_SIZES.contains(&total) {
                    good = keys.len();
                }
            }
        }
        keys.truncate(good);
        let runs = keys.into_iter().filter_map(|key| self.waiting.remove(&key));
        runs.map(|run| Scheduled { every_second: halved && !run.awaited && run.frames > 1, item: run.item }).collect()
    }
}

#[cfg(test)]
mod tests;
