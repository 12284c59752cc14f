//! What is said in a session: turns in order, each a reply spoken sentence by sentence, and interruption.
//!
//! In here: the queue of turns, the task that speaks them (`speaker`), notices to viewers, the latency chain of each
//! utterance, and what the history keeps of it: what was heard.
//! Not in here: what is answered (`dialogue`), sockets (`signalling`), pictures (`lipsync`, `playout`), GStreamer (`media`).
//! Runs on: two tokio tasks a session, owned by the tracker that was passed in.

mod active;
mod captions;
mod notices;
mod speaker;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::dialogue::Responder;
use crate::dialogue::history::History;
use crate::ids::UtteranceId;
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::driver::Driver;
use crate::playout::{self, Volume};
use crate::signalling::{Command, ErrorCode, Notice, SubmitError};
use crate::speech::sentence::speakable;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};
use crate::timeline::FrameIndex;

use active::{Active, Heard};
pub use notices::Notices;
use speaker::Speaker;

/// Turns waiting to be spoken. More than a person would queue; a client that sends more is told so.
const TURNS: usize = 8;
/// Pieces of a client's own audio on their way: at 20 ms a piece more than a second.
const AUDIO_PIECES: usize = 64;
/// Characters in one turn: about ten minutes of speech.
const MAX_TEXT: usize = 10_000;

/// What one session needs to speak.
pub struct Parts {
    pub driver: Driver,
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
    notices: Notices,
    audio_clock: RtpClock,
}

impl Captions {
    fn tell(&self, utterance: UtteranceId, heard: Heard) {
        let Heard { number, began, words } = heard;
        let rtp_timestamp = (self.audio_clock)(began);
        self.notices.tell(&Notice::Caption { utterance, sentence: number, rtp_timestamp, words });
    }
}

/// A session's ear: takes commands, never waits.
pub struct Conversation {
    turns: mpsc::Sender<Turn>,
    active: Active,
    said: Said,
    volume: Arc<Volume>,
    /// Where a client's own audio goes while it speaks.
    audio: std::sync::Mutex<Option<Audio>>,
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

struct Audio {
    sample_rate: u32,
    pieces: mpsc::Sender<Result<PcmChunk, SpeechError>>,
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
    Sound(PcmStream),
}

impl Conversation {
    /// Starts the session's tasks on `tracker`; they end when `shutdown` is cancelled or the conversation dropped.
    pub fn start(parts: Parts, tracker: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let (turns, queue) = mpsc::channel(TURNS);
        let Parts { driver, tts, voice, responder, history, notices, playout_events, audio_clock, video_clock } = parts;
        let active = Active::new(&voice.language);
        let captions = Captions { notices: notices.clone(), audio_clock };
        let said = Said(Arc::new(std::sync::Mutex::new(history)));
        let volume = driver.volume();
        let speaker = Speaker {
            driver,
            tts,
            voice,
            responder,
            notices: notices.clone(),
            active: active.clone(),
            said: said.clone(),
            captions: captions.clone(),
        };
        let token = shutdown.clone();
        let speaking = async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = speaker.run(queue) => {}
            }
        };
        tracker.spawn(speaking.in_current_span());
        let watch = PlayoutWatch { active: active.clone(), said: said.clone(), captions, video_clock };
        tracker.spawn(watch.run(playout_events).in_current_span());
        Self { turns, active, said, volume, audio: std::sync::Mutex::default() }
    }

    /// Takes a command; an error says why it is not done.
    pub fn submit(&self, command: Command) -> Result<(), SubmitError> {
        match command {
            Command::Text { content, id } => self.reply_to(content, id, TurnTimes::since(Instant::now())),
            Command::Speak { content, id } => {
                checked(&content)?;
                self.queue(id, Say::Exactly(content), TurnTimes::since(Instant::now()))
            }
            Command::Interrupt => {
                self.interrupt();
                Ok(())
            }
            Command::Shown { utterance, after } => {
                self.active.shown(utterance, after);
                Ok(())
            }
            Command::AudioStart { sample_rate } => self.start_audio(sample_rate),
            Command::Audio(samples) => self.audio(&samples),
            Command::AudioEnd => {
                let ended = self.lock_audio().take();
                ended.map(drop).ok_or_else(|| refuse(ErrorCode::AudioNotStarted, "audio_end came without audio_start"))
            }
        }
    }

    /// Takes a user's turn. One of speech has its transcript in `times`, which began at the end of the speech.
    pub fn reply_to(&self, content: String, id: Option<String>, times: TurnTimes) -> Result<(), SubmitError> {
        checked(&content)?;
        // Who says something new does not want to hear the rest.
        self.interrupt();
        self.queue(id, Say::ReplyTo(content), times)
    }

    /// Stops what is being said and forgets what is queued.
    pub fn interrupt(&self) {
        *self.lock_audio() = None;
        self.volume.raise();
        // What was made and nobody heard was never said.
        let unheard = self.active.cancel_all(Instant::now());
        self.said.with(|history| unheard.iter().for_each(|utterance| history.said(*utterance, "")));
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

    fn queue(&self, id: Option<String>, say: Say, times: TurnTimes) -> Result<(), SubmitError> {
        let room = self.turns.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => {
                let message = format!("{TURNS} turns are waiting already: wait for speech_ended or send interrupt");
                refuse(ErrorCode::Busy, &message)
            }
            mpsc::error::TrySendError::Closed(()) => refuse(ErrorCode::ShuttingDown, "the session is closing"),
        })?;
        let utterance = UtteranceId::next();
        let cancelled = self.active.add(utterance, id.clone(), times.clone());
        room.send(Turn { utterance, id, say, cancelled, times });
        Ok(())
    }

    fn start_audio(&self, sample_rate: u32) -> Result<(), SubmitError> {
        let (pieces, stream) = mpsc::channel(AUDIO_PIECES);
        self.queue(None, Say::Sound(stream), TurnTimes::since(Instant::now()))?;
        // A stream that was not ended ends here.
        *self.lock_audio() = Some(Audio { sample_rate, pieces });
        Ok(())
    }

    fn audio(&self, samples: &[i16]) -> Result<(), SubmitError> {
        let audio = self.lock_audio();
        let Some(Audio { sample_rate, pieces }) = audio.as_ref() else {
            return Err(refuse(ErrorCode::AudioNotStarted, "audio came before audio_start {sample_rate}"));
        };
        let samples = samples.iter().map(|sample| f32::from(*sample) / 32768.0).collect();
        match pieces.try_send(Ok(PcmChunk::new(samples, *sample_rate))) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(refuse(ErrorCode::Busy, "audio comes faster than it is spoken: send it in real time"))
            }
            // Interrupted, or speaking failed and was reported: the rest of the stream has no use.
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Held for a `try_send` at most, never across an await.
    fn lock_audio(&self) -> std::sync::MutexGuard<'_, Option<Audio>> {
        self.audio.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A text that is too long or holds nothing to say is refused.
