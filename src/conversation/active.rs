//! The turns of a session that wait, are being made or are being heard, and how each of them ends.
//!
//! In here: the queue, interruption, and the one message that ends a turn, told where the turn is taken off the list, so
//! that it is told once. What a turn leaves in the history is written there too, before whoever waits for its end goes on.
//! Not in here: making speech (`speaker`), what playout reports (`watch`), how much of a text was heard (`sentences`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::captions::Pace;
use super::sentences::{Heard, Sentences};
use super::{Said, Say, Turn};
use crate::ids::UtteranceId;
use crate::latency::{Stage, TurnTimes};
use crate::session::{ErrorCode, Notice, Notices, Refusal};
use crate::timeline::{FPS, FrameIndex};

/// Turns waiting to be spoken. More than a person would queue; a client that sends more is told so.
pub(super) const TURNS: usize = 8;
/// A viewer may tell of a picture a moment before it lights up, and guesses how long messages travel.
const AHEAD: Duration = Duration::from_millis(250);

/// Shared by the session's tasks; locked for a look or a change at a time, never across an await.
#[derive(Clone)]
pub(super) struct Active(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// A turn was added, or there will be no more.
    added: Notify,
    ended: Notify,
    pace: Mutex<Pace>,
    said: Said,
    notices: Notices,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<UtteranceId, Entry>,
    /// Those of the entries that nobody has begun to make.
    waiting: VecDeque<Turn>,
    closed: bool,
}

struct Entry {
    id: Option<String>,
    cancelled: CancellationToken,
    times: TurnTimes,
    interrupted_at: Option<Instant>,
    failure: Option<Failure>,
    sentences: Sentences,
}

/// Why a turn cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub code: ErrorCode,
    pub message: String,
}

/// How much of a turn was heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub frames: u64,
    pub interrupted: bool,
    /// When the first pair without it left.
    pub at: Instant,
}

/// What comes of a new turn for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Behind,
    /// They are interrupted.
    Instead,
}

impl Active {
    /// For a voice of this language.
    pub fn new(language: &str, said: Said, notices: Notices) -> Self {
        let (state, pace) = (Mutex::default(), Mutex::new(Pace::new(language)));
        Self(Arc::new(Shared { state, added: Notify::new(), ended: Notify::new(), pace, said, notices }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn said(&self) -> Said {
        self.0.said.clone()
    }

    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// Takes a turn. One that comes instead of others finds room however many there were.
    pub fn add(&self, id: Option<String>, say: Say, times: TurnTimes, place: Place) -> Result<UtteranceId, Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the session is closing"));
        }
        if place == Place::Instead {
            self.cancel_all(&mut state);
        }
        if state.waiting.len() >= TURNS {
            let message = format!("{TURNS} turns are waiting already: wait for speech_ended or send interrupt");
            return Err(Refusal::new(ErrorCode::Busy, message));
        }
        // Under the lock, so that ids are in the order of the turns.
        let (utterance, cancelled) = (UtteranceId::next(), CancellationToken::new());
        let entry = Entry {
            id: id.clone(),
            cancelled: cancelled.clone(),
            times: times.clone(),
            interrupted_at: None,
            failure: None,
            sentences: Sentences::default(),
        };
        state.entries.insert(utterance, entry);
        state.waiting.push_back(Turn { utterance, id, say, cancelled, times });
        drop(state);
        self.0.added.notify_one();
        Ok(utterance)
    }

    /// The next turn to speak, for the one task that does; `None` once there will be no more.
    pub async fn next(&self) -> Option<Turn> {
        loop {
            {
                let mut state = self.lock();
                if let Some(turn) = state.waiting.pop_front() {
                    return Some(turn);
                }
                if state.closed {
                    return None;
                }
            }
            self.0.added.notified().await;
        }
    }

    /// Cancels everything.
    pub fn interrupt(&self) {
        self.cancel_all(&mut self.lock());
    }

    /// Cancels everything and takes no more turns.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.cancel_all(&mut state);
        drop(state);
        self.0.added.notify_one();
    }

    /// Playout is gone: nothing more is heard, so whatever is left has ended.
    pub fn end_all(&self) {
        self.close();
        let mut state = self.lock();
        let extent = Extent { frames: 0, interrupted: true, at: Instant::now() };
        while let Some((utterance, _)) = state.entries.first_key_value() {
            let utterance = *utterance;
            self.finish(&mut state, utterance, extent);
        }
    }

    /// What waits has ended by that. What is being made ends with its maker, what is being heard when playout says how much
    /// of it was.
    fn cancel_all(&self, state: &mut State) {
        let at = Instant::now();
        for entry in state.entries.values_mut() {
            entry.interrupted_at.get_or_insert(at);
            entry.cancelled.cancel();
        }
        for turn in std::mem::take(&mut state.waiting) {
            if let Say::ReplyTo(text) = &turn.say {
                // That the user said it is remembered.
                self.0.said.with(|history| history.remember(turn.utterance, text));
            }
            self.finish(state, turn.utterance, Extent { frames: 0, interrupted: true, at });
        }
    }

    /// Waits until it is known how much was heard of everything before this utterance that was interrupted: a tick or two.
    pub async fn interrupted_have_ended(&self, before: UtteranceId) {
        loop {
            // Before the look, so that no end is missed between the two.
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if !self.lock().entries.range(..before).any(|(_, entry)| entry.interrupted_at.is_some()) {
                return;
            }
            ended.await;
        }
    }

