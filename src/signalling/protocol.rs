//! The wire protocol, version 1: JSON text frames on `GET /ws`, whose field `type` says what they are.
//!
//! In here: what both directions share. `client_message` is what clients send and what is wrong with a message that cannot be
//! read, `server_message` what they are sent. Not in here: what a message does (`client`), sockets (`socket`), what SDP may
//! hold (`media`).
//! Runs on: whichever task calls it; nothing here waits.
//!
//! # Who a client is
//!
//! Where the server asks for tokens (`access`), a client brings one in its handshake, as `Authorization: Bearer` or as the
//! subprotocol `bearer.TOKEN` beside `mouthpiece`, or in a first message `token` within ten seconds. What it may not do is
//! answered by an `error` `forbidden`, which changes nothing; a token that lets nobody in, or that ends, by one that is fatal
//! (`unauthorized`, `token_ended`).
//!
//! # How a turn ends
//!
//! `text`, `speak` and `audio_start` begin a turn, and so does speech into a microphone. One that is refused is answered by
//! an `error` with the turn's `id` and no `utterance_id`, to the client that sent it. One that is taken gets an utterance,
//! and ends in exactly one of these two, told to all clients of the session:
//!
//! - `speech_ended`: it was spoken to its end, or it is `interrupted`. One that is cancelled before anything of it is heard,
//!   as one that still waits, has `spoken_ms` 0. So has one with nothing in it that can be spoken, which is not
//!   `interrupted`.
//! - `error` with `utterance_id`: something failed. It comes when what was made before the fault has been heard, and says as
//!   `speech_ended` does how much that was.
//!
//! Nothing more is told of an utterance after its end. A `fatal` error, or the end of the connection, ends all of them. An
//! `error` without `utterance_id` ends no turn: the mouth that could not be drawn while the voice goes on, the microphone
//! that was not understood. A client that reads too slowly is told by `missed` that it does not know everything.

mod client_message;
mod server_message;

use serde::{Deserialize, Serialize};

pub(super) use client_message::ClientMessage;
pub(super) use server_message::ServerMessage;

use crate::picture::matte::MattePlace;
use crate::session::{AvatarInfo, IceCandidate, OFFER_BYTES};

/// Sent in `session`; raised when a message changes in a way that an existing client would misread.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest message that is read, in bytes, text and binary alike: an offer is the longest that there is.
pub(super) const MAX_MESSAGE_BYTES: usize = OFFER_BYTES;

/// Whose words a transcript holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
}

/// The avatar of a session, in `session` and `avatar`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avatar {
    pub id: String,
    /// What people call it.
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    /// Where the matte lies in the video, if it is cut out; the video is then twice as wide, or twice as high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matte: Option<MattePlace>,
    /// What it can be asked to do by `gesture`.
    pub gestures: Vec<String>,
}

/// RTCIceCandidateInit. Browsers add fields of their own (`foundation`, `address`, ...), so others are ignored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateInit {
    pub candidate: String,
    // Renamed one by one: camelCase of sdp_m_line_index is right only by luck of the underscores.
    #[serde(rename = "sdpMid")]
    pub sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u32>,
    #[serde(rename = "usernameFragment")]
    pub username_fragment: Option<String>,
}

impl From<AvatarInfo> for Avatar {
    fn from(info: AvatarInfo) -> Self {
        let AvatarInfo { id, name, width, height, fps, matte, gestures } = info;
        Self { id: id.to_string(), name, width, height, fps, matte, gestures }
    }
}

impl From<IceCandidate> for CandidateInit {
    fn from(candidate: IceCandidate) -> Self {
        let IceCandidate { candidate, sdp_mid, sdp_m_line_index, username_fragment } = candidate;
        Self { candidate, sdp_mid, sdp_m_line_index, username_fragment }
    }
}

impl From<CandidateInit> for IceCandidate {
    fn from(candidate: CandidateInit) -> Self {
        let CandidateInit { candidate, sdp_mid, sdp_m_line_index, username_fragment } = candidate;
        Self { candidate, sdp_mid, sdp_m_line_index, username_fragment }
    }
}

/// The first characters of something that came from a client, for a message about it.
pub(super) fn clipped(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
