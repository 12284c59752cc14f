//! Getting avatars ready between two batches, in small steps, so that no session waits for another's avatar.
//!
//! In here: what is left to do and when it may be done. A step is taken while nothing is to be drawn, or while what there is
//! has time. Without such a moment for a while, what cannot be left out is done after a batch, and warming up is left out: the
//! avatar's first mouths then take longer. An avatar is ready once the batches of first words are warmed up; the larger ones
//! follow when nothing else is to be done. Not in here: drawing (`inference`). Runs on: the engine's thread.

use std::collections::{BTreeSet, VecDeque};
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

/// Sizes of the batches that a sentence begins with (`batch_size`).
const FIRST_WORDS: [usize; 3] = [1, 2, 4];

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
    /// Avatars that are ready, whose larger batches are warmed up when there is nothing else to do.
    ready: VecDeque<WarmUp>,
    /// Networks that have been warmed up with some avatar.
    warmed: BTreeSet<usize>,
    /// Since when the next step waits.
    since: Option<Instant>,
    drawn: Option<Instant>,
    /// Batches left to draw for nobody, as last told.
    told: u32,
}

/// Batches of an avatar that are to be drawn once, so that nobody waits for what the first of a size takes.
struct WarmUp {
    avatar: AvatarHandle,
    /// Sizes from the end on, and whether that round is the one that is measured.
    left: Vec<(usize, bool)>,
    /// Larger batches are not to be tried.
    given_up: bool,
    /// It is of all sizes, so that none are left.
    all: bool,
}

/// An avatar that is being warmed up for first words, which somebody waits for.
struct Warming {
    warm_up: WarmUp,
    reply: oneshot::Sender<Result<(), LipSyncError>>,
}

impl Maintenance {
    pub(super) fn push(&mut self, task: Task, now: Instant) {
        self.since.get_or_insert(now);
        self.waiting.push_back(task);
    }

    /// What the next step is expected to take; `None` without one.
    fn next(&self, inference: &Inference) -> Option<Duration> {
        let warm_up = self.warming.as_ref().map(|warming| &warming.warm_up);
        let of = |warm_up: &WarmUp| {
            warm_up.left.last().map_or(Duration::ZERO, |(size, _)| inference.capacity.time_of(*size, 1))
        };
        match (warm_up, self.waiting.front(), self.ready.front()) {
            (Some(warm_up), ..) | (None, None, Some(warm_up)) => Some(of(warm_up)),
            (None, Some(_), _) => Some(LOADING_TIME),
            (None, None, None) => None,
        }
    }

    /// Takes a step if what waits has time until then. False if there is none.
    pub(super) fn step_until(&mut self, inference: &mut Inference, until: Instant) -> bool {
        self.drop_long_warm_ups(inference);
        self.next(inference).is_some_and(|takes| inference.now() + takes <= until) && self.do_next(inference)
    }

    /// Takes a step. False if there is none.
    pub(super) fn step(&mut self, inference: &mut Inference) -> bool {
        self.drop_long_warm_ups(inference);
        self.do_next(inference)
    }

    /// A batch was drawn. What has waited for too long is done now, or given up.
    pub(super) fn after_a_batch(&mut self, inference: &mut Inference) {
        let now = inference.now();
        self.drawn = Some(now);
        if self.since.is_none_or(|since| now.saturating_duration_since(since) < LONGEST_WAIT) {
            return;
        }
        match self.warming.take() {
            Some(warming) => {
                tracing::debug!("an avatar is not warmed up: others are drawn all the time");
                self.since = Some(now);
                let _ = warming.reply.send(Ok(()));
            }
            None if self.waiting.is_empty() => {}
            None => {
                self.do_next(inference);
            }
        }
        self.stop_clock_if_done();
        self.tell();
    }

    /// While somebody speaks no step takes longer than a first word may have to wait, and none ever that nobody waits for.
    fn drop_long_warm_ups(&mut self, inference: &Inference) {
        let short = |(size, _): &(usize, bool)| inference.capacity.time_of(*size, 1) <= LONGEST_BATCH;
        let now = inference.now();
        if self.drawn.is_some_and(|drawn| now.saturating_duration_since(drawn) < RECENT)
            && let Some(warming) = &mut self.warming
        {
            warming.warm_up.left.retain(short);
        }
        for warm_up in &mut self.ready {
            warm_up.left.retain(short);
        }
        self.ready.retain(|warm_up| !warm_up.left.is_empty());
        self.tell();
    }

