//! The first half of a sentence's way: its speech is resampled, its frames are announced to playout, and batches of them
//! go to the engine.
//!
//! In here: which frames are drawn, when, and in which batches. Not in here: what becomes of a batch (`finisher`), how
//! much sound a frame needs (`lipsync::window`).
//! Runs on: the session's tokio task that speaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;

use super::{AHEAD_KB, AnimationError, Animator, BatchInFlight, UNWATCHED_FRAMES_AHEAD, kilobytes};
use crate::ids::SentenceId;
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::MouthRun;
use crate::lipsync::batch::batch_size;
use crate::lipsync::engine::Urgency;
use crate::lipsync::window::{self, Loudness};
use crate::playout::{Command, FrameAudio};
use crate::speech::pcm::to_i16;
use crate::speech::resample::Resampler;
use crate::speech::{PcmChunk, PcmStream, SpeechError};
use crate::timeline::{LIPSYNC_RATE, LIPSYNC_SAMPLES_PER_FRAME, PLAYOUT_RATE, PLAYOUT_SAMPLES_PER_FRAME};

/// Plans one sentence.
pub(super) struct Planner<'a> {
    animator: &'a Animator,
    sentence: SentenceId,
    cancelled: &'a CancellationToken,
    times: &'a TurnTimes,
    batches: mpsc::Sender<BatchInFlight>,
    /// For the network: 16 kHz, from sample `dropped` of the sentence on.
    network_audio: Vec<f32>,
    dropped: usize,
    /// What of it the engine was given last, until more comes: several batches are drawn from what a quick voice sends.
    shared: Option<Arc<[f32]>>,
    /// For playout: 48 kHz, not yet announced.
    playout_audio: VecDeque<f32>,
    loudness: Loudness,
    /// Announced so far.
    frames: u64,
    /// Those of them that are drawn.
    mouths: usize,
    start_pose: u64,
    /// Playout knows of the sentence.
    begun: bool,
    /// The voice has sent something.
    has_audio: bool,
}

