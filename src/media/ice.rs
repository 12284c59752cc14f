//! Which of a client's ICE candidates libnice is given, and how many.
//!
//! In here: one filter for candidates that trickle and those within an offer: it reads a line, decides, and writes it anew,
//! so that nothing of a client's own spelling reaches libnice. Not in here: where candidates come from (`viewer`,
//! `offer`), our own candidates (`told`, `one_port`).
//!
//! Each candidate makes the server send a few packets to an address of the client's choice: that is how ICE works, and
//! why the filter is narrow. A browser is still reached without any of its candidates if it can reach the server: the pair
//! forms from where its own checks come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use super::one_port::OnePort;
use crate::session::CANDIDATE_BYTES;

pub mod told;

/// Candidates of one peer. A machine with two networks, both protocols, a STUN and a TURN server has a dozen.
const MOST: usize = 16;
/// Those with one address: more would be a look at its ports. A browser has one a bundle, or two beside TURN.
const MOST_AT_ONE_ADDRESS: usize = 4;
/// Addresses of this machine that a viewer's sockets are on.
pub const MOST_LOCAL: usize = 4;
/// Ports of services; neither a browser's socket nor an address translator's or relay's has one of these.
const FIRST_PORT: u16 = 1024;

/// How viewers find a network path to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceConfig {
    /// `stun://host:port`
    pub stun: Option<String>,
    /// `turn://user:password@host:port`, also `turns:`
    pub turn: Option<String>,
    /// Gather on these addresses only; empty means all but loopback.
    pub local_addresses: Vec<IpAddr>,
    /// What clients are told instead of the machine's own addresses, where those are behind an address translator.
    pub external: Vec<IpAddr>,
    /// Clients come by this port, and libnice is on loopback behind it, without STUN and TURN of its own.
    pub one_port: Option<OnePort>,
    /// Whether candidates with private addresses are taken, as every viewer within a network of one's own has them.
    pub private: bool,
    /// Whether those with loopback addresses are, which only a server that serves this machine alone may take.
    pub loopback: bool,
}

impl IceConfig {
    /// Where a viewer's sockets are: a few of the addresses that this machine has. Each costs a descriptor a viewer, and on
    /// a host of containers every bridge has one of its own wire, on which no viewer is.
    pub fn gathered_on(&self) -> Vec<IpAddr> {
        match self.one_port {
            Some(_) => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            None => self.own_addresses(),
        }
    }

    /// Where clients are told that the server is, at the one port.
    pub fn addresses(&self) -> Vec<IpAddr> {
        if self.external.is_empty() { self.own_addresses() } else { self.external.clone() }
    }

    /// Those that the machine has, as far as viewers may use them.
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        if !self.local_addresses.is_empty() {
            return self.local_addresses.clone();
        }
        let addresses = match if_addrs::get_if_addrs() {
            Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip()).collect(),
            Err(error) => {
                tracing::warn!(%error, "the machine's addresses cannot be listed");
                Vec::new()
            }
        };
        choose(addresses, self.loopback)
    }
}

/// Of the machine's addresses those that are gathered on; none leaves the choice to libnice.
fn choose(addresses: Vec<IpAddr>, loopback: bool) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    let usable = addresses.iter().filter(|address| matches!(reach(**address), Reach::Public | Reach::Private));
    // Both protocols are among the first, in the system's own order otherwise.
    for is_v4 in [true, false] {
        let of_kind = usable.clone().filter(|address| address.is_ipv4() == is_v4);
        chosen.extend(of_kind.take(MOST_LOCAL / 2));
    }
    let others = usable.filter(|address| !chosen.contains(address)).copied().collect::<Vec<_>>();
    chosen.extend(others.into_iter().take(MOST_LOCAL.saturating_sub(chosen.len())));
    if chosen.is_empty() && loopback {
        // Without a network there are still viewers on this machine.
        chosen.extend(addresses.into_iter().filter(IpAddr::is_loopback).filter(IpAddr::is_ipv4).take(1));
    }
    chosen
}

impl Default for IceConfig {
    fn default() -> Self {
        Self {
            stun: None,
            turn: None,
            local_addresses: Vec::new(),
            external: Vec::new(),
            one_port: None,
            private: true,
            loopback: false,
        }
    }
}

