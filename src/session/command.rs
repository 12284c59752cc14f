//! What a client asks of its session.

use std::time::Duration;

use crate::ids::UtteranceId;

/// Longest text of one turn, in characters: about ten minutes of speech.
pub const TEXT_CHARACTERS: usize = 10_000;

/// A turn or a part of one, from a client to its session.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A user's turn: the dialogue replies and the reply is spoken.
    Text {
        /// What the user says, of at most [`TEXT_CHARACTERS`].
        text: String,
        /// The client's own name for the turn.
        id: Option<String>,
    },
    /// Say exactly this.
    Speak {
        /// Of at most [`TEXT_CHARACTERS`].
        text: String,
        /// The client's own name for the turn.
        id: Option<String>,
    },
    /// Stop what is being said and forget what is queued.
    Interrupt,
    /// Play one of the avatar's gestures.
    Gesture {
        /// One of [`AvatarInfo::gestures`](super::AvatarInfo).
        name: String,
    },
    /// A viewer saw the first lip-synced frame of an utterance.
    Shown {
        /// Whose frame it was.
        utterance: UtteranceId,
        /// From the beginning of the turn on.
        after: Duration,
    },
    /// A turn of the client's own audio begins.
    AudioStart {
        /// Samples a second.
        sample_rate: u32,
        /// The client's own name for the turn.
        id: Option<String>,
    },
    /// The next of it: 16-bit mono at the announced rate.
    Audio(Vec<i16>),
    /// There is no more of it.
    AudioEnd,
}

impl Command {
    /// The client's own name for the turn that it begins.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Text { id, .. } | Self::Speak { id, .. } | Self::AudioStart { id, .. } => id.as_deref(),
            Self::Interrupt | Self::Gesture { .. } | Self::Shown { .. } | Self::Audio(_) | Self::AudioEnd => None,
        }
    }
}
