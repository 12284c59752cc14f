//! The page's files, which are in the program.
//!
//! Not in here: other routes (`listener`), what browsers may do with the files (`browser_policy`).
//! Runs on: the task of an HTTP connection.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files by path.
const FILES: [(&str, &str, &str); 20] = [
    ("/", "text/html; charset=utf-8", include_str!("../../web/index.html")),
    ("/avatars", "text/html; charset=utf-8", include_str!("../../web/avatars.html")),
    ("/avatars.css", "text/css; charset=utf-8", include_str!("../../web/avatars.css")),
    ("/avatars.js", JAVASCRIPT, include_str!("../../web/avatars.js")),
    ("/app.js", JAVASCRIPT, include_str!("../../web/app.js")),
    ("/client.js", JAVASCRIPT, include_str!("../../web/client.js")),
    ("/client/audio.js", JAVASCRIPT, include_str!("../../web/client/audio.js")),
    ("/client/captions.js", JAVASCRIPT, include_str!("../../web/client/captions.js")),
    ("/client/figures.js", JAVASCRIPT, include_str!("../../web/client/figures.js")),
    ("/client/latency.js", JAVASCRIPT, include_str!("../../web/client/latency.js")),
    ("/client/liveness.js", JAVASCRIPT, include_str!("../../web/client/liveness.js")),
    ("/client/matte.js", JAVASCRIPT, include_str!("../../web/client/matte.js")),
    ("/client/microphone.js", JAVASCRIPT, include_str!("../../web/client/microphone.js")),
    ("/client/peer.js", JAVASCRIPT, include_str!("../../web/client/peer.js")),
    ("/client/screen.js", JAVASCRIPT, include_str!("../../web/client/screen.js")),
    ("/client/socket.js", JAVASCRIPT, include_str!("../../web/client/socket.js")),
    ("/token.js", JAVASCRIPT, include_str!("../../web/token.js")),
    ("/voice.js", JAVASCRIPT, include_str!("../../web/voice.js")),
    ("/outputs.js", JAVASCRIPT, include_str!("../../web/outputs.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../../web/style.css")),
];

/// Whether a path is one of the page's.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|(file, ..)| *file == path)
}

/// The paths of all.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(path, ..)| *path)
}

/// A route for each file.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files = FILES.into_iter();
    files.fold(Router::new(), |router, (path, kind, content)| router.route(path, get(move || file(kind, content))))
}

async fn file(content_type: &'static str, content: &'static str) -> Response {
    // The files change with the server, and it does not say so in their names.
    ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")], content).into_response()
}
