//! One microphone's listener: turns heard become turns of the conversation.
//!
//! In here: cutting sound into frames, speech detection (earshot, a small recurrent network), what is kept of a turn, when
//! the recogniser is asked, and what becomes of its answer. Not in here: the decisions over frames (`turn`), the avatar's
//! echo (`echo`).
//! Runs on: one tokio task a microphone, owned by the tracker of the server; a frame takes it some 50 microseconds. It ends
//! with the viewer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use earshot::Detector;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::future::OptionFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

use super::asr::{AsrError, Transcribe};
use super::backchannel::is_backchannel;
use super::echo::EchoGuard;
use super::reference::ReferenceFrame;
use super::transcript::{Voice, words_said};
use super::turn::{Change, Turns};
use super::{FRAME_SAMPLES, MICROPHONE_RATE, MicrophoneChunk, TurnTaking};
use crate::metrics;
use crate::session::{ErrorCode, Notice};

/// Speech detection above this begins a turn, above the second goes on with it.
const VOICE: f32 = 0.5;
const STILL_VOICE: f32 = 0.35;
/// A frame of which that share is not the avatar's echo is somebody else's.
const OTHERS: f32 = 0.4;
/// What is kept from before a turn was noticed: its first chunks are soft.
const BEFORE: usize = 20;
/// From one draft of what is being said to the next, in frames.
const DRAFT_EVERY: usize = 75;
/// The avatar counts as speaking for so long after its last sound: it pauses between sentences.
const LINGERS: Duration = Duration::from_millis(700);
/// A microphone that was silent for longer, as one that is switched off, begins anew.
const GAP: Duration = Duration::from_millis(60);
/// Turns that wait for the recogniser; more are not taken.
const WAITING: usize = 4;
/// Chunks of sound on their way from the microphone: at 20 ms each half a second.
const CHUNKS: usize = 25;

/// What the listeners of all sessions share; without a recogniser there are none.
#[derive(Clone)]
pub struct Listeners(Arc<dyn Transcribe>);

/// One microphone that is listened to, as whoever has the microphone holds it.
pub struct Listener {
    /// Where its sound goes.
    pub microphone: mpsc::Sender<MicrophoneChunk>,
    /// Whether the button to talk is held down.
    pub button: watch::Sender<bool>,
}

impl Listeners {
    /// With the recogniser that all of them ask.
    pub fn new(recogniser: Arc<dyn Transcribe>) -> Self {
        Self(recogniser)
    }

    /// A listener and its task, which ends when the microphone is dropped. `reference` is what the avatar says.
    pub fn listen(
        &self,
        reference: broadcast::Sender<ReferenceFrame>,
        turn_taking: Arc<dyn TurnTaking>,
    ) -> (Listener, impl Future<Output = ()> + Send + use<>) {
        let (microphone, chunks) = mpsc::channel(CHUNKS);
        let (button, held) = watch::channel(false);
        let recogniser = Arc::clone(&self.0);
        (Listener { microphone, button }, listen(recogniser, reference, turn_taking, chunks, held))
    }
}

/// What is asked of the recogniser, and for what.
struct Asked {
    outcome: Result<String, AsrError>,
    turn: EndedTurn,
    asked: Instant,
}

/// A turn that has ended.
#[derive(Clone, Copy)]
struct EndedTurn {
    /// When the last of it sounded.
    ended: Instant,
    /// The avatar was speaking, and goes on unless this stops it.
    over_avatar: bool,
    voice: Voice,
}

struct Listening {
    recogniser: Arc<dyn Transcribe>,
    turn_taking: Arc<dyn TurnTaking>,
    detector: Detector,
    guard: EchoGuard,
    turns: Turns,
    /// The frame that is being filled, and when it began.
    filling: Vec<i16>,
    begins: Option<Instant>,
    /// What was heard just before a turn, or of it.
    clip: VecDeque<i16>,
    frames_since_draft: usize,
    avatar_until: Option<Instant>,
    last_voice: Instant,
    /// Of the turn.
    voice: Voice,
    over_avatar: bool,
    /// What is said so far, being recognised. Good for the whole turn if it was asked for at its last pause.
    draft: Option<Draft>,
    finals: FuturesOrdered<BoxFuture<'static, Asked>>,
}

struct Draft {
    answer: Answer,
    asked: Instant,
    is_whole: bool,
    voice: Voice,
}

enum Answer {
    Awaited(BoxFuture<'static, Result<String, AsrError>>),
    Here(Result<String, AsrError>),
}

impl Draft {
    fn awaited(&mut self) -> Option<&mut BoxFuture<'static, Result<String, AsrError>>> {
        match &mut self.answer {
            Answer::Awaited(answer) => Some(answer),
            Answer::Here(_) => None,
        }
    }
}

