//! Where an endpoint is: what is accepted as its address, where a path of it lies, and how it wants its key.
//!
//! In here: base addresses with and without `/v1`, with the whole path already, and Azure's, whose version is a query.
//! Pure. Source: Azure OpenAI REST API reference, "Authentication" and "REST API versioning".

use reqwest::Url;

/// Queries by which keys are sent; what a query says may be logged by every proxy on the way.
const SECRETS: [&str; 12] = [
    "key",
    "apikey",
    "token",
    "accesstoken",
    "auth",
    "authorization",
    "secret",
    "password",
    "sig",
    "signature",
    "code",
    "subscriptionkey",
];
/// Hosts of Azure's clouds.
const AZURE: [&str; 5] = [".azure.com", ".azure.us", ".azure.cn", ".azure-api.net", ".azure-api.us"];

/// Says what is wrong with an endpoint's address.
pub(crate) fn check_url(url: &str) -> Result<(), &'static str> {
    check(url, &["http", "https"])
}

/// The same of a WebSocket's, which is not encrypted.
pub(crate) fn check_socket_url(url: &str) -> Result<(), &'static str> {
    check(url, &["ws"])
}

fn check(url: &str, schemes: &[&str]) -> Result<(), &'static str> {
    let url = Url::parse(url).map_err(|_| "is not a URL")?;
    if !schemes.contains(&url.scheme()) || url.host().is_none() {
        return Err("has no host or is not of the web");
    }
    let is_secret = |name: &str| {
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        SECRETS.contains(&name.as_str()) || name.ends_with("apikey") || name.ends_with("subscriptionkey")
    };
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query_pairs().any(|(name, value)| is_secret(&name) || value.starts_with("sk-"))
    {
        return Err("holds a key or other credentials: they belong into the environment or a key file");
    }
    Ok(())
}

/// An address without its query, for logs.
pub(crate) fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// How a key is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyHeader {
    /// `Authorization: Bearer ...`
    Bearer,
    /// `api-key: ...`
    ApiKey,
    Both,
}

/// One path of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) url: String,
    /// Where it is if it is not there.
    pub(super) other: Option<String>,
    pub(super) key_header: KeyHeader,
}

impl Address {
    /// `base` is such as `http://127.0.0.1:8080/v1`; `path` goes behind it unless it is there already.
    pub(super) fn new(base: &str, path: &str) -> Result<Self, String> {
        let mut url = Url::parse(base.trim()).map_err(|_| "its address is not a URL".to_owned())?;
        url.set_fragment(None);
        let has_version = url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("api-version"));
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let is_azure = AZURE.iter().any(|domain| host.ends_with(domain));
        let folder = url.path().trim_end_matches('/').to_owned();
        let at = |url: &Url, path: &str| {
            let mut url = url.clone();
            url.set_path(path);
            url.to_string()
        };
        let (first, other) = match folder.as_str() {
            "" if is_azure && !has_version => (format!("/openai/v1/{path}"), None),
            // Most servers have it below /v1, some at their root only, many at both.
            "" => (format!("/v1/{path}"), Some(format!("/{path}"))),
            folder if folder.ends_with(&format!("/{path}")) => (folder.to_owned(), None),
            folder => (format!("{folder}/{path}"), None),
        };
        let key_header = match (is_azure, has_version) {
            // Azure takes a bearer for a token of its directory and refuses a key there.
            (true, _) => KeyHeader::ApiKey,
            // A gateway in front of Azure: some want the one, some the other, and each passes over what it does not know.
            (false, true) => KeyHeader::Both,
            (false, false) => KeyHeader::Bearer,
        };
        Ok(Self { url: at(&url, &first), other: other.map(|other| at(&url, &other)), key_header })
    }
}

/// A proxy that the environment names is not for this machine.
pub(super) fn is_local(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_goes_behind_whatever_base_is_given() {
        let path = "chat/completions";
        for (base, url) in [
            ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1/v1//", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1/v1/chat/completions", "http://127.0.0.1:1/v1/chat/completions"),
            ("http://127.0.0.1:1/chat/completions/", "http://127.0.0.1:1/chat/completions"),
            ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
            ("https://h/api?x=a%20b#part", "https://h/api/chat/completions?x=a%20b"),
            (
                "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
                "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
            (
                "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
                "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
            (
                "https://r.services.ai.azure.com/models/?api-version=1",
                "https://r.services.ai.azure.com/models/chat/completions?api-version=1",
            ),
            ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1/chat/completions"),
        ] {
            assert_eq!(Address::new(base, path).unwrap().url, url, "{base}");
        }
        let other = |base| Address::new(base, path).unwrap().other;
        assert_eq!(other("http://h:1?x=1"), Some("http://h:1/chat/completions?x=1".to_owned()));
        assert_eq!(other("http://h:1/v1"), None);
    }

    #[test]
    fn azure_gets_its_key_as_it_wants_it() {
        for (base, header) in [
            ("https://api.example.org/v1", KeyHeader::Bearer),
            ("https://r.openai.azure.com/openai/deployments/d?api-version=1", KeyHeader::ApiKey),
            ("https://R.OpenAI.Azure.com/openai/v1", KeyHeader::ApiKey),
            ("https://notazure.com/v1", KeyHeader::Bearer),
            ("http://127.0.0.1:1/openai/deployments/d?api-version=1", KeyHeader::Both),
        ] {
            assert_eq!(Address::new(base, "chat/completions").unwrap().key_header, header, "{base}");
        }
    }

    #[test]
    fn an_address_with_credentials_in_it_is_refused() {
        for good in [
            "http://127.0.0.1:8080/v1",
            "https://api.example.org/v1/",
            "http://[::1]:1",
            "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        assert_eq!(check_socket_url("ws://127.0.0.1:9000/speak"), Ok(()));
        assert!(check_socket_url("wss://h/speak").is_err() && check_socket_url("ws://h/speak?key=k").is_err());
        for bad in [
            "",
            "localhost:8080",
            "ftp://h/v1",
            "http://u:p@h/v1",
            "http://h/v1?key=k",
            "/v1",
            "http://h/v1?api-key=k",
            "http://h/v1?api-version=1&Ocp-Apim-Subscription-Key=k",
            "http://h/v1?access_token=k",
            "http://h/v1?x=sk-abc",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert_eq!(shown("http://h/v1?api-version=1"), "http://h/v1");
    }
}
