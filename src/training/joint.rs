//! Stage three: the UNet learns to draw what the finished audio encoder hears; the decoder joins in for the second half.
//!
//! Where the sound leaves a doubt about the mouth, a network that is shown the true mouth draws all those that it might be
//! at once: a blur. So here it is shown another one, which the sound does tell: the mouth that the helper head hears, drawn
//! sharply. What the helper head hears is a mean and so moves too little; each of its parameters is spread out again as
//! widely as the truth's (`spread`).

use std::path::Path;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::nn::OptimizerConfig;
use tch::{Device, Kind, Tensor, nn};

use super::Result;
use super::checkpoints::{load_part, save_parts};
use super::latents::{Normalisation, conditioning, to_picture};
use super::losses::{opening_loss, picture_loss, psnr};
use super::parts::{AudioPart, DecoderPart, EncoderPart, UnetPart};
use super::run::Run;
use super::schedule::{Clock, RESUMED_RATE};
use super::speeches::pick_frame;
use super::subject::{Crop, Layout, Rectangle};
use super::windows::{BATCH, Windows};
use crate::musetalk::network::layers::channels_last;

/// Windows of sound; two frames of each are drawn.
const EXAMPLES: usize = 20_000;
const EXAMPLES_A_STEP: usize = 12;
const UNET_RATE: f64 = 1.6e-3;
const DECODER_RATE: f64 = 4e-4;
/// From this share of the steps on the decoder learns too; at once in a run that goes on from an earlier one.
const DECODER_FROM: f64 = 0.45;
const PIXELS: f64 = 8.0;
const OPENING: f64 = 0.5;
/// How much more latent cells around the mouth count than the others.
const MOUTH: f64 = 4.0;

/// Windows encoded at once.
const ENCODED_AT_ONCE: usize = 32;

/// Two frames of each example, one after the other.
struct Data {
    poses: Vec<i64>,
    /// What the UNet hears, `[2 * examples, tokens, d_model]`, in 16 bits.
    tokens: Tensor,
    crops: Tensor,
    /// Of the crops, as the UNet gives them.
    targets: Tensor,
    conditioning: Tensor,
}

struct Parts {
    audio: AudioPart,
    unet: UnetPart,
    encoder: EncoderPart,
    decoder: DecoderPart,
}

impl Parts {
    /// Also says whether they have been trained together before.
    fn load(run: &Run<'_>) -> Result<(Self, bool)> {
        let parts = Self {
            audio: AudioPart::new(&run.config)?,
            unet: UnetPart::new(&run.config)?,
            encoder: EncoderPart::new(&run.config)?,
            decoder: DecoderPart::teacher(&run.config)?,
        };
        // Not trained here, so it is that of its own stage, which may have gone on since.
        load_part(&parts.audio.store, &run.checkpoint("audio"))?;
        let done = run.checkpoint("joint");
        let resumed = run.options.resume && done.exists();
        if resumed {
            load_part(&parts.unet.store, &done)?;
        }
        let autoencoder = if resumed { done } else { run.checkpoint("autoencoder") };
        load_part(&parts.encoder.store, &autoencoder)?;
        load_part(&parts.decoder.store, &autoencoder)?;
        Ok((parts, resumed))
    }

    fn stores(&self) -> [&nn::VarStore; 4] {
        [&self.audio.store, &self.unet.store, &self.encoder.store, &self.decoder.store]
    }

    /// For going on, and for serving if this decoder serves.
    fn save(&self, run: &Run<'_>) -> Result<()> {
        save_parts(&self.stores(), &run.checkpoint("joint"), false)?;
        if run.config.teacher_decoder.is_some() {
            return Ok(());
        }
        save_parts(&self.stores(), &run.options.out.join("model.safetensors"), true)
    }
}

