//! Who asks, and whether that is enough for what is asked.
//!
//! In here: tokens as requests bring them, and refusing those without. `door` lets in clients of WebSockets, `needs` is the
//! table of what each route needs, `permitted_sessions` what a session's client may do. Not in here: what a token says
//! (`access`), what one address may take (`quota`), which pages may ask (`handshake`).
//! Runs on: the task of the HTTP connection.

pub mod door;
pub mod needs;
mod permitted_sessions;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::Problem;
use super::handshake::JoinRequest;
use super::listener::Shared;
use crate::access::{Access, Grant, Permission, TokenFault};
use crate::session::{ErrorCode, Refusal};
use needs::Need;
pub(super) use permitted_sessions::PermittedSessions;

/// Puts the [`Grant`] of whoever asks into the request, or refuses it. Where there are no tokens everybody may do everything.
pub(super) async fn for_who_may(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let grant = match &shared.options.access {
        None => Ok(Grant::everything()),
        Some(access) => admit(access, &shared, &request),
    };
    match grant {
        Ok(grant) => {
            request.extensions_mut().insert(Arc::new(grant));
            next.run(request).await
        }
        Err(refused) => *refused,
    }
}

fn admit(access: &Access, shared: &Shared, request: &Request) -> Result<Grant, Box<Response>> {
    let nobody = || Ok(Grant::own([]));
    let Some(path) = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) else {
        // There is nothing at this path.
        return nobody();
    };
    let permissions = match needs::of(request.method(), path) {
        // Whoever comes by a WebSocket is asked there.
        Some(Need::Nothing | Need::Socket) => return nobody(),
        Some(Need::AnyOf(permissions)) => permissions,
        None => &[],
    };
    let token = bearer(request.headers());
    let is_watched = permissions.contains(&Permission::View) && path.starts_with("/whep/");
    let grant = match (token, &shared.options.whep.token) {
        (Some(given), Some(token)) if is_watched && token.is(given) => Ok(Grant::own([Permission::View])),
        (Some(given), _) => access.check(given),
        (None, _) => Err(TokenFault::Missing),
    };
    let grant = grant.map_err(|fault| Box::new(unauthorized(&fault)))?;
    if grant.may_any(permissions) {
        return Ok(grant);
    }
    let methods = needs::methods(path);
    if permissions.is_empty() && !methods.is_empty() {
        let message = "this path has other methods: see the header Allow";
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        return Err(Box::new(([(ALLOW, methods)], problem).into_response()));
    }
    Err(Box::new(Problem::from(forbidden(permissions)).into_response()))
}

/// What a token lacks that allows none of these.
pub(super) fn forbidden(permissions: &[Permission]) -> Refusal {
    let wanted = permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" or ");
    let message = if wanted.is_empty() {
        "no token allows this".to_owned()
    } else {
        format!("the token does not allow this: it takes one that may {wanted}")
    };
    Refusal::new(ErrorCode::Forbidden, message)
}

/// As RFC 6750 has it: what is wrong is told only to who brought something.
pub(super) fn unauthorized(fault: &TokenFault) -> Response {
    let challenge = match fault {
        TokenFault::Missing => "Bearer",
        _ => "Bearer error=\"invalid_token\"",
    };
    let problem = Problem::from(refusal(fault));
    ([(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))], problem).into_response()
}

/// The same for the client of a WebSocket.
pub(super) fn refusal(fault: &TokenFault) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, fault.to_string())
}

/// A session as a token may name it: the only one that it is for, and with the only avatar, where it is for one.
pub(super) fn restricted(grant: &Grant, join: JoinRequest) -> Result<JoinRequest, Refusal> {
    let JoinRequest { avatar, name } = join;
    let name = match (name, grant.session()) {
        (Some(name), only) => {
            check_session(grant, &name)?;
            Some(only.map_or(name, str::to_owned))
        }
        (None, only) => only.map(str::to_owned),
    };
    if let Some(avatar) = &avatar {
        check_avatar(grant, avatar)?;
    }
    Ok(JoinRequest { avatar: avatar.or_else(|| grant.avatar().cloned()), name })
}

/// Whether a token is for the session that the tenant calls by this name.
pub(super) fn check_session(grant: &Grant, name: &str) -> Result<(), Refusal> {
    match grant.session() {
        Some(only) if only != name => {
            Err(Refusal::new(ErrorCode::Forbidden, format!("the token is for session {only:?} alone")))
        }
        _ => Ok(()),
    }
}

/// Whether a token is for this avatar.
pub(super) fn check_avatar(grant: &Grant, avatar: &crate::ids::AvatarId) -> Result<(), Refusal> {
    match grant.avatar() {
        Some(only) if only != avatar => {
            Err(Refusal::new(ErrorCode::Forbidden, format!("the token is for avatar \"{only}\" alone")))
        }
        _ => Ok(()),
    }
}

/// The token of a request. One in the URL is none: URLs are logged and handed on.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
