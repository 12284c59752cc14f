//! What a session is asked and what it tells, in plain words and data that all of the server shares.
//!
//! In here: commands, notices with the queue to one client ([`notice_queue`]) and the way to all of them
//! ([`NoticeBroadcast`]), refusals, and the traits between whoever brings a client and whoever runs the session:
//! `signalling` calls them, `server` implements them, `media` implements its part, [`Peer`]. Not in here: how any of it looks
//! on the wire (`signalling::protocol`), what is done about it (`conversation`), running a session (`server`).

mod command;
mod notice;
mod notice_broadcast;
mod notice_queue;
mod output;
mod peer;
mod push;
mod refusal;
mod text;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

pub use command::{Command, TEXT_CHARACTERS};
pub use notice::{CaptionWord, Notice};
pub use notice_broadcast::NoticeBroadcast;
pub use notice_queue::{NoticeReceiver, NoticeSender, Told, notice_queue};
pub use output::{OutputInfo, OutputKind, OutputOrder, OutputState, Outputs};
pub use peer::{CANDIDATE_BYTES, IceCandidate, IceServer, NetworkFigures, OFFER_BYTES, Peer, PeerEvent};
pub use push::{PushInfo, PushOrder, PushState, Pushes};
pub use refusal::{ErrorCode, Refusal};
pub use text::{TextTooLong, check_text_length};

use crate::ids::{AvatarId, SessionId};
use crate::picture::matte::MattePlace;

/// What a connection may ask of the session it belongs to. Implemented by the server, faked in tests.
pub trait Session: Send + Sync {
    /// For logs and for telling sessions apart.
    fn id(&self) -> SessionId;
    /// Who speaks in it.
    fn avatar(&self) -> AvatarInfo;
    /// STUN and TURN servers for the page's RTCPeerConnection, as its `iceServers` member.
    fn ice_servers(&self) -> Vec<IceServer>;
    /// Whether the page may connect by TURN only, as its `iceTransportPolicy` "relay" has it.
    fn relay_only(&self) -> bool {
        false
    }
    /// Whether what a microphone in an offer hears is listened to.
    fn listens(&self) -> bool;
    /// From now on nobody hears this client's microphone, whatever it offers.
    fn mute(&self);
    /// Answers an offer that may hold anything at all; refused before webrtcbin sees it if it cannot be served.
    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>>;
    /// Has another avatar take the place of the one that is there, in the same connections: loaded first, while that one goes
    /// on. Resolves when it is seen, and all clients have been told. Refused if there is none of this id or it cannot be
    /// loaded; dropped before it is loaded, nothing changes.
    fn swap_avatar(&self, id: AvatarId) -> BoxFuture<'static, Result<AvatarInfo, Refusal>>;
    /// Its ways to media servers. Who holds these does not hold the session.
    fn pushes(&self) -> Arc<dyn Pushes>;
    /// Does what a client asks: it never waits. Refused if the queue of turns is full or there is nothing to say.
    fn submit(&self, command: Command) -> Result<(), Refusal>;
    /// Its ways out besides its viewers. They do not keep it open.
    fn outputs(&self) -> Arc<dyn Outputs>;
}

/// How a connection finds or opens its session.
pub trait Sessions: Send + Sync {
    /// `avatar`: another than the server's own; `name`: a shared session to join or open.
    /// `notices` gets everything the session tells its viewers.
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>>;
    /// A hold on a session that is open already, for somebody who only watches: whose microphone nobody hears, whatever is
    /// offered. `None` if none of this name is open. Without `avatar` it is the one with the server's own, else the only
    /// one of this name.
    fn watch(
        &self,
        avatar: Option<AvatarId>,
        name: String,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Refusal>>;
    /// Why no new session can be opened just now, for `/readyz`; `None` if one can.
    fn full(&self) -> Option<String>;
}

/// What a client is told of the avatar that it will see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvatarInfo {
    /// What it is asked for by.
    pub id: AvatarId,
    /// What people call it.
    pub name: String,
    /// Of its picture, in pixels.
    pub width: u32,
    /// Of its picture, in pixels.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
    /// Where the matte lies in the video, if it is cut out; `width` and `height` are those of the colours alone.
    pub matte: Option<MattePlace>,
    /// Names of what it can be asked to do by [`Command::Gesture`].
    pub gestures: Vec<String>,
}
