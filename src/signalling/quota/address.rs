//! Whom a connection counts for: its address, or what a trusted proxy says it stands for.
//!
//! In here: networks of one subscriber, `X-Forwarded-For`. Not in here: what an address may ask for (`address_quota`).
//! Runs on: whichever task calls it; nothing here waits.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// One subscriber: an address of IPv4, or the /64 of IPv6 that providers give to each of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address(IpAddr);

impl Address {
    /// Whom an address counts for.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(formatter),
            IpAddr::V6(network) => write!(formatter, "{network}/64"),
        }
    }
}

/// An address or a network, as the setting `trusted_proxies` holds them.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether a peer is one of the proxies in front.
pub(crate) fn is_trusted(peer: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&peer.to_canonical()))
}

/// Whether a peer says that it speaks for others.
pub(crate) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_FOR)
}

/// Who asks. Each proxy appends whom it heard it from, so the last one that we do not trust is as far as can be believed;
/// from a peer that is no proxy of ours nothing is.
pub(crate) fn client_of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let mut client = peer;
    if !is_trusted(peer, proxies) {
        return client;
    }
    let values = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        let Some(address) = parse(hop) else { break };
        client = address;
        if !is_trusted(address, proxies) {
            break;
        }
    }
    client
}

/// An address, with or without a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop).parse().ok();
    hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()).or_else(bare)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_subscriber_of_ipv6_is_a_network_and_one_of_ipv4_an_address() {
        assert_eq!(Address::of(ip("2001:db8:1:2::1")), Address::of(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(Address::of(ip("2001:db8:1:2::1")), Address::of(ip("2001:db8:1:3::1")));
        assert_ne!(Address::of(ip("192.0.2.1")), Address::of(ip("192.0.2.2")));
        assert_eq!(Address::of(ip("::ffff:192.0.2.1")), Address::of(ip("192.0.2.1")));
        assert_eq!(Address::of(ip("2001:db8:1:2::1")).to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_as_far_as_they_are() {
        let proxies = [network("127.0.0.1").unwrap(), network("10.0.0.0/8").unwrap(), network("::1").unwrap()];
        for (peer, forwarded, client) in [
            ("192.0.2.9", &["198.51.100.1"][..], "192.0.2.9"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["203.0.113.7", "198.51.100.1,10.1.2.3"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", &["198.51.100.1, nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["10.0.0.1"], "10.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(client_of(ip(peer), &headers, &proxies), ip(client), "{peer} says {forwarded:?}");
        }
    }
}
