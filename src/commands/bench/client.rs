//! A WebSocket client of the server under test: says things and waits for what the server tells.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
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

pub(super) struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let (socket, _) = connect_async(format!("ws://{address}/ws")).await?;
        let mut client = Self(socket);
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
        tokio::time::sleep(delay).await;
        self.interrupt().await
    }

    pub(super) async fn interrupt(&mut self) -> anyhow::Result<()> {
        self.send(&json!({"type": "interrupt"})).await?;
        let ended = self.wait_for("speech_ended").await?;
        anyhow::ensure!(ended["interrupted"] == true, "the utterance ended before it was interrupted: {ended}");
        Ok(())
    }

    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        Ok(self.0.close(None).await?)
    }

    async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(message.to_string())).await?)
    }

    /// The next message of a type; others are passed over, an error is an error.
    async fn wait_for(&mut self, wanted: &str) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline.into(), self.0.next())
                .await
                .with_context(|| format!("no {wanted} within {PATIENCE:?}"))?;
            let Some(message) = next else { bail!("the server closed the connection before {wanted}") };
            let Message::Text(text) = message? else { continue };
            let value: Value = serde_json::from_str(&text)?;
            match value["type"].as_str() {
                Some(kind) if kind == wanted => return Ok(value),
                Some("error") => bail!("the server says {}", value["message"]),
                _ => {}
            }
        }
    }
}
