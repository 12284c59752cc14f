//! A generated mouth becomes a full frame.
//!
//! In here: the compose thread and its bounded queue; `mark` draws what measurements look for. Not in here: the arithmetic
//! (`picture::blend`, `picture::color`), which frame and when (`animation`, `playout`).
//! Runs on: its own OS thread, "compose", one for all sessions: the work is a quarter of a millisecond a frame.

mod mark;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::avatar::OwnFrames;
use crate::lipsync::Mouth;
use crate::picture::{AvatarFrame, I420Frame, Mask, blend, color};
use crate::worker::Worker;

/// Pastes waiting for the thread: two batches of four sessions. More would only hide that it is too slow.
const QUEUE: usize = 64;

/// A mouth that somebody waits to see in a frame.
struct PasteRequest {
    own: OwnFrames,
    pose: u64,
    mouth: Option<Arc<Mouth>>,
    marked: bool,
    reply: oneshot::Sender<Arc<I420Frame>>,
}

/// A way to the compose thread.
#[derive(Clone)]
pub struct Composer {
    requests: mpsc::Sender<PasteRequest>,
    marking: bool,
}

/// Owns the thread, which ends when this or the last [`Composer`] is dropped.
pub struct ComposeThread(Worker);

/// The thread has ended, so nothing is pasted any more.
#[derive(Debug, thiserror::Error)]
#[error("the compose thread has ended")]
pub struct ComposeEnded;

impl Composer {
    /// Starts the thread; an error if the machine gives none.
    pub fn spawn() -> std::io::Result<(Self, ComposeThread)> {
        let (requests, mut queue) = mpsc::channel::<PasteRequest>(QUEUE);
        // For waiting for two things at once.
        let waits = tokio::runtime::Builder::new_current_thread().build()?;
        let thread = Worker::spawn("compose", move |stop| {
            while let Some(request) = waits.block_on(stop.run_until_cancelled(queue.recv())).flatten() {
                if request.reply.is_closed() {
                    continue;
                }
                let started = std::time::Instant::now();
                let frame = match &request.mouth {
                    None => request.own.picture(request.pose),
                    Some(mouth) => {
                        let mut frame = paste(&request.own, request.pose, mouth);
                        if request.marked {
                            mark::draw(&mut frame);
                        }
                        Arc::new(frame)
                    }
                };
                crate::metrics::compose_took(started.elapsed());
                // Nobody left to tell: the utterance was interrupted meanwhile.
                let _ = request.reply.send(frame);
            }
        })?;
        Ok((Self { requests, marking: false }, ComposeThread(thread)))
    }

    /// The same way to the thread; what it pastes carries a mark or not.
    pub fn marking(self, marking: bool) -> Self {
        Self { marking, ..self }
    }

    /// Pastes a mouth into the avatar's own frame at `pose`; without one, it is that frame.
    pub async fn paste(
        &self,
        own: OwnFrames,
        pose: u64,
        mouth: Option<Arc<Mouth>>,
    ) -> Result<Arc<I420Frame>, ComposeEnded> {
        let (reply, done) = oneshot::channel();
        let request = PasteRequest { own, pose, mouth, marked: self.marking, reply };
        self.requests.send(request).await.map_err(|_| ComposeEnded)?;
        done.await.map_err(|_| ComposeEnded)
    }

    /// Resolves when the thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }
}

/// The avatar's own frame of a pose with the mouth in it; one that was pasted on its device must have been pasted into this
/// very frame. A pose without a frame has no mouth either.
pub fn paste(own: &OwnFrames, pose: u64, mouth: &Mouth) -> I420Frame {
    own.with_mouth(pose, |frame| paste_into(frame, &own.avatar().mask, mouth))
}

fn paste_into(own: &AvatarFrame, mask: &Mask, mouth: &Mouth) -> I420Frame {
    match mouth {
        Mouth::Crop(crop) => blend::paste(own, mask, crop),
        Mouth::Pasted(planes) => {
            let mut frame = own.picture.as_ref().clone();
            color::write_planes(&mut frame, &own.region, &planes.data);
            frame
        }
    }
}

impl ComposeThread {
    /// Ends the thread and waits for it. True if it ended without a panic.
    pub fn join(self) -> bool {
        self.0.join()
    }
}

#[cfg(test)]
mod tests;
