//! Trains, judges and prepares the demo model and its avatar.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mouthpiece::demo::train::{Budget, Options, Stage, train};
use mouthpiece::demo::{eval, network, prepare, sheet};

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
        /// The folder that scripts/make_corpus.py made.
        #[arg(long)]
        corpus: PathBuf,
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
    },
    /// Write the mean of checkpoints of one training.
    Average {
        #[arg(required = true)]
        checkpoints: Vec<PathBuf>,
        #[arg(long, default_value = "models/demo/model.safetensors")]
        out: PathBuf,
    },
    /// Draw the idle loop and write the avatar's folder.
    Prepare {
        #[arg(long, default_value = "models/demo")]
        model: PathBuf,
        #[arg(long, default_value = "models/avatars/demo")]
        avatar: PathBuf,
    },
    /// Judge the model on clips that it was not trained on.
    Eval(eval::Args),
    /// Draw a contact sheet: what the model shows beside the drawn truth.
    Sheet(sheet::Args),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Prepare { model, avatar } => prepare::prepare(&model, &avatar)?,
        Command::Train { corpus, out, work, seed, resume, stage, autoencoder_steps, audio_steps, joint_steps } => {
            let budget = Budget { autoencoder: autoencoder_steps, audio: audio_steps, joint: joint_steps };
            train(Options { corpus, out, work, seed, budget, resume }, stage)?;
        }
        Command::Average { checkpoints, out } => network::average(&checkpoints, &out)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Sheet(args) => sheet::run(&args)?,
    }
    Ok(())
}
