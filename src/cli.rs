//! Arguments exactly as typed. What they mean once resolved is in `config`.
//!
//! In here: the commands. `serve`, `avatars`, `models`, `bench` and `token` have arguments of their own; `secrets` keeps those that nobody else on
//! the machine may read off the command line.

mod avatars;
mod bench;
mod models;
mod secrets;
mod serve;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use avatars::{Avatars, Create};
pub use bench::Throughput;
pub(crate) use bench::{
    Bench, BenchKernels, BenchLatency, BenchServer, BenchSessions, BenchThroughput, BenchViewers, SessionSteps,
};
pub(crate) use models::{Convert, Fetch, Install, Models, RunNetwork, TuneDecoder};
pub use secrets::hide_secrets;
pub use serve::Serve;
pub(crate) use token::Token;

/// Gives a program a face: text or audio in, a lip-synced avatar out over WebRTC, in real time.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) home: Home,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the project's folders are.
#[derive(Clone, Debug, Default, Args)]
pub struct Home {
    /// Folder that holds `models` and `pipelines` [default: the current folder, else where the program was built]
    #[arg(long, global = true, env = "MOUTHPIECE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve an avatar: a page on http://LISTEN and a WebSocket on /ws
    Serve(Box<Serve>),
    /// Speak into a file, faster than real time
    Render(Render),
    /// Speak into a sound file, with an avatar's own voice and without a picture
    Say(Say),
    /// The avatars of this installation
    #[command(subcommand)]
    Avatars(Avatars),
    /// The lip-sync models of this installation
    #[command(subcommand)]
    Models(Models),
    /// The pipeline descriptions that media engineers edit
    #[command(subcommand)]
    Pipelines(Pipelines),
    /// Measure this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Make a token that lets somebody in where [access] asks for one
    Token(Token),
    /// Say what is missing or wrong, and how to mend it
    Doctor(Doctor),
}

/// What does the work.
#[derive(Clone, Debug, Default, Args)]
pub struct Machine {
    /// auto, cpu, cuda, cuda:N, or several such as cuda:0,cuda:1; auto is the first GPU, of a server every GPU, and the CPU where
    /// there is none, of which a server uses every core
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// auto, or an element of pipelines/publish-*.launch such as x264enc, nvh264enc, openh264enc, vp8enc
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Render {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub(crate) avatar: String,
    /// Text to speak
    #[arg(long, value_name = "TEXT", conflicts_with = "audio", required_unless_present = "audio")]
    pub(crate) text: Option<String>,
    /// Speech to speak with: WAV, FLAC, MP3, AAC, M4A, Ogg, WebM, AIFF or CAF, of up to eight channels and 8 to 192 kHz
    #[arg(long, value_name = "FILE")]
    pub(crate) audio: Option<PathBuf>,
    /// Where to write the film (MP4; WebM with --alpha)
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Write a WebM with an alpha channel, of an avatar that is cut out
    #[arg(long)]
    pub(crate) alpha: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Say {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub(crate) avatar: String,
    /// Another engine than the avatar's: espeak-ng or hibari
    #[arg(long, value_name = "NAME")]
    pub(crate) engine: Option<String>,
    /// Text to speak
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: String,
    /// Where to write the sound (16-bit mono)
    #[arg(long, value_name = "FILE.wav")]
    pub(crate) out: PathBuf,
    /// Print what was done and how long it took as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Pipelines {
    /// Descriptions that are in use and whether this machine can run them
    List {
        #[arg(long)]
        json: bool,
    },
    /// Parse descriptions and check them against the contract of pipelines/README.md
    Check {
        /// Files to check [default: all of pipelines/]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Draw the one FILE as graphs of Graphviz [default: FILE with .dot in place of .launch, in the current folder]
        #[arg(long, value_name = "FILE.dot", num_args = 0..=1, default_missing_value = "", requires = "files")]
        dot: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Doctor {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub(crate) avatar: String,
    /// Port that `serve` would use [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Also say what a viewer outside will meet: addresses, ports, and whether STUN and TURN servers answer
    #[arg(long)]
    pub(crate) network: bool,
    /// Settings file (TOML) that `serve` would use, for --network
    #[arg(long, value_name = "FILE", requires = "network")]
    pub(crate) config: Option<PathBuf>,
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn render_wants_text_or_audio() {
        assert!(Cli::try_parse_from(["mouthpiece", "render", "--out", "a.mp4"]).is_err());
        assert!(Cli::try_parse_from(["mouthpiece", "render", "--out", "a.mp4", "--text", "Hi"]).is_ok());
    }
}
