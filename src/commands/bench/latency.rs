//! `bench latency`: how soon an avatar speaks, how soon it is silent, and what the whole server takes of a core.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::watch::{self, Reception, Watcher};
use super::{Bed, CpuMeter, SENTENCES, WARM_UP, percentiles, sentence, speech_of};
use crate::cli::BenchLatency;
use crate::commands::measure::{Percentiles, Recording};
use crate::latency::Stage;
use crate::metrics;

const SESSION: &str = "latency";

pub(super) async fn measure(bed: &Bed, arguments: &BenchLatency, recording: &Recording) -> anyhow::Result<Value> {
    let mut client = Client::connect(&bed.url(SESSION)).await?;
    // Nobody sees what is not watched, so it is not drawn.
    let mut watchers = vec![Watcher::start(&bed.url(SESSION)).await?];
    for at in 0..WARM_UP {
        client.speak(sentence(at)).await?;
    }
    recording.take();
    let mut said = Vec::new();
    for at in 0..arguments.utterances {
        said.push(client.speak(sentence(at)).await?.as_secs_f64());
    }
    let spoken = recording.take();
    let interruptions = arguments.interruptions();
    for at in 0..interruptions {
        // Between a quarter and one and a quarter second into the sentence, so at different phases of a tick.
        client.interrupt_after(Duration::from_millis(250 + u64::from(at * 97 % 1000))).await?;
    }
    let interrupted = recording.take();
    let time = Duration::from_secs(arguments.cpu_seconds.into());
    let reception = Reception::begin(&mut watchers).await?;
    let watched = cpu_while_speaking(&mut client, time).await?;
    let received_fps = reception.least_frames_per_second(&mut watchers).await?;
    let pairs = recording.take();
    watch::stop_all(watchers).await?;
    let unwatched = cpu_while_speaking(&mut client, time).await?;
    client.close().await?;
    let shown = |kind: &str| pairs.count(metrics::PAIRS, kind);
    Ok(json!({
        "first_frame_ms": percentiles(spoken.turn(Stage::FirstFrame)),
        "first_audio_ms": percentiles(spoken.turn(Stage::FirstAudio)),
        "speech_started_ms": percentiles(Percentiles::of_seconds(&said)),
        "interrupt_ms": percentiles(interrupted.percentiles(metrics::INTERRUPT)),
        "cpu_percent_of_a_core": {"no_viewer": unwatched, "one_viewer": watched},
        "viewer_received_fps": received_fps,
        "tick_late_ms": percentiles(pairs.percentiles(metrics::TICK_LATE)),
        "pairs": {"mouth": shown("mouth"), "own": shown("own"), "repeated": shown("repeated"),
            "starved": shown("starved"), "held": shown("held")},
        "stages": spoken.stages(),
        "utterances": arguments.utterances,
        "interruptions": interruptions,
    }))
}

/// The whole server's CPU over speech without a pause, as percent of a core; nothing of no time.
async fn cpu_while_speaking(client: &mut Client, time: Duration) -> anyhow::Result<Option<f64>> {
    if time.is_zero() {
        return Ok(None);
    }
    client.start_speaking(&speech_of(time, SENTENCES)).await?;
    let meter = CpuMeter::start()?;
    client.listen(time).await?;
    let percent = meter.percent_of_a_core()?;
    client.interrupt().await?;
    Ok(Some(percent))
}
