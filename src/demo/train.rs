//! Trains the demo model from nothing: the autoencoder and, beside it, the audio encoder; then all of them together.
//!
//! In here: what the stages share (corpus, budget, log, checkpoints) and their order. The stages are in `autoencoder`,
//! `audio` and `joint`. Not in here: the network (`musetalk`) and its judgement (`eval`).

pub mod audio;
pub mod autoencoder;
pub mod joint;
mod opening;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::corpus::{self, Split};
use super::dataset::{Speech, speeches};
use super::{DemoError, Result};
use crate::musetalk::ModelConfig;

/// Time between two checkpoints of a stage.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(120);

/// How fast a run that goes on from an earlier one learns, which ended slow, beside one that begins.
const RESUMED_RATE: f64 = 0.45;

/// Steps that each stage gets. Steps, not minutes: a slow or busy machine makes the same model.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Budget {
    pub autoencoder: u32,
    pub audio: u32,
    pub joint: u32,
}

/// What a run is made with.
#[derive(Clone, Debug)]
pub struct Options {
    pub corpus: PathBuf,
    /// The model's folder: `config.json` is read there, everything is written there in the end.
    pub out: PathBuf,
    /// Checkpoints on the way.
    pub work: PathBuf,
    pub seed: u64,
    pub budget: Budget,
    /// Start the stages from their checkpoints in `work`, where there are any.
    pub resume: bool,
}

/// Which stages to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    All,
    /// The autoencoder and the audio encoder beside each other.
    Parts,
    /// Everything together, on top of finished parts.
    Joint,
}

/// A run under way.
pub(super) struct Run {
    pub options: Options,
    pub config: ModelConfig,
    pub speeches: Vec<Speech>,
    log: Mutex<std::fs::File>,
    started: Instant,
}

impl Run {
    fn new(options: Options) -> Result<Self> {
        let config = ModelConfig::load(&options.out.join("config.json"))?;
        let clips = corpus::load(&options.corpus, |entry| entry.split == Split::Train)?;
        let hash = corpus::hash(&clips);
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        let speeches = speeches(&clips, &mut rng);
        std::fs::create_dir_all(&options.work).map_err(|error| DemoError::file(&options.work, error))?;
        let path = options.out.join("training.jsonl");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = Mutex::new(log.map_err(|error| DemoError::file(&path, error))?);
        let run = Self { options, config, speeches, log, started: Instant::now() };
        let frames: usize = run.speeches.iter().map(|speech| speech.shapes.len()).sum();
        run.log(&serde_json::json!({
            "event": "start", "seed": run.options.seed, "corpus": hash, "clips": clips.len(), "frames": frames,
            "resume": run.options.resume, "steps": run.options.budget, "config": run.config,
        }));
        Ok(run)
    }

    /// A line of the training log. A full disk must not end a training, so failure is only told.
    pub fn log(&self, line: &serde_json::Value) {
        tracing::info!("{line}");
        let mut line = line.clone();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("wall_s".to_owned(), serde_json::json!(self.started.elapsed().as_secs()));
        }
        let Ok(mut file) = self.log.lock() else { return };
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "the training log cannot be written");
        }
    }

    pub fn rng(&self, stage: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.options.seed ^ (stage << 32))
    }

    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.options.work.join(format!("{name}.safetensors"))
    }
}

/// Where a stage stands in its steps, and with it its learning rate.
pub(super) struct Clock {
    begun: Instant,
    checkpoint: Instant,
    steps: u32,
    pub step: u32,
}

impl Clock {
    pub fn new(steps: u32) -> Self {
        let now = Instant::now();
        Self { begun: now, checkpoint: now, steps, step: 0 }
    }

    /// 0 at the start, 1 when all steps are done.
    pub fn progress(&self) -> f64 {
        (f64::from(self.step) / f64::from(self.steps.max(1))).min(1.0)
    }

    /// Cosine from 1 to nearly 0, after a short rise.
    pub fn rate(&self) -> f64 {
        let rise = (f64::from(self.step) + 1.0) / 60.0;
        let fall = 0.5 + 0.5 * (std::f64::consts::PI * self.progress()).cos();
        rise.min(1.0) * (0.01 + 0.99 * fall)
    }

    pub fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Whether it is time to save.
    pub fn checkpoint_due(&mut self) -> bool {
        let due = self.checkpoint.elapsed() > CHECKPOINT_EVERY;
        if due {
            self.checkpoint = Instant::now();
        }
        due
    }
}

/// Trains; the model's folder holds the result afterwards.
pub fn train(options: Options, stage: Stage) -> Result<()> {
    let seed = i64::try_from(options.seed).unwrap_or(0);
    tch::manual_seed(seed);
    let mut run = Run::new(options)?;
    // Parts that have been trained together since are finished.
    let finished = run.options.resume && run.checkpoint("joint").exists();
    if stage != Stage::Joint && !finished {
        // One core each.
        tch::set_num_threads(1);
        let (image, sound) = std::thread::scope(|scope| {
            let sound = scope.spawn(|| audio::train(&run));
            let image = autoencoder::train(&run);
            (image, sound.join())
        });
        let (mean, std) = image?;
        sound.map_err(|_| DemoError::file(Path::new("audio encoder"), "its training thread ended early"))??;
        (run.config.latent_mean, run.config.latent_std) = (Some(mean), Some(std));
        let path = run.options.out.join("config.json");
        let text = serde_json::to_string_pretty(&run.config).map_err(|error| DemoError::file(&path, error))?;
        std::fs::write(&path, text + "\n").map_err(|error| DemoError::file(&path, error))?;
    }
    if stage != Stage::Parts {
        tch::set_num_threads(
            std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1)),
        );
        joint::train(&run)?;
    }
    run.log(&serde_json::json!({ "event": "end" }));
    Ok(())
}
