//! All WebSocket and HTTP: the wire protocol, what one client may do next, sockets and the page.
//!
//! In here: how a client's words come in and a session's go out. `listener` accepts (`metrics_listener` on an address of its own), `http_connection` serves HTTP,
//! `client_task` one WebSocket, `whep` viewers of other players; `client` decides, without a socket or a clock, by
//! `protocol` and `limits`; `quota` is what one address may take. Not in here: what the words mean (`session`),
//! media, speech. `guard` says who may come in.

mod api;
mod audio_turns;
pub mod avatar_making;
mod browser_policy;
mod client;
pub mod client_task;
pub mod guard;
pub mod handshake;
pub(crate) mod host;
mod http_connection;
pub(crate) mod limits;
pub mod listener;
pub mod metrics_listener;
mod page_files;
pub mod pipelines;
mod protocol;
pub mod quota;
pub mod socket;
pub mod tls;
pub mod uploads;
pub mod whep;