/// Why a candidate is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableCandidate {
    #[error("it is not a candidate as RFC 8839 writes it")]
    Malformed,
    #[error("it is for another component than RTP, and RTCP is multiplexed")]
    Component,
    #[error("it is not UDP: the server connects to nobody over TCP")]
    Transport,
    #[error("it has a name instead of an address, and names are not looked up")]
    Name,
    #[error("its address is not one that a viewer has")]
    Address,
    #[error("its address is private, and ice_private is false")]
    Private,
    #[error("its port belongs to a service")]
    Port,
    #[error("there were {MOST} of this peer, or {MOST_AT_ONE_ADDRESS} with this address, already")]
    TooMany,
}

/// The filter of one peer.
#[derive(Debug)]
pub struct CandidateFilter {
    /// Behind the one port libnice reaches nobody: clients' checks come to it.
    is_behind_port: bool,
    private: bool,
    loopback: bool,
    /// Whether ports of services are fine, as a media server's may be where only those are open.
    services: bool,
    taken: Mutex<Vec<SocketAddr>>,
}

impl CandidateFilter {
    pub fn new(config: &IceConfig) -> Self {
        let on_loopback = config.local_addresses.iter().any(IpAddr::is_loopback);
        Self {
            private: config.private,
            loopback: config.loopback || on_loopback,
            services: false,
            is_behind_port: config.one_port.is_some(),
            taken: Mutex::default(),
        }
    }

    /// Of a media server that whoever runs this one has named.
    pub fn of_server(config: &IceConfig) -> Self {
        Self { services: true, ..Self::new(config) }
    }

    /// The line as libnice is given it. `None` for one that was taken before, or that nothing is sent to.
    pub fn admit(&self, line: &str) -> Result<Option<String>, UnusableCandidate> {
        if self.is_behind_port {
            return Ok(None);
        }
        let candidate = Candidate::parse(line)?;
        self.check_address(candidate.at.ip())?;
        if candidate.at.port() < FIRST_PORT && !(self.services && candidate.at.port() > 0) {
            return Err(UnusableCandidate::Port);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains(&candidate.at) {
            return Ok(None);
        }
        let at_this_address = taken.iter().filter(|at| at.ip() == candidate.at.ip()).count();
        if taken.len() >= MOST || at_this_address >= MOST_AT_ONE_ADDRESS {
            return Err(UnusableCandidate::TooMany);
        }
        taken.push(candidate.at);
        Ok(Some(candidate.to_line()))
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn check_address(&self, address: IpAddr) -> Result<(), UnusableCandidate> {
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Private if self.private => Ok(()),
            Reach::Private => Err(UnusableCandidate::Private),
            Reach::Loopback if self.loopback => Ok(()),
            Reach::Loopback | Reach::Never => Err(UnusableCandidate::Address),
        }
    }
}

/// Who may have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Public,
    /// Of a network of one's own, or a provider's (RFC 1918, 4193, 6598).
    Private,
    Loopback,
    /// Names no single machine, or only one on the same wire: link-local (where clouds keep their metadata), multicast,
    /// broadcast, unspecified, reserved.
    Never,
}

pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [first, second, third, _] = address.octets();
    match first {
        127 => Reach::Loopback,
        0 | 224..=255 => Reach::Never,
        169 if second == 254 => Reach::Never,
        // Of protocols and for benchmarks: RFC 6890. The blocks for documentation are left alone, nobody answers there.
        192 if (second, third) == (0, 0) => Reach::Never,
        198 if matches!(second, 18 | 19) => Reach::Private,
        100 if matches!(second, 64..=127) => Reach::Private,
        _ if address.is_private() => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    // An IPv4 address in IPv6's clothes: mapped, or behind a translator (RFC 6052). A viewer writes it as IPv4.
    let [.., high, low] = segments;
    let embedded = || Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0, 0, 0, 0, 0, 0xffff, ..] => Reach::Never,
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => match reach_v4(embedded()) {
            Reach::Public => Reach::Public,
            _ => Reach::Never,
        },
        // Of a site, as it was once, is of a network of one's own.
        [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Reach::Private,
        // What is given out so far (RFC 4291), without what carries IPv4 in it: 6to4 and Teredo.
        [0x2002, ..] | [0x2001, 0, ..] => Reach::Never,
        [first, ..] if first & 0xe000 == 0x2000 => Reach::Public,
        _ => Reach::Never,
    }
}

/// A candidate for the one component there is, over UDP.
#[derive(Debug)]
struct Candidate<'a> {
    foundation: &'a str,
    priority: u32,
    at: SocketAddr,
    kind: &'a str,
}

