//! The engine: the one thread that owns the network and draws every session's mouths.
//!
//! In here: its bounded queue, warm-up, joining, and that one session's fault stays its own. Not in here: what is drawn
//! next (`scheduler`), the network (`musetalk`), what a session wants drawn (`driver`). Runs on: its own OS thread,
//! "engine".

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::capacity::Capacity;
use super::scheduler::{Chosen, LONGEST_BATCH, Next, Run, Scheduler};
use super::window::BATCH_SIZES;
use super::{AvatarHandle, LipSync, LipSyncError, MouthFrame, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// Runs waiting: each session has three in the air at most; senders wait beyond.
const QUEUE: usize = 128;
/// The first calls of a shape are many times slower than the rest (buffers, kernels being chosen).
const WARM_UP_ROUNDS: usize = 2;
/// A batch that takes longer will never be watched live, so there is nothing to warm up for.
const HOPELESS: Duration = Duration::from_secs(2);
/// Below playout and the encoders, which must win when the machine is short of time.
const NICENESS: i32 = 5;

/// A run's mouths, one for each of its frames: `None` where there was no time to draw it.
pub type Mouths = Vec<Option<MouthFrame>>;

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
    /// Frames a second that it has shown to draw, as the bits of an `f64`; 0 before anything was drawn.
    rate: Arc<AtomicU64>,
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
        let rate = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&rate);
        // For waiting with an end to it, which the queue's own blocking wait has not.
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the engine keeps its priority");
            }
            match build() {
                Ok(network) => {
                    // Nobody waits if the server gave up meanwhile; the queue is then closed too.
                    let _ = built.send(Ok(()));
                    Thread {
                        network,
                        queue,
                        clock,
                        scheduler: Scheduler::default(),
                        capacity: Capacity::default(),
                        rate: shown,
                    }
                    .run();
                }
                Err(error) => {
                    let _ = built.send(Err(error));
                }
            }
        })?;
        ready.await.map_err(|_| EngineError::Ended)??;
        Ok((Self { requests, rate }, EngineThread(thread)))
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

/// What the thread has.
struct Thread {
    network: Box<dyn LipSync>,
    queue: mpsc::Receiver<Request>,
    clock: tokio::runtime::Runtime,
    scheduler: Scheduler<Job>,
    capacity: Capacity,
    rate: Arc<AtomicU64>,
}

