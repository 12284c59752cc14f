//! Which waiting frames are drawn next, together, and which are left out. Pure: time and cost are arguments.
//!
//! A *run* is a few consecutive frames of one session; a *batch* is what the network draws in one go, frames of several
//! sessions. The rules:
//! - A session's runs are drawn in their order, and the session whose mouth is due earliest is next (`queue`). A first word
//!   that playout waits for goes before all that is not. Runs without a deadline (films) come last and never wait.
//! - A batch is no larger than what still meets its first deadline, and takes no longer than [`LONGEST_BATCH`], which is
//!   what a first word may have to wait. Its size is one of [`BATCH_SIZES`].
//! - A batch that could be larger waits for company while its first deadline is further than [`SAFE_DISTANCE`] away and nothing
//!   else could be drawn meanwhile.
//! - A frame that would come too late is left out before anything is done for it.
//! - If what waits cannot all be drawn in [`IN_HAND`] of the time that there is, each session is given the same share of its
//!   frames, evenly spaced: of every k frames one is drawn, and its mouth is held for k. The share follows from what waits,
//!   when it is due, and what a batch takes, so the engine always works ahead of the screen and hardly ever for nothing.
//!
//! Held mouths and not stretches of all mouths in turn: a mouth that is held for 80 or 120 ms, as drawn animation has it,
//! still speaks, while one that stands for half a second looks broken. Nor does it cost more, since a session's frames
//! are drawn together and hear one window of sound, whichever of them they are.
//!
//! Fairness follows: the share is the same for all, and a session has a bounded number of frames ahead of the screen
//! (`animation`), so however much text it has queued, another's first word has the earlier deadline.

mod queue;

use std::time::{Duration, Instant};

use super::batch::BATCH_SIZES;
use super::capacity::Capacity;
use crate::timeline::{FPS, FRAME_DURATION};
use queue::{Queue, Session, Turn};

/// Longest that a batch should take.
pub const LONGEST_BATCH: Duration = Duration::from_millis(80);
/// The same while frames are left out: small batches, which cost more a frame, would only make it worse.
const LONGEST_BATCH_BEHIND: Duration = Duration::from_millis(200);
/// How much more a frame must cost in a small batch, in hundredths, for one that takes longer than [`LONGEST_BATCH`].
const MUCH_CHEAPER: u32 = 108;
/// Distance of a deadline from which on waiting for company is no risk: a few batches of the longest.
pub const SAFE_DISTANCE: Duration = Duration::from_millis(240);
/// Share of the time until a deadline in which all that comes before it should be drawn, in fifths. What is left of it
/// is what the engine stays ahead of the screen when there is too much to draw.
const IN_HAND: u32 = 4;
/// Frames of a session that wait when its turn comes, about, if there are more sessions than can be served.
const FRAMES_TOGETHER: f64 = 8.0;
/// What is given of what could be, so that the engine gets ahead of the screen again.
const BELOW: f64 = 0.95;
/// The least share of its frames that a session is given: one in 64, which is one in two and a half seconds.
const LEAST_SHARE: f64 = 1.0 / 64.0;

/// A run that waits to be drawn: consecutive frames of a session.
#[derive(Debug)]
pub struct Pending<T> {
    /// Whose it is.
    pub session: u64,
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
    /// Draw these together. Of some of them there may be nothing to draw.
    Draw(Vec<Scheduled<T>>),
    /// Nothing that waits needs to be drawn before then.
    Wait(Instant),
    /// Nothing waits.
    Nothing,
}

/// A run that is decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheduled<T> {
    /// As it was pushed.
    pub item: T,
    /// Which of its frames are drawn, in order; the others are left out.
    pub drawn: Vec<usize>,
}

/// The runs that wait.
#[derive(Debug)]
pub struct Scheduler<T> {
    queue: Queue<T>,
    /// Of its frames that each session was given last.
    share: f64,
}

/// A run that is to be in the next batch.
#[derive(Debug)]
struct Taken<T> {
    session: u64,
    run: Pending<T>,
    /// The first of its frames that can be in time.
    first: usize,
    /// Of each of its frames whether it is drawn.
    chosen: Vec<bool>,
    /// What its session was owed before.
    owed: f64,
}

