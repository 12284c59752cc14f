//! A WebSocket client of the server under test: says things and waits for what the server tells.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than any utterance of the bench takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough that an interruption always meets it speaking.
const LONG: &str = "This is a rather long sentence which goes on and on, because somebody is about to interrupt it, \
                    and until that happens there is always one more thing to say about it.";

pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Mouths of sentences of which some were left out, and those, since they were last taken.
    mouths: (u64, u64),
}

impl Client {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let (socket, _) = connect_async(url).await.with_context(|| format!("cannot connect to {url}"))?;
        let mut client = Self { socket, mouths: (0, 0) };
        client.wait_for("session").await?;
        Ok(client)
    }

    /// Speaks and waits for the end; gives the time until `speech_started` came back.
    pub(super) async fn speak(&mut self, text: &str) -> anyhow::Result<Duration> {
        let started = self.start_speaking(text).await?;
        self.wait_for("speech_ended").await?;
        Ok(started)
    }

    pub(super) async fn start_speaking(&mut self, text: &str) -> anyhow::Result<Duration> {
        let sent = Instant::now();
        self.send(&json!({"type": "speak", "content": text})).await?;
        self.wait_for("speech_started").await?;
        Ok(sent.elapsed())
    }

    /// Speaks something long, lets it speak for `delay`, and interrupts it.
    pub(super) async fn interrupt_after(&mut self, delay: Duration) -> anyhow::Result<()> {
        self.start_speaking(LONG).await?;
        self.listen(delay).await?;
        self.interrupt().await
    }

    pub(super) async fn interrupt(&mut self) -> anyhow::Result<()> {
        self.send(&json!({"type": "interrupt"})).await?;
        let ended = self.wait_for("speech_ended").await?;
        anyhow::ensure!(ended["interrupted"] == true, "the utterance ended before it was interrupted: {ended}");
        Ok(())
    }

    /// Offers a peer connection and gives the answer's SDP.
    pub(super) async fn offer(&mut self, sdp: &str) -> anyhow::Result<String> {
        self.send(&json!({"type": "webrtc_offer", "sdp": sdp})).await?;
        let answer = self.wait_for("webrtc_answer").await?;
        Ok(answer["sdp"].as_str().context("the answer has no sdp")?.to_owned())
    }

    /// Passes a stretch of time. What comes meanwhile is read, since the server drops who answers no ping; an end of
    /// speech is an error, since whoever measures has asked for more of it than there is time.
    pub(super) async fn listen(&mut self, time: Duration) -> anyhow::Result<()> {
        // Passing without anything wrong is what is wanted.
        tokio::time::timeout(time, self.attend()).await.map_or(Ok(()), Err)
    }

    /// Reads what comes until something is wrong, as [`Self::listen`] has it.
    async fn attend(&mut self) -> anyhow::Error {
        loop {
            match self.next().await {
                Ok(Some(message)) if message["type"] != "speech_ended" => {}
                Ok(Some(message)) => return anyhow::anyhow!("the speech was too short: {message}"),
                Ok(None) => return anyhow::anyhow!("the server closed the connection"),
                Err(error) => return error,
            }
        }
    }

    /// Does something while clients listen.
    pub(super) async fn while_listening<T>(
        clients: &mut [Self],
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut listening: FuturesUnordered<_> = clients.iter_mut().map(Self::attend).collect();
        tokio::select! {
            done = work => done,
            Some(error) = listening.next() => Err(error),
        }
    }

    /// Of the sentences of which mouths were left out, since this was last asked, the share of mouths that were.
    #[allow(clippy::cast_precision_loss, reason = "mouths of minutes")]
    pub(super) fn take_left_out(&mut self) -> f64 {
        let (mouths, left_out) = std::mem::take(&mut self.mouths);
        if mouths > 0 { left_out as f64 / mouths as f64 } else { 0.0 }
    }

    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.socket.close(None).await?)
    }

    /// The next message of a type; others are passed over, an error is an error.
    async fn wait_for(&mut self, wanted: &str) -> anyhow::Result<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let message = tokio::time::timeout_at(deadline, self.next())
                .await
                .with_context(|| format!("no {wanted} within {PATIENCE:?}"))??
                .with_context(|| format!("the server closed the connection before {wanted}"))?;
            if message["type"] == wanted {
                return Ok(message);
            }
        }
    }

    async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    /// The next message; `None` once the connection is closed, an error if the server tells one.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        while let Some(message) = self.socket.next().await {
            let Message::Text(text) = message? else { continue };
            let value: Value = serde_json::from_str(&text)?;
            anyhow::ensure!(value["type"] != "error", "the server says {}", value["message"]);
            if value["type"] == "stats" {
                let count = |name: &str| value[name].as_u64().unwrap_or(0);
                self.mouths.0 += count("mouths");
                self.mouths.1 += count("mouths_left_out");
            }
            return Ok(Some(value));
        }
        Ok(None)
    }
}
