//! All WebSocket and HTTP: the wire protocol, a pure session state machine, sockets and the page.
//!
//! In here: how a client's words come in and a session's go out. Not in here: what they mean (`session`), media, speech.

mod api;
mod audio;
pub mod connection;
pub mod door;
pub mod handshake;
pub mod host;
pub(crate) mod limits;
pub mod listener;
mod pages;
pub mod protocol;
pub mod session;
pub mod socket;
mod visit;
