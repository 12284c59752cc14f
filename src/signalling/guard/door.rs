//! How clients of WebSockets come in, where a token is asked for.
//!
//! In here: the token of a handshake, or of the first message. Not in here: tokens of other requests (`guard`), the socket
//! (`socket`).
//! Runs on: the task of the HTTP connection, then that of the client.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{bearer, refusal};
use crate::access::{Access, Grant, TokenFault};
use crate::session::{ErrorCode, Refusal};
use crate::signalling::listener::Shared;
use crate::signalling::protocol::{ClientMessage, MAX_MESSAGE_BYTES};
use crate::signalling::socket::{Socket, SocketEvent};

/// The subprotocol of `/ws`, and what stands before a token that a browser offers as another one: a page cannot set headers.
pub(in super::super) const SUBPROTOCOL: &str = "mouthpiece";
const BEARER_SUBPROTOCOL: &str = "bearer.";

/// For the first message of a client that has not shown a token yet.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How the client of a WebSocket comes in.
pub enum Door {
    /// It may do this much.
    Open(Arc<Grant>),
    /// It has to show a token first.
    Asks(Arc<Access>),
    /// Its token lets nobody in.
    Shut(TokenFault),
}

/// How whoever opens a WebSocket comes in: by a header, as programs can, by a subprotocol, as pages can, or by what it
/// says first.
pub(in super::super) fn of(shared: &Shared, headers: &HeaderMap) -> Door {
    let Some(access) = &shared.options.access else { return Door::Open(Arc::new(Grant::everything())) };
    let offered = || subprotocols(headers).find_map(|offered| offered.strip_prefix(BEARER_SUBPROTOCOL));
    match bearer(headers).or_else(offered) {
        None => Door::Asks(Arc::clone(access)),
        Some(token) => access.check(token).map_or_else(Door::Shut, |grant| Door::Open(Arc::new(grant))),
    }
}

/// Whether ours is among the subprotocols that a client offers. A browser gives up where none of its own is taken.
pub(in super::super) fn offers_subprotocol(headers: &HeaderMap) -> bool {
    subprotocols(headers).any(|offered| offered == SUBPROTOCOL)
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// What the client may do, by a token that it has shown or shows first of all.
pub(in super::super) async fn enter<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    door: Door,
) -> Result<Arc<Grant>, Refusal> {
    match door {
        Door::Open(grant) => Ok(grant),
        Door::Shut(fault) => Err(refusal(&fault)),
        Door::Asks(access) => {
            let shown = timeout(TOKEN_TIMEOUT, first_token(socket, &access)).await;
            shown.unwrap_or(Err(TokenFault::Missing)).map(Arc::new).map_err(|fault| match fault {
                TokenFault::Missing => {
                    let message = "this server lets nobody in without a token: offer the subprotocols mouthpiece and \
                                   bearer.TOKEN, or say {\"type\":\"token\",\"token\":\"...\"} first, within 10 s";
                    Refusal::new(ErrorCode::Unauthorized, message)
                }
                fault => refusal(&fault),
            })
        }
    }
}

/// The grant of the token in the first message, whatever else that may be.
async fn first_token<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Socket<S>,
    access: &Access,
) -> Result<Grant, TokenFault> {
    match socket.next().await {
        SocketEvent::Text(text) if text.len() <= MAX_MESSAGE_BYTES => match ClientMessage::parse(&text) {
            Ok(ClientMessage::Token { token }) => access.check(token.as_str()),
            Ok(_) | Err(_) => Err(TokenFault::Missing),
        },
        _ => Err(TokenFault::Missing),
    }
}
