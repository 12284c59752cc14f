//! What a voice service answers with: raw samples if it does as it is asked, and if not, whatever sound it may be.
//!
//! In here: telling that by the bytes, and samples as they come. Raw samples and WAV are passed on at once; everything else
//! is read when it is whole. Nothing that may be something else is played as samples. Not in here: how a service is asked
//! (`openai`, `websocket`), what speaks instead (`fallback`). Runs on: the task of the sentence; decoding is on a blocking
//! thread.

use std::time::Duration;

use super::{SentenceSink, fault};
use crate::endpoint::{Key, words};
use crate::speech::SpeechError;
use crate::speech::pcm::from_i16;
use crate::speech::sound::form::{self, Form};
use crate::speech::sound::wav::WavReader;
use crate::speech::sound::{Reader, SoundError};

/// More is no sentence, in whatever form.
const MAX_ENCODED: usize = 16 << 20;
/// Of a text that came in place of sound, as much is read for its words.
const MAX_TEXT: usize = 4 << 10;

/// The sound of one sentence on its way in.
pub(super) struct ResponseAudio {
    /// Of raw samples.
    rate: u32,
    /// What else the service says that it sends, if it is not raw samples.
    promised: Option<String>,
    key: Option<Key>,
    so_far: SoFar,
}

enum SoFar {
    /// Its first bytes will say which of the others it is.
    Begun(Vec<u8>),
    /// 16-bit mono, the low byte first.
    Raw {
        odd: Option<u8>,
    },
    Wav(Box<WavReader>),
    Encoded(Vec<u8>),
    Text(Vec<u8>),
}

/// Samples and their rate.
type Samples = (Vec<f32>, u32);

impl ResponseAudio {
    /// `rate` is that of raw samples; they are not taken where something else is `promised`.
    pub fn new(rate: u32, promised: Option<String>, key: Option<Key>) -> Self {
        Self { rate, promised, key, so_far: SoFar::Begun(Vec::new()) }
    }

    /// The samples that are whole by now; `None` as long as there are none.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Samples>, SpeechError> {
        let samples = match &mut self.so_far {
            SoFar::Begun(begun) => {
                begun.extend_from_slice(bytes);
                return self.begin(false);
            }
            SoFar::Raw { odd } => (raw(odd, bytes), self.rate),
            SoFar::Wav(reader) => {
                let samples = reader.push(bytes).map_err(|error| unusable(&error))?;
                (samples, reader.sample_rate().unwrap_or_default())
            }
            SoFar::Encoded(whole) => {
                if whole.len() + bytes.len() > MAX_ENCODED {
                    return Err(fault(&format!("sends more than {} MB for a sentence", MAX_ENCODED >> 20)));
                }
                whole.extend_from_slice(bytes);
                return Ok(None);
            }
            SoFar::Text(text) => {
                text.extend_from_slice(bytes);
                return if text.len() < MAX_TEXT { Ok(None) } else { Err(self.said()) };
            }
        };
        Ok(Some(samples).filter(|(samples, _)| !samples.is_empty()))
    }

    /// Decides what it is, if the first bytes tell by now.
    fn begin(&mut self, is_all: bool) -> Result<Option<Samples>, SpeechError> {
        let SoFar::Begun(begun) = &mut self.so_far else { return Ok(None) };
        let Some(form) = form::of(begun, is_all) else { return Ok(None) };
        let begun = std::mem::take(begun);
        self.so_far = match form {
            Form::Wav => SoFar::Wav(Box::default()),
            Form::Encoded(form) => {
                tracing::debug!(form, "the voice answers in another form than it was asked for");
                SoFar::Encoded(Vec::new())
            }
            Form::Text => SoFar::Text(Vec::new()),
            Form::Foreign(form) => return Err(fault(&format!("answers in {form}: 16-bit PCM or WAV is wanted"))),
            Form::Unmarked => match &self.promised {
                None => SoFar::Raw { odd: None },
                Some(_) if begun.is_empty() => SoFar::Raw { odd: None },
                Some(kind) => return Err(fault(&format!("answers in {kind}: 16-bit PCM or WAV is wanted"))),
            },
        };
        self.push(&begun)
    }

    /// Passes on what is left at the end, and tells whether the answer may end here. All of it goes to the `sentence`.
    pub async fn finish(mut self, sentence: &mut SentenceSink) -> Result<(), SpeechError> {
        if let Some((samples, rate)) = self.begin(true)? {
            sentence.say(samples, rate).await?;
        }
        match self.so_far {
            SoFar::Raw { odd: Some(_) } => return Err(fault("broke off in the middle of a sample")),
            SoFar::Raw { odd: None } | SoFar::Begun(_) => {}
            SoFar::Text(_) => return Err(self.said()),
            SoFar::Wav(mut reader) => {
                let rest = reader.finish().map_err(|error| unusable(&error))?;
                if let Some(rate) = reader.sample_rate().filter(|_| !rest.is_empty()) {
                    sentence.say(rest, rate).await?;
                }
            }
            SoFar::Encoded(bytes) => {
                let longest = sentence.longest();
                let decoded = tokio::task::spawn_blocking(move || decoded(bytes, longest));
                let (chunks, rate) = decoded.await.map_err(|_| fault("sends what its decoder panics at"))??;
                for samples in chunks {
                    if !sentence.say(samples, rate).await? {
                        return Ok(());
                    }
                }
            }
        }
        if sentence.spoken().is_zero() { Err(fault("answered without a sound")) } else { Ok(()) }
    }

    /// A text in place of sound, which is mostly about what went wrong.
    fn said(&self) -> SpeechError {
        let SoFar::Text(text) = &self.so_far else { return fault("answered without a sound") };
        let said = words::of_refusal(text, self.key.as_ref());
        let kind = self.promised.as_deref().unwrap_or("text");
        fault(&format!("answers in {kind}: 16-bit PCM or WAV is wanted, and not {said:?}"))
    }
}

/// Takes the half of a sample along that the last chunk ended with.
fn raw(odd: &mut Option<u8>, bytes: &[u8]) -> Vec<f32> {
    let whole: Vec<u8> = odd.take().into_iter().chain(bytes.iter().copied()).collect();
    let (pairs, rest) = whole.as_chunks::<2>();
    *odd = rest.first().copied();
    pairs.iter().map(|pair| from_i16(i16::from_le_bytes(*pair))).collect()
}

/// A whole answer, a little more than the longest sentence of it at most: `SentenceSink` says that it is too long.
fn decoded(bytes: Vec<u8>, longest: Duration) -> Result<(Vec<Vec<f32>>, u32), SpeechError> {
    let mut reader = Reader::of_bytes(bytes).map_err(|error| unusable(&error))?;
    let (rate, mut chunks) = (reader.sample_rate(), Vec::new());
    let mut left = longest.as_secs_f64().mul_add(f64::from(rate), f64::from(rate));
    while left > 0.0
        && let Some(chunk) = reader.next_samples().map_err(|error| unusable(&error))?
    {
        left -= f64::from(u32::try_from(chunk.len()).unwrap_or(u32::MAX));
        chunks.push(chunk);
    }
    Ok((chunks, rate))
}

fn unusable(error: &SoundError) -> SpeechError {
    match error {
        SoundError::Empty => fault("answered without a sound"),
        error => fault(&format!("sends what {error}")),
    }
}

#[cfg(test)]
mod tests;
