//! The utterances of a session that are queued, being made or being heard, and how much of each was heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ids::UtteranceId;

/// Shared by the session's tasks; locked for a map operation at a time, never across an await.
#[derive(Clone, Default)]
pub(super) struct Active(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Mutex<BTreeMap<UtteranceId, Entry>>,
    ended: Notify,
}

struct Entry {
    id: Option<String>,
    cancelled: CancellationToken,
    arrived: Instant,
    interrupted_at: Option<Instant>,
    heard: bool,
    /// Each sentence and how many frames it takes, once known.
    sentences: Vec<(String, Option<u64>)>,
}

pub(super) struct Ended {
    pub id: Option<String>,
    pub interrupted_at: Option<Instant>,
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UtteranceId, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an utterance and gives the token that cancels it.
    pub fn add(&self, utterance: UtteranceId, id: Option<String>, arrived: Instant) -> CancellationToken {
        let cancelled = CancellationToken::new();
        let entry = Entry {
            id,
            cancelled: cancelled.clone(),
            arrived,
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

    pub fn arrived(&self, utterance: UtteranceId) -> Option<Instant> {
        self.lock().get(&utterance).map(|entry| entry.arrived)
    }

    pub fn sentence_begins(&self, utterance: UtteranceId, sentence: String) {
        if let Some(entry) = self.lock().get_mut(&utterance) {
            entry.sentences.push((sentence, None));
        }
    }

    pub fn sentence_has(&self, utterance: UtteranceId, frames: u64) {
        if let Some((_, known)) = self.lock().get_mut(&utterance).and_then(|entry| entry.sentences.last_mut()) {
            *known = Some(frames);
        }
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
        Some(spoken_part(&self.lock().get(&utterance)?.sentences, frames))
    }

    pub fn end(&self, utterance: UtteranceId) -> Option<Ended> {
        let entry = self.lock().remove(&utterance)?;
        self.0.ended.notify_waiters();
        Some(Ended { id: entry.id, interrupted_at: entry.interrupted_at })
    }
}

/// The sentences that were heard whole and the words of the next that fit the frames left.
fn spoken_part(sentences: &[(String, Option<u64>)], frames: u64) -> String {
    let mut left = frames;
    let mut spoken: Vec<String> = Vec::new();
    for (sentence, length) in sentences {
        // Of a sentence still being made the length is guessed from its letters: about 15 a second.
        let length = length.unwrap_or_else(|| sentence.chars().count() as u64 * 25 / 15).max(1);
        if left >= length {
            left -= length;
            spoken.push(sentence.trim().to_owned());
            continue;
        }
        let words: Vec<&str> = sentence.split_whitespace().collect();
        let heard = words.len() as u64 * left / length;
        spoken.extend((heard > 0).then(|| words[..usize::try_from(heard).unwrap_or(0)].join(" ")));
        break;
    }
    spoken.retain(|part| !part.is_empty());
    spoken.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_spoken_is_what_fits_the_frames_that_were_heard() {
        let sentences = vec![("One two.".to_owned(), Some(20)), ("Three four five six.".to_owned(), Some(40))];
        assert_eq!(spoken_part(&sentences, 0), "");
        assert_eq!(spoken_part(&sentences, 10), "One");
        assert_eq!(spoken_part(&sentences, 20), "One two.");
        assert_eq!(spoken_part(&sentences, 41), "One two. Three four");
        assert_eq!(spoken_part(&sentences, u64::MAX), "One two. Three four five six.");
    }

    #[test]
    fn an_interruption_cancels_queued_utterances_too() {
        let active = Active::default();
        let now = Instant::now();
        let tokens = [active.add(UtteranceId::next(), None, now), active.add(UtteranceId::next(), None, now)];
        assert_eq!(active.cancel_all(now).len(), 2);
        assert!(tokens.iter().all(CancellationToken::is_cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_turn_waits_until_it_is_known_what_was_heard() {
        let active = Active::default();
        let utterance = UtteranceId::next();
        active.add(utterance, None, Instant::now());
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
