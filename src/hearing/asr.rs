//! Speech into text, by a recogniser behind an OpenAI-compatible `audio/transcriptions` endpoint: whisper.cpp's server,
//! faster-whisper-server, vLLM, the hosted ones.
//!
//! In here: what is sent and what is understood of the answer. Not in here: connecting and refusals (`endpoint`), when it
//! is asked (`listener`), what of its words was said (`transcript`).
//! Runs on: the task that asks; dropping the future closes the connection.
//! Source: OpenAI's API reference, "Create transcription".

use std::io::Cursor;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::MICROPHONE_RATE;
use crate::endpoint::{Endpoint, EndpointError, Key};
use crate::speech::sound::write_wav;

/// Half a minute of speech is below 1 kB of text; `verbose_json` has more around it.
const MOST_BYTES: usize = 256 * 1024;

/// Where the recogniser is and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// As the endpoint calls it.
    pub model: String,
    /// Sent with each request; local endpoints need none.
    pub key: Option<Key>,
    /// ISO 639-1; without one the recogniser finds out by itself.
    pub language: Option<String>,
    /// For the connection alone.
    pub connect: Duration,
    /// From the request to the end of the answer.
    pub answer: Duration,
}

/// Why speech was not understood. Holds neither the key nor where the recogniser is: it is told to viewers.
#[derive(Debug, thiserror::Error)]
pub enum AsrError {
    /// It cannot be reached, refuses or breaks off.
    #[error("the speech recogniser {0}")]
    Service(#[from] EndpointError),
    /// It took longer than the settings grant.
    #[error("the speech recogniser did not answer within {seconds} s")]
    Late {
        /// What was granted.
        seconds: f32,
    },
    /// What came is not the JSON that was asked for.
    #[error("the speech recogniser's answer cannot be used: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: String,
    },
    /// The sound could not be written as a WAV file.
    #[error("what was heard cannot be sent: {0}")]
    Wav(#[from] hound::Error),
}

/// Whatever makes text of speech.
pub trait Transcribe: Send + Sync {
    /// The text of 16-bit mono samples at 16 kHz, 30 s of them at most; empty if nothing was said.
    fn transcribe(&self, samples: Vec<i16>) -> BoxFuture<'_, Result<String, AsrError>>;
}

/// The client.
pub struct Recogniser {
    endpoint: Endpoint,
    settings: Settings,
}

#[derive(serde::Deserialize)]
struct Answer {
    #[serde(deserialize_with = "or_nothing")]
    text: String,
}

/// Some say `null` where nothing was said.
fn or_nothing<'de, D: serde::Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    <Option<String> as serde::Deserialize>::deserialize(text).map(Option::unwrap_or_default)
}

impl Recogniser {
    /// Fails if the URL makes no endpoint.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let Settings { url, key, connect, .. } = &settings;
        let endpoint = Endpoint::new("speech recogniser", url, "audio/transcriptions", key.clone(), *connect)?;
        Ok(Self { endpoint, settings })
    }

    async fn ask(&self, samples: &[i16]) -> Result<String, AsrError> {
        let Settings { model, language, .. } = &self.settings;
        let mut fields = vec![("model", model.as_str()), ("response_format", "json")];
        fields.extend(language.as_deref().map(|language| ("language", language)));
        let response = self.endpoint.post_file(&fields, ("speech.wav", "audio/wav"), wav(samples)?).await?;
        let body = self.endpoint.read(response, MOST_BYTES).await?;
        // A byte that is no UTF-8 costs a character and not the turn.
        let answer: Answer = serde_json::from_str(&String::from_utf8_lossy(&body))
            .map_err(|error| AsrError::Answer { problem: error.to_string() })?;
        Ok(answer.text)
    }
}

impl Transcribe for Recogniser {
    fn transcribe(&self, samples: Vec<i16>) -> BoxFuture<'_, Result<String, AsrError>> {
        Box::pin(async move {
            let seconds = self.settings.answer.as_secs_f32();
            timeout(self.settings.answer, self.ask(&samples)).await.map_err(|_| AsrError::Late { seconds })?
        })
    }
}

fn wav(samples: &[i16]) -> Result<Vec<u8>, hound::Error> {
    let mut file = Cursor::new(Vec::with_capacity(64 + 2 * samples.len()));
    write_wav(&mut file, MICROPHONE_RATE, samples.iter().copied())?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_a_wav_file() {
        let samples: Vec<i16> = (-50..50).collect();
        let mut reader = hound::WavReader::new(Cursor::new(wav(&samples).unwrap())).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (1, MICROPHONE_RATE, 16));
        assert_eq!(reader.samples::<i16>().map(Result::unwrap).collect::<Vec<_>>(), samples);
    }
}
