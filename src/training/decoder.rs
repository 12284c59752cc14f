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
/// Of the latents, the last ones are only looked at: one in so many.
const HELD_OUT: i64 = 40;
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
    /// Of so many pairs, in whole lots of [`PAIRS_AT_ONCE`].
    fn make(
        run: &Run<'_>,
        encoder: &EncoderPart,
        teacher: &DecoderPart,
        pairs: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let (mut latents, mut pictures) = (Vec::new(), Vec::new());
        let parameters = run.subject.parameter_weights().len();
        let mouth = |rng: &mut ChaCha8Rng| -> Vec<f32> {
            (0..parameters).map(|_| if rng.random_bool(MOVED) { rng.random_range(0.0..1.0) } else { 0.0 }).collect()
        };
        for _ in 0..pairs.div_ceil(PAIRS_AT_ONCE) {
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

    /// Those that are learnt from; the others are only looked at.
    fn learnt(&self) -> Result<i64> {
        let count = self.count()?;
        Ok(count - (count / HELD_OUT).max(1))
    }

    /// Latents and pictures as the networks want them.
    fn some(&self, chosen: &Tensor) -> Result<(Tensor, Tensor)> {
        let pictures = self.pictures.f_index_select(0, chosen)?.f_to_kind(Kind::Float)?;
        Ok((channels_last(&self.latents.f_index_select(0, chosen)?)?, channels_last(&pictures)?))
    }
}

/// Trains it on top of the checkpoint of everything else and writes the model's weights.
pub(super) fn train(run: &Run<'_>) -> Result<()> {
    train_with(run, PAIRS)
}

fn train_with(run: &Run<'_>, pairs: usize) -> Result<()> {
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
    let lessons = Lessons::make(run, &encoder, &teacher, pairs, &mut rng)?;
    let learnt = lessons.learnt()?;
    run.log(&serde_json::json!({ "stage": "decoder", "latents": lessons.count()? }));
    let mouth = run.subject.layout().mouth;
    let mut optimizer = nn::Adam::default().build(&student.store, LEARNING_RATE)?;
    let mut clock = Clock::new(run.options.budget.decoder);
    while clock.progress() < 1.0 {
        let chosen: Vec<i64> = (0..LATENTS_A_STEP).map(|_| rng.random_range(0..learnt)).collect();
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
        let (learnt, count) = (lessons.learnt()?, lessons.count()?);
        let (latents, wanted) =
            lessons.some(&Tensor::f_arange_start(learnt, count, (Kind::Int64, tch::Device::Cpu))?)?;
        let drawn = student.decoder.decode(&latents)?;
        Ok((psnr(&drawn, &wanted)?, psnr(&mouth.of(&drawn)?, &mouth.of(&wanted)?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::super::speeches::{Corpus, Speech};
    use super::super::subject::{Layout, Rectangle, Subject};
    use super::super::{Budget, Options};
    use super::*;
    use crate::musetalk::ModelConfig;
    use crate::musetalk::weights::read_safetensors;

    const SIDE: i64 = 64;
    const LOWER: Rectangle = Rectangle { top: 32, height: 32, left: 16, width: 32 };

    /// A grey face with a dark mouth, as high as its parameter says.
    struct Face;

    impl Subject for Face {
        fn layout(&self) -> Layout {
            let cells = Rectangle { top: 4, height: 4, left: 2, width: 4 };
            Layout {
                hidden_from: 32,
                mouth: LOWER,
                mouth_begins: [0..=0, 0..=0],
                mouth_cells: cells,
                mouth_patch: cells,
                jaw_patch: cells,
            }
        }

        fn parameter_weights(&self) -> &[f32] {
            &[1.0]
        }

        fn poses(&self) -> usize {
            2
        }

        fn crops(&self, wanted: &[Crop]) -> Result<Tensor> {
            let all = wanted.iter().map(|crop| -> Result<Tensor> {
                let grey = 150 + 20 * i64::try_from(crop.pose).unwrap();
                let face = Tensor::f_full([1, SIDE, SIDE, 3], grey, (Kind::Uint8, tch::Device::Cpu))?;
                let height = (crop.mouth[0] * 20.0) as i64;
                let _ = face.f_narrow(1, 40, height)?.f_narrow(2, 20, 24)?.f_fill_(20)?;
                Ok(face)
            });
            Ok(Tensor::f_cat(&all.collect::<Result<Vec<_>>>()?, 0)?)
        }

        fn examples(&self, _: usize, _: &[Speech], _: &mut ChaCha8Rng) -> Result<Tensor> {
            self.crops(&[])
        }

        fn openings(&self, pictures: &Tensor, _: Rectangle) -> Result<Tensor> {
            Ok(pictures.f_amax([1, 2, 3].as_slice(), false)?)
        }
    }

    /// The demo's, smaller.
    fn config() -> ModelConfig {
        let mut config: serde_json::Value =
            serde_json::from_str(include_str!("../../models/demo/config.json")).unwrap();
        config["crop_size"] = SIDE.into();
        config["autoencoder"]["encoder_block_out_channels"] = [8, 8].into();
        config["autoencoder"]["decoder_block_out_channels"] = [16, 8].into();
        config["teacher_decoder"]["decoder_block_out_channels"] = [16, 8, 8].into();
        serde_json::from_value(config).unwrap()
    }

    /// How near the student comes in so many steps, in decibels.
    fn trained(folder: &std::path::Path, steps: u32) -> f64 {
        let budget = Budget { autoencoder: 0, audio: 0, joint: 0, decoder: steps };
        let (out, work) = (folder.to_owned(), folder.join("work"));
        let options = Options { out, work, seed: 3, budget, resume: false };
        train_with(&Run::new(&Face, Corpus::default(), options).unwrap(), PAIRS_AT_ONCE).unwrap();
        let log = std::fs::read_to_string(folder.join("training.jsonl")).unwrap();
        let done: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!((&done["done"], &done["step"]), (&true.into(), &steps.into()));
        done["psnr_db"].as_f64().unwrap()
    }

    #[test]
    fn a_smaller_decoder_comes_nearer_to_its_teacher_and_is_written_with_all_other_parts() {
        let (folder, config) = (tempfile::tempdir().unwrap(), config());
        std::fs::write(folder.path().join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
        std::fs::create_dir(folder.path().join("work")).unwrap();
        tch::manual_seed(5);
        let (audio, unet) = (AudioPart::new(&config).unwrap(), UnetPart::new(&config).unwrap());
        let (encoder, teacher) = (EncoderPart::new(&config).unwrap(), DecoderPart::teacher(&config).unwrap());
        let stores = [&audio.store, &unet.store, &encoder.store, &teacher.store];
        save_parts(&stores, &folder.path().join("work/joint.safetensors"), false).unwrap();

        let (before, after) = (trained(folder.path(), 1), trained(folder.path(), 60));
        assert!(after > before + 3.0, "{before} dB after a step, {after} after 60");

        // What is written is what was trained, in 16 bits, and every part is there.
        let model = folder.path().join("model.safetensors");
        let student = DecoderPart::new(&config).unwrap();
        for store in [&audio.store, &unet.store, &encoder.store, &student.store] {
            load_part(store, &model).unwrap();
        }
        let written = student.store.variables();
        let learnt = read_safetensors(&folder.path().join("work/decoder.safetensors")).unwrap();
        assert_eq!(learnt.len(), written.len());
        for (name, weights) in learnt {
            assert!(written[&name].allclose(&weights, 1e-2, 1e-3, false), "{name}");
        }
    }
}
