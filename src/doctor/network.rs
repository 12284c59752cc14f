//! `mouthpiece doctor --network`: what a viewer outside will meet.
//!
//! In here: the machine's addresses, the ports, and whether STUN and TURN servers answer, each tried for real and in bounded
//! time. Not in here: the report (`doctor`), the settings (`config`).
//! Runs on: tokio.

mod servers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::Check;
use crate::config::ServeConfig;
use crate::media::one_port::OnePort;
use crate::media::{Reach, reach};
use servers::{Turn, TurnError};

/// What the settings make of this machine, and what to change.
pub(crate) async fn checks(config: &ServeConfig) -> Vec<Check> {
    let own = config.ice.for_webrtcbin().own_addresses();
    let mut checks = vec![page(config.listen), addresses(&own, &config.ice.external)];
    checks.push(media_port(config.media_port).await);
    checks.push(stun(config, &own).await);
    checks.extend(turn(config).await);
    checks
}

fn page(listen: SocketAddr) -> Check {
    const NAME: &str = "page";
    match reach(listen.ip()) {
        Reach::Loopback => Check::note(
            NAME,
            format!("listens on {listen}, which only this machine reaches"),
            "none needed behind a proxy on this machine; else --listen 0.0.0.0:8080, and a proxy with TLS for microphones",
        ),
        _ => Check::ok(NAME, format!("listens on {listen}")),
    }
}

fn addresses(own: &[IpAddr], external: &[IpAddr]) -> Check {
    const NAME: &str = "addresses";
    let listed = |addresses: &[IpAddr]| {
        let each = addresses.iter().map(|address| format!("{address} ({})", kind(*address)));
        each.collect::<Vec<_>>().join(", ")
    };
    let is_public = |address: &IpAddr| reach(*address) == Reach::Public;
    let ipv6 = match own.iter().chain(external).any(|address| address.is_ipv6() && is_public(address)) {
        true => "",
        false => "; no public IPv6, which most viewers do without",
    };
    if !external.is_empty() {
        let told = format!("viewers are told {} in the place of {}{ipv6}", listed(external), listed(own));
        return match external.iter().find(|address| !is_public(address)) {
            Some(private) => Check::note(
                NAME,
                told,
                format!("{private} is not public: it is reached from within its own network alone"),
            ),
            None => Check::ok(NAME, told),
        };
    }
    let found = format!("{}{ipv6}", listed(own));
    if own.is_empty() {
        return Check::note(
            NAME,
            "none but loopback",
            "connect the machine to a network; viewers on it see the avatar",
        );
    }
    match own.iter().any(is_public) {
        true => Check::ok(NAME, found),
        false => Check::note(
            NAME,
            format!("{found}: viewers outside of this network do not reach it"),
            "none needed for viewers within; else external_address = [the public address] and media_port, and let the router \
             or the cloud pass that port on, UDP and TCP; or a TURN server",
        ),
    }
}

fn kind(address: IpAddr) -> &'static str {
    match reach(address) {
        Reach::Public => "public",
        Reach::Private => "private",
        Reach::Loopback => "this machine",
        Reach::Never => "of no use",
    }
}

async fn media_port(port: Option<u16>) -> Check {
    const NAME: &str = "media port";
    let Some(port) = port else {
        return Check::note(
            NAME,
            "each viewer has a UDP port of its own, from 1024 on, and nobody comes by TCP",
            "none needed where the firewall lets all UDP in; else media_port = 8443, and let that in, UDP and TCP",
        );
    };
    match OnePort::open(port).await {
        Ok((opened, tasks)) => {
            let ipv6 = if opened.has_ipv6() { "IPv4 and IPv6" } else { "IPv4 alone" };
            tasks.stop().await;
            Check::ok(NAME, format!("{port} is free, UDP and TCP, {ipv6}; the firewall has to let it in"))
        }
        Err(error) => Check::fault(NAME, error, "stop the other program, or choose another media_port"),
    }
}

/// How the machine is seen from outside, by the port that viewers come to if there is one.
async fn stun(config: &ServeConfig, own: &[IpAddr]) -> Check {
    const NAME: &str = "stun";
    let Some(server) = config.ice.stun_server() else {
        let fix =
            "none needed on a public address; else stun = \"stun:stun.example.org:3478\" tells how it is seen outside";
        return Check::note(NAME, "no server is named, so how this machine is seen outside is not known", fix);
    };
    let port = config.media_port.unwrap_or(0);
    let socket = match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await {
        Ok(socket) => socket,
        Err(error) => return Check::note(NAME, format!("cannot be asked from port {port}: {error}"), "see media port"),
    };
    let local = socket.local_addr().map_or(port, |at| at.port());
    match servers::seen_as(socket, &server).await {
        Ok(seen) => seen_from_outside(seen, local, own, &config.ice.external),
        Err(error) => Check::note(
            NAME,
            format!("{server}: {error}"),
            "see whether the firewall lets UDP out to it, or name another server",
        ),
    }
}

