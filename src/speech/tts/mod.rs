//! Synthesisers, chosen by the `[voice]` table of an avatar's manifest.
//!
//! In here: the choice. Each synthesiser has its own file. Not in here: cutting text into sentences.
//! Runs on: tokio tasks.

pub mod espeak;
mod silence;
mod wav;

use std::sync::Arc;

use super::{SpeechError, Tts, Voice};

/// The synthesiser that `voice` asks for, after checking that the engine and the fields are ones it can speak with.
pub fn from_voice(voice: &Voice) -> Result<Arc<dyn Tts>, SpeechError> {
    match voice.engine.as_str() {
        espeak::ENGINE => {
            espeak::check(voice)?;
            Ok(Arc::new(espeak::Espeak::new()))
        }
        other => Err(SpeechError::UnknownEngine { name: other.chars().take(80).collect() }),
    }
}
