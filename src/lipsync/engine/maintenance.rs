//! Getting avatars ready between two batches, in small steps, so that no session waits for another's avatar.
//!
//! In here: what is left to do and when it may be done. A step is taken while nothing is to be drawn, or while what there is
//! has time. Without such a moment for a while, what cannot be left out is done after a batch, and warming up is left out: the
//! avatar's first mouths then take longer. Not in here: drawing (`inference`). Runs on: the engine's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::inference::Inference;
use crate::lipsync::batch::{BATCH_SIZES, WARM_UP_ROUNDS};
use crate::lipsync::scheduler::LONGEST_BATCH;
use crate::lipsync::{AvatarAssets, AvatarHandle, LipSyncError, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// A batch that takes longer will never be watched live, so there is nothing to warm up for.
const TOO_SLOW_FOR_LIVE: Duration = Duration::from_secs(2);
/// For loading an avatar, which takes milliseconds.
const LOADING_TIME: Duration = Duration::from_millis(30);
/// How long a task waits for a moment without mouths to draw.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Somebody speaks if a mouth was drawn within this time.
const RECENT: Duration = Duration::from_secs(1);

/// What is asked for besides mouths, and may wait for them.
pub(super) enum Task {
    AddAvatar {
        assets: AvatarAssets,
        /// How the network calls it, and how much sound before a frame the network hears by then.
        reply: oneshot::Sender<Result<(AvatarHandle, usize), LipSyncError>>,
    },
    WarmUp {
        avatar: AvatarHandle,
        reply: oneshot::Sender<Result<(), LipSyncError>>,
    },
    RemoveAvatar {
        avatar: AvatarHandle,
    },
}

/// What is left to do, in the order in which it was asked for.
#[derive(Default)]
pub(super) struct Maintenance {
    waiting: VecDeque<Task>,
    warming: Option<Warming>,
    /// Since when the next step waits.
    since: Option<Instant>,
    drawn: Option<Instant>,
}

/// An avatar that is being warmed up, and the batches that are left.
struct Warming {
    avatar: AvatarHandle,
    left: Vec<(usize, bool)>,
    reply: oneshot::Sender<Result<(), LipSyncError>>,
}

impl Maintenance {
    pub(super) fn push(&mut self, task: Task) {
        self.since.get_or_insert_with(Instant::now);
        self.waiting.push_back(task);
    }

    /// What the next step is expected to take; `None` without one.
    fn next(&self, inference: &Inference) -> Option<Duration> {
        match &self.warming {
            Some(warming) => {
                Some(warming.left.last().map_or(Duration::ZERO, |(size, _)| inference.capacity.time_of(*size)))
            }
            None => self.waiting.front().map(|_| LOADING_TIME),
        }
    }

    /// Takes a step if what waits has time until then. False if there is none.
    pub(super) fn step_until(&mut self, inference: &mut Inference, until: Instant) -> bool {
        self.drop_long_warm_ups(inference);
        let now = Instant::now();
        self.next(inference).is_some_and(|takes| now + takes <= until) && self.do_next(inference)
    }

    /// Takes a step. False if there is none.
    pub(super) fn step(&mut self, inference: &mut Inference) -> bool {
        self.drop_long_warm_ups(inference);
        self.do_next(inference)
    }

    /// A batch was drawn. What has waited for too long is done now, or given up.
    pub(super) fn after_a_batch(&mut self, inference: &mut Inference) {
        self.drawn = Some(Instant::now());
        if self.since.is_none_or(|since| since.elapsed() < LONGEST_WAIT) {
            return;
        }
        match self.warming.take() {
            Some(warming) => {
                tracing::debug!("an avatar is not warmed up: others are drawn all the time");
                self.since = Some(Instant::now());
                let _ = warming.reply.send(Ok(()));
            }
            None => {
                self.do_next(inference);
            }
        }
        self.stop_clock_if_done();
    }

    /// While somebody speaks no step takes longer than a first word may have to wait.
    fn drop_long_warm_ups(&mut self, inference: &Inference) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < RECENT)
            && let Some(warming) = &mut self.warming
        {
            warming.left.retain(|(size, _)| inference.capacity.time_of(*size) <= LONGEST_BATCH);
        }
    }

    fn do_next(&mut self, inference: &mut Inference) -> bool {
        if let Some(warming) = self.warming.take() {
            self.warming = warming.step(inference);
        } else {
            let Some(task) = self.waiting.pop_front() else { return false };
            match task {
                Task::AddAvatar { assets, reply } => {
                    let added = inference.network.add_avatar(&assets);
                    let context_samples = inference.network.context_samples();
                    if let Err(Ok((unwanted, _))) = reply.send(added.map(|handle| (handle, context_samples))) {
                        inference.network.remove_avatar(unwanted);
                    }
                }
                Task::WarmUp { avatar, reply } => self.warming = Some(Warming::new(avatar, reply)),
                Task::RemoveAvatar { avatar } => inference.network.remove_avatar(avatar),
            }
        }
        self.since = Some(Instant::now());
        self.stop_clock_if_done();
        true
    }

    fn stop_clock_if_done(&mut self) {
        if self.warming.is_none() && self.waiting.is_empty() {
            self.since = None;
        }
    }
}

impl Warming {
    fn new(avatar: AvatarHandle, reply: oneshot::Sender<Result<(), LipSyncError>>) -> Self {
        // Taken from the end: small ones first, and of each size the last round is the one that is measured.
        let rounds = |size: usize| (0..WARM_UP_ROUNDS).map(move |round| (size, round == 0));
        Self { avatar, left: BATCH_SIZES.into_iter().rev().flat_map(rounds).collect(), reply }
    }

    /// Draws one batch of silence. `None` once it is over.
    fn step(mut self, inference: &mut Inference) -> Option<Self> {
        let Some((size, is_measured)) = self.left.pop().filter(|_| !self.reply.is_closed()) else {
            let _ = self.reply.send(Ok(()));
            return None;
        };
        let audio = vec![0.0; LIPSYNC_SAMPLES_PER_FRAME * size].into();
        let run = MouthRun { avatar: self.avatar, poses: vec![0; size], audio, first_frame_at: 0 };
        match inference.time(&run) {
            Ok(took) => {
                if is_measured {
                    inference.capacity.learn(size, took);
                }
                if took > TOO_SLOW_FOR_LIVE {
                    let seconds = took.as_secs_f64() / f64::from(u32::try_from(size).unwrap_or(1));
                    tracing::warn!(
                        "this model takes about {seconds:.1} s for a frame on this machine, where 0.04 s is real time: \
                         films will come slowly and live sessions will show few mouths"
                    );
                    inference.capacity.learn(size, took);
                    self.left.clear();
                }
            }
            // Smaller batches are drawn then, which were tried before.
            Err(error) if error.is_out_of_memory() && size > 1 => self.left.clear(),
            Err(error) => {
                let _ = self.reply.send(Err(error));
                return None;
            }
        }
        Some(self)
    }
}
