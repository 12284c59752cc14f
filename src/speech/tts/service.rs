//! What voices behind a network have in common: one sentence on its way in.
//!
//! In here: settings, the task that asks, how long a sentence may be, the silence before it. Not in here: how a service is
//! asked (`openai`, `websocket`) and what it answers (`response_audio`). Runs on: one tokio task per sentence, which ends, and closes the connection,
//! when nobody listens any more.

mod openai;
mod response_audio;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::trimmer::Trimmer;
use crate::endpoint::Key;
use crate::speech::clean::speakable;
use crate::speech::pcm::{self, SAMPLE_RATES};
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};
use openai::OpenAiVoice;
use websocket::WebSocketVoice;

/// Chunks that are read ahead of the listener; a network gives them as they come, some kB each.
const CHUNKS: usize = 96;
/// No sentence is spoken so slowly: a longer stream is a fault.
const LONGEST: Duration = Duration::from_secs(20);
const LONGEST_A_LETTER: Duration = Duration::from_millis(400);

/// Which voice speaks, where, and how patient we are with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:8880/v1`, or `ws://127.0.0.1:9000/speak`.
    pub url: String,
    /// Empty if none was named, which a WebSocket voice has no need of.
    pub model: String,
    /// The endpoint's name for the voice.
    pub voice: String,
    /// Sent as a bearer's, if there is one.
    pub key: Option<Key>,
    /// Of raw PCM whose answer does not say its rate: OpenAI's has 24 kHz.
    pub sample_rate: u32,
    /// Time for a connection.
    pub connect: Duration,
    /// From the request to the first sound.
    pub first_audio: Duration,
    /// Between two chunks.
    pub next_audio: Duration,
    /// How long the avatars' own voices speak instead once it has failed.
    pub rest: Duration,
    /// Which it speaks (BCP 47), if not all.
    pub languages: Vec<String>,
}

/// The voice at an address, over the protocol that its scheme says; an error if it is none.
pub(super) fn voice(settings: Settings) -> Result<Arc<dyn Tts>, SpeechError> {
    Ok(match settings.url.starts_with(websocket::SCHEME) {
        true => Arc::new(WebSocketVoice::new(settings)),
        false => Arc::new(OpenAiVoice::new(settings)?),
    })
}

/// Asks for a text in a task of its own. Must be called within a tokio runtime. Text without anything to say gives a
/// stream that ends at once.
pub(super) fn ask<W>(text: &str, ask: impl FnOnce(String, SentenceSink) -> W) -> Result<PcmStream, SpeechError>
where
    W: Future<Output = Result<(), SpeechError>> + Send + 'static,
{
    let Some(text) = speakable(text) else { return Ok(pcm::silent()) };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let runtime = tokio::runtime::Handle::try_current();
    let runtime = runtime.map_err(|_| fault("cannot be asked outside of the tokio runtime"))?;
    let longest = LONGEST + LONGEST_A_LETTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let sentence =
        SentenceSink { sender: sender.clone(), longest, spoken: Duration::ZERO, beginning: Beginning::default() };
    let asking = ask(text, sentence);
    runtime.spawn(async move {
        let outcome = tokio::select! {
            outcome = asking => outcome,
            () = sender.closed() => Ok(()),
        };
        if let Err(error) = outcome {
            // Nobody left to tell is fine.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(pcm::received(chunks))
}

/// What comes of a sentence.
pub(super) struct SentenceSink {
    sender: mpsc::Sender<Result<PcmChunk, SpeechError>>,
    longest: Duration,
    spoken: Duration,
    beginning: Beginning,
}

impl SentenceSink {
    /// How much of it may come.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// How much of it has come.
    pub fn spoken(&self) -> Duration {
        self.spoken
    }

    /// Passes on what has come, waiting for the listener. False if there is none.
    pub async fn say(&mut self, samples: Vec<f32>, sample_rate: u32) -> Result<bool, SpeechError> {
        let count = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        self.spoken += Duration::from_secs_f64(f64::from(count) / f64::from(sample_rate));
        if self.spoken > self.longest {
            return Err(fault(&format!("speaks a sentence for more than {} s", self.longest.as_secs())));
        }
        let samples = self.beginning.trim(samples, sample_rate);
        Ok(samples.is_empty() || self.sender.send(Ok(PcmChunk::new(samples, sample_rate))).await.is_ok())
    }
}

/// Takes the silence off the beginning of a sentence, which is only delay; pauses within and the end stay as they come.
#[derive(Default)]
struct Beginning {
    trimmer: Option<Trimmer>,
    is_over: bool,
}

impl Beginning {
    fn trim(&mut self, samples: Vec<f32>, sample_rate: u32) -> Vec<f32> {
        if self.is_over {
            return samples;
        }
        let mut trimmer = self.trimmer.take().unwrap_or_else(|| Trimmer::new(sample_rate));
        let mut voiced = trimmer.push(&samples);
        if voiced.is_empty() {
            self.trimmer = Some(trimmer);
        } else {
            self.is_over = true;
            voiced.extend(trimmer.release());
        }
        voiced
    }
}

/// Some voices know no other speed than their own, so none is asked for unless the avatar has one of its own.
pub(super) fn speed(voice: &Voice) -> Option<f64> {
    let speed = f64::from(voice.rate) / f64::from(Voice::default_rate());
    (voice.rate != Voice::default_rate()).then(|| (speed.clamp(0.25, 4.0) * 100.0).round() / 100.0)
}

pub(super) fn check_rate(rate: u32) -> Result<u32, SpeechError> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(rate);
    }
    Err(fault(&format!("answers at {rate} Hz: {} to {} Hz is wanted", SAMPLE_RATES.start(), SAMPLE_RATES.end())))
}

pub(super) fn fault(problem: &str) -> SpeechError {
    SpeechError::Service(problem.to_owned())
}

pub(super) fn late(after: Duration) -> SpeechError {
    fault(&format!("gave no sound within {} s", after.as_secs_f32()))
}
