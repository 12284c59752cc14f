//! By which way a client reaches a viewer's libnice: at libnice's own candidates, or by the one port in front of it.
//!
//! In here: what the answer says of it, and the viewer's place behind the one port. Not in here: the port (`one_port`), which
//! addresses there are (`ice`).

use super::reports::{GATHERING_TIME, Inbox};
use super::{PROMISE_TIMEOUT, negotiation_failed};
use crate::media::ice::told::Told;
use crate::media::offer::answer::Negotiated;
use crate::media::one_port::Entry;
use crate::media::{IceConfig, MediaError};
use crate::session::Refusal;

/// What an answer tells a client.
pub struct Way {
    pub candidates: Vec<String>,
    /// Whether these are all.
    pub complete: bool,
    /// Present where the client comes by the one port, as long as it may.
    pub entry: Option<Entry>,
}

impl Way {
    /// Waits for what libnice finds at once; `inbox` tells of the rest what the client may know.
    pub async fn find(ice: &IceConfig, negotiated: &Negotiated, inbox: &mut Inbox) -> Result<Self, Refusal> {
        let Some(one_port) = &ice.one_port else {
            if !ice.external.is_empty() {
                inbox.told = Told::Outside(ice.external.clone());
            }
            let (candidates, complete) = inbox.gather(GATHERING_TIME).await;
            return Ok(Self { candidates, complete, entry: None });
        };
        inbox.told = Told::Nothing;
        let unreached = |error: MediaError| {
            tracing::error!(%error, "a viewer cannot come by the one port");
            negotiation_failed("the server cannot be reached just now: try again")
        };
        let inner = tokio::time::timeout(PROMISE_TIMEOUT, inbox.on_loopback()).await.ok().flatten();
        let inner =
            inner.ok_or_else(|| unreached(MediaError::Unreached("libnice has no socket on loopback".into())))?;
        let (username, password) = negotiated
            .checks()
            .ok_or_else(|| unreached(MediaError::Unreached("webrtcbin's answer has no ICE credentials".into())))?;
        let entry = one_port.enter(username, password, inner);
        let entry = entry.map_err(|taken| unreached(MediaError::Unreached(taken.to_string())))?;
        Ok(Self { candidates: one_port.candidates(&ice.addresses()), complete: true, entry: Some(entry) })
    }
}
