//! The utterances of a session that are queued, being made or being heard, and how much of each was heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::captions::Pace;
use crate::ids::UtteranceId;
use crate::latency::{Stage, TurnTimes};
use crate::signalling::CaptionWord;
use crate::timeline::{FRAME_DURATION, FrameIndex};

/// A viewer may tell of a picture a moment before it lights up, and guesses how long messages travel.
const AHEAD: Duration = Duration::from_millis(250);

/// Shared by the session's tasks; locked for a map operation at a time, never across an await.
#[derive(Clone)]
pub(super) struct Active(Arc<Shared>);

struct Shared {
    entries: Mutex<BTreeMap<UtteranceId, Entry>>,
    ended: Notify,
    pace: Mutex<Pace>,
}

struct Entry {
    id: Option<String>,
    cancelled: CancellationToken,
    times: TurnTimes,
    interrupted_at: Option<Instant>,
    heard: bool,
    sentences: Vec<Sentence>,
}

struct Sentence {
    text: String,
    /// How many it takes, once known.
    frames: Option<u64>,
    /// When its words begin, if the voice tells.
    starts: Vec<u32>,
    /// The pair that it began with.
    began: Option<FrameIndex>,
}

/// A sentence that is being heard, and when its words are.
pub(super) struct Heard {
    /// Which of the utterance.
    pub number: usize,
    pub began: FrameIndex,
    pub words: Vec<CaptionWord>,
}

pub(super) struct Ended {
    pub id: Option<String>,
    pub interrupted_at: Option<Instant>,
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UtteranceId, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a voice of this language.
    pub fn new(language: &str) -> Self {
        let pace = Mutex::new(Pace::new(language));
        Self(Arc::new(Shared { entries: Mutex::default(), ended: Notify::new(), pace }))
    }

    /// Enters an utterance and gives the token that cancels it.
    pub fn add(&self, utterance: UtteranceId, id: Option<String>, times: TurnTimes) -> CancellationToken {
        let cancelled = CancellationToken::new();
        let entry = Entry {
            id,
            cancelled: cancelled.clone(),
            times,
            interrupted_at: None,
            heard: false,
            sentences: Vec::new(),
        };
        self.lock().insert(utterance, entry);
        cancelled
    }

    /// Cancels everything. What nobody has heard yet is forgotten, since playout will report nothing of it, and given
    /// back.
    pub fn cancel_all(&self, now: Instant) -> Vec<UtteranceId> {
        let mut unheard = Vec::new();
        self.lock().retain(|utterance, entry| {
            entry.interrupted_at.get_or_insert(now);
            entry.cancelled.cancel();
            if !entry.heard {
                unheard.push(*utterance);
            }
            entry.heard
        });
        unheard
    }

    /// Waits until playout has told how much was heard of everything that was interrupted: a tick or two.
    pub async fn interrupted_have_ended(&self) {
        loop {
            // Before the look, so that no end is missed between the two.
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if !self.lock().values().any(|entry| entry.interrupted_at.is_some()) {
                return;
            }
            ended.await;
        }
    }

    /// Marks the utterance as audible and gives the client's id of it; `None` if it was cancelled meanwhile.
    pub fn heard(&self, utterance: UtteranceId) -> Option<Option<String>> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&utterance)?;
        entry.heard = true;
        Some(entry.id.clone())
    }

    pub fn times(&self, utterance: UtteranceId) -> Option<TurnTimes> {
        self.lock().get(&utterance).map(|entry| entry.times.clone())
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

    pub fn sentence_begins(&self, utterance: UtteranceId, text: String) {
        if let Some(entry) = self.lock().get_mut(&utterance) {
            entry.sentences.push(Sentence { text, frames: None, starts: Vec::new(), began: None });
        }
    }

    /// The voice tells when each word of the last sentence begins, in milliseconds.
    pub fn sentence_has_words(&self, utterance: UtteranceId, starts: Vec<u32>) {
        if let Some(sentence) = self.lock().get_mut(&utterance).and_then(|entry| entry.sentences.last_mut()) {
            sentence.starts = starts;
        }
    }

    /// The last sentence takes so many frames. If it is being heard already, its words are timed anew.
    pub fn sentence_has(&self, utterance: UtteranceId, frames: u64) -> Option<Heard> {
        let mut entries = self.lock();
        let sentences = &mut entries.get_mut(&utterance)?.sentences;
        let sentence = sentences.last_mut()?;
        sentence.frames = Some(frames);
        let (text, starts, began) = (sentence.text.clone(), sentence.starts.clone(), sentence.began);
        let number = sentences.len() - 1;
        drop(entries);
        let mut pace = self.pace();
        pace.learn(&text, frames);
        began.map(|began| Heard { number, began, words: pace.words(&text, &starts, Some(frames)) })
    }

    /// The next sentence of the utterance is heard from this pair on. `None` if it has no words.
    pub fn sentence_began(&self, utterance: UtteranceId, at: FrameIndex) -> Option<Heard> {
        let mut entries = self.lock();
        let sentences = entries.get_mut(&utterance)?.sentences.iter_mut().enumerate();
        // Playout never hears of one without a sound.
        let mut waiting = sentences.filter(|(_, sentence)| sentence.began.is_none() && sentence.frames != Some(0));
        let (number, sentence) = waiting.next()?;
        sentence.began = Some(at);
        let (text, starts, frames) = (sentence.text.clone(), sentence.starts.clone(), sentence.frames);
        drop(entries);
        let words = self.pace().words(&text, &starts, frames);
        (!words.is_empty()).then_some(Heard { number, began: at, words })
    }

    /// Forgets an utterance of which playout will report nothing, because nothing of it reached a viewer.
    pub fn remove_if_unheard(&self, utterance: UtteranceId) {
        let mut entries = self.lock();
        if entries.get(&utterance).is_some_and(|entry| !entry.heard) {
            entries.remove(&utterance);
            drop(entries);
            self.0.ended.notify_waiters();
        }
    }

    /// What was heard of the utterance, which lasted so many frames.
    pub fn spoken(&self, utterance: UtteranceId, frames: u64, interrupted: bool) -> Option<String> {
        let frames = if interrupted { frames } else { u64::MAX };
        let entries = self.lock();
        let sentences = &entries.get(&utterance)?.sentences;
        Some(spoken_part(&self.pace(), sentences, frames))
    }

    pub fn end(&self, utterance: UtteranceId) -> Option<Ended> {
        let entry = self.lock().remove(&utterance)?;
        self.0.ended.notify_waiters();
        Some(Ended { id: entry.id, interrupted_at: entry.interrupted_at })
    }
}

