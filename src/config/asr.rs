//! The `[asr]` table of the settings file, and what is typed over it.

use std::path::PathBuf;

use super::ConfigError;
use super::endpoint::{self, CONNECT_S, seconds};
use crate::hearing::asr::Settings;

/// Holds the endpoint's key; on a command line other users of the machine would see it.
pub(super) const KEY_VARIABLE: &str = "MOUTHPIECE_ASR_KEY";

/// Whisper on a CPU takes some seconds for a long sentence.
const ANSWER_S: f64 = 20.0;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    url: Option<String>,
    model: Option<String>,
    key_file: Option<PathBuf>,
    language: Option<String>,
    connect_s: Option<f64>,
    answer_s: Option<f64>,
}

impl Table {
    pub(super) fn resolve(
        self,
        url: Option<String>,
        model: Option<String>,
        key: Option<String>,
    ) -> Result<Option<Settings>, ConfigError> {
        let place = endpoint::place(["asr_url", "asr_model"], url.or(self.url), model.or(self.model))?;
        let Some((url, model)) = place else { return Ok(None) };
        let is_code = |language: &String| {
            (2..=3).contains(&language.len()) && language.bytes().all(|letter| letter.is_ascii_lowercase())
        };
        if let Some(language) = self.language.as_ref().filter(|language| !is_code(language)) {
            let problem = format!("is {language:?}, must be a code of ISO 639 such as \"en\"");
            return Err(ConfigError::Endpoint { field: "asr.language", problem });
        }
        Ok(Some(Settings {
            url,
            model,
            key: endpoint::key("asr.key_file", key, self.key_file)?,
            language: self.language,
            connect: seconds("asr.connect_s", self.connect_s, CONNECT_S)?,
            answer: seconds("asr.answer_s", self.answer_s, ANSWER_S)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str) -> Result<Option<Settings>, String> {
        let table: Table = toml::from_str(toml).map_err(|error| error.to_string())?;
        table.resolve(None, None, None).map_err(|error| error.to_string())
    }

    #[test]
    fn without_an_address_there_are_no_ears_and_what_is_wrong_is_named() {
        assert_eq!(resolve(""), Ok(None));
        let place = "url = \"http://127.0.0.1:1/v1\"\nmodel = \"whisper\"\n";
        let settings = resolve(&format!("{place}language = \"de\"")).unwrap().unwrap();
        assert_eq!((settings.model.as_str(), settings.language.as_deref()), ("whisper", Some("de")));
        for (toml, named) in [
            ("url = \"http://127.0.0.1:1/v1\"".to_owned(), "asr_model"),
            (format!("{place}language = \"English\""), "asr.language"),
            (format!("{place}answer_s = 0.0"), "asr.answer_s"),
            (format!("{place}voice = \"x\""), "voice"),
        ] {
            let error = resolve(&toml).unwrap_err();
            assert!(error.contains(named), "{toml}: {error}");
        }
    }
}
