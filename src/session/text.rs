//! How long a text of one turn may be: the one check, for clients and for what a microphone hears.
//!
//! Not in here: whether a text holds anything to say (`conversation`, `signalling::limits`).

use super::{ErrorCode, Refusal, TEXT_CHARACTERS};

/// A text has more than [`TEXT_CHARACTERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text has {characters} characters, at most {TEXT_CHARACTERS} are spoken in one turn: send it in parts")]
pub struct TextTooLong {
    /// Of the whole text.
    pub characters: usize,
}

impl From<TextTooLong> for Refusal {
    fn from(error: TextTooLong) -> Self {
        Self::new(ErrorCode::TextTooLong, error.to_string())
    }
}

/// Whether a text is short enough for one turn.
pub fn check_text_length(content: &str) -> Result<(), TextTooLong> {
    let characters = content.chars().count();
    if characters > TEXT_CHARACTERS { Err(TextTooLong { characters }) } else { Ok(()) }
}
