//! Media time, and where the idle loop of each session stands in it.
//!
//! Runs on: read from any thread, a session's [`PoseClock`] kept by the playout thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::timeline::{FRAME_DURATION, MediaTime};

/// Where the idle loop of a session stands, for whoever draws mouths onto its coming frames.
#[derive(Debug, Default)]
pub struct PoseClock {
    next_pose: AtomicU64,
    next_tick: AtomicU64,
}

impl PoseClock {
    /// The pose of the first tick that is at least `delay` after `now`. Where nobody keeps this clock, as in a film, the
    /// next pose waits for as long as it takes.
    pub(crate) fn pose_after(&self, now: MediaTime, delay: Duration) -> u64 {
        let (pose, next_tick) = (self.next_pose.load(Ordering::Acquire), self.next_tick.load(Ordering::Acquire));
        if next_tick == 0 {
            return pose;
        }
        let until_tick = MediaTime::from_nanos(next_tick).since(now);
        let late = delay.saturating_sub(until_tick);
        let frame = FRAME_DURATION.as_nanos();
        pose + u64::try_from(late.as_nanos().div_ceil(frame)).unwrap_or(0)
    }

    /// When a pose will be shown if nothing holds the head. `None` if nobody keeps this clock.
    pub(crate) fn due(&self, pose: u64) -> Option<MediaTime> {
        let (next_pose, next_tick) = (self.next_pose.load(Ordering::Acquire), self.next_tick.load(Ordering::Acquire));
        let frame = u64::try_from(FRAME_DURATION.as_nanos()).unwrap_or(0);
        let ahead = pose.saturating_sub(next_pose).saturating_mul(frame);
        (next_tick > 0).then(|| MediaTime::from_nanos(next_tick.saturating_add(ahead)))
    }

    pub(super) fn publish(&self, next_pose: u64, next_tick: MediaTime) {
        self.next_pose.store(next_pose, Ordering::Release);
        self.next_tick.store(next_tick.nanos(), Ordering::Release);
    }
}

/// Media time as the playout thread reads it: nanoseconds of the monotonic clock since the loop began.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutClock {
    began: Instant,
    speed: u32,
}

impl PlayoutClock {
    /// A clock that reads zero now.
    pub fn start() -> Self {
        Self::at_speed(1)
    }

    /// For simulations: time passes so many times as fast.
    pub fn at_speed(speed: u32) -> Self {
        Self { began: Instant::now(), speed: speed.max(1) }
    }

    /// Time since the clock was started, at its speed.
    pub(crate) fn now(&self) -> MediaTime {
        let passed = self.began.elapsed().as_nanos() * u128::from(self.speed);
        MediaTime::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The moment at which this clock reads `time`.
    pub(crate) fn instant(&self, time: MediaTime) -> Instant {
        self.began + Duration::from_nanos(time.nanos().div_ceil(u64::from(self.speed)))
    }
}
