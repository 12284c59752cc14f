//! Makes the demo avatar and its model: draws the character, trains the network that speaks for it, and judges it.
//!
//! In here: the commands. What moves the mouth is in `visemes` and `loudness`, the speech in `corpus`, how the character
//! is shown to training in `subject`; training itself is the library's. The server has no part in any of it.

// Tests cast small constants; the lint guards what runs.
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_lossless))]

mod character;
mod corpus;
mod eval;
mod hearing;
mod judge;
mod loudness;
mod opening;
mod perform;
mod prepare;
mod sheet;
mod speeches;
mod subject;
mod visemes;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use mouthpiece::training::speeches::Corpus;
use mouthpiece::training::{Budget, Options, Stage, checkpoints, train};

#[derive(Debug, Parser)]
#[command(about = "Trains, judges and prepares the demo model and its avatar")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train the model that the folder's config.json describes.
    Train {
        /// The folder that scripts/make_corpus.py made; the decoder's stage alone needs none.
        #[arg(long)]
        corpus: Option<PathBuf>,
        #[arg(long, default_value = "models/demo")]
        out: PathBuf,
        /// Checkpoints on the way.
        #[arg(long, default_value = "out/demo-model")]
        work: PathBuf,
        #[arg(long, default_value_t = 2026)]
        seed: u64,
        /// Go on from the checkpoints in the work folder.
        #[arg(long)]
        resume: bool,
        #[arg(long, default_value = "all")]
        stage: Stage,
        #[arg(long, default_value_t = 2_400)]
        autoencoder_steps: u32,
        /// Of the audio encoder, which learns beside the autoencoder.
        #[arg(long, default_value_t = 7_000)]
        audio_steps: u32,
        /// Of everything together.
        #[arg(long, default_value_t = 4_800)]
        joint_steps: u32,
        /// Of the decoder that serves, which learns from the one that was trained with everything else.
        #[arg(long, default_value_t = 8_000)]
        decoder_steps: u32,
    },
    /// Write the mean of checkpoints of one training, for the decoder's stage to go on from.
    Average {
        #[arg(required = true)]
        checkpoints: Vec<PathBuf>,
        #[arg(long, default_value = "out/demo-model/joint.safetensors")]
        out: PathBuf,
    },
    /// Draw the idle loop and write the avatar's folder.
    Prepare {
        #[arg(long, default_value = "models/demo")]
        model: PathBuf,
        #[arg(long, default_value = "models/avatars/demo")]
        avatar: PathBuf,
    },
    /// Write the part of the model that hears mouths, which is all that portraits need.
    Hearing {
        #[arg(long, default_value = "models/demo")]
        model: PathBuf,
        #[arg(long, default_value = "models/portrait")]
        out: PathBuf,
    },
    /// Judge the model on clips that it was not trained on.
    Eval(eval::Args),
    /// Draw a contact sheet: what the model shows beside the drawn truth.
    Sheet(sheet::Args),
}

/// What is judged, and by which clips.
#[derive(Debug, clap::Args)]
struct Trial {
    /// The model's folder.
    #[arg(long, default_value = "models/demo")]
    model: PathBuf,
    /// The avatar's folder.
    #[arg(long, default_value = "models/avatars/demo")]
    avatar: PathBuf,
    /// Clips with phone times, as scripts/make_corpus.py writes them; those meant for training are left out.
    #[arg(long, default_value = "models/demo/eval")]
    corpus: PathBuf,
}

/// What is wrong with a file.
fn file_error(path: &Path, problem: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{}: {problem}", path.display())
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Prepare { model, avatar } => prepare::prepare(&model, &avatar)?,
        Command::Hearing { model, out } => hearing::write(&model, &out)?,
        Command::Train {
            corpus,
            out,
            work,
            seed,
            resume,
            stage,
            autoencoder_steps,
            audio_steps,
            joint_steps,
            decoder_steps,
        } => {
            let budget = Budget {
                autoencoder: autoencoder_steps,
                audio: audio_steps,
                joint: joint_steps,
                decoder: decoder_steps,
            };
            // Only the audio encoder's stage is judged by them.
            let heldout = stage != Stage::Joint;
            let corpus = match (corpus, stage) {
                (_, Stage::Decoder) => Corpus::default(),
                (Some(corpus), _) => speeches::training_corpus(&corpus, seed, heldout)?,
                (None, _) => anyhow::bail!("--corpus is missing: all stages but the decoder's learn from speech"),
            };
            train(&subject::DrawnCharacter, corpus, Options { out, work, seed, budget, resume }, stage)?;
        }
        Command::Average { checkpoints, out } => checkpoints::average(&checkpoints, &out)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Sheet(args) => sheet::run(&args)?,
    }
    Ok(())
}
