//! Synthesisers: an avatar's own, chosen by the `[voice]` table of its manifest, and one of the server's for all of them.
//!
//! In here: the choice. Each synthesiser has its own file; `fallback` puts one behind another. Not in here: cutting text
//! into sentences. Runs on: tokio tasks.

mod answer;
pub mod espeak;
mod fair;
pub mod fallback;
pub mod hibari;
pub mod levelled;
pub mod remote;
mod service;
mod silence;
pub mod websocket;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{PcmStream, SpeechError, Tts, Voice};
use espeak::Espeak;
use fallback::{Fallback, Rest};
use hibari::Hibari;
use levelled::Levelled;
use remote::Remote;
use websocket::WebSocketVoice;

/// The synthesiser that `voice` asks for and no other, after checking that the engine and the fields are ones it can speak
/// with. `models` is the folder that holds the voices' files.
pub fn from_voice(voice: &Voice, models: &Path) -> Result<Arc<dyn Tts>, SpeechError> {
    match voice.engine.as_str() {
        espeak::ENGINE => {
            espeak::check(voice)?;
            Ok(Arc::new(Espeak::new()))
        }
        hibari::ENGINE => {
            hibari::check(voice)?;
            Ok(Arc::new(Hibari::start(&hibari::folder(models))?))
        }
        other => Err(SpeechError::UnknownEngine { name: other.chars().take(80).collect() }),
    }
}

/// espeak-ng's voice for one of hibari's: a woman's too, at its pace.
pub fn stand_in(voice: &Voice) -> Voice {
    Voice { engine: espeak::ENGINE.to_owned(), name: "f5".to_owned(), ..voice.clone() }
}

/// espeak-ng for hibari.
#[derive(Default)]
struct StandIn(Espeak);

impl Tts for StandIn {
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        self.0.speak(text, &stand_in(voice))
    }
}

/// Gives each session its voice; clones share the synthesisers.
#[derive(Clone)]
pub struct Voices(Arc<Shared>);

struct Shared {
    models: PathBuf,
    remote: Option<(Levelled, Rest)>,
    /// Once an avatar has asked for it, for all that do.
    hibari: Mutex<Option<Levelled>>,
}

impl Voices {
    /// With settings, all avatars speak with that service's voice, and with their own where it fails. Says so in the log.
    pub fn new(settings: Option<remote::Settings>, models: &Path) -> Result<Self, SpeechError> {
        let remote = match settings {
            None => None,
            Some(settings) => {
                let remote::Settings { url, model, voice, rest, .. } = &settings;
                tracing::info!(url, model, voice, "a voice service speaks");
                let rest = Rest::lasting(*rest);
                let voice: Arc<dyn Tts> = match url.starts_with(websocket::SCHEME) {
                    true => Arc::new(WebSocketVoice::new(settings)),
                    false => Arc::new(Remote::new(settings)?),
                };
                // What is learnt of its loudness is so for all sessions.
                Some((Levelled::new(voice), rest))
            }
        };
        Ok(Self(Arc::new(Shared { models: models.to_owned(), remote, hibari: Mutex::default() })))
    }

    pub fn of(&self, voice: &Voice) -> Result<Arc<dyn Tts>, SpeechError> {
        let own = self.own(voice)?;
        Ok(match &self.0.remote {
            None => own,
            Some((remote, rest)) => Arc::new(Fallback::new(Arc::new(remote.clone()), own, rest.clone())),
        })
    }

    /// Where the neural voice is not installed, or cannot say something, espeak-ng does.
    fn own(&self, voice: &Voice) -> Result<Arc<dyn Tts>, SpeechError> {
        if voice.engine != hibari::ENGINE {
            return Ok(Arc::new(Levelled::new(from_voice(voice, &self.0.models)?)));
        }
        hibari::check(voice)?;
        let stand_in: Arc<dyn Tts> = Arc::new(Levelled::new(Arc::new(StandIn::default())));
        Ok(match self.hibari() {
            // It fails over a text, not for a time, so it is not left alone afterwards.
            Ok(hibari) => Arc::new(Fallback::new(Arc::new(hibari), stand_in, Rest::lasting(Duration::ZERO))),
            Err(error) => {
                tracing::warn!(%error, "the neural voice is not here, so espeak-ng speaks: scripts/setup.sh installs it");
                stand_in
            }
        })
    }

    fn hibari(&self) -> Result<Levelled, hibari::HibariError> {
        let mut started = self.0.hibari.lock().unwrap_or_else(PoisonError::into_inner);
        match &*started {
            Some(hibari) => Ok(hibari.clone()),
            None => {
                let hibari = Hibari::start(&hibari::folder(&self.0.models))?;
                Ok(started.insert(Levelled::new(Arc::new(hibari))).clone())
            }
        }
    }

    /// Joins the synthesisers' threads, once the sessions that speak with them have ended.
    pub async fn stop(self) {
        // It only panics if they do, which they have told of.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}
