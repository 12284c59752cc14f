//! The UDP half: sockets of the one port outside, and loopback sockets toward libnice.
//!
//! In here: receiving and sending. Not in here: whose a packet is (`demux`).
//! Runs on: a task for each socket. A packet for a viewer's libnice that finds the system's queue full is lost, as on any
//! wire; one for outside waits for the network card, which is the same for all.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::demux::{SOCKETS, Source};
use super::{LARGEST_PACKET, Shared};

/// Asked of the system for each socket, which gives what it may: a key frame to each of forty viewers at once.
const BUFFER: usize = 4 << 20;
/// Received at once, each of which may be many packets of one source that the system has put together.
const BATCH: usize = 4;
/// As long as such a one can be.
const BATCHED: usize = 64 << 10;
/// After an error of the system's, which is of one packet, such as ICMP's.
const PAUSE: Duration = Duration::from_millis(5);

/// The port as the world sees it.
#[derive(Debug)]
pub struct Outside {
    v4: Port,
    v6: Option<Port>,
    port: u16,
}

/// Of one protocol. With the address of ours that each packet came to, so that answers come from there: a wildcard's answers
/// otherwise come from whatever address the route prefers, and ICE takes none that comes from another.
#[derive(Debug)]
struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        if at.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        enlarge(&socket);
        socket.bind(&at.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state })
    }

    async fn receive(&self, shared: &Shared) {
        let mut storage = vec![vec![0; BATCHED]; BATCH];
        let mut metas = [RecvMeta::default(); BATCH];
        loop {
            let received = self.socket.async_io(Interest::READABLE, || {
                let mut buffers: Vec<IoSliceMut<'_>> = storage.iter_mut().map(|bytes| IoSliceMut::new(bytes)).collect();
                self.state.recv((&self.socket).into(), &mut buffers, &mut metas)
            });
            match received.await {
                Ok(count) => {
                    for (meta, bytes) in metas.iter().zip(&storage).take(count) {
                        let source = Source::Udp { remote: meta.addr, local: meta.dst_ip };
                        let received = bytes.get(..meta.len).unwrap_or_default();
                        for packet in received.chunks(meta.stride.max(1)) {
                            shared.take_in(source, packet);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing received on the one port");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Outside {
    pub fn bind(port: u16) -> io::Result<Self> {
        let v4 = Port::bind((Ipv4Addr::UNSPECIFIED, port).into())?;
        let port = v4.socket.local_addr()?.port();
        let v6 = match Port::bind((Ipv6Addr::UNSPECIFIED, port).into()) {
            Ok(v6) => Some(v6),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                tracing::debug!(%error, "the machine has no IPv6");
                None
            }
        };
        Ok(Self { v4, v6, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn has_ipv6(&self) -> bool {
        self.v6.is_some()
    }

    pub fn receive(&self, shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) {
        for is_v6 in [false, true] {
            let (shared, stop) = (Arc::clone(shared), stop.clone());
            tasks.spawn(async move {
                let port = if is_v6 { shared.outside.v6.as_ref() } else { Some(&shared.outside.v4) };
                if let Some(port) = port {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = port.receive(&shared) => {}
                    }
                }
            });
        }
    }

    pub async fn send(&self, packet: &[u8], remote: SocketAddr, local: Option<IpAddr>) {
        let Some(port) = (if remote.is_ipv6() { self.v6.as_ref() } else { Some(&self.v4) }) else { return };
        let transmit = Transmit { destination: remote, ecn: None, contents: packet, segment_size: None, src_ip: local };
        let sent =
            port.socket.async_io(Interest::WRITABLE, || port.state.try_send((&port.socket).into(), &transmit)).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a packet does not leave the one port");
        }
    }
}

/// The sockets that stand for viewers' sources toward libnice.
#[derive(Debug)]
pub struct Inside(Vec<UdpSocket>);

impl Inside {
    pub async fn bind() -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(SOCKETS);
        for _ in 0..SOCKETS {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            enlarge(&socket2::SockRef::from(&socket));
            sockets.push(socket);
        }
        Ok(Self(sockets))
    }

    pub fn send(&self, socket: usize, packet: &[u8], to: SocketAddr) {
        if let Some(Err(error)) = self.0.get(socket).map(|socket| socket.try_send_to(packet, to)) {
            tracing::debug!(%error, "a viewer's packet is lost before its libnice");
        }
    }

    pub fn receive(&self, shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) {
        for number in 0..self.0.len() {
            let (shared, stop) = (Arc::clone(shared), stop.clone());
            tasks.spawn(async move {
                if let Some(socket) = shared.inside.0.get(number) {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = pass_out(&shared, number, socket) => {}
                    }
                }
            });
        }
    }
}

async fn pass_out(shared: &Shared, number: usize, socket: &UdpSocket) {
    let mut packet = vec![0; LARGEST_PACKET];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((length, from)) => shared.take_out(number, from, packet.get(..length).unwrap_or_default()).await,
            Err(error) => {
                tracing::debug!(%error, "nothing received from libnice");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// As far as the system lets a process have it (`net.core.rmem_max`).
fn enlarge(socket: &Socket) {
    let enlarged = socket.set_recv_buffer_size(BUFFER).and_then(|()| socket.set_send_buffer_size(BUFFER));
    if let Err(error) = enlarged {
        tracing::debug!(%error, "a socket keeps its buffers");
    }
}
