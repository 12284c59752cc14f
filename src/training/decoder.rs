//! The last stage: a smaller decoder, which serves, learns to draw what the one draws that was trained with everything else.
//!
//! It needs no speech: what it learns from are latents of mouths at random, of mouths half way between two, and with some
//! noise, as the UNet's never are exactly a drawn mouth's. All that the teacher makes of them is wanted, its faults
//! too: whatever is looked at and measured afterwards is the teacher's, or it is this stage's fault.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

use super::Result;
use super::checkpoints::{load_part, save_parts};
use super::latents::to_picture;
use super::losses::{picture_loss, psnr};
use super::parts::{AudioPart, DecoderPart, EncoderPart, UnetPart};
use super::run::Run;
use super::schedule::Clock;
use super::subject::Crop;
use crate::musetalk::network::layers::channels_last;

/// Pairs of mouths in one pose; of each, one latent is the first mouth's and one lies between both.
const PAIRS: usize = 2000;
/// Drawn and encoded at once.
const PAIRS_AT_ONCE: usize = 25;
/// Of the latents, the last ones are only looked at.
const HELD_OUT: i64 = 100;
/// Share of a mouth's parameters that are not 0.
const MOVED: f64 = 0.45;
/// Deviation of the noise on the latents: what the UNet gives is never exact.
const LATENT_NOISE: f64 = 0.03;
const LATENTS_A_STEP: usize = 12;
const LEARNING_RATE: f64 = 3e-3;

/// Latents, `[n, channels, cells, cells]`, and what the teacher draws of them, `[n, 3, side, side]` in 16 bits.
struct Lessons {
    latents: Tensor,
    pictures: Tensor,
}

impl Lessons {
    fn make(run: &Run<'_>, encoder: &EncoderPart, teacher: &DecoderPart, rng: &mut ChaCha8Rng) -> Result<Self> {
        let (mut latents, mut pictures) = (Vec::new(), Vec::new());
        let parameters = run.subject.parameter_weights().len();
        let mouth = |rng: &mut ChaCha8Rng| -> Vec<f32> {
            (0..parameters).map(|_| if rng.random_bool(MOVED) { rng.random_range(0.0..1.0) } else { 0.0 }).collect()
        };
        for _ in 0..PAIRS / PAIRS_AT_ONCE {
            let (mut wanted, mut shares) = (Vec::new(), Vec::new());
            for _ in 0..PAIRS_AT_ONCE {
                let pose = rng.random_range(0..run.subject.poses());
                wanted.push(Crop { pose, mouth: mouth(rng) });
                wanted.push(Crop { pose, mouth: mouth(rng) });
                shares.push(rng.random_range(0.0..1.0_f32));
            }
            let crops = run.subject.crops(&wanted)?;
            let made = tch::no_grad(|| -> Result<(Tensor, Tensor)> {
                let drawn = encoder.encoder.encode(&to_picture(&crops)?)?;
                let shares = Tensor::f_from_slice(&shares)?.f_view([-1, 1, 1, 1])?;
                let pairs = drawn.f_reshape([&[-1, 2], &drawn.size()[1..]].concat())?;
                let (one, other) = (pairs.f_select(1, 0)?, pairs.f_select(1, 1)?);
                let between = one.f_add(&other.f_sub(&one)?.f_mul(&shares)?)?;
                let both = Tensor::f_cat(&[one, between], 0)?;
                let noise = both.f_randn_like()?.f_mul_scalar(LATENT_NOISE)?;
                let latents = channels_last(&both.f_add(&noise)?)?;
                let pictures = teacher.decoder.decode(&latents)?.f_to_kind(Kind::Half)?.f_contiguous()?;
                Ok((latents, pictures))
            })?;
            latents.push(made.0);
            pictures.push(made.1);
        }
        Ok(Self { latents: Tensor::f_cat(&latents, 0)?, pictures: Tensor::f_cat(&pictures, 0)? })
    }

    fn count(&self) -> Result<i64> {
        Ok(self.latents.size4()?.0)
    }

    /// Latents and pictures as the networks want them.
    fn some(&self, chosen: &Tensor) -> Result<(Tensor, Tensor)> {
        let pictures = self.pictures.f_index_select(0, chosen)?.f_to_kind(Kind::Float)?;
        Ok((channels_last(&self.latents.f_index_select(0, chosen)?)?, channels_last(&pictures)?))
    }
}

