//! What the avatar attends to: the one place that decides it, from what is said on both sides.
//!
//! | when | it is |
//! |---|---|
//! | an utterance is heard | speaking |
//! | else somebody speaks into a microphone | listening |
//! | else a turn was taken and nothing of it is heard yet | thinking |
//! | else somebody spoke less than two seconds ago, and may go on | listening |
//! | else | idle |
//!
//! Not in here: how it looks (`still`), when turns begin and end (`turns`), what a microphone hears (`hearing`).
//! Runs on: whoever tells it something, and a tokio task of the session for what time alone changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::animation::Performer;
use crate::ids::UtteranceId;
use crate::still::Attention;

/// Who paused may go on.
const LINGERS: Duration = Duration::from_secs(2);

/// Has the avatar attend to whatever it should. Cheap to clone.
#[derive(Clone)]
pub(super) struct Attentive(Arc<Shared>);

struct Shared {
    said: Mutex<Said>,
    performer: Performer,
    /// Somebody has stopped speaking.
    fell_silent: Notify,
}

/// What is being said.
#[derive(Debug, Default)]
struct Said {
    /// Turns that have begun and not ended.
    open: BTreeSet<UtteranceId>,
    /// The one of them that is heard.
    heard: Option<UtteranceId>,
    /// Microphones that have speech.
    speakers: usize,
    /// When the last of them had none any more.
    silent_since: Option<Instant>,
}

impl Said {
    fn attention(&self, now: Instant) -> Attention {
        if self.heard.is_some() {
            Attention::Speaking
        } else if self.speakers > 0 {
            Attention::Listening
        } else if !self.open.is_empty() {
            Attention::Thinking
        } else if self.lingers_until().is_some_and(|until| now < until) {
            Attention::Listening
        } else {
            Attention::Idle
        }
    }

    fn lingers_until(&self) -> Option<Instant> {
        self.silent_since.map(|since| since + LINGERS)
    }

    fn hears(&mut self, speech: bool, now: Instant) {
        if speech {
            self.speakers += 1;
        } else {
            self.speakers = self.speakers.saturating_sub(1);
        }
        self.silent_since = (self.speakers == 0).then_some(now);
    }

    fn ends(&mut self, utterance: UtteranceId) {
        self.open.remove(&utterance);
        self.heard.take_if(|heard| *heard == utterance);
    }
}

impl Attentive {
    pub fn new(performer: Performer) -> Self {
        Self(Arc::new(Shared { said: Mutex::default(), performer, fell_silent: Notify::new() }))
    }

    /// A turn is taken.
    pub fn begins(&self, utterance: UtteranceId) {
        self.change(|said| {
            said.open.insert(utterance);
        });
    }

    /// Its first frame has left.
    pub fn is_heard(&self, utterance: UtteranceId) {
        self.change(|said| said.heard = Some(utterance));
    }

    /// It is over, however it ended.
    pub fn ends(&self, utterance: UtteranceId) {
        self.change(|said| said.ends(utterance));
    }

    /// A microphone has speech, or no more of it.
    pub fn hears(&self, speech: bool) {
        self.change(|said| said.hears(speech, Instant::now()));
        self.0.fell_silent.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut Said)) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut said);
        // Under the lock, so that what was decided last is what is done.
        self.0.performer.attend(said.attention(Instant::now()));
    }

    /// Looks up from whoever has stopped speaking, in time. Until it is dropped.
    pub async fn run(self) {
        loop {
            let until = self.0.said.lock().unwrap_or_else(PoisonError::into_inner).lingers_until();
            match until {
                Some(until) if until > Instant::now() => tokio::select! {
                    () = sleep_until(until) => self.change(|_| ()),
                    () = self.0.fell_silent.notified() => {}
                },
                _ => self.0.fell_silent.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_thought_about_until_it_is_heard_and_over_when_it_ends() {
        let (mut said, now) = (Said::default(), Instant::now());
        assert_eq!(said.attention(now), Attention::Idle);
        let (first, second) = (UtteranceId::next(), UtteranceId::next());
        said.open.extend([first, second]);
        assert_eq!(said.attention(now), Attention::Thinking);
        said.heard = Some(first);
        assert_eq!(said.attention(now), Attention::Speaking);
        said.ends(first);
        assert_eq!(said.attention(now), Attention::Thinking, "the next one");
        said.ends(second);
        assert_eq!(said.attention(now), Attention::Idle, "it failed before anything was heard");
    }

    #[test]
    fn whoever_speaks_is_listened_to_and_for_two_seconds_more() {
        let (mut said, now) = (Said::default(), Instant::now());
        said.hears(true, now);
        said.hears(true, now);
        said.hears(false, now);
        assert_eq!(said.attention(now + 10 * LINGERS), Attention::Listening, "somebody else goes on");
        said.hears(false, now);
        assert_eq!(said.attention(now + LINGERS / 2), Attention::Listening);
        assert_eq!(said.attention(now + LINGERS), Attention::Idle);
        // What was said is thought about at once.
        said.open.insert(UtteranceId::next());
        assert_eq!(said.attention(now + LINGERS / 2), Attention::Thinking);
        // An avatar that speaks is not seen to listen, until it is interrupted.
        let utterance = UtteranceId::next();
        (said.heard, said.open) = (Some(utterance), BTreeSet::from([utterance]));
        said.hears(true, now);
        assert_eq!(said.attention(now), Attention::Speaking);
        said.ends(utterance);
        assert_eq!(said.attention(now), Attention::Listening);
    }
}