fn seen_from_outside(seen: SocketAddr, local: u16, own: &[IpAddr], external: &[IpAddr]) -> Check {
    const NAME: &str = "stun";
    let address = seen.ip();
    if own.contains(&address) {
        return Check::ok(NAME, format!("outside this machine is {address}, its own address"));
    }
    if external.contains(&address) {
        return Check::ok(NAME, format!("outside this machine is {address}, which viewers are told"));
    }
    let port = match seen.port() == local {
        true => String::new(),
        false => format!(", and its port {local} is {}", seen.port()),
    };
    let fix = format!(
        "external_address = [\"{address}\"] and media_port, and have the address translator pass that port on to this machine"
    );
    Check::note(NAME, format!("outside this machine is {address}{port}: an address translator is in front"), fix)
}

/// Each of the servers that browsers are given.
async fn turn(config: &ServeConfig) -> Vec<Check> {
    const NAME: &str = "turn";
    let mut checks = Vec::new();
    for server in config.ice.servers() {
        let (Some(user), Some(password)) = (&server.username, &server.credential) else { continue };
        for url in &server.urls {
            let check = match Turn::try_out(url, user, password).await {
                Ok(relayed) => match reach(relayed.ip()) {
                    Reach::Public => Check::ok(NAME, format!("{url} relays at {relayed}")),
                    _ => Check::note(
                        NAME,
                        format!("{url} relays at {relayed}, which is not public"),
                        "none needed if all viewers and this server reach it; else set external-ip of the TURN server",
                    ),
                },
                Err(TurnError::TlsNotTried) => {
                    Check::ok(NAME, format!("{url} takes connections; its TLS is not tried"))
                }
                Err(error @ TurnError::Refused(_)) => Check::fault(
                    NAME,
                    format!("{url}: {error}"),
                    "compare turn_secret with static-auth-secret of coturn (use-auth-secret), or user and password, and both clocks",
                ),
                Err(error) => Check::fault(
                    NAME,
                    format!("{url}: {error}"),
                    "see whether the TURN server runs, and whether firewalls let this port through to it",
                ),
            };
            checks.push(check);
        }
    }
    if checks.is_empty() {
        let found = "no server is named: viewers whose networks let only web traffic out come by TCP to media_port, or not at all";
        checks.push(Check::note(NAME, found, "none needed for most; else turn_urls and turn_secret, with coturn"));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn at(addresses: &[&str]) -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn says(check: &Check, status: Status, found: &str, fix: &str) {
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.found.contains(found) && check.fix.as_deref().unwrap_or_default().contains(fix), "{check:?}");
    }

    #[test]
    fn addresses_are_judged_by_who_reaches_them() {
        says(&addresses(&at(&["8.8.8.8", "2a00::1"]), &[]), Status::Ok, "8.8.8.8 (public), 2a00::1 (public)", "");
        let within = addresses(&at(&["10.0.0.5"]), &[]);
        says(&within, Status::Note, "10.0.0.5 (private); no public IPv6", "external_address");
        let told = addresses(&at(&["10.0.0.5"]), &at(&["8.8.8.8"]));
        says(&told, Status::Ok, "told 8.8.8.8 (public) in the place of 10.0.0.5 (private)", "");
        says(&addresses(&at(&["10.0.0.5"]), &at(&["192.168.1.2"])), Status::Note, "192.168.1.2", "not public");
        says(&addresses(&[], &[]), Status::Note, "loopback", "network");
        says(&page("127.0.0.1:8080".parse().unwrap()), Status::Note, "127.0.0.1:8080", "--listen");
        says(&page("0.0.0.0:8080".parse().unwrap()), Status::Ok, "0.0.0.0:8080", "");
    }

    #[test]
    fn how_the_machine_is_seen_outside_says_what_to_set() {
        let seen = |own: &[&str], external: &[&str], local| {
            seen_from_outside("8.8.8.8:8443".parse().unwrap(), local, &at(own), &at(external))
        };
        says(&seen(&["8.8.8.8"], &[], 8443), Status::Ok, "its own", "");
        says(&seen(&["10.0.0.5"], &["8.8.8.8"], 8443), Status::Ok, "told", "");
        says(&seen(&["10.0.0.5"], &[], 8443), Status::Note, "translator", "external_address = [\"8.8.8.8\"]");
        says(&seen(&["10.0.0.5"], &[], 8444), Status::Note, "port 8444 is 8443", "external_address");
    }

    #[tokio::test]
    async fn a_media_port_that_is_taken_is_a_fault_and_none_is_not() {
        says(&media_port(None).await, Status::Note, "UDP port of its own", "media_port = 8443");
        let taken = UdpSocket::bind("0.0.0.0:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        says(&media_port(Some(port)).await, Status::Fault, &port.to_string(), "another media_port");
        says(&media_port(Some(0)).await, Status::Ok, "UDP and TCP", "");
    }
}
