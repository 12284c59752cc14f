//! Getting avatars ready between two batches, in small steps, so that no session waits for another's avatar.
//!
//! In here: what is left to do and when it may be done. A step is taken while nothing is to be drawn, or while what there is
//! has time. Without such a moment for a while, what cannot be left out is done after a batch, and warming up is left out: the
//! avatar's first mouths then take longer. Not in here: drawing (`artist`). Runs on: the engine's thread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::artist::Artist;
use super::{Chore, Equipment};
use crate::lipsync::scheduler::LONGEST_BATCH;
use crate::lipsync::window::BATCH_SIZES;
use crate::lipsync::{AvatarHandle, LipSyncError, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// The first calls of a shape are many times slower than the rest (buffers, kernels being chosen).
const WARM_UP_ROUNDS: usize = 2;
/// A batch that takes longer will never be watched live, so there is nothing to warm up for.
const HOPELESS: Duration = Duration::from_secs(2);
/// For loading latents or frames, which takes milliseconds.
const SHORT: Duration = Duration::from_millis(30);
/// How long a chore waits for a moment without mouths to draw.
const PATIENCE: Duration = Duration::from_secs(1);
/// Somebody speaks if a mouth was drawn within this time.
const LATELY: Duration = Duration::from_secs(1);

/// What is left to do, in the order in which it was asked for.
#[derive(Default)]
pub(super) struct Chores {
    waiting: VecDeque<Chore>,
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

impl Chores {
    pub(super) fn push(&mut self, chore: Chore) {
        self.since.get_or_insert_with(Instant::now);
        self.waiting.push_back(chore);
    }

    /// What the next step is expected to take; `None` without one.
    fn next(&self, artist: &Artist) -> Option<Duration> {
        match &self.warming {
            Some(warming) => {
                Some(warming.left.last().map_or(Duration::ZERO, |(size, _)| artist.capacity.time_of(*size)))
            }
            None => self.waiting.front().map(|_| SHORT),
        }
    }

    /// Takes a step if what waits has time until then. False if there is none.
    pub(super) fn step_until(&mut self, artist: &mut Artist, until: Instant) -> bool {
        self.leave_out_long_ones(artist);
        let now = Instant::now();
        self.next(artist).is_some_and(|takes| now + takes <= until) && self.take(artist)
    }

    /// Takes a step. False if there is none.
    pub(super) fn step(&mut self, artist: &mut Artist) -> bool {
        self.leave_out_long_ones(artist);
        self.take(artist)
    }

    /// A batch was drawn. What has waited for too long is done now, or given up.
    pub(super) fn after_a_batch(&mut self, artist: &mut Artist) {
        self.drawn = Some(Instant::now());
        if self.since.is_none_or(|since| since.elapsed() < PATIENCE) {
            return;
        }
        match self.warming.take() {
            Some(warming) => {
                tracing::debug!("an avatar is not warmed up: others are drawn all the time");
                self.since = Some(Instant::now());
                let _ = warming.reply.send(Ok(()));
            }
            None => {
                self.take(artist);
            }
        }
        self.rest();
    }

    /// While somebody speaks no step takes longer than a first word may have to wait.
    fn leave_out_long_ones(&mut self, artist: &Artist) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < LATELY)
            && let Some(warming) = &mut self.warming
        {
            warming.left.retain(|(size, _)| artist.capacity.time_of(*size) <= LONGEST_BATCH);
        }
    }

    fn take(&mut self, artist: &mut Artist) -> bool {
        if let Some(warming) = self.warming.take() {
            self.warming = warming.step(artist);
        } else {
            let Some(chore) = self.waiting.pop_front() else { return false };
            match chore {
                Chore::AddAvatar { latents, decode_rows, reply } => {
                    let added = artist.network.add_avatar(&latents, decode_rows);
                    if let Err(Ok(unwanted)) = reply.send(added) {
                        artist.network.remove_avatar(unwanted);
                    }
                }
                Chore::Equip { avatar, with, reply } => {
                    let _ = reply.send(equip(artist, avatar, &with));
                }
                Chore::WarmUp { avatar, reply } => self.warming = Some(Warming::new(avatar, reply)),
                Chore::RemoveAvatar { avatar } => artist.network.remove_avatar(avatar),
            }
        }
        self.since = Some(Instant::now());
        self.rest();
        true
    }

    fn rest(&mut self) {
        if self.warming.is_none() && self.waiting.is_empty() {
            self.since = None;
        }
    }
}

fn equip(artist: &mut Artist, avatar: AvatarHandle, with: &Equipment) -> Result<(), LipSyncError> {
    if let Some(folder) = &with.decoder {
        artist.network.set_decoder(avatar, folder)?;
    }
    artist.network.add_canvas(avatar, &with.avatar)
}

impl Warming {
    fn new(avatar: AvatarHandle, reply: oneshot::Sender<Result<(), LipSyncError>>) -> Self {
        // Taken from the end: small ones first, and of each size the last round is the one that is measured.
        let rounds = |size: usize| (0..WARM_UP_ROUNDS).map(move |round| (size, round == 0));
        Self { avatar, left: BATCH_SIZES.into_iter().rev().flat_map(rounds).collect(), reply }
    }

    /// Draws one batch of silence. `None` once it is over.
    fn step(mut self, artist: &mut Artist) -> Option<Self> {
        let Some((size, is_measured)) = self.left.pop().filter(|_| !self.reply.is_closed()) else {
            let _ = self.reply.send(Ok(()));
            return None;
        };
        let audio = vec![0.0; LIPSYNC_SAMPLES_PER_FRAME * size].into();
        let run = MouthRun { avatar: self.avatar, poses: vec![0; size], audio, first_frame_at: 0 };
        match artist.try_out(&run) {
            Ok(took) => {
                if is_measured {
                    artist.capacity.learn(size, took);
                }
                if took > HOPELESS {
                    let seconds = took.as_secs_f64() / f64::from(u32::try_from(size).unwrap_or(1));
                    tracing::warn!(
                        "this model takes about {seconds:.1} s for a frame on this machine, where 0.04 s is real time: \
                         films will come slowly and live sessions will show few mouths"
                    );
                    artist.capacity.learn(size, took);
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
