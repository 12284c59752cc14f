//! A narrow, long and lossy path for UDP, between a server's candidate and one peer.
//!
//! In here: a relay on a port of its own, whose rate, delay, queue and losses may be changed while it runs. The kernels of
//! test machines have no `netem`, and this needs no rights. Not in here: anything of WebRTC but the line of a candidate.
//! Runs on: one thread, which ends with the relay.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};

/// What the path is like towards the peer; the way back has its delay and its losses alone.
#[derive(Debug)]
pub struct Path {
    /// Bits a second.
    pub rate: AtomicU64,
    pub delay_ms: AtomicU64,
    /// Bytes that may wait.
    pub queue: AtomicU64,
    /// Of 1000 packets.
    pub loss: AtomicU64,
    /// How long the last packet waits for those before it, in milliseconds.
    waits_ms: AtomicU64,
    passed: AtomicU64,
    bytes: AtomicU64,
    /// Those that found the queue full.
    dropped: AtomicU64,
}

/// Totals towards the peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub passed: u64,
    pub bytes: u64,
    pub dropped: u64,
    pub waits_ms: u64,
}

pub struct Relay {
    pub path: Arc<Path>,
    address: SocketAddr,
    server: Arc<OnceLock<SocketAddr>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// With an answer whose candidates all lead to it.
    pub fn of(answer: &str, path: Path) -> (Self, String) {
        let is_udp = |line: &&str| line.starts_with("a=candidate:") && line.contains(" typ host");
        let words = answer.lines().find(is_udp).map(|line| line.split(' ').collect::<Vec<_>>());
        let words = words.unwrap_or_else(|| panic!("no candidate in {answer}"));
        let server = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        let relay = Self::start(server.ip(), path);
        relay.server.set(server).unwrap();
        let mut once =
            Some(format!("a=candidate:1 1 UDP 2113937151 {} {} typ host", relay.address.ip(), relay.address.port()));
        let lines = answer.lines().filter_map(|line| match line.starts_with("a=candidate:") {
            true => once.take(),
            false => Some(line.to_owned()),
        });
        let answer = lines.map(|line| line + "\r\n").collect();
        (relay, answer)
    }

    fn start(ip: IpAddr, path: Path) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let (path, server, ended) = (Arc::new(path), Arc::<OnceLock<_>>::default(), Arc::<AtomicBool>::default());
        let run = {
            let (path, server, ended) = (Arc::clone(&path), Arc::clone(&server), Arc::clone(&ended));
            move || carry(&socket, &path, &server, &ended)
        };
        let thread = Some(std::thread::spawn(run));
        Self { path, address, server, ended, thread }
    }

    pub fn counts(&self) -> Counts {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let Path { waits_ms, passed, bytes, dropped, .. } = &*self.path;
        Counts { passed: read(passed), bytes: read(bytes), dropped: read(dropped), waits_ms: read(waits_ms) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Path {
    /// So many thousand bits a second, and milliseconds one way.
    pub fn new(kbps: u64, delay_ms: u64) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            rate: AtomicU64::new(kbps * 1000),
            delay_ms: AtomicU64::new(delay_ms),
            queue: AtomicU64::new(40_000),
            loss: zero(),
            waits_ms: zero(),
            passed: zero(),
            bytes: zero(),
            dropped: zero(),
        }
    }

    /// When a packet that comes now has passed the narrow place, which is free from `free` on.
    fn passes(&self, now: Instant, free: Instant, length: usize) -> Option<Instant> {
        let rate = self.rate.load(Ordering::Relaxed) as f64;
        let waits = free.saturating_duration_since(now);
        self.waits_ms.store(waits.as_millis() as u64, Ordering::Relaxed);
        if waits.as_secs_f64() * rate / 8.0 + length as f64 > self.queue.load(Ordering::Relaxed) as f64 {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.passed.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        Some(free.max(now) + Duration::from_secs_f64(length as f64 * 8.0 / rate))
    }
}

fn carry(socket: &UdpSocket, path: &Path, server: &OnceLock<SocketAddr>, ended: &AtomicBool) {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut flying = BinaryHeap::<Reverse<(Instant, u64, SocketAddr, Vec<u8>)>>::new();
    let (mut free, mut peer, mut number) = (Instant::now(), None, 0u64);
    let mut packet = [0; 2048];
    while !ended.load(Ordering::Relaxed) {
        let now = Instant::now();
        while let Some(Reverse((at, ..))) = flying.peek()
            && *at <= now
        {
            let Some(Reverse((_, _, to, bytes))) = flying.pop() else { break };
            let _ = socket.send_to(&bytes, to);
        }
        let next =
            flying.peek().map_or(Duration::from_millis(20), |Reverse((at, ..))| at.saturating_duration_since(now));
        socket.set_read_timeout(Some(next.clamp(Duration::from_micros(500), Duration::from_millis(20)))).unwrap();
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let Some(server) = server.get().copied() else { continue };
        if random.random_range(0..1000) < path.loss.load(Ordering::Relaxed) {
            continue;
        }
        let now = Instant::now();
        let (to, passed) = if from == server {
            let Some(peer) = peer else { continue };
            let Some(passed) = path.passes(now, free, length) else { continue };
            free = passed;
            (peer, passed)
        } else {
            peer = Some(from);
            (server, now)
        };
        number += 1;
        let at = passed + Duration::from_millis(path.delay_ms.load(Ordering::Relaxed));
        flying.push(Reverse((at, number, to, packet[..length].to_vec())));
    }
}
