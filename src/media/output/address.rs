//! Which addresses an output may be pushed to, and how much of one may be shown.
//!
//! In here: schemes, the characters and the options that are taken, hiding keys. Addresses come from whoever may use the API,
//! and end up between double quotes in a description. Pure. Sources: RFC 3986; SRT Access Control, "Stream ID"; the options
//! of GStreamer's srtsink.

use url::Url;

use crate::session::OutputKind;

/// Longest address, in bytes; with a long stream key one has 300.
const LONGEST: usize = 2048;
/// What may be said of an SRT connection in its address: nothing that listens, binds or reads files here.
const SRT_OPTIONS: [&str; 6] = ["streamid", "passphrase", "pbkeylen", "latency", "mode", "maxbw"];
/// A listener that does not answer is given up after this many milliseconds, so that another one is met soon.
const SRT_PATIENCE: [(&str, &str); 2] = [("conntimeo", "1500"), ("peeridletimeo", "1500")];

/// Why an address is not taken; without the address, which may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// It is for kinds that are pushed alone.
    #[error("url: this kind is not pushed anywhere, leave it out")]
    NotPushed,
    /// There is none.
    #[error("url: it is missing: say where to push, such as rtmp://host/app/key or srt://host:port")]
    Missing,
    /// It cannot be one.
    #[error("url: it is no address of at most {LONGEST} plain characters")]
    Unreadable,
    /// It is of another kind.
    #[error("url: its scheme has to be {0}")]
    Scheme(&'static str),
    /// It names no host, or no port where one is needed.
    #[error("url: it names {0}")]
    Incomplete(&'static str),
    /// It says something that is not taken.
    #[error("url: of its options only streamid, passphrase, pbkeylen, latency, maxbw and mode=caller are taken")]
    Option,
}

/// An address that may be used, what may be shown of it, and what must not be.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it is put into the description.
    pub(crate) url: String,
    /// Its scheme and host.
    pub(crate) shown: String,
    /// Parts that may be secret; anything that is told has them left out.
    pub(crate) secrets: Vec<String>,
}

/// Checks an address for a kind of output.
pub(crate) fn check_address(kind: OutputKind, url: Option<&str>) -> Result<Address, AddressError> {
    let (schemes, told): (&[&str], _) = match kind {
        OutputKind::Rtmp => (&["rtmp", "rtmps"], "rtmp or rtmps"),
        OutputKind::Srt => (&["srt"], "srt"),
        OutputKind::Hls | OutputKind::Record | OutputKind::V4l2 => return Err(AddressError::NotPushed),
    };
    let given = url.ok_or(AddressError::Missing)?;
    // Quotes, backslashes and spaces have a meaning in descriptions, and none in an address.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>^`|".contains(&byte);
    if given.len() > LONGEST || !given.bytes().all(is_plain) {
        return Err(AddressError::Unreadable);
    }
    let mut parsed = Url::parse(given).map_err(|_| AddressError::Unreadable)?;
    if !schemes.contains(&parsed.scheme()) {
        return Err(AddressError::Scheme(told));
    }
    let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::Incomplete("no host"))?;
    let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
    let shown = format!("{}://{host}{port}", parsed.scheme());
    let mut secrets = vec![given.to_owned()];
    secrets.extend([parsed.path().trim_start_matches('/'), parsed.username()].map(str::to_owned));
    secrets.extend(parsed.path_segments().and_then(|mut segments| segments.next_back()).map(str::to_owned));
    secrets.extend(parsed.password().into_iter().chain(parsed.query()).map(str::to_owned));
    secrets.extend(parsed.query_pairs().map(|(_, value)| value.into_owned()));
    let url = match kind {
        OutputKind::Srt => {
            if parsed.port().is_none() {
                return Err(AddressError::Incomplete("no port"));
            }
            let is_taken =
                |name: &str, value: &str| SRT_OPTIONS.contains(&name) && (name != "mode" || value == "caller");
            if !parsed.query_pairs().all(|(name, value)| is_taken(&name, &value)) {
                return Err(AddressError::Option);
            }
            for (name, value) in SRT_PATIENCE {
                parsed.query_pairs_mut().append_pair(name, value);
            }
            parsed.to_string()
        }
        _ if parsed.path_segments().is_none_or(|segments| segments.filter(|part| !part.is_empty()).count() < 2) => {
            return Err(AddressError::Incomplete("no application and stream, as in rtmp://host/app/key"));
        }
        _ => given.to_owned(),
    };
    secrets.push(url.clone());
    // The longest first, so that none is left of one that holds another; short ones would blot out words.
    secrets.retain(|secret| secret.len() >= 4);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    Ok(Address { url, shown, secrets })
}