impl<'a> Candidate<'a> {
    /// `candidate:1 1 UDP 2122260223 192.0.2.7 51000 typ host`, with or without `a=` and whatever follows.
    fn parse(line: &'a str) -> Result<Self, UnusableCandidate> {
        if line.len() > CANDIDATE_BYTES || !line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(UnusableCandidate::Malformed);
        }
        let line =
            line.strip_prefix("a=").unwrap_or(line).strip_prefix("candidate:").ok_or(UnusableCandidate::Malformed)?;
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().ok_or(UnusableCandidate::Malformed);
        let (foundation, component, transport) = (word()?, word()?, word()?);
        let (priority, address, port) = (word()?, word()?, word()?);
        let (typ, kind) = (word()?, word()?);
        let is_foundation = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let is_well_formed = (1..=32).contains(&foundation.len())
            && foundation.bytes().all(is_foundation)
            && typ == "typ"
            && matches!(kind, "host" | "srflx" | "prflx" | "relay");
        let priority: u32 = priority.parse().map_err(|_| UnusableCandidate::Malformed)?;
        let port: u16 = port.parse().map_err(|_| UnusableCandidate::Malformed)?;
        match component.parse::<u16>() {
            Ok(1) => {}
            Ok(2..=256) => return Err(UnusableCandidate::Component),
            _ => return Err(UnusableCandidate::Malformed),
        }
        if !is_well_formed || !(1..1 << 31).contains(&priority) {
            return Err(UnusableCandidate::Malformed);
        }
        if !transport.eq_ignore_ascii_case("udp") {
            return Err(UnusableCandidate::Transport);
        }
        // Not even the `.local` names behind which browsers hide their addresses: each look-up that finds nothing keeps
        // webrtcbin's ICE thread and its descriptors for ever (GStreamer 1.22).
        let address: IpAddr = address.parse().map_err(|_| UnusableCandidate::Name)?;
        Ok(Self { foundation, priority, at: SocketAddr::new(address, port), kind })
    }

    /// Where a candidate's base lies is of no use to us, and neither are the extensions.
    fn to_line(&self) -> String {
        let Self { foundation, priority, at, kind } = self;
        format!("candidate:{foundation} 1 UDP {priority} {} {} typ {kind}", at.ip(), at.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(private: bool, loopback: bool) -> CandidateFilter {
        CandidateFilter::new(&IceConfig { private, loopback, ..IceConfig::default() })
    }

    fn at(address: &str) -> String {
        format!("candidate:1 1 udp 2113937151 {address} 51000 typ host generation 0 ufrag x network-cost 999")
    }

    #[test]
    fn a_candidate_is_written_anew_without_what_is_of_no_use() {
        let admitted = filter(true, false).admit(&at("192.0.2.1")).unwrap().unwrap();
        assert_eq!(admitted, "candidate:1 1 UDP 2113937151 192.0.2.1 51000 typ host");
        let line = "a=candidate:a+/9 1 UDP 1677729535 2001:DB8:0::1 51000 typ srflx raddr 0.0.0.0 rport 0";
        let admitted = filter(true, false).admit(line).unwrap().unwrap();
        assert_eq!(admitted, "candidate:a+/9 1 UDP 1677729535 2001:db8::1 51000 typ srflx");
    }

    #[test]
    fn what_is_no_candidate_is_refused() {
        let long = format!("{} {}", at("192.0.2.1"), "x".repeat(CANDIDATE_BYTES));
        for line in [
            "",
            "candidate:",
            "candidate:1 1 udp",
            "192.0.2.1",
            "candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\na=x",
            "candidate:1 0 udp 1 192.0.2.1 5000 typ host",
            "candidate:1 -1 udp 1 192.0.2.1 5000 typ host",
            "candidate:1 257 udp 1 192.0.2.1 5000 typ host",
            "candidate:1 one udp 1 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 0 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 4294967295 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 99999999999 192.0.2.1 5000 typ host",
            "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
            "candidate:1 1 udp 1 192.0.2.1 5000 typ guest",
            "candidate:1 1 udp 1 192.0.2.1 5000 host",
            "candidate:\u{e9} 1 udp 1 192.0.2.1 5000 typ host",
            "candidate:123456789012345678901234567890123 1 udp 1 192.0.2.1 5000 typ host",
            &long,
        ] {
            assert_eq!(filter(true, true).admit(line), Err(UnusableCandidate::Malformed), "{line:?}");
        }
        for (line, refusal) in [
            ("candidate:1 2 udp 1 192.0.2.1 5000 typ host", UnusableCandidate::Component),
            ("candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active", UnusableCandidate::Transport),
            ("candidate:1 1 TCP 1 192.0.2.1 5000 typ host tcptype passive", UnusableCandidate::Transport),
            ("candidate:1 1 tls 1 192.0.2.1 5000 typ host", UnusableCandidate::Transport),
            ("candidate:1 1 udp 1 4a1f8e0e-0000.local 5000 typ host", UnusableCandidate::Name),
            ("candidate:1 1 udp 1 db.internal.example 5000 typ host", UnusableCandidate::Name),
            ("candidate:1 1 udp 1 127.1 5000 typ host", UnusableCandidate::Name),
            ("candidate:1 1 udp 1 fe80::1%eth0 5000 typ host", UnusableCandidate::Name),
            ("candidate:1 1 udp 1 192.0.2.1 53 typ host", UnusableCandidate::Port),
            ("candidate:1 1 udp 1 192.0.2.1 0 typ host", UnusableCandidate::Port),
        ] {
            assert_eq!(filter(true, true).admit(line), Err(refusal), "{line:?}");
        }
    }

    #[test]
    fn only_addresses_that_a_viewer_can_have_are_taken() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "192.0.0.8",
            "224.0.0.251",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "fe80::1",
            "ff02::fb",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:0:1::1",
            "4000::1",
        ] {
            assert_eq!(filter(true, true).admit(&at(address)), Err(UnusableCandidate::Address), "{address}");
        }
        for address in ["127.0.0.1", "127.255.0.9", "::1"] {
            assert_eq!(filter(true, false).admit(&at(address)), Err(UnusableCandidate::Address), "{address}");
            assert!(filter(false, true).admit(&at(address)).unwrap().is_some(), "{address}");
        }
        for address in ["10.1.2.3", "172.16.0.1", "172.31.9.9", "192.168.1.1", "100.64.0.1", "198.18.0.1", "fd00::2"] {
            assert_eq!(filter(false, true).admit(&at(address)), Err(UnusableCandidate::Private), "{address}");
            assert!(filter(true, false).admit(&at(address)).unwrap().is_some(), "{address}");
        }
        for address in
            ["8.8.8.8", "172.32.0.1", "100.128.0.1", "198.20.0.1", "2001:db8::1", "2a00::1", "64:ff9b::808:808"]
        {
            assert!(filter(false, false).admit(&at(address)).unwrap().is_some(), "{address}");
        }
    }

    #[test]
    fn few_of_the_machines_addresses_are_gathered_on_and_none_that_only_a_wire_knows() {
        let chosen = |addresses: &[&str], loopback| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let chosen: Vec<String> = choose(addresses, loopback).iter().map(IpAddr::to_string).collect();
            chosen.join(" ")
        };
        assert_eq!(
            chosen(&["127.0.0.1", "192.168.1.2", "::1", "fe80::1", "2a00::2", "fe80::2"], true),
            "192.168.1.2 2a00::2"
        );
        let many = ["10.0.0.1", "10.0.1.1", "10.0.2.1", "10.0.3.1", "10.0.4.1", "fd00::1"];
        assert_eq!(chosen(&many, false), "10.0.0.1 10.0.1.1 fd00::1 10.0.2.1");
        assert_eq!(chosen(&["127.0.0.1", "::1", "fe80::1"], true), "127.0.0.1");
        assert_eq!(chosen(&["127.0.0.1", "::1"], false), "");
        assert!(IceConfig::default().gathered_on().len() <= MOST_LOCAL);
    }

    #[test]
    fn a_peer_has_few_candidates_and_fewer_at_one_address() {
        let filter = filter(true, false);
        let line = |host: usize, port: usize| format!("candidate:1 1 UDP 1 10.0.0.{host} {} typ host", 2000 + port);
        assert!(filter.admit(&line(1, 0)).unwrap().is_some());
        assert_eq!(filter.admit(&line(1, 0)), Ok(None), "the same again costs nothing");
        let scanned = (1..100).filter(|port| filter.admit(&line(1, *port)).is_ok()).count();
        assert_eq!(scanned, MOST_AT_ONE_ADDRESS - 1);
        let others = (2..200).filter(|host| filter.admit(&line(*host, 0)).is_ok()).count();
        assert_eq!(others, MOST - MOST_AT_ONE_ADDRESS);
        assert_eq!(filter.admit(&line(250, 0)), Err(UnusableCandidate::TooMany));
    }
}
