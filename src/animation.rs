//! Takes the speech of one sentence after the other through resampling, engine and pasting to playout.
//!
//! In here: a session's [`Animator`], and how far ahead of the picture on screen the engine works. A sentence goes in two
//! halves beside each other: `planner` has sound come in, frames announced to playout and batches sent to the engine;
//! `finisher` has mouths come back, pasted and sent to playout. `performer` is the avatar that all this is done for.
//! Not in here: cutting text into sentences and their synthesis (`speech`), what is on screen when (`playout::schedule`).
//! Runs on: the session's tokio task that speaks.

mod finisher;
mod performer;
mod planner;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::audience::Audience;
use crate::avatar::OwnFrames;
use crate::compose::Composer;
use crate::ids::{SentenceId, UtteranceId};
use crate::latency::TurnTimes;
use crate::lipsync::device_pool::DeviceLease;
use crate::lipsync::engine::{DrawnRun, EngineError};
use crate::lipsync::{AvatarHandle, LipSyncError};
use crate::playout::{Command, SessionPlayout, Volume};
use crate::speech::{PcmStream, SpeechError};

use finisher::Finisher;
pub use performer::Performer;
use performer::Performing;
use planner::Planner;

/// Frames drawn ahead of the screen: 640 ms at 25 fps. Fewer and one slow batch shows; more is work thrown away at
/// an interruption.
const FRAMES_AHEAD: u32 = 16;
/// The same of pictures so large that [`AHEAD_KB`] holds no more: 240 ms.
const LEAST_FRAMES_AHEAD: u32 = 6;
/// The same while nobody watches: 80 ms.
const UNWATCHED_FRAMES_AHEAD: u32 = 2;
/// Kilobytes of pictures that a session may have drawn ahead, which large ones reach first: 12 of 1920x1080. Room for a frame
/// is a part of it, so that it holds for whichever avatar is drawn next.
const AHEAD_KB: u32 = 40_000;
/// Room between the two halves of a sentence's way. With the batch that each half holds, three are at the engine at
/// most: one being drawn, the next ready so that the engine never idles for us, and one more.
const BATCHES_BETWEEN: usize = 1;
/// What drawing the first mouth is expected to take before anything was measured.
const FIRST_MOUTH_GUESS: Duration = Duration::from_millis(50);

/// How a sentence went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Frames handed to playout.
    pub frames: u64,
    /// Those of them that a mouth was to be drawn for.
    pub mouths: u64,
    /// Those mouths that there was no time to draw.
    pub mouths_left_out: u64,
    /// Why the avatar's own frames were shown instead of mouths, if they were.
    pub lip_sync_error: Option<LipSyncError>,
}

