//! Arguments exactly as typed. What they mean once resolved is in `config`.

mod secrets;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};

use crate::lipsync::window::BATCH_SIZES;
use crate::musetalk::ENGINE_THREADS;
use crate::musetalk::device::DeviceChoice;
use crate::musetalk::network::Network;
use crate::musetalk::precision::Precision;

pub use secrets::hide_secrets;
use secrets::{TOKEN_VARIABLE, TURN_VARIABLE};

/// Gives a program a face: text or audio in, a lip-synced avatar out over WebRTC, in real time.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub home: Home,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the project's folders are.
#[derive(Clone, Debug, Default, Args)]
pub struct Home {
    /// Folder that holds `models` and `pipelines` [default: the current folder, else where the program was built]
    #[arg(long, global = true, env = "MOUTHPIECE_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// Say what is missing or wrong, and how to mend it
    Doctor(Doctor),
}

#[derive(Clone, Debug, Default, Args)]
pub struct Serve {
    /// Avatar to speak as; `mouthpiece avatars list` shows them
    #[arg(long, value_name = "ID")]
    pub avatar: Option<String>,
    /// Address and port of the page, the WebSocket and the metrics [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    #[command(flatten)]
    pub machine: Machine,
    /// Settings file (TOML); what is typed here wins over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// STUN server given to browsers and used here, such as stun:stun.example.org:3478
    #[arg(long, value_name = "URL")]
    pub stun: Option<String>,
    /// TURN server, such as turn:user:password@turn.example.org:3478; everybody on this machine may read what is typed, so
    /// better in the environment or in a file
    #[arg(long, env = TURN_VARIABLE, hide_env_values = true, value_name = "URL", conflicts_with = "turn_file")]
    pub turn: Option<String>,
    /// Whether viewers' ICE candidates with private addresses are used, which viewers in a network of your own have; turn
    /// it off on a public server beside machines that strangers must not send packets to [default: true]
    #[arg(long, value_name = "BOOL")]
    pub ice_private: Option<bool>,
    /// File that holds the TURN server's URL, password and all
    #[arg(long, value_name = "FILE")]
    pub turn_file: Option<PathBuf>,
    /// Another name that the server answers to, besides its addresses and localhost; once for each
    #[arg(long = "allowed-host", value_name = "NAME")]
    pub allowed_hosts: Vec<String>,
    /// OpenAI-compatible endpoint that answers what users write, such as http://127.0.0.1:8080/v1; its key is read from
    /// MOUTHPIECE_LLM_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub llm_url: Option<String>,
    /// Name of the model there
    #[arg(long, value_name = "NAME")]
    pub llm_model: Option<String>,
    /// OpenAI-compatible endpoint that speaks for all avatars, such as http://127.0.0.1:8880/v1, or a synthesiser behind a
    /// WebSocket, such as ws://127.0.0.1:9000/speak; their own voices take over where it fails. Its key is read from MOUTHPIECE_TTS_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub tts_url: Option<String>,
    /// Name of the model there; a WebSocket needs none
    #[arg(long, value_name = "NAME")]
    pub tts_model: Option<String>,
    /// Name of the voice there [default: alloy]
    #[arg(long, value_name = "NAME")]
    pub tts_voice: Option<String>,
    /// Speech recogniser behind an OpenAI-compatible audio/transcriptions endpoint, such as http://127.0.0.1:8000/v1: viewers
    /// may then speak to the avatar. Its key is read from MOUTHPIECE_ASR_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub asr_url: Option<String>,
    /// Name of the model there
    #[arg(long, value_name = "NAME")]
    pub asr_model: Option<String>,
    /// Draw a mark into every frame with a fresh mouth, so that a program that looks at the picture can tell when speech
    /// is seen. For measuring only: viewers see it too
    #[arg(long, hide = true)]
    pub mark_speech: bool,
}

