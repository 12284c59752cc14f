//! Viewers by plain HTTP: WHEP (draft-ietf-wish-whep-04), for players that know no protocol of ours.
//!
//! `POST /whep/{session}` takes an offer for a session that is open and answers it with all of our candidates; the URL in
//! `Location` takes the viewer's own candidates (PATCH) and ends it (DELETE). ICE restarts are refused (422), so that a
//! player that needs one posts another offer.
//!
//! Where the avatar is cut out, the answer has a header `Mouthpiece-Matte`: `beside` or `below`. The video is then twice as
//! wide, or twice as high: its left or upper half has the colours (straight, not multiplied), its right or lower one the matte
//! as grey, from luma 16, transparent, to 235, opaque (`picture::matte`). `GET /api/sessions/{session}` tells the same of
//! the avatar that is seen by now, in `avatar.matte`.
//!
//! In here: routes, statuses, headers, who may ask. `description` reads and writes the SDP, `viewers` keeps the viewers.
//! Not in here: whether an offer can be served (`media`), what one address may take (`quota`).
//! Runs on: the task of the HTTP connection.

mod description;
pub(super) mod viewers;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::time::timeout;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::api::{Problem, foreign_origin};
use super::guard::{self, PermittedSessions, bearer};
use super::handshake::{JoinRequest, is_origin_allowed};
use super::http_connection::Requester;
use super::listener::Shared;
use crate::access::Grant;
use crate::endpoint::Key;
use crate::metrics;
use crate::session::{ErrorCode, IceServer, OFFER_BYTES, Refusal};
use description::Fragment;
use viewers::Unwatched;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
/// Of a session whose avatar is cut out: which half of the video its matte is.
const MATTE: HeaderName = HeaderName::from_static("mouthpiece-matte");
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// Longest fragment: as many candidates as an offer may hold.
const FRAGMENT_BYTES: usize = OFFER_BYTES;
/// For the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// When to ask again for a session that is not open: somebody may be about to open it.
const NOT_LIVE: Duration = Duration::from_secs(2);

/// Whether viewers may come by WHEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhepOptions {
    /// Whether there are such paths at all.
    pub enabled: bool,
    /// What every request has to bring, as `Authorization: Bearer`; without one, whoever knows a session's name may watch.
    pub token: Option<Key>,
}

impl Default for WhepOptions {
    fn default() -> Self {
        Self { enabled: true, token: None }
    }
}

/// Each of them has a line in `guard::needs`.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/whep/{session}", get(endpoint).post(watch))
        .route("/whep/{session}/{viewer}", get(show).patch(trickle).delete(end))
}

pub(super) fn router(shared: Arc<Shared>) -> Router<Arc<Shared>> {
    if !shared.options.whep.enabled {
        return Router::new();
    }
    let origins = origins(&shared);
    routes()
        .method_not_allowed_fallback(async || {
            let message = "this path has other methods: see the header Allow";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(from_fn_with_state(shared, for_who_may_watch))
        .layer(origins)
        .layer(from_fn(telling_media_types))
}

/// What other pages' players may do. A page cannot have a token that nobody gave it, so where one is asked for, any page may
/// ask with it.
fn origins(shared: &Shared) -> CorsLayer {
    let allowed: Arc<[String]> = shared.options.allowed_origins.clone().into();
    let has_token = shared.options.whep.token.is_some() || shared.options.access.is_some();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |_, request| {
            has_token || is_origin_allowed(&request.headers, &allowed)
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([CONTENT_TYPE, AUTHORIZATION, IF_MATCH])
        .expose_headers([LOCATION, LINK, ETAG, RETRY_AFTER, WWW_AUTHENTICATE, ACCEPT_POST, ACCEPT_PATCH, MATTE])
        .max_age(Duration::from_secs(600))
}

/// Every answer to OPTIONS names what may be posted, and so does every 415.
async fn telling_media_types(request: Request, next: Next) -> Response {
    let is_options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    if is_options || response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(SDP));
        response.headers_mut().insert(ACCEPT_PATCH, HeaderValue::from_static(FRAGMENT));
    }
    response
}

async fn for_who_may_watch(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    if shared.options.access.is_some() {
        return guard::for_who_may(State(shared), request, next).await;
    }
    request.extensions_mut().insert(Arc::new(Grant::everything()));
    let Some(token) = &shared.options.whep.token else {
        if is_origin_allowed(request.headers(), &shared.options.allowed_origins) {
            return next.run(request).await;
        }
        return foreign_origin().into_response();
    };
    let challenge = match bearer(request.headers()) {
        Some(given) if token.is(given) => return next.run(request).await,
        // RFC 6750, 3: what is wrong is told only to who brought something.
        Some(_) => "Bearer error=\"invalid_token\"",
        None => "Bearer",
    };
    let message = "this server is watched with a token only: send it as Authorization: Bearer TOKEN";
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    with(problem.into_response(), WWW_AUTHENTICATE, challenge)
}

fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
    response
}