    fn do_next(&mut self, inference: &mut Inference) -> bool {
        if let Some(warming) = self.warming.take() {
            self.go_on(warming, inference);
        } else if let Some(task) = self.waiting.pop_front() {
            match task {
                Task::AddAvatar { assets, reply } => {
                    let added = inference.network.add_avatar(&assets);
                    let context_samples = inference.network.context_samples();
                    if let Err(Ok((unwanted, _))) = reply.send(added.map(|handle| (handle, context_samples))) {
                        inference.network.remove_avatar(unwanted);
                    }
                }
                Task::WarmUp { avatar, reply } => {
                    let known = !self.warmed.insert(inference.network.network_of(avatar));
                    let all = inference.network.is_slow_at_first(avatar);
                    self.warming = Some(Warming { warm_up: WarmUp::before_ready(avatar, known, all), reply });
                }
                Task::RemoveAvatar { avatar } => {
                    inference.network.remove_avatar(avatar);
                    self.ready.retain(|warm_up| warm_up.avatar != avatar);
                }
            }
        } else if let Some(mut warm_up) = self.ready.pop_front() {
            match warm_up.step(inference) {
                Ok(true) => self.ready.push_front(warm_up),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "an avatar cannot be drawn in large batches"),
            }
        } else {
            return false;
        }
        self.since = Some(inference.now());
        self.stop_clock_if_done();
        self.tell();
        true
    }

    /// Tells how many batches are left to draw for nobody.
    fn tell(&mut self) {
        let warm_ups = self.ready.iter().chain(self.warming.as_ref().map(|warming| &warming.warm_up));
        let left = u32::try_from(warm_ups.map(|warm_up| warm_up.left.len()).sum::<usize>()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.told, left);
        if left != before {
            crate::metrics::warm_ups(f64::from(left) - f64::from(before));
        }
    }

    /// The next step of a warm-up that somebody waits for.
    fn go_on(&mut self, mut warming: Warming, inference: &mut Inference) {
        // Whoever asked may be gone.
        let goes_on = if warming.reply.is_closed() { Ok(false) } else { warming.warm_up.step(inference) };
        match goes_on {
            Ok(true) => self.warming = Some(warming),
            Ok(false) => {
                if warming.reply.send(Ok(())).is_ok() && !warming.warm_up.given_up && !warming.warm_up.all {
                    self.ready.push_back(WarmUp::for_the_rest(warming.warm_up.avatar));
                }
            }
            Err(error) => {
                let _ = warming.reply.send(Err(error));
            }
        }
    }

    /// Nobody waits for what is left.
    fn stop_clock_if_done(&mut self) {
        if self.warming.is_none() && self.waiting.is_empty() {
            self.since = None;
        }
    }
}

impl WarmUp {
    /// Sizes as first words are drawn, or `all`. Where they are `known` to the network, from another avatar, what is left is
    /// the avatar's own.
    fn before_ready(avatar: AvatarHandle, known: bool, all: bool) -> Self {
        let sizes = BATCH_SIZES.into_iter().filter(|size| all || FIRST_WORDS.contains(size));
        Self { all, ..Self::of(avatar, sizes, if known { 1 } else { WARM_UP_ROUNDS }) }
    }

    /// All others.
    fn for_the_rest(avatar: AvatarHandle) -> Self {
        let rest = BATCH_SIZES.into_iter().filter(|size| !FIRST_WORDS.contains(size));
        Self::of(avatar, rest, WARM_UP_ROUNDS)
    }

    /// Taken from the end: small ones first, and of each size the last round is the one that is measured.
    fn of(avatar: AvatarHandle, sizes: impl IntoIterator<Item = usize>, rounds: usize) -> Self {
        let of_size = |size: usize| (0..rounds).map(move |round| (size, round == 0 && rounds > 1));
        let mut left: Vec<(usize, bool)> = sizes.into_iter().flat_map(|size| of_size(size).rev()).collect();
        left.reverse();
        Self { avatar, left, given_up: false, all: false }
    }

    /// Draws one batch of silence. False once there is none left.
    fn step(&mut self, inference: &mut Inference) -> Result<bool, LipSyncError> {
        let Some((size, is_measured)) = self.left.pop() else { return Ok(false) };
        let audio = vec![0.0; LIPSYNC_SAMPLES_PER_FRAME * size].into();
        let run = MouthRun { avatar: self.avatar, poses: vec![0; size], audio, first_frame_at: 0 };
        match inference.time(&run) {
            Ok(took) => {
                if is_measured {
                    inference.capacity.learn(size, 1, took);
                }
                // What is done at the first call alone says nothing.
                let expected = inference.capacity.time_of(size, 1);
                if took > TOO_SLOW_FOR_LIVE && (is_measured || expected > TOO_SLOW_FOR_LIVE) {
                    let seconds = took.as_secs_f64() / f64::from(u32::try_from(size).unwrap_or(1));
                    tracing::warn!(
                        "this model takes about {seconds:.1} s for a frame on this machine, where 0.04 s is real time: \
                         films will come slowly and live sessions will show few mouths"
                    );
                    inference.capacity.learn(size, 1, took);
                    self.give_up();
                }
            }
            // Smaller batches are drawn then, which were tried before.
            Err(error) if error.is_out_of_memory() && size > 1 => self.give_up(),
            Err(error) => return Err(error),
        }
        Ok(!self.left.is_empty())
    }

    fn give_up(&mut self) {
        self.left.clear();
        self.given_up = true;
    }
}
