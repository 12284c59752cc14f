//! How viewers and the server reach each other: STUN and TURN servers, credentials, and addresses to be told.
//!
//! In here: what the settings say, checked, as browsers and as webrtcbin are given it. Secrets are in neither logs nor errors.
//! Not in here: the one port itself (`media::one_port`).

use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::ConfigError;
use crate::media::IceConfig;
use crate::session::IceServer;

/// The secret that is shared with a TURN server, instead of the file's.
pub(super) const SECRET_VARIABLE: &str = "MOUTHPIECE_TURN_SECRET";

/// How long credentials made of the secret are good for: longer than anybody watches. A client that connects anew gets others.
const CREDENTIALS_S: u64 = 12 * 3600;

/// Servers that help peers to reach each other, and what viewers are told of this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ice {
    /// `stun:host:port`
    pub(crate) stun: Option<String>,
    /// `turn:user:password@host:port`, without user and password where there is a secret.
    pub(crate) turn: Option<String>,
    /// What browsers are given instead of `turn`'s address.
    pub(crate) turn_urls: Vec<String>,
    /// Makes credentials that end (coturn's `use-auth-secret`).
    pub(crate) turn_secret: Option<Secret>,
    /// Whether browsers may connect by TURN only.
    pub(crate) relay_only: bool,
    /// Whether viewers' candidates with private addresses are not used.
    pub(crate) without_private: bool,
    /// Whether those with loopback addresses are: all viewers are on this machine.
    pub(crate) on_loopback: bool,
    /// Addresses that viewers are told instead of the machine's own.
    pub(crate) external: Vec<IpAddr>,
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("(not shown)")
    }
}

/// A TURN URL apart.
struct Turn<'a> {
    /// `turn` or `turns`
    scheme: &'a str,
    /// User and password.
    credentials: Option<(&'a str, &'a str)>,
    /// `host:port`, with a query if there is one.
    place: &'a str,
}

impl Ice {
    /// As far as it is about servers.
    pub(super) fn new(
        stun: Option<String>,
        turn: Option<String>,
        turn_urls: Vec<String>,
        turn_secret: Option<String>,
        relay_only: bool,
    ) -> Result<Self, ConfigError> {
        let hidden = || "(not shown, it may hold a password)".to_owned();
        let shown = |url: &str| if url.contains('@') { hidden() } else { url.to_owned() };
        if let Some(url) = stun.as_deref().filter(|url| address_of(url, "stun:").is_none()) {
            return Err(ConfigError::Ice { field: "stun", given: shown(url), example: "stun:host:port" });
        }
        let turn_secret = turn_secret.map(Secret);
        if turn_secret.as_ref().is_some_and(|secret| secret.0.is_empty()) {
            let (field, given) = ("turn_secret", String::new());
            return Err(ConfigError::Entry { field, given, wanted: "static-auth-secret of the TURN server" });
        }
        let ice = Self { stun, turn, turn_urls, turn_secret, relay_only, ..Self::default() };
        let is_usable = |turn: &Turn<'_>| turn.credentials.is_some() || ice.turn_secret.is_some();
        if ice.turn.is_some() && !ice.turn().is_some_and(|turn| is_usable(&turn)) {
            let example = "turn:user:password@host:port, or turn:host:port beside turn_secret";
            return Err(ConfigError::Ice { field: "turn", given: hidden(), example });
        }
        if let Some(url) = ice.turn_urls.iter().find(|url| !is_turn_url(url)) {
            let example = "turn:host:port, turn:host:port?transport=tcp or turns:host:port, without a user";
            return Err(ConfigError::Ice { field: "turn_urls", given: shown(url), example });
        }
        let has_credentials = ice.turn_secret.is_some() || ice.turn().is_some_and(|turn| turn.credentials.is_some());
        if !ice.turn_urls.is_empty() && !has_credentials {
            let (field, given) = ("turn_urls", ice.turn_urls.join(", "));
            return Err(ConfigError::Entry { field, given, wanted: "of use without turn_secret, or a user in turn" });
        }
        if relay_only && ice.turn.is_none() && ice.turn_urls.is_empty() {
            let (field, given) = ("relay_only", "true".to_owned());
            return Err(ConfigError::Entry { field, given, wanted: "possible without turn or turn_urls" });
        }
        Ok(ice)
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let (scheme, rest) = self.turn.as_deref()?.split_once(':')?;
        let rest = rest.trim_start_matches("//");
        let (credentials, place) = match rest.rsplit_once('@') {
            Some((credentials, place)) => {
                let (user, password) = credentials.split_once(':')?;
                (Some((user, password)), place)
            }
            None => (None, rest),
        };
        let is_whole = credentials.is_none_or(|(user, password)| !user.is_empty() && !password.is_empty());
        let is_turn = matches!(scheme, "turn" | "turns") && is_place(place, true);
        (is_whole && is_turn).then_some(Turn { scheme, credentials, place })
    }

