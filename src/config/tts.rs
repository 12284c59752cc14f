//! The `[tts]` table of the settings file, and what is typed over it.

use std::path::PathBuf;

use super::ConfigError;
use super::endpoint::{self, CONNECT_S, seconds};
use crate::endpoint::check_socket_url;
use crate::speech::pcm::SAMPLE_RATES;
use crate::speech::tts::service::Settings;

/// Holds the endpoint's key; on a command line other users of the machine would see it.
pub(super) const KEY_VARIABLE: &str = "MOUTHPIECE_TTS_KEY";

/// OpenAI's.
const VOICE: &str = "alloy";
const SAMPLE_RATE: u32 = 24_000;
/// The avatar's own voice speaks instead after that, so it is no more than a listener stands.
const FIRST_AUDIO_S: f64 = 3.0;
const NEXT_AUDIO_S: f64 = 3.0;
const REST_S: f64 = 30.0;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    url: Option<String>,
    model: Option<String>,
    voice: Option<String>,
    key_file: Option<PathBuf>,
    sample_rate: Option<u32>,
    connect_s: Option<f64>,
    first_audio_s: Option<f64>,
    next_audio_s: Option<f64>,
    rest_s: Option<f64>,
    languages: Vec<String>,
}

/// What was typed.
pub(super) struct Typed {
    pub(crate) url: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) voice: Option<String>,
    pub(crate) key: Option<String>,
}

impl Table {
    pub(super) fn resolve(self, typed: Typed) -> Result<Option<Settings>, ConfigError> {
        let (url, model) = (typed.url.or(self.url), typed.model.or(self.model));
        let place = match url {
            Some(url) if url.starts_with("ws") => Some((socket(url)?, model.unwrap_or_default())),
            url => endpoint::place(["tts_url", "tts_model"], url, model)?,
        };
        let Some((url, model)) = place else { return Ok(None) };
        let sample_rate = self.sample_rate.unwrap_or(SAMPLE_RATE);
        if !SAMPLE_RATES.contains(&sample_rate) {
            let problem = format!("is {sample_rate}, must be {} to {}", SAMPLE_RATES.start(), SAMPLE_RATES.end());
            return Err(ConfigError::Endpoint { field: "tts.sample_rate", problem });
        }
        Ok(Some(Settings {
            url,
            model,
            voice: typed.voice.or(self.voice).unwrap_or_else(|| VOICE.to_owned()),
            key: endpoint::key("tts.key_file", typed.key, self.key_file)?,
            sample_rate,
            connect: seconds("tts.connect_s", self.connect_s, CONNECT_S)?,
            first_audio: seconds("tts.first_audio_s", self.first_audio_s, FIRST_AUDIO_S)?,
            next_audio: seconds("tts.next_audio_s", self.next_audio_s, NEXT_AUDIO_S)?,
            rest: seconds("tts.rest_s", self.rest_s, REST_S)?,
            languages: languages(self.languages)?,
        }))
    }
}

/// Tags such as `en` and `zh-CN`.
fn languages(tags: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let is_tag = |tag: &str| {
        let primary = tag.split('-').next().unwrap_or_default();
        (2..=8).contains(&primary.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match tags.iter().find(|tag| !is_tag(tag)) {
        None => Ok(tags),
        Some(tag) => {
            let problem = format!(
                "holds {:?}, must hold language tags such as \"en\" and \"zh\"",
                tag.chars().take(40).collect::<String>()
            );
            Err(ConfigError::Endpoint { field: "tts.languages", problem })
        }
    }
}

/// The address of a WebSocket voice, which needs no model.
fn socket(url: String) -> Result<String, ConfigError> {
    // Not shown: somebody may have put a key into it.
    check_socket_url(&url).map_err(|problem| ConfigError::Endpoint {
        field: "tts_url",
        problem: format!("{problem}: use ws://host:port/path, or http://host:port/v1"),
    })?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str) -> Result<Option<Settings>, String> {
        let table: Table = toml::from_str(toml).map_err(|error| error.to_string())?;
        let typed = Typed { url: None, model: None, voice: Some("nova".into()), key: Some("sk-typed".into()) };
        table.resolve(typed).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_typed_wins_and_nothing_is_no_service() {
        assert_eq!(resolve(""), Ok(None));
        let settings = resolve("url = \"http://h/v1\"\nmodel = \"kokoro\"\nvoice = \"af_heart\"").unwrap().unwrap();
        assert_eq!((settings.voice.as_str(), settings.sample_rate), ("nova", 24_000));
        assert!(settings.key.is_some());
        let settings = resolve("url = \"ws://127.0.0.1:9000/speak\"").unwrap().unwrap();
        assert_eq!((settings.url.as_str(), settings.model.as_str()), ("ws://127.0.0.1:9000/speak", ""));
    }

    #[test]
    fn a_bad_setting_is_named() {
        for (toml, named) in [
            ("url = \"http://h/v1\"", "tts_model"),
            ("model = \"m\"", "tts_url"),
            ("url = \"h\"\nmodel = \"m\"", "tts_url"),
            ("url = \"wss://h/speak\"", "use ws://"),
            ("url = \"http://h\"\nmodel = \"m\"\nsample_rate = 96000", "tts.sample_rate"),
            ("url = \"http://h\"\nmodel = \"m\"\nfirst_audio_s = 0.0", "first_audio_s"),
            ("url = \"http://h\"\nmodel = \"m\"\nlanguages = [\"English language\"]", "tts.languages"),
            ("pitch = 3", "pitch"),
        ] {
            let error = resolve(toml).unwrap_err();
            assert!(error.contains(named), "{toml}: {error}");
        }
    }
}
