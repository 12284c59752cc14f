//! What browsers may do with what comes from here: whose pages, under which name, with which content.
//!
//! In here: other origins (CORS), the server's own names, headers of policies. Not in here: which origins are allowed
//! (`handshake`), which names are the server's (`host`), the files (`page_files`).
//! Runs on: the task of an HTTP connection.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::info;

use super::handshake::is_origin_allowed;
use super::host;
use super::http_connection::is_health;
use super::listener::Shared;
use super::page_files::is_file;

/// Pages of allowed origins may import the client and use the API; a browser asks for that before it lets them.
pub(super) fn cors(allowed_origins: &[String]) -> CorsLayer {
    let allowed: Arc<[String]> = allowed_origins.into();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |_, request| is_origin_allowed(&request.headers, &allowed)))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(Duration::from_secs(600))
}

/// Refuses requests under a name that is not this server's. How it does is told under any name: whoever looks after it
/// may reach it by one that only they use.
pub(super) async fn for_own_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if !is_health(request.uri().path())
        && let Err(error) = host::check(&request, &shared.hosts)
    {
        info!(%error, "a request is refused");
        return (StatusCode::FORBIDDEN, format!("{error}\n")).into_response();
    }
    next.run(request).await
}

/// Scripts, styles and connections of our own only. Media comes from WebRTC, which this policy does not touch; pictures
/// may be written into the page.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data:; media-src 'self' blob: mediastream:; \
                              object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) async fn with_security_headers(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    // A page that embeds the client may demand that all it loads says whom it is for.
    let for_others = is_file(request.uri().path()) && !shared.options.allowed_origins.is_empty();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE_POLICY, if for_others { "cross-origin" } else { "same-origin" }),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
