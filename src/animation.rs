//! Takes one stream of speech through resampling, engine and pasting to playout: one segment at a time.
//!
//! In here: what goes to playout when, and how far ahead of the picture on screen the engine works.
//! Not in here: sentences and synthesis (`speech`), the order of segments on screen (`playout::schedule`).
//! Runs on: the session's tokio task.

mod finisher;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::audience::Audience;
use crate::avatar::Avatar;
use crate::compose::Composer;
use crate::ids::{SegmentId, UtteranceId};
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::devices::Desk;
use crate::lipsync::engine::{Due, EngineError, Mouths};
use crate::lipsync::window::{self, Loudness};
use crate::lipsync::{AvatarHandle, LipSyncError, MouthRun};
use crate::playout::{Command, FrameAudio, SessionPlayout, Volume};
use crate::speech::resample::{Resampler, to_i16};
use crate::speech::{PcmChunk, PcmStream, SpeechError};
use crate::timeline::{LIPSYNC_RATE, LIPSYNC_SAMPLES_PER_FRAME, PLAYOUT_RATE, PLAYOUT_SAMPLES_PER_FRAME};

use finisher::Finisher;

/// Frames drawn ahead of the screen: 640 ms at 25 fps. Fewer and one slow batch shows; more is work thrown away at
/// an interruption. It also is all that a session keeps in memory (6 MB at 512x512).
const FRAMES_AHEAD: usize = 16;
/// The same while nobody watches: 80 ms.
const UNWATCHED_FRAMES_AHEAD: usize = 2;
/// Room between the two halves of a segment's way. With the batch that each half holds, three are at the engine at
/// most: one being drawn, the next ready so that the engine never idles for us, and one more.
const BATCHES_BETWEEN: usize = 1;
/// What drawing the first mouth is expected to take before anything was measured.
const FIRST_MOUTH_GUESS: Duration = Duration::from_millis(50);

/// How a segment went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Frames handed to playout.
    pub frames: u64,
    /// Why the avatar's own frames were shown instead of mouths, if they were.
    pub lip_sync_error: Option<LipSyncError>,
}

#[derive(Debug, thiserror::Error)]
pub enum AnimationError {
    #[error(transparent)]
    Speech(#[from] SpeechError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the {0} thread has ended")]
    Ended(&'static str),
    /// The utterance was interrupted; nothing more of it will be shown.
    #[error("interrupted")]
    Cancelled,
}

/// One session's way from sound to playout.
pub struct Animator {
    desk: Desk,
    composer: Composer,
    avatar: Arc<Avatar>,
    handle: AvatarHandle,
    playout: SessionPlayout,
    audience: Audience,
    ahead: Arc<Semaphore>,
    /// The pose after the last frame of everything sent so far.
    end_pose: u64,
    /// Frames announced to playout so far.
    announced: AtomicU64,
    /// Smoothed time from knowing a segment's first frame's sound to having its mouth.
    first_mouth: Duration,
}

/// A batch at the engine, in order of frames.
struct InFlight {
    segment: SegmentId,
    first: u64,
    pose: u64,
    mouths: oneshot::Receiver<Result<Mouths, LipSyncError>>,
    frames: usize,
    sent: Instant,
}

impl Animator {
    pub fn new(
        desk: Desk,
        composer: Composer,
        avatar: Arc<Avatar>,
        handle: AvatarHandle,
        playout: SessionPlayout,
        audience: Audience,
    ) -> Self {
        Self {
            desk,
            composer,
            avatar,
            handle,
            playout,
            audience,
            ahead: Arc::new(Semaphore::new(FRAMES_AHEAD)),
            end_pose: 0,
            announced: AtomicU64::new(0),
            first_mouth: FIRST_MOUTH_GUESS,
        }
    }

    /// How loud the session speaks.
    pub fn volume(&self) -> Arc<Volume> {
        Arc::clone(&self.playout.volume)
    }

    /// Frames that playout was given so far, also of streams that failed, were cancelled or whose speaking was dropped.
    pub fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Speaks one stream. Returns when its last mouth is handed to playout, which is up to 16 frames
    /// before it is seen. A stream that fails is spoken up to there; after a cancellation nothing more of it is sent. `words`
    /// is told when each word begins, before any of it is heard, if the voice knows it.
    pub async fn speak(
        &mut self,
        utterance: UtteranceId,
        speech: PcmStream,
        cancelled: &CancellationToken,
        times: &TurnTimes,
        words: impl Fn(Vec<u32>),
    ) -> Result<Outcome, AnimationError> {
        let outcome = tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(AnimationError::Cancelled),
            outcome = self.run(utterance, speech, cancelled, times, words) => outcome,
        };
        if !matches!(outcome, Ok(_) | Err(AnimationError::Speech(_))) {
            // What was planned will not be shown, so the next segment starts where the idle loop stands.
            self.end_pose = 0;
        }
        outcome
    }

    /// Tells playout that no more segments of the utterance come.
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
        utterance: UtteranceId,
        speech: PcmStream,
        cancelled: &CancellationToken,
        times: &TurnTimes,
        words: impl Fn(Vec<u32>),
    ) -> Result<Outcome, AnimationError> {
        let (batches, drawn) = mpsc::channel(BATCHES_BETWEEN);
        let finisher = Finisher {
            desk: &self.desk,
            composer: self.composer.clone(),
            avatar: Arc::clone(&self.avatar),
            commands: self.playout.commands.clone(),
        };
        let planner = Planner::new(self, utterance, cancelled, times, batches);
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
        Ok(Outcome { frames: planned.frames, lip_sync_error: finished.error })
    }
}

