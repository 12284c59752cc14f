//! STUN and TURN servers in `Link` headers (RFC 8288, RFC 9725 4.6).
//!
//! Pure.

/// A server that helps to find a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IceLink {
    /// `stun:host:port`, `turn:host:port?transport=tcp` and their like.
    pub(crate) url: String,
    /// User and password of a TURN server.
    pub(crate) credentials: Option<(String, String)>,
}

impl IceLink {
    /// As webrtcbin wants it: `stun://host:port`, `turn://user:password@host:port`, the two escaped. `None` if it is neither.
    pub(crate) fn for_webrtcbin(&self) -> Option<String> {
        let (scheme, place) = self.url.split_once(':')?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:[]?=".contains(letter);
        if place.is_empty() || !place.chars().all(is_plain) {
            return None;
        }
        match (scheme, &self.credentials) {
            ("stun", _) => Some(format!("stun://{place}")),
            ("turn" | "turns", Some((user, password))) => {
                Some(format!("{scheme}://{}:{}@{place}", escaped(user), escaped(password)))
            }
            _ => None,
        }
    }
}

/// RFC 3986, 2.1.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// The ICE servers of a header's value, which may hold several links.
pub(super) fn ice_servers(value: &str) -> Vec<IceLink> {
    split(value, ',').into_iter().filter_map(ice_server).collect()
}

fn ice_server(link: &str) -> Option<IceLink> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let (mut rel, mut user, mut credential) = (None, None, None);
    for parameter in split(parameters, ';') {
        let Some((name, value)) = parameter.trim().split_once('=') else { continue };
        let value = unquoted(value.trim());
        match name.trim().to_ascii_lowercase().as_str() {
            "rel" => rel = Some(value),
            "username" => user = Some(value),
            "credential" => credential = Some(value),
            _ => {}
        }
    }
    let is_ice_server = rel.is_some_and(|rel| rel.split_ascii_whitespace().any(|kind| kind == "ice-server"));
    is_ice_server.then(|| IceLink { url: url.trim().to_owned(), credentials: user.zip(credential) })
}

fn unquoted(value: &str) -> String {
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut is_escaped = false;
    let keep = |letter: &char| {
        is_escaped = !is_escaped && *letter == '\\';
        !is_escaped
    };
    quoted.chars().filter(keep).collect()
}

/// Splits at a separator that stands neither between quotes nor between angle brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begins) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped, mut is_url) = (false, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if std::mem::take(&mut is_escaped) => {}
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '<' if !is_quoted => is_url = true,
            '>' if !is_quoted => is_url = false,
            letter if letter == separator && !is_quoted && !is_url => {
                parts.extend(text.get(begins..at));
                begins = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.extend(text.get(begins..));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_the_rfc_are_read_and_others_are_not_taken() {
        let value = "<stun:stun.example.net>; rel=\"ice-server\", <turn:t.example.net?transport=udp>; rel=ice-server; \
                     username=\"a,b;c\"; credential=\"p\\\"w\\\\\"; credential-type=\"password\", <https://x/y>; rel=next";
        let found = ice_servers(value);
        let urls: Vec<&str> = found.iter().map(|link| link.url.as_str()).collect();
        assert_eq!(urls, ["stun:stun.example.net", "turn:t.example.net?transport=udp"]);
        assert_eq!(found[1].credentials, Some(("a,b;c".to_owned(), "p\"w\\".to_owned())));
        assert_eq!(found[0].for_webrtcbin().unwrap(), "stun://stun.example.net");
        let turn = "turn://a%2Cb%3Bc:p%22w%5C@t.example.net?transport=udp";
        assert_eq!(found[1].for_webrtcbin().unwrap(), turn);
    }

    #[test]
    fn whatever_a_header_holds_is_read_without_harm() {
        for value in ["", "<", "<>", "<a>;rel", "<a>;rel=\"", "\"", "<a>;rel=\"ice-server\\", "ä<ü>;rel=ice-server"] {
            assert!(ice_servers(value).len() < 2, "{value}");
        }
        let link = |url: &str| IceLink { url: url.to_owned(), credentials: None }.for_webrtcbin();
        for url in ["turn:h:1", "http://h", "stun:", "stun:h\" name=x", "stun"] {
            assert_eq!(link(url), None, "{url}");
        }
    }
}
