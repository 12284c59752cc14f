//! Avatars over HTTP: a list, a photo or a clip that becomes one, how far that is, deleting.
//!
//! In here: the routes below `/api/avatars`, what a request may ask for. `jobs` are those that are being made. Not in here:
//! files that are sent (`uploads`), how an avatar is made (`avatar_making`). Runs on: the task of the HTTP connection.

pub(in super::super) mod jobs;
mod order;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::BodyDataStream;
use axum::extract::{Extension, Request, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use self::jobs::{Job, JobState};
use super::{Id, KEEP_ALIVE, Problem, as_json};
use crate::access::{Grant, Permission};
use crate::ids::AvatarId;
use crate::session::ErrorCode;
use crate::signalling::avatar_making::{AvatarFault, AvatarFaultCode, AvatarOrder, AvatarSummary};
use crate::signalling::guard;
use crate::signalling::http_connection::Requester;
use crate::signalling::listener::Shared;
use crate::signalling::protocol::clipped;
use crate::signalling::quota::{Address, ConnectionSlot};
use crate::signalling::uploads::{self, UploadError};

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(list).post(create))
        .route("/{id}", delete(remove))
        .route("/{id}/preview.png", get(preview))
        .route("/jobs/{id}", get(show).delete(stop))
        .route("/jobs/{id}/again", post(again))
        .route("/jobs/{id}/events", get(events))
        .route("/jobs/{id}/found.png", get(found))
}

impl From<AvatarFault> for Problem {
    fn from(fault: AvatarFault) -> Self {
        let status = match fault.code {
            AvatarFaultCode::UnknownAvatar => StatusCode::NOT_FOUND,
            AvatarFaultCode::AvatarExists | AvatarFaultCode::AvatarBusy | AvatarFaultCode::AvatarProtected => {
                StatusCode::CONFLICT
            }
            AvatarFaultCode::NoUsableFace | AvatarFaultCode::UnusableFile => StatusCode::UNPROCESSABLE_ENTITY,
            AvatarFaultCode::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            AvatarFaultCode::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            AvatarFaultCode::ServerFault => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, fault.code.as_str(), fault.message)
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let message = error.to_string();
        let (status, code) = match error {
            UploadError::Full(_) => return Self::of(ErrorCode::ServerFull, message),
            UploadError::AddressFull(_) => return Self::of(ErrorCode::TooManyMessages, message),
            UploadError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_large"),
            UploadError::Slow(..) => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            UploadError::BrokeOff => (StatusCode::BAD_REQUEST, "broke_off"),
            UploadError::Unusable(_) => (StatusCode::UNPROCESSABLE_ENTITY, AvatarFaultCode::UnusableFile.as_str()),
            UploadError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, AvatarFaultCode::DiskFull.as_str()),
            UploadError::Disk => (StatusCode::INTERNAL_SERVER_ERROR, AvatarFaultCode::ServerFault.as_str()),
        };
        Self::new(status, code, message)
    }
}

async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let avatars = shared.options.avatars.maker.list().await;
    let avatars: Vec<Value> = avatars.iter().map(description).collect();
    let uploads = json!({
        "allowed": shared.options.avatars.uploads,
        "most_bytes": shared.avatar_jobs.limits().bytes,
    });
    as_json(&json!({"avatars": avatars, "uploads": uploads})).into_response()
}

fn description(avatar: &AvatarSummary) -> Value {
    let preview = avatar.preview.as_ref().map(|version| format!("/api/avatars/{}/preview.png?v={version}", avatar.id));
    json!({
        "id": avatar.id, "name": avatar.name, "kind": avatar.kind, "model": avatar.model,
        "width": avatar.width, "height": avatar.height, "matte": avatar.matte, "frames": avatar.frames,
        "licence": avatar.licence, "preview": preview,
        "usable": avatar.usable, "deletable": avatar.deletable,
    })
}

async fn preview(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<Response, Problem> {
    Ok(picture(shared.options.avatars.maker.preview(avatar_id(&id)?).await?))
}

fn picture(png: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, "no-cache")], png).into_response()
}

