//! Viewers in processes of their own, so that what they do to receive is not counted as the server's.
//!
//! In here: such a process, `mouthpiece bench watch`, and the measuring process's hold on it. Each of its viewers joins a
//! session over the WebSocket, receives without decoding, and writes what came as a line of JSON, four times a second. It
//! ends with the connections. A process has some tens of megabytes and much to initialise, so many viewers share a few.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::client::Client;
use crate::commands::print_json;
use crate::media::{Received, Receiver};

/// Between two lines of a viewer.
const REPORT: Duration = Duration::from_millis(250);
/// From the start of a process to the first picture and sound of a lone viewer.
const CONNECTED: Duration = Duration::from_secs(20);
/// Viewers of a process that connect at the same time. With all of them at once, each would take longer than the server has
/// patience.
const CONNECTING: usize = 4;
/// So much longer for each other that connects at the same time, on a machine of few cores.
const CONNECTED_EACH: Duration = Duration::from_secs(1);

/// A line of the process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Which of the process's viewers, from 0, in the order of its arguments.
    viewer: usize,
    /// Since the viewer began.
    seconds: f64,
    received: Received,
}

/// The process: its viewers receive until the server closes their connections.
pub(super) async fn run(urls: &[String]) -> anyhow::Result<()> {
    let connecting = Semaphore::new(CONNECTING);
    let mut viewers: FuturesUnordered<_> =
        urls.iter().enumerate().map(|(viewer, url)| receive(viewer, url, &connecting)).collect();
    // Whichever fails first ends all.
    while let Some(ended) = viewers.next().await {
        ended?;
    }
    Ok(())
}

async fn receive(viewer: usize, url: &str, connecting: &Semaphore) -> anyhow::Result<()> {
    let mut turn = Some(connecting.acquire().await?);
    let mut client = Client::connect(url).await?;
    let mut receiver = Receiver::new()?;
    let answer = client.offer(&receiver.offer().await?).await?;
    receiver.accept(&answer).await?;
    let started = Instant::now();
    let mut report = tokio::time::interval(REPORT);
    let outcome = loop {
        tokio::select! {
            message = client.next() => match message {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            reason = receiver.ended() => break Err(anyhow::anyhow!("the connection to the session ended: {reason}")),
            _ = report.tick() => {
                let received = receiver.received();
                if received.video_frames > 0 {
                    turn.take();
                }
                print_json(&Seen { viewer, seconds: started.elapsed().as_secs_f64(), received })?;
            }
        }
    };
    // Dropping it joins GStreamer's threads.
    tokio::task::spawn_blocking(move || drop(receiver)).await?;
    outcome
}

/// How many viewers share a process where their number is not asked for: with as many processes as half the cores, since the
/// server has to have its part, all that `highest` viewers do is spread over them.
pub(super) fn viewers_per_process(highest: u32, cores: usize) -> usize {
    let processes = (cores / 2).max(1);
    usize::try_from(highest).unwrap_or(usize::MAX).div_ceil(processes).max(1)
}

/// A process of viewers that are watching; dropped, it is killed.
pub(super) struct Watcher {
    process: Child,
    /// What each of them last told.
    seen: Vec<watch::Receiver<Seen>>,
    reading: JoinHandle<()>,
}

impl Watcher {
    /// A process with one viewer, which receives picture and sound by now.
    pub(super) async fn start(url: &str) -> anyhow::Result<Self> {
        Self::start_process(&[url.to_owned()], CONNECTED).await
    }

    /// Processes of so many viewers each, all started together. All of them receive picture and sound by now.
    pub(super) async fn start_all(urls: &[String], each: usize) -> anyhow::Result<Vec<Self>> {
        let others = u32::try_from(urls.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let patience = CONNECTED + CONNECTED_EACH * others;
        try_join_all(urls.chunks(each.max(1)).map(|urls| Self::start_process(urls, patience))).await
    }

    async fn start_process(urls: &[String], patience: Duration) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "watch"])
            .args(urls.iter().flat_map(|url| ["--url", url]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a viewer")?;
        let output = process.stdout.take().context("the viewer has no stdout")?;
        let (seen, mut inboxes): (Vec<_>, Vec<_>) = urls.iter().map(|_| watch::channel(Seen::default())).unzip();
        let reading = tokio::spawn(read(output, seen));
        let all_arrive = try_join_all(inboxes.iter_mut().map(|inbox| async move {
            // What it gives locks the channel, so it must not be kept until the others arrive.
            inbox.wait_for(|seen| seen.received.video_frames > 0 && seen.received.audio_packets > 0).await.map(drop)
        }));
        let arrived = tokio::time::timeout(patience, all_arrive).await;
        arrived
            .with_context(|| format!("a viewer received no picture or no sound within {patience:?}"))?
            .context("a viewer ended")?;
        Ok(Self { process, seen: inboxes, reading })
    }

    /// What each has received, from a line that nobody looked at yet; that is as old as `REPORT` at most.
    async fn look(&mut self) -> anyhow::Result<Vec<Seen>> {
        try_join_all(self.seen.iter_mut().map(|seen| async {
            seen.changed().await.context("a viewer ended")?;
            Ok(*seen.borrow_and_update())
        }))
        .await
    }

    /// Ends the process.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(self.reading.await?)
    }
}

async fn read(output: ChildStdout, seen: Vec<watch::Sender<Seen>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let told: Result<Seen, _> = serde_json::from_str(&line);
        match told.map(|told| (seen.get(told.viewer), told)) {
            Ok((Some(seen), told)) => drop(seen.send_replace(told)),
            Ok((None, _)) => tracing::warn!(line, "a viewer that nobody asked for"),
            Err(error) => tracing::warn!(%error, line, "a viewer says something else"),
        }
    }
}

impl Seen {
    /// Frames that came for each second since an earlier look.
    #[allow(clippy::cast_precision_loss, reason = "frames of minutes, not of centuries")]
    pub(super) fn frames_per_second_since(&self, before: &Self) -> f64 {
        let frames = self.received.video_frames - before.received.video_frames;
        frames as f64 / (self.seconds - before.seconds)
    }
}

/// The rates at which several viewers receive during a stretch of time.
pub(super) struct Reception(Vec<Seen>);

impl Reception {
    pub(super) async fn begin(watchers: &mut [Watcher]) -> anyhow::Result<Self> {
        Ok(Self(look(watchers).await?))
    }

    /// The rate of the one that received least.
    pub(super) async fn least_frames_per_second(self, watchers: &mut [Watcher]) -> anyhow::Result<f64> {
        let seen = look(watchers).await?;
        let rates = seen.iter().zip(&self.0).map(|(now, before)| now.frames_per_second_since(before));
        Ok(super::rounded(rates.fold(f64::INFINITY, f64::min)))
    }
}

/// What every viewer of all processes has received.
async fn look(watchers: &mut [Watcher]) -> anyhow::Result<Vec<Seen>> {
    Ok(try_join_all(watchers.iter_mut().map(Watcher::look)).await?.concat())
}

/// Ends all processes.
pub(super) async fn stop_all(watchers: Vec<Watcher>) -> anyhow::Result<()> {
    try_join_all(watchers.into_iter().map(Watcher::stop)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_viewers_share_few_processes_and_few_have_their_own() {
        let shared = |highest| [1, 2, 16].map(|cores| viewers_per_process(highest, cores));
        assert_eq!((shared(40), shared(100), shared(1)), ([40, 40, 5], [100, 100, 13], [1, 1, 1]));
    }
}
