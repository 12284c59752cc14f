//! The one port: the page, health, metrics and the API (`api`) over HTTP, WebSockets at `/ws`, WHEP
//! (`whep`).
//!
//! In here: accepting, routes, the upgrade, shutdown. Not in here: what one address may take (`quota`), one HTTP connection
//! (`http_connection`), the page's files (`page_files`), what browsers may do (`browser_policy`), what is said on a WebSocket
//! (`client_task`), when the server is ready and what it
//! measures (`server`, `metrics`), TLS (`tls`, or a proxy in front).
//! Runs on: tokio; every task is tracked and awaited, with a bound, before `serve` returns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    ALLOW, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::api::avatars::jobs::AvatarJobs;
use super::api::sessions::ApiSessions;
use super::avatar_making::AvatarApi;
use super::guard::door;
use super::handshake::{HandshakeError, JoinRequest, accept};
use super::host::Hosts;
use super::http_connection::Requester;
use super::limits::{Taken, TokenBucket};
use super::metrics_listener::{Metrics, rendered};
use super::pipelines::PipelineApi;
use super::quota::{ConnectionLimits, ConnectionQuota, ThrottledStream};
use super::tls::Tls;
use super::whep::WhepOptions;
use super::whep::viewers::WhepViewers;
use super::{api, browser_policy, client_task, guard, http_connection, page_files, socket, whep};
use crate::access::Access;
use crate::metrics;
use crate::session::{ErrorCode, Sessions};

/// Whether the server can take viewers, for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It takes viewers, as far as it is not full.
    Ready,
    /// It starts or ends.
    NotReady {
        /// One line, told to whoever asks.
        reason: String,
    },
}

/// Who may come in, how many, and what they are told of the server.
#[derive(Clone)]
pub struct ListenerOptions {
    /// Origins besides the server's own whose pages may connect, such as `https://example.org`; `*` stands for all.
    /// The server answers to their hosts too.
    pub allowed_origins: Vec<String>,
    /// Names besides its addresses that the server answers to; `*` stands for all.
    pub allowed_hosts: Vec<String>,
    /// Proxies in front, whose word on who asks is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections of each kind; more get 503.
    pub connections: ConnectionLimits,
    /// Whether one address is held to half of the connections and to rates.
    pub limits_addresses: bool,
    /// Avatars that are listed, made and deleted over HTTP.
    pub avatars: AvatarApi,
    /// Viewers by WHEP.
    pub whep: WhepOptions,
    /// Descriptions of pipelines, which may change.
    pub pipelines: PipelineApi,
    /// Tokens, without which nobody comes in; `None` where everybody may.
    pub access: Option<Arc<Access>>,
    /// TLS; without it a proxy in front may have it.
    pub tls: Option<Arc<Tls>>,
    /// What `/readyz` says.
    pub readiness: watch::Receiver<Readiness>,
    /// Renders the metrics as Prometheus text; `None` where they have an address of their own.
    pub metrics: Option<Metrics>,
    /// How long clients have, after `shutdown`, to be told and to close.
    pub shutdown_grace: Duration,
}

/// Why the server stops listening by itself.
#[derive(Debug, thiserror::Error)]
pub enum SignallingError {
    /// The listening socket itself is wrong.
    #[error("the listening socket accepts no connections any more: {source}")]
    Accept {
        /// As the system says it.
        source: io::Error,
    },
}

