//! Parses, hides what was typed and is secret, sets up logging, runs, and turns the outcome into an exit code: 0 done, 1 failed, 2 wrong use or bad input.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;
use mouthpiece::cli::{Cli, hide_secrets};
use mouthpiece::commands;

/// Read by libgomp and glibc when they are loaded, so they must be in the environment before the process begins.
/// Passive waiting: an OpenMP thread that spins takes the core that the encoder needs. Two arenas: glibc otherwise
/// keeps one for each of GStreamer's threads.
const ENVIRONMENT: [(&str, &str); 2] = [("OMP_WAIT_POLICY", "passive"), ("MALLOC_ARENA_MAX", "2")];

fn main() -> ExitCode {
    let cli = Cli::parse();
    let unset: Vec<_> = ENVIRONMENT.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    let (arguments, secrets) = hide_secrets(std::env::args_os().skip(1));
    if !(unset.is_empty() && secrets.is_empty())
        && let Ok(program) = std::env::current_exe()
    {
        let mut command = std::process::Command::new(program);
        command.args(arguments).envs(unset).envs(secrets);
        // Returns only if it fails, and then the program still works, only slower.
        let _ = command.exec();
    }
    commands::init_logging();
    commands::run(cli)
}
