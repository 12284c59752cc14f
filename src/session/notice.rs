//! What a session tells its clients.
//!
//! Not in here: to whom and how (`notice_broadcast`, `notice_queue`), and how it looks on the wire (`signalling::protocol`).

use super::{AvatarInfo, ErrorCode, OutputInfo};
use crate::ids::{SentenceId, UtteranceId};
use crate::latency::Stages;

/// What a session tells each of its clients.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The next of what an utterance is written as, shown at once.
    Text {
        /// What was written since the last one; all of them together are the text.
        delta: String,
        /// Of which this is told.
        utterance: UtteranceId,
        /// The client's own name for the turn.
        id: Option<String>,
        /// Whether it is the last one of the utterance.
        is_final: bool,
    },
    /// What somebody says into a microphone, or a draft of it.
    Transcript {
        /// All of it so far.
        content: String,
        /// Whether it is not a draft.
        is_final: bool,
    },
    /// The utterance is heard from now on.
    SpeechStarted {
        /// Of which this is told.
        utterance: UtteranceId,
        /// The client's own name for the turn.
        id: Option<String>,
    },
    /// A sentence is being heard: when its words are, and again once that is known better.
    Caption {
        /// Of which this is told.
        sentence: SentenceId,
        /// Of the audio packet that it begins with, at 48 kHz; `None` if nothing was sent yet.
        rtp_timestamp: Option<u32>,
        /// In their order, one after the other.
        words: Vec<CaptionWord>,
    },
    /// The first lip-synced frame has left.
    Latency {
        /// Of which this is told.
        utterance: UtteranceId,
        /// Of that frame, at 90 kHz; `None` if nothing is sent.
        rtp_timestamp: Option<u32>,
        /// When the turn was where.
        stages: Stages,
    },
    /// There was no time to draw all mouths of a sentence, or there is again.
    Stats {
        /// Frames of the sentence that a mouth is drawn for.
        mouths: u64,
        /// Those of them that were left out; the mouth before was held.
        mouths_left_out: u64,
    },
    /// The turn is over.
    SpeechEnded {
        /// Of which this is told.
        utterance: UtteranceId,
        /// The client's own name for the turn.
        id: Option<String>,
        /// Whether it was interrupted before its end.
        interrupted: bool,
        /// How much of it was heard.
        spoken_ms: u64,
        /// The text of what was heard, as it is written.
        text_spoken: String,
    },
    /// A turn ends because something failed; what was heard of it before that is told as of any other.
    Failed {
        /// Of which this is told.
        utterance: UtteranceId,
        /// The client's own name for the turn.
        id: Option<String>,
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
        /// How much of it was heard.
        spoken_ms: u64,
        /// The text of what was heard, as it is written.
        text_spoken: String,
    },
    /// Another avatar is seen from now on; its voice and its character come with the next turn.
    Avatar(AvatarInfo),
    /// One of the session's outputs is in another state, or there is one more or less: all that there are.
    Outputs(Vec<OutputInfo>),
    /// Something failed, and no turn ends by it.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
        /// Whether the client is closed by it.
        fatal: bool,
    },
    /// The client took so many notices too slowly, and they are not told.
    Missed {
        /// How many, at least one.
        count: u64,
    },
}

/// A word of a caption and when it is heard, from the beginning of its sentence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CaptionWord {
    /// With the space behind it, so that all of them together are the sentence.
    pub text: String,
    /// From the beginning of the sentence.
    pub start_ms: u32,
    /// From the beginning of the sentence; not before `start_ms`.
    pub end_ms: u32,
}
