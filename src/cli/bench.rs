//! Arguments of `mouthpiece bench`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};

use super::Machine;
use crate::lipsync::batch::BATCH_SIZES;
use crate::musetalk::device::{ENGINE_THREADS, Precision};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
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
pub(crate) struct BenchServer {
    #[arg(long, value_name = "ID", default_value = "demo")]
    pub(crate) avatar: String,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchThroughput {
    #[command(flatten)]
    pub(crate) throughput: Throughput,
    #[command(flatten)]
    pub(crate) server: BenchServer,
}

/// How a model is measured.
#[derive(Clone, Debug, Args)]
pub struct Throughput {
    /// Sizes of batches
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = BATCH_SIZES,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub(crate) batch: Vec<usize>,
    /// Batches of each size; the median counts
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub(crate) rounds: usize,
    /// Floats to compute in throughout [default: what serving takes, the quickest for each network]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<Precision>,
    /// libtorch's threads on a CPU
    #[arg(long, value_name = "N", default_value_t = ENGINE_THREADS, value_parser = clap::value_parser!(i32).range(1..=256))]
    pub(crate) threads: i32,
    /// Decode whole pictures, not only what is pasted
    #[arg(long)]
    pub(crate) all_rows: bool,
    /// First draw from `sample` and `tokens` of the one file and write `latent` and `picture` into the other
    /// (safetensors), to compare with another implementation
    #[arg(long, num_args = 2, value_names = ["IN", "OUT"])]
    pub(crate) check: Vec<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchLatency {
    /// Utterances to measure
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) utterances: u32,
    #[command(flatten)]
    pub(crate) server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchSessions {
    /// Sessions at most; measured with one, two, and so on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) sessions: u32,
    /// How long each number of sessions speaks
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub(crate) seconds: u32,
    /// Utterances whose first frame is timed, alone and beside 80 % of the speakers that hold; 0 leaves this out
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) utterances: u32,
    /// Also measures this many sessions that are watched, each by one viewer, and do not speak
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=64))]
    pub(crate) idle: u32,
    /// Also measures this many sessions that nobody watches
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=400))]
    pub(crate) unwatched: u32,
    #[command(flatten)]
    pub(crate) server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchViewers {
    /// Viewers at most; measured with one, two, and so on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub(crate) viewers: u32,
    /// How often the viewers come, one after the other, and leave again; the median counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long each number of viewers is measured in a round, idle and again speaking
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub(crate) seconds: u32,
    #[command(flatten)]
    pub(crate) server: BenchServer,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchWatch {
    /// WebSocket of a session, such as ws://127.0.0.1:8080/ws?session=NAME
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
}
