//! A voice behind an OpenAI-compatible `audio/speech` endpoint, streaming: Kokoro and CosyVoice servers, hosted ones.
//!
//! In here: settings, the request, its audio as it comes, and every way in which that can go wrong. Not in here: the
//! connection and refusals (`endpoint`), what speaks instead (`fallback`). Runs on: one tokio task per sentence (`service`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::service::{Sentence, ask, check_rate, fault, late, speed};
use super::wav::WavReader;
use crate::endpoint::{Endpoint, Key, cause};
use crate::speech::resample::from_i16;
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// Which voice speaks, where, and how patient we are with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Such as `http://127.0.0.1:8880/v1`, or `ws://127.0.0.1:9000/speak`.
    pub url: String,
    /// Empty if none was named, which a WebSocket voice has no need of.
    pub model: String,
    /// The endpoint's name for the voice.
    pub voice: String,
    pub key: Option<Key>,
    /// Of raw PCM whose answer does not say its rate: OpenAI's has 24 kHz.
    pub sample_rate: u32,
    pub connect: Duration,
    /// From the request to the first sound.
    pub first_audio: Duration,
    /// Between two pieces.
    pub next_audio: Duration,
    /// How long the avatars' own voices speak instead once it has failed.
    pub rest: Duration,
}

/// A client for one endpoint, shared by all sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Service>);

#[derive(Debug)]
struct Service {
    endpoint: Endpoint,
    settings: Settings,
}

impl Remote {
    pub fn new(settings: Settings) -> Result<Self, SpeechError> {
        let Settings { url, key, connect, .. } = &settings;
        let endpoint =
            Endpoint::new("voice", url, "audio/speech", key.clone(), *connect).map_err(SpeechError::Service)?;
        Ok(Self(Arc::new(Service { endpoint, settings })))
    }
}

impl Tts for Remote {
    /// Must be called within a tokio runtime. Text without anything to say gives a stream that ends at once.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let (service, speed) = (Arc::clone(&self.0), speed(voice));
        ask(text, |text, sentence| async move { service.speak_into(service.body(&text, speed), sentence).await })
    }
}

impl Service {
    fn body(&self, text: &str, speed: Option<f64>) -> Vec<u8> {
        let Settings { model, voice: name, .. } = &self.settings;
        let mut body = json!({"model": model, "input": text, "voice": name, "response_format": "pcm"});
        if let Some(speed) = speed {
            body["speed"] = json!(speed);
        }
        body.to_string().into_bytes()
    }

    async fn speak_into(&self, body: Vec<u8>, mut sentence: Sentence) -> Result<(), SpeechError> {
        let Settings { first_audio, next_audio, .. } = &self.settings;
        let mut deadline = Instant::now() + *first_audio;
        let response = timeout_at(deadline, self.endpoint.post("audio/*", body)).await;
        let mut response = response.map_err(|_| late(*first_audio))?.map_err(|fault| service(&fault))?;
        if !response.status().is_success() {
            return Err(service(&self.endpoint.refused(response).await));
        }
        let mut audio = Audio::of(&response, self.settings.sample_rate)?;
        let mut patience = *first_audio;
        loop {
            let piece = timeout_at(deadline, response.chunk()).await.map_err(|_| late(patience))?;
            let Some(bytes) = piece.map_err(|error| fault(&format!("broke off: {}", cause(&error))))? else {
                return audio.finish(sentence.spoken());
            };
            let Some((samples, sample_rate)) = audio.push(&bytes)? else { continue };
            if !sentence.say(samples, sample_rate).await? {
                return Ok(());
            }
            patience = *next_audio;
            // Counted from here: the reader takes its time.
            deadline = Instant::now() + *next_audio;
        }
    }
}

/// What an answer's bytes are.
enum Audio {
    /// Its first bytes say which of the two; OpenAI's `pcm` has no header, some servers send WAV all the same.
    Unknown {
        rate: u32,
        begun: Vec<u8>,
    },
    Raw {
        rate: u32,
        odd: Option<u8>,
    },
    Wav(WavReader),
}

impl Audio {
    fn of(response: &Response, default_rate: u32) -> Result<Self, SpeechError> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut parts = kind.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let raw = ["", "application/octet-stream", "audio/pcm", "audio/l16", "audio/raw", "audio/x-raw", "audio/basic"];
        let wav = ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"];
        if !raw.contains(&essence.as_str()) && !wav.contains(&essence.as_str()) {
            let shown: String = essence.chars().take(60).collect();
            return Err(fault(&format!("answers in {shown}: 16-bit PCM or WAV is wanted")));
        }
        let named = parts.find_map(|part| part.strip_prefix("rate=")?.trim_matches('"').parse().ok());
        let rate = check_rate(named.unwrap_or(default_rate))?;
        Ok(Self::Unknown { rate, begun: Vec::new() })
    }

    /// The samples that are whole by now and their rate; `None` as long as there are none.
    fn push(&mut self, bytes: &[u8]) -> Result<Option<(Vec<f32>, u32)>, SpeechError> {
        if let Self::Unknown { rate, begun } = self {
            begun.extend_from_slice(bytes);
            if begun.len() < 4 {
                return Ok(None);
            }
            let begun = std::mem::take(begun);
            *self = if begun.starts_with(b"RIFF") {
                Self::Wav(WavReader::default())
            } else {
                Self::Raw { rate: *rate, odd: None }
            };
            return self.push(&begun);
        }
        let (samples, rate) = match self {
            Self::Unknown { .. } => return Ok(None),
            Self::Raw { rate, odd } => {
                let whole: Vec<u8> = odd.take().into_iter().chain(bytes.iter().copied()).collect();
                let pairs = whole.chunks_exact(2);
                *odd = pairs.remainder().first().copied();
                (pairs.map(|pair| from_i16(i16::from_le_bytes([pair[0], pair[1]]))).collect(), *rate)
            }
            Self::Wav(reader) => {
                let samples = reader.push(bytes).map_err(|error| fault(&format!("sent no usable WAV: {error}")))?;
                (samples, reader.sample_rate().unwrap_or_default())
            }
        };
        let samples: Vec<f32> = samples;
        Ok((!samples.is_empty()).then_some((samples, rate)))
    }

    /// Whether the stream may end here, so much having been spoken.
    fn finish(&self, spoken: Duration) -> Result<(), SpeechError> {
        match self {
            Self::Raw { odd: Some(_), .. } => Err(fault("broke off in the middle of a sample")),
            _ if spoken.is_zero() => Err(fault("answered without a sound")),
            _ => Ok(()),
        }
    }
}

fn service(fault: &crate::endpoint::Fault) -> SpeechError {
    SpeechError::Service(fault.to_string())
}
