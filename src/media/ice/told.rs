//! What clients are told of the candidates that libnice finds: the one place that decides it, for answers and for what
//! trickles after them.
//!
//! Pure. Not in here: clients' candidates (`ice`), those of the one port (`one_port`).

use std::net::IpAddr;

/// What becomes of libnice's candidates on their way to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// They are told as they are.
    #[default]
    All,
    /// An address translator gives every address of ours these, port by port: they stand in the place of ours of the same
    /// protocol, which nobody outside reaches.
    Outside(Vec<IpAddr>),
    /// Clients come by the one port, and libnice is on loopback.
    Nothing,
}

impl Told {
    pub fn lines(&self, candidate: String) -> Vec<String> {
        match self {
            Self::All => vec![candidate],
            Self::Outside(addresses) => outside(&candidate, addresses).unwrap_or_else(|| vec![candidate]),
            Self::Nothing => Vec::new(),
        }
    }
}

/// `None` for a candidate that is told as it is.
fn outside(candidate: &str, addresses: &[IpAddr]) -> Option<Vec<String>> {
    let mut words = candidate.split(' ');
    let (foundation, component, transport) = (words.next()?, words.next()?, words.next()?);
    let (priority, address, port) = (words.next()?, words.next()?.parse::<IpAddr>().ok()?, words.next()?);
    let rest: Vec<&str> = words.collect();
    if rest.get(..2)? != ["typ", "host"] {
        return None;
    }
    let same_protocol = addresses.iter().filter(|outside| outside.is_ipv4() == address.is_ipv4());
    let lines: Vec<String> = same_protocol
        .enumerate()
        // Candidates of one foundation have one address.
        .map(|(at, outside)| {
            format!("{foundation}x{at} {component} {transport} {priority} {outside} {port} {}", rest.join(" "))
        })
        .collect();
    (!lines.is_empty()).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "candidate:1 1 UDP 2015363327 10.0.0.5 51000 typ host";

    #[test]
    fn addresses_outside_stand_for_those_of_their_protocol() {
        let told = Told::Outside(["203.0.113.7", "203.0.113.8", "2001:db8::7"].map(|at| at.parse().unwrap()).to_vec());
        assert_eq!(
            told.lines(HOST.to_owned()),
            [
                "candidate:1x0 1 UDP 2015363327 203.0.113.7 51000 typ host",
                "candidate:1x1 1 UDP 2015363327 203.0.113.8 51000 typ host"
            ]
        );
        let v6 = "candidate:2 1 UDP 2015363583 fd00::5 51001 typ host";
        assert_eq!(told.lines(v6.to_owned()), ["candidate:2x0 1 UDP 2015363583 2001:db8::7 51001 typ host"]);
        let only_v4 = Told::Outside(vec!["203.0.113.7".parse().unwrap()]);
        assert_eq!(only_v4.lines(v6.to_owned()), [v6]);
    }

    #[test]
    fn what_a_server_found_and_what_is_odd_stays_as_it_is() {
        let told = Told::Outside(vec!["203.0.113.7".parse().unwrap()]);
        for line in [
            "candidate:3 1 UDP 1677729535 198.51.100.4 40000 typ srflx raddr 10.0.0.5 rport 51000",
            "candidate:3 1 UDP 1677729535 name.local 40000 typ host",
            "candidate:3 1",
            "",
        ] {
            assert_eq!(told.lines(line.to_owned()), [line]);
        }
        assert_eq!(Told::All.lines(HOST.to_owned()), [HOST]);
        assert!(Told::Nothing.lines(HOST.to_owned()).is_empty());
    }
}