/// The sentences that were heard whole and the words of the next that fit the frames left.
fn spoken_part(pace: &Pace, sentences: &[Sentence], frames: u64) -> String {
    let mut left = u128::from(frames) * FRAME_DURATION.as_millis();
    let mut spoken: Vec<String> = Vec::new();
    for Sentence { text, starts, frames, .. } in sentences {
        let words = pace.words(text, starts, *frames);
        let whole = u128::from(words.last().map_or(0, |word| word.end_ms));
        let heard = words.into_iter().take_while(|word| u128::from(word.end_ms) <= left);
        let text: String = heard.map(|word| word.text).collect();
        spoken.extend((!text.is_empty()).then(|| text.trim_end().to_owned()));
        if whole > left {
            break;
        }
        left -= whole;
    }
    spoken.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_spoken_is_what_fits_the_frames_that_were_heard() {
        let sentence =
            |text: &str, frames| Sentence { text: text.into(), frames: Some(frames), starts: vec![], began: None };
        let sentences = [sentence("One two.", 20), sentence("Three four five six.", 40)];
        let spoken = |frames| spoken_part(&Pace::new("en-us"), &sentences, frames);
        assert_eq!(spoken(0), "");
        assert_eq!(spoken(10), "One");
        assert_eq!(spoken(20), "One two.");
        assert_eq!(spoken(41), "One two. Three four");
        assert_eq!(spoken(u64::MAX), "One two. Three four five six.");
    }

    #[test]
    fn sentences_without_a_sound_are_passed_over_by_captions() {
        let (active, utterance) = (Active::new("en-us"), UtteranceId::next());
        active.add(utterance, None, TurnTimes::since(Instant::now()));
        active.sentence_begins(utterance, "(silence)".to_owned());
        assert!(active.sentence_has(utterance, 0).is_none());
        active.sentence_begins(utterance, "One two.".to_owned());
        let guessed = active.sentence_began(utterance, FrameIndex(7)).unwrap();
        assert_eq!((guessed.number, guessed.began, guessed.words.len()), (1, FrameIndex(7), 2));
        let known = active.sentence_has(utterance, 25).unwrap();
        assert_eq!((known.number, known.began, known.words[1].end_ms), (1, FrameIndex(7), 1000));
        assert!(active.sentence_began(utterance, FrameIndex(40)).is_none(), "there is no third");
    }

    #[test]
    fn a_viewer_is_believed_once_and_only_what_can_be() {
        let (active, utterance) = (Active::new("en-us"), UtteranceId::next());
        let times = TurnTimes::since(Instant::now().checked_sub(Duration::from_millis(500)).unwrap());
        active.add(utterance, None, times.clone());
        let told = |after| {
            active.shown(utterance, Duration::from_millis(after));
            times.of(Stage::Shown)
        };
        assert_eq!(told(450), None, "nothing has left yet");
        times.reach_after(Stage::FirstFrame, Duration::from_micros(400_900));
        assert_eq!(told(399), None, "before it left");
        assert_eq!(told(3_600_000), None, "in an hour");
        active.shown(UtteranceId::next(), Duration::from_millis(450));
        assert_eq!(told(400), Some(Duration::from_millis(400)), "as it was told of the frame");
        assert_eq!(told(450), Some(Duration::from_millis(400)), "by the first viewer");
    }

    #[test]
    fn an_interruption_cancels_queued_utterances_too() {
        let active = Active::new("en-us");
        let now = Instant::now();
        let tokens = [(); 2].map(|()| active.add(UtteranceId::next(), None, TurnTimes::since(now)));
        assert_eq!(active.cancel_all(now).len(), 2);
        assert!(tokens.iter().all(CancellationToken::is_cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_turn_waits_until_it_is_known_what_was_heard() {
        let active = Active::new("en-us");
        let utterance = UtteranceId::next();
        active.add(utterance, None, TurnTimes::since(Instant::now()));
        active.heard(utterance);
        active.interrupted_have_ended().await;
        assert_eq!(active.cancel_all(Instant::now()), []);
        let waiting = active.clone();
        let waiting = tokio::spawn(async move { waiting.interrupted_have_ended().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        active.end(utterance);
        waiting.await.unwrap();
    }
}
