//! One viewer of a session: its peer, what it takes of the server, and who listens to its microphone.
//!
//! Not in here: the peer's pipeline (`media::viewer`), what is heard (`hearing`).

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::super::admission::ViewerSlot;
use super::core::{SessionCore, WeakSession};
use super::is_full;
use crate::hearing::Listener;
use crate::ids::ViewerId;
use crate::media::{IceConfig, Viewer};
use crate::session::{IceCandidate, Peer, PeerEvent, Refusal};

/// A viewer that was let in.
pub(super) struct ViewerPeer {
    viewer: Viewer,
    /// What the button to talk acts on; the listener ends with the viewer's pipeline.
    button: Option<watch::Sender<bool>>,
    _slot: ViewerSlot,
}

impl ViewerPeer {
    /// Takes a slot for it, answers its offer, and has its microphone listened to if that is wanted and anybody listens.
    pub(super) async fn open(
        core: &Arc<SessionCore>,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
        listens: bool,
    ) -> Result<Self, Refusal> {
        let slot = core.admission.admit_viewer(&core.audience, core.devices.frames_per_second()).map_err(is_full)?;
        let listener = core.listeners.as_ref().filter(|_| listens).map(|listeners| {
            let (listener, listening) = listeners.listen(core.reference.clone(), Arc::new(WeakSession::of(core)));
            core.tracker.spawn(listening.in_current_span());
            listener
        });
        let (microphone, button) = listener.map(|Listener { microphone, button }| (microphone, button)).unzip();
        let ice = IceConfig { one_port: core.one_port.clone(), ..core.ice.for_webrtcbin() };
        let viewer = core.broadcast.open_viewer(offer, events, &ice, microphone).await?;
        Ok(Self { viewer, button, _slot: slot })
    }
}

impl Peer for ViewerPeer {
    fn id(&self) -> ViewerId {
        self.viewer.id()
    }

    fn answer(&self) -> &str {
        self.viewer.answer()
    }

    fn renegotiate(&self, offer: &str) -> Option<Result<String, Refusal>> {
        self.viewer.renegotiate(offer)
    }

    fn add_candidate(&self, candidate: &IceCandidate) {
        self.viewer.add_candidate(candidate);
    }

    fn push_to_talk(&self, is_pressed: bool) {
        if let Some(button) = &self.button {
            button.send_replace(is_pressed);
        }
    }
}
