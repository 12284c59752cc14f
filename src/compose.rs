//! A generated mouth becomes a full frame.
//!
//! In here: the compose threads and their bounded queues; `mark` draws what measurements look for. Not in here: the arithmetic
//! (`picture::blend`, `picture::color`), which frame and when (`animation`, `playout`).
//! Runs on: its own OS threads, "compose", few for all sessions: the work is a quarter of a millisecond a frame of 512x512, and
//! grows with the frame.

mod mark;

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::avatar::OwnFrames;
use crate::lipsync::Mouth;
use crate::picture::{AvatarFrame, I420Frame, Mask, blend, color};
use crate::worker::{Worker, threads_for_all_sessions};

/// Pastes waiting for a thread: two batches of four sessions. More would only hide that it is too slow.
const QUEUE: usize = 64;

/// A mouth that somebody waits to see in a frame.
struct PasteRequest {
    own: OwnFrames,
    pose: u64,
    mouth: Option<Arc<Mouth>>,
    marked: bool,
    reply: oneshot::Sender<Arc<I420Frame>>,
}

/// A way to the compose threads.
#[derive(Clone)]
pub struct Composer {
    /// One for each thread.
    queues: Arc<[mpsc::Sender<PasteRequest>]>,
    marking: bool,
}

/// Owns the threads, which end when this or the last [`Composer`] is dropped.
pub struct ComposeThreads(Vec<Worker>);

/// A thread has ended, so nothing is pasted any more.
#[derive(Debug, thiserror::Error)]
#[error("a compose thread has ended")]
pub struct ComposeEnded;

impl Composer {
    /// Starts the threads; an error if the machine gives none.
    pub fn spawn() -> std::io::Result<(Self, ComposeThreads)> {
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..threads_for_all_sessions() {
            let (requests, queue) = mpsc::channel(QUEUE);
            // For waiting for two things at once.
            let waits = tokio::runtime::Builder::new_current_thread().build()?;
            queues.push(requests);
            threads.push(Worker::spawn("compose", move |stop| compose(queue, &waits, &stop))?);
        }
        Ok((Self { queues: queues.into(), marking: false }, ComposeThreads(threads)))
    }

    /// The same way to the threads; what they paste carries a mark or not.
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
        // A session has one at a time, so whichever thread has least to do may take it.
        let freest = self.queues.iter().max_by_key(|queue| queue.capacity()).ok_or(ComposeEnded)?;
        freest.send(request).await.map_err(|_| ComposeEnded)?;
        done.await.map_err(|_| ComposeEnded)
    }

    /// Resolves when a thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        select_all(self.queues.iter().map(|queue| Box::pin(queue.closed()))).await;
    }
}

/// What a thread does, until nobody can ask any more or its owner goes.
fn compose(mut queue: mpsc::Receiver<PasteRequest>, waits: &Runtime, stop: &CancellationToken) {
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

impl ComposeThreads {
    /// Ends the threads and waits for them. True if all ended without a panic.
    pub fn join(self) -> bool {
        // All of them, whatever the first says.
        self.0.into_iter().map(Worker::join).filter(|sound| !sound).count() == 0
    }
}

#[cfg(test)]
mod tests;
