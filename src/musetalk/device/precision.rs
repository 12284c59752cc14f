//! Which floats each network of a model computes in, and which are the quickest on a device.
//!
//! In 16 bits pictures are within one level of those in 32, on a CPU as on a GPU.

use tch::{Device, Kind};

use crate::musetalk::measuring::Arithmetic;
use crate::musetalk::network::config::ModelConfig;

/// FLOP of a frame from which a UNet gains from 16 bits on a CPU. Below, calls cost more than arithmetic, and those in 16
/// bits cost more: the demo's (0.2 GFLOP) alone takes 11 ms instead of 7, MuseTalk's (178) 1.0 s instead of 2.7.
const LARGE_UNET: i64 = 5_000_000_000;

/// The floats that a network computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    #[default]
    Fp32,
    Fp16,
    Bf16,
}

impl Precision {
    pub(in crate::musetalk) fn kind(self) -> Kind {
        match self {
            Self::Fp32 => Kind::Float,
            Self::Fp16 => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }

    /// What `--dtype` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }
}

/// What a model's networks compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precisions {
    /// And the audio encoder's; latents are kept in it.
    pub unet: Precision,
    /// The autoencoder's decoder's.
    pub decoder: Precision,
}

impl Precisions {
    /// The same for all networks.
    pub(in crate::musetalk) fn all(precision: Precision) -> Self {
        Self { unet: precision, decoder: precision }
    }

    /// 16 bits on a GPU, as upstream, and on a CPU that calculates in them where that is quicker; else 32.
    pub(in crate::musetalk) fn quickest(device: Device, config: &ModelConfig) -> Self {
        let unet = Arithmetic::of_frame(config, [0, config.latent_size()]).unet;
        Self::choose(device.is_cuda(), cpu_has_fp16(), unet)
    }

    fn choose(on_gpu: bool, cpu_has_fp16: bool, unet_flop: i64) -> Self {
        match (on_gpu, cpu_has_fp16) {
            (true, _) => Self::all(Precision::Fp16),
            (false, false) => Self::all(Precision::Fp32),
            (false, true) if unet_flop >= LARGE_UNET => Self::all(Precision::Fp16),
            (false, true) => Self { unet: Precision::Fp32, decoder: Precision::Fp16 },
        }
    }
}

/// Others only store 16 bits and calculate in 32, which is slower than 32 throughout.
fn cpu_has_fp16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512fp16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Whether it calculates in bfloat16: what libtorch makes of that is found by trying.
pub(in crate::musetalk) fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_taken_where_they_are_quicker() {
        let (small, large) = (217_000_000, 178_000_000_000);
        let [fp32, fp16] = [Precision::Fp32, Precision::Fp16].map(Precisions::all);
        let mixed = Precisions { unet: Precision::Fp32, decoder: Precision::Fp16 };
        for (on_gpu, cpu_has_fp16, unet, expected) in [
            (true, false, small, fp16),
            (true, true, large, fp16),
            (false, false, large, fp32),
            (false, false, small, fp32),
            (false, true, large, fp16),
            (false, true, small, mixed),
        ] {
            assert_eq!(Precisions::choose(on_gpu, cpu_has_fp16, unet), expected, "{on_gpu} {cpu_has_fp16} {unet}");
        }
    }
}