/// Takes a photo or a clip, and answers when it is there and its turn is waited for.
async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    Extension(grant): Extension<Arc<Grant>>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut file = request.into_body().into_data_stream();
    match take(&shared, (requester.address, &grant), &query, &mut file, announced).await {
        Ok(job) => (StatusCode::ACCEPTED, [(LOCATION, path_of(&job))], as_json(&told(&job))).into_response(),
        Err(problem) => {
            uploads::drain(&mut file).await;
            // What is not read of the file must not be taken for the next request.
            ([(CONNECTION, "close")], problem).into_response()
        }
    }
}

async fn take(
    shared: &Arc<Shared>,
    (address, grant): (Address, &Grant),
    query: &str,
    file: &mut BodyDataStream,
    announced: Option<u64>,
) -> Result<Arc<Job>, Problem> {
    check_uploads(shared)?;
    let order = order::read(query)?;
    check_order(grant, &order)?;
    shared.options.avatars.maker.check(order.id.clone(), order.replace).await?;
    shared.avatar_jobs.check_room(address, &order.id)?;
    let receiving = shared.avatar_jobs.uploads.receive(address, file, announced);
    let received = shared.shutdown.run_until_cancelled(receiving).await;
    let upload =
        received.ok_or_else(|| Problem::of(ErrorCode::ShuttingDown, "the server is shutting down".into()))??;
    shared.avatar_jobs.begin(shared, (address, grant.tenant()), order, upload)
}

/// The same file once more, with what a request asks for now: in place of the avatar that was made of it, if its id is the
/// same.
async fn again(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    check_uploads(&shared)?;
    let job = find(&shared, &grant, &id)?;
    let mut order = order::read(request.uri().query().unwrap_or_default())?;
    check_order(&grant, &order)?;
    order.replace |= job.has_made(&order.id);
    shared.options.avatars.maker.check(order.id.clone(), order.replace).await?;
    shared.avatar_jobs.again(&job, order)?;
    Ok((StatusCode::ACCEPTED, as_json(&told(&job))).into_response())
}

async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Id(id): Id,
) -> Result<Response, Problem> {
    Ok(as_json(&told(&*find(&shared, &grant, &id)?)).into_response())
}

async fn stop(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Id(id): Id,
) -> Result<StatusCode, Problem> {
    let job = find(&shared, &grant, &id)?;
    if shared.avatar_jobs.forget(&job.name) { Ok(StatusCode::NO_CONTENT) } else { Err(unknown_job(&id)) }
}

async fn found(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let job = find(&shared, &grant, &id)?;
    let png = job.state.borrow().found().cloned();
    let none =
        || Problem::new(StatusCode::NOT_FOUND, "no_picture", "there is no picture of what was found, or not yet");
    Ok(picture(png.ok_or_else(none)?))
}