/// How players find out that they may post here: there is nothing else to see.
async fn endpoint(Path(session): Path<String>) -> Result<Response, Problem> {
    check_name(&session)?;
    Ok([(CONTENT_TYPE, SDP)].into_response())
}

fn check_name(session: &str) -> Result<(), Problem> {
    JoinRequest::check_name(session)
        .map_err(|Refusal { code, message }| Problem::new(StatusCode::NOT_FOUND, &code.to_string(), message))
}

async fn watch(
    State(shared): State<Arc<Shared>>,
    Extension(requester): Extension<Requester>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(session): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    check_name(&session)?;
    let JoinRequest { avatar, .. } = JoinRequest::from_query(request.uri().query().unwrap_or_default())?;
    let offer = read(request, SDP, OFFER_BYTES).await?;
    let slot = shared.quota.admit_web_socket(requester.address).map_err(|full| {
        metrics::connection_refused();
        Problem::of(ErrorCode::ServerFull, full.to_string())
    })?;
    let sessions = PermittedSessions { sessions: requester.sessions(&shared), grant };
    let opened = viewers::open(&shared, sessions, (avatar, session.clone()), offer, slot).await;
    let viewer = opened.map_err(|unwatched| match unwatched {
        Unwatched::NotLive => {
            let message = format!("session {session:?} is not open just now: ask again in a while");
            Problem::new(StatusCode::CONFLICT, "not_live", message).retry_after(NOT_LIVE)
        }
        Unwatched::Refused(Refusal { code: ErrorCode::BadSdp, message }) => {
            Problem::new(StatusCode::BAD_REQUEST, &ErrorCode::BadSdp.to_string(), message)
        }
        Unwatched::Refused(refusal) => refusal.into(),
    })?;
    let headers = [(CONTENT_TYPE, SDP), (LOCATION, viewer.path.as_str()), (ETAG, viewer.etag.as_str())];
    let mut response = (StatusCode::CREATED, headers, viewer.answer).into_response();
    for link in viewer.ice_servers.iter().flat_map(links) {
        response = with(response, LINK, &link);
    }
    if let Some(place) = viewer.avatar.matte {
        response = with(response, MATTE, place.name());
    }
    Ok(response)
}

/// The `Link` of each URL of a STUN or TURN server (RFC 9725, 4.6).
fn links(server: &IceServer) -> Vec<String> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let attribute = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("; {name}=\"{}\"", quoted(value))).unwrap_or_default()
    };
    let user = attribute("username", &server.username);
    let credential = attribute("credential", &server.credential);
    let kind = if server.credential.is_some() { "; credential-type=\"password\"" } else { "" };
    server.urls.iter().map(|url| format!("<{url}>; rel=\"ice-server\"{user}{credential}{kind}")).collect()
}

async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    shared.whep.find(&session_of(&grant, &path)?, &path.1).map(|_| StatusCode::NO_CONTENT).ok_or_else(gone)
}

