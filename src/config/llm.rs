//! The `[llm]` table of the settings file, and what is typed over it.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use crate::dialogue::llm::{Key, Settings, check_url};

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
}

impl Table {
    pub(super) fn resolve(
        self,
        url: Option<String>,
        model: Option<String>,
        key: Option<String>,
    ) -> Result<Option<Settings>, ConfigError> {
        let wrong = |field, problem: String| Err(ConfigError::Llm { field, problem });
        let (url, model) = match (url.or(self.url), model.or(self.model)) {
            (None, None) => return Ok(None),
            (Some(url), Some(model)) if !model.trim().is_empty() => (url, model),
            (Some(_), _) => {
                return wrong("llm_model", "is missing: name the model at llm_url (--llm-model NAME)".into());
            }
            (None, _) => return wrong("llm_url", "is missing: say where the model is (--llm-url URL)".into()),
        };
        // Not shown: somebody may have put a key into it.
        if let Err(problem) = check_url(&url) {
            return wrong("llm_url", format!("{problem}: use http://host:port/v1"));
        }
        let key = match (key, self.key_file) {
            (Some(key), _) => Some(key),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(key) => Some(key),
                Err(error) => return wrong("llm.key_file", format!("{} cannot be read: {error}", path.display())),
            },
            (None, None) => None,
        };
        let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
        if key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return wrong("the key of the language model", "has more than one line, or characters no key has".into());
        }
        let history_tokens = self.history_tokens.unwrap_or(HISTORY_TOKENS);
        if !(1..=MAX_HISTORY_TOKENS).contains(&history_tokens) {
            return wrong("llm.history_tokens", format!("is {history_tokens}, must be 1 to {MAX_HISTORY_TOKENS}"));
        }
        let seconds = |field, given: Option<f64>, default| match given.unwrap_or(default) {
            given if (0.01..=3600.0).contains(&given) => Ok(Duration::from_secs_f64(given)),
            given => Err(ConfigError::Llm { field, problem: format!("is {given}, must be 0.01 to 3600 seconds") }),
        };
        Ok(Some(Settings {
            url,
            model,
            key: key.as_deref().map(Key::new),
            history_tokens,
            connect: seconds("llm.connect_s", self.connect_s, CONNECT_S)?,
            first_token: seconds("llm.first_token_s", self.first_token_s, FIRST_TOKEN_S)?,
            next_token: seconds("llm.next_token_s", self.next_token_s, NEXT_TOKEN_S)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(toml: &str, key: Option<&str>) -> Result<Option<Settings>, String> {
        let table: Table = toml::from_str(toml).map_err(|error| error.to_string())?;
        table.resolve(None, None, key.map(str::to_owned)).map_err(|error| error.to_string())
    }

    const PLACE: &str = "url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";

    #[test]
    fn what_is_typed_wins_and_nothing_is_no_model() {
        assert_eq!(resolve("", None), Ok(None));
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