/// First half of a segment's way: sound in, frames announced to playout, batches to the engine.
struct Planner<'a> {
    animator: &'a Animator,
    segment: SegmentId,
    utterance: UtteranceId,
    cancelled: &'a CancellationToken,
    times: &'a TurnTimes,
    batches: mpsc::Sender<InFlight>,
    /// 16 kHz from `dropped` on.
    heard: Vec<f32>,
    dropped: usize,
    /// What of it the engine was given last, until more comes: several batches are drawn from what a quick voice sends.
    shared: Option<Arc<[f32]>>,
    /// 48 kHz not yet announced.
    playout: VecDeque<f32>,
    loudness: Loudness,
    frames: u64,
    mouths: usize,
    start_pose: u64,
    begun: bool,
    heard_any: bool,
}

struct Planned {
    frames: u64,
    end_pose: u64,
    /// Why there are no more.
    failure: Option<SpeechError>,
}

impl<'a> Planner<'a> {
    fn new(
        animator: &'a Animator,
        utterance: UtteranceId,
        cancelled: &'a CancellationToken,
        times: &'a TurnTimes,
        batches: mpsc::Sender<InFlight>,
    ) -> Self {
        Self {
            animator,
            segment: SegmentId::next(),
            utterance,
            cancelled,
            times,
            batches,
            heard: Vec::new(),
            dropped: 0,
            shared: None,
            playout: VecDeque::new(),
            loudness: Loudness::default(),
            frames: 0,
            mouths: 0,
            start_pose: 0,
            begun: false,
            heard_any: false,
        }
    }

    /// Consumes the planner, and with it the way to the second half, which ends when it has finished what is in
    /// flight.
    async fn run(mut self, mut speech: PcmStream, words: impl Fn(Vec<u32>)) -> Result<Planned, AnimationError> {
        let mut resamplers: Option<(Resampler, Resampler)> = None;
        let failure = spoken_up_to(self.read(&mut speech, words, &mut resamplers).await)?;
        // What a voice said before it failed is spoken.
        let failure = failure.or(spoken_up_to(self.finish(resamplers).await)?);
        // In any case, or playout would wait for more of it.
        if self.begun {
            self.send(Command::EndSegment { segment: self.segment }).await?;
        }
        Ok(Planned { frames: self.frames, end_pose: self.start_pose + self.frames, failure })
    }

