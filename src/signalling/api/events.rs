//! What a session tells, over HTTP.
//!
//! In here: the route `/api/sessions/{id}/events`. Not in here: the messages (`protocol`), who passes them on (`sessions`).
//! Runs on: the task of the HTTP connection.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::Extension;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::error::RecvError;

use super::sessions::Subscriber;
use super::{Found, KEEP_ALIVE, Problem};
use crate::access::{Grant, Permission};
use crate::session::{ErrorCode, Notice};
use crate::signalling::http_connection::Requester;
use crate::signalling::protocol::ServerMessage;
use crate::signalling::quota::ConnectionSlot;

/// What the session tells, from now on, as server-sent events (WHATWG HTML, 9.2): `event` is the message's type, `data` the
/// message as on the WebSocket.
pub(super) async fn listen(
    Extension(requester): Extension<Requester>,
    Found { session, grant }: Found,
) -> Result<Response, Problem> {
    let slot = requester.slot;
    slot.becomes_event_stream(requester.address)
        .map_err(|full| Problem::of(ErrorCode::ServerFull, full.to_string()))?;
    let listening = Listening { subscriber: session.subscribe(), grant, slot, heard: Heard::Nothing };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(told(listening)).keep_alive(keep_alive).into_response())
}

/// A program that hears events, with a slot for one that does.
struct Listening {
    subscriber: Subscriber,
    grant: Arc<Grant>,
    slot: Arc<ConnectionSlot>,
    heard: Heard,
}

/// How far a program is that hears events.
#[derive(PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// There is nothing more to hear.
    All,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.slot.ends_event_stream();
    }
}

fn told(listening: Listening) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(listening, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok(event), listening))
    })
}

impl Listening {
    async fn next(&mut self) -> Option<Event> {
        match std::mem::replace(&mut self.heard, Heard::Something) {
            // At once, so that whoever connects knows that it is heard from here on.
            Heard::Nothing => return Some(Event::default().comment("listening")),
            Heard::Something => {}
            Heard::All => return None,
        }
        loop {
            let notice = tokio::select! {
                notice = self.subscriber.next() => notice,
                () = self.grant.ended() => {
                    self.heard = Heard::All;
                    let message = "the token has ended: listen again with another one";
                    return Some(event_of(&ServerMessage::fatal(ErrorCode::TokenEnded, message)));
                }
            };
            match notice {
                Ok(Notice::Outputs(_)) if !self.grant.may(Permission::Administer) => {}
                Ok(notice) => return Some(event_of(&ServerMessage::from(notice))),
                Err(RecvError::Lagged(count)) => return Some(event_of(&ServerMessage::Missed { count })),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

fn event_of(message: &ServerMessage) -> Event {
    Event::default().event(message.kind()).data(message.to_json())
}