impl Thread {
    /// Draws until nobody can ask any more.
    fn run(mut self) {
        loop {
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
            for job in self.scheduler.take_late(Instant::now()) {
                let _ = job.reply.send(Ok(vec![None; job.run.poses.len()]));
            }
            match self.scheduler.next(Instant::now(), &self.capacity) {
                Next::Draw(chosen) => self.draw(chosen),
                Next::Wait(until) => {
                    let receive = async { tokio::time::timeout_at(until.into(), self.queue.recv()).await };
                    match self.clock.block_on(receive) {
                        Ok(Some(request)) => self.accept(request),
                        Ok(None) => return,
                        // It is time to draw.
                        Err(_) => {}
                    }
                }
                Next::Nothing => match self.queue.blocking_recv() {
                    Some(request) => self.accept(request),
                    None => return,
                },
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Draw(run) => self.scheduler.push(run),
            Request::AddAvatar { latents, decode_rows, reply } => {
                let _ = reply.send(self.add_avatar(&latents, decode_rows));
            }
        }
    }

    fn draw(&mut self, chosen: Vec<Chosen<Job>>) {
        let (mut asked, mut runs) = (Vec::with_capacity(chosen.len()), Vec::new());
        for Chosen { item: job, every_second } in chosen {
            crate::metrics::engine_waited(job.queued.elapsed());
            let parts = if every_second { apart(&job.run) } else { vec![job.run.clone()] };
            asked.push((job, parts.len(), every_second));
            runs.extend(parts);
        }
        let drawn: Vec<Result<Vec<MouthFrame>, LipSyncError>> = match self.infer(&runs) {
            Ok(drawn) => drawn.into_iter().map(Ok).collect(),
            Err(error) if asked.len() == 1 => vec![Err(error)],
            // One of them is at fault: the others notice nothing but the time.
            Err(_) => runs.iter().map(|run| self.infer(std::slice::from_ref(run))?.pop().ok_or_else(nothing)).collect(),
        };
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
    }

    /// Draws runs together. A panic is an error: what the network keeps between calls are weights, which drawing does not
    /// change, and what it has heard, which it looks up by the sound itself.
    fn infer(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError> {
        let started = Instant::now();
        let drawn = catch_unwind(AssertUnwindSafe(|| self.network.infer_all(runs)));
        let drawn = drawn.unwrap_or_else(|panic| Err(LipSyncError::Panicked(message_of(panic.as_ref()))))?;
        if drawn.len() != runs.len() || drawn.iter().zip(runs).any(|(drawn, run)| drawn.len() != run.poses.len()) {
            return Err(nothing());
        }
        let (frames, took) = (runs.iter().map(|run| run.poses.len()).sum(), started.elapsed());
        crate::metrics::inferred(frames, took);
        self.capacity.learn(frames, took);
        self.rate.store(self.capacity.frames_per_second(LONGEST_BATCH).to_bits(), Ordering::Relaxed);
        Ok(drawn)
    }

    fn add_avatar(
        &mut self,
        latents: &std::path::Path,
        decode_rows: Option<[i64; 2]>,
    ) -> Result<AvatarHandle, LipSyncError> {
        let avatar = self.network.add_avatar(latents, decode_rows)?;
        for size in BATCH_SIZES {
            let audio = vec![0.0; LIPSYNC_SAMPLES_PER_FRAME * size].into();
            let run = MouthRun { avatar, poses: vec![0; size], audio, first_frame_at: 0 };
            for round in 0..WARM_UP_ROUNDS {
                let started = Instant::now();
                self.network.infer(&run)?;
                let took = started.elapsed();
                if round + 1 == WARM_UP_ROUNDS {
                    self.capacity.learn(size, took);
                }
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
        self.rate.store(self.capacity.frames_per_second(LONGEST_BATCH).to_bits(), Ordering::Relaxed);
        Ok(avatar)
    }
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

fn nothing() -> LipSyncError {
    LipSyncError::Panicked("it gave another number of mouths than were asked for".to_owned())
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc as blocking};

    use super::*;

    /// Draws a pixel that says which pose it is, and remembers the poses. Pose 99 says that it is there and waits for
    /// leave, 13 panics, 14 is refused.
    struct Recorder {
        drawn: Arc<Mutex<Vec<Vec<usize>>>>,
        arrived: Option<oneshot::Sender<()>>,
        leave: blocking::Receiver<()>,
    }

    impl LipSync for Recorder {
        fn add_avatar(&mut self, _: &std::path::Path, _: Option<[i64; 2]>) -> Result<AvatarHandle, LipSyncError> {
            Ok(AvatarHandle(0))
        }

        fn infer_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError> {
            let poses: Vec<usize> = runs.iter().flat_map(|run| run.poses.clone()).collect();
            if poses.contains(&99) {
                self.arrived.take().unwrap().send(()).unwrap();
                self.leave.recv().unwrap();
            }
            assert!(!poses.contains(&13), "pose 13");
            if poses.contains(&14) {
                return Err(LipSyncError::Latents { path: "latents".into(), problem: "are damaged".into() });
            }
            self.drawn.lock().unwrap().push(poses);
            Ok(runs.iter().map(|run| run.poses.iter().map(|pose| mouth(*pose)).collect()).collect())
        }
    }

    fn mouth(pose: usize) -> MouthFrame {
        MouthFrame { width: 1, height: 1, rgb: vec![u8::try_from(pose).unwrap(); 3] }
    }

    fn run(poses: &[usize]) -> MouthRun {
        MouthRun { avatar: AvatarHandle(0), poses: poses.to_vec(), audio: Arc::from([]), first_frame_at: 0 }
    }

    fn in_time(ms: u64) -> Due {
        Due { deadline: Some(Instant::now() + Duration::from_millis(ms)), awaited: false }
    }

    struct Bench {
        engine: Engine,
        thread: EngineThread,
        drawn: Arc<Mutex<Vec<Vec<usize>>>>,
        give_leave: blocking::Sender<()>,
    }

    impl Bench {
        /// With the thread at its gate until leave is given, so that all the test's runs are queued before it chooses.
        async fn start() -> Self {
            let drawn = Arc::new(Mutex::new(Vec::new()));
            let (give_leave, leave) = blocking::channel();
            let (arrived, at_gate) = oneshot::channel();
            let recorder = Recorder { drawn: Arc::clone(&drawn), arrived: Some(arrived), leave };
            let (engine, thread) = Engine::spawn(move || Ok(Box::new(recorder) as Box<dyn LipSync>)).await.unwrap();
            let bench = Self { engine, thread, drawn, give_leave };
            // What the gate draws is not looked at, but a receiver that is dropped would withdraw it.
            let gate = bench.draw(&[99], ANY_TIME).await;
            at_gate.await.unwrap();
            drop(gate);
            bench
        }

        async fn draw(&self, poses: &[usize], due: Due) -> oneshot::Receiver<Result<Mouths, LipSyncError>> {
            self.engine.draw(run(poses), due, CancellationToken::new()).await.unwrap()
        }

        async fn end(self) -> Vec<Vec<usize>> {
            let Self { engine, thread, drawn, .. } = self;
            drop(engine);
            assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
            Arc::into_inner(drawn).unwrap().into_inner().unwrap()
        }
    }

    const ANY_TIME: Due = Due { deadline: None, awaited: false };

    #[tokio::test]
    async fn the_most_urgent_run_is_drawn_first_and_cancelled_ones_never() {
        let bench = Bench::start().await;
        let cancelled = CancellationToken::new();
        let late = bench.draw(&[3], in_time(60_000)).await;
        let soon = bench.draw(&[1], Due { deadline: Some(Instant::now()), awaited: true }).await;
        let withdrawn = bench.engine.draw(run(&[2]), in_time(0), cancelled.clone()).await.unwrap();
        drop(bench.draw(&[4], in_time(0)).await);
        cancelled.cancel();
        bench.give_leave.send(()).unwrap();
        soon.await.unwrap().unwrap();
        assert!(withdrawn.await.is_err());
        // The one with a minute to spare still waits for company.
        assert_eq!(bench.drawn.lock().unwrap().as_slice(), [[99], [1]]);
        drop(late);
        bench.end().await;
    }

    #[tokio::test]
    async fn a_session_that_panics_or_is_refused_is_told_and_the_others_notice_nothing() {
        let bench = Bench::start().await;
        let mut replies = Vec::new();
        for pose in [1, 13, 2, 14] {
            replies.push(bench.draw(&[pose], ANY_TIME).await);
        }
        bench.give_leave.send(()).unwrap();
        let mut told = Vec::new();
        for reply in replies {
            told.push(reply.await.unwrap().map_err(|error| error.to_string()));
        }
        assert_eq!((&told[0], &told[2]), (&Ok(vec![Some(mouth(1))]), &Ok(vec![Some(mouth(2))])));
        assert!(told[1].as_ref().unwrap_err().contains("pose 13"), "{told:?}");
        assert!(told[3].as_ref().unwrap_err().contains("damaged"), "{told:?}");
        bench.end().await;
    }

    #[tokio::test]
    async fn two_hundred_sessions_drawn_together_never_get_each_others_mouths() {
        let bench = Bench::start().await;
        // All of them at once, as many as the queue takes and the rest behind it, of one, two and four frames.
        let ask = |session: usize| {
            let bench = &bench;
            async move {
                let poses = vec![session % 90 + 100; [1, 2, 4][session % 3]];
                let due = Due { awaited: true, ..in_time(400) };
                let mouths = bench.draw(&poses, due).await.await.unwrap().unwrap();
                let wanted: Mouths = poses.iter().map(|pose| Some(mouth(*pose))).collect();
                assert_eq!(mouths, wanted);
            }
        };
        let all = futures_util::future::join_all((0..200).map(ask));
        let leave = async { bench.give_leave.send(()).unwrap() };
        tokio::join!(all, leave);
        let drawn = bench.end().await;
        assert_eq!(drawn.iter().map(Vec::len).sum::<usize>(), 1 + 67 + 2 * 67 + 4 * 66);
        assert!(drawn.iter().any(|poses| poses.len() == 16), "none of {} batches was full", drawn.len());
    }

    #[tokio::test]
    async fn what_cannot_be_in_time_is_every_second_frame_and_what_is_late_is_none() {
        let bench = Bench::start().await;
        // Due now, so that its end is in time and its beginning is not, for two seconds.
        let thin = bench.draw(&[7; 51], in_time(0)).await;
        let late = in_time(0).deadline.and_then(|now| now.checked_sub(Duration::from_millis(500)));
        let late = bench.draw(&[5, 6], Due { deadline: late, awaited: false }).await;
        bench.give_leave.send(()).unwrap();
        assert_eq!(late.await.unwrap().unwrap(), [None, None]);
        let thin = thin.await.unwrap().unwrap();
        assert_eq!(thin.len(), 51);
        assert!((0..51).all(|frame| thin[frame].is_some() == (frame % 2 == 0)), "{thin:?}");
        bench.end().await;
    }

    #[tokio::test]
    async fn a_network_that_does_not_load_is_an_error_of_spawn() {
        let build = || Err(LipSyncError::Config { field: "unet".into(), problem: "is odd".into() });
        assert!(matches!(Engine::spawn(build).await, Err(EngineError::LipSync(LipSyncError::Config { .. }))));
    }
}
