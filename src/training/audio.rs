//! Stage two, beside stage one: the audio encoder learns to tell what the lips do, through the helper head.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

use super::Result;
use super::checkpoints::{load_part, save_parts};
use super::losses::parameter_loss;
use super::parts::AudioPart;
use super::run::Run;
use super::schedule::{Clock, RESUMED_RATE};
use super::speeches::pick_frame;
use super::windows::{BATCH, Windows};

const WINDOWS: usize = 20;
const LEARNING_RATE: f64 = 1.2e-3;
pub(super) fn train(run: &Run<'_>) -> Result<()> {
    let mut rng = run.rng(2);
    let windows = Windows::new(&run.config)?;
    let part = AudioPart::new(&run.config)?;
    let path = run.checkpoint("audio");
    let resumed = run.options.resume && path.exists();
    if resumed {
        load_part(&part.store, &path)?;
    }
    let peak = if resumed { RESUMED_RATE * LEARNING_RATE } else { LEARNING_RATE };
    let judged = Judged::new(run, &windows)?;
    let mut optimizer = nn::AdamW::default().build(&part.store, LEARNING_RATE)?;
    let mut clock = Clock::new(run.options.budget.audio);
    while clock.progress() < 1.0 {
        let (mel, truth) = batch(run, &windows, &mut rng)?;
        let loss = parameter_loss(&guess(&part, &windows, &mel)?, &truth, run.subject.parameter_weights())?;
        clock.learn(std::slice::from_mut(&mut optimizer), &loss, peak)?;
        if clock.step.is_multiple_of(200) {
            run.log(&serde_json::json!({
                "stage": "audio", "step": clock.step, "seconds": clock.seconds(), "loss": clock.take_loss(),
                "heldout": judged.judge(&part, &windows)?,
            }));
        }
        if clock.checkpoint_due() {
            save_parts(&[&part.store], &path, false)?;
        }
    }
    save_parts(&[&part.store], &path, false)
}

/// Windows of sound, disturbed, and what the mouth does in the last frames of each, time-major.
fn batch(run: &Run<'_>, windows: &Windows, rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
    let (mut mels, mut truth) = (Vec::with_capacity(WINDOWS), Vec::new());
    for _ in 0..WINDOWS {
        let (speech, frame) = pick_frame(&run.corpus.speeches, rng);
        let speech = &run.corpus.speeches[speech];
        let last = frame + rng.random_range(0..BATCH);
        mels.push(windows.heard(&speech.samples, last, rng)?);
        (0..BATCH).for_each(|before| truth.extend_from_slice(speech.mouth(last.saturating_sub(before))));
    }
    let truth = Tensor::f_from_slice(&truth)?.f_view([-1, parameters(run)])?;
    Ok((Tensor::f_stack(&mels, 0)?, truth))
}

fn parameters(run: &Run<'_>) -> i64 {
    i64::try_from(run.subject.parameter_weights().len()).unwrap_or(i64::MAX)
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

/// Speech that training does not learn from, undisturbed.
struct Judged {
    sets: Vec<(String, Tensor, Tensor)>,
}

impl Judged {
    fn new(run: &Run<'_>, windows: &Windows) -> Result<Self> {
        let mut sets = Vec::new();
        for heldout in &run.corpus.heldout {
            let (mut mels, mut truth) = (Vec::new(), Vec::new());
            for speech in &heldout.speeches {
                for last in (BATCH - 1..speech.frames()).step_by(BATCH) {
                    mels.push(windows.mel(&speech.samples, last, |_| ())?);
                    (0..BATCH).for_each(|before| truth.extend_from_slice(speech.mouth(last - before)));
                }
            }
            let truth = Tensor::f_from_slice(&truth)?.f_view([-1, parameters(run)])?;
            sets.push((heldout.name.clone(), Tensor::f_stack(&mels, 0)?, truth));
        }
        Ok(Self { sets })
    }

    /// Correlation of each parameter, for each set.
    fn judge(&self, part: &AudioPart, windows: &Windows) -> Result<serde_json::Value> {
        tch::no_grad(|| {
            let mut correlations = serde_json::Map::new();
            for (name, mel, truth) in &self.sets {
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
                correlations.insert(name.clone(), serde_json::json!(rounded));
            }
            Ok(serde_json::Value::Object(correlations))
        })
    }
}
