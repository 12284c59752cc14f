//! The owner of what must be closed in order when a session ends: its place in playout, its pipelines, its avatar.
//!
//! Runs on: one task a session, which ends once nobody holds the session or the server stops.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::avatar_cache::AvatarCache;
use super::outputs::SessionOutputs;
use crate::conversation::Turns;
use crate::ids::SessionId;
use crate::latency::Stage;
use crate::media::{Broadcast, MediaEvent};
use crate::playout::Playout;

/// Closes a session in order once nobody holds it.
pub(super) struct Supervisor {
    pub(super) id: SessionId,
    /// Cancelled when the server stops; cancels the conversation.
    pub(super) ended: CancellationToken,
    /// Closed once nobody holds the session.
    pub(super) gone: mpsc::Receiver<()>,
    pub(super) playout: Playout,
    pub(super) broadcast: Broadcast,
    pub(super) media: mpsc::Receiver<MediaEvent>,
    pub(super) turns: Turns,
    pub(super) avatars: Arc<AvatarCache>,
    pub(super) outputs: Arc<SessionOutputs>,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                _ = self.gone.recv() => break,
                () = self.ended.cancelled() => break,
                Some(event) = self.media.recv() => self.heed(event),
            }
        }
        self.ended.cancel();
        // From here on no pair arrives at the pipelines.
        let sink = self.playout.remove(self.id).await;
        let (broadcast, outputs) = (self.broadcast, self.outputs);
        // To NULL joins GStreamer's threads, which may block.
        let closed = tokio::task::spawn_blocking(move || {
            // They write their last while there is an encode.
            outputs.close();
            drop(outputs);
            drop(sink);
            drop(broadcast);
        });
        if closed.await.is_err() {
            tracing::error!("closing the session's pipelines panicked");
        }
        crate::metrics::session_closed();
        tracing::info!("session closed");
        self.avatars.tidy_up().await;
    }

    fn heed(&self, event: MediaEvent) {
        match event {
            // Of several encodes, whichever is first counts.
            MediaEvent::FirstPacket { utterance, at } => {
                if let Some(times) = self.turns.times(utterance) {
                    times.reach(Stage::FirstPacket, at);
                }
            }
            // Its viewers hear of it from their own peers and offer again, which starts another one.
            MediaEvent::PublisherFailed { codec, element, message } => {
                tracing::error!(codec = codec.encoding_name(), element, message, "a pipeline of the session failed");
            }
        }
    }
}