/// Why a sentence is not spoken, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AnimationError {
    /// The voice failed; what it said before that is spoken.
    #[error(transparent)]
    Speech(#[from] SpeechError),
    /// The engine takes no more work.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The thread of this name is gone, and what was announced to playout may lack pictures for ever.
    #[error("the {0} thread has ended")]
    Ended(&'static str),
    /// The utterance was interrupted; nothing more of it will be shown.
    #[error("interrupted")]
    Cancelled,
}

/// One session's way from sound to playout.
pub struct Animator {
    lease: DeviceLease,
    composer: Composer,
    performer: Performer,
    playout: SessionPlayout,
    audience: Audience,
    /// What is free of [`AHEAD_KB`].
    ahead: Arc<Semaphore>,
    /// The pose after the last frame of everything sent so far.
    end_pose: u64,
    /// Frames announced to playout so far.
    announced: AtomicU64,
    /// Smoothed time from knowing the sound of a sentence's first frame to having its mouth.
    first_mouth: Duration,
}

/// A batch at the engine, in order of frames.
struct BatchInFlight {
    sentence: SentenceId,
    /// Whose mouths they are. Held until they are pasted, so that the avatar stays at the engine for as long.
    of: Performing,
    /// Which frame of the sentence its first one is.
    first: u64,
    /// Of its first frame.
    pose: u64,
    mouths: oneshot::Receiver<Result<DrawnRun, LipSyncError>>,
    frames: usize,
    sent: Instant,
}

impl Animator {
    /// Speaks as the avatar of these frames, into this place in playout.
    pub fn new(
        lease: DeviceLease,
        composer: Composer,
        own: OwnFrames,
        handle: AvatarHandle,
        playout: SessionPlayout,
        audience: Audience,
    ) -> Self {
        let performer = Performer::new(own, handle, playout.commands.clone());
        Self {
            lease,
            composer,
            performer,
            playout,
            audience,
            ahead: Arc::new(Semaphore::new(AHEAD_KB as usize)),
            end_pose: 0,
            announced: AtomicU64::new(0),
            first_mouth: FIRST_MOUTH_GUESS,
        }
    }

    /// Who is animated.
    pub fn performer(&self) -> Performer {
        self.performer.clone()
    }

    /// How loud the session speaks.
    pub fn volume(&self) -> Arc<Volume> {
        Arc::clone(&self.playout.volume)
    }

    /// Frames that playout was given so far, also of sentences that failed, were cancelled or whose speaking was dropped.
    pub fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Speaks one sentence. Returns when its last mouth is handed to playout, which is up to 16 frames before it is seen. One
    /// whose speech fails is spoken up to there; after a cancellation nothing more of it is sent. `words` is told when each
    /// word begins, in milliseconds from the beginning of the sentence, before any of it is heard, if the voice knows it.
    pub async fn speak(
        &mut self,
        sentence: SentenceId,
        speech: PcmStream,
        cancelled: &CancellationToken,
        times: &TurnTimes,
        words: impl Fn(Vec<u32>),
    ) -> Result<Outcome, AnimationError> {
        let outcome = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(AnimationError::Cancelled),
            outcome = self.run(sentence, speech, cancelled, times, words) => outcome,
        };
        if !matches!(outcome, Ok(_) | Err(AnimationError::Speech(_))) {
            // What was planned will not be shown, so the next sentence starts where the idle loop stands.
            self.end_pose = 0;
        }
        outcome
    }

    /// Tells playout that no more sentences of the utterance come.
    pub async fn end_utterance(
        &self,
        utterance: UtteranceId,
        cancelled: &CancellationToken,
    ) -> Result<(), AnimationError> {
        self.playout
            .commands
            .send(Command::EndUtterance { utterance, cancelled: cancelled.clone() })
            .await
            .map_err(|_| AnimationError::Ended("playout"))
    }

    async fn run(
        &mut self,
        sentence: SentenceId,
        speech: PcmStream,
        cancelled: &CancellationToken,
        times: &TurnTimes,
        words: impl Fn(Vec<u32>),
    ) -> Result<Outcome, AnimationError> {
        let (batches, drawn) = mpsc::channel(BATCHES_BETWEEN);
        let finisher =
            Finisher { lease: &self.lease, composer: self.composer.clone(), commands: self.playout.commands.clone() };
        let planner = Planner::new(self, sentence, cancelled, times, batches);
        let (planned, finished) = tokio::join!(planner.run(speech, words), finisher.run(drawn));
        let (planned, finished) = (planned?, finished?);
        if planned.frames > 0 {
            self.end_pose = planned.end_pose;
        }
        if let Some(error) = planned.failure {
            return Err(error.into());
        }
        if let Some(took) = finished.first_mouth {
            self.first_mouth = (self.first_mouth * 3 + took) / 4;
        }
        Ok(Outcome {
            frames: planned.frames,
            mouths: finished.mouths,
            mouths_left_out: finished.left_out,
            lip_sync_error: finished.error,
        })
    }
}

/// What a frame of these takes of the room ahead.
fn kilobytes(own: &OwnFrames) -> u32 {
    let picture = u32::try_from(own.avatar().base.data.len().div_ceil(1000)).unwrap_or(u32::MAX);
    picture.clamp(AHEAD_KB / FRAMES_AHEAD, AHEAD_KB / LEAST_FRAMES_AHEAD)
}

#[cfg(test)]
mod tests;
