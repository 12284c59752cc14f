//! Where the pairs of a session go into one encode, and into the one that is to take its place.
//!
//! In here: which pipelines get a pair, and the moment at which another one takes over. Not in here: what passes from then on
//! (`relay`), who wants another one (`replace`).
//! Runs on: the playout thread, never blocking.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::encode::{Inlet, Outlets};
use super::relay::Stage;
use super::{Audience, Counters, KEY_FRAME_INTERVAL, Publisher};
use crate::ids::UtteranceId;
use crate::media::buffers::audio_buffers;
use crate::media::session_time::SessionTime;
use crate::playout::Pair;
use crate::timeline::MediaTime;

/// Between two tries to take over: an encoder gives no two key frames in less.
const AGAIN: Duration = KEY_FRAME_INTERVAL.saturating_add(Duration::from_millis(100));

/// Where the pairs of a session go into one encode.
#[derive(Debug)]
pub(in crate::media) struct PublisherSink {
    pub(super) inlet: Inlet,
    pub(super) next: Option<Newcomer>,
    pub(super) newcomers: blocking::Receiver<Newcomer>,
    pub(super) outlets: Outlets,
    /// Only counted: a reference that this thread holds might turn out to be the last and end the pipeline here.
    pub(super) publisher: Weak<Publisher>,
    pub(super) audience: Arc<Audience>,
    pub(super) counters: Arc<Counters>,
    pub(super) time: SessionTime,
    /// The last one that began.
    pub(super) utterance: Option<UtteranceId>,
}

/// The way into a pipeline that is to take the place of the one that passes.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub inlet: Inlet,
    pub outcome: Outcome,
    /// Nobody wants it any more.
    pub is_given_up: Arc<AtomicBool>,
    /// When it was last to take over.
    pub asked: Option<Instant>,
}

/// Tells how it went, or that the session ended, once: what is told first counts.
#[derive(Debug)]
pub(super) struct Outcome(pub blocking::SyncSender<Result<(), Option<String>>>);

impl Drop for Outcome {
    fn drop(&mut self) {
        let _ = self.0.try_send(Err(None));
    }
}

impl PublisherSink {
    /// Whether anybody still holds the publisher.
    pub fn is_needed(&self) -> bool {
        self.publisher.strong_count() > 0
    }

    pub fn push(&mut self, pair: Pair) {
        let next = self.next.take().or_else(|| self.newcomers.try_recv().ok());
        self.next = next.filter(|next| !next.is_given_up.load(Ordering::Relaxed));
        self.inlet.announce_format(&pair);
        if let Some(next) = &mut self.next {
            next.inlet.announce_format(&pair);
        }
        let Some((timeline, at)) = self.time.place(pair.index) else {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let pts = timeline.video_pts(at);
        let enters = self.next_takes_over(pts);
        let sound = audio_buffers(pair.audio.as_deref(), at, &timeline);
        self.inlet.push_sound(&sound);
        if let Some(next) = &mut self.next {
            next.inlet.push_sound(&sound);
            if !next.inlet.push_picture(&pair.frame, at, &timeline, enters) {
                tracing::debug!("the next encode is too slow");
            }
        }
        let is_replaced = self.next.as_ref().is_some_and(|next| self.outlets.video.passing() == next.inlet.generation);
        if self.audience.is_away() || is_replaced {
            return;
        }
        // An utterance may pause between its sentences; it begins only once.
        let begun = pair.utterance.filter(|utterance| self.utterance != Some(*utterance));
        if let Some(utterance) = begun {
            self.utterance = Some(utterance);
            self.inlet.mark(pts, utterance);
        }
        self.counters.pushed.fetch_add(1, Ordering::Relaxed);
        if !self.inlet.push_picture(&pair.frame, at, &timeline, begun.is_some()) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has the next one take over with this pair if it is ready to: its pictures first, its sound when those pass. Whether its
    /// picture is to be a key frame.
    fn next_takes_over(&mut self, pts: MediaTime) -> bool {
        let Some(next) = &mut self.next else { return false };
        let generation = next.inlet.generation;
        if self.outlets.iter().all(|outlet| outlet.passing() == generation) {
            let _ = next.outcome.0.try_send(Ok(()));
            if let Some(next) = self.next.take() {
                self.inlet = next.inlet;
            }
            return false;
        }
        let Outlets { video, audio } = &self.outlets;
        let is_heard = audio.as_ref().is_none_or(|audio| audio.stage() == Stage::Ready);
        if video.passing() == generation && is_heard {
            if let Some(audio) = audio {
                audio.enter(pts);
            }
        } else if video.stage() == Stage::Ready && is_heard && next.asked.is_none_or(|asked| asked.elapsed() >= AGAIN) {
            next.asked = Some(Instant::now());
            video.enter(pts);
            next.inlet.request_key_frame(pts);
            return true;
        }
        false
    }
}
