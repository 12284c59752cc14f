//! Which floats a model's small decoder is quicker in on its processor, found by trying both when it is loaded.
//!
//! A processor may calculate in bfloat16 (`avx512bf16`), and libtorch may still not use it or only pretend to: then they take
//! up to five times as long. The picture of a small decoder in them is within a level of that in 32 bits; Stable Diffusion's,
//! which has norms, is not. A small UNet stays in 32 bits: alone, as the first word's frame is, it takes as long in either.
//! Runs on: the thread that loads the model.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tch::{Device, Kind, Tensor, nn};

use super::model::Model;
use crate::musetalk::Result;
use crate::musetalk::device::{Precision, cpu_has_bf16};
use crate::musetalk::network::config::AutoencoderConfig;
use crate::musetalk::weights::set_kind_of;

/// Frames that are tried, and how often; the quickest counts. Before it once, since kernels are made at the first call.
const FRAMES: i64 = 4;
const ROUNDS: usize = 3;
/// What the decoder may take in 16 bits, in hundredths of what it takes in 32: a little less is not worth a level.
const WORTH: u32 = 80;
/// Of the weights' names.
const DECODER: &str = "autoencoder.";

/// Takes bfloat16 for the decoder of a model that computes in 32 bits, if that is much quicker here.
pub(super) fn choose(model: &mut Model, store: &nn::VarStore) -> Result<()> {
    let small = matches!(model.config.autoencoder, AutoencoderConfig::Tiny(_));
    if model.device != Device::Cpu || !small || model.precisions.decoder != Precision::Fp32 || !cpu_has_bf16() {
        return Ok(());
    }
    let variables = store.variables();
    let weights: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(DECODER)).collect();
    // They are put back as they were: turned there and back again they would be rounded.
    let kept: Vec<Tensor> =
        weights.iter().map(|(_, weight)| weight.f_detach()).collect::<std::result::Result<_, _>>()?;
    let threads = tch::get_num_threads();
    // This one, whose time is taken: by the clock, what else the machine does decides.
    tch::set_num_threads(1);
    let chosen = try_both(model, store);
    tch::set_num_threads(threads);
    if chosen? == Precision::Fp32 {
        model.precisions.decoder = Precision::Fp32;
        for ((_, weight), kept) in weights.into_iter().zip(&kept) {
            weight.shallow_clone().f_set_data(kept)?;
        }
    }
    Ok(())
}

/// The quicker; weights and model are left in bfloat16.
fn try_both(model: &mut Model, store: &nn::VarStore) -> Result<Precision> {
    let full = time(model)?;
    set_kind_of(store, DECODER, Kind::BFloat16)?;
    model.precisions.decoder = Precision::Bf16;
    let half = time(model)?;
    let chosen = if is_worth_it(half, full) { Precision::Bf16 } else { Precision::Fp32 };
    tracing::info!(fp32 = ?full, bf16 = ?half, chosen = chosen.name(), "the decoder's floats by measurement");
    Ok(chosen)
}

fn is_worth_it(half: Duration, full: Duration) -> bool {
    half * 100 <= full * WORTH
}

/// What a decode takes of this thread's time.
fn time(model: &Model) -> Result<Duration> {
    let _no_grad = tch::no_grad_guard();
    let side = model.config.latent_size();
    let latent = Tensor::f_zeros([FRAMES, model.config.unet.out_channels, side, side], (model.kind, model.device))?;
    drop(model.decode(&latent, 0, side)?);
    let mut quickest = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = run_for();
        drop(model.decode(&latent, 0, side)?);
        quickest = quickest.min(run_for().saturating_sub(before));
    }
    Ok(quickest)
}

/// How long this very thread has run.
fn run_for() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or(0));
    seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::musetalk::network::config::ModelConfig;
    use crate::musetalk::network::decoder::Decoder;
    use crate::musetalk::network::layers::blank;
    use crate::musetalk::weights::use_channels_last;
    use crate::musetalk::weights::{Mapping, load_safetensors};

    #[test]
    fn a_fifth_less_is_worth_it() {
        let [full, half, nearly] = [100, 80, 81].map(Duration::from_millis);
        assert!(is_worth_it(half, full) && !is_worth_it(nearly, full));
    }

    /// The bounds of pictures in 16 bits: in the mean half a level, and of a thousand values one may be more than three off.
    #[test]
    fn the_demos_decoder_draws_the_same_in_bfloat16() {
        let folder = std::path::Path::new("models/demo");
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let store = nn::VarStore::new(Device::Cpu);
        let decoder = blank(|| Decoder::new(&(store.root() / "autoencoder"), &config.autoencoder)).unwrap();
        let ignored = ["autoencoder.encoder.", "helper_head.", "audio_encoder.", "unet."];
        let mapping = Mapping { ignored: &ignored, ..Mapping::default() };
        load_safetensors(&store, &folder.join("model.safetensors"), mapping).unwrap();
        use_channels_last(&store).unwrap();
        let _no_grad = tch::no_grad_guard();
        // The avatar's own latents, as the autoencoder has them.
        let mean = Tensor::from_slice(config.latent_mean.as_ref().unwrap()).view([1, 4, 1, 1]);
        let std = Tensor::from_slice(config.latent_std.as_ref().unwrap()).view([1, 4, 1, 1]);
        let latents = Tensor::read_safetensors("models/avatars/demo/latents.safetensors").unwrap();
        let latents = latents[0].1.narrow(0, 0, 2).narrow(1, 4, 4).to_kind(Kind::Float) * std + mean;
        let level = |picture: Tensor| (picture.to_kind(Kind::Float).clamp(-1.0, 1.0) + 1.0) * 127.5;
        let full = level(decoder.decode_rows(&latents, 0, 16).unwrap());
        set_kind_of(&store, DECODER, Kind::BFloat16).unwrap();
        let half = level(decoder.decode_rows(&latents.to_kind(Kind::BFloat16), 0, 16).unwrap());
        let off = (&half - &full).abs();
        let (mean, most) = (off.mean(Kind::Float).double_value(&[]), off.max().double_value(&[]));
        let share = off.gt(3.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
        assert!(full.std(false).double_value(&[]) > 20.0, "there is a picture");
        assert!(mean < 0.5 && share < 1e-3, "mean {mean}, {share} beyond 3, at most {most}");
    }
}