    /// The utterance becomes audible.
    pub fn started(&self, utterance: UtteranceId) {
        let state = self.lock();
        if let Some(entry) = state.entries.get(&utterance) {
            self.0.notices.tell(&Notice::SpeechStarted { utterance, id: entry.id.clone() });
        }
    }

    /// Tells something of an utterance, unless it has ended.
    pub fn tell(&self, utterance: UtteranceId, notice: &Notice) {
        let state = self.lock();
        if state.entries.contains_key(&utterance) {
            self.0.notices.tell(notice);
        }
    }

    pub fn times(&self, utterance: UtteranceId) -> Option<TurnTimes> {
        self.lock().entries.get(&utterance).map(|entry| entry.times.clone())
    }

    /// A viewer says when it saw the first lip-synced frame. The first viewer counts, and what cannot be does not.
    pub fn shown(&self, utterance: UtteranceId, after: Duration) {
        let Some(times) = self.times(utterance) else { return };
        // Viewers are told whole milliseconds, so what they add up may be a part of one short.
        let left = times.of(Stage::FirstFrame).map(|left| left.saturating_sub(Duration::from_millis(1)));
        if left.is_some_and(|left| (left..=times.elapsed() + AHEAD).contains(&after)) {
            times.reach_after(Stage::Shown, after);
        }
    }

    fn with_sentences<T>(&self, utterance: UtteranceId, work: impl FnOnce(&mut Sentences) -> T) -> Option<T> {
        self.lock().entries.get_mut(&utterance).map(|entry| work(&mut entry.sentences))
    }

    pub fn sentence_begins(&self, utterance: UtteranceId, text: String) {
        self.with_sentences(utterance, |sentences| sentences.begins(text));
    }

    /// The voice tells when the next words of the last sentence begin, in milliseconds.
    pub fn sentence_has_words(&self, utterance: UtteranceId, starts: Vec<u32>) {
        self.with_sentences(utterance, |sentences| sentences.last_has_words(starts));
    }

    /// The last sentence takes so many frames. If it is being heard already, its words are timed anew.
    pub fn sentence_has(&self, utterance: UtteranceId, frames: u64) -> Option<Heard> {
        self.with_sentences(utterance, |sentences| sentences.last_has(&mut self.pace(), frames)).flatten()
    }

    /// The next sentence of the utterance is heard from this pair on. `None` if it has no words.
    pub fn sentence_began(&self, utterance: UtteranceId, at: FrameIndex) -> Option<Heard> {
        self.with_sentences(utterance, |sentences| sentences.next_began(&self.pace(), at)).flatten()
    }

    /// The turn cannot go on. It ends by this when what was made of it has been heard.
    pub fn fails(&self, utterance: UtteranceId, failure: Failure) {
        if let Some(entry) = self.lock().entries.get_mut(&utterance) {
            entry.failure.get_or_insert(failure);
        }
    }

    /// The turn has failed after so many frames: until they are heard, the history has what will have been.
    pub fn will_have_said(&self, utterance: UtteranceId, frames: u64) {
        let state = self.lock();
        let entry = state.entries.get(&utterance).filter(|entry| entry.interrupted_at.is_none());
        if let Some(Entry { sentences, .. }) = entry {
            let text = sentences.spoken(&self.pace(), frames);
            self.0.said.with(|history| history.said(utterance, &text));
        }
    }

    /// The turn is over and nothing of it was ever given to playout, which will report nothing.
    pub fn ended_unheard(&self, utterance: UtteranceId) {
        let mut state = self.lock();
        let interrupted = state.entries.get(&utterance).is_some_and(|entry| entry.interrupted_at.is_some());
        self.finish(&mut state, utterance, Extent { frames: 0, interrupted, at: Instant::now() });
    }

    /// Playout reports that the utterance is over.
    pub fn ended(&self, utterance: UtteranceId, extent: Extent) {
        self.finish(&mut self.lock(), utterance, extent);
    }

    /// The one place where a turn ends. What ended already does not end again.
    fn finish(&self, state: &mut State, utterance: UtteranceId, extent: Extent) {
        let Some(Entry { id, interrupted_at, failure, sentences, .. }) = state.entries.remove(&utterance) else {
            return;
        };
        let Extent { frames, interrupted, at } = extent;
        let is_whole = !interrupted && failure.is_none();
        let text_spoken = if is_whole { sentences.whole() } else { sentences.spoken(&self.pace(), frames) };
        // What was spoken to its end is in the history as it was written.
        if !is_whole {
            self.0.said.with(|history| match failure.is_some() && text_spoken.is_empty() {
                true => history.forget(utterance),
                false => history.said(utterance, &text_spoken),
            });
        }
        let how = if failure.is_some() {
            "failed"
        } else if interrupted {
            "interrupted"
        } else {
            "spoken"
        };
        crate::metrics::utterance_ended(how);
        if let Some(asked) = interrupted_at.filter(|_| frames > 0) {
            crate::metrics::interrupted(at.saturating_duration_since(asked));
        }
        let spoken_ms = frames * 1000 / u64::from(FPS);
        self.0.notices.tell(&match failure {
            None => Notice::SpeechEnded { utterance, id, interrupted, spoken_ms, text_spoken },
            Some(Failure { code, message }) => Notice::Failed { utterance, id, code, message, spoken_ms, text_spoken },
        });
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