impl<T> Default for Scheduler<T> {
    fn default() -> Self {
        Self { queue: Queue::default(), share: 1.0 }
    }
}

impl<T> Scheduler<T> {
    /// How many runs wait.
    pub fn len(&self) -> usize {
        self.queue.runs().count()
    }

    /// Takes in a run, now.
    pub fn push(&mut self, run: Pending<T>, now: Instant) {
        self.queue.push(run, now);
    }

    /// Takes out what nobody wants any more.
    pub fn remove_if(&mut self, mut unwanted: impl FnMut(&T) -> bool) -> Vec<T> {
        self.queue.take(|run| unwanted(&run.item)).into_iter().map(|run| run.item).collect()
    }

    /// Takes out what would come when all of it has left.
    pub fn remove_late(&mut self, now: Instant, capacity: &Capacity) -> Vec<T> {
        let late = |run: &Pending<T>| {
            let last = FRAME_DURATION * u32::try_from(run.frames.saturating_sub(1)).unwrap_or(u32::MAX);
            let done = now + capacity.time_of(1, 1);
            !run.awaited && run.deadline.is_some_and(|first| done > first + last)
        };
        let removed = self.queue.take(late);
        for run in &removed {
            if let (Some(session), Some(deadline)) = (self.queue.session(run.session), run.deadline) {
                session.missed(deadline);
            }
        }
        removed.into_iter().map(|run| run.item).collect()
    }

    /// Decides, and takes out what is to be drawn.
    pub fn next(&mut self, now: Instant, capacity: &Capacity) -> Next<T> {
        let Some(first) = self.queue.earliest() else { return Next::Nothing };
        let (deadline, frames) = (first.deadline, first.frames);
        let share = self.share(now, capacity);
        self.share = share;
        let longest = if share < 1.0 { cheapest(capacity, share) } else { capacity.largest_within(LONGEST_BATCH) };
        let alone = capacity.time_of(frames, 1);
        let room = match deadline {
            None => LONGEST_BATCH,
            Some(deadline) => {
                let begin = deadline.checked_sub(alone + SAFE_DISTANCE).unwrap_or(now);
                let enough = self.queue.runs().map(|run| run.frames).sum::<usize>() >= longest.max(frames);
                let film = self.queue.runs().any(|run| run.deadline.is_none());
                if begin > now && !enough && !film {
                    return Next::Wait(begin);
                }
                deadline.saturating_duration_since(now)
            }
        };
        let most = match self.queue.in_turn(now).first() {
            // Whatever is drawn with a first word must not make it late.
            Some((Turn::FirstWord(due), _)) => {
                let room = due.saturating_duration_since(now).max(capacity.time_of(1, 1));
                // Many sessions begin sentences all the time, so while frames are left out small batches would cost more of
                // them; a first word is a frame later at most.
                let room = if share < 1.0 { room.max(FRAME_DURATION) } else { room };
                capacity.largest_within(room).min(longest)
            }
            // While frames are left out the engine is well ahead of the screen.
            _ if share < 1.0 => longest,
            _ => capacity.largest_within(room.max(alone)).min(longest).max(frames),
        };
        let batch = self.gather(now, capacity, most, share);
        Next::Draw(self.decide(batch))
    }

    /// Which share of the frames can be drawn in time: 1 if all can.
    fn share(&self, now: Instant, capacity: &Capacity) -> f64 {
        let size = cheapest(capacity, self.share);
        let a_frame = |windows: usize| capacity.time_of(size, windows).as_secs_f64() / f64::from(count(size));
        let runs = self.queue.runs();
        let mut runs: Vec<(Duration, usize)> =
            runs.filter_map(|run| Some((run.deadline?.saturating_duration_since(now), run.frames))).collect();
        runs.sort_unstable();
        // What is due at once is either in time or left out for being late. What is due later says whether there is time.
        let later = runs.last().map_or(Duration::ZERO, |(last, _)| *last / 2);
        let (mut share, mut work) = (1.0_f64, 0.0);
        for (time, frames) in runs {
            work += a_frame(1) * f64::from(count(frames));
            let in_hand = time.as_secs_f64() * f64::from(IN_HAND) / 5.0;
            if time > later && work > in_hand {
                share = share.min(in_hand / work);
            }
        }
        if share < 1.0 {
            // What is still to come from those who speak is not among what waits.
            let a_second = f64::from(count(self.queue.speaking(now))) * f64::from(FPS);
            let sustained = |windows: usize| BELOW / (a_frame(windows) * a_second).max(1e-9);
            share = share.min(sustained(windows_of(size, sustained(1))));
        }
        share.max(LEAST_SHARE)
    }

