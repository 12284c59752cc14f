//! The engine: the one thread that owns the network and draws every session's mouths.
//!
//! In here: its bounded queue, joining, when it does what is no drawing. Not in here: what is drawn next (`scheduler`), drawing
//! it (`artist`), getting avatars ready between two batches (`chores`), the network (`musetalk`), what a session wants drawn
//! (`animation`), which device it is (`devices`). Runs on: its own OS thread, "engine".

mod artist;
mod chores;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use artist::Artist;
use chores::Chores;

use super::scheduler::{Chosen, LONGEST_BATCH, Next, Run, Scheduler};
use super::{AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use crate::avatar::Avatar;
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;
use crate::worker::Worker;

/// Runs waiting: each session has three in the air at most; senders wait beyond.
const QUEUE: usize = 128;
/// Below playout and the encoders, which must win when the machine is short of time.
const NICENESS: i32 = 5;

/// A run's mouths, one for each of its frames: `None` where there was no time to draw it.
pub type Mouths = Vec<Option<Mouth>>;

struct Job {
    run: MouthRun,
    queued: Instant,
    cancelled: CancellationToken,
    span: tracing::Span,
    reply: oneshot::Sender<Result<Mouths, LipSyncError>>,
}

/// When a run is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When its first frame is due on screen; `None` if nobody waits with a clock in hand.
    pub deadline: Option<Instant>,
    /// Playout waits for it, so it is drawn however late.
    pub awaited: bool,
}

enum Request {
    Draw(Run<Job>),
    Chore(Chore),
}

/// What is asked for besides mouths, and may wait for them.
enum Chore {
    AddAvatar {
        latents: PathBuf,
        decode_rows: Option<[i64; 2]>,
        reply: oneshot::Sender<Result<AvatarHandle, LipSyncError>>,
    },
    Equip {
        avatar: AvatarHandle,
        with: Equipment,
        reply: oneshot::Sender<Result<(), LipSyncError>>,
    },
    WarmUp {
        avatar: AvatarHandle,
        reply: oneshot::Sender<Result<(), LipSyncError>>,
    },
    RemoveAvatar {
        avatar: AvatarHandle,
    },
}

/// What an avatar has besides its latents.
#[derive(Clone)]
pub struct Equipment {
    /// Its own frames, for a network that pastes mouths into them by itself.
    pub avatar: Arc<Avatar>,
    /// The folder of the small decoder that it is drawn with instead of the model's.
    pub decoder: Option<PathBuf>,
}

/// A way to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    requests: mpsc::Sender<Request>,
    hears_back: usize,
    /// Frames a second that it has shown to draw, as the bits of an `f64`; 0 before anything was drawn.
    rate: Arc<AtomicU64>,
}

/// Owns the thread, which ends when this or the last [`Engine`] is dropped.
pub struct EngineThread(Worker);

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
                    let _ = built.send(Ok(network.hears_back()));
                    let (artist, scheduler) = (Artist::new(network), Scheduler::default());
                    let chores = Chores::default();
                    Thread { artist, queue, clock, scheduler, chores, rate: shown, stop }.run();
                }
                Err(error) => {
                    let _ = built.send(Err(error));
                }
            }
        })?;
        let hears_back = ready.await.map_err(|_| EngineError::Ended)??;
        Ok((Self { requests, hears_back, rate }, EngineThread(thread)))
    }

    async fn ask<T>(
        &self,
        chore: impl FnOnce(oneshot::Sender<Result<T, LipSyncError>>) -> Chore,
    ) -> Result<T, EngineError> {
        let (reply, done) = oneshot::channel();
        self.requests.send(Request::Chore(chore(reply))).await.map_err(|_| EngineError::Ended)?;
        Ok(done.await.map_err(|_| EngineError::Ended)??)
    }

    /// Loads an avatar's latents. As everything but drawing, it is done when no mouth is waited for.
    pub async fn add_avatar(
        &self,
        latents: PathBuf,
        decode_rows: Option<[i64; 2]>,
    ) -> Result<AvatarHandle, EngineError> {
        self.ask(|reply| Chore::AddAvatar { latents, decode_rows, reply }).await
    }

    /// Gives the network what an avatar has besides its latents.
    pub async fn equip(&self, avatar: AvatarHandle, with: Equipment) -> Result<(), EngineError> {
        self.ask(|reply| Chore::Equip { avatar, with, reply }).await
    }

    /// Draws an avatar's first mouths so that a viewer does not wait for the warm-up.
    pub async fn warm_up(&self, avatar: AvatarHandle) -> Result<(), EngineError> {
        self.ask(|reply| Chore::WarmUp { avatar, reply }).await
    }

    /// Lets go of an avatar that nobody draws any more.
    pub async fn remove_avatar(&self, avatar: AvatarHandle) {
        // An engine that has ended holds nothing.
        let _ = self.requests.send(Request::Chore(Chore::RemoveAvatar { avatar })).await;
    }

    /// Queues a run, waiting for room, and returns where its mouths will arrive. Dropping the receiver or cancelling the
    /// token withdraws it.
    pub async fn draw(
        &self,
        run: MouthRun,
        due: Due,
        cancelled: CancellationToken,
    ) -> Result<oneshot::Receiver<Result<Mouths, LipSyncError>>, EngineError> {
        let (reply, mouths) = oneshot::channel();
        let frames = run.poses.len();
        let item = Job { run, queued: Instant::now(), cancelled, span: tracing::Span::current(), reply };
        let run = Run { deadline: due.deadline, frames, awaited: due.awaited, item };
        self.requests.send(Request::Draw(run)).await.map_err(|_| EngineError::Ended)?;
        Ok(mouths)
    }

    /// Frames a second that the device draws if it does nothing else; `None` before anything was drawn.
    pub fn frames_per_second(&self) -> Option<f64> {
        Some(f64::from_bits(self.rate.load(Ordering::Relaxed))).filter(|rate| *rate > 0.0)
    }

    /// As [`LipSync::hears_back`].
    pub fn hears_back(&self) -> usize {
        self.hears_back
    }

    pub fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Resolves when the thread has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }
}

