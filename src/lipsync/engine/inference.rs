//! The network's calls, with a fault kept where it belongs.
//!
//! In here: a run that fails or panics fails alone; a batch that memory is too short for is drawn in smaller ones. Not in
//! here: what is drawn next (`scheduler`). Runs on: the engine's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lipsync::capacity::Capacity;
use crate::lipsync::{LipSync, LipSyncError, Mouth, MouthRun};
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// How long batches stay smaller after memory ran out.
const SMALLER_FOR: Duration = Duration::from_secs(30);

type Drawn = Result<Vec<Mouth>, LipSyncError>;

/// Tells what time it is.
pub(super) type Clock = Box<dyn Fn() -> Instant>;

/// The network and what is known of it.
pub(super) struct Inference {
    pub network: Box<dyn LipSync>,
    pub capacity: Capacity,
    /// What time it is.
    clock: Clock,
    /// When memory last ran out, until batches are of any size again.
    short_since: Option<Instant>,
}

impl Inference {
    pub(super) fn new(network: Box<dyn LipSync>, clock: Clock) -> Self {
        Self { network, capacity: Capacity::default(), clock, short_since: None }
    }

    /// What time it is.
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Draws runs together, or each alone if together they fail; a result for each run.
    pub(super) fn draw(&mut self, runs: &[MouthRun]) -> Vec<Drawn> {
        let now = self.now();
        if self.short_since.is_some_and(|since| now.saturating_duration_since(since) >= SMALLER_FOR) {
            self.short_since = self.capacity.double_limit().then_some(now);
            tracing::info!(frames = self.capacity.limit(), "larger batches are tried again");
        }
        loop {
            match self.draw_within_limit(runs) {
                Ok(drawn) => return drawn.into_iter().map(Ok).collect(),
                Err(error) if error.is_out_of_memory() && self.capacity.halve_limit() => {
                    self.short_since = Some(now);
                    crate::metrics::out_of_memory();
                    tracing::warn!(%error, frames = self.capacity.limit(), "memory is short: batches are smaller for a while");
                }
                Err(error) if runs.len() == 1 || error.is_the_devices_end() => return vec![Err(error)],
                // One of them is at fault: the others notice nothing but the time.
                Err(_) => return runs.iter().flat_map(|run| self.draw(std::slice::from_ref(run))).collect(),
            }
        }
    }

    /// Draws runs in as few batches as the limit allows.
    fn draw_within_limit(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        let limit = self.capacity.limit();
        if runs.iter().map(|run| run.poses.len()).sum::<usize>() <= limit {
            return self.call(runs);
        }
        let mut drawn = vec![Vec::new(); runs.len()];
        let (mut of, mut pieces, mut frames) = (Vec::new(), Vec::new(), 0);
        for (at, run) in runs.iter().enumerate() {
            for piece in split(run, limit) {
                if frames + piece.poses.len() > limit {
                    self.append(&mut drawn, &std::mem::take(&mut of), &std::mem::take(&mut pieces))?;
                    frames = 0;
                }
                frames += piece.poses.len();
                of.push(at);
                pieces.push(piece);
            }
        }
        self.append(&mut drawn, &of, &pieces)?;
        Ok(drawn)
    }

    /// Draws pieces and appends each to the run that it is `of`.
    fn append(&mut self, drawn: &mut [Vec<Mouth>], of: &[usize], pieces: &[MouthRun]) -> Result<(), LipSyncError> {
        for (at, mouths) in of.iter().zip(self.call(pieces)?) {
            if let Some(run) = drawn.get_mut(*at) {
                run.extend(mouths);
            }
        }
        Ok(())
    }

    /// Draws a run that nobody waits for; the answer is how long it took, which is not learned.
    pub(super) fn time(&mut self, run: &MouthRun) -> Result<Duration, LipSyncError> {
        let started = self.now();
        let drawn = catch_unwind(AssertUnwindSafe(|| self.network.warm_up(std::slice::from_ref(run))));
        drawn.unwrap_or_else(|panic| Err(LipSyncError::Panicked(message_of(panic.as_ref()))))?;
        Ok(self.now().saturating_duration_since(started))
    }

