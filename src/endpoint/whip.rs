//! A publisher's side of WHIP (RFC 9725), as far as it is HTTP: an offer goes out, an answer comes back, and the session is
//! deleted in the end.
//!
//! In here: redirects, the token, `Location`, refusals; `link` reads the ICE servers that an endpoint names. Not in here: the
//! peer that offers (`media`), when it is tried again.
//! Runs on: whichever task asks.

mod link;

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};

use super::{Key, address, cause, words};
pub(crate) use link::IceLink;

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// From an offer to its answer: a server may gather candidates for seconds.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// For the end of a session: less than this server takes to end (`server`).
const DELETE_TIME: Duration = Duration::from_secs(1);
/// Servers that pass a request on to another one.
const REDIRECTS: usize = 5;
/// Longest answer, as of offers.
const ANSWER_BYTES: usize = 64 * 1024;
/// What is read of a refusal.
const REFUSAL_BYTES: usize = 16 * 1024;

/// Where a session may be published.
#[derive(Clone)]
pub(crate) struct WhipEndpoint {
    client: Client,
    url: Url,
    token: Option<Key>,
}

/// A session that was published. Nothing ends it but [`WhipEndpoint::delete`], or its peer's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// The answer to the offer.
    pub(crate) answer: String,
    /// STUN and TURN servers by which the endpoint is reached. The offer is made already, so they serve the next one.
    pub(crate) ice_servers: Vec<IceLink>,
    /// Servers have to name it, and some do not.
    resource: Option<Url>,
}

/// Why a session is not published. Says neither the token nor what follows the host in an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhipError {
    /// No connection came about, or no answer.
    #[error("cannot be reached: {problem}")]
    Unreachable { problem: String },
    /// Another status than 201.
    #[error("answers {status}: {words}")]
    Refused { status: StatusCode, words: String, retry_after: Option<Duration> },
    /// What came is no answer.
    #[error("does not answer as RFC 9725 says: {problem}")]
    NoAnswer { problem: String },
}

impl WhipError {
    /// Whether the endpoint refuses what was offered, and another offer might do.
    pub(crate) fn is_of_the_offer(&self) -> bool {
        // RFC 9725 has 400 and 422 for offers, 406 is what some answer.
        let of_the_offer = [StatusCode::BAD_REQUEST, StatusCode::NOT_ACCEPTABLE, StatusCode::UNPROCESSABLE_ENTITY];
        matches!(self, Self::Refused { status, .. } if of_the_offer.contains(status))
    }

    /// Whether the endpoint is there and refuses.
    pub(crate) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }

    /// Whether the same request would be refused for ever: of the wrong person, or to the wrong place.
    pub(crate) fn is_final(&self) -> bool {
        let for_ever = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ];
        matches!(self, Self::Refused { status, .. } if for_ever.contains(status))
    }

    /// When the endpoint wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::NoAnswer { .. } => None,
        }
    }
}

impl WhipEndpoint {
    /// `url` is the endpoint's, as whoever runs it gives it out; it may hold a key in its path or query.
    pub(crate) fn new(url: &str, token: Option<Key>) -> Result<Self, &'static str> {
        let parsed = Url::parse(url).map_err(|_| "is not a URL")?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err("has no host or is not of the web: use https://host/path");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("holds a user or a password, which WHIP does not know: give a token");
        }
        let mut client = Client::builder()
            .user_agent(concat!("mouthpiece/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME)
            .tcp_nodelay(true)
            // Followed here: by 307 a POST stays one, and by nothing else.
            .redirect(redirect::Policy::none());
        if address::is_local(url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(|_| "cannot be connected to: there are no TLS certificates")?;
        Ok(Self { client, url: parsed, token })
    }

    /// Where it is, as anybody may be told.
    pub(crate) fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Offers, and takes the answer.
    pub(crate) async fn publish(&self, offer: &str) -> Result<Published, WhipError> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS {
            let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/sdp");
            let request = request.header(ACCEPT, "application/sdp").timeout(ANSWER_TIME).body(offer.to_owned());
            let response = self.with_token(request, &url).send().await.map_err(unreachable)?;
            match response.status() {
                StatusCode::CREATED => return published(response, &url).await,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    url = place(&response, &url).ok_or_else(|| no_answer("a redirect to nowhere"))?;
                }
                _ => return Err(self.refused(response).await),
            }
        }
        Err(no_answer("more redirects than make sense"))
    }

    /// Ends a session that was published. One that cannot be told ends all the same, by its peer.
    pub(crate) async fn delete(&self, published: &Published) {
        let Some(url) = &published.resource else { return };
        let request = self.client.delete(url.clone()).timeout(DELETE_TIME);
        match self.with_token(request, url).send().await {
            Ok(response) => tracing::debug!(status = response.status().as_u16(), "a pushed session is deleted"),
            Err(error) => tracing::warn!(error = cause(&error), "a pushed session cannot be deleted"),
        }
    }

    /// Whoever passes a request on to another host is trusted with the token already, but not with its encryption.
    fn with_token(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        let is_as_safe = url.scheme() == "https" || self.url.scheme() == "http";
        match &self.token {
            Some(Key(token)) if is_as_safe => request.bearer_auth(token),
            _ => request,
        }
    }

    async fn refused(&self, response: Response) -> WhipError {
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = read(response, REFUSAL_BYTES).await.unwrap_or_default();
        let words = words::of_refusal(&body, self.token.as_ref());
        WhipError::Refused { status, words, retry_after: seconds.map(Duration::from_secs) }
    }
}

fn unreachable(error: reqwest::Error) -> WhipError {
    // Without its address, which may hold a key.
    let error = error.without_url();
    let problem = if error.is_timeout() { "no answer in time".to_owned() } else { cause(&error) };
    WhipError::Unreachable { problem }
}

fn no_answer(problem: impl Into<String>) -> WhipError {
    WhipError::NoAnswer { problem: problem.into() }
}

/// What `Location` names, as seen from the URL that was asked.
fn place(response: &Response, asked: &Url) -> Option<Url> {
    let place = asked.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()?;
    matches!(place.scheme(), "http" | "https").then_some(place)
}

async fn published(response: Response, asked: &Url) -> Result<Published, WhipError> {
    let resource = place(&response, asked);
    if resource.is_none() {
        tracing::warn!("a WHIP endpoint names no Location, so the session cannot be deleted there in the end");
    }
    let links = response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let ice_servers = links.flat_map(link::ice_servers).collect();
    let body = read(response, ANSWER_BYTES).await.ok_or_else(|| no_answer("its answer breaks off or is too long"))?;
    let answer = String::from_utf8(body).map_err(|_| no_answer("its answer is not text"))?;
    if answer.starts_with("v=0") {
        return Ok(Published { answer, ice_servers, resource });
    }
    Err(no_answer("201 without an SDP answer"))
}

/// All of a body, up to so many bytes.
async fn read(mut response: Response, most: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.ok()? {
        if body.len() + bytes.len() > most {
            return None;
        }
        body.extend_from_slice(&bytes);
    }
    Some(body)
}

#[cfg(test)]
mod tests;