    /// Takes in the stream as it comes and plans what can be planned.
    async fn read(
        &mut self,
        speech: &mut PcmStream,
        words: impl Fn(Vec<u32>),
        resamplers: &mut Option<(Resampler, Resampler)>,
    ) -> Result<(), AnimationError> {
        let asked = Instant::now();
        while let Some(chunk) = speech.recv().await {
            let mut chunk = chunk?;
            if !chunk.words.is_empty() {
                words(std::mem::take(&mut chunk.words));
            }
            self.feed(&chunk, resamplers, asked)?;
            // Everything that is there already, so that frames are drawn in the largest batches that may be.
            while let Ok(chunk) = speech.try_recv() {
                let mut chunk = chunk?;
                if !chunk.words.is_empty() {
                    words(std::mem::take(&mut chunk.words));
                }
                self.feed(&chunk, resamplers, asked)?;
            }
            self.plan(false).await?;
        }
        Ok(())
    }

    /// Plans what is left once no more comes.
    async fn finish(&mut self, resamplers: Option<(Resampler, Resampler)>) -> Result<(), AnimationError> {
        if let Some((mut to_network, mut to_playout)) = resamplers {
            let (network, playout) = (to_network.finish()?, to_playout.finish()?);
            self.take(&network, &playout);
        }
        self.loudness.finish();
        self.plan(true).await
    }

    /// Takes in a piece as the synthesiser or the client delivered it.
    fn feed(
        &mut self,
        chunk: &PcmChunk,
        resamplers: &mut Option<(Resampler, Resampler)>,
        asked: Instant,
    ) -> Result<(), AnimationError> {
        if !std::mem::replace(&mut self.heard_any, true) {
            self.times.reach(Stage::FirstAudio, Instant::now());
            crate::metrics::tts_first_audio(asked.elapsed());
        }
        if resamplers.is_none() {
            let rate = chunk.sample_rate;
            *resamplers = Some((Resampler::new(rate, LIPSYNC_RATE)?, Resampler::new(rate, PLAYOUT_RATE)?));
        }
        if let Some((to_network, to_playout)) = resamplers {
            let (network, playout) = (to_network.push(&chunk.samples)?, to_playout.push(chunk.heard())?);
            self.take(&network, &playout);
        }
        Ok(())
    }

    fn take(&mut self, network: &[f32], playout: &[f32]) {
        self.heard.extend_from_slice(network);
        self.shared = None;
        self.loudness.push(network);
        self.playout.extend(playout);
    }

    /// Announces every frame of which enough is known.
    async fn plan(&mut self, complete: bool) -> Result<(), AnimationError> {
        let drawable = window::drawable_frames(self.dropped + self.heard.len(), complete);
        while self.planned() < drawable {
            self.begin().await?;
            let first = self.planned();
            if self.loudness.is_quiet(first) || self.animator.audience.is_empty() {
                self.announce(true).await?;
                continue;
            }
            let loud = (first..drawable).take_while(|frame| !self.loudness.is_quiet(*frame)).count();
            let size = window::batch_size(self.mouths, self.mouths + loud);
            self.draw(first, size).await?;
        }
        Ok(())
    }

    fn planned(&self) -> usize {
        usize::try_from(self.frames).unwrap_or(usize::MAX)
    }