async fn remove(State(shared): State<Arc<Shared>>, Id(id): Id) -> Result<StatusCode, Problem> {
    check_uploads(&shared)?;
    shared.options.avatars.maker.delete(avatar_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_uploads(shared: &Shared) -> Result<(), Problem> {
    if shared.options.avatars.uploads {
        return Ok(());
    }
    let message =
        "this server lets nobody make or delete avatars over the network: its settings may (allow_uploads = true)";
    Err(Problem::new(StatusCode::FORBIDDEN, "uploads_off", message))
}

fn avatar_id(id: &str) -> Result<AvatarId, Problem> {
    id.parse().map_err(|error: crate::ids::InvalidAvatarId| {
        Problem::new(StatusCode::NOT_FOUND, AvatarFaultCode::UnknownAvatar.as_str(), error.to_string())
    })
}

/// One of the tenant's.
fn find(shared: &Shared, grant: &Grant, id: &str) -> Result<Arc<Job>, Problem> {
    let job = shared.avatar_jobs.find(id).filter(|job| job.is_of(grant.tenant()));
    job.ok_or_else(|| unknown_job(id))
}

/// Whether a token is for the avatar that is asked for, and an avatar of somebody else's is not lost to it.
fn check_order(grant: &Grant, order: &AvatarOrder) -> Result<(), Problem> {
    guard::check_avatar(grant, &order.id)?;
    if order.replace && !grant.may(Permission::Administer) {
        return Err(guard::forbidden(&[Permission::Administer]).into());
    }
    Ok(())
}

fn unknown_job(id: &str) -> Problem {
    let message = format!("nothing is made as {:?}, or not any more: files are kept for a while only", clipped(id, 80));
    Problem::new(StatusCode::NOT_FOUND, "unknown_job", message)
}

fn wrong(message: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, &ErrorCode::BadMessage.to_string(), clipped(message, 300))
}

fn path_of(job: &Job) -> String {
    format!("/api/avatars/jobs/{}", job.name)
}

/// What is told of a job.
fn told(job: &Job) -> Value {
    let path = path_of(job);
    let state = job.state.borrow().clone();
    let mut told = json!({
        "job": job.name, "avatar_id": job.avatar_id(), "state": state.kind(), "events": format!("{path}/events"),
        "found": state.found().map(|_| found_path(&path, &state)),
    });
    if let (Some(told), Value::Object(more)) = (told.as_object_mut(), details(&path, &state)) {
        told.extend(more);
    }
    told
}

/// Another one for each picture, so that a browser fetches it anew.
fn found_path(path: &str, state: &JobState) -> String {
    let version = state.found().map_or(0, Vec::len);
    format!("{path}/found.png?v={version:x}")
}

/// What an event says of a state.
fn details(path: &str, state: &JobState) -> Value {
    let found = state.found().map(|_| found_path(path, state));
    match state {
        JobState::Waiting { ahead } => json!({"ahead": ahead}),
        JobState::Making { stage, share, seconds_left } => {
            json!({"stage": stage, "share": share, "seconds_left": seconds_left})
        }
        JobState::Done { made } => json!({"avatar": description(&made.avatar), "found": found}),
        JobState::Failed { not_made } => {
            json!({"code": not_made.fault.code, "message": not_made.fault.message, "found": found})
        }
    }
}

/// What becomes of a job, as server-sent events: `waiting` and `making` as often as they change, then `done` or `failed`.
async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    Extension(grant): Extension<Arc<Grant>>,
    Id(id): Id,
) -> Result<Response, Problem> {
    let job = find(&shared, &grant, &id)?;
    let slot = requester.slot;
    slot.becomes_event_stream(requester.address)
        .map_err(|full| Problem::of(ErrorCode::ServerFull, full.to_string()))?;
    let mut states = job.state.subscribe();
    // The state as it is now is news too.
    states.mark_changed();
    let watching = Watching { states, job, grant, slot, ended: false };
    // A proxy that gathers what it passes on would hold back all but the end.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(changes(watching)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

/// Somebody who watches a job, with a slot for that.
struct Watching {
    states: watch::Receiver<JobState>,
    job: Arc<Job>,
    grant: Arc<Grant>,
    slot: Arc<ConnectionSlot>,
    ended: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.slot.ends_event_stream();
    }
}

fn changes(watching: Watching) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watching, |mut watching| async move {
        if watching.ended {
            return None;
        }
        let state = {
            let changed = watching.job.forgotten.run_until_cancelled(watching.states.changed());
            let changed = tokio::select! {
                changed = changed => changed,
                // As with any stream that breaks off, a browser asks again, and is told then.
                () = watching.grant.ended() => None,
            };
            match changed {
                Some(Ok(())) => watching.states.borrow_and_update().clone(),
                // Forgotten: whoever did that knows, and the server ends all streams when it ends.
                Some(Err(_)) | None => return None,
            }
        };
        watching.ended = state.is_end();
        let data = details(&path_of(&watching.job), &state).to_string();
        Some((Ok(Event::default().event(state.kind()).data(data)), watching))
    })
}
