//! Which names the server answers to.
//!
//! The owner of a page may let its own name resolve to the address of a server that its visitors can reach and it cannot
//! (DNS rebinding). A browser then takes that page and the server for one origin, and nothing tells them apart but the `Host`
//! header, which holds the foreign name. An address in its place is nobody's name, so no page can be at it but the server's.
//! In here: that header. Not in here: pages of another origin (`handshake`).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::Uri;
use axum::http::header::HOST;
use axum::http::uri::Authority;

use super::protocol::clipped;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this server answers to its addresses and to localhost, not to {given:?}: open it by one of these, or name the host in \
     the settings (--allowed-host, allowed_hosts; the hosts of allowed_origins count too)"
)]
pub struct ForeignHost {
    given: String,
}

/// The names that are allowed besides addresses and `localhost`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    any: bool,
}

impl Hosts {
    /// Of names, of origins whose hosts count too, and of this machine's own name.
    pub fn new(allowed_hosts: &[String], allowed_origins: &[String]) -> Self {
        let origins = allowed_origins.iter().filter_map(|origin| Some(origin.parse::<Uri>().ok()?.host()?.to_owned()));
        let names = allowed_hosts.iter().filter_map(|host| name_of(host)).chain(origins).chain(machine());
        let any = allowed_hosts.iter().chain(allowed_origins).any(|entry| entry == "*");
        Self { names: names.collect(), any }
    }

    fn has(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else { return false };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let lower = name.to_ascii_lowercase();
        // Browsers take no foreign answer for names below `localhost` (RFC 6761, 6.3).
        let is_local = lower == "localhost" || lower.ends_with(".localhost");
        is_local
            || address.parse::<IpAddr>().is_ok()
            || self.any
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(&name))
    }
}

/// What this machine calls itself, also as its neighbours hear it (`.local`). Whoever could let that name point elsewhere
/// is in the same network already.
fn machine() -> impl Iterator<Item = String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let local = format!("{name}.local");
    [name, local].into_iter().filter(|name| name_of(name).is_some())
}

/// Whether a settings entry can be a host's name.
pub fn is_name(entry: &str) -> bool {
    entry == "*" || name_of(entry).is_some()
}

/// Checks the `Host` of a request, and the host of its target where it has one. A request without either is not a browser's.
pub fn check(request: &Request, hosts: &Hosts) -> Result<(), ForeignHost> {
    let foreign = |given: &[u8]| ForeignHost { given: clipped(&String::from_utf8_lossy(given), 100) };
    if let Some(target) = request.uri().authority().filter(|target| !hosts.has(target.as_str())) {
        return Err(foreign(target.as_str().as_bytes()));
    }
    let is_own = |host: &str| hosts.has(host);
    match request.headers().get_all(HOST).iter().find(|value| !value.to_str().is_ok_and(is_own)) {
        Some(other) => Err(foreign(other.as_bytes())),
        None => Ok(()),
    }
}

/// Without the port.
fn name_of(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    let name = authority.host();
    (!host.contains('@') && !name.is_empty()).then(|| name.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::HeaderValue;

    use super::*;

    fn request(hosts: &[&str]) -> Request {
        let mut request = Request::new(Body::empty());
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        }
        request
    }

    fn is_served(host: &str, allowed_hosts: &[&str], allowed_origins: &[&str]) -> bool {
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        check(&request(&[host]), &Hosts::new(&owned(allowed_hosts), &owned(allowed_origins))).is_ok()
    }

    #[test]
    fn addresses_and_names_of_this_machine_are_answered_and_no_others() {
        let nodename = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for own in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "avatar.localhost:8080",
            "127.0.0.1",
            "127.0.0.2:1",
            "192.0.2.1:8080",
            "[::1]",
            "[2001:db8::1]:8080",
            &nodename,
            &format!("{nodename}.local:8080"),
        ] {
            assert!(is_served(own, &[], &[]), "{own} is turned away");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "localhost.evil.example:8080",
            "notlocalhost",
            "0x7f000001",
            "evil.example@localhost",
            "localhost@evil.example",
            "[::1",
            "",
            ":8080",
            "local host",
            "localhost:8080:8080",
            "ev\u{ef}l",
        ] {
            assert!(!is_served(foreign, &[], &[]), "{foreign:?} is let in");
            assert!(!is_served(foreign, &["friend.example"], &["https://friend.example"]), "{foreign:?} is let in");
        }
        assert!(check(&request(&[]), &Hosts::default()).is_ok(), "no browser leaves it out");
    }

    #[test]
    fn allowed_names_and_the_hosts_of_allowed_origins_are_answered_whatever_their_port() {
        for host in ["friend.example", "Friend.Example:8080"] {
            assert!(is_served(host, &["friend.example"], &[]));
            assert!(is_served(host, &["other.example", "FRIEND.example:81"], &[]));
            assert!(is_served(host, &["*"], &[]));
            assert!(is_served(host, &[], &["https://friend.example"]));
            assert!(is_served(host, &[], &["https://other.example", "http://friend.example:81/"]));
            assert!(is_served(host, &[], &["*"]));
        }
        assert!(!is_served("not.friend.example", &["friend.example", ""], &["https://friend.example", "nonsense", ""]));
    }

    #[test]
    fn a_second_host_and_a_target_with_one_are_looked_at_too() {
        let error = check(&request(&["localhost", "evil.example"]), &Hosts::default()).unwrap_err().to_string();
        assert!(error.contains("evil.example") && error.contains("--allowed-host"), "{error}");
        let mut request = request(&["localhost"]);
        *request.uri_mut() = "http://evil.example/".parse().unwrap();
        assert!(check(&request, &Hosts::default()).is_err());
    }
}
