//! How fast a model draws: batches of given sizes, stage by stage, and the device's roof in the same breath.
//!
//! In here: running and timing, on the thread that calls. Not in here: pasting, which the caller brings; what the numbers
//! are reported as (`commands::throughput`).

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use super::Result;
use super::model::MuseTalk;
use super::precision::Precision;
use super::stopwatch::{StageTimes, Stopwatch};
use crate::lipsync::{AvatarHandle, MouthFrame, MouthRun};

/// Not counted: buffers grow and kernels are chosen.
const WARM_UP_ROUNDS: usize = 2;
/// Rows and columns of the matrices that show the roof: large enough that memory does not count.
const ROOF_SIZE_CPU: i64 = 2048;
const ROOF_SIZE_CUDA: i64 = 8192;

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub stages: StageTimes,
    pub compose: Duration,
}

impl Sample {
    pub fn total(&self) -> Duration {
        self.stages.total() + self.compose
    }
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// FLOP a second of the best of the matrix products, one before each round, in the UNet's floats.
    pub unet_roof: f64,
    /// The same in the decoder's.
    pub decoder_roof: f64,
    /// For each of the sizes asked for, a sample for each round.
    pub sizes: Vec<(usize, Vec<Sample>)>,
}

/// Draws batches of each size in turn, `rounds` times, so that whatever else the machine does disturbs all sizes alike.
/// Every batch hears new sound, as speech is. `poses` is the number of the avatar's own frames; `paste` is given each mouth
/// with its pose.
pub fn measure(
    model: &mut MuseTalk,
    (avatar, poses): (AvatarHandle, usize),
    sizes: &[usize],
    rounds: usize,
    paste: &mut dyn FnMut(usize, &MouthFrame),
) -> Result<Throughput> {
    let (device, precisions) = (model.device(), model.precisions());
    let mut roof = Roof::new(device, precisions.unet)?;
    let other = (precisions.decoder != precisions.unet).then_some(precisions.decoder);
    let mut other = other.map(|decoder| Roof::new(device, decoder)).transpose()?;
    let mut found: Vec<(usize, Vec<Sample>)> = sizes.iter().map(|&size| (size, Vec::new())).collect();
    for round in 0..WARM_UP_ROUNDS + rounds {
        roof.try_once()?;
        other.iter_mut().try_for_each(Roof::try_once)?;
        for (size, samples) in &mut found {
            let poses: Vec<usize> = (0..*size).map(|frame| frame % poses.max(1)).collect();
            let run = MouthRun { avatar, poses, audio: tone().into(), first_frame_at: 0 };
            let (mouths, stages) = model.draw(std::slice::from_ref(&run), &mut Stopwatch::start(device))?;
            let started = Instant::now();
            for (pose, mouth) in run.poses.iter().zip(mouths.iter().flatten()) {
                paste(*pose, mouth);
            }
            if round >= WARM_UP_ROUNDS {
                samples.push(Sample { stages, compose: started.elapsed() });
            }
        }
    }
    let decoder_roof = other.as_ref().unwrap_or(&roof).best;
    Ok(Throughput { unet_roof: roof.best, decoder_roof, sizes: found })
}

/// A second of a voice's lowest tone, not silence: what a network makes of zeros may be numbers too small to be quick.
#[allow(clippy::cast_precision_loss, reason = "16 000")]
fn tone() -> Vec<f32> {
    (0..16_000).map(|at| (at as f32 * std::f32::consts::TAU * 110.0 / 16_000.0).sin() * 0.3).collect()
}

/// Products of two large matrices, in the same floats and with the same threads as a network.
struct Roof {
    factors: [Tensor; 2],
    flop: f64,
    best: f64,
}

impl Roof {
    fn new(device: Device, precision: Precision) -> Result<Self> {
        let size = if device.is_cuda() { ROOF_SIZE_CUDA } else { ROOF_SIZE_CPU };
        let random = || -> Result<Tensor> {
            Ok(Tensor::f_randn([size, size], (Kind::Float, device))?.f_to_kind(precision.kind())?)
        };
        let flop = 2.0 * f64::from(i32::try_from(size).unwrap_or(0)).powi(3);
        Ok(Self { factors: [random()?, random()?], flop, best: 0.0 })
    }

    fn try_once(&mut self) -> Result<()> {
        let mut watch = Stopwatch::start(self.factors[0].device());
        let _product = self.factors[0].f_matmul(&self.factors[1])?;
        self.best = self.best.max(self.flop / watch.lap().as_secs_f64());
        Ok(())
    }
}
