//! What each subcommand does: the glue between `cli` and the parts, and the exit codes.
//!
//! Results go to stdout, logs to stderr.

mod avatars;
mod bench;
mod fetch;
mod list;
mod measure;
mod models;
mod render;
mod say;
pub mod throughput;
mod token;
mod tune;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::avatar::AvatarError;
use crate::avatar::store::StoreError;
use crate::cli::{Cli, Command, Home, Serve};
use crate::config::{ConfigError, ServeConfig};
use crate::media;
use crate::server::budget::limits::raise_descriptors;
use crate::{metrics, server};

/// Everything has ended by now or never will; the threads left must not meet libtorch's destructors.
const LAST_RESORT: Duration = Duration::from_secs(4);

/// Threads that may block at a time: each opens or closes a peer, which keeps a core busy, or reads a file. More wait.
const MOST_BLOCKING: usize = 24;
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Wrong use or bad input, as opposed to work that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadInput(String);

/// To a hundredth: no measurement here is better.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Logs to stderr; `RUST_LOG` chooses what. Colours are for terminals, and for those who want them (`NO_COLOR`).
pub fn init_logging() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,mouthpiece=info"));
    let in_colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(in_colour).with_writer(std::io::stderr).init();
}

/// Runs a command to its end.
pub fn run(cli: Cli) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MOST_BLOCKING)
        .thread_keep_alive(KEEP_ALIVE)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return report(&anyhow::Error::from(error)),
    };
    let outcome = runtime.block_on(dispatch(cli));
    // Tasks that block (a closing pipeline) get their time; nothing may run into the destructors after main.
    runtime.shutdown_timeout(LAST_RESORT);
    match outcome {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let home = cli.home;
    match cli.command {
        Command::Serve(arguments) => serve(&home, *arguments).await,
        Command::Render(arguments) => render::run(&home, arguments).await,
        Command::Say(arguments) => say::run(&home, arguments).await,
        Command::Avatars(command) => avatars::run(&home, command).await,
        Command::Models(command) => models::run(&home, command).await,
        Command::Pipelines(command) => list::pipelines(&home, command),
        Command::Bench(command) => bench::run(&home, command).await,
        Command::Token(arguments) => token::run(arguments),
        Command::Doctor(arguments) => list::doctor(&home, arguments).await,
    }
}

/// One line on stderr, and the exit code that fits the cause.
fn report(error: &anyhow::Error) -> ExitCode {
    tracing::debug!(?error, "failed");
    write_stderr(&format!("mouthpiece: {error:#}\n"));
    let bad_input = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.is::<AvatarError>()
            || cause.is::<StoreError>()
            || cause.is::<BadInput>()
            || cause.is::<media::DescriptionError>()
            || cause.is::<crate::speech::sound::SoundFileError>()
            || matches!(cause.downcast_ref(), Some(media::MediaError::UnknownEncoder { .. }))
            || cause.is::<crate::access::KeySetError>()
            || cause.is::<crate::signalling::tls::TlsError>()
            || cause.is::<crate::ids::InvalidAvatarId>()
            || cause.is::<crate::models::catalog::UnknownModel>()
            || cause.is::<crate::models::convert::ConvertError>()
    });
    ExitCode::from(if bad_input { 2 } else { 1 })
}

fn write_stderr(text: &str) {
    use std::io::Write;
    // A closed stderr leaves nobody to tell.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints a result; a closed pipe at the other end is not an error of ours.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(value)?));
    Ok(())
}

async fn serve(home: &Home, arguments: Serve) -> anyhow::Result<ExitCode> {
    let config = ServeConfig::resolve(home, arguments)?;
    if config.access.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "--insecure: everybody who can reach this address may come in");
    }
    if config.ice.gives_lasting_password() {
        tracing::warn!(
            "every browser that watches is given the TURN server's password, which never ends: settings.toml says how each gets \
             one of its own, which does"
        );
    }
    if config.mark_speech {
        tracing::warn!("--mark-speech: speech is marked in the picture; this server is for measuring");
    }
    config.encoder.check(&media::PipelineDir::find(&config.folders.pipelines))?;
    // Before anything is opened: what is there now is what the server may count on.
    raise_descriptors();
    media::init()?;
    let address = config.listen;
    let listener = tokio::net::TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: is another server there? choose another with --listen")
    })?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    let recorder = metrics::install()?;
    let avatar = config.avatar.clone();
    let announce = move || print(&format!("{avatar} is at {url}\n"));
    let ended = CancellationToken::new();
    let upkeep = recorder.clone();
    let keeping_up = tokio::spawn(metrics::keep_up(move || upkeep.run_upkeep(), ended.clone()));
    let served = server::serve(config, listener, move || recorder.render(), announce, asked_to_stop()?).await;
    ended.cancel();
    keeping_up.await?;
    served.map(|()| ExitCode::SUCCESS)
}

/// Resolves at SIGINT or SIGTERM.
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
