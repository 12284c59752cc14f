//! `bench sessions`: how many sessions speak at once and still have a fresh mouth in every frame.
//!
//! Each speaks without a pause and has one viewer, on this machine too. A steady 25 fps proves nothing: a mouth that
//! comes too late is hidden by repeating the last picture, so pairs are counted by what they showed.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::client::Client;
use super::watch::{Reception, Watcher};
use super::{Bed, CpuMeter, SENTENCES, WARM_UP, idle, percentiles, rounded, sentence, speech_of};
use crate::cli::BenchSessions;
use crate::commands::measure::{Recorded, Recording};
use crate::latency::Stage;
use crate::metrics;

/// What still counts as holding: mouths that were late, of all that were due, and the gap between two frames.
const MOST_LATE_PERCENT: f64 = 1.0;
const LONGEST_GAP_MS: f64 = 60.0;
/// Of the speakers that hold, while another session's first frame is timed.
const BUSY_PERCENT: usize = 80;
/// Longer than a sentence of the probe takes, start and end included.
const PROBED: Duration = Duration::from_secs(4);

pub(super) async fn measure(bed: &Bed, arguments: &BenchSessions, recording: &Recording) -> anyhow::Result<Value> {
    let time = Duration::from_secs(arguments.seconds.into());
    let (mut clients, mut watchers) = (Vec::new(), Vec::new());
    let (mut rows, mut hold) = (Vec::new(), 0);
    let alone = first_frame(bed, arguments.utterances, recording).await?;
    for sessions in 1..=arguments.sessions {
        let url = bed.url(&format!("speaker-{sessions}"));
        let mut client = Client::connect(&url).await?;
        watchers.push(Watcher::start(&url).await?);
        for at in 0..WARM_UP {
            client.speak(sentence(at)).await?;
        }
        clients.push(client);
        // Not in chorus: each begins with another sentence.
        let mut order = SENTENCES;
        let begin = clients.iter_mut().map(|client| {
            order.rotate_left(1);
            let text = speech_of(time, order);
            async move { client.start_speaking(&text).await }
        });
        try_join_all(begin).await?;
        let reception = Reception::begin(&mut watchers).await?;
        recording.take();
        clients.iter_mut().for_each(|client| {
            client.take_left_out();
        });
        let meter = CpuMeter::start()?;
        try_join_all(clients.iter_mut().map(|client| client.listen(time))).await?;
        let (cpu, recorded) = (meter.percent_of_a_core()?, recording.take());
        let received_fps = reception.least_frames_per_second(&mut watchers).await?;
        try_join_all(clients.iter_mut().map(Client::interrupt)).await?;
        let left_out: Vec<f64> = clients.iter_mut().map(|client| rounded(client.take_left_out() * 100.0)).collect();
        let row = Row::of(&recorded);
        if row.holds() && hold + 1 == sessions {
            hold = sessions;
        }
        rows.push(json!({
            "sessions": sessions,
            "holds": row.holds(),
            "fresh": row.fresh,
            "repeated": row.repeated,
            "left_out": recorded.total(metrics::MOUTHS_LEFT_OUT),
            "left_out_percent_each": left_out,
            "starved": row.starved,
            "fresh_percent": rounded(row.fresh_percent()),
            "pairs": {"own": row.own, "held": row.held, "idle": row.idle},
            "frame_gap_ms": percentiles(recorded.percentiles(metrics::FRAME_GAP)),
            "cpu_percent_of_a_core": cpu,
            "cpu_percent_each": rounded(cpu / f64::from(sessions)),
            "frames_a_batch": recorded.mean_batch().map(rounded),
            "received_fps": received_fps,
        }));
    }
    let speakers = hold as usize * BUSY_PERCENT / 100;
    // The server drops who is silent and answers no ping.
    for client in clients.split_off(speakers) {
        client.close().await?;
    }
    let time_of_probe = PROBED * (arguments.utterances + WARM_UP);
    let text = speech_of(time_of_probe, SENTENCES);
    try_join_all(clients.iter_mut().map(|client| client.start_speaking(&text))).await?;
    // Read meanwhile, as every client must; they have more to say than the probe takes.
    let listening = async {
        match try_join_all(clients.iter_mut().map(|client| client.listen(time_of_probe))).await {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    };
    let busy = tokio::select! {
        found = first_frame(bed, arguments.utterances, recording) => found?,
        error = listening => return Err(error),
    };
    try_join_all(clients.iter_mut().map(Client::interrupt)).await?;
    for watcher in watchers {
        watcher.stop().await?;
    }
    for client in clients {
        client.close().await?;
    }
    let mut report = json!({
        "hold": hold,
        "sessions": rows,
        "seconds": arguments.seconds,
        "viewers_each": 1,
        "first_frame_ms": {"alone": alone, "busy": busy, "busy_speakers": speakers},
    });
    if arguments.idle > 0 {
        report["idle"] = idle::watched(bed, arguments.idle, time, recording).await?;
    }
    if arguments.unwatched > 0 {
        report["unwatched"] = idle::unwatched(bed, arguments.unwatched, time, recording).await?;
    }
    Ok(report)
}

/// From text to the first mouth at the encoder, in a session of its own that says short things one after the other.
async fn first_frame(bed: &Bed, utterances: u32, recording: &Recording) -> anyhow::Result<Value> {
    let url = bed.url("probe");
    let mut client = Client::connect(&url).await?;
    let watcher = Watcher::start(&url).await?;
    for at in 0..WARM_UP {
        client.speak(sentence(at)).await?;
    }
    recording.take();
    for at in 0..utterances {
        client.speak(sentence(at)).await?;
    }
    let found = recording.take();
    watcher.stop().await?;
    client.close().await?;
    Ok(percentiles(found.turn(Stage::FirstFrame)))
}

/// What the pairs of all sessions showed.
#[derive(Clone, Copy, Debug)]
struct Row {
    fresh: u32,
    repeated: u32,
    starved: u32,
    own: u32,
    held: u32,
    idle: u32,
    gap_p99_ms: f64,
}

impl Row {
    fn of(recorded: &Recorded) -> Self {
        let count = |kind| u32::try_from(recorded.count(metrics::PAIRS, kind)).unwrap_or(u32::MAX);
        Self {
            fresh: count("mouth"),
            repeated: count("repeated"),
            starved: count("starved"),
            own: count("own"),
            held: count("held"),
            idle: count("idle"),
            gap_p99_ms: recorded.percentiles(metrics::FRAME_GAP).map_or(f64::INFINITY, |gap| gap.p99_ms),
        }
    }

    /// Of the frames in which a mouth should have been.
    fn fresh_percent(&self) -> f64 {
        let due = f64::from(self.fresh) + f64::from(self.repeated) + f64::from(self.starved);
        if due > 0.0 { f64::from(self.fresh) / due * 100.0 } else { 0.0 }
    }

    fn holds(&self) -> bool {
        self.fresh_percent() >= 100.0 - MOST_LATE_PERCENT && self.gap_p99_ms <= LONGEST_GAP_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_mouths_and_long_gaps_are_not_holding() {
        let good = Row { fresh: 990, repeated: 10, starved: 0, own: 5, held: 1, idle: 0, gap_p99_ms: 45.0 };
        assert!(good.holds() && good.fresh_percent() == 99.0);
        assert!(!Row { repeated: 11, ..good }.holds());
        assert!(!Row { starved: 11, ..good }.holds());
        assert!(!Row { gap_p99_ms: 61.0, ..good }.holds());
        assert!(!Row { fresh: 0, repeated: 0, ..good }.holds(), "nobody spoke");
    }
}
