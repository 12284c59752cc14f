//! What language models, voices and recognisers behind OpenAI-compatible endpoints have in common.
//!
//! In here: keys, the connection and what is tried again, refusals; `address` says where a path lies, `words` makes a
//! provider's words fit for others. Not in here: what is asked and answered (`dialogue::llm`,
//! `speech::tts::service`, `hearing::asr`).
//! Runs on: whichever task asks; dropping the response closes the connection.

mod address;
pub(crate) mod whip;
pub(crate) mod words;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use tokio::time::{sleep, timeout};

use address::{Address, KeyHeader};
pub(crate) use address::{check_socket_url, check_url, shown};

/// Attempts to connect. Nothing else is tried again: a request that was received may have been paid for.
pub const CONNECT_ATTEMPTS: u32 = 3;
/// Before the second attempt; twice as long before the third.
pub const CONNECT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// What is read of a refusal.
const REFUSAL_BYTES: usize = 16 * 1024;
/// How long the rest of a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// A key that no log or error shows.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(from = "String")]
pub struct Key(String);

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl Key {
    /// Surrounding white space, as at the end of a file, is not part of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }
}

impl Key {
    /// Whether this is it. Takes as long whatever differs, so that nobody can guess it letter by letter.
    pub(crate) fn is(&self, given: &str) -> bool {
        use sha2::{Digest, Sha256};
        Sha256::digest(&self.0) == Sha256::digest(given)
    }

    /// For whatever computes with it; it is not to be shown.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// For whatever reads it; it is not to be shown.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header carries it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(not shown)")
    }
}

/// One path of an endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    client: Client,
    address: Address,
    /// It was not at its first address and is at the other one.
    is_elsewhere: AtomicBool,
    key: Option<Key>,
    connect: Duration,
    /// For the log.
    what: &'static str,
}

/// Why there is no answer. Holds neither the key nor where the endpoint is: it is told to viewers.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No connection came about.
    #[error("cannot be reached: {problem}")]
    Unreachable {
        /// The innermost reason.
        problem: String,
    },
    /// HTTP 429.
    #[error("is asked more than it allows ({status}): {words}")]
    TooMany {
        /// `429 Too Many Requests`.
        status: String,
        /// The provider's own, short and without keys; may be empty.
        words: String,
        /// From the header `Retry-After`, where that holds seconds.
        retry_after_s: Option<u64>,
    },
    /// Answered with another status than 200.
    #[error("answers {status}: {words}")]
    Refused {
        /// Such as `401 Unauthorized`.
        status: String,
        /// The provider's own, short and without keys; may be empty.
        words: String,
    },
    /// The answer ended too early, or is too long.
    #[error("breaks off: {problem}")]
    BrokeOff {
        /// How.
        problem: String,
    },
}

