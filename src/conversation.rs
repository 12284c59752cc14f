//! What is said in a session: turns in order, each a reply spoken sentence by sentence, and interruption.
//!
//! In here: the queue of turns, the task that speaks them, notices to viewers, the latency chain of each utterance.
//! Not in here: sockets (`signalling`), pictures (`lipsync`, `playout`), GStreamer (`media`).
//! Runs on: two tokio tasks a session, owned by the tracker that was passed in.

mod active;
mod notices;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::ids::UtteranceId;
use crate::lipsync::driver::{Driver, DriverError};
use crate::playout;
use crate::signalling::{Command, ErrorCode, Notice, SubmitError};
use crate::speech::dialogue::Dialogue;
use crate::speech::sentence::{SentenceSplitter, speakable};
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

use active::Active;
pub use notices::Notices;

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
    pub dialogue: Arc<dyn Dialogue>,
    pub notices: Notices,
    pub playout_events: mpsc::Receiver<playout::Event>,
}

/// A session's ear: takes commands, never waits.
pub struct Conversation {
    turns: mpsc::Sender<Turn>,
    active: Active,
    /// Where a client's own audio goes while it speaks.
    audio: std::sync::Mutex<Option<Audio>>,
}

/// When each utterance's turn arrived, for whoever measures latency further down.
#[derive(Clone)]
pub struct Arrivals(Active);

