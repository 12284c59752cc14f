//! The second half of a sentence's way: mouths come back from the engine in order, are pasted, and go to playout.
//!
//! Not in here: what is drawn and when (`planner`). Runs on: the session's tokio task that speaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{AnimationError, BatchInFlight};
use crate::compose::Composer;
use crate::lipsync::device_pool::DeviceLease;
use crate::lipsync::{LipSyncError, Mouth};
use crate::playout::{AvatarNumber, Command};

/// Finishes the batches of one sentence.
pub(super) struct Finisher<'a> {
    pub lease: &'a DeviceLease,
    pub composer: Composer,
    pub commands: mpsc::Sender<Command>,
}

/// What became of a sentence's mouths.
#[derive(Default)]
pub(super) struct Finished {
    /// From sending the first batch to its first picture.
    pub first_mouth: Option<Duration>,
    /// Frames that a mouth was to be drawn for.
    pub mouths: u64,
    /// Those of them that there was no time for.
    pub left_out: u64,
    /// Why the avatar's own frames are shown instead of mouths.
    pub error: Option<LipSyncError>,
}

impl Finisher<'_> {
    pub async fn run(self, mut batches: mpsc::Receiver<BatchInFlight>) -> Result<Finished, AnimationError> {
        let mut finished = Finished::default();
        let mut last: Option<Arc<Mouth>> = None;
        let mut whose = AvatarNumber::default();
        while let Some(batch) = batches.recv().await {
            if std::mem::replace(&mut whose, batch.of.number) != batch.of.number {
                // Another one's mouth does not fit.
                last = None;
            }
            let mouths = match batch.mouths.await {
                Ok(Ok(mouths)) => {
                    finished.mouths += mouths.len() as u64;
                    finished.left_out += mouths.iter().filter(|mouth| mouth.is_none()).count() as u64;
                    mouths
                }
                // Its device has ended, and the next batch goes to another one.
                Err(_) if self.lease.can_draw() => vec![None; batch.frames],
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
                let picture = self.composer.paste(batch.of.own.clone(), pose, last.clone()).await;
                let picture = picture.map_err(|_| AnimationError::Ended("compose"))?;
                finished.first_mouth.get_or_insert_with(|| batch.sent.elapsed());
                let (sentence, index) = (batch.sentence, batch.first + at);
                let command = Command::Mouth { sentence, index, picture, fresh, avatar: whose };
                self.commands.send(command).await.map_err(|_| AnimationError::Ended("playout"))?;
            }
        }
        Ok(finished)
    }
}