    /// User and password for a TURN server, from now on.
    fn credentials(&self) -> Option<(String, String)> {
        if let Some(secret) = &self.turn_secret {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            return rest_credentials(secret, now + CREDENTIALS_S);
        }
        let (user, password) = self.turn()?.credentials?;
        Some((user.to_owned(), password.to_owned()))
    }

    /// Whether every browser is given one and the same password of the TURN server's, which never ends.
    pub(crate) fn gives_lasting_password(&self) -> bool {
        self.turn_secret.is_none() && self.credentials().is_some()
    }

    /// `host:port` of the STUN server.
    pub(crate) fn stun_server(&self) -> Option<String> {
        address_of(self.stun.as_deref()?, "stun:").map(str::to_owned)
    }

    /// For webrtcbin, which wants `stun://` and `turn://`.
    pub(crate) fn for_webrtcbin(&self) -> IceConfig {
        let stun = self.stun.as_deref().and_then(|url| url.strip_prefix("stun:"));
        // What is typed is in a URL's own spelling already.
        let turn = self.turn().and_then(|turn| {
            let credentials = match &self.turn_secret {
                Some(_) => self.credentials().map(|(user, password)| (encoded(&user), encoded(&password))),
                None => turn.credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            };
            let (user, password) = credentials?;
            Some(format!("{}://{user}:{password}@{}", turn.scheme, turn.place))
        });
        IceConfig {
            stun: stun.map(|place| format!("stun://{}", place.trim_start_matches('/'))),
            turn,
            private: !self.without_private,
            loopback: self.on_loopback,
            local_addresses: Vec::new(),
            external: self.external.clone(),
            one_port: None,
        }
    }

    /// What the page gives its RTCPeerConnection.
    pub(crate) fn servers(&self) -> Vec<IceServer> {
        let stun = self.stun.iter().map(|url| IceServer { urls: vec![url.clone()], username: None, credential: None });
        let urls = match self.turn_urls.is_empty() {
            true => self.turn().map(|turn| format!("{}:{}", turn.scheme, turn.place)).into_iter().collect(),
            false => self.turn_urls.clone(),
        };
        let turn = self.credentials().filter(|_| !urls.is_empty());
        let turn = turn.map(|(user, password)| IceServer { urls, username: Some(user), credential: Some(password) });
        stun.chain(turn).collect()
    }
}

/// As coturn's REST scheme has it (draft-uberti-behave-turn-rest-00): a name with the time at which it ends, in seconds of
/// Unix, and as password the Base64 of the name's HMAC-SHA1 by the secret.
fn rest_credentials(secret: &Secret, ends: u64) -> Option<(String, String)> {
    let user = format!("{ends}:mouthpiece");
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.0.as_bytes()).ok()?;
    mac.update(user.as_bytes());
    let password = STANDARD.encode(mac.finalize().into_bytes());
    Some((user, password))
}

/// As it has to be within a URL's user and password.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// As RFC 7065 has it: without a user, and the port may be left out.
fn is_turn_url(url: &str) -> bool {
    let place = url.strip_prefix("turn:").or_else(|| url.strip_prefix("turns:"));
    place.is_some_and(|place| !place.contains('@') && is_place(place, false))
}

/// `host:port`, with `?transport=udp` or `tcp` or without.
fn is_place(place: &str, needs_port: bool) -> bool {
    let (place, query) = place.split_once('?').map_or((place, None), |(place, query)| (place, Some(query)));
    let is_host = |host: &str| {
        let is_v6 = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        is_v6 || !host.is_empty() && host.bytes().all(is_name)
    };
    let is_whole = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0),
        None => !needs_port && is_host(place),
    };
    is_whole && matches!(query, None | Some("transport=udp" | "transport=tcp"))
}

