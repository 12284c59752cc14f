//! The `[whep]` table of the settings file.

use std::path::PathBuf;

use super::ConfigError;
use super::endpoint;
use crate::signalling::whep::WhepOptions;

/// Holds the token; on a command line other users of the machine would see it.
pub(super) const TOKEN_VARIABLE: &str = "MOUTHPIECE_WHEP_TOKEN";

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    enabled: Option<bool>,
    token_file: Option<PathBuf>,
}

impl Table {
    pub(super) fn resolve(self, token: Option<String>) -> Result<WhepOptions, ConfigError> {
        Ok(WhepOptions {
            enabled: self.enabled.unwrap_or(true),
            token: endpoint::key("whep.token_file", token, self.token_file)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_the_environment_wins_over_that_of_a_file_and_an_empty_one_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of-the-file\n").unwrap();
        let table = || Table { enabled: None, token_file: Some(file.path().to_owned()) };
        let of_the_file = table().resolve(None).unwrap();
        assert!(of_the_file.enabled && of_the_file.token.unwrap().is("of-the-file"));
        assert!(table().resolve(Some("other".into())).unwrap().token.unwrap().is("other"));
        assert_eq!(Table::default().resolve(Some(" \n".into())).unwrap(), WhepOptions::default());
        let missing = Table { enabled: Some(false), token_file: Some("/nowhere".into()) };
        assert!(missing.resolve(None).unwrap_err().to_string().contains("whep.token_file"));
    }
}
