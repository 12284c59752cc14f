//! A session's pushes to media servers by WHIP, over HTTP.
//!
//! In here: the routes below `/api/sessions/{id}/whip`. Not in here: what a push does (`media::whip`), which are running
//! (`server`). Runs on: the task of the HTTP connection.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Found, Problem, as_json, read, unknown, wrong_field};
use crate::endpoint::Key;
use crate::session::{PushOrder, Pushes};
use crate::signalling::protocol::clipped;

/// What is asked for. The address may hold a key too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    url: String,
    #[serde(default)]
    token: Option<String>,
}

/// The push that a path names.
pub(super) struct PushId(String);

impl<S: Send + Sync> FromRequestParts<S> for PushId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<HashMap<String, String>>::from_request_parts(parts, state).await {
            Ok(Path(mut names)) => Ok(Self(names.remove("push").unwrap_or_default())),
            Err(_) => Err(unknown(parts.uri.path())),
        }
    }
}

pub(super) async fn list(found: Found) -> Result<Response, Problem> {
    let pushes = found.session.session.pushes();
    Ok(as_json(&json!({"allowed": pushes.allowed(), "pushes": pushes.list()})).into_response())
}

/// Answers when it has begun; whether the media server is there, its state tells.
pub(super) async fn start(found: Found, request: Request) -> Result<Response, Problem> {
    let pushes = allowed(found.session.session.pushes())?;
    let Start { url, token } = read(request).await?;
    let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        let message = "token: it holds characters that no token has";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_message", message));
    }
    let push = pushes.start(PushOrder { url, token: token.map(Key::new) }).map_err(wrong_field)?;
    let path = format!("/api/sessions/{}/whip/{}", found.session.name, push.id);
    Ok((StatusCode::CREATED, [(LOCATION, path)], as_json(&json!(push))).into_response())
}

pub(super) async fn show(found: Found, PushId(push): PushId) -> Result<Response, Problem> {
    let pushes = found.session.session.pushes();
    let found = pushes.list().into_iter().find(|found| found.id.to_string() == push);
    found.map(|found| as_json(&json!(found)).into_response()).ok_or_else(|| unknown_push(&push))
}

/// Answers when the media server was told.
pub(super) async fn stop(found: Found, PushId(push): PushId) -> Result<StatusCode, Problem> {
    let pushes = allowed(found.session.session.pushes())?;
    if pushes.stop(&push).await { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_push(&push)) }
}

fn allowed(pushes: Arc<dyn Pushes>) -> Result<Arc<dyn Pushes>, Problem> {
    if pushes.allowed() {
        return Ok(pushes);
    }
    let message = "this server lets nobody push sessions over the network: its settings may (allow = true in [whip])";
    Err(Problem::new(StatusCode::FORBIDDEN, "pushes_off", message))
}

fn unknown_push(id: &str) -> Problem {
    let message = format!("the session has no push {:?}: GET its pushes for those it has", clipped(id, 80));
    Problem::new(StatusCode::NOT_FOUND, "unknown_push", message)
}
