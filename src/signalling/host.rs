//! Which names a server that listens on this machine only answers to.
//!
//! The owner of a page may let its own name resolve to 127.0.0.1 (DNS rebinding). A browser then takes that page and a
//! server here for one origin, and nothing tells them apart but the `Host` header, which holds the foreign name.
//! In here: that header. Not in here: pages of another origin that open the WebSocket (`handshake`).

use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};

use super::protocol::clipped;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this server answers to localhost, 127.0.0.1 and [::1], not to {given:?}: open it by one of these, or name the page's \
     origin in the configuration (allowed_origins)"
)]
pub struct ForeignHost {
    given: String,
}

/// Checks the `Host` of a request to a server that is bound to a loopback address. A proxy in front may pass its own
/// name on: the hosts of allowed origins are let in too. A request without `Host` is not a browser's.
pub fn check(headers: &HeaderMap, allowed_origins: &[String]) -> Result<(), ForeignHost> {
    let is_allowed = |host: &str| is_loopback(host) || allowed_origins.iter().any(|origin| is_host_of(origin, host));
    match headers.get_all(HOST).iter().find(|value| !value.to_str().is_ok_and(is_allowed)) {
        Some(foreign) => Err(ForeignHost { given: clipped(&String::from_utf8_lossy(foreign.as_bytes()), 100) }),
        None => Ok(()),
    }
}

fn is_loopback(host: &str) -> bool {
    let Some(name) = name_of(host) else { return false };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_host_of(origin: &str, host: &str) -> bool {
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    origin == "*" || matches!((uri.host(), name_of(host)), (Some(own), Some(name)) if own.eq_ignore_ascii_case(&name))
}

/// Without the port.
fn name_of(host: &str) -> Option<String> {
    let authority: Authority = host.parse().ok()?;
    (!host.contains('@')).then(|| authority.host().to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_served(host: &str, allowed: &[&str]) -> bool {
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap())]);
        let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
        check(&headers, &allowed).is_ok()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "127.0.0.2:1", "[::1]", "[::1]:8080"]
        {
            assert!(is_served(own, &[]), "{own} is turned away");
        }
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8080",
            "192.0.2.1",
            "evil.example@localhost",
            "localhost@evil.example",
            "[::2]:8080",
            "0.0.0.0:8080",
            "",
            ":8080",
            "local host",
            "localhost:8080:8080",
            "ev\u{ef}l",
        ] {
            assert!(!is_served(foreign, &[]), "{foreign:?} is let in");
            assert!(!is_served(foreign, &["https://friend.example"]), "{foreign:?} is let in");
        }
        assert!(check(&HeaderMap::new(), &[]).is_ok(), "no browser leaves it out");
    }

    #[test]
    fn the_hosts_of_allowed_origins_are_answered_whatever_their_port() {
        for host in ["friend.example", "Friend.Example:8080"] {
            assert!(is_served(host, &["https://friend.example"]));
            assert!(is_served(host, &["https://other.example", "http://friend.example:81/"]));
            assert!(is_served(host, &["*"]));
        }
        assert!(!is_served("not.friend.example", &["https://friend.example", "nonsense", ""]));
    }

    #[test]
    fn a_second_host_is_looked_at_too() {
        let both = [(HOST, HeaderValue::from_static("localhost")), (HOST, HeaderValue::from_static("evil.example"))];
        let headers = HeaderMap::from_iter(both);
        let error = check(&headers, &[]).unwrap_err().to_string();
        assert!(error.contains("evil.example") && error.contains("allowed_origins"), "{error}");
    }
}