/// Trains it on top of the checkpoint of everything else and writes the model's weights.
pub(super) fn train(run: &Run<'_>) -> Result<()> {
    let mut rng = run.rng(5);
    let joint = run.checkpoint("joint");
    let (audio, unet) = (AudioPart::new(&run.config)?, UnetPart::new(&run.config)?);
    let (encoder, teacher) = (EncoderPart::new(&run.config)?, DecoderPart::teacher(&run.config)?);
    for store in [&audio.store, &unet.store, &encoder.store, &teacher.store] {
        load_part(store, &joint)?;
    }
    let student = DecoderPart::new(&run.config)?;
    let path = run.checkpoint("decoder");
    if run.options.resume && path.exists() {
        load_part(&student.store, &path)?;
    } else {
        begin_as(&student, &teacher)?;
    }
    let lessons = Lessons::make(run, &encoder, &teacher, &mut rng)?;
    run.log(&serde_json::json!({ "stage": "decoder", "latents": lessons.count()? }));
    let mouth = run.subject.layout().mouth;
    let mut optimizer = nn::Adam::default().build(&student.store, LEARNING_RATE)?;
    let mut clock = Clock::new(run.options.budget.decoder);
    while clock.progress() < 1.0 {
        let chosen: Vec<i64> =
            (0..LATENTS_A_STEP).map(|_| rng.random_range(0..lessons.count().unwrap_or(1) - HELD_OUT)).collect();
        let (latents, wanted) = lessons.some(&Tensor::f_from_slice(&chosen)?)?;
        let drawn = student.decoder.decode(&latents)?;
        // The mouth once more.
        let loss = picture_loss(&drawn, &wanted)?.f_add(&picture_loss(&mouth.of(&drawn)?, &mouth.of(&wanted)?)?)?;
        clock.learn(std::slice::from_mut(&mut optimizer), &loss, LEARNING_RATE)?;
        if clock.step.is_multiple_of(200) {
            let (whole, mouth) = judge(run, &student, &lessons)?;
            run.log(&serde_json::json!({
                "stage": "decoder", "step": clock.step, "seconds": clock.seconds(), "loss": clock.take_loss(),
                "psnr_db": whole, "mouth_psnr_db": mouth,
            }));
        }
        if clock.checkpoint_due() {
            save_parts(&[&student.store], &path, false)?;
        }
    }
    save_parts(&[&student.store], &path, false)?;
    let (whole, mouth) = judge(run, &student, &lessons)?;
    run.log(&serde_json::json!({ "stage": "decoder", "done": true, "step": clock.step, "psnr_db": whole, "mouth_psnr_db": mouth }));
    let stores = [&audio.store, &unet.store, &encoder.store, &student.store];
    save_parts(&stores, &run.options.out.join("model.safetensors"), true)
}

/// The student's first layers begin as the teacher's, as far as they are alike.
fn begin_as(student: &DecoderPart, teacher: &DecoderPart) -> Result<()> {
    let own = student.store.variables();
    tch::no_grad(|| {
        // Layer by layer, so that nothing is taken from behind a layer that is the student's own.
        for layer in 0.. {
            let prefix = format!("autoencoder.decoder.layers.{layer}.");
            let parts: Vec<_> = own.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
            let theirs = teacher.store.variables();
            let alike = |name: &str, own: &Tensor| theirs.get(name).is_some_and(|of| of.size() == own.size());
            if layer > own.len() || !parts.iter().all(|(name, own)| alike(name, own)) {
                return Ok(());
            }
            for (name, own) in parts {
                if let Some(of) = theirs.get(name) {
                    own.shallow_clone().f_copy_(of)?;
                }
            }
        }
        Ok(())
    })
}

/// How near it comes to the teacher on latents that it does not learn from: whole and mouth, in decibels.
fn judge(run: &Run<'_>, student: &DecoderPart, lessons: &Lessons) -> Result<(f64, f64)> {
    let mouth = run.subject.layout().mouth;
    tch::no_grad(|| {
        let count = lessons.count()?;
        let (latents, wanted) =
            lessons.some(&Tensor::f_arange_start(count - HELD_OUT, count, (Kind::Int64, tch::Device::Cpu))?)?;
        let drawn = student.decoder.decode(&latents)?;
        Ok((psnr(&drawn, &wanted)?, psnr(&mouth.of(&drawn)?, &mouth.of(&wanted)?)?))
    })
}
