//! `mouthpiece bench`: measures this machine with the real server, over its real WebSocket, in this process.
//!
//! In here: the server under test, its CPU, what it is made to say. Each measurement is a file of its own. Viewers are in
//! other processes (`watch`), so that this one's CPU is the server's.

mod client;
mod idle;
mod kernels;
mod latency;
mod sessions;
mod threads;
mod throughput;
mod viewers;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::measure::{Percentiles, Recording};
use super::{print, print_json, rounded};
use crate::cli::{Bench, BenchServer, Home, Serve};
use crate::config::ServeConfig;
use crate::media::PipelineDir;
use crate::server::budget::limits::raise_descriptors;
use crate::{media, server};

/// Utterances before anything is counted.
const WARM_UP: u32 = 2;

/// Short, of different first sounds, with something to close the lips on.
const SENTENCES: [&str; 5] = [
    "Hello, it is good to see you again.",
    "People believe what they can see.",
    "Maybe we should begin with the weather.",
    "Four brave boys jumped over the pond.",
    "Yes, of course, I am happy to help.",
];
/// Sessions, beyond those that any measurement opens.
const MANY: usize = 1024;
/// The shortest of them takes longer.
const SHORTEST_SENTENCE: Duration = Duration::from_millis(1200);
/// Speech that is there beyond the time measured, for a machine on which everything takes longer.
const SPARE_SPEECH: Duration = Duration::from_secs(5);

pub(super) async fn run(home: &Home, command: Bench) -> anyhow::Result<ExitCode> {
    // As `serve` does: what is there now is what the server may count on.
    raise_descriptors();
    media::init()?;
    let recording = Recording::install()?;
    let (report, as_json) = match &command {
        Bench::Latency(arguments) => {
            let measure = async |bed: &Bed| latency::measure(bed, arguments, &recording).await;
            (Bed::serve(home, &arguments.server, measure).await?, arguments.server.json)
        }
        Bench::Throughput(arguments) => (throughput::run(home, arguments).await?, arguments.server.json),
        Bench::Kernels(arguments) => {
            let as_json = arguments.json;
            let arguments = arguments.clone();
            (tokio::task::spawn_blocking(move || kernels::run(&arguments)).await??, as_json)
        }
        Bench::Sessions(arguments) => {
            let measure = async |bed: &Bed| sessions::measure(bed, arguments, &recording).await;
            (Bed::serve(home, &arguments.server, measure).await?, arguments.server.json)
        }
        Bench::Viewers(arguments) => {
            let measure = async |bed: &Bed| viewers::measure(bed, arguments).await;
            (Bed::serve(home, &arguments.server, measure).await?, arguments.server.json)
        }
        Bench::Watch(arguments) => {
            watch::run(&arguments.urls).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if as_json {
        print_json(&report)?;
    } else {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    Ok(ExitCode::SUCCESS)
}

/// A server of our own on a free port.
struct Bed {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Bed {
    /// Serves while it is measured, and ends the server whatever came of that.
    async fn serve(
        home: &Home,
        arguments: &BenchServer,
        measure: impl AsyncFnOnce(&Self) -> anyhow::Result<Value>,
    ) -> anyhow::Result<Value> {
        let bed = Self::start(home, arguments).await?;
        let measured = measure(&bed).await;
        // A server that failed is why the measurement did.
        bed.stop().await?;
        measured
    }

    async fn start(home: &Home, arguments: &BenchServer) -> anyhow::Result<Self> {
        let typed =
            Serve { avatar: Some(arguments.avatar.clone()), machine: arguments.machine.clone(), ..Serve::default() };
        // The bench looks for the limits itself.
        let config = ServeConfig {
            max_sessions: MANY,
            speaking_share: 1e-6,
            limit_addresses: false,
            ..ServeConfig::resolve(home, typed)?
        };
        config.encoder.check(&PipelineDir::find(&config.folders.pipelines))?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let (announce, ready) = oneshot::channel();
        let serving = tokio::spawn(server::serve(
            config,
            listener,
            String::new,
            // Not awaited any more only if this bench was itself given up.
            move || {
                let _ = announce.send(());
            },
            async move { drop(stopped.await) },
        ));
        if ready.await.is_err() {
            serving.await??;
            anyhow::bail!("the server ended before it was ready");
        }
        Ok(Self { address, stop, serving })
    }

    /// Where a session is joined, and opened by the first who joins it.
    fn url(&self, session: &str) -> String {
        format!("ws://{}/ws?session={session}", self.address)
    }

    async fn stop(self) -> anyhow::Result<()> {
        // Gone already if the server ended by itself, which the next line reports.
        let _ = self.stop.send(());
        self.serving.await?
    }
}

/// Turn by turn another one.
fn sentence(turn: u32) -> &'static str {
    SENTENCES[turn as usize % SENTENCES.len()]
}

/// Text that takes longer to say than `time`, whatever the voice.
fn speech_of(time: Duration, sentences: [&str; SENTENCES.len()]) -> String {
    let mut text = String::new();
    let mut spoken = Duration::ZERO;
    for sentence in sentences.into_iter().cycle() {
        text.push_str(sentence);
        text.push(' ');
        spoken += SHORTEST_SENTENCE;
        if spoken > time + SPARE_SPEECH {
            break;
        }
    }
    text
}

/// The CPU time of this process and of the synthesisers that it ran, from a moment on.
struct CpuMeter {
    before: Duration,
    started: Instant,
}

impl CpuMeter {
    fn start() -> anyhow::Result<Self> {
        Ok(Self { before: cpu_time()?, started: Instant::now() })
    }

    fn percent_of_a_core(&self) -> anyhow::Result<f64> {
        let spent = cpu_time()?.saturating_sub(self.before);
        Ok(rounded(spent.as_secs_f64() / self.started.elapsed().as_secs_f64() * 100.0))
    }
}

/// User and system time of this process and its ended children so far, from `/proc/self/stat` (proc(5), fields 14 to
/// 17). The children that end while something is measured are espeak-ng's; viewers are ended before or after.
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    ticks(&stat, 4).ok_or_else(|| anyhow::anyhow!("/proc/self/stat has no name"))
}

/// The first so many of the times in a `stat` of `/proc`, together: user, system, and those of ended children.
fn ticks(stat: &str, times: usize) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(times).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

/// With the names that the contract of `--json` uses.
fn percentiles(found: Option<Percentiles>) -> Value {
    found.map_or(Value::Null, |found| {
        json!({"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "max": found.max_ms, "count": found.count})
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::TEXT_CHARACTERS;

    #[test]
    fn speech_of_the_longest_time_is_not_too_long_to_send() {
        assert!(speech_of(Duration::from_secs(300), SENTENCES).chars().count() <= TEXT_CHARACTERS);
    }
}