fn checked(content: &str) -> Result<(), SubmitError> {
    let length = content.chars().count();
    if length > MAX_TEXT {
        let message =
            format!("the text has {length} characters, at most {MAX_TEXT} are spoken in one turn: send it in parts");
        return Err(refuse(ErrorCode::TextTooLong, &message));
    }
    if speakable(content).is_none() {
        return Err(refuse(ErrorCode::NothingToSay, "the text holds nothing that can be spoken: send words"));
    }
    Ok(())
}

fn refuse(code: ErrorCode, message: &str) -> SubmitError {
    SubmitError { code, message: message.to_owned() }
}

/// Turns what playout reports into notices and metrics.
struct PlayoutWatch {
    active: Active,
    said: Said,
    captions: Captions,
    video_clock: RtpClock,
}

impl PlayoutWatch {
    async fn run(self, mut events: mpsc::Receiver<playout::Event>) {
        while let Some(event) = events.recv().await {
            self.heed(event);
        }
    }

    fn heed(&self, event: playout::Event) {
        let Self { active, said, captions, video_clock } = self;
        let notices = &captions.notices;
        match event {
            playout::Event::Started { utterance, .. } => {
                if let Some(id) = active.heard(utterance) {
                    notices.tell(&Notice::SpeechStarted { utterance, id });
                }
            }
            playout::Event::SentenceStarted { utterance, index } => {
                if let Some(heard) = active.sentence_began(utterance, index) {
                    captions.tell(utterance, heard);
                }
            }
            playout::Event::FirstMouth { utterance, index, at } => {
                let Some(times) = active.times(utterance) else { return };
                times.reach(Stage::FirstFrame, at);
                let stages = times.stages();
                tracing::info!(%utterance, ?stages, "first lip-synced frame");
                notices.tell(&Notice::Latency { utterance, rtp_timestamp: video_clock(index), stages });
            }
            playout::Event::Ended { utterance, frames, interrupted, at } => {
                // In this order: who waits for the end of an interrupted utterance then finds the history right.
                let Some(text_spoken) = active.spoken(utterance, frames, interrupted) else { return };
                if interrupted {
                    said.with(|history| history.said(utterance, &text_spoken));
                }
                let Some(ended) = active.end(utterance) else { return };
                crate::metrics::utterance_ended(if interrupted { "interrupted" } else { "spoken" });
                if let Some(asked) = ended.interrupted_at {
                    crate::metrics::interrupted(at.saturating_duration_since(asked));
                }
                notices.tell(&Notice::SpeechEnded {
                    utterance,
                    id: ended.id,
                    interrupted,
                    spoken_ms: frames * 1000 / u64::from(crate::timeline::FPS),
                    text_spoken,
                });
            }
        }
    }
}