async fn listen(
    recogniser: Arc<dyn Transcribe>,
    reference: broadcast::Sender<ReferenceFrame>,
    turn_taking: Arc<dyn TurnTaking>,
    mut chunks: mpsc::Receiver<MicrophoneChunk>,
    mut button: watch::Receiver<bool>,
) {
    // Most viewers never speak.
    let Some(first) = chunks.recv().await else { return };
    let mut frames = reference.subscribe();
    // Nothing of the session may be kept alive by who listens to it.
    drop(reference);
    let mut listening = Listening::new(recogniser, turn_taking, first.at);
    listening.chunk(&first);
    loop {
        let draft = OptionFuture::from(listening.draft.as_mut().and_then(Draft::awaited));
        tokio::select! {
            biased;
            frame = frames.recv() => match frame {
                Ok(frame) => listening.reference(&frame),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
            changed = button.changed() => {
                if changed.is_err() {
                    break;
                }
                let is_held = *button.borrow_and_update();
                listening.hold(is_held);
            }
            Some(outcome) = draft => listening.drafted(outcome),
            Some(asked) = listening.finals.next() => listening.answered(asked),
            chunk = chunks.recv() => match chunk {
                Some(chunk) => listening.chunk(&chunk),
                None => break,
            },
        }
    }
    if listening.turns.is_on() {
        listening.turn_taking.hears(false);
    }
}

impl Listening {
    fn new(recogniser: Arc<dyn Transcribe>, turn_taking: Arc<dyn TurnTaking>, now: Instant) -> Self {
        Self {
            recogniser,
            turn_taking,
            detector: Detector::default(),
            guard: EchoGuard::new(now),
            turns: Turns::default(),
            filling: Vec::with_capacity(FRAME_SAMPLES),
            begins: None,
            clip: VecDeque::new(),
            frames_since_draft: 0,
            avatar_until: None,
            last_voice: now,
            voice: Voice::default(),
            over_avatar: false,
            draft: None,
            finals: FuturesOrdered::new(),
        }
    }

    fn reference(&mut self, frame: &ReferenceFrame) {
        self.guard.reference(frame);
        if frame.audio.is_some() {
            self.avatar_until = Some(frame.at + LINGERS);
        }
    }

    fn chunk(&mut self, chunk: &MicrophoneChunk) {
        let length = |samples: usize| Duration::from_secs_f64(samples as f64 / f64::from(MICROPHONE_RATE));
        let expected = self.begins.map(|begins| begins + length(self.filling.len()));
        let differs = |expected: Instant| chunk.at.max(expected) - chunk.at.min(expected);
        // By count as long as that is the time about, since arrivals jitter.
        if expected.is_none_or(|expected| differs(expected) > GAP) {
            self.filling.clear();
            self.begins = Some(chunk.at);
        }
        for sample in &chunk.samples {
            self.filling.push(*sample);
            let Ok(frame) = <&[i16; FRAME_SAMPLES]>::try_from(self.filling.as_slice()) else { continue };
            let (frame, at) = (*frame, self.begins.unwrap_or(chunk.at));
            self.filling.clear();
            self.begins = Some(at + length(FRAME_SAMPLES));
            self.frame(&frame, at);
        }
    }

    fn frame(&mut self, frame: &[i16; FRAME_SAMPLES], at: Instant) {
        let others = self.guard.judge(frame, at) > OTHERS;
        let score = self.detector.predict_i16(frame);
        let threshold = if self.turns.is_on() { STILL_VOICE } else { VOICE };
        let is_voice = others && score > threshold;
        if is_voice {
            self.last_voice = at;
            self.voice.hear(score);
        } else if !self.turns.is_on() {
            self.voice = Voice::default();
        }
        self.clip.extend(frame);
        if !self.turns.is_on() {
            let over = self.clip.len().saturating_sub(BEFORE * FRAME_SAMPLES);
            self.clip.drain(..over);
        }
        let avatar_speaks = self.avatar_speaks(at);
        self.over_avatar |= avatar_speaks && self.turns.is_on();
        let change = self.turns.frame(is_voice, avatar_speaks);
        if let Some(change) = change {
            self.heed(change, avatar_speaks);
        }
        self.frames_since_draft += 1;
        if self.turns.is_on() && self.frames_since_draft >= DRAFT_EVERY && self.draft.is_none() {
            self.ask_for_a_draft(false);
        }
    }

    fn avatar_speaks(&self, at: Instant) -> bool {
        self.avatar_until.is_some_and(|until| at < until)
    }

    fn hold(&mut self, is_held: bool) {
        if is_held {
            // Who presses the button wants to speak, whatever is heard.
            self.turn_taking.interrupt();
        }
        if let Some(change) = self.turns.hold(is_held) {
            self.heed(change, false);
        }
    }

    fn heed(&mut self, change: Change, avatar_speaks: bool) {
        tracing::debug!(?change, avatar_speaks, "heard");
        match change {
            Change::Began => {
                self.turn_taking.hears(true);
                self.over_avatar = avatar_speaks;
                self.frames_since_draft = 0;
                if avatar_speaks {
                    self.turn_taking.speak_lower();
                }
            }
            Change::Insists => {
                self.over_avatar = false;
                self.turn_taking.interrupt();
            }
            Change::Paused => self.ask_for_a_draft(true),
            // What is under way is a draft of the beginning then.
            Change::Resumed => {
                self.draft = self
                    .draft
                    .take()
                    .filter(|draft| matches!(draft.answer, Answer::Awaited(_)))
                    .map(|draft| Draft { is_whole: false, ..draft })
            }
            Change::Noise => {
                self.turn_taking.hears(false);
                self.clip.clear();
                self.voice = Voice::default();
                self.draft = None;
                metrics::heard("noise");
                self.turn_taking.go_on();
            }
            Change::Ended => {
                self.turn_taking.hears(false);
                self.ended();
            }
        }
    }

    fn ask_for_a_draft(&mut self, is_whole: bool) {
        self.frames_since_draft = 0;
        self.draft = Some(self.ask(is_whole));
    }

    fn ask(&self, is_whole: bool) -> Draft {
        let (recogniser, samples) = (Arc::clone(&self.recogniser), self.clip.iter().copied().collect());
        let answer = Answer::Awaited(Box::pin(async move { recogniser.transcribe(samples).await }));
        Draft { answer, asked: Instant::now(), is_whole, voice: self.voice }
    }

    fn ended(&mut self) {
        let voice = std::mem::take(&mut self.voice);
        let turn = EndedTurn { ended: self.last_voice, over_avatar: self.over_avatar, voice };
        let whole = self.draft.take().filter(|draft| draft.is_whole);
        let Draft { answer, asked, .. } = whole.unwrap_or_else(|| self.ask(true));
        self.clip.clear();
        if self.finals.len() >= WAITING {
            tracing::warn!("the speech recogniser does not keep up: a turn is lost");
            metrics::heard("lost");
            return;
        }
        self.finals.push_back(Box::pin(async move {
            let outcome = match answer {
                Answer::Awaited(answer) => answer.await,
                Answer::Here(outcome) => outcome,
            };
            Asked { outcome, turn, asked }
        }));
    }

    /// A draft has come, and may turn out to have been the whole.
    fn drafted(&mut self, outcome: Result<String, AsrError>) {
        let Some(draft) = self.draft.take() else { return };
        if let Ok(text) = &outcome {
            self.tell(words_said(text, &draft.voice), false);
        }
        if draft.is_whole {
            self.draft = Some(Draft { answer: Answer::Here(outcome), ..draft });
        }
    }

    fn answered(&mut self, asked: Asked) {
        metrics::transcribed(asked.asked.elapsed());
        let content = match asked.outcome {
            Ok(text) => words_said(&text, &asked.turn.voice),
            Err(error) => {
                tracing::warn!(%error, "a turn was not understood");
                metrics::heard("failed");
                self.turn_taking.go_on();
                let (code, message) = (ErrorCode::AsrFailed, error.to_string());
                return self.turn_taking.tell(Notice::Error { code, message, fatal: false });
            }
        };
        // An empty one takes back what drafts have shown.
        self.tell(content.clone(), true);
        // After the avatar has ended, the same words are an answer.
        let goes_on = asked.turn.over_avatar && self.avatar_speaks(self.begins.unwrap_or(asked.turn.ended));
        if content.is_empty() || (goes_on && is_backchannel(&content)) {
            metrics::heard(if content.is_empty() { "nothing" } else { "backchannel" });
            return self.turn_taking.go_on();
        }
        metrics::heard("turn");
        if let Err(error) = self.turn_taking.take_turn(content, asked.turn.ended) {
            self.turn_taking.tell(Notice::Error { code: error.code, message: error.message, fatal: false });
        }
    }

    fn tell(&self, content: String, is_final: bool) {
        self.turn_taking.tell(Notice::Transcript { content, is_final });
    }
}
