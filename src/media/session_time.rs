//! The time line of a session: when each pair is presented, and its RTP timestamps.
//!
//! In here: times by a pair's index. Not in here: when a pair is due (`playout`).
//! Runs on: any thread; nothing here waits.

use std::sync::{Arc, OnceLock};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::timeline::{self, FrameIndex, MediaTime, PLAYOUT_RATE, Samples, Timeline};

/// RFC 6184 and RFC 7741.
const VIDEO_RTP_RATE: u32 = 90_000;

/// The time line of a session, so that a pair is presented at the same moment by every encode of it, whenever that began.
#[derive(Clone, Debug)]
pub(super) struct SessionTime {
    /// Where running time starts, on the system's clock.
    base_time: gst::ClockTime,
    /// When the first pair was pushed and its index; from then on presentation time follows from the index alone.
    origin: Arc<OnceLock<(Timeline, FrameIndex)>>,
}

impl SessionTime {
    /// Running time is zero now.
    pub fn start() -> Self {
        Self { base_time: gst::SystemClock::obtain().time(), origin: Arc::default() }
    }

    /// Makes a pipeline tell this time.
    pub fn set(&self, pipeline: &gst::Pipeline) {
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(self.base_time);
    }

    /// How long it has run.
    pub fn now(&self) -> MediaTime {
        MediaTime::from_nanos(gst::SystemClock::obtain().time().saturating_sub(self.base_time).nseconds())
    }

    /// The RTP timestamp of a pair's sound: its presentation time in the clock of Opus.
    pub fn audio_rtp_timestamp(&self, index: FrameIndex) -> Option<u32> {
        self.rtp_timestamp(index, PLAYOUT_RATE)
    }

    /// When sound of this RTP timestamp is presented, as long as that is half a day from now at most.
    pub fn of_audio_rtp_timestamp(&self, timestamp: u32) -> MediaTime {
        Self::at_audio_rtp_timestamp(self.now(), timestamp)
    }

    /// The same at another time than now.
    pub(super) fn at_audio_rtp_timestamp(now: MediaTime, timestamp: u32) -> MediaTime {
        let samples = timeline::samples_at(now, PLAYOUT_RATE).0;
        let ahead = timestamp.wrapping_sub(u32::try_from(samples & u64::from(u32::MAX)).unwrap_or(0)).cast_signed();
        let at = samples.saturating_add_signed(i64::from(ahead));
        Timeline::playout(MediaTime::default()).audio_pts(Samples(at))
    }

    /// The RTP timestamp of a pair's picture, in the clock of every video payload.
    pub fn video_rtp_timestamp(&self, index: FrameIndex) -> Option<u32> {
        self.rtp_timestamp(index, VIDEO_RTP_RATE)
    }

    /// Viewers' payloaders add nothing to it. `None` before the first pair.
    fn rtp_timestamp(&self, index: FrameIndex, rate: u32) -> Option<u32> {
        let (timeline, first) = self.origin.get()?;
        let pts = timeline.video_pts(FrameIndex(index.0.checked_sub(first.0)?));
        u32::try_from(timeline::samples_at(pts, rate).0 & u64::from(u32::MAX)).ok()
    }

    /// The first pair is presented when it is pushed, every other by its index. `None` for one from before the first.
    pub(super) fn place(&self, index: FrameIndex) -> Option<(Timeline, FrameIndex)> {
        let (timeline, first) = self.origin.get_or_init(|| (Timeline::playout(self.now()), index));
        Some((*timeline, FrameIndex(index.0.checked_sub(first.0)?)))
    }
}
