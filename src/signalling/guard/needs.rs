//! What each route needs of a token. One without a line here is refused to everybody, as soon as tokens are asked for.

use axum::http::Method;

use crate::access::Permission::{self, Administer, Avatars, Converse, Speak, View};
use crate::signalling::page_files;

/// What a request has to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: there is nothing of anybody's in the answer.
    Nothing,
    /// What its handshake or its first message brings (`guard::door`).
    Socket,
    /// A token that allows one of these.
    AnyOf(&'static [Permission]),
}

use Need::{AnyOf, Nothing, Socket};

const SAYS: Need = AnyOf(&[Speak, Converse]);
const WATCHES: Need = AnyOf(&[View]);
const MAKES: Need = AnyOf(&[Avatars]);
const OPERATES: Need = AnyOf(&[Administer]);

/// Methods and paths, besides the page's files, which need nothing.
const ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/healthz", Nothing),
    ("GET", "/readyz", Nothing),
    ("GET", "/metrics", OPERATES),
    ("GET", "/ws", Socket),
    ("GET", "/api/openapi.json", Nothing),
    ("POST", "/api/sessions", SAYS),
    ("GET", "/api/sessions/{id}", WATCHES),
    ("DELETE", "/api/sessions/{id}", SAYS),
    ("POST", "/api/sessions/{id}/speak", AnyOf(&[Speak])),
    ("POST", "/api/sessions/{id}/text", AnyOf(&[Converse])),
    ("POST", "/api/sessions/{id}/interrupt", SAYS),
    ("POST", "/api/sessions/{id}/avatar", SAYS),
    ("POST", "/api/sessions/{id}/gesture", SAYS),
    ("GET", "/api/sessions/{id}/events", WATCHES),
    ("GET", "/api/sessions/{id}/outputs", OPERATES),
    ("POST", "/api/sessions/{id}/outputs", OPERATES),
    ("GET", "/api/sessions/{id}/outputs/{output}", OPERATES),
    ("DELETE", "/api/sessions/{id}/outputs/{output}", OPERATES),
    ("GET", "/api/sessions/{id}/whip", OPERATES),
    ("POST", "/api/sessions/{id}/whip", OPERATES),
    ("GET", "/api/sessions/{id}/whip/{push}", OPERATES),
    ("DELETE", "/api/sessions/{id}/whip/{push}", OPERATES),
    ("GET", "/api/avatars", MAKES),
    ("POST", "/api/avatars", MAKES),
    ("DELETE", "/api/avatars/{id}", OPERATES),
    ("GET", "/api/avatars/{id}/preview.png", MAKES),
    ("GET", "/api/avatars/jobs/{id}", MAKES),
    ("DELETE", "/api/avatars/jobs/{id}", MAKES),
    ("POST", "/api/avatars/jobs/{id}/again", MAKES),
    ("GET", "/api/avatars/jobs/{id}/events", MAKES),
    ("GET", "/api/avatars/jobs/{id}/found.png", MAKES),
    ("GET", "/api/pipelines", OPERATES),
    ("POST", "/api/pipelines/reload", OPERATES),
    ("GET", "/whep/{session}", WATCHES),
    ("POST", "/whep/{session}", WATCHES),
    ("GET", "/whep/{session}/{viewer}", WATCHES),
    ("PATCH", "/whep/{session}/{viewer}", WATCHES),
    ("DELETE", "/whep/{session}/{viewer}", WATCHES),
];

/// Every method of every path, and what it needs.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str, Need)> {
    page_files::paths().map(|path| ("GET", path, Nothing)).chain(ROUTES.iter().copied())
}

/// What a request for a route needs, by the path as the router knows it; `None` if it has no line.
pub(super) fn of(method: &Method, path: &str) -> Option<Need> {
    // Whoever may see an answer may see its head.
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    all().find(|(known, at, _)| *known == method && *at == path).map(|(.., need)| need)
}

/// The methods of a path, as the header `Allow` has them.
pub(super) fn methods(path: &str) -> String {
    let methods = all().filter(|(_, at, _)| *at == path);
    methods.map(|(method, ..)| if method == "GET" { "GET,HEAD" } else { method }).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use axum::Router;

    use super::*;
    use crate::signalling::listener::{self, Shared};
    use crate::signalling::{api, whep};

    /// Axum names its routes nowhere but in how it shows a router.
    fn methods_by_path(router: &Router<Arc<Shared>>) -> BTreeMap<String, BTreeSet<String>> {
        let shown = format!("{router:?}");
        let (routes, rest) = shown.split_once("node: Node").unwrap();
        let (paths, _) = rest.split_once("fallback_router").unwrap();
        let methods = |id: &str| {
            let (_, route) = routes.split_once(&format!("RouteId({id}): ")).unwrap();
            let (_, allowed) = route.split_once("allow_header: Bytes(b\"").unwrap();
            allowed.split('"').next().unwrap().split(',').map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let ids = paths.split("RouteId(").skip(1).map(|entry| entry.split_once("): \"").unwrap());
        ids.map(|(id, path)| (path.split('"').next().unwrap().to_owned(), methods(id))).collect()
    }

    #[test]
    fn every_route_has_a_line_for_each_of_its_methods_and_there_is_no_other_line() {
        let router = listener::routes().nest("/api", api::routes()).merge(whep::routes());
        let served = methods_by_path(&router);
        assert!(served.len() > 30 && served["/api/sessions"].contains("POST"), "{served:?}");
        let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (method, path, _) in all() {
            let methods = listed.entry(path.to_owned()).or_default();
            assert!(methods.insert(method.to_owned()), "{method} {path} has two lines");
            if method == "GET" {
                methods.insert("HEAD".to_owned());
            }
        }
        assert_eq!(served, listed);
    }

    #[test]
    fn the_head_of_an_answer_needs_what_the_answer_needs_and_what_has_no_line_is_nobodys() {
        assert_eq!(of(&Method::HEAD, "/metrics"), of(&Method::GET, "/metrics"));
        for (method, path) in [(Method::PUT, "/metrics"), (Method::GET, "/nowhere"), (Method::CONNECT, "/ws")] {
            assert_eq!(of(&method, path), None, "{method} {path}");
        }
        assert_eq!(methods("/whep/{session}"), "GET,HEAD,POST");
    }
}
