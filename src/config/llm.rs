//! The `[llm]` table of the settings file, and what is typed over it.

use std::path::PathBuf;

use super::ConfigError;
use super::endpoint::{self, seconds};
use crate::dialogue::llm::Settings;

/// Holds the endpoint's key; on a command line other users of the machine would see it.
pub(super) const KEY_VARIABLE: &str = "MOUTHPIECE_LLM_KEY";

/// Fits beside a system prompt and an answer into the 4,096 tokens that Ollama gives a model by default.
const HISTORY_TOKENS: usize = 3_000;
const MAX_HISTORY_TOKENS: usize = 1_000_000;
const CONNECT_S: f64 = 5.0;
/// Ollama loads a model of some gigabytes from disk in this time.
const FIRST_TOKEN_S: f64 = 60.0;
const NEXT_TOKEN_S: f64 = 15.0;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    url: Option<String>,
    model: Option<String>,
    key_file: Option<PathBuf>,
    history_tokens: Option<usize>,
    connect_s: Option<f64>,
    first_token_s: Option<f64>,
    next_token_s: Option<f64>,
    begins_thinking: bool,
}

impl Table {
    pub(super) fn resolve(
        self,
        url: Option<String>,
        model: Option<String>,
        key: Option<String>,
    ) -> Result<Option<Settings>, ConfigError> {
        let place = endpoint::place(["llm_url", "llm_model"], url.or(self.url), model.or(self.model))?;
        let Some((url, model)) = place else { return Ok(None) };
        let key = endpoint::key("llm.key_file", key, self.key_file)?;
        let history_tokens = self.history_tokens.unwrap_or(HISTORY_TOKENS);
        if !(1..=MAX_HISTORY_TOKENS).contains(&history_tokens) {
            let problem = format!("is {history_tokens}, must be 1 to {MAX_HISTORY_TOKENS}");
            return Err(ConfigError::Endpoint { field: "llm.history_tokens", problem });
        }
        Ok(Some(Settings {
            url,
            model,
            key,
            history_tokens,
            connect: seconds("llm.connect_s", self.connect_s, CONNECT_S)?,
            first_token: seconds("llm.first_token_s", self.first_token_s, FIRST_TOKEN_S)?,
            next_token: seconds("llm.next_token_s", self.next_token_s, NEXT_TOKEN_S)?,
            begins_thinking: self.begins_thinking,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Key;

    fn resolve(toml: &str, key: Option<&str>) -> Result<Option<Settings>, String> {
        let table: Table = toml::from_str(toml).map_err(|error| error.to_string())?;
        table.resolve(None, None, key.map(str::to_owned)).map_err(|error| error.to_string())
    }

    const PLACE: &str = "url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";

    #[test]
    fn what_is_typed_wins_and_nothing_is_no_model() {
        assert_eq!(resolve("", None), Ok(None));
        let begins_thinking = |toml: String| resolve(&toml, None).unwrap().unwrap().begins_thinking;
        assert!(!begins_thinking(PLACE.to_owned()) && begins_thinking(format!("{PLACE}begins_thinking = true")));
        let table: Table = toml::from_str(PLACE).unwrap();
        let settings = table.resolve(None, Some("other".into()), None).unwrap().unwrap();
        assert_eq!((settings.url.as_str(), settings.model.as_str()), ("http://127.0.0.1:1/v1", "other"));
    }

    #[test]
    fn a_key_comes_from_the_environment_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "sk-file\n").unwrap();
        let with_file = format!("{PLACE}key_file = {:?}", file.path());
        let key = |settings: Result<Option<Settings>, String>| settings.unwrap().unwrap().key;
        assert_eq!(key(resolve(&with_file, None)), Some(Key::new("sk-file")));
        assert_eq!(key(resolve(&with_file, Some("sk-environment"))), Some(Key::new("sk-environment")));
        assert_eq!(key(resolve(PLACE, Some(" \n"))), None);
    }

    #[test]
    fn a_bad_setting_is_named_and_no_key_shown() {
        for (toml, key, named) in [
            ("model = \"m\"", None, "llm_url"),
            ("url = \"http://u:sk-secret@h/v1\"\nmodel = \"m\"", None, "llm_url"),
            (&format!("{PLACE}key_file = \"/nowhere/key\""), None, "/nowhere/key"),
            (&format!("{PLACE}history_tokens = 0"), None, "history_tokens"),
            (&format!("{PLACE}first_token_s = -1.0"), None, "first_token_s"),
            (PLACE, Some("sk-secret\nsk-secret"), "key"),
        ] {
            let error = resolve(toml, key).unwrap_err();
            assert!(error.contains(named) && !error.contains("secret"), "{toml}: {error}");
        }
    }
}
