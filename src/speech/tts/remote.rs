//! A voice behind an OpenAI-compatible `audio/speech` endpoint, streaming: Kokoro and CosyVoice servers, hosted ones.
//!
//! In here: settings, the request, its audio as it comes, and every way in which that can go wrong. Not in here: what the
//! bytes of an answer are (`answer`), the connection and refusals (`endpoint`), what speaks instead (`fallback`). Runs on: one tokio task per sentence (`service`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::answer::Answer;
use super::service::{Sentence, ask, check_rate, fault, late, speed};
use crate::endpoint::{Endpoint, Key, cause};
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
    /// Which it speaks (BCP 47), if not all.
    pub languages: Vec<String>,
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
        let mut audio = answer(&response, &self.settings)?;
        let mut patience = *first_audio;
        loop {
            let piece = timeout_at(deadline, response.chunk()).await.map_err(|_| late(patience))?;
            let Some(bytes) = piece.map_err(|error| fault(&format!("broke off: {}", cause(&error))))? else {
                return audio.finish(&mut sentence).await;
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

/// What an answer's header says of it. It is believed where the bytes do not tell.
fn answer(response: &Response, settings: &Settings) -> Result<Answer, SpeechError> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packed = header(CONTENT_ENCODING);
    if !matches!(packed, "" | "identity") {
        return Err(fault(&format!("answers packed as {}, which it was not asked for", shown(packed))));
    }
    let mut parts = header(CONTENT_TYPE).split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let said: Vec<(String, &str)> = parts
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
        .collect();
    let named = |names: &[&str]| said.iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, value)| *value);
    if !RAW.contains(&kind.as_str()) {
        return Ok(Answer::new(settings.sample_rate, Some(shown(&kind)), settings.key.clone()));
    }
    for (names, wanted) in [(&["channels"][..], "1"), (&["bits", "bitdepth", "bit-depth"], "16")] {
        if let Some(other) = named(names).filter(|value| *value != wanted) {
            return Err(fault(&format!("answers in PCM with {}={}: {wanted} is wanted", names[0], shown(other))));
        }
    }
    let named = named(&["rate", "sample-rate", "sample_rate", "samplerate"]).and_then(|rate| rate.parse().ok());
    let rate = check_rate(named.unwrap_or(settings.sample_rate))?;
    Ok(Answer::new(rate, None, settings.key.clone()))
}

/// What a service says of raw samples, if it says anything.
const RAW: [&str; 8] = [
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "audio/pcm",
    "audio/x-pcm",
    "audio/l16",
    "audio/raw",
    "audio/x-raw",
];

fn shown(given: &str) -> String {
    given.chars().take(60).collect()
}

fn service(fault: &crate::endpoint::EndpointError) -> SpeechError {
    SpeechError::Service(fault.to_string())
}