impl Arrivals {
    /// `None` once the utterance has ended.
    pub fn of(&self, utterance: UtteranceId) -> Option<Instant> {
        self.0.arrived(utterance)
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
    arrived: Instant,
}

enum Say {
    /// The dialogue's reply to this.
    ReplyTo(String),
    Exactly(String),
    Sound(PcmStream),
}

impl Conversation {
    /// Starts the session's tasks on `tracker`; they end when `shutdown` is cancelled or the conversation dropped.
    pub fn start(parts: Parts, tracker: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let (turns, queue) = mpsc::channel(TURNS);
        let active = Active::default();
        let Parts { driver, tts, voice, dialogue, notices, playout_events } = parts;
        let speaker = Speaker { driver, tts, voice, dialogue, notices: notices.clone(), active: active.clone() };
        let token = shutdown.clone();
        let speaking = async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = speaker.run(queue) => {}
            }
        };
        tracker.spawn(speaking.in_current_span());
        tracker.spawn(watch_playout(playout_events, active.clone(), notices).in_current_span());
        Self { turns, active, audio: std::sync::Mutex::default() }
    }

    /// Takes a command; an error says why it is not done.
    pub fn submit(&self, command: Command) -> Result<(), SubmitError> {
        match command {
            Command::Text { content, id } => self.queue_text(content, id, Say::ReplyTo),
            Command::Speak { content, id } => self.queue_text(content, id, Say::Exactly),
            Command::Interrupt => {
                self.interrupt();
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

    /// Stops what is being said and forgets what is queued.
    pub fn interrupt(&self) {
        *self.lock_audio() = None;
        self.active.cancel_all(Instant::now());
    }

    pub fn arrivals(&self) -> Arrivals {
        Arrivals(self.active.clone())
    }

    fn queue_text(&self, content: String, id: Option<String>, say: fn(String) -> Say) -> Result<(), SubmitError> {
        let length = content.chars().count();
        if length > MAX_TEXT {
            let message = format!(
                "the text has {length} characters, at most {MAX_TEXT} are spoken in one turn: send it in parts"
            );
            return Err(refuse(ErrorCode::TextTooLong, &message));
        }
        if speakable(&content).is_none() {
            return Err(refuse(ErrorCode::NothingToSay, "the text holds nothing that can be spoken: send words"));
        }
        self.queue(id, say(content))
    }

    fn queue(&self, id: Option<String>, say: Say) -> Result<(), SubmitError> {
        let arrived = Instant::now();
        let room = self.turns.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => {
                let message = format!("{TURNS} turns are waiting already: wait for speech_ended or send interrupt");
                refuse(ErrorCode::Busy, &message)
            }
            mpsc::error::TrySendError::Closed(()) => refuse(ErrorCode::ShuttingDown, "the session is closing"),
        })?;
        let utterance = UtteranceId::next();
        let cancelled = self.active.add(utterance, id.clone(), arrived);
        room.send(Turn { utterance, id, say, cancelled, arrived });
        Ok(())
    }

    fn start_audio(&self, sample_rate: u32) -> Result<(), SubmitError> {
        let (pieces, stream) = mpsc::channel(AUDIO_PIECES);
        self.queue(None, Say::Sound(stream))?;
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
        match pieces.try_send(Ok(PcmChunk { samples, sample_rate: *sample_rate })) {
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

fn refuse(code: ErrorCode, message: &str) -> SubmitError {
    SubmitError { code, message: message.to_owned() }
}

/// Speaks one turn after the other.
struct Speaker {
    driver: Driver,
    tts: Arc<dyn Tts>,
    voice: Voice,
    dialogue: Arc<dyn Dialogue>,
    notices: Notices,
    active: Active,
}

impl Speaker {
    async fn run(mut self, mut turns: mpsc::Receiver<Turn>) {
        while let Some(turn) = turns.recv().await {
            let span = tracing::info_span!("utterance", id = %turn.utterance);
            self.turn(turn).instrument(span).await;
        }
    }

    async fn turn(&mut self, turn: Turn) {
        let Turn { utterance, id, say, cancelled, arrived } = turn;
        let mut progress = Progress { utterance, id, arrived, cancelled, sound_heard: false, failed: false };
        let spoken = match say {
            Say::Sound(stream) => self.segment(&mut progress, String::new(), stream).await,
            Say::Exactly(text) => self.text(&mut progress, one_piece(text)).await,
            Say::ReplyTo(text) => {
                let reply = self.dialogue.reply(&text);
                self.text(&mut progress, reply).await
            }
        };
        let ended = match spoken {
            Ok(()) => self.driver.end_utterance(utterance, &progress.cancelled).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) if progress.sound_heard => {}
            // Cancelled while heard: playout reports the end. Cancelled before: nobody waits for an end.
            Ok(()) | Err(DriverError::Cancelled) => self.active.remove_if_unheard(utterance),
            Err(error) => {
                tracing::warn!(%error, "an utterance failed");
                crate::metrics::utterance_ended("failed");
                let code = if matches!(error, DriverError::Speech(_)) {
                    ErrorCode::SpeechFailed
                } else {
                    ErrorCode::LipSyncFailed
                };
                self.notices.tell(&Notice::Error { code, message: error.to_string(), fatal: false });
                // What was already handed on is still heard, and reported as ended by playout.
                if self.driver.end_utterance(utterance, &progress.cancelled).await.is_err() || !progress.sound_heard {
                    self.active.remove_if_unheard(utterance);
                }
            }
        }
    }

    /// Speaks text as it arrives, sentence by sentence; the synthesiser works one sentence ahead.
    async fn text(&mut self, progress: &mut Progress, mut pieces: mpsc::Receiver<String>) -> Result<(), DriverError> {
        let mut splitter = SentenceSplitter::new();
        let mut ready: Option<(String, PcmStream)> = None;
        loop {
            let piece = tokio::select! {
                biased;
                () = progress.cancelled.cancelled() => return Err(DriverError::Cancelled),
                piece = pieces.recv() => piece,
            };
            self.notices.tell(&Notice::Text {
                content: piece.clone().unwrap_or_default(),
                utterance: progress.utterance,
                id: progress.id.clone(),
                is_final: piece.is_none(),
            });
            let sentences = match &piece {
                Some(piece) => splitter.push(piece),
                None => splitter.finish().into_iter().collect(),
            };
            for sentence in sentences {
                let Some(text) = speakable(&sentence) else { continue };
                let next = (sentence, self.tts.speak(&text, &self.voice)?);
                if let Some((sentence, speech)) = ready.replace(next) {
                    self.segment(progress, sentence, speech).await?;
                }
            }
            // Nothing is certain to follow soon, so what is ready need not wait for it.
            if (piece.is_none() || pieces.is_empty())
                && let Some((sentence, speech)) = ready.take()
            {
                self.segment(progress, sentence, speech).await?;
            }
            if piece.is_none() {
                return Ok(());
            }
        }
    }

    async fn segment(
        &mut self,
        progress: &mut Progress,
        sentence: String,
        speech: PcmStream,
    ) -> Result<(), DriverError> {
        self.active.sentence_begins(progress.utterance, sentence);
        let outcome = self.driver.speak(progress.utterance, speech, &progress.cancelled).await?;
        self.active.sentence_has(progress.utterance, outcome.frames);
        if let Some(at) = outcome.first_audio
            && !progress.sound_heard
        {
            crate::metrics::first_audio(at - progress.arrived);
        }
        progress.sound_heard |= outcome.frames > 0;
        if let Some(error) = outcome.lip_sync_error
            && !std::mem::replace(&mut progress.failed, true)
        {
            let message = format!("the voice goes on without lip-sync: {error}");
            self.notices.tell(&Notice::Error { code: ErrorCode::LipSyncFailed, message, fatal: false });
        }
        Ok(())
    }
}

struct Progress {
    utterance: UtteranceId,
    id: Option<String>,
    arrived: Instant,
    cancelled: CancellationToken,
    sound_heard: bool,
    failed: bool,
}

fn one_piece(text: String) -> mpsc::Receiver<String> {
    let (sender, pieces) = mpsc::channel(1);
    // Room for one, and one is sent.
    let _ = sender.try_send(text);
    pieces
}

/// Turns what playout reports into notices and metrics.
async fn watch_playout(mut events: mpsc::Receiver<playout::Event>, active: Active, notices: Notices) {
    while let Some(event) = events.recv().await {
        match event {
            playout::Event::Started { utterance, .. } => {
                if let Some(id) = active.heard(utterance) {
                    notices.tell(&Notice::SpeechStarted { utterance, id });
                }
            }
            playout::Event::FirstMouth { utterance, at } => {
                if let Some(arrived) = active.arrived(utterance) {
                    crate::metrics::first_frame(at - arrived);
                    tracing::info!(%utterance, after_ms = (at - arrived).as_millis(), "first lip-synced frame");
                }
            }
            playout::Event::Ended { utterance, frames, interrupted, at } => {
                let Some(ended) = active.end(utterance, frames, interrupted) else { continue };
                crate::metrics::utterance_ended(if interrupted { "interrupted" } else { "spoken" });
                if let Some(asked) = ended.interrupted_at {
                    crate::metrics::interrupted(at.saturating_duration_since(asked));
                }
                notices.tell(&Notice::SpeechEnded {
                    utterance,
                    id: ended.id,
                    interrupted,
                    spoken_ms: frames * 1000 / u64::from(crate::timeline::FPS),
                    text_spoken: ended.text_spoken,
                });
            }
        }
    }
}