impl EngineThread {
    /// Ends the thread and waits for it. True if it ended without a panic.
    pub fn join(self) -> bool {
        self.0.join()
    }
}

/// What the thread has.
struct Thread {
    artist: Artist,
    queue: mpsc::Receiver<Request>,
    clock: tokio::runtime::Runtime,
    scheduler: Scheduler<Job>,
    chores: Chores,
    rate: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Thread {
    /// Draws until nobody can ask any more, or its owner goes.
    fn run(mut self) {
        while !self.stop.is_cancelled() {
            // All that has arrived is looked at before the most urgent is chosen.
            while self.scheduler.len() < QUEUE {
                match self.queue.try_recv() {
                    Ok(request) => self.accept(request),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            let gone = |job: &Job| job.cancelled.is_cancelled() || job.reply.is_closed();
            self.scheduler.withdraw(gone).iter().for_each(|_| crate::metrics::engine_skipped());
            for job in self.scheduler.take_late(Instant::now(), &self.artist.capacity) {
                let _ = job.reply.send(Ok(vec![None; job.run.poses.len()]));
            }
            match self.scheduler.next(Instant::now(), &self.artist.capacity) {
                Next::Draw(chosen) => {
                    if !self.draw(chosen) {
                        return;
                    }
                    self.chores.after_a_batch(&mut self.artist);
                }
                Next::Wait(until) if self.chores.step_until(&mut self.artist, until) => {}
                Next::Nothing if self.chores.step(&mut self.artist) => self.tell_rate(),
                Next::Wait(until) => {
                    let (queue, stop) = (&mut self.queue, &self.stop);
                    let receive = async { tokio::time::timeout_at(until.into(), asked(queue, stop)).await };
                    match self.clock.block_on(receive) {
                        Ok(Some(request)) => self.accept(request),
                        Ok(None) => return,
                        // It is time to draw.
                        Err(_) => {}
                    }
                }
                Next::Nothing => match self.clock.block_on(asked(&mut self.queue, &self.stop)) {
                    Some(request) => self.accept(request),
                    None => return,
                },
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Draw(run) => self.scheduler.push(run),
            Request::Chore(chore) => self.chores.push(chore),
        }
    }

    fn tell_rate(&self) {
        let rate = self.artist.capacity.frames_per_second(LONGEST_BATCH).unwrap_or(0.0);
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// False if the device is at its end; whose runs were to be drawn is told so by its reply being dropped.
    fn draw(&mut self, chosen: Vec<Chosen<Job>>) -> bool {
        let (mut asked, mut runs) = (Vec::with_capacity(chosen.len()), Vec::new());
        for Chosen { item: job, every_second } in chosen {
            crate::metrics::engine_waited(job.queued.elapsed());
            let parts = if every_second { apart(&job.run) } else { vec![job.run.clone()] };
            asked.push((job, parts.len(), every_second));
            runs.extend(parts);
        }
        let drawn = self.artist.draw(&runs);
        if let Some(Err(error)) = drawn.iter().find(|drawn| drawn.as_ref().is_err_and(LipSyncError::is_the_devices_end))
        {
            tracing::error!(%error, "the device draws nothing any more");
            // Before anybody is told, so that whoever is asks elsewhere.
            self.queue.close();
            return false;
        }
        self.tell_rate();
        let mut drawn = drawn.into_iter();
        for (job, parts, every_second) in asked {
            let _entered = job.span.enter();
            let mouths = drawn.by_ref().take(parts).collect::<Result<Vec<_>, _>>().map(|parts| {
                let mouths = parts.into_iter().flatten().map(Some);
                let skipped = |mouth| [mouth, None];
                let frames = job.run.poses.len();
                if every_second { mouths.flat_map(skipped).take(frames).collect() } else { mouths.collect() }
            });
            // Nobody left to tell: cancelled while it was drawn.
            let _ = job.reply.send(mouths);
        }
        true
    }
}

/// The next request; `None` if none will be heard any more.
async fn asked(queue: &mut mpsc::Receiver<Request>, stop: &CancellationToken) -> Option<Request> {
    stop.run_until_cancelled(queue.recv()).await.flatten()
}

/// A run's first frame and every second one after it, each as a run of its own.
fn apart(run: &MouthRun) -> Vec<MouthRun> {
    let frame = |(at, pose): (usize, &usize)| MouthRun {
        avatar: run.avatar,
        poses: vec![*pose],
        audio: Arc::clone(&run.audio),
        first_frame_at: run.first_frame_at + at * LIPSYNC_SAMPLES_PER_FRAME,
    };
    run.poses.iter().enumerate().step_by(2).map(frame).collect()
}

#[cfg(test)]
mod tests;
