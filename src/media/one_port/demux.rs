//! Whose packets are whose on the one port: pure, without sockets and without a clock of its own.
//!
//! In here: viewers, the sources that their packets come from, and which loopback socket stands for a source toward libnice.
//! Not in here: moving bytes (`udp`, `tcp`).
//!
//! A source is nobody's until it sends a Binding request whose USERNAME names a viewer and which is signed with that viewer's
//! password; nothing is kept of one that does not, so that no number of strangers costs memory. The same request is what
//! moves a source from one viewer to another, and nothing else does.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::LARGEST_PACKET;
use crate::media::ice::MOST_LOCAL;
use crate::media::stun::{BINDING, Message, USERNAME};

/// Loopback sockets that all viewers share. libnice knows a viewer's sources apart by which of these a packet comes through,
/// and a viewer is known by its libnice's own port; several spread what the viewers get over several queues of the system.
pub const SOCKETS: usize = 16;
/// Sources of one viewer at a time. A browser has one for each address of its machine, and as many by TCP or TURN.
const MOST_SOURCES: usize = 8;
/// Of these by TCP: each is a descriptor in the place of one that libnice would have ([`MOST_LOCAL`]).
pub const MOST_TCP_SOURCES: usize = MOST_LOCAL - 1;
/// A source that was not heard of for so long makes place for another. Browsers check what they keep more often.
const SILENT: Duration = Duration::from_secs(5);

/// Where packets of one path come from and go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `local` is the address of this machine that they were sent to, from which the answers have to come.
    Udp { remote: SocketAddr, local: Option<IpAddr> },
    /// A connection, by its number.
    Tcp(u64),
}

/// What becomes of a packet from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this viewer's libnice through this socket. A source that made place for this one is `evicted`.
    Forward {
        socket: usize,
        to: SocketAddr,
        evicted: Option<Source>,
    },
    Drop(Stranger),
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// It is no packet of WebRTC's.
    Odd,
    /// Its source is nobody's, and it is no request that would change that.
    Unknown,
    /// It names no viewer, or is not signed as that viewer's are.
    Unsigned,
    /// The viewer has as many sources as it may have, and all are in use.
    TooMany,
}

/// Why a viewer cannot be reached by the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another viewer has the same name or the same port of libnice")]
pub struct Taken;

#[derive(Debug, Default)]
pub struct Demux {
    viewers: HashMap<u64, Viewer>,
    by_username: HashMap<String, u64>,
    /// By the port of its libnice, on loopback.
    by_inner: HashMap<u16, u64>,
    by_source: HashMap<Source, u64>,
    next: u64,
}

#[derive(Debug)]
struct Viewer {
    /// Of checks that are sent to us: our fragment, a colon, the client's.
    username: String,
    /// Ours.
    password: String,
    inner: SocketAddr,
    sources: Vec<Path>,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    socket: usize,
    source: Source,
    heard: Instant,
}

impl Demux {
    /// A viewer whose libnice is at `inner`; the number is for [`Self::leave`].
    pub fn enter(&mut self, username: String, password: String, inner: SocketAddr) -> Result<u64, Taken> {
        if self.by_username.contains_key(&username) || self.by_inner.contains_key(&inner.port()) {
            return Err(Taken);
        }
        let number = self.next;
        self.next += 1;
        self.by_username.insert(username.clone(), number);
        self.by_inner.insert(inner.port(), number);
        self.viewers.insert(number, Viewer { username, password, inner, sources: Vec::new() });
        Ok(number)
    }

    /// Forgets a viewer and its sources, which are told.
    pub fn leave(&mut self, number: u64) -> Vec<Source> {
        let Some(viewer) = self.viewers.remove(&number) else { return Vec::new() };
        self.by_username.remove(&viewer.username);
        self.by_inner.remove(&viewer.inner.port());
        let sources: Vec<Source> = viewer.sources.into_iter().map(|path| path.source).collect();
        for source in &sources {
            self.by_source.remove(source);
        }
        sources
    }

    /// Forgets a source that is no more.
    pub fn close(&mut self, source: Source) {
        if let Some(number) = self.by_source.remove(&source)
            && let Some(viewer) = self.viewers.get_mut(&number)
        {
            viewer.sources.retain(|path| path.source != source);
        }
    }

