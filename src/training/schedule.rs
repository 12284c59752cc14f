//! When a stage's steps are done, how fast it learns until then, and when it saves.

use std::time::{Duration, Instant};

/// Time between two checkpoints of a stage.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(120);

/// How fast a run that goes on from an earlier one learns, which ended slow, beside one that begins.
pub(super) const RESUMED_RATE: f64 = 0.45;

/// Where a stage stands in its steps, and with it its learning rate.
pub(super) struct Clock {
    begun: Instant,
    checkpoint: Instant,
    steps: u32,
    pub step: u32,
}

impl Clock {
    pub fn new(steps: u32) -> Self {
        let now = Instant::now();
        Self { begun: now, checkpoint: now, steps, step: 0 }
    }

    /// 0 at the start, 1 when all steps are done.
    pub fn progress(&self) -> f64 {
        (f64::from(self.step) / f64::from(self.steps.max(1))).min(1.0)
    }

    /// Cosine from 1 to nearly 0, after a short rise.
    pub fn rate(&self) -> f64 {
        let rise = (f64::from(self.step) + 1.0) / 60.0;
        let fall = 0.5 + 0.5 * (std::f64::consts::PI * self.progress()).cos();
        rise.min(1.0) * (0.01 + 0.99 * fall)
    }

    pub fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Whether it is time to save.
    pub fn checkpoint_due(&mut self) -> bool {
        let due = self.checkpoint.elapsed() > CHECKPOINT_EVERY;
        if due {
            self.checkpoint = Instant::now();
        }
        due
    }
}
