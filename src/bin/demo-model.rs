//! Trains, judges and prepares the demo model and its avatar.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use mouthpiece::demo::{network, prepare};
use mouthpiece::lipsync::musetalk::ModelConfig;

#[derive(Debug, Parser)]
#[command(about = "Trains, judges and prepares the demo model and its avatar")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draw the idle loop and write the avatar's folder.
    Prepare {
        #[arg(long, default_value = "models/demo")]
        model: PathBuf,
        #[arg(long, default_value = "models/avatars/demo")]
        avatar: PathBuf,
    },
    Init {
        #[arg(long, default_value = "models/demo")]
        model: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Cli::parse().command {
        Command::Prepare { model, avatar } => prepare::prepare(&model, &avatar)?,
        Command::Init { model } => {
            let config = ModelConfig::load(&model.join("config.json"))?;
            let (a, u) = (network::AudioPart::new(&config)?, network::UnetPart::new(&config)?);
            let (e, d) = (network::EncoderPart::new(&config)?, network::DecoderPart::new(&config)?);
            network::save_parts(&[&a.store, &u.store, &e.store, &d.store], &model.join("model.safetensors"), true)?;
        }
    }
    Ok(())
}
