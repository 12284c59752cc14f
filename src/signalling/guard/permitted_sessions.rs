//! Sessions as the holder of a token may use them: those of its tenant, for what it may do.
//!
//! Not in here: how much one address may take (`quota::limited_sessions`), the sessions (`server`).
//! Runs on: the task of the connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{check_avatar, forbidden, restricted};
use crate::access::Grant;
use crate::access::Permission::{Administer, Converse, Microphone, Speak, View};
use crate::ids::{AvatarId, SessionId};
use crate::session::{
    AvatarInfo, Command, ErrorCode, IceServer, NoticeSender, OutputInfo, OutputOrder, Outputs, Peer, PeerEvent,
    PushInfo, PushOrder, Pushes, Refusal, Session, Sessions,
};
use crate::signalling::handshake::JoinRequest;

/// The sessions as somebody may use them.
pub(in super::super) struct PermittedSessions {
    pub(in super::super) sessions: Arc<dyn Sessions>,
    pub(in super::super) grant: Arc<Grant>,
}

/// A session as one of its clients may use it.
struct PermittedSession {
    session: Box<dyn Session>,
    grant: Arc<Grant>,
}

/// No ways out, for those who may not even know of them.
struct Hidden;

impl PermittedSessions {
    fn permitted(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        if !self.grant.may(Microphone) {
            session.mute();
        }
        Box::new(PermittedSession { session, grant: Arc::clone(&self.grant) })
    }

    /// One that is open already, for somebody who may not open any.
    async fn join_open(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> Result<Box<dyn Session>, Refusal> {
        let Some(name) = name else {
            let message = "the token only lets its holder watch: name a session that is open";
            return Err(Refusal::new(ErrorCode::Forbidden, message));
        };
        let inner = self.grant.inner_name(&name);
        self.sessions.watch(avatar, inner, notices).await?.ok_or_else(|| {
            let message = format!("session {name:?} is not open just now: connect again in a while");
            Refusal::new(ErrorCode::NotLive, message)
        })
    }
}

impl Sessions for PermittedSessions {
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>> {
        Box::pin(async move {
            let JoinRequest { avatar, name } = restricted(&self.grant, JoinRequest { avatar, name })?;
            let session = if self.grant.may_any(&[Speak, Converse]) {
                let inner = name.map(|name| self.grant.inner_name(&name));
                self.sessions.join(avatar, inner, notices).await?
            } else if self.grant.may(View) {
                self.join_open(avatar, name, notices).await?
            } else {
                return Err(forbidden(&[View, Speak, Converse]));
            };
            Ok(self.permitted(session))
        })
    }

    fn watch(
        &self,
        avatar: Option<AvatarId>,
        name: String,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Refusal>> {
        Box::pin(async move {
            let join = restricted(&self.grant, JoinRequest { avatar, name: Some(name.clone()) })?;
            let inner = self.grant.inner_name(&name);
            let session = self.sessions.watch(join.avatar, inner, notices).await?;
            Ok(session.map(|session| self.permitted(session)))
        })
    }

    fn full(&self) -> Option<String> {
        self.sessions.full()
    }
}

impl Session for PermittedSession {
    fn id(&self) -> SessionId {
        self.session.id()
    }

    fn avatar(&self) -> AvatarInfo {
        self.session.avatar()
    }

    /// Passwords of TURN servers are for those who connect.
    fn ice_servers(&self) -> Vec<IceServer> {
        if self.grant.may(View) { self.session.ice_servers() } else { Vec::new() }
    }

    fn relay_only(&self) -> bool {
        self.session.relay_only()
    }

    fn listens(&self) -> bool {
        self.session.listens() && self.grant.may(Microphone)
    }

    fn mute(&self) {
        self.session.mute();
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        if self.grant.may(View) {
            return self.session.open_peer(offer, events);
        }
        Box::pin(async { Err(forbidden(&[View])) })
    }

    fn swap_avatar(&self, id: AvatarId) -> BoxFuture<'static, Result<AvatarInfo, Refusal>> {
        let allowed = match self.grant.may_any(&[Speak, Converse]) {
            true => check_avatar(&self.grant, &id),
            false => Err(forbidden(&[Speak, Converse])),
        };
        match allowed {
            Ok(()) => self.session.swap_avatar(id),
            Err(refusal) => Box::pin(async { Err(refusal) }),
        }
    }

    fn pushes(&self) -> Arc<dyn Pushes> {
        if self.grant.may(Administer) { self.session.pushes() } else { Arc::new(Hidden) }
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        let needed: &[_] = match command {
            Command::Text { .. } => &[Converse],
            Command::Speak { .. } | Command::AudioStart { .. } | Command::Audio(_) | Command::AudioEnd => &[Speak],
            Command::Interrupt | Command::Gesture { .. } => &[Speak, Converse],
            Command::Shown { .. } => &[View],
        };
        if self.grant.may_any(needed) { self.session.submit(command) } else { Err(forbidden(needed)) }
    }

    fn outputs(&self) -> Arc<dyn Outputs> {
        if self.grant.may(Administer) { self.session.outputs() } else { Arc::new(Hidden) }
    }
}

impl Outputs for Hidden {
    fn allowed(&self) -> bool {
        false
    }

    fn start(&self, _: OutputOrder) -> BoxFuture<'static, Result<OutputInfo, Refusal>> {
        Box::pin(async { Err(forbidden(&[Administer])) })
    }

    fn list(&self) -> Vec<OutputInfo> {
        Vec::new()
    }

    fn stop(&self, _: &str) -> BoxFuture<'static, bool> {
        Box::pin(async { false })
    }
}

impl Pushes for Hidden {
    fn allowed(&self) -> bool {
        false
    }

    fn start(&self, _: PushOrder) -> Result<PushInfo, Refusal> {
        Err(forbidden(&[Administer]))
    }

    fn list(&self) -> Vec<PushInfo> {
        Vec::new()
    }

    fn stop(&self, _: &str) -> BoxFuture<'static, bool> {
        Box::pin(async { false })
    }
}
