//! Ways out of a session besides its viewers: pushed, recorded and written of the same encode.
//!
//! In here: one output, its state, and its thread, which tries a carrier again and again. `carrier` says what a way out is,
//! `launch` is that of every description in `pipelines/output-*.launch`, `feed` leads the session's stream into one,
//! `captions` makes cues of what the session tells, `address` and `place` say where an output may go. A further kind that no
//! description can be is one more implementation of [`Carrier`]. Not in here: which outputs a session has (`server`).
//! Runs on: one thread for each output, which its owner joins. An output has its own pipeline, so what stalls or breaks there
//! touches nobody else.

mod address;
mod captions;
mod carrier;
mod feed;
mod launch;
mod place;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Broadcast, Codec, MediaError};
use crate::ids::OutputId;
use crate::session::{NoticeReceiver, OutputInfo, OutputKind, OutputState};
use crate::worker::Worker;

pub(crate) use address::check_address;
pub(super) use captions::Captions;
pub(crate) use carrier::{Attempt, Carried, Carrier, Progress};
pub(crate) use launch::LaunchCarrier;
pub(crate) use place::{Place, PlaceError, check_name};

/// Between losing a receiver and asking for it again. One that comes back is met within two seconds, encode and all.
const REST: Duration = Duration::from_millis(700);
/// A thread that waits looks so often whether it is to end.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// What an output is made of.
pub(crate) struct OutputPlan {
    /// Of which kind.
    pub(crate) kind: OutputKind,
    /// Where it goes, as anybody may be told.
    pub(crate) target: String,
    /// What it takes the pictures as.
    pub(crate) codec: Codec,
    /// What it does.
    pub(crate) carrier: Box<dyn Carrier>,
}

/// One output that was started. Dropped, it ends in order, which is waited for.
pub(crate) struct Output {
    id: OutputId,
    kind: OutputKind,
    target: String,
    status: Arc<Status>,
    worker: Option<Worker>,
}

impl Output {
    /// Starts its thread. `notices` is what the session tells, for captions; `changed` is called from the thread whenever the
    /// state is another one; `held` is let go of when the output has ended by itself or was stopped.
    pub(crate) fn start(
        plan: OutputPlan,
        broadcast: Broadcast,
        notices: NoticeReceiver,
        changed: impl Fn() + Send + Sync + 'static,
        held: impl Send + 'static,
    ) -> std::io::Result<Self> {
        let OutputPlan { kind, target, codec, carrier } = plan;
        let id = OutputId::next();
        let status = Arc::new(Status { told: Mutex::default(), changed: Box::new(changed) });
        let captions = Captions::new(notices);
        let running = Running { kind, broadcast, codec, carrier, captions, status: Arc::clone(&status) };
        let span = tracing::info_span!("output", %id, kind = kind.as_str());
        let worker = Worker::spawn("output", move |stop| {
            let _entered = span.enter();
            crate::metrics::output_started(kind.as_str());
            running.run(&stop);
            crate::metrics::output_ended(kind.as_str());
            drop(held);
        })?;
        Ok(Self { id, kind, target, status, worker: Some(worker) })
    }

    pub(crate) fn id(&self) -> OutputId {
        self.id
    }

    /// What is told of it just now.
    pub(crate) fn info(&self) -> OutputInfo {
        let Told { state, message, frames, dropped, reconnects } = self.status.lock().clone();
        let (id, kind, target) = (self.id, self.kind, self.target.clone());
        OutputInfo { id, kind, target, state, message, frames, dropped, reconnects }
    }

    /// Asks it to end, for whoever stops several beside each other.
    pub(crate) fn ask_to_stop(&self) {
        if let Some(worker) = &self.worker {
            worker.ask_to_end();
        }
    }

