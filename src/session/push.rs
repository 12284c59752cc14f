//! A session that is published to a media server by WHIP: what may be asked for, and what is told of it.
//!
//! In here: plain data, and the trait between whoever is asked and whoever does it. Not in here: HTTP on either side
//! (`signalling::api::pushes`, `endpoint::whip`), the peer (`media::whip`).

use std::fmt;

use futures_util::future::BoxFuture;

use super::Refusal;
use crate::endpoint::Key;
use crate::ids::PushId;

/// Where a session is to be published. Its address may hold a key, so neither is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PushOrder {
    /// Of the WHIP endpoint.
    pub url: String,
    /// Sent with every request to it.
    pub token: Option<Key>,
}

impl fmt::Debug for PushOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PushOrder").finish_non_exhaustive()
    }
}

/// How a push is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushState {
    /// It begins.
    #[default]
    Connecting,
    /// Media flow.
    Live,
    /// The media server was lost or refuses for now; it is tried again until the push is stopped.
    Retrying,
    /// It would not go better another time.
    Error,
}

/// What is told of a push.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PushInfo {
    /// What it is asked for by.
    #[serde(serialize_with = "as_text")]
    pub id: PushId,
    /// Scheme, host and port of the endpoint.
    pub target: String,
    /// How it is.
    pub state: PushState,
    /// Why it is tried again or cannot go on.
    pub message: Option<String>,
    /// How often it has begun anew after it was live.
    pub reconnects: u64,
}

fn as_text<S: serde::Serializer>(id: &PushId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// The pushes of one session. Implemented by the server, faked in tests.
pub trait Pushes: Send + Sync {
    /// Whether whoever may use the API may start and stop some.
    fn allowed(&self) -> bool;
    /// Starts one. It is tried from then on; that the media server is not there is no refusal.
    fn start(&self, order: PushOrder) -> Result<PushInfo, Refusal>;
    /// All of them, in their order.
    fn list(&self) -> Vec<PushInfo>;
    /// Stops one, and resolves when the media server was told. False if there is none of this id.
    fn stop(&self, id: &str) -> BoxFuture<'static, bool>;
}
