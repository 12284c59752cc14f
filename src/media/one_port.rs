//! One UDP port for all viewers, and a TCP port of the same number, in front of every viewer's own libnice.
//!
//! libnice 0.1.21 binds a socket for each agent, and its API has no way to give it one that is bound already
//! (`nice_agent_set_port_range` is all there is). So libnice gathers on loopback alone, and what is seen outside is this:
//! packets come to the one port, the first Binding request of a source says whose they are (`demux`), and they go on to that
//! viewer's libnice as they are, through loopback sockets that all viewers share. libnice takes such a socket for the peer's
//! address; whatever it sends there goes back to the source. Bytes pass unchanged, so integrity and encryption stay between
//! the browser and libnice. Connections (ICE over TCP, passive: RFC 6544) differ in that packets have their lengths before
//! them (`framing`).
//!
//! In here: the sockets, who enters and leaves, what clients are told. Not in here: who may use it (`viewer`), which
//! addresses there are (`ice`).
//! Runs on: tokio; a task for each socket and connection, which [`OnePortTasks`] owns.

mod demux;
mod framing;
mod tcp;
mod udp;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Resources;
use demux::{Demux, Source, Taken};
use tcp::Connections;
use udp::{Inside, Outside};

/// WebRTC's packets have 1200 bytes, those of DTLS up to the 1500 of the wire.
const LARGEST_PACKET: usize = 2048;

/// What may come to its sockets besides viewers' connections, which `VIEWER_RESOURCES` counts.
pub(crate) const PENDING_RESOURCES: Resources = Resources { descriptors: tcp::MOST_PENDING, threads: 0 };

/// Why there is no one port.
#[derive(Debug, thiserror::Error)]
#[error("media_port {port} cannot be used for {protocol}: {reason}")]
pub(crate) struct PortTaken {
    port: u16,
    protocol: &'static str,
    #[source]
    reason: std::io::Error,
}

/// The one port, as viewers' peers use it.
#[derive(Clone, Debug)]
pub(crate) struct OnePort(Arc<Shared>);

/// Without the viewers, whose passwords are among them.
impl fmt::Debug for Shared {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "port {}", self.port)
    }
}

impl PartialEq for OnePort {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OnePort {}

struct Shared {
    port: u16,
    demux: Mutex<Demux>,
    outside: Outside,
    inside: Inside,
    connections: Connections,
}

/// The tasks of the one port. Dropping it ends them; [`Self::stop`] also waits until they have.
#[derive(Debug)]
pub(crate) struct OnePortTasks {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A viewer's place behind the one port. Dropping it forgets the viewer's sources and closes its connections.
#[derive(Debug)]
pub(crate) struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl OnePort {
    /// Binds it for IPv4, and for IPv6 where the machine has that. 0 takes one that is free.
    pub(crate) async fn open(port: u16) -> Result<(Self, OnePortTasks), PortTaken> {
        let (listeners, outside) = if port == 0 { any_free()? } else { bind(port)? };
        let port = outside.port();
        let failed = |reason| PortTaken { port, protocol: "UDP toward libnice", reason };
        let inside = Inside::bind().await.map_err(failed)?;
        let shared =
            Arc::new(Shared { port, demux: Mutex::default(), outside, inside, connections: Connections::default() });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        shared.outside.receive(&shared, &tasks, &stop);
        shared.inside.receive(&shared, &tasks, &stop);
        for listener in listeners {
            tasks.spawn(tcp::accept(listener, Arc::clone(&shared), tasks.clone(), stop.clone()));
        }
        tracing::info!(port, ipv6 = shared.outside.has_ipv6(), "all viewers come by one port, UDP and TCP");
        Ok((Self(shared), OnePortTasks { tasks, stop }))
    }

    #[cfg(test)]
    pub(crate) fn port(&self) -> u16 {
        self.0.port
    }

    /// Viewers, their sources, and connections.
    #[cfg(test)]
    pub(crate) fn holds(&self) -> (usize, usize, usize) {
        let (viewers, sources) = self.0.demux().counts();
        (viewers, sources, self.0.connections.count())
    }

    /// Whether it has IPv6 too.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.0.outside.has_ipv6()
    }

