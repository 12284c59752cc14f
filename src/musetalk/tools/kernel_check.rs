//! Kernels of our own against libtorch's plain operators on a GPU: how far off they are, and how long both take.
//!
//! In here: the shapes that the networks have, and odd ones. The measure of both is the plain operators in 32 bits, of the very
//! same numbers; pasting has to be the same to the byte. Runs on: the thread that calls, which waits for the device.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::device::Precision;
use crate::musetalk::gpu::kernels::{self, GroupNormOf};
use crate::musetalk::measuring::Stopwatch;
use crate::musetalk::network::layers::channels_last;
use crate::musetalk::serving::canvas::{self, Canvas};
use crate::picture::{AvatarFrame, CropBox, I420Frame, Mask, Region};

/// Maps of the UNet and of both decoders, small and large batches, and some that are no whole number of anything.
const NORMS: [[i64; 4]; 19] = [
    [1, 1280, 4, 4],
    [1, 2560, 4, 4],
    [1, 1280, 8, 8],
    [1, 640, 16, 16],
    [1, 320, 32, 32],
    [16, 320, 32, 32],
    [16, 640, 32, 32],
    [16, 960, 32, 32],
    [16, 1920, 16, 16],
    [16, 2560, 8, 8],
    [1, 512, 32, 32],
    [16, 512, 64, 64],
    [16, 512, 128, 128],
    [1, 128, 256, 256],
    [16, 128, 256, 256],
    [32, 32, 64, 64],
    [3, 96, 7, 9],
    [2, 160, 61, 59],
    [1, 1920, 1, 1],
];
const ADDS: [[i64; 4]; 6] =
    [[1, 1280, 4, 4], [16, 320, 32, 32], [16, 512, 64, 64], [16, 128, 256, 256], [16, 64, 256, 256], [3, 96, 7, 9]];
/// Rows and the width of the gated half.
const GATES: [[i64; 2]; 5] = [[16, 5120], [1024, 1280], [16_384, 1280], [4096, 2560], [7, 40]];
/// Frames of a batch that is pasted, sides of crops, and which of their rows are there.
const PASTES: [(usize, i64, [i64; 2]); 4] =
    [(1, 256, [128, 256]), (16, 256, [128, 256]), (40, 256, [96, 240]), (5, 96, [8, 88])];
const GROUPS: i64 = 32;

/// One kernel at one shape.
#[derive(Clone, Debug)]
pub struct KernelRow {
    /// What it does.
    pub kernel: &'static str,
    /// Of what it is given.
    pub shape: Vec<i64>,
    /// The floats that the tensors are in.
    pub precision: Precision,
    /// The farthest that it is off, as a part of 1 and the value; of pasting, bytes that differ.
    pub error: f64,
    /// The same of the plain operators in those floats.
    pub plain_error: f64,
    /// Microseconds of a call, the device's time or what launching takes, whichever is longer.
    pub micros: f64,
    /// The same of the plain operators.
    pub plain_micros: f64,
    /// What has to be read and written, a second, in 10^9 bytes.
    pub gigabytes_per_second: f64,
    /// Whether it is as near as the plain operators in those floats, or nearly.
    pub holds: bool,
}

/// Compares all kernels on a GPU at all shapes, in these floats, each time the mean of `rounds` calls. An error where there are
/// no kernels.
pub fn check(device: Device, precision: Precision, rounds: u32) -> Result<Vec<KernelRow>> {
    if !kernels::prepare(device, precision.kind()) {
        return Err(LipSyncError::Config {
            field: "device".to_owned(),
            problem: format!("{device:?} has no kernels of our own; the log says why"),
        });
    }
    let _no_grad = tch::no_grad_guard();
    tch::manual_seed(7);
    let bench = Bench { device, precision, rounds };
    let mut rows = Vec::new();
    for shape in NORMS {
        rows.push(bench.group_norm(shape)?);
    }
    for shape in ADDS {
        rows.push(bench.add(shape)?);
    }
    for [count, columns] in GATES {
        rows.push(bench.geglu(count, columns)?);
    }
    for (frames, side, [first, end]) in PASTES {
        rows.push(bench.paste(frames, side, [first, end])?);
    }
    Ok(rows)
}

struct Bench {
    device: Device,
    precision: Precision,
    rounds: u32,
}

/// What a kernel did not take.
fn refused() -> LipSyncError {
    LipSyncError::Config { field: "device".to_owned(), problem: "a kernel does not take what it is for".to_owned() }
}

