//! The `[access]` table of the settings file, and whether a server may do without one.

use std::path::PathBuf;

use url::Url;

use super::ConfigError;
use super::endpoint;
use crate::access::{KeySource, LEAST_SECRET_BYTES, Settings};
use crate::endpoint::Key;

/// Holds the secret; on a command line other users of the machine would see it.
pub(super) const SECRET_VARIABLE: &str = "MOUTHPIECE_ACCESS_SECRET";

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    secret_file: Option<PathBuf>,
    jwks: Option<String>,
    audience: Option<String>,
}

impl Table {
    /// `None` where nothing is set that a token could be checked with.
    pub(super) fn resolve(self, secret: Option<String>) -> Result<Option<Settings>, ConfigError> {
        let audience = self.audience.filter(|audience| !audience.trim().is_empty());
        let secret = secret_of(secret, self.secret_file)?;
        let keys = self.jwks.as_deref().map(source).transpose()?;
        if secret.is_none() && keys.is_none() {
            if audience.is_some() {
                let problem = "is set, but neither secret_file nor jwks is, which tokens are checked with".to_owned();
                return Err(ConfigError::Endpoint { field: "access.audience", problem });
            }
            return Ok(None);
        }
        Ok(Some(Settings { secret, keys, audience }))
    }

    /// What tokens are signed with here, and for whom.
    pub(super) fn signing(
        self,
        secret: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<(Key, Option<String>), ConfigError> {
        // A file that is named wins over what happens to be in the environment.
        let secret = secret.filter(|_| file.is_none());
        let missing = || {
            let problem = format!("is missing: name a file with --secret-file or --config, or set {SECRET_VARIABLE}");
            ConfigError::Endpoint { field: "access.secret_file", problem }
        };
        Ok((secret_of(secret, file.or(self.secret_file))?.ok_or_else(missing)?, self.audience))
    }
}

fn secret_of(given: Option<String>, file: Option<PathBuf>) -> Result<Option<Key>, ConfigError> {
    let field = "access.secret_file";
    let secret = endpoint::key(field, given, file)?;
    match secret.as_ref().map(|secret| secret.as_bytes().len()) {
        Some(bytes) if bytes < LEAST_SECRET_BYTES => {
            let problem = format!(
                "or {SECRET_VARIABLE} holds {bytes} bytes, which can be guessed: take {LEAST_SECRET_BYTES} at least, for \
                 instance of `openssl rand -base64 48`"
            );
            Err(ConfigError::Endpoint { field, problem })
        }
        _ => Ok(secret),
    }
}

/// A file, or an address that nobody on the way can answer for.
fn source(given: &str) -> Result<KeySource, ConfigError> {
    let wrong = |problem: &str| ConfigError::Endpoint { field: "access.jwks", problem: problem.to_owned() };
    if !given.contains("://") {
        return Ok(KeySource::File(given.into()));
    }
    let url = Url::parse(given)
        .ok()
        .filter(Url::has_host)
        .ok_or_else(|| wrong("is no address: use https://host/path or the path of a file"))?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(KeySource::Url(url)),
        "http" if is_here => Ok(KeySource::Url(url)),
        _ => Err(wrong("is neither https nor on this machine: whoever is on the way could sign tokens")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_secret_that_could_be_guessed_is_refused_and_never_shown() {
        let error = Table::default().resolve(Some("short-secret".into())).unwrap_err().to_string();
        assert!(error.contains("12 bytes") && error.contains("32") && !error.contains("short-secret"), "{error}");
        let settings = Table::default().resolve(Some(format!("{SECRET}\n"))).unwrap().unwrap();
        assert!(settings.secret.as_ref().unwrap().is(SECRET));
        assert!(!format!("{settings:?}").contains(SECRET));
        assert_eq!(Table::default().resolve(None).unwrap(), None);
        assert_eq!(Table::default().resolve(Some(" ".into())).unwrap(), None);
    }

    #[test]
    fn keys_come_from_a_file_or_an_address_that_nobody_else_can_answer_for() {
        let source = |jwks: &str| {
            let table = Table { jwks: Some(jwks.to_owned()), ..Table::default() };
            table.resolve(None).map(|settings| settings.unwrap().keys.unwrap())
        };
        assert_eq!(source("/etc/keys.json").unwrap(), KeySource::File("/etc/keys.json".into()));
        for taken in ["https://issuer.example/keys", "http://127.0.0.1:8/keys", "http://[::1]/keys"] {
            assert!(matches!(source(taken).unwrap(), KeySource::Url(_)), "{taken}");
        }
        for wrong in ["http://issuer.example/keys", "ftp://127.0.0.1/keys", "https://", "://x"] {
            assert!(source(wrong).unwrap_err().to_string().contains("access.jwks"), "{wrong}");
        }
        let alone = Table { audience: Some("us".into()), ..Table::default() };
        assert!(alone.resolve(None).unwrap_err().to_string().contains("access.audience"));
    }
}
