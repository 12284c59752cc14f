//! The second half of a segment's way: mouths come back from the engine and are pasted, in order, and sent to playout.
//!
//! Not in here: what is drawn and when (`animator`). Runs on: the session's tokio task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{AnimationError, InFlight};
use crate::avatar::Avatar;
use crate::compose::Composer;
use crate::lipsync::devices::Desk;
use crate::lipsync::{LipSyncError, Mouth};
use crate::playout::Command;

/// Second half: mouths come back in order, are pasted and sent on.
pub(super) struct Finisher<'a> {
    pub desk: &'a Desk,
    pub composer: Composer,
    pub avatar: Arc<Avatar>,
    pub commands: mpsc::Sender<Command>,
}

#[derive(Default)]
pub(super) struct Finished {
    pub first_mouth: Option<Duration>,
    pub error: Option<LipSyncError>,
}

impl Finisher<'_> {
    pub async fn run(self, mut batches: mpsc::Receiver<InFlight>) -> Result<Finished, AnimationError> {
        let mut finished = Finished::default();
        let mut last: Option<Arc<Mouth>> = None;
        while let Some(batch) = batches.recv().await {
            let mouths = match batch.mouths.await {
                Ok(Ok(mouths)) => mouths,
                // Its device has ended, and the next batch goes to another one.
                Err(_) if self.desk.can_draw() => vec![None; batch.frames],
                Err(_) => return Err(AnimationError::Ended("engine")),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the voice goes on without lip-sync");
                    finished.error = Some(error);
                    last = None;
                    vec![None; batch.frames]
                }
            };
            for (at, mouth) in (0u64..).zip(mouths) {
                let pose = batch.pose + at;
                let fresh = mouth.is_some();
                if !fresh && last.as_ref().is_some_and(|last| !last.can_move()) {
                    // Playout shows the picture before once more.
                    continue;
                }
                last = mouth.map(Arc::new).or(last);
                let picture = match &last {
                    Some(mouth) => self
                        .composer
                        .paste(Arc::clone(&self.avatar), pose, Arc::clone(mouth))
                        .await
                        .map_err(|_| AnimationError::Ended("compose"))?,
                    None => Arc::clone(&self.avatar.frame(pose).picture),
                };
                finished.first_mouth.get_or_insert_with(|| batch.sent.elapsed());
                let command = Command::Mouth { segment: batch.segment, index: batch.first + at, picture, fresh };
                self.commands.send(command).await.map_err(|_| AnimationError::Ended("playout"))?;
            }
        }
        Ok(finished)
    }
}