/// The `host:port` of a STUN URL.
fn address_of<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let address = url.strip_prefix(scheme)?.trim_start_matches("//");
    let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
    let (host, port) = address.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(turn: Option<&str>, urls: &[&str], secret: Option<&str>) -> Result<Ice, ConfigError> {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Ice::new(None, turn.map(str::to_owned), urls, secret.map(str::to_owned), false)
    }

    #[test]
    fn a_turn_password_goes_to_the_page_and_never_into_an_error() {
        let ice = turn(Some("turn:u:secret@turn.example.org:3478"), &[], None).unwrap();
        let servers = ice.servers();
        assert!(ice.gives_lasting_password() && !turn(None, &[], None).unwrap().gives_lasting_password());
        assert_eq!(servers[0].urls, ["turn:turn.example.org:3478"]);
        assert_eq!(servers[0].credential.as_deref(), Some("secret"));
        assert_eq!(ice.for_webrtcbin().turn.as_deref(), Some("turn://u:secret@turn.example.org:3478"));
        for wrong in ["turn:u:secret@turn.example.org", "turn:secret@h:1", "http:u:secret@h:1", "turn::secret@h:1"] {
            let error = turn(Some(wrong), &[], None).unwrap_err().to_string();
            assert!(error.contains("turn") && !error.contains("secret@"), "{error}");
        }
        let error = turn(None, &["turn:u:hidden@h:1"], Some("s")).unwrap_err().to_string();
        assert!(error.contains("turn_urls") && !error.contains("hidden"), "{error}");
    }

    /// Made by OpenSSL: `printf 1767225600:mouthpiece | openssl dgst -sha1 -hmac north -binary | base64`.
    #[test]
    fn credentials_of_a_secret_are_coturn_s() {
        let (user, password) = rest_credentials(&Secret("north".into()), 1_767_225_600).unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("1767225600:mouthpiece", "IR72XTjxs3gPFQPfdR5ksV20QGc="));
    }

    #[test]
    fn with_a_secret_browsers_get_names_that_end_and_all_urls_and_the_secret_is_nowhere() {
        let urls = ["turn:h:3478?transport=udp", "turn:h:3478?transport=tcp", "turns:[2001:db8::1]:5349", "turns:h"];
        let ice = turn(Some("turn:h:3478"), &urls, Some("north")).unwrap();
        let servers = ice.servers();
        assert!(!ice.gives_lasting_password());
        assert_eq!(servers.len(), 1);
        assert_eq!(servers[0].urls, urls);
        let user = servers[0].username.clone().unwrap();
        let ends: u64 = user.strip_suffix(":mouthpiece").unwrap().parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((now + CREDENTIALS_S - 60..=now + CREDENTIALS_S).contains(&ends));
        let password = rest_credentials(&Secret("north".into()), ends).unwrap().1;
        assert_eq!(servers[0].credential, Some(password));
        let ours = ice.for_webrtcbin().turn.unwrap();
        assert!(ours.starts_with("turn://") && ours.contains("%3Amouthpiece:") && ours.ends_with("@h:3478"), "{ours}");
        assert!(!format!("{ice:?} {servers:?} {ours}").contains("north"));
        // Without URLs of their own browsers get the server's.
        assert_eq!(turn(Some("turn:h:3478"), &[], Some("north")).unwrap().servers()[0].urls, ["turn:h:3478"]);
    }

    #[test]
    fn what_could_not_work_is_refused_by_name() {
        let error = |ice: Result<Ice, ConfigError>| ice.unwrap_err().to_string();
        assert!(error(turn(None, &["turn:h:1"], None)).contains("turn_secret"));
        assert!(error(turn(Some("turn:h:1"), &[], None)).contains("turn_secret"));
        assert!(error(turn(None, &[], Some(""))).contains("turn_secret"));
        for odd in
            ["turn:", "turn:h:x", "turn:h:0", "turn:h:1?transport=sctp", "stun:h:1", "turn:a b:1", "turn:[::x]:1"]
        {
            assert!(error(turn(None, &[odd], Some("s"))).contains("turn_urls"), "{odd}");
        }
        assert!(error(Ice::new(None, None, Vec::new(), Some("s".into()), true)).contains("relay_only"));
        assert!(Ice::new(None, Some("turns:u:p@h:5349?transport=tcp".into()), Vec::new(), None, true).is_ok());
    }
}
