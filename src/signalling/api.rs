//! The conversation for programs, over plain HTTP: open a session, have it speak or answer, hear what it tells.
//!
//! In here: the routes below `/api/`, reading bodies, errors as JSON. `sessions` keeps the sessions that were opened so,
//! `events` is what they tell, `outputs` has their ways out besides viewers, `pushes` those to media servers, `pipelines` the
//! descriptions of pipelines, `openapi.json` describes it all. Not in here:
//! pictures and sound, which viewers get over `/ws?session=ID`; limits that both ways share (`limits`). Runs on: the task of the
//! HTTP connection.

pub(super) mod avatars;
mod events;
mod outputs;
mod pipelines;
mod pushes;
pub(super) mod sessions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Extension, FromRequestParts, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::guard;
use super::handshake::{JoinRequest, avatar_id, is_origin_allowed};
use super::http_connection::Requester;
use super::limits::{check_gesture, check_turn};
use super::listener::Shared;
use super::protocol::{Avatar, MAX_MESSAGE_BYTES, clipped};
use crate::access::Grant;
use crate::session::{Command, ErrorCode, Refusal};
use sessions::ApiSession;

/// For the body of a request, which is one small object.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two signs of life in a stream of events, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const OPENAPI: &str = include_str!("api/openapi.json");

/// Each of them has a line in `guard::needs`.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/openapi.json", get(|| async { ([(CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/sessions", post(create))
        .route("/sessions/{id}", get(show).delete(close))
        .route("/sessions/{id}/speak", post(speak))
        .route("/sessions/{id}/text", post(text))
        .route("/sessions/{id}/interrupt", post(interrupt))
        .route("/sessions/{id}/avatar", post(swap_avatar))
        .route("/sessions/{id}/gesture", post(gesture))
        .route("/sessions/{id}/events", get(events::listen))
        .route("/sessions/{id}/outputs", get(outputs::list).post(outputs::start))
        .route("/sessions/{id}/outputs/{output}", get(outputs::show).delete(outputs::stop))
        .route("/sessions/{id}/whip", get(pushes::list).post(pushes::start))
        .route("/sessions/{id}/whip/{push}", get(pushes::show).delete(pushes::stop))
        .nest("/avatars", avatars::router())
        .route("/pipelines", get(pipelines::list))
        .route("/pipelines/reload", post(pipelines::reload))
}

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    routes()
        .fallback(async || {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such path: see /api/openapi.json")
        })
        .method_not_allowed_fallback(async || {
            let message = "this path has other methods: see the header Allow";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(from_fn_with_state(shared, for_allowed_pages))
}

/// What went wrong, as every error of this API and of WHEP looks.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: String,
    message: String,
    retry_after_s: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), retry_after_s: None }
    }

    /// With when it may be worth another try.
    pub(super) fn retry_after(self, after: Duration) -> Self {
        Self { retry_after_s: Some(after.as_secs()), ..self }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn of(code: ErrorCode, message: String) -> Self {
        let status = match code {
            ErrorCode::UnknownAvatar | ErrorCode::UnknownGesture => StatusCode::NOT_FOUND,
            ErrorCode::Unauthorized | ErrorCode::TokenEnded => StatusCode::UNAUTHORIZED,
            ErrorCode::OutputsOff | ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::SessionExists | ErrorCode::OutputExists | ErrorCode::NotLive => StatusCode::CONFLICT,
            ErrorCode::MessageTooLong | ErrorCode::TextTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Busy | ErrorCode::TooManyMessages => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::ServerFull | ErrorCode::ShuttingDown | ErrorCode::AvatarUnavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorCode::PeerFailed => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self {
            retry_after_s: code.retry_after().map(|after| after.as_secs()),
            ..Self::new(status, &code.to_string(), message)
        }
    }
}

impl From<Refusal> for Problem {
    fn from(error: Refusal) -> Self {
        Self::of(error.code, error.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, message, retry_after_s } = self;
        let mut body = json!({"code": code, "message": message});
        let mut headers = HeaderMap::new();
        if let Some(seconds) = retry_after_s {
            body["retry_after_s"] = seconds.into();
            headers.insert(RETRY_AFTER, seconds.into());
        }
        (status, headers, as_json(&body)).into_response()
    }
}

fn as_json(body: &Value) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

/// A browser says which page a request comes from. Without this check, every page that somebody has open could speak
/// through a server on that person's machine.
async fn for_allowed_pages(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if is_origin_allowed(request.headers(), &shared.options.allowed_origins) {
        return next.run(request).await;
    }
    foreign_origin().into_response()
}

pub(super) fn foreign_origin() -> Problem {
    let message =
        "pages of another origin may not use the server: allow the origin in the configuration (allowed_origins)";
    Problem::new(StatusCode::FORBIDDEN, "foreign_origin", message)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Create {
    avatar: Option<String>,
    session: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    content: String,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gesture {
    name: String,
}

/// What a path names.
struct Id(String);

/// The session that a path names, as whoever asks may use it: one of its tenant's.
struct Found {
    session: Arc<ApiSession>,
    grant: Arc<Grant>,
}

impl FromRequestParts<Arc<Shared>> for Found {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let Ok(Path(names)) = Path::<HashMap<String, String>>::from_request_parts(parts, shared).await else {
            return Err(unknown(parts.uri.path()));
        };
        let name = names.get("id").map(String::as_str).unwrap_or_default();
        // Put there by the guard; nobody gets here past it.
        let Some(grant) = parts.extensions.get::<Arc<Grant>>() else { return Err(unknown(name)) };
        guard::check_session(grant, name)?;
        let session = shared.api.find(&grant.inner_name(name)).ok_or_else(|| unknown(name))?;
        Ok(Self { session, grant: Arc::clone(grant) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(unknown(parts.uri.path())),
        }
    }
}

/// The object in the body; an empty body is an empty object.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    let body = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_MESSAGE_BYTES)).await;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come within 10 s");
    let long = |_| {
        let message = format!("the body has more than {MAX_MESSAGE_BYTES} bytes, or broke off");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, &ErrorCode::MessageTooLong.to_string(), message)
    };
    let body = body.map_err(late)?.map_err(long)?;
    if !is_json && !body.is_empty() {
        let message = "the body has to be JSON: send Content-Type: application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let body = if body.is_empty() { b"{}".as_slice() } else { &body };
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not JSON: {error}");
        Problem::new(StatusCode::BAD_REQUEST, &ErrorCode::BadJson.to_string(), message)
    })?;
    let bad = |message: String| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, &ErrorCode::BadMessage.to_string(), clipped(&message, 300))
    };
    // Serde would take an array for a struct, field by field.
    if !body.is_object() {
        return Err(bad("the body has to be a JSON object".to_owned()));
    }
    serde_path_to_error::deserialize(body).map_err(|error| bad(format!("{}: {}", error.path(), error.inner())))
}

