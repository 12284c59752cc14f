//! All WebSocket and HTTP: the wire protocol, a pure session state machine, sockets and the page.
//!
//! In here: what a connection may ask of the rest of the server, as traits. Not in here: media, speech.

mod api;
mod audio;
pub mod connection;
pub mod door;
pub mod handshake;
pub mod host;
pub(crate) mod limits;
pub mod listener;
mod notices;
mod pages;
pub mod protocol;
pub mod session;
pub mod socket;
mod visit;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;

pub use notices::{NoticeReceiver, NoticeSender, Told, notices};

use crate::ids::{AvatarId, SessionId, UtteranceId, ViewerId};
use crate::latency::Stages;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A trickled ICE candidate, as RTCIceCandidateInit of the W3C's WebRTC API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    pub candidate: String,
    pub sdp_mid: Option<String>,
    pub sdp_m_line_index: Option<u32>,
    pub username_fragment: Option<String>,
}

/// What a viewer's peer connection reports; sent with `try_send` from callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A candidate of ours for the browser; `None` after the last one.
    Candidate(Option<IceCandidate>),
    Connected,
    /// ICE or DTLS failed or the peer went away; the viewer is to be dropped.
    Closed {
        reason: String,
    },
}

/// One WebRTC peer as a connection sees it. Dropping it closes the peer and frees what it held.
pub trait Peer: Send {
    fn id(&self) -> ViewerId;
    /// Our answer, holding the host candidates already.
    fn answer(&self) -> &str;
    /// The answer to another offer of the same RTCPeerConnection, or why there is none; the peer goes on in either case.
    /// `None` if the offer is of another connection: then another peer has to answer.
    fn renegotiate(&self, offer: &str) -> Option<Result<String, OpenPeerError>>;
    fn add_candidate(&self, candidate: &IceCandidate);
    /// The button to talk went down or up; nothing to a peer whose microphone nobody hears.
    fn push_to_talk(&self, is_pressed: bool);
}

/// What a connection may ask of the session it belongs to. Implemented by the server, faked in tests.
pub trait Session: Send + Sync {
    fn id(&self) -> SessionId;
    fn avatar(&self) -> AvatarInfo;
    /// STUN and TURN servers for the page's RTCPeerConnection, as its `iceServers` member.
    fn ice_servers(&self) -> Vec<IceServer>;
    /// Whether what a microphone in an offer hears is listened to.
    fn listens(&self) -> bool;
    /// Answers an offer that may hold anything at all; refused before webrtcbin sees it if it cannot be served.
    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, OpenPeerError>>;
    /// Queues a turn. Fails at once if the queue is full or there is nothing to say.
    fn submit(&self, command: Command) -> Result<(), SubmitError>;
}

/// How a connection finds or opens its session.
pub trait Sessions: Send + Sync {
    /// `avatar`: another than the server's own; `name`: a shared session to join or open.
    /// `notices` gets everything the session tells its viewers.
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, JoinError>>;
    /// Why no new session can be opened just now, for `/readyz`; `None` if one can.
    fn full(&self) -> Option<String>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvatarInfo {
    pub id: AvatarId,
    /// What people call it.
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credential: Option<String>,
}

/// A turn or a piece of one, from a client to its session.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A user's turn: the dialogue replies and the reply is spoken.
    Text {
        content: String,
        id: Option<String>,
    },
    /// Say exactly this.
    Speak {
        content: String,
        id: Option<String>,
    },
    Interrupt,
    /// A viewer saw the first lip-synced frame of an utterance so long after the turn began.
    Shown {
        utterance: UtteranceId,
        after: Duration,
    },
    /// A turn in the client's own voice begins.
    AudioStart {
        sample_rate: u32,
        id: Option<String>,
    },
    /// 16-bit mono at the announced rate.
    Audio(Vec<i16>),
    AudioEnd,
}

impl Command {
    /// The client's own name of the turn that it begins.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Text { id, .. } | Self::Speak { id, .. } | Self::AudioStart { id, .. } => id.as_deref(),
            Self::Interrupt | Self::Shown { .. } | Self::Audio(_) | Self::AudioEnd => None,
        }
    }
}

/// What a session tells every viewer.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A piece of the reply, shown at once; `id` is the client's own for the turn.
    Text {
        content: String,
        utterance: UtteranceId,
        id: Option<String>,
        is_final: bool,
    },
    /// What somebody says into a microphone, or a draft of it.
    Transcript {
        content: String,
        is_final: bool,
    },
    SpeechStarted {
        utterance: UtteranceId,
        id: Option<String>,
    },
    /// A sentence is being heard: when its words are, and again once that is known better.
    Caption {
        utterance: UtteranceId,
        /// Which of the utterance, from 0.
        sentence: usize,
        /// Of the audio packet that it begins with, at 48 kHz; `None` if nothing was sent yet.
        rtp_timestamp: Option<u32>,
        words: Vec<CaptionWord>,
    },
    /// The first lip-synced frame has left.
    Latency {
        utterance: UtteranceId,
        /// Of that frame, at 90 kHz; `None` if nothing is sent.
        rtp_timestamp: Option<u32>,
        stages: Stages,
    },
    SpeechEnded {
        utterance: UtteranceId,
        id: Option<String>,
        interrupted: bool,
        spoken_ms: u64,
        text_spoken: String,
    },
    /// A turn ends because something failed; what was heard of it before that is told as of any other.
    Failed {
        utterance: UtteranceId,
        id: Option<String>,
        code: ErrorCode,
        message: String,
        spoken_ms: u64,
        text_spoken: String,
    },
    /// Something failed, and no turn ends by it.
    Error {
        code: ErrorCode,
        message: String,
        fatal: bool,
    },
    /// The client took so many notices too slowly, and they are not told.
    Missed {
        count: u64,
    },
}

/// A word of a caption and when it is heard, from the beginning of its sentence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaptionWord {
    /// With the space behind it, so that all of them together are the sentence.
    pub text: String,
    pub start_ms: u32,
    pub end_ms: u32,
}

/// The `code` of an `error` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadJson,
    UnknownType,
    BadMessage,
    MessageTooLong,
    TooManyMessages,
    OfferWithoutMedia,
    OfferNotReceivable,
    NoCommonCodec,
    BadSdp,
    BadCandidate,
    TooManyCandidates,
    NegotiationFailed,
    PeerFailed,
    NothingToSay,
    TextTooLong,
    Busy,
    AudioNotStarted,
    BadAudio,
    UnknownAvatar,
    /// It exists, and cannot be loaded just now.
    AvatarUnavailable,
    BadSessionName,
    SessionExists,
    SpeechFailed,
    /// Something of a text was left out, because no voice can say it.
    NoVoice,
    LlmFailed,
    LlmRateLimited,
    AsrFailed,
    LipSyncFailed,
    ServerFull,
    ShuttingDown,
}

impl ErrorCode {
    /// When it may be worth another try, where that is known: a place is free when somebody leaves.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::ServerFull | Self::AvatarUnavailable => Some(Duration::from_secs(5)),
            Self::TooManyMessages => Some(Duration::from_secs(1)),
            Self::ShuttingDown => Some(Duration::from_secs(2)),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorCode {
    /// As on the wire.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        serde::Serialize::serialize(self, formatter)
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct OpenPeerError {
    pub code: ErrorCode,
    pub message: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SubmitError {
    pub code: ErrorCode,
    pub message: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct JoinError {
    pub code: ErrorCode,
    pub message: String,
}
