//! Synthesisers: an avatar's own, chosen by the `[voice]` table of its manifest, and one of the server's for all of them.
//!
//! In here: the choice. Each synthesiser has its own file; `fallback` puts one behind another. Not in here: cutting text
//! into sentences. Runs on: tokio tasks.

pub mod espeak;
pub mod fallback;
pub mod remote;
mod silence;
mod wav;

use std::sync::Arc;

use super::{SpeechError, Tts, Voice};
use fallback::{Fallback, Rest};
use remote::Remote;

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

/// Gives each session its voice.
pub struct Voices(Option<(Remote, Rest)>);

impl Voices {
    /// With settings, all avatars speak with that service's voice, and with their own where it fails. Says so in the log.
    pub fn new(settings: Option<remote::Settings>) -> Result<Self, SpeechError> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        tracing::info!(url = settings.url, model = settings.model, voice = settings.voice, "a voice service speaks");
        let rest = Rest::lasting(settings.rest);
        Ok(Self(Some((Remote::new(settings)?, rest))))
    }

    pub fn of(&self, voice: &Voice) -> Result<Arc<dyn Tts>, SpeechError> {
        let own = from_voice(voice)?;
        Ok(match &self.0 {
            None => own,
            Some((remote, rest)) => Arc::new(Fallback::new(Arc::new(remote.clone()), own, rest.clone())),
        })
    }
}
