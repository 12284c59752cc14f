//! The engine: the one thread that owns the network and draws every session's mouths.
//!
//! In here: its bounded queue, the order of work, warm-up, joining. Not in here: the network (`musetalk`), what a
//! session wants drawn (`driver`). Runs on: its own OS thread, "engine".
//!
//! Work is done earliest deadline first across sessions. A batch whose utterance was cancelled or that nobody waits
//! for any more is skipped before it costs.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::window::BATCH_SIZES;
use super::{AvatarHandle, LipSync, LipSyncError, MouthBatch, MouthFrame};

/// Batches waiting: each session has two in the air at most, so this is 32 sessions; senders wait beyond.
const QUEUE: usize = 64;
/// The first calls of a shape are many times slower than the rest (buffers, kernels being chosen).
const WARM_UP_ROUNDS: usize = 2;
/// A batch that takes longer will never be watched live, so there is nothing to warm up for.
const HOPELESS: Duration = Duration::from_secs(2);
/// Below playout and the encoders, which must win when the machine is short of time.
const NICENESS: i32 = 5;

struct Job {
    batch: MouthBatch,
    deadline: Instant,
    queued: Instant,
    cancelled: CancellationToken,
    span: tracing::Span,
    reply: oneshot::Sender<Result<Vec<MouthFrame>, LipSyncError>>,
}

enum Request {
    Draw(Job),
    AddAvatar {
        latents: PathBuf,
        decode_rows: Option<[i64; 2]>,
        reply: oneshot::Sender<Result<AvatarHandle, LipSyncError>>,
    },
}

/// A way to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
}

/// Owns the thread; it ends when the last [`Engine`] is dropped. Join it before `main` returns: libtorch's
/// destructors crash under a thread that still computes.
pub struct EngineThread(JoinHandle<()>);

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine thread did not start: {0}")]
    Spawn(#[from] std::io::Error),
    #[error("the engine has ended")]
    Ended,
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
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the engine keeps its priority");
            }
            match build() {
                Ok(network) => {
                    // Nobody waits if the server gave up meanwhile; the queue is then closed too.
                    let _ = built.send(Ok(()));
                    run(network, queue);
                }
                Err(error) => {
                    let _ = built.send(Err(error));
                }
            }
        })?;
        ready.await.map_err(|_| EngineError::Ended)??;
        Ok((Self { requests }, EngineThread(thread)))
    }

    /// Loads an avatar's latents and draws its first mouths so that a viewer does not wait for the warm-up.
    pub async fn add_avatar(
        &self,
        latents: PathBuf,
        decode_rows: Option<[i64; 2]>,
    ) -> Result<AvatarHandle, EngineError> {
        let (reply, done) = oneshot::channel();
        let request = Request::AddAvatar { latents, decode_rows, reply };
        self.requests.send(request).await.map_err(|_| EngineError::Ended)?;
        Ok(done.await.map_err(|_| EngineError::Ended)??)
    }

    /// Queues a batch, waiting for room, and returns where its mouths will arrive. `deadline` is when the first of
    /// its frames is due on screen. Dropping the receiver or cancelling the token withdraws the batch.
    pub async fn draw(
        &self,
        batch: MouthBatch,
        deadline: Instant,
        cancelled: CancellationToken,
    ) -> Result<oneshot::Receiver<Result<Vec<MouthFrame>, LipSyncError>>, EngineError> {
        let (reply, mouths) = oneshot::channel();
        let span = tracing::Span::current();
        let job = Job { batch, deadline, queued: Instant::now(), cancelled, span, reply };
        self.requests.send(Request::Draw(job)).await.map_err(|_| EngineError::Ended)?;
        Ok(mouths)
    }
}

impl Engine {
    /// Resolves when the thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }
}

impl EngineThread {
    /// Waits for the thread. True if it ended without a panic.
    pub fn join(self) -> bool {
        self.0.join().is_ok()
    }
}

/// Orders jobs so that a [`BinaryHeap`], which gives its greatest first, gives the earliest deadline first.
struct ByDeadline(Job);

impl PartialEq for ByDeadline {
    fn eq(&self, other: &Self) -> bool {
        self.0.deadline == other.0.deadline
    }
}

impl Eq for ByDeadline {}

impl PartialOrd for ByDeadline {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByDeadline {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.deadline.cmp(&self.0.deadline)
    }
}

