//! What is said in a session: turns in order, each a reply spoken sentence by sentence, and interruption.
//!
//! In here: taking turns, the list of them and how each ends (`active`), the task that speaks them (`speaker`), notices to
//! viewers, the latency chain of each utterance, and what the history keeps of it: what was heard.
//! Not in here: what is answered (`dialogue`), sockets (`signalling`), pictures (`lipsync`, `playout`), GStreamer (`media`).
//! Runs on: two tokio tasks a session, owned by the tracker that was passed in.

mod active;
mod captions;
mod own_voice;
mod reader;
mod sentences;
mod speaker;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::animation::Animator;
use crate::dialogue::Responder;
use crate::dialogue::history::History;
use crate::ids::UtteranceId;
use crate::latency::TurnTimes;
use crate::playout::{self, Volume};
use crate::session::{Command, ErrorCode, Notice, Notices, Refusal, check_text_length};
use crate::speech::sentence::speakable;
use crate::speech::{Tts, Voice};
use crate::timeline::FrameIndex;

use active::{Active, Place};
pub use own_voice::OwnVoice;
use sentences::Heard;
use speaker::Speaker;
use watch::PlayoutWatch;

/// What one session needs to speak.
pub struct Parts {
    pub animator: Animator,
    pub tts: Arc<dyn Tts>,
    pub voice: Voice,
    pub responder: Arc<dyn Responder>,
    pub history: History,
    pub notices: Notices,
    pub playout_events: mpsc::Receiver<playout::Event>,
    pub audio_clock: RtpClock,
    pub video_clock: RtpClock,
}

/// The RTP timestamp with which the sound of a pair leaves, at 48 kHz, or its picture, at 90 kHz; `None` while nothing
/// is sent.
pub type RtpClock = Arc<dyn Fn(FrameIndex) -> Option<u32> + Send + Sync>;

/// Tells viewers what is being heard.
#[derive(Clone)]
struct Captions {
    active: Active,
    audio_clock: RtpClock,
}

impl Captions {
    fn tell(&self, utterance: UtteranceId, heard: Heard) {
        let Heard { number, began, words } = heard;
        let rtp_timestamp = (self.audio_clock)(began);
        self.active.tell(utterance, &Notice::Caption { utterance, sentence: number, rtp_timestamp, words });
    }
}

/// A session's ear: takes commands, never waits.
pub struct Conversation {
    active: Active,
    volume: Arc<Volume>,
}

/// What both sides said, shared by the session's tasks; locked for a moment, never across an await.
#[derive(Clone)]
struct Said(Arc<std::sync::Mutex<History>>);

impl Said {
    fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// How far each utterance's turn is, for whoever measures latency further down.
#[derive(Clone)]
pub struct Turns(Active);

impl Turns {
    /// `None` once the utterance has ended.
    pub fn times(&self, utterance: UtteranceId) -> Option<TurnTimes> {
        self.0.times(utterance)
    }
}

struct Turn {
    utterance: UtteranceId,
    /// The client's own name for the turn.
    id: Option<String>,
    say: Say,
    cancelled: CancellationToken,
    times: TurnTimes,
}

enum Say {
    /// The responder's reply to this.
    ReplyTo(String),
    Exactly(String),
    /// What a client says itself.
    Sound(own_voice::Stream),
}

impl Conversation {
    /// Starts the session's tasks on `tracker`; they end when `shutdown` is cancelled or the conversation dropped.
    pub fn start(parts: Parts, tracker: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let Parts { animator, tts, voice, responder, history, notices, playout_events, audio_clock, video_clock } =
            parts;
        let said = Said(Arc::new(std::sync::Mutex::new(history)));
        let active = Active::new(&voice.language, said.clone(), notices.clone());
        let captions = Captions { active: active.clone(), audio_clock };
        let volume = animator.volume();
        let speaker = Speaker {
            animator,
            tts,
            voice,
            responder,
            notices,
            active: active.clone(),
            said,
            captions: captions.clone(),
        };
        let (token, turns) = (shutdown.clone(), active.clone());
        let speaking = async move {
            let _ = token.run_until_cancelled(speaker.run()).await;
            // What is being heard ends when playout lets go of the session.
            turns.close();
        };
        tracker.spawn(speaking.in_current_span());
        let watch = PlayoutWatch { active: active.clone(), captions, video_clock };
        tracker.spawn(watch.run(playout_events).in_current_span());
        Self { active, volume }
    }

    /// Takes a command; an error says why it is not done. `voice` is that of the client it comes from.
    pub fn submit(&self, command: Command, voice: &OwnVoice) -> Result<(), Refusal> {
        match command {
            Command::Text { content, id } => self.reply_to(content, id, TurnTimes::since(Instant::now())),
            Command::Speak { content, id } => {
                checked(&content)?;
                self.queue(id, Say::Exactly(content))
            }
            Command::Interrupt => {
                self.interrupt();
                Ok(())
            }
            Command::Shown { utterance, after } => {
                self.active.shown(utterance, after);
                Ok(())
            }
            Command::AudioStart { sample_rate, id } => {
                voice.start(sample_rate, |stream| self.queue(id, Say::Sound(stream)))
            }
            Command::Audio(samples) => voice.sound(&samples),
            Command::AudioEnd => voice.end(),
        }
    }

    /// Takes a user's turn. One of speech has its transcript in `times`, which began at the end of the speech.
    pub fn reply_to(&self, content: String, id: Option<String>, times: TurnTimes) -> Result<(), Refusal> {
        checked(&content)?;
        self.volume.raise();
        // Who says something new does not want to hear the rest.
        self.active.add(id, Say::ReplyTo(content), times, Place::Instead).map(drop)
    }

    /// Stops what is being said and forgets what is queued.
    pub fn interrupt(&self) {
        self.volume.raise();
        self.active.interrupt();
    }

    /// Somebody may be about to take the turn: the avatar speaks lower for a while, until [`Self::go_on`] or
    /// [`Self::interrupt`] says what it was.
    pub fn speak_lower(&self) {
        self.volume.lower();
    }

    /// It was no more than a noise or an "mm-hm".
    pub fn go_on(&self) {
        self.volume.raise();
    }

    pub fn turns(&self) -> Turns {
        Turns(self.active.clone())
    }

    fn queue(&self, id: Option<String>, say: Say) -> Result<(), Refusal> {
        self.active.add(id, say, TurnTimes::since(Instant::now()), Place::Behind).map(drop)
    }
}

impl Drop for Conversation {
    /// Nobody can say anything more, or hear what is being said.
    fn drop(&mut self) {
        self.active.close();
    }
}

/// A text that is too long or holds nothing to say is refused.
fn checked(content: &str) -> Result<(), Refusal> {
    check_text_length(content)?;
    if speakable(content).is_none() {
        return Err(Refusal::new(ErrorCode::NothingToSay, "the text holds nothing that can be spoken: send words"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