    /// Chooses the pose of the first frame and opens the segment, once.
    async fn begin(&mut self) -> Result<(), AnimationError> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let playout = &self.animator.playout;
        let idle = playout.pose.pose_after(playout.clock.now(), self.animator.first_mouth);
        // Behind segments that are still to be shown, or where the idle loop will be when the mouth is there.
        self.start_pose = idle.max(self.animator.end_pose);
        let (segment, utterance, start_pose) = (self.segment, self.utterance, self.start_pose);
        self.send(Command::Begin { segment, utterance, start_pose, cancelled: self.cancelled.clone() }).await
    }

    /// Sends the sound of the next frame once there is room for it.
    async fn announce(&mut self, own: bool) -> Result<(), AnimationError> {
        let permit = self.permit().await?;
        let audio = self.next_audio();
        self.frames += 1;
        self.animator.announced.fetch_add(1, Ordering::Relaxed);
        self.send(Command::Frame { segment: self.segment, audio, own, permit }).await
    }

    /// Whatever is announced while nobody watches has no mouth, so it goes no further ahead than the first viewer may have
    /// to wait for one.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, AnimationError> {
        let share = if self.animator.audience.is_empty() { FRAMES_AHEAD / UNWATCHED_FRAMES_AHEAD } else { 1 };
        let share = u32::try_from(share).unwrap_or(1);
        // Never closed while the animator lives.
        Arc::clone(&self.animator.ahead).acquire_many_owned(share).await.map_err(|_| AnimationError::Ended("session"))
    }

    /// Announces `size` frames and sends them to the engine together.
    async fn draw(&mut self, first: usize, size: usize) -> Result<(), AnimationError> {
        let pose = self.start_pose + self.frames;
        for _ in 0..size {
            self.announce(false).await?;
        }
        self.mouths += size;
        self.forget_old_audio(first);
        let batch = MouthRun {
            avatar: self.animator.handle,
            poses: (0..size as u64).map(|at| self.animator.avatar.cycle.frame(pose + at)).collect(),
            audio: self.sound(),
            first_frame_at: first * LIPSYNC_SAMPLES_PER_FRAME - self.dropped,
        };
        let sent = Instant::now();
        let playout = &self.animator.playout;
        let deadline = playout.pose.due(pose).map(|due| playout.clock.instant(due));
        // Playout holds the head for a segment's first mouth.
        let due = Due { deadline, awaited: first == 0 };
        let mouths = self.animator.desk.draw(batch, due, self.cancelled.clone()).await?;
        let in_flight = InFlight { segment: self.segment, first: first as u64, pose, mouths, frames: size, sent };
        self.batches.send(in_flight).await.map_err(|_| AnimationError::Ended("compose"))
    }

    /// What the engine is given: one copy of it, however many batches are drawn from it.
    fn sound(&mut self) -> Arc<[f32]> {
        Arc::clone(self.shared.get_or_insert_with(|| self.heard.as_slice().into()))
    }

    /// Keeps what the network hears before a frame; cut at whole frames so that positions stay exact.
    fn forget_old_audio(&mut self, frame: usize) {
        let keep_from = (frame * LIPSYNC_SAMPLES_PER_FRAME).saturating_sub(self.animator.desk.hears_back());
        // In steps of a second, since what is kept moves down.
        let step = LIPSYNC_RATE as usize;
        if keep_from >= self.dropped + step {
            let drop = (keep_from - self.dropped) / LIPSYNC_SAMPLES_PER_FRAME * LIPSYNC_SAMPLES_PER_FRAME;
            self.heard.drain(..drop);
            self.shared = None;
            self.dropped += drop;
        }
    }

    /// The next 40 ms; what is missing at the end of the segment is silence.
    fn next_audio(&mut self) -> FrameAudio {
        let mut audio = Box::new([0; PLAYOUT_SAMPLES_PER_FRAME]);
        let known = self.playout.len().min(PLAYOUT_SAMPLES_PER_FRAME);
        for (out, sample) in audio.iter_mut().zip(self.playout.drain(..known)) {
            *out = to_i16(sample);
        }
        audio
    }

    async fn send(&self, command: Command) -> Result<(), AnimationError> {
        self.animator.playout.commands.send(command).await.map_err(|_| AnimationError::Ended("playout"))
    }
}

/// A fault of the voice ends a segment, any other one leaves nothing of it.
fn spoken_up_to(outcome: Result<(), AnimationError>) -> Result<Option<SpeechError>, AnimationError> {
    match outcome {
        Ok(()) => Ok(None),
        Err(AnimationError::Speech(error)) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
