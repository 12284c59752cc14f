//! What a session tells its clients.
//!
//! Not in here: to whom and how (`notices`, `notice_queue`), and how it looks on the wire (`signalling::protocol`).

use super::ErrorCode;
use crate::ids::UtteranceId;
use crate::latency::Stages;

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
