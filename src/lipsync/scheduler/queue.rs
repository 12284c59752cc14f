//! The runs that wait, by session, and whose turn it is. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Pending, SAFE_DISTANCE};
use crate::timeline::FRAME_DURATION;

/// How long a session is remembered of which nothing waits.
const REMEMBERED: Duration = Duration::from_secs(2);
/// How long a session speaks that sent nothing more: frames are drawn that far ahead of the screen.
const SPEAKS: Duration = Duration::from_millis(640);
/// A pause between two runs of a session after which what it missed before is forgotten.
const PAUSE: Duration = Duration::from_millis(200);
/// The most frames that a session is owed, and that it has had ahead of its share.
const MOST_OWED: f64 = 2.0;

/// All sessions of which something waits, or did a moment ago.
#[derive(Debug)]
pub(super) struct Queue<T> {
    sessions: BTreeMap<u64, Session<T>>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session<T> {
    /// By deadline, none last; then by arrival.
    pub waiting: VecDeque<Pending<T>>,
    /// Frames of its share that it has not had yet.
    pub owed: f64,
    /// When the first frame was due that was left out since it last had a mouth.
    missed: Option<Instant>,
    /// When the last frame that was decided is over.
    decided: Option<Instant>,
    /// When something last came.
    came: Instant,
}

/// Whose turn it is: the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// Playout waits, or is about to.
    FirstWord(Instant),
    /// The mouth on screen is due to be replaced then.
    Due(Instant),
    /// Nobody waits with a clock in hand.
    Film,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { sessions: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    /// Takes in a run.
    pub fn push(&mut self, run: Pending<T>, now: Instant) {
        self.sessions.retain(|_, session| !session.waiting.is_empty() || now < session.came + REMEMBERED);
        let session = self.sessions.entry(run.session).or_insert_with(|| Session {
            waiting: VecDeque::new(),
            owed: 1.0,
            missed: None,
            decided: None,
            came: now,
        });
        session.came = now;
        let key = |run: &Pending<T>| (run.deadline.is_none(), run.deadline);
        let place = session.waiting.iter().rposition(|other| key(other) <= key(&run)).map_or(0, |at| at + 1);
        session.waiting.insert(place, run);
    }

    /// All runs, in no order.
    pub fn runs(&self) -> impl Iterator<Item = &Pending<T>> {
        self.sessions.values().flat_map(|session| &session.waiting)
    }

    /// The run that is due first; without a deadline, any.
    pub fn earliest(&self) -> Option<&Pending<T>> {
        let firsts = self.sessions.values().filter_map(|session| session.waiting.front());
        firsts.min_by_key(|run| (run.deadline.is_none(), run.deadline))
    }

    /// The sessions of which something waits, in the order of their turns.
    pub fn in_turn(&self, now: Instant) -> Vec<(Turn, u64)> {
        let waiting = self.sessions.iter().filter_map(|(id, session)| Some((session.turn(now)?, *id)));
        let mut turns: Vec<(Turn, u64)> = waiting.collect();
        turns.sort_unstable();
        turns
    }

    /// How many sessions speak.
    pub fn speaking(&self, now: Instant) -> usize {
        let speaks = |session: &&Session<T>| match session.waiting.front() {
            Some(run) => run.deadline.is_some(),
            None => session.decided.is_some() && now < session.came + SPEAKS,
        };
        self.sessions.values().filter(speaks).count()
    }

    pub fn session(&mut self, id: u64) -> Option<&mut Session<T>> {
        self.sessions.get_mut(&id)
    }

    /// Takes out the runs that meet a condition.
    pub fn take(&mut self, mut condition: impl FnMut(&Pending<T>) -> bool) -> Vec<Pending<T>> {
        let mut taken = Vec::new();
        for session in self.sessions.values_mut() {
            for run in std::mem::take(&mut session.waiting) {
                if condition(&run) {
                    taken.push(run);
                } else {
                    session.waiting.push_back(run);
                }
            }
        }
        taken
    }
}

impl<T> Session<T> {
    fn turn(&self, now: Instant) -> Option<Turn> {
        let first = self.waiting.front()?;
        Some(match first.deadline {
            None => Turn::Film,
            Some(deadline) if first.awaited && deadline <= now + SAFE_DISTANCE => Turn::FirstWord(deadline),
            Some(deadline) => {
                let goes_on = self.decided.is_some_and(|decided| deadline <= decided + PAUSE);
                Turn::Due(self.missed.filter(|_| goes_on).unwrap_or(deadline).min(deadline))
            }
        })
    }

    /// Its share of one more frame has come.
    pub fn owe(&mut self, share: f64) {
        self.owed = (self.owed + share).clamp(-MOST_OWED, MOST_OWED);
    }

    /// Whether it may have a frame, which it then has had.
    pub fn claim(&mut self) -> bool {
        let may = self.owed >= 1.0;
        if may {
            self.owed -= 1.0;
        }
        may
    }

    /// A frame that was due then is left out.
    pub fn missed(&mut self, due: Instant) {
        self.missed = Some(self.missed.map_or(due, |missed| missed.min(due)));
        self.decided = Some(self.decided.map_or(due, |decided| decided.max(due)));
    }

    /// Of a run of so many frames, the first of which is due then, these are drawn.
    pub fn got(&mut self, due: Instant, frames: usize, drawn: &[usize]) {
        let at = |frame: usize| due + FRAME_DURATION * u32::try_from(frame).unwrap_or(u32::MAX);
        match drawn.last() {
            None => self.missed(due),
            Some(last) if last + 1 < frames => self.missed = Some(at(last + 1)),
            Some(_) => self.missed = None,
        }
        self.decided = Some(at(frames));
    }
}