    pub fn inward(&mut self, source: Source, packet: &[u8], now: Instant) -> Verdict {
        if !is_of_webrtc(packet) {
            return Verdict::Drop(Stranger::Odd);
        }
        let request = Message::parse(packet).filter(|message| message.kind == BINDING);
        let username = request.and_then(|request| std::str::from_utf8(request.attribute(USERNAME)?).ok());
        let known = self.by_source.get(&source).copied();
        if let Some(viewer) = known.and_then(|number| self.viewers.get_mut(&number))
            && username.is_none_or(|username| username == viewer.username)
            && let Some(path) = viewer.sources.iter_mut().find(|path| path.source == source)
        {
            path.heard = now;
            return Verdict::Forward { socket: path.socket, to: viewer.inner, evicted: None };
        }
        let (Some(request), Some(username)) = (request, username) else { return Verdict::Drop(Stranger::Unknown) };
        let Some(number) = self.by_username.get(username).copied() else { return Verdict::Drop(Stranger::Unsigned) };
        let Some(viewer) = self.viewers.get_mut(&number) else { return Verdict::Drop(Stranger::Unsigned) };
        if !request.is_signed_by(viewer.password.as_bytes()) {
            return Verdict::Drop(Stranger::Unsigned);
        }
        let Some((socket, evicted)) = viewer.place(number, source, now) else {
            return Verdict::Drop(Stranger::TooMany);
        };
        let to = viewer.inner;
        viewer.sources.push(Path { socket, source, heard: now });
        if let Some(evicted) = evicted {
            self.by_source.remove(&evicted);
        }
        if let Some(before) = self.by_source.insert(source, number)
            && let Some(viewer) = self.viewers.get_mut(&before)
        {
            viewer.sources.retain(|path| path.source != source);
        }
        Verdict::Forward { socket, to, evicted }
    }

    /// Where a packet goes that libnice sent to one of the loopback sockets; `None` if it is not from a viewer's.
    pub fn outward(&self, socket: usize, from: SocketAddr) -> Option<Source> {
        let viewer = self.viewers.get(self.by_inner.get(&from.port())?)?;
        let path = viewer.sources.iter().find(|path| path.socket == socket)?;
        (viewer.inner == from).then_some(path.source)
    }

    /// Viewers, and sources of all of them.
    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize) {
        assert_eq!(self.viewers.len(), self.by_username.len());
        assert_eq!(self.viewers.len(), self.by_inner.len());
        let sources = self.viewers.values().map(|viewer| viewer.sources.len()).sum();
        assert_eq!(self.by_source.len(), sources);
        (self.viewers.len(), sources)
    }
}

impl Viewer {
    /// The socket for a further source, and the source that makes place for it.
    fn place(&mut self, number: u64, source: Source, now: Instant) -> Option<(usize, Option<Source>)> {
        let is_tcp = |source: &Source| matches!(source, Source::Tcp(_));
        let by_tcp = self.sources.iter().filter(|path| is_tcp(&path.source)).count();
        let is_full_of_tcp = is_tcp(&source) && by_tcp >= MOST_TCP_SOURCES;
        if self.sources.len() < MOST_SOURCES && !is_full_of_tcp {
            // Each viewer begins with another one, since most have one source only.
            let sockets = u64::try_from(SOCKETS).unwrap_or(1);
            let first = usize::try_from(number % sockets).unwrap_or(0);
            let mut sockets = (0..SOCKETS).map(|offset| (first + offset) % SOCKETS);
            let socket = sockets.find(|socket| self.sources.iter().all(|path| path.socket != *socket))?;
            return Some((socket, None));
        }
        let silent = self.sources.iter().enumerate().filter(|(_, path)| {
            now.saturating_duration_since(path.heard) >= SILENT && (is_tcp(&path.source) || !is_full_of_tcp)
        });
        let (at, _) = silent.min_by_key(|(_, path)| path.heard)?;
        let path = self.sources.swap_remove(at);
        Some((path.socket, Some(path.source)))
    }
}

/// What shares a port in WebRTC, by its first byte: STUN, DTLS, RTP and RTCP (RFC 7983).
fn is_of_webrtc(packet: &[u8]) -> bool {
    packet.len() <= LARGEST_PACKET && matches!(packet.first(), Some(0..=3 | 20..=63 | 128..=191))
}

#[cfg(test)]
mod tests;
