//! Stage two, beside stage one: the audio encoder learns to tell what the lips do, through the helper head.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

use super::{Clock, RESUMED_RATE, Run};
use crate::demo::Result;
use crate::demo::corpus::{self, Split};
use crate::demo::dataset::{BATCH, Speech, Windows, pick_frame};
use crate::demo::network::{AudioPart, load_part, save_parts};
use crate::demo::visemes::{PARAMETERS, parameters};

const WINDOWS: usize = 20;
const LEARNING_RATE: f64 = 1.2e-3;
/// How much each parameter counts: open, wide, round, press, bite, tongue, teeth.
const WEIGHTS: [f32; PARAMETERS] = [2.0, 1.0, 1.5, 2.0, 1.5, 0.7, 1.0];

/// Cross-entropy of predicted parameters, `[frames, 7]`; its best guess is the mean, and it hurries at closures.
fn helper_loss(guess: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let weights = Tensor::f_from_slice(&WEIGHTS)?;
    let guess = guess.f_clamp(1e-4, 1.0 - 1e-4)?;
    let inverse = |tensor: &Tensor| tensor.f_neg()?.f_add_scalar(1.0);
    let yes = guess.f_log()?.f_mul(truth)?;
    let no = inverse(&guess)?.f_log()?.f_mul(&inverse(truth)?)?;
    Ok(yes.f_add(&no)?.f_mul(&weights)?.f_mean(Kind::Float)?.f_neg()?)
}

/// The parameters of a frame.
pub fn truth_of(speech: &Speech, frame: usize) -> [f32; PARAMETERS] {
    parameters(&speech.shapes.get(frame).copied().unwrap_or_default())
}

pub(in crate::demo) fn train(run: &Run) -> Result<()> {
    let mut rng = run.rng(2);
    let windows = Windows::new(&run.config)?;
    let part = AudioPart::new(&run.config)?;
    let path = run.checkpoint("audio");
    let resumed = run.options.resume && path.exists();
    if resumed {
        load_part(&part.store, &path)?;
    }
    let peak = if resumed { RESUMED_RATE * LEARNING_RATE } else { LEARNING_RATE };
    let judged = Judged::load(run, &windows)?;
    let mut optimizer = nn::AdamW::default().build(&part.store, LEARNING_RATE)?;
    let mut clock = Clock::new(run.options.budget.audio);
    let mut mean_loss = 0.0;
    while clock.progress() < 1.0 {
        let (mel, truth) = batch(&run.speeches, &windows, &mut rng)?;
        let loss = helper_loss(&guess(&part, &windows, &mel)?, &truth)?;
        optimizer.set_lr(peak * clock.rate());
        optimizer.zero_grad();
        loss.f_backward()?;
        optimizer.clip_grad_norm(1.0);
        optimizer.step();
        mean_loss += loss.f_double_value(&[])? / 200.0;
        clock.step += 1;
        if clock.step.is_multiple_of(200) {
            run.log(&serde_json::json!({
                "stage": "audio", "step": clock.step, "seconds": clock.seconds(), "loss": mean_loss,
                "heldout": judged.judge(&part, &windows)?,
            }));
            mean_loss = 0.0;
        }
        if clock.checkpoint_due() {
            save_parts(&[&part.store], &path, false)?;
        }
    }
    save_parts(&[&part.store], &path, false)
}

/// Windows of sound, disturbed, and what the mouth does in the last frames of each, time-major.
fn batch(speeches: &[Speech], windows: &Windows, rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let (mut mels, mut truth) = (Vec::with_capacity(WINDOWS), Vec::new());
    for _ in 0..WINDOWS {
        let (speech, frame) = pick_frame(speeches, rng);
        let speech = &speeches[speech];
        let last = frame + rng.random_range(0..BATCH);
        mels.push(windows.heard(&speech.samples, last, rng)?);
        truth.extend((0..BATCH).flat_map(|before| truth_of(speech, last.saturating_sub(before))));
    }
    let truth = Tensor::f_from_slice(&truth)?.f_view([-1, whole(PARAMETERS)])?;
    Ok((Tensor::f_stack(&mels, 0)?, truth))
}

fn whole(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What the helper head says of the last frames of each window, window by window, the last frame first.
fn guess(part: &AudioPart, windows: &Windows, mel: &Tensor) -> Result<Tensor> {
    let hidden = part.encoder.hidden_states(mel)?;
    let mut guesses = Vec::with_capacity(BATCH);
    for before in 0..BATCH {
        guesses.push(part.helper.forward(&windows.tokens(&hidden, before)?.f_add(&part.positional)?)?);
    }
    Ok(Tensor::f_stack(&guesses, 1)?.f_flatten(0, 1)?)
}

/// Clips that training does not see, undisturbed.
struct Judged {
    sets: Vec<(String, Tensor, Tensor)>,
}

impl Judged {
    fn load(run: &Run, windows: &Windows) -> Result<Self> {
        let clips = corpus::load(&run.options.corpus, |entry| entry.split != Split::Train)?;
        let mut engines: Vec<&str> = clips.iter().map(|clip| clip.entry.engine.as_str()).collect();
        engines.sort_unstable();
        engines.dedup();
        let mut sets = Vec::new();
        for engine in engines {
            let (mut mels, mut truth) = (Vec::new(), Vec::new());
            for clip in clips.iter().filter(|clip| clip.entry.engine == engine).take(8) {
                let speech = Speech::new(std::sync::Arc::clone(&clip.samples), &clip.entry.phones);
                for last in (BATCH - 1..speech.shapes.len()).step_by(BATCH) {
                    mels.push(windows.mel(&speech.samples, last, |_| ())?);
                    truth.extend((0..BATCH).flat_map(|before| truth_of(&speech, last - before)));
                }
            }
            let truth = Tensor::f_from_slice(&truth)?.f_view([-1, whole(PARAMETERS)])?;
            sets.push((engine.to_owned(), Tensor::f_stack(&mels, 0)?, truth));
        }
        Ok(Self { sets })
    }

    /// Correlation of each parameter, for each engine.
    fn judge(&self, part: &AudioPart, windows: &Windows) -> Result<serde_json::Value> {
        tch::no_grad(|| {
            let mut engines = serde_json::Map::new();
            for (engine, mel, truth) in &self.sets {
                let guess = guess(part, windows, mel)?;
                let centre = |tensor: &Tensor| -> Result<Tensor> {
                    Ok(tensor.f_sub(&tensor.f_mean_dim(0, true, Kind::Float)?)?)
                };
                let (guess, truth) = (centre(&guess)?, centre(truth)?);
                let product = |a: &Tensor, b: &Tensor| -> Result<Tensor> {
                    Ok(a.f_mul(b)?.f_sum_dim_intlist(0, false, Kind::Float)?)
                };
                let norm = product(&guess, &guess)?.f_mul(&product(&truth, &truth)?)?.f_sqrt()?.f_add_scalar(1e-9)?;
                let r = Vec::<f32>::try_from(product(&guess, &truth)?.f_div(&norm)?)?;
                let rounded: Vec<f32> = r.into_iter().map(|r| (r * 1000.0).round() / 1000.0).collect();
                engines.insert(engine.clone(), serde_json::json!(rounded));
            }
            Ok(serde_json::Value::Object(engines))
        })
    }
}