impl Endpoint {
    /// `url` is such as `http://127.0.0.1:8080/v1`; `path` goes behind it unless it is there already. Where no path is
    /// given, it is looked for below `/v1`, then at the root.
    pub(crate) fn new(
        what: &'static str,
        url: &str,
        path: &str,
        key: Option<Key>,
        connect: Duration,
    ) -> Result<Self, String> {
        let mut client = Client::builder()
            .user_agent(concat!("mouthpiece/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect)
            .tcp_nodelay(true)
            // A redirected POST becomes a GET, whose refusal would hide where the fault lies.
            .redirect(redirect::Policy::none());
        if address::is_local(url) {
            client = client.no_proxy();
        }
        let address = Address::new(url, path)?;
        let client = client.build().map_err(|error| cause(&error))?;
        Ok(Self { client, address, is_elsewhere: AtomicBool::new(false), key, connect, what })
    }

    /// Sends a JSON body. Whatever the status, that is the answer.
    pub(crate) async fn post(&self, accept: &str, body: Vec<u8>) -> Result<Response, EndpointError> {
        self.send(|request| {
            Ok(request.header(CONTENT_TYPE, "application/json").header(ACCEPT, accept).body(body.clone()))
        })
        .await
    }

    /// Sends a form with text fields and one file, as `multipart/form-data` (RFC 7578).
    pub(crate) async fn post_file(
        &self,
        fields: &[(&'static str, &str)],
        (name, kind): (&'static str, &'static str),
        file: Vec<u8>,
    ) -> Result<Response, EndpointError> {
        // Shared by all attempts.
        let file = Bytes::from(file);
        self.send(|request| {
            let length = file.len() as u64;
            let part = Part::stream_with_length(file.clone(), length).file_name(name).mime_str(kind)?;
            let form = fields.iter().fold(Form::new(), |form, (name, value)| form.text(*name, (*value).to_owned()));
            Ok(request.header(ACCEPT, "application/json").multipart(form.part("file", part)))
        })
        .await
    }

    /// All of a good answer's body, or why it is none.
    pub(crate) async fn read(&self, mut response: Response, most: usize) -> Result<Vec<u8>, EndpointError> {
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        let mut body = Vec::new();
        while let Some(bytes) =
            response.chunk().await.map_err(|error| EndpointError::BrokeOff { problem: cause(&error) })?
        {
            if body.len() + bytes.len() > most {
                return Err(EndpointError::BrokeOff { problem: format!("more than {most} bytes came") });
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    async fn send(
        &self,
        prepare: impl Fn(RequestBuilder) -> reqwest::Result<RequestBuilder>,
    ) -> Result<Response, EndpointError> {
        let is_elsewhere = self.is_elsewhere.load(Ordering::Relaxed);
        let response = self.send_to(self.url(), &prepare).await?;
        let is_missing = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        let (Some(other), true, false) = (&self.address.other, is_missing, is_elsewhere) else { return Ok(response) };
        match self.send_to(other, &prepare).await {
            Ok(second) if second.status().is_success() => {
                tracing::info!(url = shown(other), "the {} is here and not below /v1", self.what);
                self.is_elsewhere.store(true, Ordering::Relaxed);
                Ok(second)
            }
            // The first refusal says more: most servers have it there.
            _ => Ok(response),
        }
    }

    fn url(&self) -> &str {
        match &self.address.other {
            Some(other) if self.is_elsewhere.load(Ordering::Relaxed) => other,
            _ => &self.address.url,
        }
    }

    fn with_key(&self, request: RequestBuilder) -> Result<RequestBuilder, EndpointError> {
        let Some(Key(key)) = &self.key else { return Ok(request) };
        let header = self.address.key_header;
        let request = if header == KeyHeader::ApiKey { request } else { request.bearer_auth(key) };
        if header == KeyHeader::Bearer {
            return Ok(request);
        }
        let mut value = HeaderValue::from_str(key)
            .map_err(|_| EndpointError::Unreachable { problem: "its key holds what no header may hold".to_owned() })?;
        value.set_sensitive(true);
        Ok(request.header("api-key", value))
    }

    async fn send_to(
        &self,
        url: &str,
        prepare: impl Fn(RequestBuilder) -> reqwest::Result<RequestBuilder>,
    ) -> Result<Response, EndpointError> {
        let mut wait = CONNECT_AGAIN_AFTER;
        let mut attempt = 1;
        loop {
            let unusable = |error: reqwest::Error| EndpointError::Unreachable { problem: cause(&error) };
            let request = self.with_key(prepare(self.client.post(url)).map_err(unusable)?)?;
            let error = match request.send().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // One that took the whole time to connect has had its chance.
            if attempt >= CONNECT_ATTEMPTS || !error.is_connect() || error.is_timeout() {
                let problem = if error.is_timeout() {
                    format!("no connection within {} s", self.connect.as_secs_f32())
                } else {
                    cause(&error)
                };
                tracing::warn!(url = shown(url), problem, "the {} cannot be reached", self.what);
                return Err(EndpointError::Unreachable { problem });
            }
            sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    /// The provider's own words, as far as they come soon and are not long.
    pub(crate) async fn refused(&self, mut response: Response) -> EndpointError {
        let code = response.status();
        let retry_after_s =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        let read = async {
            while body.len() < REFUSAL_BYTES
                && let Ok(Some(bytes)) = response.chunk().await
            {
                body.extend_from_slice(&bytes[..bytes.len().min(REFUSAL_BYTES - body.len())]);
            }
        };
        // What came in time is enough.
        let _ = timeout(REFUSAL_TIME, read).await;
        let words = words::of_refusal(&body, self.key.as_ref());
        tracing::warn!(url = shown(self.url()), status = code.as_u16(), words, "the {} refuses", self.what);
        let status = code.to_string();
        match code {
            StatusCode::TOO_MANY_REQUESTS => EndpointError::TooMany { status, words, retry_after_s },
            _ => EndpointError::Refused { status, words },
        }
    }
}

/// The innermost reason; the outer ones only say that a request failed, and where.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let second = Duration::from_secs(1);
        let key = Some(Key::new("sk-secret\n"));
        let endpoint = Endpoint::new("model", "http://127.0.0.1:1/v1/", "chat/completions", key, second).unwrap();
        assert_eq!(endpoint.url(), "http://127.0.0.1:1/v1/chat/completions");
        assert!(!format!("{endpoint:?}").contains("secret"));
        assert_eq!(endpoint.key, Some(Key("sk-secret".into())));
    }
}