impl Data {
    fn make(run: &Run<'_>, parts: &Parts, rng: &mut ChaCha8Rng) -> Result<Self> {
        let heard = Heard::make(run, &parts.audio, rng)?;
        let parameters = run.subject.parameter_weights().len();
        let spread: Vec<Vec<f32>> = (0..parameters)
            .map(|at| spread(&column(&heard.guesses, parameters, at), &column(&heard.truth, parameters, at)))
            .collect();
        let mouths =
            (0..heard.truth.len() / parameters).map(|frame| spread.iter().map(|values| values[frame]).collect());
        let wanted: Vec<Crop> =
            mouths.map(|mouth| Crop { pose: rng.random_range(0..run.subject.poses()), mouth }).collect();
        let crops = run.subject.crops(&wanted)?;
        let normalisation = Normalisation::new(&run.config)?;
        let mut targets = Vec::new();
        tch::no_grad(|| -> Result<()> {
            for part in crops.f_split(64, 0)? {
                targets.push(normalisation.apply(&parts.encoder.encoder.encode(&to_picture(&part)?)?)?);
            }
            Ok(())
        })?;
        let poses = wanted.iter().map(|crop| i64::try_from(crop.pose).unwrap_or(0)).collect();
        let conditioning = conditioning(run.subject, &run.config, &parts.encoder)?;
        Ok(Self { poses, tokens: heard.tokens, crops, targets: Tensor::f_cat(&targets, 0)?, conditioning })
    }
}

/// What the audio encoder and the helper head make of disturbed sound, and the truth; two frames of each window.
struct Heard {
    tokens: Tensor,
    /// The parameters of frame after frame, and so is the truth.
    guesses: Vec<f32>,
    truth: Vec<f32>,
}

impl Heard {
    fn make(run: &Run<'_>, audio: &AudioPart, rng: &mut ChaCha8Rng) -> Result<Self> {
        let windows = Windows::new(&run.config)?;
        let (mut tokens, mut guesses, mut truth) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..EXAMPLES / ENCODED_AT_ONCE {
            let (mut mels, mut before_last) = (Vec::new(), Vec::new());
            for _ in 0..ENCODED_AT_ONCE {
                let (speech, first) = pick_frame(&run.corpus.speeches, rng);
                let speech = &run.corpus.speeches[speech];
                let frames = [first, first + rng.random_range(1..BATCH)];
                // Wherever both frames may lie in a batch.
                let last = rng.random_range(frames[1]..first + BATCH);
                mels.push(windows.heard(&speech.samples, last, rng)?);
                before_last.push(frames.map(|frame| last - frame));
                frames.iter().for_each(|frame| truth.extend_from_slice(speech.mouth(*frame)));
            }
            let heard = tch::no_grad(|| -> Result<Tensor> {
                let hidden = audio.encoder.hidden_states(&Tensor::f_stack(&mels, 0)?)?;
                let mut heard = Vec::with_capacity(2 * ENCODED_AT_ONCE);
                for (window, before_last) in (0_i64..).zip(before_last) {
                    for before in before_last {
                        heard.push(windows.tokens(&hidden.f_narrow(0, window, 1)?, before)?);
                    }
                }
                Ok(Tensor::f_cat(&heard, 0)?.f_add(&audio.positional)?)
            })?;
            let guess = tch::no_grad(|| audio.helper.forward(&heard))?;
            guesses.extend(Vec::<f32>::try_from(guess.f_flatten(0, 1)?)?);
            tokens.push(heard.f_to_kind(Kind::Half)?);
        }
        Ok(Self { tokens: Tensor::f_cat(&tokens, 0)?, guesses, truth })
    }
}

/// One of the parameters in every frame.
fn column(frames: &[f32], parameters: usize, at: usize) -> Vec<f32> {
    frames.iter().skip(at).step_by(parameters).copied().collect()
}

/// Each guess replaced by the true value of the same rank: the order of the guesses, the distribution of the truth.
fn spread(guesses: &[f32], truth: &[f32]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..guesses.len()).collect();
    order.sort_by(|&a, &b| guesses[a].total_cmp(&guesses[b]));
    let mut sorted = truth.to_vec();
    sorted.sort_by(f32::total_cmp);
    let mut spread = vec![0.0; guesses.len()];
    for (at, value) in order.into_iter().zip(sorted) {
        spread[at] = value;
    }
    spread
}