/// A number for each channel as a map of one pixel.
fn spread(numbers: &Tensor) -> Result<Tensor> {
    Ok(numbers.f_view([1, -1, 1, 1])?)
}

/// The same in memory of its own, laid out alike.
fn copied(x: &Tensor) -> Result<Tensor> {
    let mut copy = x.f_empty_like()?;
    copy.f_copy_(x)?;
    Ok(copy)
}

impl Bench {
    fn random(&self, shape: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_randn(shape, (Kind::Float, self.device))?.f_to_kind(self.precision.kind())?)
    }

    /// Numbers for each channel, some way from 0.
    fn vector(&self, channels: i64) -> Result<Tensor> {
        Ok(self.random(&[channels])?.f_mul_scalar(0.3)?.f_add_scalar(0.7)?)
    }

    fn map(&self, shape: [i64; 4]) -> Result<Tensor> {
        channels_last(&self.random(&shape)?)
    }

    /// Microseconds of a call.
    fn time(&self, work: &dyn Fn() -> Result<()>) -> Result<f64> {
        work()?;
        let mut watch = Stopwatch::start(self.device);
        for _ in 0..self.rounds {
            work()?;
        }
        Ok(watch.lap().as_secs_f64() * 1e6 / f64::from(self.rounds.max(1)))
    }

    /// The same for `ours` and `plain`, and how far both are from `truth`. `moved` is bytes.
    fn row(
        &self,
        (kernel, shape): (&'static str, &[i64]),
        moved: usize,
        (ours, plain): (&dyn Fn() -> Result<Tensor>, &dyn Fn() -> Result<Tensor>),
        truth: &Tensor,
    ) -> Result<KernelRow> {
        let error = |made: &Tensor| -> Result<f64> {
            let off = made.f_to_kind(Kind::Float)?.f_sub(truth)?.f_abs()?.f_div(&truth.f_abs()?.f_add_scalar(1.0)?)?;
            Ok(off.f_max()?.f_double_value(&[])?)
        };
        let (found, plain_error) = (error(&ours()?)?, error(&plain()?)?);
        let micros = self.time(&|| ours().map(drop))?;
        let plain_micros = self.time(&|| plain().map(drop))?;
        // What one rounding may be off, if the plain operators happen to be nearer.
        let rounding = match self.precision {
            Precision::Fp32 => 1e-5,
            Precision::Fp16 => 5e-4,
            Precision::Bf16 => 4e-3,
        };
        #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
        let gigabytes_per_second = moved as f64 / micros / 1e3;
        Ok(KernelRow {
            kernel,
            shape: shape.to_vec(),
            precision: self.precision,
            error: found,
            plain_error,
            micros,
            plain_micros,
            gigabytes_per_second,
            holds: found <= plain_error.max(rounding) * 2.0,
        })
    }

    fn bytes(&self, numbers: usize) -> usize {
        numbers * if self.precision == Precision::Fp32 { 4 } else { 2 }
    }

    /// With the bias of the convolution before it and SiLU behind it.
    fn group_norm(&self, shape: [i64; 4]) -> Result<KernelRow> {
        let x = self.map(shape)?;
        let [weight, bias, shift] = [self.vector(shape[1])?, self.vector(shape[1])?, self.vector(shape[1])?];
        let plain = |x: &Tensor, [weight, bias, shift]: [&Tensor; 3]| -> Result<Tensor> {
            let x = x.f_add(&spread(shift)?)?;
            Ok(x.f_group_norm(GROUPS, Some(weight), Some(bias), 1e-5, true)?.f_silu()?)
        };
        let [w, b, s] = [&weight, &bias, &shift].map(|vector| vector.f_to_kind(Kind::Float));
        let truth = plain(&x.f_to_kind(Kind::Float)?, [&w?, &b?, &s?])?;
        let norm =
            GroupNormOf { weight: &weight, bias: &bias, groups: GROUPS, eps: 1e-5, shift: Some(&shift), silu: true };
        let ours = || kernels::group_norm(&x, norm)?.ok_or_else(refused);
        let theirs = || plain(&x, [&weight, &bias, &shift]);
        self.row(("group_norm", &shape), self.bytes(2 * x.numel()), (&ours, &theirs), &truth)
    }

    /// A bias and the map around it, in place: of copies, whose time is in both.
    fn add(&self, shape: [i64; 4]) -> Result<KernelRow> {
        let (a, b, bias) = (self.map(shape)?, self.map(shape)?, self.vector(shape[1])?);
        let truth = a.f_to_kind(Kind::Float)?.f_add(&b.f_to_kind(Kind::Float)?)?;
        let truth = truth.f_add(&spread(&bias.f_to_kind(Kind::Float)?)?)?;
        let ours = || {
            let to = copied(&a)?;
            if kernels::add(&to, Some(&b), [Some(&bias), None], false)? { Ok(to) } else { Err(refused()) }
        };
        let theirs = || {
            let to = copied(&a)?;
            Ok(to.f_add(&spread(&bias)?)?.f_add(&b)?)
        };
        self.row(("copy and add", &shape), self.bytes(5 * a.numel()), (&ours, &theirs), &truth)
    }

    fn geglu(&self, rows: i64, columns: i64) -> Result<KernelRow> {
        let x = self.random(&[1, rows, 2 * columns])?.f_mul_scalar(2.0)?;
        let plain = |x: &Tensor| -> Result<Tensor> {
            let (value, gate) = (x.f_narrow(-1, 0, columns)?, x.f_narrow(-1, columns, columns)?);
            Ok(value.f_mul(&gate.f_gelu("none")?)?)
        };
        let truth = plain(&x.f_to_kind(Kind::Float)?)?;
        let ours = || kernels::geglu(&x)?.ok_or_else(refused);
        self.row(("geglu", &x.size()), self.bytes(x.numel() / 2 * 3), (&ours, &|| plain(&x)), &truth)
    }

    /// Regions of two sizes, of two avatars, and the copy to the host.
    fn paste(&self, frames: usize, side: i64, [first, end]: [i64; 2]) -> Result<KernelRow> {
        let crop = u32::try_from(side).unwrap_or(0);
        let mask = Mask { width: 200, height: 180, alpha: (0..200 * 180).map(level).collect() };
        let own = [own_frame([40, 60, 200, 160]), own_frame([42, 64, 180, 150]), own_frame([44, 60, 200, 160])];
        let canvases = [Canvas::of_frames(&own, &mask, crop, self.device)?, {
            Canvas::of_frames(&own[..2], &mask, crop, self.device)?
        }];
        let count = i64::try_from(frames).unwrap_or(0);
        let picture = channels_last(&self.random(&[count, 3, end - first, side])?.f_mul_scalar(0.7)?)?;
        let into: Vec<(&Canvas, usize)> = (0..frames).map(|at| (&canvases[at % 2], at % (3 - at % 2))).collect();
        let paste = |ours: bool| {
            kernels::enable(ours);
            let fetched = canvas::paste(&picture, first, &into).and_then(|planes| planes.fetch());
            kernels::enable(true);
            fetched
        };
        let (ours, plain) = (paste(true)?, paste(false)?);
        let pairs = ours.iter().zip(&plain).flat_map(|(ours, plain)| ours.data.iter().zip(&plain.data));
        let bytes: usize = ours.iter().map(|planes| planes.data.len()).sum();
        let differ = pairs.filter(|(ours, plain)| ours != plain).count();
        let alike = ours.len() == plain.len() && bytes == plain.iter().map(|planes| planes.data.len()).sum::<usize>();
        let micros = self.time(&|| paste(true).map(drop))?;
        let plain_micros = self.time(&|| paste(false).map(drop))?;
        #[allow(clippy::cast_precision_loss, reason = "below 2^53")]
        let (error, moved) = (differ as f64, (bytes + self.bytes(picture.numel())) as f64);
        Ok(KernelRow {
            kernel: "paste and fetch",
            shape: picture.size(),
            precision: self.precision,
            error,
            plain_error: 0.0,
            micros,
            plain_micros,
            gigabytes_per_second: moved / micros / 1e3,
            holds: alike && differ == 0,
        })
    }
}

/// A level for each number, in no order.
fn level(at: u32) -> u8 {
    let [level, ..] = (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes();
    level
}

/// A frame of an avatar of which a region of these places and sizes changes.
fn own_frame([x, y, width, height]: [u32; 4]) -> AvatarFrame {
    let region = Region { x, y, width, height, rgb: (0..width * height * 3).map(level).collect() };
    let crop = CropBox { x: 30, y: 20, width: width + 30, height: height + 50 };
    let picture = I420Frame { width: 2, height: 2, data: vec![0; 6] };
    AvatarFrame { picture: Arc::new(picture), crop, region }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_there_is_nothing_to_compare() {
        let error = check(Device::Cpu, Precision::Fp16, 1).unwrap_err().to_string();
        assert!(error.contains("no kernels of our own"), "{error}");
    }
}
