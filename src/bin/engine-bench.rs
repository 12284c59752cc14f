//! `mouthpiece bench throughput` as a program that needs libtorch only: for a machine with a GPU and PyTorch, but without
//! GStreamer and cargo. `FIGURES.md` says how to run it there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mouthpiece::avatar::Avatar;
use mouthpiece::cli::Throughput;
use mouthpiece::commands::throughput;
use mouthpiece::musetalk::DeviceChoice;

/// Measures a model on this machine and prints one JSON object.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// Folder of the model: config.json and weights
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Folder of an avatar of that model; without it everything is decoded and nothing is pasted
    #[arg(long, value_name = "DIR")]
    avatar: Option<PathBuf>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    #[command(flatten)]
    throughput: Throughput,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody to tell if stderr is closed too.
            let _ = writeln!(std::io::stderr(), "engine-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let avatar = arguments.avatar.as_deref().map(Avatar::load).transpose()?;
    let report = throughput::run(&arguments.model, avatar.as_ref(), arguments.device, &arguments.throughput)?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
