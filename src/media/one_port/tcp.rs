//! The TCP half: connections of viewers whose networks let no UDP through.
//!
//! In here: accepting, reading and writing packets behind their lengths. Not in here: whose they are (`demux`).
//! Runs on: a task for each listener and connection. A connection is a viewer's from its first signed check on and ends with
//! the viewer; until then it is one of a few, with little time. What a slow one does not take is lost to it alone.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::demux::Source;
use super::framing::{Unframer, framed};

/// Connections that are no viewer's yet, and those of one address.
pub const MOST_PENDING: usize = 32;
const MOST_PENDING_OF_ONE: usize = 8;
/// How long one may be that; a browser sends its first check at once.
const PENDING: Duration = Duration::from_secs(5);
/// Packets in it that are no signed check of a viewer's.
const MOST_STRANGE: usize = 4;
/// Packets that wait for a connection: half a second of picture and sound.
const WAITING: usize = 128;
/// A connection that takes nothing for so long is not coming back.
const STUCK: Duration = Duration::from_secs(10);
/// The system has no descriptor left, or the like.
const PAUSE: Duration = Duration::from_millis(100);

/// All connections, by number.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, Connection>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Connection {
    from: IpAddr,
    is_pending: bool,
    packets: mpsc::Sender<Vec<u8>>,
    stop: CancellationToken,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a further one; `None` while too many are nobody's.
    fn add(&self, from: IpAddr, stop: CancellationToken) -> Option<(u64, mpsc::Receiver<Vec<u8>>)> {
        let mut open = self.open();
        let pending = || open.values().filter(|connection| connection.is_pending);
        if pending().count() >= MOST_PENDING
            || pending().filter(|connection| connection.from == from).count() >= MOST_PENDING_OF_ONE
        {
            return None;
        }
        let (packets, waiting) = mpsc::channel(WAITING);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, Connection { from, is_pending: true, packets, stop });
        Some((number, waiting))
    }

    fn is_a_viewer_s(&self, number: u64) {
        let mut open = self.open();
        if let Some(connection) = open.get_mut(&number) {
            connection.is_pending = false;
        }
    }

    fn remove(&self, number: u64) {
        self.open().remove(&number);
    }

    /// Ends one; its task does the rest.
    pub fn close(&self, number: u64) {
        let open = self.open();
        if let Some(connection) = open.get(&number) {
            connection.stop.cancel();
        }
    }

    pub fn send(&self, number: u64, packet: &[u8]) {
        let sender = self.open().get(&number).map(|connection| connection.packets.clone());
        if let (Some(sender), Some(packet)) = (sender, framed(packet))
            && sender.try_send(packet).is_err()
        {
            tracing::trace!(number, "a slow connection loses a packet");
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.open().len()
    }
}

/// Sockets that listen, of each protocol that there is.
pub fn listen(port: u16, ipv6: bool) -> io::Result<Vec<std::net::TcpListener>> {
    let addresses = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = addresses.into_iter().filter(|address| address.is_ipv4() || ipv6);
    addresses.map(|address| listen_at(SocketAddr::new(address, port))).collect()
}

fn listen_at(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A server that is started again finds connections of before in their last minute.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

pub async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>, tasks: TaskTracker, stop: CancellationToken) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no viewer comes by TCP"),
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let stop = stop.child_token();
                // One too many is closed at once.
                if let Some((number, waiting)) = shared.connections.add(from.ip(), stop.clone()) {
                    tasks.spawn(serve(stream, number, waiting, Arc::clone(&shared), stop));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a connection to the one port is lost");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    number: u64,
    waiting: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    // A packet that waits for the next one is late.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let ended = tokio::select! {
        () = stop.cancelled() => "its viewer left",
        reason = read(reader, number, &shared) => reason,
        reason = write(writer, waiting) => reason,
    };
    tracing::debug!(number, ended, "a connection to the one port has ended");
    shared.connections.remove(number);
    shared.demux().close(Source::Tcp(number));
}

async fn read(mut stream: impl AsyncRead + Unpin, number: u64, shared: &Shared) -> &'static str {
    let (mut unframer, mut bytes) = (Unframer::default(), vec![0; 16 << 10]);
    let (mut is_a_viewer_s, mut strange) = (false, 0);
    let pending = tokio::time::Instant::now() + PENDING;
    loop {
        let read = async {
            match is_a_viewer_s {
                true => Ok(stream.read(&mut bytes).await),
                false => tokio::time::timeout_at(pending, stream.read(&mut bytes)).await,
            }
        };
        let length = match read.await {
            Err(_) => return "it was nobody's for too long",
            Ok(Err(_) | Ok(0)) => return "its other end is gone",
            Ok(Ok(length)) => length,
        };
        let fed = unframer.feed(bytes.get(..length).unwrap_or_default(), |packet| {
            let is_taken = shared.take_in(Source::Tcp(number), packet);
            if is_taken && !is_a_viewer_s {
                is_a_viewer_s = true;
                shared.connections.is_a_viewer_s(number);
            }
            strange += usize::from(!is_taken && !is_a_viewer_s);
            strange < MOST_STRANGE
        });
        if fed.is_err() || strange >= MOST_STRANGE {
            return "what it says is not ICE";
        }
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Vec<u8>>) -> &'static str {
    while let Some(packet) = waiting.recv().await {
        match tokio::time::timeout(STUCK, stream.write_all(&packet)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "its other end is gone",
            Err(_) => return "its other end takes nothing",
        }
    }
    "nobody sends to it"
}
