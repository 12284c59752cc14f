//! Public keys that somebody else publishes (JWKS, RFC 7517): those of Ed25519 (RFC 8037).
//!
//! In here: reading them from a file or an address, again when they change; the last ones that could be read are kept. Not in
//! here: what is signed with them (`access`).
//! Runs on: whichever task asks; one task of the server reads them again.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use reqwest::{Client, redirect};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Of a key set; those of large issuers have some 5 kB.
const MOST_BYTES: usize = 64 * 1024;
/// Keys of a set; an issuer that changes its keys has two.
const MOST_KEYS: usize = 32;
/// Of an Ed25519 key, in bytes.
const KEY_BYTES: usize = 32;
/// For an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a file is looked at.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// How old keys of an address may be.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The least time between two questions, however many tokens name a key that is not there.
const LEAST_AGE: Duration = Duration::from_secs(10);

/// Where keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// An `https` address, or an `http` one on this machine.
    Url(reqwest::Url),
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the keys of {place} cannot be used: {problem}")]
pub struct KeySetError {
    place: String,
    problem: String,
}

/// The keys as they were when they could last be read.
pub(super) struct KeySet {
    source: KeySource,
    client: Client,
    keys: RwLock<Vec<PublicKey>>,
    /// A token names a key that is not there.
    is_wanted: Notify,
}

struct PublicKey {
    id: Option<String>,
    key: DecodingKey,
}

impl KeySource {
    fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            // Without a query, which may hold a key.
            Self::Url(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        }
    }
}

impl KeySet {
    pub(super) async fn open(source: KeySource) -> Result<Self, KeySetError> {
        let place = source.place();
        let client = Client::builder().timeout(TIMEOUT).redirect(redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(|error| KeySetError { place, problem: error.to_string() })?;
        let set = Self { source, client, keys: RwLock::default(), is_wanted: Notify::new() };
        match (set.read_again().await, &set.source) {
            (Err(error), KeySource::Url(_)) => {
                tracing::warn!(%error, "nobody gets in by these keys until they can be read");
            }
            (outcome, _) => outcome?,
        }
        Ok(set)
    }

    /// Those that a token may be signed with which names this key, or none.
    pub(super) fn named(&self, id: Option<&str>) -> Vec<DecodingKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let may = |key: &&PublicKey| id.is_none() || key.id.as_deref() == id;
        let found: Vec<_> = keys.iter().filter(may).map(|key| key.key.clone()).collect();
        if found.is_empty() {
            self.is_wanted.notify_one();
        }
        found
    }

    /// Reads the keys again when they are old, or may have changed.
    pub(super) async fn keep(&self) {
        let mut is_told = false;
        loop {
            match self.source {
                KeySource::File(_) => sleep(FILE_EVERY).await,
                KeySource::Url(_) => {
                    sleep(LEAST_AGE).await;
                    tokio::select! {
                        () = sleep(MAX_AGE.saturating_sub(LEAST_AGE)) => {}
                        () = self.is_wanted.notified() => {}
                    }
                }
            }
            match self.read_again().await {
                Ok(()) => is_told = false,
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(%error, "those that were there are kept");
                }
                Err(_) => {}
            }
        }
    }

    /// Takes the keys as they are by now; if they cannot be read, those from before stay.
    pub(super) async fn read_again(&self) -> Result<(), KeySetError> {
        let read = match &self.source {
            KeySource::File(path) => of_file(path).await,
            KeySource::Url(url) => self.of_address(url).await,
        };
        let keys = read.and_then(|text| parse(&text));
        let keys = keys.map_err(|problem| KeySetError { place: self.source.place(), problem })?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    async fn of_address(&self, url: &reqwest::Url) -> Result<Vec<u8>, String> {
        let told = |error: reqwest::Error| error.without_url().to_string();
        let mut response = self.client.get(url.clone()).send().await.map_err(told)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("it answers {}", response.status().as_u16()));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            text.extend_from_slice(&chunk);
            if text.len() > MOST_BYTES {
                return Err(too_long());
            }
        }
        Ok(text)
    }
}

async fn of_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    let most = u64::try_from(MOST_BYTES + 1).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut text).await.map_err(|error| error.to_string())?;
    if text.len() > MOST_BYTES { Err(too_long()) } else { Ok(text) }
}

fn too_long() -> String {
    format!("they have more than {MOST_BYTES} bytes")
}

/// The keys of a set that tokens may be signed with; others are passed over.
fn parse(text: &[u8]) -> Result<Vec<PublicKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("this is no key set, {{\"keys\": [...]}} (line {line}, column {column})")
    })?;
    if set.keys.len() > MOST_KEYS {
        return Err(format!("they are {}, and at most {MOST_KEYS} are taken", set.keys.len()));
    }
    let keys: Vec<_> = set.keys.iter().filter_map(public_key).collect();
    if keys.is_empty() {
        return Err("none of them is of Ed25519 (kty \"OKP\", crv \"Ed25519\") and for signatures".to_owned());
    }
    Ok(keys)
}

fn public_key(key: &serde_json::Value) -> Option<PublicKey> {
    let text = |name: &str| key.get(name).and_then(serde_json::Value::as_str);
    let is_ours = text("kty") == Some("OKP")
        && text("crv") == Some("Ed25519")
        && matches!(text("use"), None | Some("sig"))
        && matches!(text("alg"), None | Some("EdDSA" | "Ed25519"));
    let x = text("x").filter(|_| is_ours)?;
    let is_whole = URL_SAFE_NO_PAD.decode(x).is_ok_and(|bytes| bytes.len() == KEY_BYTES);
    let key = DecodingKey::from_ed_components(x).ok().filter(|_| is_whole)?;
    Some(PublicKey { id: text("kid").map(str::to_owned), key })
}
