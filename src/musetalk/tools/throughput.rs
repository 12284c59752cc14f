//! How fast a model draws: batches of given sizes, stage by stage, and the device's roof in the same breath.
//!
//! In here: running and timing, on the thread that calls. Not in here: pasting, which the caller brings; what the numbers
//! are reported as (`commands::throughput`).

use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::lipsync::batch::WARM_UP_ROUNDS;
use crate::lipsync::{AvatarHandle, LipSync, Mouth, MouthRun};
use crate::musetalk::Result;
use crate::musetalk::device::Precision;
use crate::musetalk::measuring::{StageTimes, Stopwatch};
use crate::musetalk::network::attention;
use crate::musetalk::network::layers::channels_last;
use crate::musetalk::serving::MuseTalk;
use crate::timeline::LIPSYNC_RATE;

/// Samples of a second of sound.
const SECOND: usize = LIPSYNC_RATE as usize;
/// What shows the roof, large enough that memory does not count: rows and columns of the matrices, and maps convolved.
const ROOF_CPU: (i64, i64) = (2048, 1);
const ROOF_CUDA: (i64, i64) = (8192, 64);
/// Of the maps.
const ROOF_CHANNELS: i64 = 512;
const ROOF_SIDE: i64 = 64;

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The stages of drawing it.
    pub stages: StageTimes,
    /// Pasting its mouths, one after the other.
    pub compose: Duration,
}

impl Sample {
    /// Everything.
    pub fn total(&self) -> Duration {
        self.stages.total() + self.compose
    }
}

/// Self-attention at one of the UNet's levels, once for a batch: the operator in use, and the same written out.
#[derive(Clone, Copy, Debug)]
pub struct AttentionTimes {
    /// Numbers of a query or key of one head.
    pub head_size: i64,
    /// Pixels of the map, each of which is a token.
    pub tokens: i64,
    /// libtorch's operator, which the network uses.
    pub fused: Duration,
    /// Two products and a softmax.
    pub written_out: Duration,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub struct Throughput {
    /// FLOP a second of the best of what shows the roof, once before each round, in the UNet's floats.
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
    paste: &mut dyn FnMut(usize, &Mouth),
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
            if round < WARM_UP_ROUNDS {
                model.warm_up(std::slice::from_ref(&run))?;
            }
            let (mouths, stages) = model.draw_timed(std::slice::from_ref(&run), &mut Stopwatch::start(device))?;
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

/// How long one frame takes on the model's device: the quicker of two, drawn from nothing.
pub fn time_of_frame(model: &mut MuseTalk) -> Result<Duration> {
    let avatar = model.add_blank_avatar()?;
    let mut frame = || -> Result<Duration> {
        let run = MouthRun { avatar, poses: vec![0], audio: vec![0.0; SECOND].into(), first_frame_at: 0 };
        let started = Instant::now();
        model.draw(&[run])?;
        Ok(started.elapsed())
    };
    let times = [frame(), frame()];
    model.remove_avatar(avatar);
    let [first, second] = times;
    Ok(first?.min(second?))
}

/// The attention of each of the UNet's levels that has one, for `batch` frames, at the median of `rounds`.
pub fn measure_attention(model: &MuseTalk, batch: i64, rounds: usize) -> Result<Vec<AttentionTimes>> {
    let _no_grad = tch::no_grad_guard();
    let (config, device, kind) = (&model.config().unet, model.device(), model.precisions().unet.kind());
    let mut found = Vec::new();
    let levels = config.block_out_channels.iter().zip(&config.down_block_types).enumerate();
    for (level, (&channels, _)) in levels.filter(|(_, (_, kind))| kind.as_str().contains("CrossAttn")) {
        let side = model.config().latent_size() >> level;
        // The number of heads, in spite of its name.
        let heads = config.attention_head_dim;
        let (tokens, head_size) = (side * side, channels / heads);
        let part = || -> Result<Tensor> {
            let random = Tensor::f_randn([batch, tokens, heads, head_size], (Kind::Float, device))?;
            Ok(random.f_to_kind(kind)?.f_transpose(1, 2)?)
        };
        let (query, key, value) = (part()?, part()?, part()?);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..WARM_UP_ROUNDS + rounds {
            let mut watch = Stopwatch::start(device);
            drop(attention::fused(&query, &key, &value)?);
            let fused = watch.lap();
            drop(attention::written_out(&query, &key, &value)?);
            let written_out = watch.lap();
            if round >= WARM_UP_ROUNDS {
                times[0].push(fused);
                times[1].push(written_out);
            }
        }
        let [fused, written_out] = times.map(|mut times| {
            times.sort();
            times.get(times.len() / 2).copied().unwrap_or_default()
        });
        found.push(AttentionTimes { head_size, tokens, fused, written_out });
    }
    Ok(found)
}

/// A second of a voice's lowest tone, not silence: what a network makes of zeros may be numbers too small to be quick.
#[allow(clippy::cast_precision_loss, reason = "16 000")]
fn tone() -> Vec<f32> {
    (0..SECOND).map(|at| (at as f32 * std::f32::consts::TAU * 110.0 / SECOND as f32).sin() * 0.3).collect()
}

/// A product of two large matrices and a wide convolution, in the same floats and with the same threads as a network. Both,
/// since neither is the quicker everywhere: in 16 bits on a CPU with matrix units a convolution is twice as fast.
struct Roof {
    factors: [Tensor; 2],
    map: Tensor,
    kernel: Tensor,
    best: f64,
}

impl Roof {
    fn new(device: Device, precision: Precision) -> Result<Self> {
        let (size, batch) = if device.is_cuda() { ROOF_CUDA } else { ROOF_CPU };
        let random = |shape: &[i64]| -> Result<Tensor> {
            Ok(Tensor::f_randn(shape, (Kind::Float, device))?.f_to_kind(precision.kind())?)
        };
        let map = channels_last(&random(&[batch, ROOF_CHANNELS, ROOF_SIDE, ROOF_SIDE])?)?;
        let kernel = channels_last(&random(&[ROOF_CHANNELS, ROOF_CHANNELS, 3, 3])?)?;
        Ok(Self { factors: [random(&[size, size])?, random(&[size, size])?], map, kernel, best: 0.0 })
    }

    fn try_once(&mut self) -> Result<()> {
        let mut watch = Stopwatch::start(self.map.device());
        let product = self.factors[0].f_matmul(&self.factors[1])?;
        let multiplied = watch.lap();
        let convolved = self.map.f_conv2d(&self.kernel, None::<Tensor>, [1, 1], [1, 1], [1, 1], 1)?;
        let convolving = watch.lap();
        for (made, products, took) in
            [(product, self.factors[0].size2()?.1, multiplied), (convolved, 9 * ROOF_CHANNELS, convolving)]
        {
            let flop = 2.0 * count(made.numel()) * count(usize::try_from(products).unwrap_or(0));
            self.best = self.best.max(flop / took.as_secs_f64());
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
fn count(numbers: usize) -> f64 {
    numbers as f64
}
