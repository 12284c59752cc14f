//! The `[whip]` table of the settings file: sessions that are pushed to a media server.

use std::path::PathBuf;

use super::{ConfigError, endpoint};
use crate::endpoint::whip::WhipEndpoint;
use crate::session::PushOrder;
use crate::signalling::handshake::JoinRequest;

/// Holds the token; on a command line other users of the machine would see it.
pub(super) const TOKEN_VARIABLE: &str = "MOUTHPIECE_WHIP_TOKEN";

const DEFAULT_SESSION: &str = "live";

/// Who may push sessions, and which is pushed by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whip {
    /// Whether whoever may use the API may start and stop pushes.
    pub(crate) allowed: bool,
    /// The name of a session, and where it is pushed for as long as it is open.
    pub(crate) always: Option<(String, PushOrder)>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    allow: Option<bool>,
    url: Option<String>,
    session: Option<String>,
    token_file: Option<PathBuf>,
}

impl Table {
    /// `is_private`: whether only this machine reaches the server.
    pub(super) fn resolve(self, token: Option<String>, is_private: bool) -> Result<Whip, ConfigError> {
        let wrong = |field, problem: String| ConfigError::Endpoint { field, problem };
        let token = endpoint::key("whip.token_file", token, self.token_file)?;
        let session = self.session.unwrap_or_else(|| DEFAULT_SESSION.to_owned());
        JoinRequest::check_name(&session).map_err(|refusal| wrong("whip.session", refusal.message))?;
        let order = |url: String| -> Result<_, ConfigError> {
            WhipEndpoint::new(&url, token.clone()).map_err(|problem| wrong("whip.url", problem.to_owned()))?;
            Ok((session, PushOrder { url, token }))
        };
        Ok(Whip { allowed: self.allow.unwrap_or(is_private), always: self.url.map(order).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushing_is_for_this_machine_alone_unless_it_is_allowed_and_what_is_wrong_is_named() {
        let read = |text: &str, is_private| toml::from_str::<Table>(text).unwrap().resolve(None, is_private);
        assert!(read("", true).unwrap().allowed && !read("", false).unwrap().allowed);
        assert!(read("allow = true", false).unwrap().allowed);
        let (session, _) = read("url = \"https://h/whip?key=secret\"", true).unwrap().always.unwrap();
        assert_eq!(session, "live");
        for (text, named) in [
            ("url = \"rtmp://secret/x\"", "whip.url"),
            ("url = \"https://u:secret@h/\"", "whip.url"),
            ("session = \"a b\"", "whip.session"),
            ("token_file = \"/nowhere\"", "whip.token_file"),
        ] {
            let error = read(text, true).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
