//! What a client asks of its session.

use std::time::Duration;

use crate::ids::UtteranceId;

/// Longest text of one turn, in characters: about ten minutes of speech.
pub const TEXT_CHARACTERS: usize = 10_000;

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
