//! Arguments of `mouthpiece bench`.

use std::path::PathBuf;

use clap::builder::{ArgPredicate, RangedU64ValueParser};
use clap::{Args, Subcommand};

use super::Machine;
use crate::lipsync::batch::BATCH_SIZES;
use crate::musetalk::device::{DeviceChoice, ENGINE_THREADS, Precision};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Time from text to the first lip-synced frame, from an interruption to silence, and the server's CPU
    Latency(BenchLatency),
    /// Frames a second through the network, for each batch size, stage by stage
    Throughput(BenchThroughput),
    /// Kernels of our own against plain operators on a GPU: how far off, and how long
    Kernels(BenchKernels),
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

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchKernels {
    /// cuda or cuda:N
    #[arg(long, default_value = "cuda")]
    pub(crate) device: DeviceChoice,
    /// Only in these floats [default: in all]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<Precision>,
    /// Calls that a time is the mean of
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Interruptions to measure, of about a second each; 0 leaves them out [default: twice as many as utterances]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=2000))]
    pub(crate) interruptions: Option<u32>,
    /// How long the server's CPU is watched while the avatar speaks, once with a viewer and once without; 0 leaves this out
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=300))]
    pub(crate) cpu_seconds: u32,
    #[command(flatten)]
    pub(crate) server: BenchServer,
}

/// Interruptions for each utterance, where their number is not asked for; an interruption takes a second, an utterance two.
const INTERRUPTIONS: u32 = 2;

impl BenchLatency {
    /// How many interruptions are measured.
    pub(crate) fn interruptions(&self) -> u32 {
        self.interruptions.unwrap_or(self.utterances * INTERRUPTIONS)
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchSessions {
    /// Sessions at most; measured with one, two, and so on
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16),
        conflicts_with = "at")]
    pub(crate) sessions: u32,
    /// Numbers of sessions to measure instead, rising, 100 at most, such as 4,8,16
    #[arg(long, value_name = "N,N..")]
    pub(crate) at: Option<SessionSteps>,
    /// How long each number of sessions speaks
    #[arg(long, value_name = "S", default_value = "20", default_value_if("at", ArgPredicate::IsPresent, "5"),
        value_parser = clap::value_parser!(u32).range(1..=300))]
    pub(crate) seconds: u32,
    /// Utterances whose first frame is timed, alone and beside 80 % of the speakers that hold; 0 leaves this out, as --at
    /// does unless this is typed too
    #[arg(long, value_name = "N", default_value = "20", default_value_if("at", ArgPredicate::IsPresent, "0"),
        value_parser = clap::value_parser!(u32).range(..=100))]
    pub(crate) utterances: u32,
    /// Viewers that share a process [default: what makes as many processes as half the processor's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) viewers_per_process: Option<u32>,
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

/// Most sessions that are measured at once.
const MOST_SESSIONS: u32 = 100;

/// Numbers of sessions to measure one after the other: at least one, rising, from 1 to [`MOST_SESSIONS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionSteps(Vec<u32>);

/// What was typed are no such numbers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SessionStepsError {
    /// Something between two commas.
    #[error("{0:?} is no number of sessions from 1 to {most}", most = MOST_SESSIONS)]
    NoNumber(String),
    /// Sessions are added from one step to the next, and none goes.
    #[error("{1} does not come after {0}: each number must be higher than the one before, as in 4,8,16")]
    NotRising(u32, u32),
}

impl SessionSteps {
    /// Every number up to the highest.
    pub(crate) fn up_to(highest: u32) -> Self {
        Self((1..=highest).collect())
    }

    /// The numbers, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The last.
    pub(crate) fn highest(&self) -> u32 {
        self.0.last().copied().unwrap_or(0)
    }
}

impl std::str::FromStr for SessionSteps {
    type Err = SessionStepsError;

    fn from_str(given: &str) -> Result<Self, SessionStepsError> {
        let number = |word: &str| {
            let number = word.trim().parse().ok().filter(|number| (1..=MOST_SESSIONS).contains(number));
            number.ok_or_else(|| SessionStepsError::NoNumber(word.to_owned()))
        };
        let steps = given.split(',').map(number).collect::<Result<Vec<u32>, _>>()?;
        match steps.iter().zip(steps.iter().skip(1)).find(|(before, next)| before >= next) {
            Some((before, next)) => Err(SessionStepsError::NotRising(*before, *next)),
            None => Ok(Self(steps)),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BenchWatch {
    /// WebSocket of a session, such as ws://127.0.0.1:8080/ws?session=NAME; once for each viewer of this process
    #[arg(long = "url", value_name = "URL", required = true)]
    pub(crate) urls: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn steps_are_rising_numbers_of_sessions_and_what_is_not_is_told() {
        let steps = |given: &str| given.parse::<SessionSteps>();
        assert_eq!(steps("4, 8,16").unwrap().iter().collect::<Vec<_>>(), [4, 8, 16]);
        assert_eq!((steps("100").unwrap().highest(), SessionSteps::up_to(3)), (100, steps("1,2,3").unwrap()));
        for (given, wrong) in
            [("", ""), ("0,4", "0"), ("4,101", "101"), ("4,x", "x"), ("4,,8", ""), ("-1", "-1"), ("1.5", "1.5")]
        {
            assert_eq!(steps(given), Err(SessionStepsError::NoNumber(wrong.to_owned())), "{given:?}");
        }
        assert_eq!(steps("4,16,8"), Err(SessionStepsError::NotRising(16, 8)));
        assert_eq!(steps("4,4"), Err(SessionStepsError::NotRising(4, 4)));
    }

    #[test]
    fn interruptions_are_left_out_only_if_that_is_asked_for() {
        let interruptions = |arguments: &[&str]| {
            let typed = [&["mouthpiece", "bench", "latency"], arguments].concat();
            match Cli::try_parse_from(typed).unwrap().command {
                Command::Bench(Bench::Latency(latency)) => latency.interruptions(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((interruptions(&[]), interruptions(&["--utterances", "3"])), (40, 6));
        assert_eq!(interruptions(&["--interruptions", "0"]), 0);
    }

    #[test]
    fn chosen_steps_take_seconds_unless_more_is_asked_for() {
        let sessions = |arguments: &[&str]| {
            let typed = [&["mouthpiece", "bench", "sessions"], arguments].concat();
            match Cli::try_parse_from(typed).map(|cli| cli.command) {
                Ok(Command::Bench(Bench::Sessions(sessions))) => Ok((sessions.seconds, sessions.utterances)),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(sessions(&["--sessions", "3"]), Ok((20, 20)));
        assert_eq!(sessions(&["--at", "4,8"]), Ok((5, 0)));
        assert_eq!(sessions(&["--at", "4,8", "--utterances", "7", "--seconds", "9"]), Ok((9, 7)));
        assert!(sessions(&["--at", "8,4"]).unwrap_err().contains("4 does not come after 8"));
        assert!(sessions(&["--at", "4", "--sessions", "4"]).is_err());
    }
}
