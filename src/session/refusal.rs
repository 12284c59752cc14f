//! Why something is not done, as whoever asked for it is told.

use std::fmt;
use std::time::Duration;

/// Why an offer, a command, a candidate or a client is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what is wrong, by the name of the field, and what would be right.
    pub message: String,
}

impl Refusal {
    /// For this reason, in these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The `code` of an `error` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A message is not a JSON object.
    BadJson,
    /// A message of a `type` that there is not.
    UnknownType,
    /// A message, or a request, whose fields are not as they must be.
    BadMessage,
    /// A message, or a request, of more bytes than are read.
    MessageTooLong,
    /// A client sends faster than it may.
    TooManyMessages,
    /// An offer that asks for neither picture nor sound.
    OfferWithoutMedia,
    /// An offer with neither picture nor sound that the client would receive.
    OfferNotReceivable,
    /// An offer with no codec that the server can send.
    NoCommonCodec,
    /// An offer that is not SDP, or not whole.
    BadSdp,
    /// A candidate that is not one.
    BadCandidate,
    /// More candidates than a peer may have.
    TooManyCandidates,
    /// An offer that is right, and yet came to no answer.
    NegotiationFailed,
    /// The WebRTC peer, or the session, is broken or cannot be had.
    PeerFailed,
    /// A text without a word that can be spoken.
    NothingToSay,
    /// A text of more characters than are spoken in one turn.
    TextTooLong,
    /// More waits already than may.
    Busy,
    /// Audio, or its end, without a beginning.
    AudioNotStarted,
    /// Audio that is not as announced, or breaks off.
    BadAudio,
    /// There is no avatar of this name.
    UnknownAvatar,
    /// It exists, and cannot be loaded just now.
    AvatarUnavailable,
    /// The avatar has no gesture of this name.
    UnknownGesture,
    /// A name that no session can have.
    BadSessionName,
    /// A session of this name is open already.
    SessionExists,
    /// The voice failed.
    SpeechFailed,
    /// Something of a text was left out, because no voice can say it.
    NoVoice,
    /// The language model failed.
    LlmFailed,
    /// The language model is asked more than it allows.
    LlmRateLimited,
    /// The speech recogniser failed.
    AsrFailed,
    /// The mouth could not be drawn.
    LipSyncFailed,
    /// Outputs may not be started over the network, or not of this kind.
    OutputsOff,
    /// An output whose address, name or kind cannot be used.
    BadOutput,
    /// There is an output, or a recording, of this name.
    OutputExists,
    /// A token is missing, or is none that lets anybody in.
    Unauthorized,
    /// The token does not allow this.
    Forbidden,
    /// The token has ended.
    TokenEnded,
    /// The session is not open, and whoever asks may not open it.
    NotLive,
    /// The server has no room for more.
    ServerFull,
    /// The server, or the session, is closing.
    ShuttingDown,
}

impl ErrorCode {
    /// When it may be worth another try, where that is known: a place is free when somebody leaves.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::ServerFull | Self::AvatarUnavailable => Some(Duration::from_secs(5)),
            Self::TooManyMessages => Some(Duration::from_secs(1)),
            Self::ShuttingDown | Self::NotLive => Some(Duration::from_secs(2)),
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
