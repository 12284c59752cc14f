//! A session's outputs over HTTP: pushed, recorded and written besides its viewers.
//!
//! In here: the routes below `/api/sessions/{id}/outputs`. Not in here: which addresses and names are taken (`server`), what
//! an output does (`media::output`). Runs on: the task of the HTTP connection.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Found, Problem, as_json, read, unknown};
use crate::session::{ErrorCode, OutputOrder, Outputs, Refusal};
use crate::signalling::protocol::clipped;

/// The output that a path names.
pub(super) struct OutputId(String);

impl<S: Send + Sync> FromRequestParts<S> for OutputId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<HashMap<String, String>>::from_request_parts(parts, state).await {
            Ok(Path(mut names)) => Ok(Self(names.remove("output").unwrap_or_default())),
            Err(_) => Err(unknown(parts.uri.path())),
        }
    }
}

pub(super) async fn list(found: Found) -> Result<Response, Problem> {
    let outputs = found.session.session.outputs();
    Ok(as_json(&json!({"allowed": outputs.allowed(), "outputs": outputs.list()})).into_response())
}

/// Answers when it has begun; whether its receiver is there, its state tells.
pub(super) async fn start(found: Found, request: Request) -> Result<Response, Problem> {
    let outputs = allowed(found.session.session.outputs())?;
    let order: OutputOrder = read(request).await?;
    let output = outputs.start(order).await?;
    let path = format!("/api/sessions/{}/outputs/{}", found.session.name, output.id);
    Ok((StatusCode::CREATED, [(LOCATION, path)], as_json(&json!(output))).into_response())
}

pub(super) async fn show(found: Found, OutputId(output): OutputId) -> Result<Response, Problem> {
    let outputs = found.session.session.outputs();
    let found = outputs.list().into_iter().find(|found| found.id.to_string() == output);
    found.map(|found| as_json(&json!(found)).into_response()).ok_or_else(|| unknown_output(&output))
}

/// Answers when what it wrote is whole.
pub(super) async fn stop(found: Found, OutputId(output): OutputId) -> Result<StatusCode, Problem> {
    let outputs = allowed(found.session.session.outputs())?;
    if outputs.stop(&output).await { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_output(&output)) }
}

fn allowed(outputs: Arc<dyn Outputs>) -> Result<Arc<dyn Outputs>, Problem> {
    if outputs.allowed() {
        return Ok(outputs);
    }
    let message =
        "this server lets nobody start or stop outputs over the network: its settings may (allow_outputs = true)";
    Err(Refusal::new(ErrorCode::OutputsOff, message).into())
}

fn unknown_output(id: &str) -> Problem {
    let message = format!("the session has no output {:?}: GET its outputs for those it has", clipped(id, 80));
    Problem::new(StatusCode::NOT_FOUND, "unknown_output", message)
}
