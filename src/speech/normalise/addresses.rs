//! Addresses as they are said: of a web address its host, of a mail address its words, of a path its names.
//!
//! In here: one word. Not in here: addresses of the Internet's numbers (`identifiers`). Pure.

/// Ends of hosts that are written without a scheme.
const ENDS: &[&str] = &[
    "com", "org", "net", "edu", "gov", "io", "ai", "dev", "app", "co", "uk", "de", "fr", "es", "nl", "eu", "ch", "pl",
    "se", "jp", "cn", "au", "ca", "info", "biz", "tv", "gg", "rs", "so", "ly", "be", "fm", "xyz",
];

/// The host of a web address, or of what begins like one.
pub(super) fn host(word: &str) -> Option<&str> {
    let lower = word.get(..8).unwrap_or(word).to_ascii_lowercase();
    let scheme = ["https://", "http://", "ftp://", "ws://", "wss://"].iter().find(|scheme| lower.starts_with(**scheme));
    let rest = match scheme {
        Some(scheme) => &word[scheme.len()..],
        None if lower.starts_with("www.") => word,
        None => return None,
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = host.split(':').next().unwrap_or(host);
    let host = host.strip_prefix("www.").unwrap_or(host);
    host.contains(char::is_alphanumeric).then_some(host)
}

/// An address in English words.
pub(super) fn said(word: &str) -> Option<String> {
    if let Some(host) = host(word) {
        return Some(dotted(host));
    }
    let mail = word.strip_prefix("mailto:").unwrap_or(word);
    if let Some((user, domain)) = mail.split_once('@') {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        let is_mail = !user.is_empty() && domain.contains('.') && user.chars().chain(domain.chars()).all(plain);
        return is_mail.then(|| format!("{} at {}", dotted(user), dotted(domain)));
    }
    path(word).or_else(|| bare_host(word))
}

fn dotted(text: &str) -> String {
    text.replace('.', " dot ").replace('_', " underscore ").replace('+', " plus ").replace('-', " dash ")
}

/// `example.com/foo`
fn bare_host(word: &str) -> Option<String> {
    let host = word.split(['/', '?', '#', ':']).next().unwrap_or(word);
    let (name, end) = host.rsplit_once('.')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_host = ENDS.contains(&end.to_ascii_lowercase().as_str())
        && name.chars().all(plain)
        && !name.starts_with('.')
        && name.split('.').all(|part| part.len() > 1 || host.len() < word.len())
        && name.contains(|c: char| c.is_ascii_alphabetic());
    is_host.then(|| dotted(host))
}

/// `C:\Users\me\file.txt`, `/usr/local/bin`, `~/x.tar.gz`, `../src/lib.rs`
fn path(word: &str) -> Option<String> {
    let is_drive = word.as_bytes().get(1..3) == Some(b":\\") && word.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_share = word.starts_with("\\\\") && word.len() > 3;
    let is_unix = ["/", "~/", "./", "../"].iter().any(|start| word.starts_with(start)) && word.len() > 2;
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '\\' | '.' | '-' | '_' | '~' | ':' | '*' | '+');
    if !(is_drive || is_share || is_unix) || !word.chars().all(plain) || !word.contains(|c: char| c.is_alphabetic()) {
        return None;
    }
    let names = word.split(['/', '\\']).filter(|name| !name.is_empty() && *name != "." && *name != "..");
    let name = |name: &str| {
        let (dot, name) = name.strip_prefix('.').map_or(("", name), |name| ("dot ", name));
        format!("{dot}{}", name.trim_end_matches(':').replace('.', " dot ").replace(['_', '-', '~', '*'], " "))
    };
    let sign = if is_unix { " slash " } else { " backslash " };
    let start = if word.starts_with('/') { "slash " } else { "" };
    Some(format!("{start}{}", names.map(name).collect::<Vec<_>>().join(sign)))
}
