//! A WebSocket that neither a slow, a silent nor a flooding client can hold up or fill.
//!
//! In here: the bounded outgoing queue, keep-alive pings, time limits, the closing handshake.
//! Not in here: what the frames mean (`client`), what else a connection waits for (`client_task`).
//! Runs on: the task of its connection, which alone reads and writes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::client::Unreadable;

/// Frames that are read into memory, to be answered by an error if they are longer than a message may be. Of a longer
/// one only the header is read: a socket must never hold more than this, and there is no skipping of a frame.
const MAX_FRAME_BYTES: usize = 256 * 1024;

/// Messages waiting for the client. While there are as many nothing more is read from it, nor taken from the session.
const OUTGOING: usize = 64;

/// A client that takes nothing for this long is gone or hostile.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shorter than the idle time after which proxies and NATs forget a connection (30 s to 60 s).
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Three pings unanswered, and nothing else heard.
const IDLE_TIMEOUT: Duration = Duration::from_secs(65);

/// For the last messages and the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is read and thrown away after a frame that was too long, so that the client gets to read why.
const DRAINED_BYTES: usize = 32 * 1024 * 1024;

/// What a socket has to say.
#[derive(Debug)]
pub(super) enum SocketEvent {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Nothing more can be read; it can still be written.
    Unreadable(Unreadable),
    /// The client closed it, or it broke, or it was silent or stalled for too long.
    Closed {
        reason: &'static str,
    },
}

/// Limits for tungstenite itself; the socket has to be made with them.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        // Each message goes out at once; the kernel's buffer is buffer enough.
        .write_buffer_size(0)
        .max_write_buffer_size(1024 * 1024)
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_message_size(Some(MAX_FRAME_BYTES))
}

/// A WebSocket with its outgoing queue.
pub(super) struct Socket<S> {
    stream: WebSocketStream<S>,
    outgoing: VecDeque<Message>,
    /// Something is written but not flushed.
    unflushed: bool,
    /// When the client last took a message, or when there was first one to take.
    taken_at: Instant,
    heard_at: Instant,
    ping_at: Instant,
    readable: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(stream: WebSocketStream<S>) -> Self {
        let now = Instant::now();
        Self {
            stream,
            outgoing: VecDeque::with_capacity(OUTGOING),
            unflushed: false,
            taken_at: now,
            heard_at: now,
            ping_at: now + PING_INTERVAL,
            readable: true,
        }
    }

    /// Whether more may be sent; one input leads to a few messages at most, so the queue stays bounded.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing.len() < OUTGOING
    }

    /// Queues a text frame; `next` and `close` write it.
    pub(super) fn send(&mut self, text: String) {
        self.push(Message::text(text));
    }

    fn push(&mut self, message: Message) {
        if !self.is_writing() {
            self.taken_at = Instant::now();
        }
        self.outgoing.push_back(message);
    }

    fn is_writing(&self) -> bool {
        self.unflushed || !self.outgoing.is_empty()
    }

    /// Writes what is queued and waits for something to read. May be dropped at any point without loss.
    pub(super) async fn next(&mut self) -> SocketEvent {
        loop {
            let stalled_at = if self.is_writing() { Some(self.taken_at + WRITE_TIMEOUT) } else { None };
            let idle_at = self.heard_at + IDLE_TIMEOUT;
            let wake_at = stalled_at.unwrap_or(idle_at).min(idle_at).min(self.ping_at);
            if let Ok(event) = timeout_at(wake_at, poll_fn(|context| self.poll(context))).await {
                return event;
            }
            let now = Instant::now();
            if self.is_writing() && now >= self.taken_at + WRITE_TIMEOUT {
                return SocketEvent::Closed { reason: "the client does not read what it is sent" };
            }
            if now >= self.heard_at + IDLE_TIMEOUT {
                return SocketEvent::Closed { reason: "the client answers no ping" };
            }
            if now >= self.ping_at {
                self.ping_at = now + PING_INTERVAL;
                self.push(Message::Ping(Bytes::new()));
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<SocketEvent> {
        if let Poll::Ready(Err(_)) = self.poll_write(context) {
            return Poll::Ready(SocketEvent::Closed { reason: "the socket broke" });
        }
        while self.readable && self.has_room() {
            let Poll::Ready(frame) = self.stream.poll_next_unpin(context) else {
                return Poll::Pending;
            };
            self.heard_at = Instant::now();
            match frame {
                Some(Ok(Message::Text(text))) => return Poll::Ready(SocketEvent::Text(text)),
                Some(Ok(Message::Binary(bytes))) => return Poll::Ready(SocketEvent::Binary(bytes)),
                // Tungstenite answers pings and the closing handshake by itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.readable = false;
                    return Poll::Ready(match unreadable(error) {
                        Some(unreadable) => SocketEvent::Unreadable(unreadable),
                        None => SocketEvent::Closed { reason: "the socket broke" },
                    });
                }
                None => {
                    self.readable = false;
                    return Poll::Ready(SocketEvent::Closed { reason: "the client closed the socket" });
                }
            }
        }
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outgoing.is_empty() {
            std::task::ready!(self.stream.poll_ready_unpin(context))?;
            if let Some(message) = self.outgoing.pop_front() {
                self.unflushed = true;
                self.taken_at = Instant::now();
                self.stream.start_send_unpin(message)?;
            }
        }
        if self.unflushed {
            std::task::ready!(self.stream.poll_flush_unpin(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued and a close frame, and gives the client a moment to read both.
    pub(super) async fn close(mut self, status: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(status), reason: Utf8Bytes::from_static(reason) };
        self.push(Message::Close(Some(frame)));
        let closing = async {
            if poll_fn(|context| self.poll_write(context)).await.is_err() {
                return;
            }
            if self.readable {
                while let Some(Ok(_)) = self.stream.next().await {}
            } else {
                self.drain().await;
            }
        };
        // A client that does not play along is dropped like one that has gone.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Reads on without looking. A socket that is closed with bytes unread is reset, and a reset makes the client's
    /// system throw away what the client has not read yet: the error message that says what was wrong.
    async fn drain(&mut self) {
        let stream = self.stream.get_mut();
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut scratch = vec![0; 16 * 1024];
        let mut left = DRAINED_BYTES;
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

fn unreadable(error: Error) -> Option<Unreadable> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => Some(Unreadable::TooLong { bytes: size }),
        Error::Utf8(_) => Some(Unreadable::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(violation) => Some(Unreadable::Violation { reason: violation.to_string() }),
        _ => None,
    }
}