    /// One call of the network. A panic is an error: what the network keeps between calls are weights, which drawing does
    /// not change, and what it has heard, which it looks up by the sound itself.
    fn call(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        let started = self.now();
        let drawn = catch_unwind(AssertUnwindSafe(|| self.network.draw(runs)));
        let drawn = drawn.unwrap_or_else(|panic| Err(LipSyncError::Panicked(message_of(panic.as_ref()))))?;
        if drawn.len() != runs.len() || drawn.iter().zip(runs).any(|(drawn, run)| drawn.len() != run.poses.len()) {
            let problem = "it gave another number of mouths than were asked for";
            return Err(LipSyncError::Panicked(problem.to_owned()));
        }
        let (frames, took) =
            (runs.iter().map(|run| run.poses.len()).sum(), self.now().saturating_duration_since(started));
        crate::metrics::inferred(frames, took);
        self.capacity.learn(frames, windows(runs), took);
        Ok(drawn)
    }
}

/// Windows of sound that runs hear: those of one recording share one.
fn windows(runs: &[MouthRun]) -> usize {
    let mut recordings: Vec<*const [f32]> = runs.iter().map(|run| Arc::as_ptr(&run.audio)).collect();
    recordings.sort_unstable_by_key(|recording| recording.cast::<f32>());
    recordings.dedup_by_key(|recording| recording.cast::<f32>());
    recordings.len()
}

/// A run in pieces of at most `most` frames.
fn split(run: &MouthRun, most: usize) -> impl Iterator<Item = MouthRun> + '_ {
    run.poses.chunks(most.max(1)).enumerate().map(move |(at, poses)| MouthRun {
        avatar: run.avatar,
        poses: poses.to_vec(),
        audio: Arc::clone(&run.audio),
        first_frame_at: run.first_frame_at + at * most * LIPSYNC_SAMPLES_PER_FRAME,
    })
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{self, network::FakeNetwork};
    use crate::lipsync::AvatarHandle;
    use crate::picture::MouthFrame;

    /// Has memory for `room` frames at once; draws a pixel that says which frame of its sound it is.
    fn inference(room: usize) -> Inference {
        let draw = move |runs: &[MouthRun]| {
            if runs.iter().map(|run| run.poses.len()).sum::<usize>() > room {
                return Err(kit::network::libtorch_error("CUDA error: out of memory"));
            }
            let draw = |run: &MouthRun| {
                let first = run.first_frame_at / LIPSYNC_SAMPLES_PER_FRAME;
                run.poses.iter().enumerate().map(|(at, pose)| mouth(*pose, first + at)).collect()
            };
            Ok(runs.iter().map(draw).collect())
        };
        Inference::new(Box::new(FakeNetwork::of_batches(draw)), Box::new(Instant::now))
    }

    fn mouth(pose: usize, frame: usize) -> MouthFrame {
        let [pose, frame] = [pose, frame].map(|number| u8::try_from(number).unwrap());
        kit::network::pixel([pose, frame, 0])
    }

    fn run(poses: std::ops::Range<usize>) -> MouthRun {
        MouthRun {
            avatar: AvatarHandle(0),
            poses: poses.collect(),
            audio: Arc::from([]),
            first_frame_at: 3 * LIPSYNC_SAMPLES_PER_FRAME,
        }
    }

    #[test]
    fn without_memory_for_a_batch_it_is_drawn_in_pieces_and_every_frame_is_its_own() {
        let mut small = inference(3);
        let drawn = small.draw(&[run(0..1), run(10..15), run(20..24)]);
        let wanted = |run: MouthRun| {
            (3..).zip(run.poses).map(|(frame, pose)| Mouth::Crop(mouth(pose, frame))).collect::<Vec<_>>()
        };
        let drawn: Vec<_> = drawn.into_iter().map(Result::unwrap).collect();
        assert_eq!(drawn, [wanted(run(0..1)), wanted(run(10..15)), wanted(run(20..24))]);
        assert_eq!(small.capacity.limit(), 2);
    }

    #[test]
    fn larger_batches_are_tried_again_after_a_while_and_too_little_memory_for_one_frame_is_an_error() {
        let mut small = inference(3);
        small.draw(&[run(0..8)]);
        small.short_since = small.short_since.and_then(|since| since.checked_sub(SMALLER_FOR));
        small.draw(&[run(0..1)]);
        assert_eq!(small.capacity.limit(), 4);
        let drawn = inference(0).draw(&[run(0..2), run(0..1)]);
        assert!(drawn.len() == 2 && drawn.iter().all(|drawn| drawn.as_ref().unwrap_err().is_out_of_memory()));
    }
}
