//! The engine: the one thread that owns the network and draws every session's mouths.
//!
//! In here: the ways to it, its bounded queue, joining. Not in here: what the thread does in which order (`thread`), what is
//! drawn next (`scheduler`), drawing it (`inference`), getting avatars ready between two batches (`maintenance`), the network
//! (`musetalk`), what a session wants drawn (`animation`), which device it is (`device_pool`). Runs on: whoever asks.

mod inference;
mod maintenance;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use maintenance::Task;
use thread::Thread;

use super::scheduler::Pending;
use super::{AvatarAssets, AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use crate::worker::Worker;

/// Runs waiting: each session has three in the air at most, so a hundred and seventy sessions; senders wait beyond. What is
/// most urgent is only chosen among those that are here.
const QUEUE: usize = 512;
/// Below playout and the encoders, which must win when the machine is short of time.
const NICENESS: i32 = 5;

/// A run's mouths, one for each of its frames: `None` where there was no time to draw it.
pub type DrawnRun = Vec<Option<Mouth>>;

/// A run that somebody waits for.
struct DrawRequest {
    run: MouthRun,
    queued: Instant,
    cancelled: CancellationToken,
    span: tracing::Span,
    reply: oneshot::Sender<Result<DrawnRun, LipSyncError>>,
}

/// When a run is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Urgency {
    /// When its first frame is due on screen; `None` if nobody waits with a clock in hand.
    pub deadline: Option<Instant>,
    /// Playout waits for it, so it is drawn however late.
    pub awaited: bool,
}

enum Request {
    Draw(Pending<DrawRequest>),
    Maintain(Task),
}

/// A way to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    /// Grows when an avatar is added whose network hears more.
    context_samples: Arc<AtomicUsize>,
    /// Frames a second that it has shown to draw, as the bits of an `f64`; 0 before anything was drawn.
    rate: Arc<AtomicU64>,
}

/// Owns the thread, which ends when this or the last [`Engine`] is dropped.
pub struct EngineThread(Worker);

/// Why an engine does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The machine gives no thread.
    #[error("the engine thread did not start: {0}")]
    Spawn(#[from] std::io::Error),
    /// Its thread has ended: it was told to, or its device or its network failed for good.
    #[error("the engine has ended")]
    Ended,
    /// The network refused, or failed at, what it was asked.
    #[error(transparent)]
    LipSync(#[from] LipSyncError),
}

impl Engine {
    /// Builds the network on the new thread and returns when it is loaded.
    pub async fn spawn<B>(build: B) -> Result<(Self, EngineThread), EngineError>
    where
        B: FnOnce() -> Result<Box<dyn LipSync>, LipSyncError> + Send + 'static,
    {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (built, ready) = oneshot::channel();
        let rate = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&rate);
        // For waiting with an end to it, which the queue's own blocking wait has not.
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = Worker::spawn("engine", move |stop| {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the engine keeps its priority");
            }
            match build() {
                Ok(network) => {
                    // Nobody waits if the server gave up meanwhile; the queue is then closed too.
                    let _ = built.send(Ok(network.context_samples()));
                    Thread::new(network, queue, clock, shown, stop).run();
                }
                Err(error) => {
                    let _ = built.send(Err(error));
                }
            }
        })?;
        let context_samples = Arc::new(AtomicUsize::new(ready.await.map_err(|_| EngineError::Ended)??));
        Ok((Self { requests, context_samples, rate }, EngineThread(thread)))
    }

    async fn ask<T>(
        &self,
        task: impl FnOnce(oneshot::Sender<Result<T, LipSyncError>>) -> Task,
    ) -> Result<T, EngineError> {
        let (reply, done) = oneshot::channel();
        self.requests.send(Request::Maintain(task(reply))).await.map_err(|_| EngineError::Ended)?;
        Ok(done.await.map_err(|_| EngineError::Ended)??)
    }

    /// Loads an avatar. As everything but drawing, it is done when no mouth is waited for.
    pub(super) async fn add_avatar(&self, assets: AvatarAssets) -> Result<AvatarHandle, EngineError> {
        let (handle, context_samples) = self.ask(|reply| Task::AddAvatar { assets, reply }).await?;
        self.context_samples.fetch_max(context_samples, Ordering::Relaxed);
        Ok(handle)
    }

    /// Draws an avatar's first mouths so that a viewer does not wait for the warm-up.
    pub(super) async fn warm_up(&self, avatar: AvatarHandle) -> Result<(), EngineError> {
        self.ask(|reply| Task::WarmUp { avatar, reply }).await
    }

    /// Lets go of an avatar that nobody draws any more.
    pub(super) async fn remove_avatar(&self, avatar: AvatarHandle) {
        // An engine that has ended holds nothing.
        let _ = self.requests.send(Request::Maintain(Task::RemoveAvatar { avatar })).await;
    }

    /// Queues a run of a session, waiting for room, and returns where its mouths will arrive. Dropping the receiver or cancelling the
    /// token withdraws it.
    pub(super) async fn draw(
        &self,
        session: u64,
        run: MouthRun,
        urgency: Urgency,
        cancelled: CancellationToken,
    ) -> Result<oneshot::Receiver<Result<DrawnRun, LipSyncError>>, EngineError> {
        let (reply, mouths) = oneshot::channel();
        let frames = run.poses.len();
        let item = DrawRequest { run, queued: Instant::now(), cancelled, span: tracing::Span::current(), reply };
        let pending = Pending { session, deadline: urgency.deadline, frames, awaited: urgency.awaited, item };
        self.requests.send(Request::Draw(pending)).await.map_err(|_| EngineError::Ended)?;
        Ok(mouths)
    }

    /// Frames a second that the device draws if it does nothing else; `None` before anything was drawn.
    pub(super) fn frames_per_second(&self) -> Option<f64> {
        Some(f64::from_bits(self.rate.load(Ordering::Relaxed))).filter(|rate| *rate > 0.0)
    }

    /// As [`LipSync::context_samples`], of its network.
    pub(super) fn context_samples(&self) -> usize {
        self.context_samples.load(Ordering::Relaxed)
    }

    /// Whether its thread has ended and it draws nothing any more.
    pub(super) fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Resolves when the thread has ended, which while the server runs is a fault.
    pub(super) async fn ended(&self) {
        self.requests.closed().await;
    }
}

impl EngineThread {
    /// Ends the thread and waits for it. True if it ended without a panic.
    pub fn join(self) -> bool {
        self.0.join()
    }
}

#[cfg(test)]
mod overload;
#[cfg(test)]
mod tests;
