//! The conversation for programs, over plain HTTP: open a session, have it speak or answer, hear what it tells.
//!
//! In here: the routes below `/api/`, reading bodies, errors as JSON. `sessions` keeps the sessions that were opened so,
//! `outputs` has their ways out besides viewers, `pushes` those to media servers, `pipelines` the descriptions of pipelines,
//! `openapi.json` describes it all. Not in here:
//! pictures and sound, which viewers get over `/ws?session=ID`; limits that both ways share (`limits`). Runs on: the task of the
//! HTTP connection.

pub(super) mod avatars;
mod outputs;
mod pipelines;
mod pushes;
pub(super) mod sessions;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Extension, FromRequestParts, Path, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::handshake::{JoinRequest, avatar_id, is_origin_allowed};
use super::http_connection::Requester;
use super::limits::{check_gesture, check_turn};
use super::listener::Shared;
use super::protocol::{Avatar, MAX_MESSAGE_BYTES, ServerMessage, clipped};
use super::quota::ConnectionSlot;
use crate::session::{Command, ErrorCode, Refusal};
use sessions::{ApiSession, Subscriber};

/// For the body of a request, which is one small object.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two signs of life in a stream of events, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const OPENAPI: &str = include_str!("api/openapi.json");

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    Router::new()
        .route("/openapi.json", get(|| async { ([(CONTENT_TYPE, "application/json")], OPENAPI) }))
        .route("/sessions", post(create))
        .route("/sessions/{id}", get(show).delete(close))
        .route("/sessions/{id}/speak", post(speak))
        .route("/sessions/{id}/text", post(text))
        .route("/sessions/{id}/interrupt", post(interrupt))
        .route("/sessions/{id}/avatar", post(swap_avatar))
        .route("/sessions/{id}/gesture", post(gesture))
        .route("/sessions/{id}/events", get(events))
        .route("/sessions/{id}/outputs", get(outputs::list).post(outputs::start))
        .route("/sessions/{id}/outputs/{output}", get(outputs::show).delete(outputs::stop))
        .route("/sessions/{id}/whip", get(pushes::list).post(pushes::start))
        .route("/sessions/{id}/whip/{push}", get(pushes::show).delete(pushes::stop))
        .nest("/avatars", avatars::router())
        .route("/pipelines", get(pipelines::list))
        .route("/pipelines/reload", post(pipelines::reload))
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
            ErrorCode::OutputsOff => StatusCode::FORBIDDEN,
            ErrorCode::SessionExists | ErrorCode::OutputExists => StatusCode::CONFLICT,
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

/// The session that a path names.
struct Id(String);

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
    request: Request,
) -> Result<Response, Problem> {
    let Create { avatar, session } = read(request).await?;
    let join = JoinRequest::new(avatar.as_deref(), session.as_deref())?;
    let session = shared.api.create(&shared, &*requester.sessions(&shared), join).await?;
    Ok((StatusCode::CREATED, as_json(&description(&session))).into_response())
}

async fn show(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Response, Problem> {
    Ok(as_json(&description(&*find(&shared, &id)?)).into_response())
}

async fn close(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<StatusCode, Problem> {
    if shared.api.close(&id) { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id)) }
}

async fn speak(State(shared): State<Arc<Shared>>, Id(id): Id, request: Request) -> Result<Response, Problem> {
    turn(&shared, ("speak", &id), request, |text, id| Command::Speak { text, id }).await
}

async fn text(State(shared): State<Arc<Shared>>, Id(id): Id, request: Request) -> Result<Response, Problem> {
    turn(&shared, ("text", &id), request, |text, id| Command::Text { text, id }).await
}

async fn turn(
    shared: &Shared,
    (kind, id): (&str, &str),
    request: Request,
    command: fn(String, Option<String>) -> Command,
) -> Result<Response, Problem> {
    let session = find(shared, id)?;
    let Turn { content, id } = read(request).await?;
    check_turn(kind, &content, id.as_deref())?;
    session.session.submit(command(content, id))?;
    Ok(accepted())
}

async fn interrupt(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Response, Problem> {
    find(&shared, &id)?.session.submit(Command::Interrupt)?;
    Ok(accepted())
}

/// Answers when the avatar is seen, as the message `avatar` tells it.
async fn swap_avatar(State(shared): State<Arc<Shared>>, Id(id): Id, request: Request) -> Result<Response, Problem> {
    let session = find(&shared, &id)?;
    let Swap { id } = read(request).await?;
    let id = avatar_id(&id).map_err(wrong_field)?;
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

async fn gesture(State(shared): State<Arc<Shared>>, Id(id): Id, request: Request) -> Result<Response, Problem> {
    let session = find(&shared, &id)?;
    let Gesture { name } = read(request).await?;
    check_gesture(&name)?;
    session.session.submit(Command::Gesture { name }).map_err(wrong_field)?;
    Ok(accepted())
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, as_json(&json!({"accepted": true}))).into_response()
}

/// What the session tells, from now on, as server-sent events (WHATWG HTML, 9.2): `event` is the message's type, `data` the
/// message as on the WebSocket.
async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let session = find(&shared, &id)?;
    let slot = requester.slot;
    slot.becomes_event_stream(requester.address)
        .map_err(|full| Problem::of(ErrorCode::ServerFull, full.to_string()))?;
    let listening = Listening { subscriber: session.subscribe(), slot };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(told(listening)).keep_alive(keep_alive).into_response())
}

/// A program that hears events, with a slot for one that does.
struct Listening {
    subscriber: Subscriber,
    slot: Arc<ConnectionSlot>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.slot.ends_event_stream();
    }
}

fn told(listening: Listening) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((listening, true), |(mut listening, first)| async move {
        if first {
            // At once, so that whoever connects knows that it is heard from here on.
            return Some((Ok(Event::default().comment("listening")), (listening, false)));
        }
        let event = match listening.subscriber.next().await {
            Ok(notice) => event_of(&ServerMessage::from(notice)),
            Err(RecvError::Lagged(count)) => event_of(&ServerMessage::Missed { count }),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), (listening, false)))
    })
}

fn event_of(message: &ServerMessage) -> Event {
    Event::default().event(message.kind()).data(message.to_json())
}

fn find(shared: &Shared, id: &str) -> Result<Arc<ApiSession>, Problem> {
    shared.api.find(id).ok_or_else(|| unknown(id))
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
