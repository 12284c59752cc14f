//! The metrics on an address of their own, for whoever watches over servers and nobody else.
//!
//! In here: `/metrics` over HTTP, on a socket that only serves that. Not in here: what is measured (`metrics`), the same path
//! on the one port (`listener`). Runs on: one task of the server, and one for each of a few connections.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::host::{self, Hosts};
use super::quota::WriteTimeout;

/// Connections at a time; others wait in the kernel.
const MOST: usize = 8;
/// For the head of a request; its connection is closed after the answer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// For taking the answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Rests when accepting fails.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Renders the metrics as Prometheus text.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves until `shutdown` is cancelled. Connections end with this future.
pub async fn serve(listener: TcpListener, metrics: Metrics, allowed_hosts: Vec<String>, shutdown: CancellationToken) {
    let routes = TowerToHyperService::new(router(metrics, Arc::new(Hosts::new(&allowed_hosts, &[]))));
    let slots = Arc::new(Semaphore::new(MOST));
    let mut connections = tokio::task::JoinSet::new();
    let accepting = async {
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let routes = routes.clone();
                    connections.spawn(async move {
                        let _slot = slot;
                        answer(stream, routes).await;
                    });
                }
                Err(error) => {
                    debug!(%error, "a connection for the metrics cannot be accepted");
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    };
    let _ = shutdown.run_until_cancelled(accepting).await;
}

async fn answer(stream: TcpStream, routes: TowerToHyperService<Router>) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, WRITE_TIMEOUT)), routes)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection for the metrics ended early");
    }
}

fn router(metrics: Metrics, hosts: Arc<Hosts>) -> Router {
    Router::new()
        .route("/metrics", get(move || async move { rendered(&metrics) }))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing here but /metrics\n"))
        .layer(from_fn(move |request: Request, next: Next| {
            let hosts = Arc::clone(&hosts);
            async move {
                match host::check(&request, &hosts) {
                    Ok(()) => next.run(request).await,
                    Err(error) => (StatusCode::FORBIDDEN, format!("{error}\n")).into_response(),
                }
            }
        }))
}

/// As Prometheus reads it.
pub(super) fn rendered(metrics: &Metrics) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics()).into_response()
}
