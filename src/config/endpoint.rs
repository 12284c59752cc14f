//! What the tables of endpoints have in common: keys, addresses, times.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use crate::endpoint::{Key, check_url};

/// Time for a connection to a voice or a recogniser, which are near and answer at once.
pub(super) const CONNECT_S: f64 = 2.0;

fn wrong(field: &'static str, problem: String) -> ConfigError {
    ConfigError::Endpoint { field, problem }
}

/// Where and what, both or neither; `fields` are the names of the two.
pub(super) fn place(
    fields: [&'static str; 2],
    url: Option<String>,
    name: Option<String>,
) -> Result<Option<(String, String)>, ConfigError> {
    let [url_field, name_field] = fields;
    let option = |field: &str| format!("--{}", field.replace('_', "-"));
    let (url, name) = match (url, name) {
        (None, None) => return Ok(None),
        (Some(url), Some(name)) if !name.trim().is_empty() => (url, name),
        (Some(_), _) => {
            let problem = format!("is missing: name the model at {url_field} ({} NAME)", option(name_field));
            return Err(wrong(name_field, problem));
        }
        (None, _) => {
            return Err(wrong(url_field, format!("is missing: say where the model is ({} URL)", option(url_field))));
        }
    };
    // Not shown: somebody may have put a key into it.
    check_url(&url).map_err(|problem| wrong(url_field, format!("{problem}: use http://host:port/v1")))?;
    Ok(Some((url, name)))
}

/// The key from the environment, else from a file; `field` is the file's name in the settings.
pub(super) fn key(
    field: &'static str,
    given: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<Key>, ConfigError> {
    let key = match (given, file) {
        (Some(key), _) => Some(key),
        (None, Some(path)) => match std::fs::read_to_string(&path) {
            Ok(key) => Some(key),
            Err(error) => return Err(wrong(field, format!("{} cannot be read: {error}", path.display()))),
        },
        (None, None) => None,
    };
    let key = key.map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    if key.as_ref().is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(wrong(field, "or its variable holds more than one line, or characters no key has".into()));
    }
    Ok(key.as_deref().map(Key::new))
}

pub(super) fn seconds(field: &'static str, given: Option<f64>, default: f64) -> Result<Duration, ConfigError> {
    match given.unwrap_or(default) {
        given if (0.01..=3600.0).contains(&given) => Ok(Duration::from_secs_f64(given)),
        given => Err(wrong(field, format!("is {given}, must be 0.01 to 3600 seconds"))),
    }
}