/// What became of a sentence's sound.
pub(super) struct Planned {
    /// Announced to playout.
    pub frames: u64,
    /// The pose after the last of them.
    pub end_pose: u64,
    /// Why there are no more.
    pub failure: Option<SpeechError>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        animator: &'a Animator,
        sentence: SentenceId,
        cancelled: &'a CancellationToken,
        times: &'a TurnTimes,
        batches: mpsc::Sender<BatchInFlight>,
    ) -> Self {
        Self {
            animator,
            sentence,
            cancelled,
            times,
            batches,
            network_audio: Vec::new(),
            dropped: 0,
            shared: None,
            playout_audio: VecDeque::new(),
            loudness: Loudness::default(),
            frames: 0,
            mouths: 0,
            start_pose: 0,
            begun: false,
            has_audio: false,
        }
    }

    /// Consumes the planner, and with it the way to the second half, which ends when it has finished what is in
    /// flight.
    pub(super) async fn run(
        mut self,
        mut speech: PcmStream,
        words: impl Fn(Vec<u32>),
    ) -> Result<Planned, AnimationError> {
        let mut resamplers: Option<(Resampler, Resampler)> = None;
        let failure = voice_failure(self.read(&mut speech, words, &mut resamplers).await)?;
        // What a voice said before it failed is spoken.
        let failure = failure.or(voice_failure(self.finish(resamplers).await)?);
        // In any case, or playout would wait for more of it.
        if self.begun {
            self.send(Command::EndSentence { sentence: self.sentence }).await?;
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
        while let Some(chunk) = speech.next().await {
            let mut chunk = chunk?;
            if !chunk.words.is_empty() {
                words(std::mem::take(&mut chunk.words));
            }
            self.feed(&chunk, resamplers, asked)?;
            // Everything that is there already, so that frames are drawn in the largest batches that may be.
            while let Some(chunk) = unconstrained(speech.next()).now_or_never().flatten() {
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

    /// Takes in a chunk as the synthesiser or the client delivered it.
    fn feed(
        &mut self,
        chunk: &PcmChunk,
        resamplers: &mut Option<(Resampler, Resampler)>,
        asked: Instant,
    ) -> Result<(), AnimationError> {
        if !std::mem::replace(&mut self.has_audio, true) {
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
        self.network_audio.extend_from_slice(network);
        self.shared = None;
        self.loudness.push(network);
        self.playout_audio.extend(playout);
    }

    /// Announces every frame of which enough is known.
    async fn plan(&mut self, complete: bool) -> Result<(), AnimationError> {
        let drawable = window::drawable_frames(self.dropped + self.network_audio.len(), complete);
        while self.planned() < drawable {
            self.begin().await?;
            let first = self.planned();
            if self.loudness.is_quiet(first) || self.animator.audience.is_empty() {
                self.announce(true).await?;
                continue;
            }
            let loud = (first..drawable).take_while(|frame| !self.loudness.is_quiet(*frame)).count();
            let size = batch_size(self.mouths, self.mouths + loud);
            self.draw(first, size).await?;
        }
        Ok(())
    }

    fn planned(&self) -> usize {
        usize::try_from(self.frames).unwrap_or(usize::MAX)
    }

    /// Chooses the pose of the first frame and tells playout of the sentence, once.
    async fn begin(&mut self) -> Result<(), AnimationError> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let playout = &self.animator.playout;
        let idle = playout.pose.pose_after(playout.clock.now(), self.animator.first_mouth);
        // Behind sentences that are still to be shown, or where the idle loop will be when the mouth is there.
        self.start_pose = idle.max(self.animator.end_pose);
        let (sentence, start_pose, cancelled) = (self.sentence, self.start_pose, self.cancelled.clone());
        self.send(Command::BeginSentence { sentence, start_pose, cancelled }).await
    }

    /// Sends the sound of the next frame once there is room for it.
    async fn announce(&mut self, own: bool) -> Result<(), AnimationError> {
        let permit = self.permit().await?;
        let audio = self.next_audio();
        self.frames += 1;
        self.animator.announced.fetch_add(1, Ordering::Relaxed);
        let avatar = self.animator.performer.number();
        self.send(Command::Frame { sentence: self.sentence, audio, own, avatar, permit }).await
    }

    /// Whatever is announced while nobody watches has no mouth, so it goes no further ahead than the first viewer may have
    /// to wait for one.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, AnimationError> {
        let unwatched = self.animator.audience.is_empty();
        let share =
            if unwatched { AHEAD_KB / UNWATCHED_FRAMES_AHEAD } else { kilobytes(&self.animator.performer.now().own) };
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
        // Whoever performs once there is room: frames that were announced for another get the mouth of this one.
        let of = self.animator.performer.now();
        let batch = MouthRun {
            avatar: of.handle,
            poses: (0..size as u64).map(|at| of.own.index(pose + at)).collect(),
            audio: self.sound(),
            first_frame_at: first * LIPSYNC_SAMPLES_PER_FRAME - self.dropped,
        };
        let sent = Instant::now();
        let playout = &self.animator.playout;
        let deadline = playout.pose.due(pose).map(|due| playout.clock.instant(due));
        // Playout holds the head for a sentence's first mouth.
        let urgency = Urgency { deadline, awaited: first == 0 };
        let mouths = self.animator.lease.draw(batch, urgency, self.cancelled.clone()).await?;
        let sentence = self.sentence;
        let in_flight = BatchInFlight { sentence, of, first: first as u64, pose, mouths, frames: size, sent };
        self.batches.send(in_flight).await.map_err(|_| AnimationError::Ended("compose"))
    }

    /// What the engine is given: one copy of it, however many batches are drawn from it.
    fn sound(&mut self) -> Arc<[f32]> {
        Arc::clone(self.shared.get_or_insert_with(|| self.network_audio.as_slice().into()))
    }

    /// Keeps what the network hears before a frame; cut at whole frames so that positions stay exact.
    fn forget_old_audio(&mut self, frame: usize) {
        let keep_from = (frame * LIPSYNC_SAMPLES_PER_FRAME).saturating_sub(self.animator.lease.context_samples());
        // In steps of a second, since what is kept moves down.
        let step = LIPSYNC_RATE as usize;
        if keep_from >= self.dropped + step {
            let drop = (keep_from - self.dropped) / LIPSYNC_SAMPLES_PER_FRAME * LIPSYNC_SAMPLES_PER_FRAME;
            self.network_audio.drain(..drop);
            self.shared = None;
            self.dropped += drop;
        }
    }

    /// The next 40 ms; what is missing at the end of the sentence is silence.
    fn next_audio(&mut self) -> FrameAudio {
        let mut audio = Box::new([0; PLAYOUT_SAMPLES_PER_FRAME]);
        let known = self.playout_audio.len().min(PLAYOUT_SAMPLES_PER_FRAME);
        for (out, sample) in audio.iter_mut().zip(self.playout_audio.drain(..known)) {
            *out = to_i16(sample);
        }
        audio
    }

    async fn send(&self, command: Command) -> Result<(), AnimationError> {
        self.animator.playout.commands.send(command).await.map_err(|_| AnimationError::Ended("playout"))
    }
}

/// A fault of the voice ends a sentence, any other one leaves nothing of it.
fn voice_failure(outcome: Result<(), AnimationError>) -> Result<Option<SpeechError>, AnimationError> {
    match outcome {
        Ok(()) => Ok(None),
        Err(AnimationError::Speech(error)) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}
