//! One client's hold on a session: what a connection asks of it.
//!
//! In here: commands, and peers to watch it with (`viewer`). Not in here: the connection (`signalling`), what its clients
//! share (`core`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::super::budget::Reservation;
use super::core::SessionCore;
use super::outputs::WeakOutputs;
use super::viewer::ViewerPeer;
use crate::conversation::ClientAudio;
use crate::ids::{AvatarId, SessionId};
use crate::session::{AvatarInfo, Command, IceServer, Outputs, Peer, PeerEvent, Pushes, Refusal, Session};

/// One client's hold on a session, its own voice, and what the client takes of the process.
pub(super) struct ClientSession {
    core: Arc<SessionCore>,
    audio: ClientAudio,
    /// Whether its microphone is heard, where anybody listens.
    may_speak: AtomicBool,
    _reservation: Reservation,
}

impl ClientSession {
    pub(super) fn new(core: Arc<SessionCore>, reservation: Reservation) -> Self {
        Self { core, audio: ClientAudio::default(), may_speak: AtomicBool::new(true), _reservation: reservation }
    }

    /// Of a client that only watches.
    pub(super) fn who_watches(core: Arc<SessionCore>, reservation: Reservation) -> Self {
        Self { may_speak: AtomicBool::new(false), ..Self::new(core, reservation) }
    }
}

impl Session for ClientSession {
    fn id(&self) -> SessionId {
        self.core.id
    }

    fn avatar(&self) -> AvatarInfo {
        self.core.shown().info.clone()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.core.ice.servers()
    }

    fn relay_only(&self) -> bool {
        self.core.ice.relay_only
    }

    fn listens(&self) -> bool {
        self.may_speak.load(Ordering::Relaxed) && self.core.listeners.is_some()
    }

    fn mute(&self) {
        self.may_speak.store(false, Ordering::Relaxed);
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        Box::pin(async move {
            let viewer = ViewerPeer::open(&self.core, offer, events, self.listens()).await?;
            Ok(Box::new(viewer) as Box<dyn Peer>)
        })
    }

    fn swap_avatar(&self, id: AvatarId) -> BoxFuture<'static, Result<AvatarInfo, Refusal>> {
        let (casting, core) = (Arc::clone(&self.core.casting), Arc::downgrade(&self.core));
        Box::pin(casting.swap(core, id).in_current_span())
    }

    fn pushes(&self) -> Arc<dyn Pushes> {
        Arc::clone(&self.core.pushes) as _
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        self.core.conversation.submit(command, &self.audio)
    }

    fn outputs(&self) -> Arc<dyn Outputs> {
        Arc::new(WeakOutputs::of(&self.core.outputs))
    }
}
