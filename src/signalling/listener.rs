//! The one port: the page, health, metrics and the API (`api`) over HTTP, and WebSockets at `/ws`.
//!
//! In here: accepting, limits on connections, routes, the upgrade, shutdown. Not in here: what is said on a WebSocket
//! (`connection`), when the server is ready and what it measures (`server`, `metrics`), TLS (a proxy in front).
//! Runs on: tokio; every task is tracked and awaited, with a bound, before `serve` returns.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER,
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_VERSION, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::{counter, gauge};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::api::open::OpenSessions;
use super::handshake::{HandshakeError, JoinRequest, accept};
use super::{ErrorCode, Sessions, api, connection, host, socket};

/// Whether the server can take viewers, for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    NotReady { reason: String },
}

#[derive(Clone)]
pub struct ListenerOptions {
    /// Origins besides the server's own whose pages may connect, such as `https://example.org`; `*` stands for all.
    /// A server on a loopback address answers to their hosts too.
    pub allowed_origins: Vec<String>,
    /// WebSockets at a time; more get 503.
    pub max_connections: usize,
    pub readiness: watch::Receiver<Readiness>,
    /// Renders the metrics as Prometheus text.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// How long clients have, after `shutdown`, to be told and to close.
    pub shutdown_grace: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SignallingError {
    #[error("the listening socket accepts no connections any more: {source}")]
    Accept { source: io::Error },
}

/// Plain HTTP connections besides the WebSockets; the next one waits in the kernel until one of them closes.
const HTTP_CONNECTIONS: usize = 256;

/// For the head of a request, and between requests: a connection that says nothing is not kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Rests between attempts when accepting fails (out of descriptors, mostly), and how many before giving up.
const ACCEPT_REST: Duration = Duration::from_millis(100);
const ACCEPT_ATTEMPTS: u32 = 100;

pub(super) struct Shared {
    pub sessions: Arc<dyn Sessions>,
    /// Those opened over HTTP.
    pub open: OpenSessions,
    pub options: ListenerOptions,
    /// Whether only this machine can connect; then a foreign `Host` is a foreign page's (`host`).
    is_local: bool,
    web_sockets: Arc<Semaphore>,
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
    let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let shared = Arc::new(Shared {
        sessions,
        open: OpenSessions::default(),
        is_local,
        web_sockets: Arc::new(Semaphore::new(options.max_connections)),
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
    let connections = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    let mut failures = 0;
    loop {
        let next = async {
            // Never closed, so it always has a permit in the end.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = shared.shutdown.run_until_cancelled(next).await else {
            return Ok(());
        };
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                let serving = serve_http(stream, router.clone(), shared.shutdown.clone(), permit);
                spawn(shared, serving);
            }
            Err(source) if failures >= ACCEPT_ATTEMPTS => return Err(SignallingError::Accept { source }),
            Err(source) => {
                failures += 1;
                warn!(%source, "a connection could not be accepted");
                shared.shutdown.run_until_cancelled(sleep(ACCEPT_REST)).await;
            }
        }
    }
}

/// Runs something that ends, at the latest, a grace time after the server is asked to.
pub(super) fn spawn(shared: &Shared, work: impl Future<Output = ()> + Send + 'static) {
    let abort = shared.abort.clone();
    shared.tracker.spawn(async move {
        abort.run_until_cancelled_owned(work).await;
    });
}

async fn serve_http(
    stream: TcpStream,
    router: Router,
    shutdown: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
) {
    // Messages are small and each matters now.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY is not set");
    }
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "an HTTP connection ended early");
    }
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files by path.
const FILES: [(&str, &str, &str); 14] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/index.html")),
    ("/app.js", JAVASCRIPT, include_str!("../../web/app.js")),
    ("/client.js", JAVASCRIPT, include_str!("../../web/client.js")),
    ("/client/audio.js", JAVASCRIPT, include_str!("../../web/client/audio.js")),
    ("/client/captions.js", JAVASCRIPT, include_str!("../../web/client/captions.js")),
    ("/client/figures.js", JAVASCRIPT, include_str!("../../web/client/figures.js")),
    ("/client/latency.js", JAVASCRIPT, include_str!("../../web/client/latency.js")),
    ("/client/liveness.js", JAVASCRIPT, include_str!("../../web/client/liveness.js")),
    ("/client/microphone.js", JAVASCRIPT, include_str!("../../web/client/microphone.js")),
    ("/client/peer.js", JAVASCRIPT, include_str!("../../web/client/peer.js")),
    ("/client/screen.js", JAVASCRIPT, include_str!("../../web/client/screen.js")),
    ("/client/socket.js", JAVASCRIPT, include_str!("../../web/client/socket.js")),
    ("/voice.js", JAVASCRIPT, include_str!("../../web/voice.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
];

fn router(shared: Arc<Shared>) -> Router {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, content)| router.route(path, get(move || file(kind, content))))
        .route("/healthz", get(|| plain(StatusCode::OK, "alive")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/ws", get(web_socket))
        .nest("/api", api::router(Arc::clone(&shared)))
        .fallback(|| plain(StatusCode::NOT_FOUND, "there is no such page: the avatar is at /"))
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET")], "only GET is served\n").into_response()
        })
        .layer(from_fn_with_state(Arc::clone(&shared), for_own_host))
        .layer(map_response(with_security_headers))
        .with_state(shared)
}

async fn for_own_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.is_local
        && let Err(error) = host::check(request.headers(), &shared.options.allowed_origins)
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

async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn file(content_type: &'static str, content: &'static str) -> Response {
    // The files change with the server, and it does not say so in their names.
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], content).into_response()
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
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (shared.options.metrics)()).into_response()
}

async fn web_socket(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let accept_key = match accept(request.headers(), &shared.options.allowed_origins) {
        Ok(accept_key) => accept_key,
        Err(error) => return refused(&error),
    };
    let Ok(permit) = Arc::clone(&shared.web_sockets).try_acquire_owned() else {
        counter!("mouthpiece_connections_refused_total").increment(1);
        let limit = shared.options.max_connections;
        warn!(limit, "a client is turned away: all connections are taken");
        let text = format!("all {limit} connections of this server are taken: try again in a while\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")], text).into_response();
    };
    let join = JoinRequest::from_query(request.uri().query().unwrap_or_default());
    let upgrade = hyper::upgrade::on(&mut request);
    let sessions = Arc::clone(&shared.sessions);
    let shutdown = shared.shutdown.clone();
    spawn(&shared, async move {
        let _permit = permit;
        let upgraded = match upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return debug!(%error, "a client left before it had its WebSocket"),
        };
        let _open = OpenConnection::count();
        let config = Some(socket::config());
        let stream = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, config).await;
        connection::run(stream, sessions, join, shutdown).await;
    });
    let headers: [(HeaderName, &str); 3] =
        [(UPGRADE, "websocket"), (CONNECTION, "Upgrade"), (SEC_WEBSOCKET_ACCEPT, &accept_key)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
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
        counter!("mouthpiece_connections_total").increment(1);
        gauge!("mouthpiece_connections").increment(1.0);
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("mouthpiece_connections").decrement(1.0);
    }
}
