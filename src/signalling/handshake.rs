//! What a request for `/ws` must look like before it becomes a WebSocket.
//!
//! In here: the opening handshake of RFC 6455, which pages may connect, what the query asks for.
//! Not in here: serving HTTP (`listener`).
//! Runs on: the task of the HTTP connection; nothing here waits.

use axum::http::header::{CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::protocol::clipped;
use crate::ids::{AvatarId, is_name};
use crate::session::{ErrorCode, Refusal};

/// What `/ws?session=NAME&avatar=ID` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Another than the server's own.
    pub avatar: Option<AvatarId>,
    /// A shared session, opened by whoever comes first; 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: Option<String>,
}

impl JoinRequest {
    /// Of the two names as they were given.
    pub(super) fn new(avatar: Option<&str>, name: Option<&str>) -> Result<Self, Refusal> {
        let mut request = Self::default();
        if let Some(name) = name {
            request.name = Some(session_name(name)?);
        }
        if let Some(avatar) = avatar {
            request.avatar = Some(avatar_id(avatar)?);
        }
        Ok(request)
    }

    /// Whether a session may have this name.
    pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
        session_name(name).map(drop)
    }

    /// Reads the query of the URL. Neither name needs escaping, so anything escaped is a wrong name.
    pub(super) fn from_query(query: &str) -> Result<Self, Refusal> {
        let mut request = Self::default();
        for (field, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match field {
                "session" => request.name = Some(session_name(value)?),
                "avatar" => request.avatar = Some(avatar_id(value)?),
                _ => {}
            }
        }
        Ok(request)
    }
}

fn session_name(name: &str) -> Result<String, Refusal> {
    if is_name(name) {
        return Ok(name.to_owned());
    }
    let message =
        format!("session name {:?} is not valid: use 1 to 64 of A-Z, a-z, 0-9, '_' and '-'", clipped(name, 80));
    Err(Refusal { code: ErrorCode::BadSessionName, message })
}

pub(super) fn avatar_id(id: &str) -> Result<AvatarId, Refusal> {
    id.parse().map_err(|error: crate::ids::InvalidAvatarId| Refusal {
        code: ErrorCode::UnknownAvatar,
        message: error.to_string(),
    })
}

/// Why a request does not become a WebSocket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("this is a WebSocket: open it with ws://, for instance `new WebSocket(\"ws://HOST/ws\")` in a page")]
    NotAnUpgrade,
    #[error("Sec-WebSocket-Version is not 13, the only one there is (RFC 6455)")]
    UnknownVersion,
    #[error("Sec-WebSocket-Key is missing or not 16 bytes in base64 (RFC 6455)")]
    BadKey,
    #[error(
        "pages of this origin may not connect: open the server's own page, or allow the origin in the configuration \
         (allowed_origins)"
    )]
    ForeignOrigin,
}

impl HandshakeError {
    /// The status that the request is answered with.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::UnknownVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadKey => StatusCode::BAD_REQUEST,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
        }
    }
}

/// Checks the headers of a request for `/ws` and returns what `Sec-WebSocket-Accept` has to be.
pub(super) fn accept(headers: &HeaderMap, allowed_origins: &[String]) -> Result<String, HandshakeError> {
    if !has_token(headers, &UPGRADE, "websocket") || !has_token(headers, &CONNECTION, "upgrade") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(HandshakeError::UnknownVersion);
    }
    // 16 bytes in base64 are 22 characters and two of padding.
    let key = headers.get(SEC_WEBSOCKET_KEY).map(|key| key.as_bytes()).unwrap_or_default();
    if key.len() != 24 || !key.ends_with(b"==") {
        return Err(HandshakeError::BadKey);
    }
    if !is_origin_allowed(headers, allowed_origins) {
        return Err(HandshakeError::ForeignOrigin);
    }
    Ok(derive_accept_key(key))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

/// Where a request comes from, as browsers say it: `same-origin`, `same-site`, `cross-site`, or `none` for the address bar.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Browsers let any page open a WebSocket to any server and say which page it is; without this check every page that a
/// viewer has open could speak through, and listen to, a server on that viewer's machine. They do not say which page it is
/// that asks as a picture or a script would, only that it is another.
pub(super) fn is_origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        // Without both it is no browser.
        return headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if allowed.iter().any(|entry| entry == "*" || entry.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    matches!((host, own), (Some(host), Some(own)) if host.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(changes: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let usual = [
            ("host", "127.0.0.1:8080"),
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.iter().chain(changes) {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_handshake_of_the_rfc_is_accepted_with_its_key() {
        assert_eq!(accept(&headers(&[]), &[]).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_refused_with_the_reason() {
        let refused = |changes: &[(&'static str, &str)]| accept(&headers(changes), &[]).unwrap_err();
        assert_eq!(refused(&[("upgrade", "h2c")]), HandshakeError::NotAnUpgrade);
        assert_eq!(refused(&[("connection", "close")]), HandshakeError::NotAnUpgrade);
        assert_eq!(refused(&[("sec-websocket-version", "8")]), HandshakeError::UnknownVersion);
        assert_eq!(refused(&[("sec-websocket-key", "short==")]), HandshakeError::BadKey);
        assert_eq!(accept(&HeaderMap::new(), &[]).unwrap_err(), HandshakeError::NotAnUpgrade);
    }

    #[test]
    fn only_the_own_page_and_allowed_pages_may_connect() {
        let from = |origin: &str, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            accept(&headers(&[("origin", origin)]), &allowed).is_ok()
        };
        assert!(from("http://127.0.0.1:8080", &[]));
        assert!(from("https://127.0.0.1:8080", &[]), "a proxy may end TLS before us");
        for foreign in
            ["http://evil.example", "http://127.0.0.1:8081", "null", "file://", "http://127.0.0.1:8080.evil.example"]
        {
            assert!(!from(foreign, &[]), "{foreign} was let in");
            assert!(!from(foreign, &["https://friend.example"]), "{foreign} was let in");
            assert!(from(foreign, &["*"]));
        }
        assert!(from("https://friend.example", &["https://friend.example/"]));
    }

    #[test]
    fn the_query_names_a_session_and_an_avatar() {
        let request = JoinRequest::from_query("session=Room_1-a&avatar=anna&theme=dark").unwrap();
        assert_eq!(request.name.as_deref(), Some("Room_1-a"));
        assert_eq!(request.avatar.unwrap().as_str(), "anna");
        assert_eq!(JoinRequest::from_query("").unwrap(), JoinRequest::default());
    }

    #[test]
    fn a_name_that_could_mean_something_else_is_refused() {
        for bad in ["", "..", "a b", "a/b", "%2e%2e", "ä", "a.b", &"a".repeat(65), &"x".repeat(100_000)] {
            let error = JoinRequest::from_query(&format!("session={bad}")).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadSessionName);
            assert!(error.message.len() < 400);
            let error = JoinRequest::from_query(&format!("avatar={bad}")).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownAvatar);
            assert!(error.message.len() < 400);
        }
    }
}
