//! When a stage's steps are done, how fast it learns until then, a step itself, and when it saves.

use std::time::{Duration, Instant};

use tch::{Tensor, nn};

use super::Result;

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
    /// Of the steps since the mean was last taken.
    losses: (f64, u32),
}

impl Clock {
    pub fn new(steps: u32) -> Self {
        let now = Instant::now();
        Self { begun: now, checkpoint: now, steps, step: 0, losses: (0.0, 0) }
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

    /// A step of all that these optimizers have: against the loss, at most at the rate `peak`, and where that is steep, no
    /// farther than elsewhere.
    pub fn learn(&mut self, optimizers: &mut [nn::Optimizer], loss: &Tensor, peak: f64) -> Result<()> {
        for optimizer in &mut *optimizers {
            optimizer.set_lr(peak * self.rate());
            optimizer.zero_grad();
        }
        loss.f_backward()?;
        for optimizer in optimizers {
            optimizer.clip_grad_norm(1.0);
            optimizer.step();
        }
        self.losses.0 += loss.f_double_value(&[])?;
        self.losses.1 += 1;
        self.step += 1;
        Ok(())
    }

    /// The mean of the losses since it was last taken.
    pub fn take_loss(&mut self) -> f64 {
        let (sum, count) = std::mem::take(&mut self.losses);
        sum / f64::from(count.max(1))
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
