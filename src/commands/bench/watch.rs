//! A viewer in a process of its own, so that what it does to receive is not counted as the server's.
//!
//! In here: that process, `mouthpiece bench watch`, and the measuring process's hold on it. It joins a session over the
//! WebSocket, receives without decoding, and writes what came as a line of JSON, four times a second. It ends with the
//! connection.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::client::Client;
use crate::commands::print_json;
use crate::media::{self, Received, Receiver};

/// Between two lines.
const REPORT: Duration = Duration::from_millis(250);
/// From the start of the process to its first picture and sound.
const CONNECTED: Duration = Duration::from_secs(20);

/// A line of the process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Since the process began.
    seconds: f64,
    received: Received,
}

/// The process: receives until the server closes the connection.
pub(super) async fn run(url: &str) -> anyhow::Result<()> {
    media::init()?;
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
                print_json(&Seen { seconds: started.elapsed().as_secs_f64(), received: receiver.received() })?;
            }
        }
    };
    // Dropping it joins GStreamer's threads.
    tokio::task::spawn_blocking(move || drop(receiver)).await?;
    outcome
}

/// A viewer that is watching; dropped, it is killed.
pub(super) struct Watcher {
    process: Child,
    seen: watch::Receiver<Seen>,
    reading: JoinHandle<()>,
}

impl Watcher {
    /// Starts the process and waits until picture and sound arrive.
    pub(super) async fn start(url: &str) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["bench", "watch", "--url", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a viewer")?;
        let output = process.stdout.take().context("the viewer has no stdout")?;
        let (seen, inbox) = watch::channel(Seen::default());
        let mut watcher = Self { process, seen: inbox, reading: tokio::spawn(read(output, seen)) };
        let arrives = watcher.seen.wait_for(|seen| seen.received.video_frames > 0 && seen.received.audio_packets > 0);
        tokio::time::timeout(CONNECTED, arrives)
            .await
            .with_context(|| format!("a viewer received no picture or no sound within {CONNECTED:?}"))?
            .context("a viewer ended")?;
        Ok(watcher)
    }

    /// What it has received, from a line that nobody looked at yet; that is as old as `REPORT` at most.
    pub(super) async fn look(&mut self) -> anyhow::Result<Seen> {
        self.seen.changed().await.context("a viewer ended")?;
        Ok(*self.seen.borrow_and_update())
    }

    /// Ends the process.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(self.reading.await?)
    }
}

async fn read(output: ChildStdout, seen: watch::Sender<Seen>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(line) => drop(seen.send_replace(line)),
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
        let mut seen = Vec::new();
        for watcher in watchers {
            seen.push(watcher.look().await?);
        }
        Ok(Self(seen))
    }

    /// The rate of the one that received least.
    pub(super) async fn least_frames_per_second(self, watchers: &mut [Watcher]) -> anyhow::Result<f64> {
        let mut least = f64::INFINITY;
        for (watcher, before) in watchers.iter_mut().zip(&self.0) {
            least = least.min(watcher.look().await?.frames_per_second_since(before));
        }
        Ok(super::rounded(least))
    }
}