/// What does the work.
#[derive(Clone, Debug, Default, Args)]
pub struct Machine {
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// auto, or an element of pipelines/publish-*.launch such as x264enc, nvh264enc, openh264enc, vp8enc
    #[arg(long, value_name = "NAME")]
    pub encoder: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct Render {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub avatar: String,
    /// Text to speak
    #[arg(long, value_name = "TEXT", conflicts_with = "audio", required_unless_present = "audio")]
    pub text: Option<String>,
    /// Speech to speak with: WAV, FLAC, MP3, AAC, M4A, Ogg, WebM, AIFF or CAF, of up to eight channels and 8 to 192 kHz
    #[arg(long, value_name = "FILE")]
    pub audio: Option<PathBuf>,
    /// Where to write the film (MP4)
    #[arg(long, value_name = "FILE.mp4")]
    pub out: PathBuf,
    #[command(flatten)]
    pub machine: Machine,
    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Say {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub avatar: String,
    /// Another engine than the avatar's: espeak-ng or hibari
    #[arg(long, value_name = "NAME")]
    pub engine: Option<String>,
    /// Text to speak
    #[arg(long, value_name = "TEXT")]
    pub text: String,
    /// Where to write the sound (16-bit mono)
    #[arg(long, value_name = "FILE.wav")]
    pub out: PathBuf,
    /// Print what was done and how long it took as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Avatars {
    /// Names of all avatars
    List {
        #[arg(long)]
        json: bool,
    },
    /// One avatar's manifest
    Show {
        #[arg(value_name = "ID")]
        id: String,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum Models {
    /// Models, whether they are usable, and how fast they are here
    List {
        /// Load every usable model and draw a frame: how long that takes on this machine
        #[arg(long)]
        speed: bool,
        /// Where to draw it: auto, cpu, cuda or cuda:N
        #[arg(long, value_name = "DEVICE", default_value = "auto", requires = "speed")]
        device: DeviceChoice,
        #[arg(long)]
        json: bool,
    },
    /// Get a published model, or go on getting it, and install it
    Fetch(Fetch),
    /// Make a model of this installation from upstream's folder of weights
    Convert(Convert),
    /// Check a model's weights: names, shapes, numbers and hashes
    Verify {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(long)]
        json: bool,
    },
    /// Run one network of a model folder on named tensors, to compare it with another implementation
    Run(RunNetwork),
    /// Teach a small, quick decoder to draw an avatar's mouth as its model's own decoder does
    TuneDecoder(TuneDecoder),
}

fn learning_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0.0 && *rate <= 0.1);
    rate.ok_or_else(|| "a number above 0 and up to 0.1 is wanted".to_owned())
}

#[derive(Clone, Debug, Args)]
pub struct TuneDecoder {
    /// The avatar that it is for
    #[arg(value_name = "AVATAR")]
    pub avatar: String,
    /// Folder under models/ of the small decoder (an AutoencoderTiny) to begin with
    #[arg(long, value_name = "NAME", default_value = "taesd")]
    pub from: String,
    /// Steps of learning, four frames each
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Frames to learn from, half the avatar's own and half spoken; one in eight is kept for judging
    #[arg(long, value_name = "N", default_value_t = 240, value_parser = clap::value_parser!(u32).range(16..=4000))]
    pub frames: u32,
    /// How large the first steps are; more for a decoder that has learnt nothing
    #[arg(long, value_name = "RATE", default_value_t = 3e-4, value_parser = learning_rate)]
    pub learning_rate: f64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where to learn: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Make it anew if the avatar has one already
    #[arg(long)]
    pub replace: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Fetch {
    /// musetalk-v1.0, musetalk-v1.5 or taesd
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The Hugging Face Hub, or a mirror of it
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL", default_value = "https://huggingface.co")]
    pub endpoint: String,
    /// For files that need a login; better in the environment than here
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Only list the files with their sizes and licences
    #[arg(long)]
    pub dry_run: bool,
    /// Agree to the licences without being asked
    #[arg(long)]
    pub accept_licences: bool,
    /// Keep the files that the model is made from
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub install: Install,
}

#[derive(Clone, Debug, Args)]
pub struct Convert {
    /// musetalk-v1.0 or musetalk-v1.5
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Upstream's `models` folder, with whisper, sd-vae and musetalk or musetalkV15 in it
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    #[command(flatten)]
    pub install: Install,
}

/// How a model is stored.
#[derive(Clone, Debug, Args)]
pub struct Install {
    /// Floats to store: half the space, or all of the digits
    #[arg(long, value_name = "DTYPE", default_value = "fp16", value_parser = ["fp16", "fp32"])]
    pub dtype: String,
    /// Make the model anew if it is there already
    #[arg(long)]
    pub replace: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RunNetwork {
    /// A model's folder, or one with config.json and weights as diffusers and transformers save them
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    #[arg(long, value_enum)]
    pub network: Network,
    /// Inputs: `sample` and `encoder_hidden_states` (unet), `latent`, `image`, `mel`, `audio` or `face` (latents)
    #[arg(long = "in", value_name = "FILE.safetensors")]
    pub input: PathBuf,
    /// Outputs: `out`, or `mean` and `logvar` (vae-encode), or `latents`
    #[arg(long = "out", value_name = "FILE.safetensors")]
    pub output: PathBuf,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceChoice,
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Precision,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Pipelines {
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
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// Time from text to the first lip-synced frame, from an interruption to silence, and the server's CPU
    Latency(BenchLatency),
    /// Frames a second through the network, for each batch size, stage by stage
    Throughput(BenchThroughput),
    /// How many sessions speak at once with a fresh mouth in every frame
    Sessions(BenchSessions),
    /// What each further viewer of a session costs the server, idle and speaking
    Viewers(BenchViewers),
    /// Watch a session without decoding it: the viewer of the other measurements, a process of its own
    #[command(hide = true)]
    Watch(BenchWatch),
}

/// What is measured.
#[derive(Clone, Debug, Args)]
pub struct BenchServer {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub avatar: String,
    #[command(flatten)]
    pub machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BenchThroughput {
    #[command(flatten)]
    pub throughput: Throughput,
    #[command(flatten)]
    pub server: BenchServer,
}

/// How a model is measured.
#[derive(Clone, Debug, Args)]
pub struct Throughput {
    /// Sizes of batches
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = BATCH_SIZES,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub batch: Vec<usize>,
    /// Batches of each size; the median counts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub rounds: usize,
    /// Floats to compute in throughout [default: what serving takes, the quickest for each network]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Precision>,
    /// libtorch's threads on a CPU
    #[arg(long, value_name = "N", default_value_t = ENGINE_THREADS, value_parser = clap::value_parser!(i32).range(1..=256))]
    pub threads: i32,
    /// Decode whole pictures, not only what is pasted
    #[arg(long)]
    pub all_rows: bool,
    /// First draw from `sample` and `tokens` of the one file and write `latent` and `picture` into the other
    /// (safetensors), to compare with another implementation
    #[arg(long, num_args = 2, value_names = ["IN", "OUT"])]
    pub check: Vec<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct BenchLatency {
    /// Utterances to measure
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub utterances: u32,
    #[command(flatten)]
    pub server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub struct BenchSessions {
    /// Sessions at most; measured with one, two, and so on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub sessions: u32,
    /// How long each number of sessions speaks
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub seconds: u32,
    /// Utterances whose first frame is timed, alone and beside 80 % of the speakers that hold; 0 leaves this out
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=100))]
    pub utterances: u32,
    /// Also measures this many sessions that are watched, each by one viewer, and do not speak
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=64))]
    pub idle: u32,
    /// Also measures this many sessions that nobody watches
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=400))]
    pub unwatched: u32,
    #[command(flatten)]
    pub server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub struct BenchViewers {
    /// Viewers at most; measured with one, two, and so on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub viewers: u32,
    /// How often the viewers come, one after the other, and leave again; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How long each number of viewers is measured in a round, idle and again speaking
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub seconds: u32,
    #[command(flatten)]
    pub server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub struct BenchWatch {
    /// WebSocket of a session, such as ws://127.0.0.1:8080/ws?session=NAME
    #[arg(long, value_name = "URL")]
    pub url: String,
}

#[derive(Clone, Debug, Args)]
pub struct Doctor {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub avatar: String,
    /// Port that `serve` would use
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    #[arg(long)]
    pub json: bool,
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
