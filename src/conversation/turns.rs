//! The turns of a session that wait, are being made or are being heard, and how each of them ends.
//!
//! In here: the queue, interruption, and the one message that ends a turn, told where the turn is taken off the list
//! ([`Turns::end_turn`]), so that it is told once. What a turn leaves in the history is written there too, before whoever
//! waits for its end goes on. Not in here: making speech (`speaker`), what playout reports (`playout_observer`), how much of
//! a text was heard (`sentences`).
//! Runs on: whoever asks; locked for a look or a change at a time, never across an await.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::attention::Attentive;
use super::client_audio::ClientAudioStream;
use super::sentences::{CaptionTiming, Sentences};
use super::shared_history::SharedHistory;
use super::word_timing::WordTiming;
use crate::ids::{SentenceId, UtteranceId};
use crate::latency::{Stage, TurnTimes};
use crate::session::{ErrorCode, Notice, NoticeBroadcast, Refusal};
use crate::timeline::{FPS, FrameIndex};

/// Turns waiting to be spoken. More than a person would queue; a client that sends more is told so.
pub(super) const TURNS: usize = 8;
/// A viewer may tell of a picture a moment before it lights up, and guesses how long messages travel.
const AHEAD: Duration = Duration::from_millis(250);

/// A turn as it waits to be spoken, and is given to the task that speaks.
pub(super) struct Turn {
    /// What the avatar will speak in it.
    pub utterance: UtteranceId,
    /// The client's own name for the turn.
    pub id: Option<String>,
    pub source: TurnSource,
    /// When it is interrupted.
    pub cancelled: CancellationToken,
    pub times: TurnTimes,
}

/// Where what a turn speaks comes from.
pub(super) enum TurnSource {
    /// The responder's reply to this text of the user's.
    Reply(String),
    /// Exactly this text.
    Text(String),
    /// A client's own audio.
    Audio(ClientAudioStream),
}

/// The turns of a session, from their submission to their end. Cheap to clone; shared by the session's tasks.
#[derive(Clone)]
pub struct Turns(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// A turn was added, or there will be no more.
    added: Notify,
    ended: Notify,
    word_timing: Mutex<WordTiming>,
    history: SharedHistory,
    notices: NoticeBroadcast,
    attentive: Attentive,
}

#[derive(Default)]
struct State {
    open: BTreeMap<UtteranceId, OpenTurn>,
    /// Those of them that nobody has begun to make.
    waiting: VecDeque<Turn>,
    closed: bool,
}

/// A turn that has not ended.
struct OpenTurn {
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

/// How a turn ended at the speaker's mouth.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlayoutEnd {
    /// How many of it were heard.
    pub frames: u64,
    pub interrupted: bool,
    /// When the first pair without it left.
    pub at: Instant,
}

/// What comes of a new turn for those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueMode {
    /// It waits behind them.
    Append,
    /// They are interrupted.
    Interrupt,
}