/// What the server calls the session that a path names.
fn session_of(grant: &Grant, path: &(String, String)) -> Result<String, Problem> {
    guard::check_session(grant, &path.0)?;
    Ok(grant.inner_name(&path.0))
}

fn gone() -> Problem {
    let message = "there is no such viewer: it has left, or never connected; post another offer to watch again";
    Problem::new(StatusCode::NOT_FOUND, "unknown_viewer", message)
}

/// Takes the viewer's candidates. Those that cannot be used are left out without a word, as the draft says.
async fn trickle(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(path): Path<(String, String)>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let viewer = shared.whep.find(&session_of(&grant, &path)?, &path.1).ok_or_else(gone)?;
    check_media_type(request.headers(), FRAGMENT)?;
    check_precondition(request.headers(), viewer.etag())?;
    let text = read(request, FRAGMENT, FRAGMENT_BYTES).await?;
    let fragment = Fragment::parse(&text)
        .map_err(|problem| Problem::new(StatusCode::BAD_REQUEST, "bad_fragment", problem.to_string()))?;
    if viewer.add(&fragment) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let message = "ICE restarts are not served, the viewer goes on as it is: post another offer to begin anew";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "ice_restart", message))
}

/// RFC 9110, 13.1.1, and RFC 6585, 3. `*` is any.
fn check_precondition(headers: &HeaderMap, etag: &str) -> Result<(), Problem> {
    let mut given = headers.get_all(IF_MATCH).iter().peekable();
    if given.peek().is_none() {
        let message = "send If-Match with the ETag that came with the answer to the offer";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "precondition_required", message));
    }
    let mut tags = given.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim);
    if tags.any(|tag| tag == "*" || tag == etag) {
        return Ok(());
    }
    let message = "If-Match is not the ETag that came with the answer to the offer";
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message))
}

async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    if shared.whep.end(&session_of(&grant, &path)?, &path.1) { Ok(StatusCode::OK) } else { Err(gone()) }
}

fn check_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if given.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    let message = format!("send Content-Type: {wanted}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// The text in a body of this media type.
async fn read(request: Request, media_type: &str, most: usize) -> Result<String, Problem> {
    check_media_type(request.headers(), media_type)?;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not come within 10 s");
    let long = |_| {
        let message = format!("the body has more than {most} bytes, or broke off");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, &ErrorCode::MessageTooLong.to_string(), message)
    };
    let body = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), most)).await.map_err(late)?.map_err(long)?;
    String::from_utf8(body.into()).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, &ErrorCode::BadSdp.to_string(), "the body is not text in UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_a_link_with_its_credentials() {
        let stun = IceServer { urls: vec!["stun:h:1".into()], username: None, credential: None };
        assert_eq!(links(&stun), ["<stun:h:1>; rel=\"ice-server\""]);
        let turn = IceServer {
            urls: vec!["turn:h:1".into(), "turn:h:1?transport=tcp".into()],
            username: Some("u".into()),
            credential: Some("p\"\\".into()),
        };
        let rest = "; rel=\"ice-server\"; username=\"u\"; credential=\"p\\\"\\\\\"; credential-type=\"password\"";
        assert_eq!(links(&turn), [format!("<turn:h:1>{rest}"), format!("<turn:h:1?transport=tcp>{rest}")]);
    }

    #[test]
    fn only_the_very_tag_or_any_is_a_match() {
        let status = |given: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(IF_MATCH, value.parse().unwrap());
            }
            check_precondition(&headers, "\"abc\"").map_or_else(|problem| problem.status().as_u16(), |()| 204)
        };
        for (given, expected) in [
            (&[][..], 428),
            (&["\"abc\""], 204),
            (&["*"], 204),
            (&["\"x\", \"abc\""], 204),
            (&["\"x\"", "\"abc\""], 204),
            (&["W/\"abc\""], 412),
            (&["abc"], 412),
            (&[""], 412),
            (&["\"ab\""], 412),
        ] {
            assert_eq!(status(given), expected, "{given:?}");
        }
    }
}
