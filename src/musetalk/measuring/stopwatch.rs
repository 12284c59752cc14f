//! How long each stage of a batch takes, for benches. Serving does not measure, and so never waits for a GPU in between.

use std::time::{Duration, Instant};

use tch::{Cuda, Device};

/// A batch's times, by stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageTimes {
    /// Latents gathered; mel, audio encoder, each frame's tokens.
    pub features: Duration,
    /// The UNet, and its latents turned into the autoencoder's.
    pub unet: Duration,
    /// Latents to pictures, by whichever decoders.
    pub decode: Duration,
    /// Pasting on the device; zero where whole crops are copied out instead.
    pub paste: Duration,
    /// The finished planes, or the picture made 8-bit RGB, brought to the host.
    pub copy: Duration,
}

impl StageTimes {
    /// All stages together.
    pub fn total(&self) -> Duration {
        self.features + self.unet + self.decode + self.paste + self.copy
    }
}

/// Runs or is off.
#[derive(Debug)]
pub struct Stopwatch(Option<(Device, Instant)>);

impl Stopwatch {
    /// Never waits, and every lap is zero.
    pub fn off() -> Self {
        Self(None)
    }

    /// For work on `device`.
    pub fn start(device: Device) -> Self {
        finish(device);
        Self(Some((device, Instant::now())))
    }

    /// The time since the last lap, once all that was begun is done; zero, and no waiting, if it is off.
    pub fn lap(&mut self) -> Duration {
        let Some((device, since)) = &mut self.0 else { return Duration::ZERO };
        finish(*device);
        let now = Instant::now();
        now.duration_since(std::mem::replace(since, now))
    }
}

/// A GPU works on after the call that asked it to.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(i64::try_from(index).unwrap_or(0));
    }
}
