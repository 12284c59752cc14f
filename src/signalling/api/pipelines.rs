//! Descriptions of pipelines over HTTP: how each stands, and having changed ones come into use.
//!
//! In here: the routes below `/api/pipelines`. Not in here: what a change leads to (`media::live`). Runs on: the task of the
//! HTTP connection.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Problem, as_json};
use crate::session::ErrorCode;
use crate::signalling::listener::Shared;
use crate::signalling::pipelines::PipelineEditor;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let editor = allowed(&shared)?;
    let files = editor.files().await;
    Ok(as_json(&json!({"watched": editor.is_watching(), "files": files})).into_response())
}

/// Answers when what has changed is in use, or why it is not.
pub(super) async fn reload(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let changed = allowed(&shared)?.reload().await;
    let busy = || Problem::of(ErrorCode::Busy, "changed pipelines are being tried just now: ask again".to_owned());
    Ok(as_json(&json!({"changed": changed.ok_or_else(busy)?})).into_response())
}

fn allowed(shared: &Shared) -> Result<&dyn PipelineEditor, Problem> {
    let api = &shared.options.pipelines;
    if api.allowed {
        return Ok(&*api.editor);
    }
    let message =
        "this server tells of its pipelines to nobody over the network: its settings may (allow_reload = true)";
    Err(Problem::new(StatusCode::FORBIDDEN, "pipelines_off", message))
}