/// A message without what must not be shown.
pub(super) fn without(secrets: &[String], message: &str) -> String {
    secrets.iter().fold(message.to_owned(), |message, secret| message.replace(secret.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: OutputKind, url: &str) -> Result<Address, AddressError> {
        check_address(kind, Some(url))
    }

    #[test]
    fn addresses_of_the_kinds_schemes_are_taken_and_show_their_host_alone() {
        let rtmp = check(OutputKind::Rtmp, "rtmps://user:word@live.example.org:443/app/sk-secret?t=token").unwrap();
        assert_eq!(rtmp.shown, "rtmps://live.example.org:443");
        assert_eq!(rtmp.url, "rtmps://user:word@live.example.org:443/app/sk-secret?t=token");
        let told =
            without(&rtmp.secrets, &format!("Could not open {}: sk-secret of app/sk-secret, token, word", rtmp.url));
        for secret in ["sk-secret", "token", "word"] {
            assert!(!told.contains(secret), "{told}");
        }
        let srt = check(OutputKind::Srt, "srt://[::1]:9000?streamid=publish:a&passphrase=0123456789").unwrap();
        assert_eq!(srt.shown, "srt://[::1]:9000");
        assert!(srt.url.contains("peeridletimeo=1500") && srt.secrets.iter().any(|secret| secret == "0123456789"));
        let rtmp = check(OutputKind::Rtmp, "rtmp://10.0.0.1/live/stream").unwrap();
        assert_eq!(rtmp.shown, "rtmp://10.0.0.1");
    }

    #[test]
    fn other_schemes_quotes_and_options_that_open_something_here_are_refused() {
        for (kind, url, error) in [
            (OutputKind::Rtmp, "file:///etc/passwd", AddressError::Scheme("rtmp or rtmps")),
            (OutputKind::Rtmp, "srt://h:1", AddressError::Scheme("rtmp or rtmps")),
            (OutputKind::Srt, "rtmp://h/a/b", AddressError::Scheme("srt")),
            (OutputKind::Rtmp, "rtmp://h/a/b\" ! filesink location=\"/tmp/x", AddressError::Unreadable),
            (OutputKind::Rtmp, "rtmp://h/a/b live=1", AddressError::Unreadable),
            (OutputKind::Rtmp, "rtmp://h/a/b\\", AddressError::Unreadable),
            (OutputKind::Rtmp, "rtmp:///a/b", AddressError::Incomplete("no host")),
            (
                OutputKind::Rtmp,
                "rtmp://h/app",
                AddressError::Incomplete("no application and stream, as in rtmp://host/app/key"),
            ),
            (OutputKind::Srt, "srt://h", AddressError::Incomplete("no port")),
            (OutputKind::Srt, "srt://h:1?mode=listener", AddressError::Option),
            (OutputKind::Srt, "srt://h:1?localaddress=0.0.0.0", AddressError::Option),
            (OutputKind::Record, "rtmp://h/a/b", AddressError::NotPushed),
        ] {
            assert_eq!(check(kind, url).err(), Some(error), "{url}");
        }
        assert_eq!(
            check(OutputKind::Rtmp, &format!("rtmp://h/a/{}", "b".repeat(3000))).err(),
            Some(AddressError::Unreadable)
        );
        assert_eq!(check_address(OutputKind::Srt, None).err(), Some(AddressError::Missing));
    }
}