    /// Takes runs out, session by session, until `most` frames of them are to be drawn, to one of the fixed sizes.
    fn gather(&mut self, now: Instant, capacity: &Capacity, most: usize, share: f64) -> Vec<Taken<T>> {
        let takes = capacity.time_of(most, windows_of(most, share));
        // There is enough else to draw then, so nothing is risked.
        let done = now + if share < 1.0 { takes * 5 / 4 } else { takes };
        let (mut batch, mut total) = (Vec::new(), 0);
        // Up to where the chosen ones make one of the fixed sizes.
        let mut good = 0;
        for (_, id) in self.queue.in_turn(now) {
            let Some(session) = self.queue.session(id) else { continue };
            while total < most
                && let Some(run) = session.waiting.pop_front()
            {
                let taken = Taken::choose(run, done, share, session);
                let drawn = taken.count();
                if total + drawn > most && !batch.is_empty() {
                    session.owed = taken.owed;
                    session.waiting.push_front(taken.run);
                    break;
                }
                total += drawn;
                batch.push(taken);
                if BATCH_SIZES.contains(&total) {
                    good = batch.len();
                }
            }
        }
        if !BATCH_SIZES.contains(&total) && share < 1.0 {
            total = self.fill(&mut batch, total);
        }
        if !BATCH_SIZES.contains(&total) {
            let kept = if good > 0 { good } else { can_be_cut(&batch) };
            for taken in batch.drain(kept..).rev() {
                self.put_back(taken);
            }
        }
        self.cut(&mut batch);
        batch
    }

    /// Chooses frames that were left out until there are as many as the next size has, if there are enough.
    /// How many there are then.
    fn fill(&mut self, batch: &mut [Taken<T>], total: usize) -> usize {
        let Some(size) = BATCH_SIZES.into_iter().find(|size| *size > total) else { return total };
        let mut needed = size - total;
        let spare: usize = batch.iter().map(Taken::spare).sum();
        if spare < needed {
            return total;
        }
        for taken in batch.iter_mut() {
            while needed > 0 && taken.choose_one_more() {
                needed -= 1;
                if let Some(session) = self.queue.session(taken.session) {
                    session.owed -= 1.0;
                }
            }
        }
        size
    }

    /// Leaves out the last frames of a batch that has none of the fixed sizes: some were too late, and nothing took their place.
    fn cut(&mut self, batch: &mut [Taken<T>]) {
        let mut total: usize = batch.iter().map(Taken::count).sum();
        let size = BATCH_SIZES.into_iter().rev().find(|size| *size <= total).unwrap_or(0);
        for taken in batch.iter_mut().rev().filter(|taken| taken.may_be_late()) {
            while total > size
                && let Some(last) = taken.chosen.iter_mut().rev().find(|chosen| **chosen)
            {
                *last = false;
                total -= 1;
                if let Some(session) = self.queue.session(taken.session) {
                    session.owed += 1.0;
                }
            }
        }
    }

    fn put_back(&mut self, taken: Taken<T>) {
        if let Some(session) = self.queue.session(taken.session) {
            session.owed = taken.owed;
            session.waiting.push_front(taken.run);
        }
    }