/// Rests between attempts when accepting fails, out of descriptors mostly.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Connections a second, after a store of them; a flood waits in the kernel meanwhile, where it costs nothing.
const ACCEPTS: (f64, f64) = (1000.0, 1000.0);
const ACCEPT_PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Shared {
    pub sessions: Arc<dyn Sessions>,
    /// Those opened over HTTP.
    pub api: ApiSessions,
    /// Viewers that came by WHEP.
    pub whep: WhepViewers,
    pub avatar_jobs: AvatarJobs,
    pub options: ListenerOptions,
    pub quota: Arc<ConnectionQuota>,
    pub hosts: Hosts,
    /// Whether it was said that a proxy is in front.
    pub proxy_told: AtomicBool,
    tracker: TaskTracker,
    /// Asks every task to end.
    pub shutdown: CancellationToken,
    /// Ends every task that has not.
    abort: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then tells every client and waits for them, no longer than the grace time.
pub async fn serve(
    listener: TcpListener,
    sessions: Arc<dyn Sessions>,
    options: ListenerOptions,
    shutdown: CancellationToken,
) -> Result<(), SignallingError> {
    // Also cancelled when this future is dropped, so that no task outlives it for long.
    let shutdown = shutdown.child_token();
    let _shutdown_on_drop = shutdown.clone().drop_guard();
    let quota = ConnectionQuota::new(options.connections, options.limits_addresses, options.trusted_proxies.clone());
    let shared = Arc::new(Shared {
        sessions,
        api: ApiSessions::default(),
        whep: WhepViewers::default(),
        avatar_jobs: AvatarJobs::new(&options.avatars, options.limits_addresses),
        quota: Arc::new(quota),
        hosts: Hosts::new(&options.allowed_hosts, &options.allowed_origins),
        proxy_told: AtomicBool::new(false),
        tracker: TaskTracker::new(),
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
        options,
    });
    let _abort_on_drop = shared.abort.clone().drop_guard();
    let router = router(Arc::clone(&shared));
    let accepted = accept_all(&listener, &shared, &router).await;
    drop(listener);
    shutdown.cancel();
    shared.tracker.close();
    if timeout(shared.options.shutdown_grace, shared.tracker.wait()).await.is_err() {
        warn!(left = shared.tracker.len(), "clients did not close in time and are cut off");
        shared.abort.cancel();
        shared.tracker.wait().await;
    }
    accepted
}

async fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, router: &Router) -> Result<(), SignallingError> {
    let mut rate = TokenBucket::new(ACCEPTS.0, ACCEPTS.1);
    let began = tokio::time::Instant::now();
    let mut failing = false;
    loop {
        let Some(accepted) = shared.shutdown.run_until_cancelled(listener.accept()).await else {
            return Ok(());
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let (slot, kind) = shared.quota.admit(peer.ip());
                spawn(
                    shared,
                    http_connection::serve(stream, peer.ip(), slot, kind, Arc::clone(shared), router.clone()),
                );
                if rate.take(began.elapsed()) == Taken::Yes {
                    // Whoever was sent away for this one closes its socket before the next one comes.
                    tokio::task::yield_now().await;
                } else {
                    shared.shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                }
            }
            Err(source) if is_lasting(&source) => return Err(SignallingError::Accept { source }),
            Err(source) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%source, "connections cannot be accepted just now");
                }
                shared.quota.evict_idlest();
                shared.shutdown.run_until_cancelled(sleep(ACCEPT_REST)).await;
            }
        }
    }
}

/// Whether accepting will never succeed again: the socket itself is wrong. Anything else passes, however long it lasts: no
/// descriptor or no memory is left, the network is down, a client was gone before it was let in.
fn is_lasting(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lasting = [Errno::BADF, Errno::INVAL, Errno::NOTSOCK, Errno::OPNOTSUPP, Errno::FAULT];
    Errno::from_io_error(error).is_some_and(|error| lasting.contains(&error))
}

/// Runs something that ends, at the latest, a grace time after the server is asked to.
pub(super) fn spawn(shared: &Shared, work: impl Future<Output = ()> + Send + 'static) {
    let abort = shared.abort.clone();
    shared.tracker.spawn(async move {
        abort.run_until_cancelled_owned(work).await;
    });
}

/// Each of them has a line in `guard::needs`.
pub(super) fn routes() -> Router<Arc<Shared>> {
    page_files::router()
        .route("/healthz", get(|| plain(StatusCode::OK, "alive")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/ws", get(web_socket))
}

fn router(shared: Arc<Shared>) -> Router {
    routes()
        .nest("/api", api::router(Arc::clone(&shared)))
        .fallback(|| plain(StatusCode::NOT_FOUND, "there is no such page: the avatar is at /"))
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], "only GET is served\n").into_response()
        })
        .layer(from_fn_with_state(Arc::clone(&shared), guard::for_who_may))
        .layer(browser_policy::cors(&shared.options.allowed_origins))
        // Behind that layer: other origins may do other things there.
        .merge(whep::router(Arc::clone(&shared)))
        .layer(from_fn_with_state(Arc::clone(&shared), browser_policy::for_own_host))
        .layer(from_fn_with_state(Arc::clone(&shared), browser_policy::with_security_headers))
        .with_state(shared)
}

async fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, format!("{text}\n")).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.options.readiness.borrow().clone();
    match readiness {
        _ if shared.shutdown.is_cancelled() => plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down").await,
        Readiness::NotReady { reason } => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        Readiness::Ready => match shared.sessions.full() {
            None => plain(StatusCode::OK, "ready").await,
            Some(reason) => {
                let seconds = ErrorCode::ServerFull.retry_after().unwrap_or_default().as_secs().to_string();
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds)], format!("{reason}\n")).into_response()
            }
        },
    }
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    match &shared.options.metrics {
        Some(metrics) => rendered(metrics),
        None => plain(StatusCode::NOT_FOUND, "the metrics are at an address of their own (metrics_listen)").await,
    }
}

async fn web_socket(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    mut request: Request,
) -> Response {
    let accept_key = match accept(request.headers(), &shared.options.allowed_origins) {
        Ok(accept_key) => accept_key,
        Err(error) => return refused(&error),
    };
    let slot = match shared.quota.admit_web_socket(requester.address) {
        Ok(slot) => slot,
        Err(full) => {
            metrics::connection_refused();
            warn!(reason = %full, address = %requester.address, "a client is turned away");
            let seconds = ErrorCode::ServerFull.retry_after().unwrap_or_default().as_secs().to_string();
            return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds)], format!("{full}\n")).into_response();
        }
    };
    let join = JoinRequest::from_query(request.uri().query().unwrap_or_default());
    let entry = door::of(&shared, request.headers());
    let subprotocol = door::offers_subprotocol(request.headers());
    let upgrade = hyper::upgrade::on(&mut request);
    let sessions = requester.sessions(&shared);
    let quota = requester.quota;
    let shutdown = shared.shutdown.clone();
    spawn(&shared, async move {
        let _slot = slot;
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return debug!(%error, "a client left before it had its WebSocket"),
        };
        let _open = OpenConnection::count();
        let config = Some(socket::config());
        let stream = ThrottledStream::new(TokioIo::new(upgraded), quota);
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, config).await;
        client_task::run(stream, sessions, entry, join, shutdown).await;
    });
    let headers: [(HeaderName, &str); 3] =
        [(UPGRADE, "websocket"), (CONNECTION, "Upgrade"), (SEC_WEBSOCKET_ACCEPT, &accept_key)];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    if subprotocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(door::SUBPROTOCOL));
    }
    response
}

fn refused(error: &HandshakeError) -> Response {
    info!(%error, "a request for /ws is refused");
    let text = format!("{error}\n");
    match error {
        HandshakeError::NotAnUpgrade | HandshakeError::UnknownVersion => {
            let headers = [(UPGRADE, "websocket"), (CONNECTION, "Upgrade"), (SEC_WEBSOCKET_VERSION, "13")];
            (error.status(), headers, text).into_response()
        }
        HandshakeError::BadKey | HandshakeError::ForeignOrigin => (error.status(), text).into_response(),
    }
}

/// Counts a WebSocket for as long as it exists, however its task ends.
struct OpenConnection;

impl OpenConnection {
    fn count() -> Self {
        metrics::connection_opened();
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        metrics::connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_listening_socket_itself_ends_the_server() {
        use rustix::io::Errno;
        for passing in
            [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::CONNABORTED, Errno::NETDOWN, Errno::PERM]
        {
            assert!(!is_lasting(&passing.into()), "{passing}");
        }
        for lasting in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert!(is_lasting(&lasting.into()), "{lasting}");
        }
        assert!(!is_lasting(&io::Error::other("whatever it is")));
    }
}
