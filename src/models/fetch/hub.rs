//! The hub's protocol: what a repository holds, and the address of a file at a commit.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::{FetchError, Result, Settings};

/// A connection that is not there by then will not be.
const CONNECT: Duration = Duration::from_secs(10);
/// A repository's description; the largest have thousands of files.
const LONGEST_REPLY: usize = 8 << 20;

/// What a file's bytes must add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Large files have SHA-256 of the content.
    Sha256(String),
    /// Small files have git's: SHA-1 of a header and the content.
    GitBlob(String),
}

impl Hash {
    /// In hex digits.
    pub fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitBlob(text) => text,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct RemoteFile {
    pub(super) bytes: u64,
    pub(super) hash: Hash,
}

#[derive(Clone, Debug)]
pub(super) struct Repository {
    pub(super) commit: String,
    pub(super) licence: String,
    files: BTreeMap<String, RemoteFile>,
}

impl Repository {
    pub(super) fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.get(name)
    }
}

/// A server with models, and how patient we are with it.
#[derive(Clone, Debug)]
pub struct Hub {
    client: Client,
    pub(super) settings: Settings,
}

impl Hub {
    /// Asks nothing yet; fails if the endpoint is no address.
    pub fn new(settings: Settings) -> Result<Self> {
        let wrong = |problem: String| FetchError::Endpoint { endpoint: settings.endpoint.clone(), problem };
        let url = Url::parse(&settings.endpoint).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(wrong("it has no host or is not of the web".to_owned()));
        }
        let agent = concat!("mouthpiece/", env!("CARGO_PKG_VERSION"));
        let client = Client::builder().user_agent(agent).connect_timeout(CONNECT);
        let client = client.build().map_err(|error| wrong(error.to_string()))?;
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        Ok(Self { client, settings: Settings { endpoint, ..settings } })
    }

    pub(super) fn file_url(&self, repo: &str, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{file}", self.settings.endpoint)
    }

    /// A request with the token; the client drops it where another host is redirected to.
    pub(super) fn get(&self, url: &str) -> RequestBuilder {
        let request = self.client.get(url);
        match &self.settings.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// What the repository's main branch holds now.
    pub(super) async fn describe(&self, repo: &str) -> Result<Repository> {
        let url = format!("{}/api/models/{repo}/revision/main?blobs=true", self.settings.endpoint);
        let patience = self.settings.patience;
        let mut wait = patience.first_wait;
        for attempt in 1.. {
            let (error, asked) = match self.reply(&url).await {
                Ok(body) => return parse(&body).map_err(|problem| FetchError::Reply { url, problem }),
                Err((error, _)) if attempt >= patience.attempts => return Err(error),
                Err((error, None)) => return Err(error),
                Err((error, Some(asked))) => (error, asked),
            };
            tracing::warn!(%error, "asking again");
            tokio::time::sleep(asked.max(wait)).await;
            wait *= 2;
        }
        Err(FetchError::NotFound { url })
    }

    /// The body, or what went wrong and, if another attempt may help, how long the server wants us to wait.
    async fn reply(&self, url: &str) -> std::result::Result<Vec<u8>, (FetchError, Option<Duration>)> {
        let broken = |error: reqwest::Error| {
            (FetchError::Reply { url: url.to_owned(), problem: cause(&error) }, Some(Duration::ZERO))
        };
        let whole = async {
            let mut response = self.get(url).send().await.map_err(broken)?;
            self.refused(url, &response)?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > LONGEST_REPLY {
                    let problem = format!("answers more than {LONGEST_REPLY} bytes");
                    return Err((FetchError::Reply { url: url.to_owned(), problem }, None));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        let stalled = |_| {
            (FetchError::Reply { url: url.to_owned(), problem: "does not answer".to_owned() }, Some(Duration::ZERO))
        };
        tokio::time::timeout(self.settings.patience.stall, whole).await.map_err(stalled)?
    }

    /// An error for every status that is no success; with a wait if it may pass.
    pub(super) fn refused(
        &self,
        url: &str,
        response: &Response,
    ) -> std::result::Result<(), (FetchError, Option<Duration>)> {
        let (url, status) = (url.to_owned(), response.status());
        let code = status.as_u16();
        match status {
            _ if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err((FetchError::Unauthorised { url, status: code }, None))
            }
            StatusCode::NOT_FOUND => Err((FetchError::NotFound { url }, None)),
            _ if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                let attempts = self.settings.patience.attempts;
                Err((FetchError::Busy { url, status: code, attempts }, Some(retry_after(response))))
            }
            _ => Err((FetchError::Status { url, status: code }, None)),
        }
    }
}

/// What the server asks for, within reason.
fn retry_after(response: &Response) -> Duration {
    const LONGEST: Duration = Duration::from_secs(120);
    let header = response.headers().get(reqwest::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = header.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(LONGEST)
}

/// The innermost reason; the outer ones only say that a request failed.
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    license: serde_json::Value,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

fn parse(body: &[u8]) -> std::result::Result<Repository, String> {
    let found: Description = serde_json::from_slice(body)
        .map_err(|error| format!("is not the hub's description of a repository: {error}"))?;
    let is_hash = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hash(&found.sha, 40) {
        return Err(format!("names {:?} as its commit", found.sha));
    }
    let mut files = BTreeMap::new();
    for sibling in found.siblings {
        let file = match (sibling.lfs, sibling.size, sibling.blob) {
            (Some(lfs), ..) if is_hash(&lfs.sha256, 64) => {
                RemoteFile { bytes: lfs.size, hash: Hash::Sha256(lfs.sha256.to_ascii_lowercase()) }
            }
            (None, Some(bytes), Some(blob)) if is_hash(&blob, 40) => {
                RemoteFile { bytes, hash: Hash::GitBlob(blob.to_ascii_lowercase()) }
            }
            // Without a size and a hash it cannot be checked, so it is as if it were not there.
            _ => continue,
        };
        files.insert(sibling.rfilename, file);
    }
    let licence = match found.card.map(|card| card.license) {
        Some(serde_json::Value::String(licence)) => licence,
        Some(serde_json::Value::Array(all)) => {
            all.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
        }
        _ => "not stated".to_owned(),
    };
    Ok(Repository { commit: found.sha, licence, files })
}