pub(super) fn train(run: &Run<'_>) -> Result<()> {
    let normalisation = Normalisation::new(&run.config)?;
    let (mut parts, resumed) = Parts::load(run)?;
    // Other examples than before.
    let mut rng = run.rng(if resumed { 4 } else { 3 });
    let (decoder_from, scale) = if resumed { (0.0, RESUMED_RATE) } else { (DECODER_FROM, 1.0) };
    let data = Data::make(run, &parts, &mut rng)?;
    run.log(&serde_json::json!({ "stage": "joint", "examples": EXAMPLES, "crops": data.poses.len() }));
    let mut optimizers = [
        (nn::AdamW::default().build(&parts.unet.store, UNET_RATE)?, UNET_RATE),
        (nn::Adam::default().build(&parts.decoder.store, DECODER_RATE)?, DECODER_RATE),
    ];
    parts.audio.store.freeze();
    parts.encoder.store.freeze();
    parts.decoder.store.freeze();
    let mut decoder_learns = false;
    let layout = run.subject.layout();
    let weights = cell_weights(&data.targets, layout.mouth_cells)?;
    let mut order: Vec<usize> = Vec::new();
    let mut clock = Clock::new(run.options.budget.joint);
    let mut means = Means::default();
    while clock.progress() < 1.0 {
        if !decoder_learns && clock.progress() >= decoder_from {
            parts.decoder.store.unfreeze();
            decoder_learns = true;
        }
        if order.len() < EXAMPLES_A_STEP {
            order = (0..data.poses.len() / 2).collect();
            order.shuffle(&mut rng);
        }
        let chosen = order.split_off(order.len() - EXAMPLES_A_STEP);
        let step = Step { run, parts: &parts, data: &data, normalisation: &normalisation, layout: &layout };
        let losses = step.losses(&chosen, &weights, &mut rng)?;
        let mut loss = losses.latent.f_add(&losses.look.pixels.f_mul_scalar(PIXELS)?)?;
        if let Some(opening) = &losses.look.opening {
            loss = loss.f_add(&opening.f_mul_scalar(OPENING)?)?;
        }
        for (optimizer, rate) in &mut optimizers {
            optimizer.set_lr(*rate * scale * clock.rate());
            optimizer.zero_grad();
        }
        loss.f_backward()?;
        for (index, (optimizer, _)) in optimizers.iter_mut().enumerate() {
            if index == 0 || decoder_learns {
                optimizer.clip_grad_norm(1.0);
                optimizer.step();
            }
        }
        means.add(&losses)?;
        clock.step += 1;
        if clock.step.is_multiple_of(50) {
            run.log(&means.take(clock.step, clock.seconds()));
        }
        if clock.checkpoint_due() {
            parts.save(run)?;
        }
    }
    parts.save(run)?;
    run.log(&serde_json::json!({ "stage": "joint", "done": true, "step": clock.step, "model": model_name(&run.options.out) }));
    Ok(())
}

/// What the log says of the steps since its last line.
#[derive(Default)]
struct Means {
    steps: f64,
    openings: f64,
    latent: f64,
    pixels: f64,
    opening: f64,
    psnr: f64,
}

impl Means {
    fn add(&mut self, losses: &Losses) -> Result<()> {
        self.steps += 1.0;
        self.latent += losses.latent.f_double_value(&[])?;
        self.pixels += losses.look.pixels.f_double_value(&[])?;
        self.psnr += losses.look.psnr;
        if let Some(opening) = &losses.look.opening {
            self.openings += 1.0;
            self.opening += opening.f_double_value(&[])?;
        }
        Ok(())
    }

    fn take(&mut self, step: u32, seconds: u64) -> serde_json::Value {
        let Self { steps, openings, latent, pixels, opening, psnr } = std::mem::take(self);
        serde_json::json!({
            "stage": "joint", "step": step, "seconds": seconds, "latent": latent / steps, "pixels": pixels / steps,
            "opening": opening / openings.max(1.0), "patch_psnr_db": psnr / steps,
        })
    }
}

