//! What the engine's thread does, in which order: it takes in all that was asked, draws the most urgent batch, and gets avatars
//! ready when there is time.
//!
//! In here: that loop, and giving each run its mouths. Not in here: the choice of a batch (`scheduler`), the network's calls
//! (`inference`), what is done between two batches (`maintenance`). Runs on: its own OS thread, "engine".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::inference::Inference;
use super::maintenance::Maintenance;
use super::{DrawRequest, QUEUE, Request};
use crate::lipsync::scheduler::{LONGEST_BATCH, Next, Scheduled, Scheduler};
use crate::lipsync::{LipSync, LipSyncError, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// What the thread has.
pub(super) struct Thread {
    inference: Inference,
    queue: mpsc::Receiver<Request>,
    /// For waiting with an end to it.
    clock: tokio::runtime::Runtime,
    scheduler: Scheduler<DrawRequest>,
    maintenance: Maintenance,
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
        let (inference, scheduler) = (Inference::new(network), Scheduler::default());
        Self { inference, queue, clock, scheduler, maintenance: Maintenance::default(), rate, stop }
    }

    /// Draws until nobody can ask any more, or its owner goes.
    pub(super) fn run(mut self) {
        while !self.stop.is_cancelled() {
            // All that has arrived is looked at before the most urgent is chosen.
            while self.scheduler.len() < QUEUE {
                match self.queue.try_recv() {
                    Ok(request) => self.accept(request),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            let unwanted = |request: &DrawRequest| request.cancelled.is_cancelled() || request.reply.is_closed();
            self.scheduler.remove_if(unwanted).iter().for_each(|_| crate::metrics::engine_skipped());
            for request in self.scheduler.remove_late(Instant::now(), &self.inference.capacity) {
                let _ = request.reply.send(Ok(vec![None; request.run.poses.len()]));
            }
            match self.scheduler.next(Instant::now(), &self.inference.capacity) {
                Next::Draw(batch) => {
                    if !self.draw(batch) {
                        return;
                    }
                    self.maintenance.after_a_batch(&mut self.inference);
                }
                Next::Wait(until) if self.maintenance.step_until(&mut self.inference, until) => {}
                Next::Nothing if self.maintenance.step(&mut self.inference) => self.tell_rate(),
                Next::Wait(until) => {
                    let (queue, stop) = (&mut self.queue, &self.stop);
                    let receive = async { tokio::time::timeout_at(until.into(), next_request(queue, stop)).await };
                    match self.clock.block_on(receive) {
                        Ok(Some(request)) => self.accept(request),
                        Ok(None) => return,
                        // It is time to draw.
                        Err(_) => {}
                    }
                }
                Next::Nothing => match self.clock.block_on(next_request(&mut self.queue, &self.stop)) {
                    Some(request) => self.accept(request),
                    None => return,
                },
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Draw(run) => self.scheduler.push(run),
            Request::Maintain(task) => self.maintenance.push(task),
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
        for Scheduled { item: request, every_second } in batch {
            crate::metrics::engine_waited(request.queued.elapsed());
            let parts = if every_second { every_second_frame(&request.run) } else { vec![request.run.clone()] };
            requests.push((request, parts.len(), every_second));
            runs.extend(parts);
        }
        let drawn = self.inference.draw(&runs);
        if let Some(Err(error)) = drawn.iter().find(|drawn| drawn.as_ref().is_err_and(LipSyncError::is_the_devices_end))
        {
            tracing::error!(%error, "the device draws nothing any more");
            // Before anybody is told, so that whoever is asks elsewhere.
            self.queue.close();
            return false;
        }
        self.tell_rate();
        let mut drawn = drawn.into_iter();
        for (request, parts, every_second) in requests {
            let _entered = request.span.enter();
            let mouths = drawn.by_ref().take(parts).collect::<Result<Vec<_>, _>>().map(|parts| {
                let mouths = parts.into_iter().flatten().map(Some);
                let skipped = |mouth| [mouth, None];
                let frames = request.run.poses.len();
                if every_second { mouths.flat_map(skipped).take(frames).collect() } else { mouths.collect() }
            });
            // Nobody left to tell: cancelled while it was drawn.
            let _ = request.reply.send(mouths);
        }
        true
    }
}

/// The next request; `None` if none will be heard any more.
async fn next_request(queue: &mut mpsc::Receiver<Request>, stop: &CancellationToken) -> Option<Request> {
    stop.run_until_cancelled(queue.recv()).await.flatten()
}

/// A run's first frame and every second one after it, each as a run of its own.
fn every_second_frame(run: &MouthRun) -> Vec<MouthRun> {
    let frame = |(at, pose): (usize, &usize)| MouthRun {
        avatar: run.avatar,
        poses: vec![*pose],
        audio: Arc::clone(&run.audio),
        first_frame_at: run.first_frame_at + at * LIPSYNC_SAMPLES_PER_FRAME,
    };
    run.poses.iter().enumerate().step_by(2).map(frame).collect()
}
