//! `mouthpiece bench`: measures this machine with the real server, over its real WebSocket, in this process.

mod client;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::measure::{Percentiles, Recording};
use super::{print, print_json};
use crate::cli::{Bench, BenchArgs, Home, Serve};
use crate::config::ServeConfig;
use crate::lipsync::MouthBatch;
use crate::lipsync::window::BATCH_SIZES;
use crate::server::{self, Works};
use crate::{media, metrics};
use client::Client;

/// Utterances before anything is counted.
const WARM_UP: u32 = 2;
/// Interruptions measured for each utterance asked for; an interruption takes a second, an utterance two.
const INTERRUPTIONS: u32 = 2;
/// Batches of each size that `throughput` draws.
const ROUNDS: usize = 30;
/// How long the CPU is watched while the avatar speaks.
const CPU_WATCH: Duration = Duration::from_secs(20);

/// Short, of different first sounds, with something to close the lips on.
const SENTENCES: [&str; 5] = [
    "Hello, it is good to see you again.",
    "People believe what they can see.",
    "Maybe we should begin with the weather.",
    "Four brave boys jumped over the pond.",
    "Yes, of course, I am happy to help.",
];

pub(super) async fn run(home: &Home, command: Bench) -> anyhow::Result<ExitCode> {
    media::init()?;
    let recording = Recording::install()?;
    let (report, as_json) = match command {
        Bench::Latency(arguments) => (latency(home, &arguments, &recording).await?, arguments.json),
        Bench::Throughput(arguments) => (throughput(home, &arguments).await?, arguments.json),
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
    async fn start(home: &Home, arguments: &BenchArgs) -> anyhow::Result<Self> {
        let typed = Serve {
            avatar: Some(arguments.avatar.clone()),
            listen: None,
            machine: arguments.machine.clone(),
            config: None,
            stun: None,
            turn: None,
        };
        let config = ServeConfig::resolve(home, typed)?;
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

    async fn stop(self) -> anyhow::Result<()> {
        // Gone already if the server ended by itself, which the next line reports.
        let _ = self.stop.send(());
        self.serving.await?
    }
}

async fn latency(home: &Home, arguments: &BenchArgs, recording: &Recording) -> anyhow::Result<serde_json::Value> {
    let bed = Bed::start(home, arguments).await?;
    let mut client = Client::connect(bed.address).await?;
    let sentence = |at: u32| SENTENCES[at as usize % SENTENCES.len()];
    for at in 0..WARM_UP {
        client.speak(sentence(at)).await?;
    }
    recording.take();
    let mut said = Vec::new();
    for at in 0..arguments.utterances {
        said.push(client.speak(sentence(at)).await?.as_secs_f64());
    }
    let spoken = recording.take();
    for at in 0..arguments.utterances * INTERRUPTIONS {
        // Between a quarter and one and a quarter second into the sentence, so at different phases of a tick.
        client.interrupt_after(Duration::from_millis(250 + u64::from(at * 97 % 1000))).await?;
    }
    let interrupted = recording.take();
    let cpu = cpu_while_speaking(&mut client).await?;
    let pairs = recording.take();
    client.close().await?;
    bed.stop().await?;
    let shown = |kind: &str| pairs.count(metrics::PAIRS, kind);
    Ok(json!({
        "first_frame_ms": percentiles(spoken.percentiles(metrics::FIRST_FRAME)),
        "first_audio_ms": percentiles(spoken.percentiles(metrics::FIRST_AUDIO)),
        "speech_started_ms": percentiles(Percentiles::of_seconds(&said)),
        "interrupt_ms": percentiles(interrupted.percentiles(metrics::INTERRUPT)),
        "cpu_percent_of_a_core": cpu,
        "tick_late_ms": percentiles(pairs.percentiles(metrics::TICK_LATE)),
        "pairs": {"mouth": shown("mouth"), "own": shown("own"), "repeated": shown("repeated"),
            "starved": shown("starved"), "held": shown("held")},
        "stages": spoken.stages(),
        "utterances": arguments.utterances,
        "viewers": 0,
    }))
}

/// With the names that the contract of `--json` uses.
fn percentiles(found: Option<Percentiles>) -> serde_json::Value {
    found.map_or(serde_json::Value::Null, |found| {
        json!({"p50": found.p50_ms, "p95": found.p95_ms, "p99": found.p99_ms, "max": found.max_ms, "count": found.count})
    })
}

/// This process's CPU time over speech without a pause, as a share of one core.
async fn cpu_while_speaking(client: &mut Client) -> anyhow::Result<f64> {
    let text = SENTENCES.join(" ").repeat(4);
    client.start_speaking(&text).await?;
    let (before, started) = (cpu_time()?, Instant::now());
    tokio::time::sleep(CPU_WATCH).await;
    let (spent, elapsed) = (cpu_time()?.saturating_sub(before), started.elapsed());
    client.interrupt().await?;
    Ok((spent.as_secs_f64() / elapsed.as_secs_f64() * 1000.0).round() / 10.0)
}

/// User and system time of this process so far, from `/proc/self/stat` (proc(5), fields 14 and 15).
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or_else(|| anyhow::anyhow!("/proc/self/stat has no name"))?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

/// Frames a second of the network and its pasting alone, nothing else running.
async fn throughput(home: &Home, arguments: &BenchArgs) -> anyhow::Result<serde_json::Value> {
    let folders = crate::config::Folders::find(home)?;
    let id = arguments.avatar.parse()?;
    let manifest = crate::avatar::AvatarStore::new(&folders.avatars).manifest(&id)?;
    let (device, _) = arguments.machine.resolve()?;
    let works = Works::start(&folders, &manifest.model, device).await?;
    let loaded = server::load_avatar(&works.engine, &folders, &id).await?;
    let audio: std::sync::Arc<[f32]> = vec![0.1; crate::timeline::LIPSYNC_RATE as usize].into();
    let mut sizes = Vec::new();
    for size in BATCH_SIZES {
        let mut took = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let batch = MouthBatch {
                avatar: loaded.handle,
                poses: (0..size).collect(),
                audio: std::sync::Arc::clone(&audio),
                first_frame_at: 0,
            };
            let started = Instant::now();
            works.engine.draw(batch, started, CancellationToken::new()).await?.await??;
            took.push(started.elapsed().as_secs_f64() / f64::from(u32::try_from(size)?));
        }
        let found = Percentiles::of_seconds(&took);
        let rate = found.map(|found| (10_000.0 / found.p50_ms).round() / 10.0);
        sizes.push(json!({"batch": size, "frame_ms": percentiles(found), "frames_per_second": rate}));
    }
    works.stop().await?;
    Ok(json!({ "device": format!("{device:?}").to_lowercase(), "model": manifest.model, "sizes": sizes }))
}