async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    Extension(grant): Extension<Arc<Grant>>,
    request: Request,
) -> Result<Response, Problem> {
    let Create { avatar, session } = read(request).await?;
    let join = guard::restricted(&grant, JoinRequest::new(avatar.as_deref(), session.as_deref())?)?;
    let session = shared.api.create(&shared, &*requester.sessions(&shared), &grant, join).await?;
    Ok((StatusCode::CREATED, as_json(&description(&session))).into_response())
}

async fn show(found: Found) -> Response {
    as_json(&description(&found.session)).into_response()
}

async fn close(State(shared): State<Arc<Shared>>, found: Found) -> Result<StatusCode, Problem> {
    if shared.api.close(&found.session) { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&found.session.name)) }
}

async fn speak(found: Found, request: Request) -> Result<Response, Problem> {
    turn(&found, "speak", request, |text, id| Command::Speak { text, id }).await
}

async fn text(found: Found, request: Request) -> Result<Response, Problem> {
    turn(&found, "text", request, |text, id| Command::Text { text, id }).await
}

async fn turn(
    found: &Found,
    kind: &str,
    request: Request,
    command: fn(String, Option<String>) -> Command,
) -> Result<Response, Problem> {
    let Turn { content, id } = read(request).await?;
    check_turn(kind, &content, id.as_deref())?;
    found.session.session.submit(command(content, id))?;
    Ok(accepted())
}

async fn interrupt(found: Found) -> Result<Response, Problem> {
    found.session.session.submit(Command::Interrupt)?;
    Ok(accepted())
}

/// Answers when the avatar is seen, as the message `avatar` tells it.
async fn swap_avatar(Found { session, grant }: Found, request: Request) -> Result<Response, Problem> {
    let Swap { id } = read(request).await?;
    let id = avatar_id(&id).map_err(wrong_field)?;
    guard::check_avatar(&grant, &id)?;
    let avatar = session.session.swap_avatar(id).await.map_err(wrong_field)?;
    Ok(as_json(&json!(Avatar::from(avatar))).into_response())
}

/// The session that the path names is there: what cannot be found is what a field names.
fn wrong_field(refusal: impl Into<Problem>) -> Problem {
    match refusal.into() {
        Problem { status: StatusCode::NOT_FOUND, code, message, retry_after_s } => {
            Problem { status: StatusCode::UNPROCESSABLE_ENTITY, code, message, retry_after_s }
        }
        problem => problem,
    }
}

async fn gesture(found: Found, request: Request) -> Result<Response, Problem> {
    let Gesture { name } = read(request).await?;
    check_gesture(&name)?;
    found.session.session.submit(Command::Gesture { name }).map_err(wrong_field)?;
    Ok(accepted())
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, as_json(&json!({"accepted": true}))).into_response()
}

fn unknown(id: &str) -> Problem {
    let message = format!("there is no session {:?} that was opened here; it may have ended", clipped(id, 80));
    Problem::new(StatusCode::NOT_FOUND, "unknown_session", message)
}

fn description(session: &ApiSession) -> Value {
    let path = format!("/api/sessions/{}", session.name);
    json!({
        "session_id": session.name,
        "avatar": Avatar::from(session.session.avatar()),
        "events": format!("{path}/events"),
        "websocket": session.websocket,
    })
}