    /// Lets a viewer in by it, whose libnice is at `inner` on loopback. `username` and `password` are those of checks that are
    /// sent to it.
    pub(crate) fn enter(&self, username: String, password: String, inner: SocketAddr) -> Result<Entry, Taken> {
        let number = self.0.demux().enter(username, password, inner)?;
        Ok(Entry { shared: Arc::clone(&self.0), number })
    }

    /// What clients are told: each of these addresses with the port, by UDP and by TCP.
    pub(crate) fn candidates(&self, addresses: &[IpAddr]) -> Vec<String> {
        let usable = addresses.iter().filter(|address| address.is_ipv4() || self.0.outside.has_ipv6());
        candidates(&usable.copied().collect::<Vec<_>>(), self.0.port)
    }
}

impl OnePortTasks {
    /// Ends them, connections of viewers too, and waits until they have ended.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for OnePortTasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let sources = self.shared.demux().leave(self.number);
        for source in sources {
            self.shared.closed(source);
        }
    }
}

impl Shared {
    fn demux(&self) -> MutexGuard<'_, Demux> {
        self.demux.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A source is nobody's any more.
    fn closed(&self, source: Source) {
        if let Source::Tcp(number) = source {
            self.connections.close(number);
        }
    }

    /// Takes a packet from outside to its viewer's libnice; says whether its source is a viewer's.
    fn take_in(&self, source: Source, packet: &[u8]) -> bool {
        let verdict = self.demux().inward(source, packet, std::time::Instant::now());
        match verdict {
            demux::Verdict::Forward { socket, to, evicted } => {
                if let Some(evicted) = evicted {
                    self.closed(evicted);
                }
                self.inside.send(socket, packet, to);
                true
            }
            demux::Verdict::Drop(stranger) => {
                crate::metrics::stranger_dropped(match stranger {
                    demux::Stranger::Odd => "odd",
                    demux::Stranger::Unknown => "unknown",
                    demux::Stranger::Unsigned => "unsigned",
                    demux::Stranger::TooMany => "too_many",
                });
                false
            }
        }
    }

    /// Takes a packet of libnice's to where the viewer's came from.
    async fn take_out(&self, socket: usize, from: SocketAddr, packet: &[u8]) {
        let source = self.demux().outward(socket, from);
        match source {
            Some(Source::Udp { remote, local }) => self.outside.send(packet, remote, local).await,
            Some(Source::Tcp(number)) => self.connections.send(number, packet),
            // A viewer that has just left.
            None => {}
        }
    }
}

type Bound = (Vec<std::net::TcpListener>, Outside);

fn bind(port: u16) -> Result<Bound, PortTaken> {
    let outside = Outside::bind(port).map_err(|reason| PortTaken { port, protocol: "UDP", reason })?;
    let listeners = tcp::listen(outside.port(), outside.has_ipv6());
    Ok((listeners.map_err(|reason| PortTaken { port, protocol: "TCP", reason })?, outside))
}

/// A port that is free for UDP may be taken for TCP; of several, one is free for both.
fn any_free() -> Result<Bound, PortTaken> {
    let mut tried = bind(0);
    for _ in 0..16 {
        if tried.is_ok() {
            break;
        }
        tried = bind(0);
    }
    tried
}

/// UDP is preferred, then the addresses in their order (RFC 8445, 5.1.2). Over TCP the type counts less, and a passive one has
/// the lower of the two local preferences that a server's may have (RFC 6544, 4.2).
fn candidates(addresses: &[IpAddr], port: u16) -> Vec<String> {
    let mut lines = Vec::new();
    for (at, address) in (0u32..).zip(addresses) {
        let preference = |kind: u32, local: u32| (kind << 24) | (local.saturating_sub(at) << 8) | 255;
        let (udp, tcp) = (preference(126, 0xffff), preference(90, (2 << 13) | 0x1fff));
        let (mut by_udp, mut by_tcp) = (String::new(), String::new());
        // Writing to a string cannot fail.
        let _ = write!(by_udp, "candidate:u{at} 1 UDP {udp} {address} {port} typ host");
        let _ = write!(by_tcp, "candidate:t{at} 1 TCP {tcp} {address} {port} typ host tcptype passive");
        lines.extend([by_udp, by_tcp]);
    }
    lines.sort_by_key(|line| line.contains(" TCP "));
    lines
}

#[cfg(test)]
mod tests;
