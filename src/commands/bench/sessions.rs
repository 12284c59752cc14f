//! `bench sessions`: how many sessions speak at once and still have a fresh mouth in every frame.
//!
//! Each speaks without a pause and has one viewer, on this machine too. A steady 25 fps proves nothing: a mouth that
//! comes too late is hidden by repeating the last picture, so pairs are counted by what they showed. The sessions of a step
//! are opened, watched and begin to speak together, so that a step with many takes hardly longer than one with few.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::client::Client;
use super::threads::ThreadMeter;
use super::watch::{self, Reception, Watcher};
use super::{Bed, CpuMeter, SENTENCES, WARM_UP, idle, percentiles, rounded, sentence, speech_of};
use crate::cli::{BenchSessions, SessionSteps};
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

/// How often it is looked whether the engines are warmed up, and how long they may take.
const WARM_UP_LOOK: Duration = Duration::from_millis(50);
const LONGEST_WARM_UP: Duration = Duration::from_secs(30);
/// Of speech before anything is counted: the first words of new sessions come in small batches, and their encoders and voices
/// have never run.
const SETTLING: Duration = Duration::from_secs(2);
/// Speech of each session until the last of all has begun, on a machine that has more of them than time.
const BEGUN: Duration = Duration::from_millis(150);

pub(super) async fn measure(bed: &Bed, arguments: &BenchSessions, recording: &Recording) -> anyhow::Result<Value> {
    let time = Duration::from_secs(arguments.seconds.into());
    let steps = arguments.at.clone().unwrap_or_else(|| SessionSteps::up_to(arguments.sessions));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each = match arguments.viewers_per_process {
        Some(each) => usize::try_from(each)?,
        None => watch::viewers_per_process(steps.highest(), cores),
    };
    warmed_up(recording).await;
    let alone = first_frame(bed, arguments.utterances, recording).await?;
    let mut speakers = Speakers { clients: Vec::new(), watchers: Vec::new(), viewers_per_process: each };
    let (mut rows, mut hold, mut all_hold) = (Vec::new(), 0, true);
    let mut overwhelmed = false;
    for sessions in steps.iter() {
        let step = async {
            speakers.open(bed, sessions).await?;
            speakers.measure(time, recording).await
        };
        match step.await {
            Ok((holds, row)) => {
                all_hold &= holds;
                if all_hold {
                    hold = sessions;
                }
                rows.push(row);
            }
            // So many that they cannot even be opened, or begin to speak: what was measured before is still true.
            Err(error) if !rows.is_empty() => {
                tracing::warn!(sessions, "the machine is overwhelmed: {error:#}");
                rows.push(json!({"sessions": sessions, "holds": false, "problem": format!("{error:#}")}));
                overwhelmed = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let mut report = json!({
        "hold": hold,
        "sessions": rows,
        "seconds": arguments.seconds,
        "viewers_each": 1,
        "viewer_processes": speakers.watchers.len(),
        "first_frame_ms": {"alone": alone},
    });
    if overwhelmed {
        return Ok(report);
    }
    let busy_speakers = hold as usize * BUSY_PERCENT / 100;
    let busy = speakers.beside_probe(bed, busy_speakers, arguments.utterances, recording).await?;
    report["first_frame_ms"] = json!({"alone": alone, "busy": busy, "busy_speakers": busy_speakers});
    if arguments.idle > 0 {
        report["idle"] = idle::watched(bed, arguments.idle, each, time, recording).await?;
    }
    if arguments.unwatched > 0 {
        report["unwatched"] = idle::unwatched(bed, arguments.unwatched, time, recording).await?;
    }
    Ok(report)
}

/// Waits until the engines have drawn every size of batch, so that none is drawn for the first time while it is measured.
async fn warmed_up(recording: &Recording) {
    let warming = async {
        // One that is ready has told of its first batches.
        while recording.take().gauge(metrics::WARM_UPS).is_none_or(|left| left > 0.0) {
            tokio::time::sleep(WARM_UP_LOOK).await;
        }
    };
    if tokio::time::timeout(LONGEST_WARM_UP, warming).await.is_err() {
        tracing::warn!(
            "the engine is not warmed up within {LONGEST_WARM_UP:?}: what is measured first may be too slow"
        );
    }
}

/// Sessions that speak, and those who watch them.
struct Speakers {
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    viewers_per_process: usize,
}

impl Speakers {
    /// Opens sessions until there are so many, all of them together, each with its viewer.
    async fn open(&mut self, bed: &Bed, sessions: u32) -> anyhow::Result<()> {
        let new: Vec<String> =
            (self.clients.len()..sessions as usize).map(|at| bed.url(&format!("speaker-{at}"))).collect();
        self.clients.extend(try_join_all(new.iter().map(|url| Client::connect(url))).await?);
        let watching = Watcher::start_all(&new, self.viewers_per_process);
        self.watchers.extend(Client::while_listening(&mut self.clients, watching).await?);
        Ok(())
    }

    /// Has all of them speak for a time: whether they hold, and what is reported.
    async fn measure(&mut self, time: Duration, recording: &Recording) -> anyhow::Result<(bool, Value)> {
        let Self { clients, watchers, .. } = self;
        let sessions = u32::try_from(clients.len())?;
        // Not in chorus: each begins with another sentence.
        let mut order = SENTENCES;
        let begin = clients.iter_mut().map(|client| {
            order.rotate_left(1);
            let text = speech_of(SETTLING + time + BEGUN * sessions, order);
            async move { client.start_speaking(&text).await }
        });
        try_join_all(begin).await?;
        try_join_all(clients.iter_mut().map(|client| client.listen(SETTLING))).await?;
        let reception = Reception::begin(watchers).await?;
        recording.take();
        clients.iter_mut().for_each(|client| {
            client.take_left_out();
        });
        let (meter, thread_meter) = (CpuMeter::start()?, ThreadMeter::start()?);
        try_join_all(clients.iter_mut().map(|client| client.listen(time))).await?;
        let (cpu, recorded) = (meter.percent_of_a_core()?, recording.take());
        let threads = thread_meter.report()?;
        let received_fps = reception.least_frames_per_second(watchers).await?;
        try_join_all(clients.iter_mut().map(Client::interrupt)).await?;
        let left_out: Vec<f64> = clients.iter_mut().map(|client| rounded(client.take_left_out() * 100.0)).collect();
        let row = Row::of(&recorded);
        let report = json!({
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
            "threads": threads,
            "frames_a_batch": recorded.mean_batch().map(rounded),
            "batches": recorded.batches(),
            "tick_late_ms": percentiles(recorded.percentiles(metrics::TICK_LATE)),
            "compose_ms": percentiles(recorded.percentiles(metrics::COMPOSE)),
            "received_fps": received_fps,
        });
        Ok((row.holds(), report))
    }

    /// Times the first frame of another session beside so many of them that speak, and closes all.
    async fn beside_probe(
        mut self,
        bed: &Bed,
        speakers: usize,
        utterances: u32,
        recording: &Recording,
    ) -> anyhow::Result<Value> {
        // The server drops who is silent and answers no ping.
        try_join_all(self.clients.split_off(speakers).into_iter().map(Client::close)).await?;
        let mut busy = Value::Null;
        if utterances > 0 {
            // More to say than the probe takes.
            let text = speech_of(PROBED * (utterances + WARM_UP), SENTENCES);
            try_join_all(self.clients.iter_mut().map(|client| client.start_speaking(&text))).await?;
            busy = Client::while_listening(&mut self.clients, first_frame(bed, utterances, recording)).await?;
            try_join_all(self.clients.iter_mut().map(Client::interrupt)).await?;
        }
        watch::stop_all(self.watchers).await?;
        try_join_all(self.clients.into_iter().map(Client::close)).await?;
        Ok(busy)
    }
}

/// From text to the first mouth at the encoder, in a session of its own that says short things one after the other. Null if
/// it is to say nothing.
async fn first_frame(bed: &Bed, utterances: u32, recording: &Recording) -> anyhow::Result<Value> {
    if utterances == 0 {
        return Ok(Value::Null);
    }
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