    /// Asks it to end and waits until it has: what it wrote is whole then. Blocks for up to a second.
    pub(crate) fn stop(&mut self) {
        if let Some(worker) = self.worker.take()
            && !worker.join()
        {
            tracing::error!(output = %self.id, "an output panicked");
            self.status.set(OutputState::Error, Some("it failed in a way that nobody foresaw".to_owned()));
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What is known of an output, written by its thread.
struct Status {
    told: Mutex<Told>,
    changed: Box<dyn Fn() + Send + Sync>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    state: OutputState,
    message: Option<String>,
    frames: u64,
    dropped: u64,
    reconnects: u64,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: OutputState, message: Option<String>) {
        let mut told = self.lock();
        if told.state == state && told.message == message {
            return;
        }
        let was = std::mem::replace(&mut told.state, state);
        told.message.clone_from(&message);
        drop(told);
        match (state, message) {
            (OutputState::Error, Some(reason)) => tracing::error!(reason, "an output has failed"),
            (OutputState::Retrying, Some(reason)) if was != state => tracing::warn!(reason, "an output is tried again"),
            (OutputState::Live, _) => tracing::info!("an output is live"),
            _ => {}
        }
        (self.changed)();
    }
}

/// The counts of one attempt, on top of those before.
struct Counts<'a> {
    status: &'a Status,
    before: (u64, u64),
    kind: OutputKind,
    was_live: bool,
    /// Whether the receiver was lost before, and is not there again yet.
    is_lost: &'a mut bool,
}

impl Progress for Counts<'_> {
    fn live(&mut self) {
        self.was_live = true;
        if std::mem::take(self.is_lost) {
            self.status.lock().reconnects += 1;
            crate::metrics::output_reconnected(self.kind.as_str());
        }
        self.status.set(OutputState::Live, None);
    }

    fn counted(&mut self, frames: u64, dropped: u64) {
        let mut told = self.status.lock();
        told.frames = self.before.0 + frames;
        told.dropped = self.before.1 + dropped;
    }
}

/// What the thread of an output has.
struct Running {
    kind: OutputKind,
    broadcast: Broadcast,
    codec: Codec,
    carrier: Box<dyn Carrier>,
    captions: Captions,
    status: Arc<Status>,
}

impl Running {
    fn run(mut self, stop: &CancellationToken) {
        let mut is_lost = false;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let (carried, was_live) = self.attempt(stop, &mut is_lost);
            match carried {
                Carried::Stopped => break,
                // An encode that fails as soon as it is begun must not be begun without end.
                Carried::Changed => rest(stop, REST.saturating_sub(began.elapsed())),
                Carried::Lost { reason } => {
                    is_lost |= was_live;
                    self.status.set(OutputState::Retrying, Some(reason));
                    rest(stop, REST);
                }
                Carried::Failed { reason } => {
                    crate::metrics::output_failed(self.kind.as_str());
                    return self.status.set(OutputState::Error, Some(reason));
                }
            }
        }
        self.status.set(OutputState::Ended, None);
    }

    /// Also says whether the receiver took anything.
    fn attempt(&mut self, stop: &CancellationToken, is_lost: &mut bool) -> (Carried, bool) {
        let publisher = match self.broadcast.publisher(self.codec) {
            Ok(publisher) => publisher,
            Err(MediaError::SessionEnds) => return (Carried::Stopped, false),
            Err(error) => return (Carried::Lost { reason: error.to_string() }, false),
        };
        let (frames, dropped) = {
            let told = self.status.lock();
            (told.frames, told.dropped)
        };
        let before = (frames, dropped);
        let mut counts = Counts { status: &self.status, before, kind: self.kind, was_live: false, is_lost };
        let attempt = Attempt { publisher: &publisher, stop, captions: &mut self.captions, progress: &mut counts };
        let carried = self.carrier.carry(attempt);
        (carried, counts.was_live)
    }
}

/// Waits, unless the output is to end.
fn rest(stop: &CancellationToken, time: Duration) {
    let until = Instant::now() + time;
    // Nothing comes through it; a wait on it is over in time.
    let (_open, nothing) = std::sync::mpsc::sync_channel::<()>(0);
    while !stop.is_cancelled() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let _ = nothing.recv_timeout(left.min(LOOK));
    }
}