fn model_name(out: &Path) -> String {
    out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// 1 for most latent cells, more for those that the mouth moves in.
fn cell_weights(targets: &Tensor, mouth: Rectangle) -> Result<Tensor> {
    let (_, _, height, width) = targets.size4()?;
    let weights = Tensor::f_ones([1, 1, height, width], (Kind::Float, Device::Cpu))?;
    let _ = mouth.of(&weights)?.f_fill_(MOUTH)?;
    Ok(weights.f_div(&weights.f_mean(Kind::Float)?)?)
}

struct Step<'a> {
    run: &'a Run<'a>,
    parts: &'a Parts,
    data: &'a Data,
    normalisation: &'a Normalisation,
    layout: &'a Layout,
}

struct Losses {
    latent: Tensor,
    look: Look,
}

/// How a decoded patch compares with the truth.
struct Look {
    pixels: Tensor,
    /// None of a patch that is not of the mouth.
    opening: Option<Tensor>,
    psnr: f64,
}

impl Step<'_> {
    fn losses(&self, chosen: &[usize], weights: &Tensor, rng: &mut ChaCha8Rng) -> Result<Losses> {
        let rows: Vec<i64> =
            chosen.iter().flat_map(|&at| [2 * at, 2 * at + 1]).filter_map(|at| i64::try_from(at).ok()).collect();
        let poses: Vec<i64> =
            chosen.iter().flat_map(|&at| [self.data.poses[2 * at], self.data.poses[2 * at + 1]]).collect();
        let sample = channels_last(&self.data.conditioning.f_index_select(0, &Tensor::f_from_slice(&poses)?)?)?;
        let indices = Tensor::f_from_slice(&rows)?;
        let tokens = self.data.tokens.f_index_select(0, &indices)?.f_to_kind(Kind::Float)?;
        let target = self.data.targets.f_index_select(0, &indices)?;
        let channels = self.run.config.unet.out_channels;
        let reference = sample.f_narrow(1, self.run.config.unet.in_channels - channels, channels)?;
        let drawn = self.parts.unet.unet.forward(&sample, &tokens)?.f_add(&reference)?;
        let error = drawn.f_sub(&target)?;
        let latent = error.f_abs()?.f_add(&error.f_square()?)?.f_mul(weights)?.f_mean(Kind::Float)?;
        // One frame of each window is looked at as a picture.
        let looked: Vec<i64> =
            (0..chosen.len()).filter_map(|at| i64::try_from(2 * at + rng.random_range(0..2)).ok()).collect();
        let drawn = drawn.f_index_select(0, &Tensor::f_from_slice(&looked)?)?;
        let crops: Vec<i64> = looked.iter().filter_map(|&at| rows.get(usize::try_from(at).ok()?).copied()).collect();
        let crops = self.data.crops.f_index_select(0, &Tensor::f_from_slice(&crops)?)?;
        let look = self.look(&drawn, &to_picture(&crops)?, rng.random_bool(0.25))?;
        Ok(Losses { latent, look })
    }

    fn look(&self, latent: &Tensor, truth: &Tensor, jaw: bool) -> Result<Look> {
        let patch = if jaw { self.layout.jaw_patch } else { self.layout.mouth_patch };
        let picture = self.parts.decoder.decoder.decode(&patch.of(&self.normalisation.undo(latent)?)?)?;
        let scale = self.run.config.autoencoder.scale();
        let part = patch.inside(scale);
        let picture = Rectangle { top: scale, left: scale, ..part }.of(&picture)?;
        let truth = part.of(truth)?;
        let psnr = tch::no_grad(|| psnr(&picture, &truth))?;
        let openings = |pictures| self.run.subject.openings(pictures, part);
        let opening = if jaw { None } else { Some(opening_loss(&openings(&picture)?, &openings(&truth)?)?) };
        Ok(Look { pixels: picture_loss(&picture, &truth)?, opening, psnr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_keep_their_order_and_spread_as_widely_as_the_truth() {
        assert_eq!(spread(&[0.4, 0.6, 0.5, 0.45], &[0.0, 1.0, 0.1, 0.7]), [0.0, 1.0, 0.7, 0.1]);
    }
}