impl Turns {
    /// For a voice of this language.
    pub(super) fn new(language: &str, history: SharedHistory, notices: NoticeBroadcast, attentive: Attentive) -> Self {
        let (state, word_timing) = (Mutex::default(), Mutex::new(WordTiming::new(language)));
        let (added, ended) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { state, added, ended, word_timing, history, notices, attentive }))
    }

    /// What is spoken from now on is of another voice, of this language.
    pub(super) fn speak_in(&self, language: &str) {
        *self.word_timing() = WordTiming::new(language);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word_timing(&self) -> MutexGuard<'_, WordTiming> {
        self.0.word_timing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn history(&self) -> SharedHistory {
        self.0.history.clone()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lock().open.is_empty()
    }

    /// Takes a turn. One that comes instead of others finds room however many there were.
    pub(super) fn add(
        &self,
        id: Option<String>,
        source: TurnSource,
        times: TurnTimes,
        mode: QueueMode,
    ) -> Result<UtteranceId, Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the session is closing"));
        }
        if mode == QueueMode::Interrupt {
            self.cancel_all(&mut state);
        }
        if state.waiting.len() >= TURNS {
            let message = format!("{TURNS} turns are waiting already: wait for speech_ended or send interrupt");
            return Err(Refusal::new(ErrorCode::Busy, message));
        }
        // Under the lock, so that ids are in the order of the turns.
        let (utterance, cancelled) = (UtteranceId::next(), CancellationToken::new());
        let open = OpenTurn {
            id: id.clone(),
            cancelled: cancelled.clone(),
            times: times.clone(),
            interrupted_at: None,
            failure: None,
            sentences: Sentences::default(),
        };
        state.open.insert(utterance, open);
        state.waiting.push_back(Turn { utterance, id, source, cancelled, times });
        self.0.attentive.begins(utterance);
        drop(state);
        self.0.added.notify_one();
        Ok(utterance)
    }

    /// The next turn to speak, for the one task that does; `None` once there will be no more.
    pub(super) async fn next(&self) -> Option<Turn> {
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
    pub(super) fn interrupt(&self) {
        self.cancel_all(&mut self.lock());
    }

    /// Cancels everything and takes no more turns.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.cancel_all(&mut state);
        drop(state);
        self.0.added.notify_one();
    }

    /// Playout is gone: nothing more is heard, so whatever is left has ended.
    pub(super) fn end_all(&self) {
        self.close();
        let mut state = self.lock();
        let end = PlayoutEnd { frames: 0, interrupted: true, at: Instant::now() };
        while let Some((utterance, _)) = state.open.first_key_value() {
            let utterance = *utterance;
            self.end_turn(&mut state, utterance, end);
        }
    }

    /// What waits has ended by that. What is being made ends with its maker, what is being heard when playout says how much
    /// of it was.
    fn cancel_all(&self, state: &mut State) {
        let at = Instant::now();
        for turn in state.open.values_mut() {
            turn.interrupted_at.get_or_insert(at);
            turn.cancelled.cancel();
        }
        for turn in std::mem::take(&mut state.waiting) {
            if let TurnSource::Reply(text) = &turn.source {
                // That the user said it is remembered.
                self.0.history.with(|history| history.remember(turn.utterance, text));
            }
            self.end_turn(state, turn.utterance, PlayoutEnd { frames: 0, interrupted: true, at });
        }
    }

    /// Waits until it is known how much was heard of everything before this utterance that was interrupted: a tick or two.
    pub(super) async fn interrupted_have_ended(&self, before: UtteranceId) {
        loop {
            // Before the look, so that no end is missed between the two.
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if !self.lock().open.range(..before).any(|(_, turn)| turn.interrupted_at.is_some()) {
                return;
            }
            ended.await;
        }
    }

    /// The utterance becomes audible.
    pub(super) fn started(&self, utterance: UtteranceId) {
        let state = self.lock();
        if let Some(turn) = state.open.get(&utterance) {
            self.0.attentive.is_heard(utterance);
            self.0.notices.tell(&Notice::SpeechStarted { utterance, id: turn.id.clone() });
        }
    }

    /// Tells something of an utterance, unless it has ended.
    pub(super) fn tell(&self, utterance: UtteranceId, notice: &Notice) {
        let state = self.lock();
        if state.open.contains_key(&utterance) {
            self.0.notices.tell(notice);
        }
    }

    /// How far a turn is, for whoever measures latency; `None` once it has ended.
    pub fn times(&self, utterance: UtteranceId) -> Option<TurnTimes> {
        self.lock().open.get(&utterance).map(|turn| turn.times.clone())
    }

    /// A viewer says when it saw the first lip-synced frame. The first viewer counts, and what cannot be does not.
    pub(super) fn shown(&self, utterance: UtteranceId, after: Duration) {
        let Some(times) = self.times(utterance) else { return };
        // Viewers are told whole milliseconds, so what they add up may be a part of one short.
        let left = times.of(Stage::FirstFrame).map(|left| left.saturating_sub(Duration::from_millis(1)));
        if left.is_some_and(|left| (left..=times.elapsed() + AHEAD).contains(&after)) {
            times.reach_after(Stage::Shown, after);
        }
    }

    /// Looks at what is known of the utterance's sentences, unless it has ended.
    fn with_sentences<T>(&self, utterance: UtteranceId, work: impl FnOnce(&mut Sentences) -> T) -> Option<T> {
        self.lock().open.get_mut(&utterance).map(|turn| work(&mut turn.sentences))
    }

    /// The sentence is about to be spoken; `text` is empty if a client speaks it.
    pub(super) fn begin_sentence(&self, sentence: SentenceId, text: String) {
        self.with_sentences(sentence.utterance, |sentences| sentences.begin(sentence, text));
    }

    /// The voice tells when the next words of the sentence begin, in milliseconds.
    pub(super) fn add_word_starts(&self, sentence: SentenceId, starts: Vec<u32>) {
        self.with_sentences(sentence.utterance, |sentences| sentences.add_word_starts(sentence, starts));
    }

    /// The sentence takes so many frames. If it is being heard already, its words are timed anew.
    pub(super) fn set_frames(&self, sentence: SentenceId, frames: u64) -> Option<CaptionTiming> {
        let set = |sentences: &mut Sentences| sentences.set_frames(sentence, frames, &mut self.word_timing());
        self.with_sentences(sentence.utterance, set).flatten()
    }

    /// The sentence is heard from this pair on. `None` if it has no words.
    pub(super) fn sentence_started(&self, sentence: SentenceId, at: FrameIndex) -> Option<CaptionTiming> {
        let started = |sentences: &mut Sentences| sentences.started(sentence, at, &self.word_timing());
        self.with_sentences(sentence.utterance, started).flatten()
    }

    /// The turn cannot go on. It ends by this when what was made of it has been heard.
    pub(super) fn fail(&self, utterance: UtteranceId, failure: Failure) {
        if let Some(turn) = self.lock().open.get_mut(&utterance) {
            turn.failure.get_or_insert(failure);
        }
    }

    /// The turn has failed after so many frames: until they are heard, the history has what will have been.
    pub(super) fn remember_what_will_be_heard(&self, utterance: UtteranceId, frames: u64) {
        let state = self.lock();
        let turn = state.open.get(&utterance).filter(|turn| turn.interrupted_at.is_none());
        if let Some(OpenTurn { sentences, .. }) = turn {
            let text = sentences.text_within(frames, &self.word_timing());
            self.0.history.with(|history| history.said(utterance, &text));
        }
    }

    /// The turn is over and nothing of it was ever given to playout, which will report nothing.
    pub(super) fn ended_unheard(&self, utterance: UtteranceId) {
        let mut state = self.lock();
        let interrupted = state.open.get(&utterance).is_some_and(|turn| turn.interrupted_at.is_some());
        self.end_turn(&mut state, utterance, PlayoutEnd { frames: 0, interrupted, at: Instant::now() });
    }

    /// Playout reports that the utterance is over.
    pub(super) fn ended(&self, utterance: UtteranceId, end: PlayoutEnd) {
        self.end_turn(&mut self.lock(), utterance, end);
    }

    /// The one place where a turn ends. What ended already does not end again.
    fn end_turn(&self, state: &mut State, utterance: UtteranceId, end: PlayoutEnd) {
        let Some(OpenTurn { id, interrupted_at, failure, sentences, .. }) = state.open.remove(&utterance) else {
            return;
        };
        self.0.attentive.ends(utterance);
        let PlayoutEnd { frames, interrupted, at } = end;
        let is_whole = !interrupted && failure.is_none();
        let text_spoken = if is_whole { sentences.text() } else { sentences.text_within(frames, &self.word_timing()) };
        // What was spoken to its end is in the history as it was written.
        if !is_whole {
            self.0.history.with(|history| match failure.is_some() && text_spoken.is_empty() {
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
