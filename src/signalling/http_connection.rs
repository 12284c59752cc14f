//! One HTTP connection: who asks, how often it may, how long it may take.
//!
//! In here: TLS where it is asked for (`tls`), hyper on a socket, time limits, what a connection for which there is no slot
//! gets to hear. Not in here: slots (`quota`), what is answered (`listener`, `api`).
//! Runs on: one tokio task a connection, tracked by the listener.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::listener::Shared;
use super::quota::address::{client_of, is_forwarded, is_trusted};
use super::quota::{Address, AddressQuota, ConnectionKind, ConnectionSlot, LimitedSessions, Operation, WriteTimeout};
use crate::metrics;
use crate::session::{ErrorCode, Sessions};

/// For the head of a request, and between requests: a connection that says nothing is not kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// The same for a connection that there is no slot for.
const OVERFLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// A client that takes nothing for this long is gone or hostile. Beyond what a WebSocket grants (`socket`), which says so.
const WRITE_TIMEOUT: Duration = Duration::from_secs(12);

/// How long who asks too often waits for the answer that says so: it keeps one more request from being asked meanwhile.
const TOO_OFTEN: Duration = Duration::from_millis(250);

/// A connection, with TLS or without.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Who asks, as the routes know it.
#[derive(Clone)]
pub(super) struct Requester {
    pub slot: Arc<ConnectionSlot>,
    pub address: Address,
    pub quota: Arc<AddressQuota>,
}

impl Requester {
    /// The server's sessions, as many and as often as this address may have them.
    pub fn sessions(&self, shared: &Shared) -> Arc<dyn Sessions> {
        Arc::new(LimitedSessions { sessions: Arc::clone(&shared.sessions), quota: Arc::clone(&self.quota) })
    }
}

/// Serves a connection until it ends, is needed for another, or the server is asked to end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    slot: ConnectionSlot,
    kind: ConnectionKind,
    shared: Arc<Shared>,
    router: Router,
) {
    // Messages are small and each matters now.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY is not set");
    }
    let slot = Arc::new(slot);
    let leave = slot.leave.clone();
    let shutdown = shared.shutdown.clone();
    let patience = if kind == ConnectionKind::Overflow { OVERFLOW_TIMEOUT } else { HEADER_TIMEOUT };
    let stream: Box<dyn Duplex> = match &shared.options.tls {
        None => Box::new(stream),
        Some(tls) => tokio::select! {
            accepted = timeout(patience, tls.accept(stream)) => match accepted {
                Ok(Ok(stream)) => Box::new(stream),
                Ok(Err(error)) => return debug!(%error, "a TLS handshake failed"),
                Err(_) => return debug!("a TLS handshake took too long"),
            },
            () = leave.cancelled() => return debug!("an idle connection makes room for another"),
            () = shutdown.cancelled() => return,
        },
    };
    let service = {
        let routes = TowerToHyperService::new(router);
        service_fn(move |request| answer(request, peer, kind, Arc::clone(&slot), Arc::clone(&shared), routes.clone()))
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, WRITE_TIMEOUT)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = leave.cancelled() => return debug!("an idle connection makes room for another"),
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection ended early");
    }
}

async fn answer(
    mut request: Request<Incoming>,
    peer: IpAddr,
    kind: ConnectionKind,
    slot: Arc<ConnectionSlot>,
    shared: Arc<Shared>,
    routes: TowerToHyperService<Router>,
) -> Result<Response, Infallible> {
    slot.is_busy();
    tell_of_proxy(peer, &request, &shared);
    let address = Address::of(client_of(peer, request.headers(), &shared.quota.proxies));
    let quota = shared.quota.address_quota(address);
    let path = request.uri().path();
    let is_api = path.starts_with("/api/") || path.starts_with("/whep/");
    let operation = if is_health(path) { Operation::Health } else { Operation::Request };
    let response = if kind == ConnectionKind::Overflow && operation != Operation::Health && path != "/metrics" {
        metrics::connection_refused();
        Some(last_word(is_api, StatusCode::SERVICE_UNAVAILABLE, ErrorCode::ServerFull, FULL))
    } else if !quota.take(operation) {
        metrics::request_refused();
        shared.shutdown.run_until_cancelled(sleep(TOO_OFTEN)).await;
        Some(last_word(is_api, StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyMessages, TOO_MANY))
    } else {
        None
    };
    let response = match response {
        Some(refused) => refused,
        None => {
            request.extensions_mut().insert(Requester { slot: Arc::clone(&slot), address, quota });
            let mut response = routes.call(request).await?;
            if kind == ConnectionKind::Overflow {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    slot.is_idle();
    Ok(response)
}

const FULL: &str = "no more connections can be kept, from this address or at all: close some, or try again in a while";
const TOO_MANY: &str = "too many requests come from this address: wait a second and send fewer";

/// What those ask who look after the server, often and from where its viewers come from too.
pub(super) fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// A refusal, after which the connection is closed.
fn last_word(is_api: bool, status: StatusCode, code: ErrorCode, message: &str) -> Response {
    let seconds = code.retry_after().unwrap_or_default().as_secs();
    let headers = [(RETRY_AFTER, seconds.to_string()), (CONNECTION, "close".to_owned())];
    if is_api {
        let body = json!({"code": code.to_string(), "message": message, "retry_after_s": seconds});
        return (status, headers, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
    }
    (status, headers, format!("{message}\n")).into_response()
}

/// Behind a proxy that is not known as one, all viewers count as one address. That is said once.
fn tell_of_proxy(peer: IpAddr, request: &Request<Incoming>, shared: &Shared) {
    let unknown = is_forwarded(request.headers()) && !is_trusted(peer, &shared.quota.proxies);
    if unknown && peer.is_loopback() && !shared.proxy_told.swap(true, Ordering::Relaxed) {
        warn!(
            %peer,
            "a proxy on this machine passes requests on and is not in trusted_proxies: all who come through it count as \
             one address, which may have half of all connections"
        );
    }
}
