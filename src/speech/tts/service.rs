//! What voices behind a network have in common: one sentence on its way in.
//!
//! In here: the task that asks, how long a sentence may be, the silence before it. Not in here: how a service is asked and
//! what it answers (`remote`, `websocket`). Runs on: one tokio task per sentence, which ends, and closes the connection,
//! when nobody listens any more.

use std::time::Duration;

use tokio::sync::mpsc;

use super::silence::Trimmer;
use crate::speech::pcm::{self, SAMPLE_RATES};
use crate::speech::sentence::speakable;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Voice};

/// Chunks that are read ahead of the listener; a network gives them as they come, some kB each.
const CHUNKS: usize = 96;
/// No sentence is spoken so slowly: a longer stream is a fault.
const LONGEST: Duration = Duration::from_secs(20);
const LONGEST_A_LETTER: Duration = Duration::from_millis(400);

/// Asks for a text in a task of its own. Must be called within a tokio runtime. Text without anything to say gives a
/// stream that ends at once.
pub(super) fn ask<W>(text: &str, ask: impl FnOnce(String, Sentence) -> W) -> Result<PcmStream, SpeechError>
where
    W: Future<Output = Result<(), SpeechError>> + Send + 'static,
{
    let Some(text) = speakable(text) else { return Ok(pcm::silent()) };
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let runtime = tokio::runtime::Handle::try_current();
    let runtime = runtime.map_err(|_| fault("cannot be asked outside of the tokio runtime"))?;
    let longest = LONGEST + LONGEST_A_LETTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    let sentence =
        Sentence { sender: sender.clone(), longest, spoken: Duration::ZERO, beginning: Beginning::default() };
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
pub(super) struct Sentence {
    sender: mpsc::Sender<Result<PcmChunk, SpeechError>>,
    longest: Duration,
    spoken: Duration,
    beginning: Beginning,
}

impl Sentence {
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
