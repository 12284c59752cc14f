//! Stage one: the autoencoder, on patches of the face's crops.

use rand::Rng;
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

use super::Result;
use super::checkpoints::{load_part, save_parts};
use super::latents::to_picture;
use super::losses::{picture_loss, psnr};
use super::parts::{DecoderPart, EncoderPart};
use super::run::Run;
use super::schedule::Clock;
use super::subject::Layout;

const CROPS: usize = 9000;
/// Of the crops, the last ones are only looked at.
const HELD_OUT: i64 = 48;
const PATCHES: usize = 20;
const PATCH: i64 = 64;
const LEARNING_RATE: f64 = 2.5e-3;
/// Noise on the latents: what the UNet gives is never exact.
const LATENT_NOISE: f64 = 0.02;

/// Trains and saves both halves; returns mean and deviation of the latents' channels.
pub(super) fn train(run: &Run<'_>) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut rng = run.rng(1);
    let crops = run.subject.examples(CROPS, &run.corpus.speeches, &mut rng)?;
    let layout = run.subject.layout();
    let [mouth_rows, mouth_columns] = &layout.mouth_begins;
    let (encoder, decoder) = (EncoderPart::new(&run.config)?, DecoderPart::teacher(&run.config)?);
    let path = run.checkpoint("autoencoder");
    if run.options.resume && path.exists() {
        load_part(&encoder.store, &path)?;
        load_part(&decoder.store, &path)?;
    }
    let mut optimizers = [
        nn::Adam::default().build(&encoder.store, LEARNING_RATE)?,
        nn::Adam::default().build(&decoder.store, LEARNING_RATE)?,
    ];
    let (total, side, _, _) = crops.size4()?;
    let mut clock = Clock::new(run.options.budget.autoencoder);
    while clock.progress() < 1.0 {
        let mut patches = Vec::with_capacity(PATCHES);
        for index in 0..PATCHES {
            let crop = rng.random_range(0..total - HELD_OUT);
            let most = side - PATCH;
            // Most of them on the mouth; all at even offsets of a latent cell or not, as they fall.
            let (x, y) = if index % 4 < 3 {
                (rng.random_range(mouth_columns.clone()), rng.random_range(mouth_rows.clone()))
            } else {
                (rng.random_range(0..=most), rng.random_range(0..=most))
            };
            // On the grid of latent cells, so that a patch is coded as it is within the crop.
            let (x, y) = (x / 8 * 8, y / 8 * 8);
            patches.push(crops.f_get(crop)?.f_narrow(0, y, PATCH)?.f_narrow(1, x, PATCH)?);
        }
        let truth = to_picture(&Tensor::f_stack(&patches, 0)?)?;
        let latent = encoder.encoder.encode(&truth)?;
        let noisy = latent.f_add(&latent.f_randn_like()?.f_mul_scalar(LATENT_NOISE)?)?;
        let drawn = decoder.decoder.decode(&noisy)?;
        let loss = picture_loss(&drawn, &truth)?;
        clock.learn(&mut optimizers, &loss, LEARNING_RATE)?;
        if clock.step.is_multiple_of(100) {
            let (whole, mouth) = judge(&encoder, &decoder, &crops, &layout)?;
            run.log(&serde_json::json!({
                "stage": "autoencoder", "step": clock.step, "seconds": clock.seconds(), "loss": clock.take_loss(),
                "psnr_db": whole, "mouth_psnr_db": mouth,
            }));
        }
        if clock.checkpoint_due() {
            save_parts(&[&encoder.store, &decoder.store], &path, false)?;
        }
    }
    save_parts(&[&encoder.store, &decoder.store], &path, false)?;
    let (whole, mouth) = judge(&encoder, &decoder, &crops, &layout)?;
    run.log(&serde_json::json!({ "stage": "autoencoder", "done": true, "step": clock.step, "psnr_db": whole, "mouth_psnr_db": mouth }));
    statistics(&encoder, &crops)
}

fn judge(encoder: &EncoderPart, decoder: &DecoderPart, crops: &Tensor, layout: &Layout) -> Result<(f64, f64)> {
    tch::no_grad(|| {
        let truth = to_picture(&crops.f_narrow(0, crops.size()[0] - HELD_OUT, HELD_OUT)?)?;
        let drawn = decoder.decoder.decode(&encoder.encoder.encode(&truth)?)?;
        Ok((psnr(&drawn, &truth)?, psnr(&layout.mouth.of(&drawn)?, &layout.mouth.of(&truth)?)?))
    })
}

/// Mean and deviation per channel.
fn statistics(encoder: &EncoderPart, crops: &Tensor) -> Result<(Vec<f32>, Vec<f32>)> {
    tch::no_grad(|| {
        let latent = encoder.encoder.encode(&to_picture(&crops.f_narrow(0, 0, 512)?)?)?;
        let flat = latent.f_transpose(0, 1)?.f_flatten(1, -1)?;
        let mean = flat.f_mean_dim(1, false, Kind::Float)?;
        let std = flat.f_std_dim(1, true, false)?;
        let list = |tensor: Tensor| -> Result<Vec<f32>> { Ok(Vec::<f32>::try_from(tensor)?) };
        Ok((list(mean)?, list(std)?))
    })
}
