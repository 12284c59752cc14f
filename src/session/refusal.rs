//! Why something is not done, as whoever asked for it is told.

use std::fmt;
use std::time::Duration;

/// Why an offer, a command, a candidate or a client is refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    pub code: ErrorCode,
    /// What is wrong, by the name of the field, and what would be right.
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
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
