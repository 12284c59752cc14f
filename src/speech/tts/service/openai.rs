//! A voice behind an OpenAI-compatible `audio/speech` endpoint, streaming: Kokoro and CosyVoice servers, hosted ones.
//!
//! In here: the request, its audio as it comes, and every way in which that can go wrong. Not in here: what the bytes of an
//! answer are (`response_audio`), the connection and refusals (`endpoint`), what speaks instead (`fallback`). Runs on: one
//! tokio task per sentence (`service`).

use std::sync::Arc;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::response_audio::ResponseAudio;
use super::{SentenceSink, Settings, ask, check_rate, fault, late, speed};
use crate::endpoint::{Endpoint, cause};
use crate::speech::{PcmStream, SpeechError, Tts, Voice};

/// A client for one endpoint, shared by all sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct OpenAiVoice(Arc<Service>);

#[derive(Debug)]
struct Service {
    endpoint: Endpoint,
    settings: Settings,
}

impl OpenAiVoice {
    pub fn new(settings: Settings) -> Result<Self, SpeechError> {
        let Settings { url, key, connect, .. } = &settings;
        let endpoint =
            Endpoint::new("voice", url, "audio/speech", key.clone(), *connect).map_err(SpeechError::Service)?;
        Ok(Self(Arc::new(Service { endpoint, settings })))
    }
}

impl Tts for OpenAiVoice {
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

    async fn speak_into(&self, body: Vec<u8>, mut sentence: SentenceSink) -> Result<(), SpeechError> {
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
            let chunk = timeout_at(deadline, response.chunk()).await.map_err(|_| late(patience))?;
            let Some(bytes) = chunk.map_err(|error| fault(&format!("broke off: {}", cause(&error))))? else {
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
fn answer(response: &Response, settings: &Settings) -> Result<ResponseAudio, SpeechError> {
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
        return Ok(ResponseAudio::new(settings.sample_rate, Some(shown(&kind)), settings.key.clone()));
    }
    for (names, wanted) in [(&["channels"][..], "1"), (&["bits", "bitdepth", "bit-depth"], "16")] {
        if let Some(other) = named(names).filter(|value| *value != wanted) {
            return Err(fault(&format!("answers in PCM with {}={}: {wanted} is wanted", names[0], shown(other))));
        }
    }
    let named = named(&["rate", "sample-rate", "sample_rate", "samplerate"]).and_then(|rate| rate.parse().ok());
    let rate = check_rate(named.unwrap_or(settings.sample_rate))?;
    Ok(ResponseAudio::new(rate, None, settings.key.clone()))
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
