//! What the engine's thread does, in which order: it takes in all that was asked, draws the most urgent batch, and gets avatars
//! ready when there is time.
//!
//! In here: that loop, and giving each run its mouths. Not in here: the choice of a batch (`scheduler`), the network's calls
//! (`inference`), what is done between two batches (`maintenance`). Runs on: its own OS thread, "engine".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inference::{Clock, Inference};
use super::maintenance::Maintenance;
use super::{DrawRequest, QUEUE, Request};
use crate::lipsync::scheduler::{LONGEST_BATCH, Next, Scheduled, Scheduler};
use crate::lipsync::{LipSync, LipSyncError, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// If nothing was drawn for so long, and for so many times what a frame takes, because all of it would be late, then what a
/// frame takes is found out anew: it may have been slow once, and nothing that is not drawn can say otherwise.
const DOUBTED_AFTER: Duration = Duration::from_millis(500);
const DOUBTED_AFTER_FRAMES: u32 = 2;

/// What came of [`Thread::turn`].
pub(super) enum Turn {
    /// There may be more to do at once.
    Busy,
    /// There is nothing to do until then, or until something is asked.
    Idle(Option<Instant>),
    /// Nobody can ask any more, or the device is at its end.
    Over,
}

/// What the thread has.
pub(super) struct Thread {
    inference: Inference,
    queue: mpsc::Receiver<Request>,
    /// For waiting with an end to it.
    clock: tokio::runtime::Runtime,
    scheduler: Scheduler<DrawRequest>,
    maintenance: Maintenance,
    /// When a batch was last drawn, or what one takes was doubted.
    drawn: Option<Instant>,
    /// Frames a second, as the engine's handles see it.
    rate: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Thread {
    pub(super) fn new(
        network: Box<dyn LipSync>,
        queue: mpsc::Receiver<Request>,
        clock: tokio::runtime::Runtime,
        rate: Arc<AtomicU64>,
        stop: CancellationToken,
    ) -> Self {
        Self::with_time(network, queue, clock, rate, stop, Box::new(Instant::now))
    }

    /// The same with a clock of one's own, for who calls [`Thread::turn`] instead of waiting for time to pass.
    pub(super) fn with_time(
        network: Box<dyn LipSync>,
        queue: mpsc::Receiver<Request>,
        clock: tokio::runtime::Runtime,
        rate: Arc<AtomicU64>,
        stop: CancellationToken,
        time: Clock,
    ) -> Self {
        let (inference, scheduler) = (Inference::new(network, time), Scheduler::default());
        Self { inference, queue, clock, scheduler, maintenance: Maintenance::default(), drawn: None, rate, stop }
    }

    /// Draws until nobody can ask any more, or its owner goes.
    pub(super) fn run(mut self) {
        while !self.stop.is_cancelled() {
            let next = match self.turn() {
                Turn::Busy => continue,
                Turn::Over => return,
                Turn::Idle(until) => {
                    let (queue, stop) = (&mut self.queue, &self.stop);
                    self.clock.block_on(async {
                        match until {
                            Some(until) => tokio::time::timeout_at(until.into(), next_request(queue, stop)).await.ok(),
                            None => Some(next_request(queue, stop).await),
                        }
                    })
                }
            };
            match next {
                Some(Some(request)) => self.accept(request),
                Some(None) => return,
                // It is time to draw.
                None => {}
            }
        }
    }

    /// Takes in all that has arrived, and does one thing: draws a batch or takes a step of what else is asked.
    pub(super) fn turn(&mut self) -> Turn {
        // All of it is looked at before the most urgent is chosen.
        while self.scheduler.len() < QUEUE {
            match self.queue.try_recv() {
                Ok(request) => self.accept(request),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Turn::Over,
            }
        }
        let unwanted = |request: &DrawRequest| request.cancelled.is_cancelled() || request.reply.is_closed();
        self.scheduler.remove_if(unwanted).iter().for_each(|_| crate::metrics::engine_skipped());
        let now = self.inference.now();
        let late = self.scheduler.remove_late(now, &self.inference.capacity);
        if !late.is_empty() {
            self.doubt(now);
        }
        late.into_iter().for_each(leave_out);
        match self.scheduler.next(now, &self.inference.capacity) {
            Next::Draw(batch) => {
                if !self.draw(batch) {
                    return Turn::Over;
                }
                self.maintenance.after_a_batch(&mut self.inference);
                Turn::Busy
            }
            Next::Wait(until) if self.maintenance.step_until(&mut self.inference, until) => Turn::Busy,
            Next::Wait(until) => Turn::Idle(Some(until)),
            Next::Nothing if self.maintenance.step(&mut self.inference) => {
                self.tell_rate();
                Turn::Busy
            }
            Next::Nothing => Turn::Idle(None),
        }
    }

    /// Something is left out.
    fn doubt(&mut self, now: Instant) {
        let after = DOUBTED_AFTER.max(self.inference.capacity.time_of(1, 1) * DOUBTED_AFTER_FRAMES);
        if self.drawn.is_some_and(|drawn| now.saturating_duration_since(drawn) > after) {
            self.inference.capacity.forget();
            self.drawn = Some(now);
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Draw(run) => self.scheduler.push(run, self.inference.now()),
            Request::Maintain(task) => self.maintenance.push(task, self.inference.now()),
        }
    }

    fn tell_rate(&self) {
        let rate = self.inference.capacity.frames_per_second(LONGEST_BATCH).unwrap_or(0.0);
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// Draws a batch and answers each of its requests. False if the device is at its end; whose runs were to be drawn is told so
    /// by its reply being dropped.
    fn draw(&mut self, batch: Vec<Scheduled<DrawRequest>>) -> bool {
        let (mut requests, mut runs) = (Vec::with_capacity(batch.len()), Vec::new());
        for Scheduled { item: request, drawn } in batch {
            if drawn.is_empty() {
                leave_out(request);
                continue;
            }
            crate::metrics::engine_waited(self.inference.now().saturating_duration_since(request.queued));
            crate::metrics::mouths_left_out(request.run.poses.len() - drawn.len());
            let parts = parts_of(&request.run, &drawn);
            requests.push((request, parts.len(), drawn));
            runs.extend(parts);
        }
        if runs.is_empty() {
            self.doubt(self.inference.now());
            return true;
        }
        let drawn = self.inference.draw(&runs);
        self.drawn = Some(self.inference.now());
        if let Some(Err(error)) = drawn.iter().find(|drawn| drawn.as_ref().is_err_and(LipSyncError::is_the_devices_end))
        {
            tracing::error!(%error, "the device draws nothing any more");
            // Before anybody is told, so that whoever is asks elsewhere.
            self.queue.close();
            return false;
        }
        self.tell_rate();
        let mut drawn_parts = drawn.into_iter();
        for (request, parts, drawn) in requests {
            let _entered = request.span.enter();
            let parts = drawn_parts.by_ref().take(parts).collect::<Result<Vec<_>, _>>();
            let mouths = parts.map(|parts| {
                let mut mouths = vec![None; request.run.poses.len()];
                for (frame, mouth) in drawn.iter().zip(parts.into_iter().flatten()) {
                    if let Some(place) = mouths.get_mut(*frame) {
                        *place = Some(mouth);
                    }
                }
                mouths
            });
            // Nobody left to tell: cancelled while it was drawn.
            let _ = request.reply.send(mouths);
        }
        true
    }
}

/// Tells that nothing of a run is drawn.
fn leave_out(request: DrawRequest) {
    crate::metrics::mouths_left_out(request.run.poses.len());
    let _ = request.reply.send(Ok(vec![None; request.run.poses.len()]));
}

/// The next request; `None` if none will be heard any more.
async fn next_request(queue: &mut mpsc::Receiver<Request>, stop: &CancellationToken) -> Option<Request> {
    stop.run_until_cancelled(queue.recv()).await.flatten()
}

/// Some frames of a run, in order, as runs of consecutive ones.
fn parts_of(run: &MouthRun, frames: &[usize]) -> Vec<MouthRun> {
    let consecutive = frames.chunk_by(|frame, next| frame + 1 == *next);
    let part = |frames: &[usize]| {
        let first = frames.first().copied().unwrap_or(0);
        MouthRun {
            avatar: run.avatar,
            poses: run.poses.iter().skip(first).take(frames.len()).copied().collect(),
            audio: Arc::clone(&run.audio),
            first_frame_at: run.first_frame_at + first * LIPSYNC_SAMPLES_PER_FRAME,
        }
    };
    consecutive.map(part).collect()
}
