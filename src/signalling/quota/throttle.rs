//! What a socket may cost before anything of it is understood: WebSocket frames are counted as they are read.
//!
//! In here: a stream that is read more slowly when its client sends faster than it may, so that the client's own system holds
//! it up; nothing of it is lost. Not in here: what messages mean (`client`), how many there may be of each (`limits`).
//! Runs on: the task of its connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::address_quota::AddressQuota;

/// A frame costs one, and one more for each so many bytes: what it takes to read JSON of that length.
const BYTES_A_POINT: u64 = 1024;

/// What is longer is not read as a message (`socket`), so it costs no more.
const LONGEST_READ: u64 = 256 * 1024;

/// Points that come in by the second, with a store for bursts. May go into debt by what is read at once.
#[derive(Debug)]
pub(super) struct DebtBucket {
    store: f64,
    per_second: f64,
    points: f64,
    at: Instant,
}

impl DebtBucket {
    fn new(store: f64, per_second: f64, now: Instant) -> Self {
        Self { store, per_second, points: store, at: now }
    }

    /// Of one socket: above any burst of candidates, and sound at twenty times its speed.
    fn of_a_socket(now: Instant) -> Self {
        Self::new(8_000.0, 2_000.0, now)
    }

    /// Of all the sockets of one address.
    pub(super) fn of_an_address(now: Instant) -> Self {
        Self::new(16_000.0, 4_000.0, now)
    }

    /// Takes points; the answer is when there are some again, if there are none.
    pub(super) fn charge(&mut self, cost: u32, now: Instant) -> Option<Instant> {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.points = (self.points + elapsed * self.per_second).min(self.store) - f64::from(cost);
        (self.points < 0.0).then(|| now + Duration::from_secs_f64(-self.points / self.per_second))
    }
}

/// Where in the stream of frames (RFC 6455, 5.2) the last byte read was.
#[derive(Debug, Default)]
struct FrameCounter {
    /// The beginning of a header.
    header: [u8; 10],
    known: usize,
    /// Bytes of the mask and the payload that are still to come.
    left: u64,
}

impl FrameCounter {
    /// The cost of bytes that were read.
    fn cost(&mut self, mut bytes: &[u8]) -> u32 {
        let mut cost = 0u64;
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else { break };
            self.header[self.known] = *first;
            self.known += 1;
            bytes = rest;
            if let Some(left) = self.after_header() {
                self.known = 0;
                self.left = left;
                cost += 1 + left.min(LONGEST_READ) / BYTES_A_POINT;
            }
        }
        u32::try_from(cost).unwrap_or(u32::MAX)
    }

    /// Bytes that follow the header, once enough of it is known.
    fn after_header(&self) -> Option<u64> {
        let second = if self.known < 2 { return None } else { self.header[1] };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let length = match second & 0x7f {
            126 if self.known == 4 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 if self.known == 10 => {
                let mut length = [0; 8];
                length.copy_from_slice(&self.header[2..]);
                u64::from_be_bytes(length)
            }
            126 | 127 => return None,
            length => u64::from(length),
        };
        Some(length.saturating_add(mask))
    }
}

/// Reads a WebSocket no faster than its client may send.
pub(in super::super) struct ThrottledStream<S> {
    stream: S,
    address: Arc<AddressQuota>,
    frames: FrameCounter,
    own: DebtBucket,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> ThrottledStream<S> {
    pub(in super::super) fn new(stream: S, address: Arc<AddressQuota>) -> Self {
        Self {
            stream,
            address,
            frames: FrameCounter::default(),
            own: DebtBucket::of_a_socket(Instant::now()),
            pause: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ThrottledStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let cost = self.frames.cost(buffer.filled().get(before..).unwrap_or_default());
        if cost > 0 {
            let now = Instant::now();
            let (own, of_all) = (self.own.charge(cost, now), self.address.charge(cost, now));
            self.pause = own.max(of_all).map(|until| Box::pin(sleep_until(until)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ThrottledStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A frame of a client: its opcode and its payload's length.
    fn frame(opcode: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(0x80 | length as u8),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + 4 + length, 0xff);
        bytes
    }

    #[test]
    fn frames_of_every_kind_are_counted_however_they_are_cut() {
        let ping = 9;
        let frames = [(0, 0), (1, 5), (ping, 0), (0, 125), (2, 126), (1, 65_535), (1, 65_536), (ping, 3), (0, 0)];
        let bytes: Vec<u8> = frames.iter().flat_map(|(opcode, length)| frame(*opcode, *length)).collect();
        for cut in [1, 2, 3, 7, 64, 4096, bytes.len()] {
            let mut counting = FrameCounter::default();
            let cost: u32 = bytes.chunks(cut).map(|piece| counting.cost(piece)).sum();
            assert_eq!(cost, 9 + 2 * 64, "in pieces of {cut}: 64 KiB are 64 points more");
        }
        let huge = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(FrameCounter::default().cost(&huge), 257);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_pings_or_of_empty_fragments_is_read_at_the_rate_that_is_allowed() {
        for opcode in [9, 0] {
            let (mut client, near) = duplex(64 * 1024);
            let mut socket = ThrottledStream::new(near, Arc::new(AddressQuota::new(Some(1))));
            let flood = frame(opcode, 0).repeat(28_000);
            let began = Instant::now();
            let sending = tokio::spawn(async move { client.write_all(&flood).await });
            let mut read = Vec::new();
            socket.read_to_end(&mut read).await.unwrap();
            sending.await.unwrap().unwrap();
            assert_eq!(read.len(), 28_000 * 6, "nothing is lost");
            // 8,000 at once, 2,000 a second.
            assert!((9_000..12_000).contains(&began.elapsed().as_millis()), "it took {:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_of_one_address_share_its_rate() {
        let address = Arc::new(AddressQuota::new(Some(1)));
        let began = Instant::now();
        let reading = (0..10).map(|_| {
            let (mut client, near) = duplex(1024 * 1024);
            let mut socket = ThrottledStream::new(near, Arc::clone(&address));
            async move {
                client.write_all(&frame(9, 0).repeat(7_000)).await.unwrap();
                drop(client);
                socket.read_to_end(&mut Vec::new()).await.unwrap();
            }
        });
        futures_util::future::join_all(reading).await;
        assert!(began.elapsed() > Duration::from_secs(4), "it took {:?}", began.elapsed());
    }
}
