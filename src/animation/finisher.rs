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

/// Which frames show the picture before once more, though the head moves: every second one whose mouth was left out, while most
/// are. Pasting and encoding take from the time that mouths are drawn in, and with few mouths a second that is what is missed.
#[derive(Default)]
struct Thinning {
    /// Of the last frames, a bit each, the latest lowest.
    left_out: u16,
    /// Whether the last one showed the picture before.
    repeated: bool,
}

impl Thinning {
    fn repeats(&mut self, fresh: bool) -> bool {
        self.left_out = self.left_out << 1 | u16::from(!fresh);
        self.repeated = !fresh && !self.repeated && self.left_out.count_ones() > u16::BITS / 2;
        self.repeated
    }
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
        let mut thinning = Thinning::default();
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
                let repeats = thinning.repeats(fresh) && last.is_some();
                if repeats || (!fresh && last.as_ref().is_some_and(|last| !last.can_move())) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// For each frame whether it shows the picture before.
    fn repeated(share: usize) -> Vec<bool> {
        let mut thinning = Thinning::default();
        (0..32).map(|frame| thinning.repeats(frame % share == 0)).skip(24).collect()
    }

    #[test]
    fn the_head_moves_in_every_frame_while_half_the_mouths_are_drawn_and_in_every_second_while_fewer_are() {
        assert_eq!(repeated(1), [false; 8]);
        assert_eq!(repeated(2), [false; 8]);
        let (moves, stands) = (false, true);
        assert_eq!(repeated(4), [moves, stands, moves, stands, moves, stands, moves, stands]);
        assert_eq!(repeated(3), [moves, stands, moves, moves, stands, moves, moves, stands]);
    }
}
