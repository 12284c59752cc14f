//! The utterances of a session that are queued, being made or being heard, and how much of each was heard.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::ids::UtteranceId;

/// Shared by the session's tasks; locked for a map operation at a time, never across an await.
#[derive(Clone, Default)]
pub(super) struct Active(Arc<Mutex<BTreeMap<UtteranceId, Entry>>>);

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
    pub text_spoken: String,
    pub interrupted_at: Option<Instant>,
}

impl Active {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<UtteranceId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Cancels everything. What nobody has heard yet is forgotten: playout will report nothing of it.
    pub fn cancel_all(&self, now: Instant) {
        self.lock().retain(|_, entry| {
            entry.interrupted_at.get_or_insert(now);
            entry.cancelled.cancel();
            entry.heard
        });
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
        }
    }

    pub fn end(&self, utterance: UtteranceId, frames: u64, interrupted: bool) -> Option<Ended> {
        let entry = self.lock().remove(&utterance)?;
        let text_spoken =
            if interrupted { spoken_part(&entry.sentences, frames) } else { spoken_part(&entry.sentences, u64::MAX) };
        Some(Ended { id: entry.id, text_spoken, interrupted_at: entry.interrupted_at })
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
        active.cancel_all(now);
        assert!(tokens.iter().all(CancellationToken::is_cancelled));
    }
}
