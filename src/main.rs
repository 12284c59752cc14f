//! Parses, hides what was typed and is secret, sets up logging, runs, and turns the outcome into an exit code: 0 done, 1 failed, 2 wrong use or bad input.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::Parser;
use mouthpiece::cli::{Cli, hide_secrets};
use mouthpiece::commands;

/// Runs before the initialisers of the libraries that the program is linked with: what is set later, libgomp no longer reads.
/// Beginning the program anew with another environment would load and initialise libtorch twice, 0.2 s each time.
#[used]
#[allow(unsafe_code, reason = "there is no other place before the libraries' own")]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: extern "C" fn() = before_libraries;

extern "C" fn before_libraries() {
    // An OpenMP thread that spins takes the core that the encoder needs.
    if std::env::var_os("OMP_WAIT_POLICY").is_none() {
        // SAFETY: there is no other thread yet that could read the environment meanwhile.
        #[allow(unsafe_code, reason = "the environment as libgomp is to find it")]
        unsafe {
            std::env::set_var("OMP_WAIT_POLICY", "passive");
        }
    }
    // glibc otherwise keeps an arena for each of GStreamer's threads. It has read its environment by now.
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: sets a number of the allocator's.
        #[allow(unsafe_code, reason = "the allocator has no safe way to it")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (arguments, secrets) = hide_secrets(std::env::args_os().skip(1));
    if !secrets.is_empty()
        && let Ok(program) = std::env::current_exe()
    {
        let mut command = std::process::Command::new(program);
        command.args(arguments).envs(secrets);
        // Returns only if it fails, and then the program still works, only in sight of whoever looks at the processes.
        let _ = command.exec();
    }
    commands::init_logging();
    commands::run(cli)
}