fn run(mut network: Box<dyn LipSync>, mut queue: mpsc::Receiver<Request>) {
    let mut waiting: BinaryHeap<ByDeadline> = BinaryHeap::new();
    loop {
        let next = if waiting.is_empty() { queue.blocking_recv() } else { queue.try_recv().ok() };
        match next {
            Some(Request::Draw(job)) => {
                waiting.push(ByDeadline(job));
                if waiting.len() < QUEUE {
                    // All that has arrived is looked at before the most urgent is chosen.
                    continue;
                }
            }
            Some(Request::AddAvatar { latents, decode_rows, reply }) => {
                let _ = reply.send(add_avatar(network.as_mut(), &latents, decode_rows));
                continue;
            }
            None if waiting.is_empty() => return,
            None => {}
        }
        if let Some(ByDeadline(job)) = waiting.pop() {
            draw(network.as_mut(), job);
        }
    }
}

fn draw(network: &mut dyn LipSync, job: Job) {
    if job.cancelled.is_cancelled() || job.reply.is_closed() {
        crate::metrics::engine_skipped();
        return;
    }
    let _entered = job.span.entered();
    let started = Instant::now();
    crate::metrics::engine_waited(started - job.queued);
    let mouths = network.infer(&job.batch);
    crate::metrics::inferred(job.batch.poses.len(), started.elapsed());
    // Nobody left to tell: cancelled while it was drawn.
    let _ = job.reply.send(mouths);
}

fn add_avatar(
    network: &mut dyn LipSync,
    latents: &std::path::Path,
    decode_rows: Option<[i64; 2]>,
) -> Result<AvatarHandle, LipSyncError> {
    let avatar = network.add_avatar(latents, decode_rows)?;
    for size in BATCH_SIZES {
        let audio = vec![0.0; crate::timeline::LIPSYNC_SAMPLES_PER_FRAME * size].into();
        let batch = MouthBatch { avatar, poses: vec![0; size], audio, first_frame_at: 0 };
        for _ in 0..WARM_UP_ROUNDS {
            let started = Instant::now();
            network.infer(&batch)?;
            let took = started.elapsed();
            if took > HOPELESS {
                let seconds = took.as_secs_f64() / f64::from(u32::try_from(size).unwrap_or(1));
                tracing::warn!(
                    "this model takes about {seconds:.1} s for a frame on this machine, where 0.04 s is real time: \
                     films will come slowly and live sessions will show few mouths"
                );
                return Ok(avatar);
            }
        }
    }
    Ok(avatar)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc as blocking};

    use super::*;

    /// Draws nothing; remembers the first pose of each batch and waits for leave to finish the one marked 99.
    struct Recorder {
        drawn: Arc<Mutex<Vec<usize>>>,
        leave: blocking::Receiver<()>,
    }

    impl LipSync for Recorder {
        fn add_avatar(&mut self, _: &std::path::Path, _: Option<[i64; 2]>) -> Result<AvatarHandle, LipSyncError> {
            Ok(AvatarHandle(0))
        }

        fn infer(&mut self, batch: &MouthBatch) -> Result<Vec<MouthFrame>, LipSyncError> {
            if batch.poses[0] == 99 {
                self.leave.recv().unwrap();
            }
            self.drawn.lock().unwrap().push(batch.poses[0]);
            Ok(Vec::new())
        }
    }

    fn batch(mark: usize) -> MouthBatch {
        MouthBatch { avatar: AvatarHandle(0), poses: vec![mark], audio: Arc::from([]), first_frame_at: 0 }
    }

    #[tokio::test]
    async fn the_most_urgent_batch_is_drawn_first_and_cancelled_ones_never() {
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (give_leave, leave) = blocking::channel();
        let recorder = Recorder { drawn: Arc::clone(&drawn), leave };
        let (engine, thread) = Engine::spawn(move || Ok(Box::new(recorder) as Box<dyn LipSync>)).await.unwrap();
        let now = Instant::now();
        let cancelled = CancellationToken::new();
        let token = CancellationToken::new;
        let first = engine.draw(batch(99), now, token()).await.unwrap();
        let late = engine.draw(batch(3), now + Duration::from_secs(3), token()).await.unwrap();
        let soon = engine.draw(batch(1), now + Duration::from_secs(1), token()).await.unwrap();
        let withdrawn = engine.draw(batch(2), now, cancelled.clone()).await.unwrap();
        drop(engine.draw(batch(4), now, token()).await.unwrap());
        cancelled.cancel();
        give_leave.send(()).unwrap();
        first.await.unwrap().unwrap();
        late.await.unwrap().unwrap();
        soon.await.unwrap().unwrap();
        assert!(withdrawn.await.is_err());
        // The marked batch may have been taken before the others came; the rest is in order of deadline.
        assert_eq!(*drawn.lock().unwrap(), [99, 1, 3]);
        drop(engine);
        assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
    }

    #[tokio::test]
    async fn a_network_that_does_not_load_is_an_error_of_spawn() {
        let build = || Err(LipSyncError::Config { field: "unet".into(), problem: "is odd".into() });
        assert!(matches!(Engine::spawn(build).await, Err(EngineError::LipSync(LipSyncError::Config { .. }))));
    }
}
