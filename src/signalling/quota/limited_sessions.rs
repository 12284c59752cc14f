//! Sessions as somebody at one address may use them: what goes over the address's rates is refused before it is done.
//!
//! Not in here: the rates (`address_quota`), the sessions (`server`).
//! Runs on: the task of the connection.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::address_quota::{AddressQuota, Operation, SessionHold};
use crate::ids::{AvatarId, SessionId};
use crate::session::{
    AvatarInfo, Command, ErrorCode, IceServer, NoticeSender, Outputs, Peer, PeerEvent, Pushes, Refusal, Session,
    Sessions,
};
use crate::signalling::limits::{Taken, TokenBucket};

/// The sessions as somebody at one address may use them.
pub(in super::super) struct LimitedSessions {
    pub(in super::super) sessions: Arc<dyn Sessions>,
    pub(in super::super) quota: Arc<AddressQuota>,
}

/// A session as one of its clients may use it.
struct LimitedSession {
    session: Arc<dyn Session>,
    quota: Arc<AddressQuota>,
    /// Turns of this client. Each asks the language model and stops what is being said.
    turns: Mutex<TokenBucket>,
    began: Instant,
    _hold: SessionHold,
}

fn too_many(what: &str, wait: &str) -> String {
    format!("too many {what}: this one is ignored, wait {wait} and send fewer")
}

impl LimitedSessions {
    fn may_join(&self) -> Result<(), Refusal> {
        if self.quota.take(Operation::Join) {
            return Ok(());
        }
        let message = too_many("sessions are opened or joined from this address", "a second");
        Err(Refusal { code: ErrorCode::TooManyMessages, message })
    }

    fn full_house(&self) -> Refusal {
        let most = self.quota.most_sessions;
        let message = format!("this address holds {most} sessions, which is all that one may have: close some");
        Refusal { code: ErrorCode::ServerFull, message }
    }

    fn limited(&self, session: Box<dyn Session>) -> Result<Box<dyn Session>, Refusal> {
        let session: Arc<dyn Session> = Arc::from(session);
        let hold = self.quota.hold(session.id()).ok_or_else(|| self.full_house())?;
        let turns = Mutex::new(TokenBucket::new(30.0, 5.0));
        let quota = Arc::clone(&self.quota);
        Ok(Box::new(LimitedSession { session, quota, turns, began: Instant::now(), _hold: hold }))
    }
}

impl Sessions for LimitedSessions {
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>> {
        Box::pin(async move {
            self.may_join()?;
            // One without a name is a new one, so it is not even opened.
            if name.is_none() && !self.quota.has_room() {
                return Err(self.full_house());
            }
            self.limited(self.sessions.join(avatar, name, notices).await?)
        })
    }

    fn watch(
        &self,
        avatar: Option<AvatarId>,
        name: String,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Refusal>> {
        Box::pin(async move {
            self.may_join()?;
            self.sessions.watch(avatar, name, notices).await?.map(|session| self.limited(session)).transpose()
        })
    }

    fn full(&self) -> Option<String> {
        self.sessions.full()
    }
}

impl Session for LimitedSession {
    fn id(&self) -> SessionId {
        self.session.id()
    }

    fn avatar(&self) -> AvatarInfo {
        self.session.avatar()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.session.ice_servers()
    }

    fn relay_only(&self) -> bool {
        self.session.relay_only()
    }

    fn listens(&self) -> bool {
        self.session.listens()
    }

    fn mute(&self) {
        self.session.mute();
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        if self.quota.take(Operation::Offer) {
            return self.session.open_peer(offer, events);
        }
        let message = format!("webrtc_offer: {}", too_many("offers come from this address", "a second"));
        Box::pin(async { Err(Refusal { code: ErrorCode::TooManyMessages, message }) })
    }

    fn swap_avatar(&self, id: AvatarId) -> BoxFuture<'static, Result<AvatarInfo, Refusal>> {
        // As dear as a session: an avatar is loaded for it.
        if self.quota.take(Operation::Join) {
            return self.session.swap_avatar(id);
        }
        let message = too_many("avatars are asked for from this address", "a second");
        Box::pin(async { Err(Refusal { code: ErrorCode::TooManyMessages, message }) })
    }

    fn pushes(&self) -> Arc<dyn Pushes> {
        self.session.pushes()
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        if matches!(command, Command::Text { .. } | Command::Speak { .. }) {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.take(self.began.elapsed()) != Taken::Yes || !self.quota.take(Operation::Turn) {
                let message = too_many("turns", "a second");
                return Err(Refusal { code: ErrorCode::TooManyMessages, message });
            }
        }
        self.session.submit(command)
    }

    fn outputs(&self) -> Arc<dyn Outputs> {
        self.session.outputs()
    }
}