    /// Remembers what each session got.
    fn decide(&mut self, batch: Vec<Taken<T>>) -> Vec<Scheduled<T>> {
        let decide = |taken: Taken<T>| {
            let drawn: Vec<usize> =
                (0..taken.run.frames).filter(|frame| taken.chosen.get(*frame) == Some(&true)).collect();
            if let (Some(session), Some(deadline)) = (self.queue.session(taken.session), taken.run.deadline) {
                session.got(deadline, taken.run.frames, &drawn);
            }
            Scheduled { item: taken.run.item, drawn }
        };
        batch.into_iter().map(decide).collect()
    }
}

impl<T> Taken<T> {
    /// Chooses a session's share of the frames of a run that a batch done at `done` brings in time.
    fn choose(run: Pending<T>, done: Instant, share: f64, session: &mut Session<T>) -> Self {
        let owed = session.owed;
        let in_time = |frame: usize| match run.deadline {
            Some(first) if !run.awaited => done <= first + FRAME_DURATION * count(frame),
            _ => true,
        };
        let first = (0..run.frames).find(|frame| in_time(*frame)).unwrap_or(run.frames);
        let whole = share >= 1.0 || run.awaited || run.deadline.is_none();
        let mut choose = |frame: usize| {
            if whole {
                return frame >= first;
            }
            // What it lost by being late it is owed as well.
            session.owe(share);
            frame >= first && session.claim()
        };
        let chosen = (0..run.frames).map(&mut choose).collect();
        Self { session: run.session, run, first, chosen, owed }
    }

    /// Whether frames of it may be left out.
    fn may_be_late(&self) -> bool {
        !self.run.awaited && self.run.deadline.is_some()
    }

    /// How many of its frames are drawn.
    fn count(&self) -> usize {
        self.chosen.iter().filter(|chosen| **chosen).count()
    }

    /// How many could be as well.
    fn spare(&self) -> usize {
        self.run.frames - self.first - self.count()
    }

    /// Chooses one that was left out, as far from the others as there is one. False if there is none.
    fn choose_one_more(&mut self) -> bool {
        let distance = |at: usize| {
            let chosen = self.chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
            chosen.map(|(other, _)| other.abs_diff(at)).min().unwrap_or(usize::MAX)
        };
        let left = (self.first..self.run.frames).filter(|at| self.chosen.get(*at) == Some(&false));
        let Some(best) = left.max_by_key(|at| distance(*at)) else { return false };
        if let Some(chosen) = self.chosen.get_mut(best) {
            *chosen = true;
        }
        true
    }
}

/// How many of the first runs have one of the fixed sizes, if some frames are left out of those of which they may be.
fn can_be_cut<T>(batch: &[Taken<T>]) -> usize {
    let (mut least, mut most, mut kept) = (0, 0, 1);
    for (before, taken) in batch.iter().enumerate() {
        most += taken.count();
        least += if taken.may_be_late() { 0 } else { taken.count() };
        if least == 0 || BATCH_SIZES.iter().any(|size| (least..=most).contains(size)) {
            kept = before + 1;
        }
    }
    kept.min(batch.len())
}

/// Windows of sound of a batch of so many frames, if each session is given this share of its own: the fewer it is given, the
/// fewer share a window.
fn windows_of(size: usize, share: f64) -> usize {
    let together = (share * FRAMES_TOGETHER).max(1.0);
    (1..=size).find(|windows| f64::from(count(*windows)) * together >= f64::from(count(size))).unwrap_or(1)
}

/// The size that is drawn while frames are left out: as large as a batch may be, or larger if that makes frames cheaper.
fn cheapest(capacity: &Capacity, share: f64) -> usize {
    let time = |size: usize| capacity.time_of(size, windows_of(size, share));
    let a_frame = |size: usize| time(size) / count(size);
    let mut best = 1;
    for size in BATCH_SIZES.into_iter().filter(|size| *size > 1 && *size <= capacity.limit()) {
        let pays = a_frame(size) * MUCH_CHEAPER < a_frame(best) * 100;
        if time(size) <= LONGEST_BATCH || (time(size) <= LONGEST_BATCH_BEHIND && pays) {
            best = size;
        }
    }
    best
}

fn count(frames: usize) -> u32 {
    u32::try_from(frames).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod overload;
#[cfg(test)]
mod tests;
