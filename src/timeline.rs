//! The only place that converts between samples, frames and nanoseconds.
//!
//! Everything is computed from an index and a rate, never by adding durations up, so nothing drifts however long
//! a session runs. Not in here: clocks; whoever has one passes its reading in.

use std::time::Duration;

/// Frames a second of every avatar and every track this server sends.
pub const FPS: u32 = 25;
/// Sample rate of the audio that leaves the server (Opus' native rate).
pub const PLAYOUT_RATE: u32 = 48_000;
/// Sample rate that the audio encoder of the lip-sync network hears.
pub const LIPSYNC_RATE: u32 = 16_000;
/// Samples of playout audio that belong to one video frame.
pub const PLAYOUT_SAMPLES_PER_FRAME: usize = (PLAYOUT_RATE / FPS) as usize;
/// Samples of lip-sync audio that belong to one video frame.
pub const LIPSYNC_SAMPLES_PER_FRAME: usize = (LIPSYNC_RATE / FPS) as usize;
/// How long one frame is on screen.
pub const FRAME_DURATION: Duration = Duration::from_nanos(1_000_000_000 / FPS as u64);

/// A count of audio samples since some origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Samples(pub u64);

/// A count of video frames since some origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameIndex(pub u64);

/// Nanoseconds of running time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(u64);

impl MediaTime {
    /// So many nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Where media time zero lies and how fast frames and samples run from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The running time of sample 0 and frame 0.
    pub origin: MediaTime,
    /// Samples a second.
    pub sample_rate: u32,
    /// Frames a second.
    pub fps: u32,
}

impl Timeline {
    /// The timeline of a session whose first pair is presented at `origin`.
    pub const fn playout(origin: MediaTime) -> Self {
        Self { origin, sample_rate: PLAYOUT_RATE, fps: FPS }
    }

    /// Presentation time of a video frame.
    pub fn video_pts(&self, at: FrameIndex) -> MediaTime {
        MediaTime(self.origin.0 + scale(at.0, 1_000_000_000, self.fps))
    }

    /// Presentation time of an audio sample.
    pub fn audio_pts(&self, at: Samples) -> MediaTime {
        MediaTime(self.origin.0 + scale(at.0, 1_000_000_000, self.sample_rate))
    }

    /// The first sample that belongs to a frame.
    pub fn first_sample(&self, of: FrameIndex) -> Samples {
        Samples(scale(of.0, u64::from(self.sample_rate), self.fps))
    }

    /// The frame on screen while a sample is heard.
    pub fn frame_at(&self, sample: Samples) -> FrameIndex {
        FrameIndex(scale(sample.0, u64::from(self.fps), self.sample_rate))
    }

    /// The last frame whose presentation time is not after `now`; none before the origin.
    pub fn frame_due(&self, now: MediaTime) -> Option<FrameIndex> {
        let elapsed = now.0.checked_sub(self.origin.0)?;
        let mut frame = scale(elapsed, u64::from(self.fps), 1_000_000_000);
        // Presentation times are rounded down, so the next frame may already be due.
        if self.video_pts(FrameIndex(frame + 1)) <= now {
            frame += 1;
        }
        Some(FrameIndex(frame))
    }
}

/// A time as a count of samples, rounded down.
pub fn samples_at(time: MediaTime, rate: u32) -> Samples {
    Samples(scale(time.0, u64::from(rate), 1_000_000_000))
}

/// `value * by / over` without overflow on the way; saturates at the end of time.
fn scale(value: u64, by: u64, over: u32) -> u64 {
    let wide = u128::from(value) * u128::from(by) / u128::from(over);
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Timeline = Timeline::playout(MediaTime::from_nanos(7));

    #[test]
    fn audio_and_video_of_a_pair_start_at_the_same_nanosecond_for_ten_hours() {
        for index in 0..10 * 3600 * u64::from(FPS) {
            let frame = FrameIndex(index);
            assert_eq!(LINE.video_pts(frame), LINE.audio_pts(LINE.first_sample(frame)));
            assert_eq!(LINE.video_pts(frame).nanos(), 7 + index * 40_000_000);
        }
    }

    #[test]
    fn frame_at_does_not_drift_after_ten_hours() {
        let odd = Timeline { origin: MediaTime::default(), sample_rate: 44_100, fps: 30 };
        for index in (0..10 * 3600 * 30).step_by(997) {
            let frame = FrameIndex(index);
            let first = odd.first_sample(frame);
            assert!(odd.frame_at(Samples(first.0 + 1)) == frame);
            assert!(odd.video_pts(frame).since(odd.audio_pts(first)) < Duration::from_micros(23));
        }
    }

    #[test]
    fn a_frame_is_due_from_its_presentation_time_on() {
        assert_eq!(LINE.frame_due(MediaTime::from_nanos(6)), None);
        for index in [0, 1, 2, 899_999] {
            let at = LINE.video_pts(FrameIndex(index));
            assert_eq!(LINE.frame_due(at), Some(FrameIndex(index)));
            let before = MediaTime::from_nanos(at.nanos() - 1);
            assert_eq!(LINE.frame_due(before), index.checked_sub(1).map(FrameIndex));
        }
    }

    #[test]
    fn the_end_of_time_saturates() {
        assert_eq!(LINE.frame_at(Samples(u64::MAX)).0, u64::MAX / 1920);
        assert_eq!(scale(u64::MAX, u64::MAX, 1), u64::MAX);
    }
}
