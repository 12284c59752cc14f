//! Trains a network for one face from nothing: the autoencoder and, beside it, the audio encoder; then all of them together;
//! at last a smaller decoder, which serves.
//!
//! In here: the order of the stages, and what a run is made with. The stages are in `autoencoder`, `audio`, `joint` and
//! `decoder`.
//! What they learn from comes from outside: speech that says what the mouth does in every frame ([`speeches`]), and the
//! face's pictures and measures ([`subject`]). Not in here: the network as it serves (`musetalk`), and any face.
//! Runs on the caller's thread and, for the audio encoder, on one that it joins.

mod audio;
pub mod augment;
mod autoencoder;
pub mod checkpoints;
mod decoder;
mod joint;
pub mod latents;
pub mod losses;
pub mod parts;
mod run;
mod schedule;
pub mod speeches;
pub mod subject;
mod windows;

use std::path::{Path, PathBuf};

use run::Run;
use speeches::Corpus;
use subject::Subject;

use crate::lipsync::LipSyncError;

/// What can go wrong while a network is trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A file or a folder cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Speech and face do not agree on what a mouth is.
    #[error("a mouth has {found} parameters, must have {wanted}")]
    Parameters {
        /// How many it has.
        found: usize,
        /// How many the network hears.
        wanted: usize,
    },
    /// The thread that trained it panicked.
    #[error("audio encoder: its training thread ended early")]
    AudioEnded,
    /// The configuration or the weights are not those of a network that can be trained.
    #[error(transparent)]
    LipSync(#[from] LipSyncError),
    /// Memory is short, or tensors do not fit each other.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl TrainingError {
    fn file(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), problem: problem.to_string() }
    }
}

type Result<T> = std::result::Result<T, TrainingError>;

/// Steps that each stage gets. Steps, not minutes: a slow or busy machine makes the same model.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Budget {
    /// Of the autoencoder.
    pub autoencoder: u32,
    /// Of the audio encoder.
    pub audio: u32,
    /// Of everything together.
    pub joint: u32,
    /// Of the decoder that serves, if the configuration has a larger one for training.
    pub decoder: u32,
}

/// What a run is made with, beside its face and its speech.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model's folder: `config.json` is read there, everything is written there in the end.
    pub out: PathBuf,
    /// Checkpoints on the way.
    pub work: PathBuf,
    /// Of everything that is left to chance.
    pub seed: u64,
    /// How long each stage takes, in steps.
    pub budget: Budget,
    /// Start the stages from their checkpoints in `work`, where there are any.
    pub resume: bool,
}

/// Which stages to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// The parts, then everything together.
    All,
    /// The autoencoder and the audio encoder beside each other.
    Parts,
    /// Everything together, on top of finished parts.
    Joint,
    /// The decoder that serves, on top of everything else; it needs no speech.
    Decoder,
}

impl Stage {
    /// Whether it has these parts trained, as `self` or among all.
    fn includes(self, stage: Self) -> bool {
        self == Self::All || self == stage
    }
}

/// Trains; the model's folder holds the result afterwards. The same face, corpus, seed and budget make the same model.
///
/// # Errors
///
/// If a file cannot be read or written, the configuration describes a network that cannot be trained, or libtorch refuses.
pub fn train(subject: &dyn Subject, corpus: Corpus, options: Options, stage: Stage) -> Result<()> {
    let seed = i64::try_from(options.seed).unwrap_or(0);
    tch::manual_seed(seed);
    let mut run = Run::new(subject, corpus, options)?;
    // Parts that have been trained together since are finished.
    let finished = run.options.resume && run.checkpoint("joint").exists();
    if stage.includes(Stage::Parts) && !finished {
        // One core each.
        tch::set_num_threads(1);
        let (image, sound) = std::thread::scope(|scope| {
            let sound = scope.spawn(|| audio::train(&run));
            let image = autoencoder::train(&run);
            (image, sound.join())
        });
        let (mean, std) = image?;
        sound.map_err(|_| TrainingError::AudioEnded)??;
        (run.config.latent_mean, run.config.latent_std) = (Some(mean), Some(std));
        let path = run.options.out.join("config.json");
        let text = serde_json::to_string_pretty(&run.config).map_err(|error| TrainingError::file(&path, error))?;
        std::fs::write(&path, text + "\n").map_err(|error| TrainingError::file(&path, error))?;
    }
    tch::set_num_threads(
        std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1)),
    );
    if stage.includes(Stage::Joint) {
        joint::train(&run)?;
    }
    if stage.includes(Stage::Decoder) && run.config.teacher_decoder.is_some() {
        decoder::train(&run)?;
    }
    run.log(&serde_json::json!({ "event": "end" }));
    Ok(())
}
