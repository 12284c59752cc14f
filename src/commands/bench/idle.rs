//! `bench sessions --idle N --unwatched N`: what sessions cost that do not speak, watched and not.
//!
//! The clients are in this process, so their pings are counted as the server's CPU.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::client::Client;
use super::watch::{self, Reception, Watcher};
use super::{Bed, CpuMeter, percentiles};
use crate::commands::measure::Recording;
use crate::metrics;

/// Unwatched sessions that get a viewer, one after the other, to see how soon they wake.
const WAKES: usize = 10;

/// Watched sessions that say nothing.
pub(super) async fn watched(
    bed: &Bed,
    sessions: u32,
    viewers_per_process: usize,
    time: Duration,
    recording: &Recording,
) -> anyhow::Result<Value> {
    let urls: Vec<String> = (0..sessions).map(|at| bed.url(&format!("idle-{at}"))).collect();
    let mut watchers = Watcher::start_all(&urls, viewers_per_process).await?;
    let reception = Reception::begin(&mut watchers).await?;
    recording.take();
    let meter = CpuMeter::start()?;
    tokio::time::sleep(time).await;
    let (cpu, recorded) = (meter.percent_of_a_core()?, recording.take());
    let received_fps = reception.least_frames_per_second(&mut watchers).await?;
    watch::stop_all(watchers).await?;
    Ok(json!({
        "sessions": sessions,
        "received_fps": received_fps,
        "frame_gap_ms": percentiles(recorded.percentiles(metrics::FRAME_GAP)),
        "batches_drawn": recorded.batch_count(),
        "cpu_percent_of_a_core": cpu,
    }))
}

/// Sessions that nobody watches, and how soon some of them wake.
pub(super) async fn unwatched(
    bed: &Bed,
    sessions: u32,
    time: Duration,
    recording: &Recording,
) -> anyhow::Result<Value> {
    let url = |at: usize| bed.url(&format!("unwatched-{at}"));
    let mut clients = Vec::new();
    for at in 0..sessions as usize {
        clients.push(Client::connect(&url(at)).await?);
    }
    recording.take();
    let meter = CpuMeter::start()?;
    try_join_all(clients.iter_mut().map(|client| client.listen(time))).await?;
    let (cpu, recorded) = (meter.percent_of_a_core()?, recording.take());
    let count = |name| recorded.percentiles(name).map_or(0, |found| found.count);
    let (batches, frames) = (recorded.batch_count(), count(metrics::FRAME_GAP));
    for at in 0..WAKES.min(clients.len()) {
        Watcher::start(&url(at)).await?.stop().await?;
    }
    let wake = recording.take();
    for client in clients {
        client.close().await?;
    }
    Ok(json!({
        "sessions": sessions,
        "cpu_percent_of_a_core": cpu,
        "batches_drawn": batches,
        "frames_encoded": frames,
        "wake_ms": percentiles(wake.percentiles(metrics::ENCODE_BEGAN)),
    }))
}
