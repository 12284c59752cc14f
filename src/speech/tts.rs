//! Synthesisers: an avatar's own, chosen by the `[voice]` table of its manifest, and one of the server's for all of them.
//!
//! In here: the choice. Each synthesiser has its own file; `fallback` puts one behind another, `multilingual` gives each script to
//! one that can say it, `fair_queue` shares them out among sessions. Not in here: cutting text into sentences. Runs on: tokio tasks.

mod at_rate;
pub mod espeak;
mod fair_queue;
mod fallback;
pub mod hibari;
mod japanese;
pub mod levelled;
mod multilingual;
pub mod service;
mod trimmer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::leveller::KnownLoudness;
use super::{PcmStream, SpeechError, Tts, Voice};
use espeak::{Espeak, EspeakVoices};
use fallback::{Fallback, Rest};
use hibari::Hibari;
use levelled::Levelled;
use multilingual::Multilingual;
pub use multilingual::OnMissing;

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
struct StandIn(Levelled);

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
    service: Option<Service>,
    espeak: EspeakVoices,
    /// Once an avatar has asked for it, for all that do, and how loud it is.
    hibari: Mutex<Option<(Hibari, KnownLoudness)>>,
}

struct Service {
    voice: Levelled,
    rest: Rest,
    /// All if there are none.
    languages: Vec<String>,
}

impl Voices {
    /// With settings, all avatars speak with that service's voice, and with their own where it fails. Says so in the log.
    pub fn new(settings: Option<service::Settings>, models: &Path) -> Result<Self, SpeechError> {
        let service = match settings {
            None => None,
            Some(settings) => {
                let service::Settings { url, model, voice, rest, languages, .. } = &settings;
                tracing::info!(url, model, voice, ?languages, "a voice service speaks");
                let (rest, languages) = (Rest::lasting(*rest), languages.clone());
                // What is learnt of its loudness is so for all sessions.
                Some(Service { voice: Levelled::new(service::voice(settings)?), rest, languages })
            }
        };
        let espeak = EspeakVoices::new();
        Ok(Self(Arc::new(Shared { models: models.to_owned(), service, espeak, hibari: Mutex::default() })))
    }

    /// The voices of one session, which takes its turns with others. What they cannot say is in the log alone.
    pub fn of(&self, voice: &Voice) -> Result<Arc<dyn Tts>, SpeechError> {
        self.telling(voice, Arc::new(|_| ()))
    }

    /// The same, and `on_missing` is told once of each script that they cannot say.
    pub fn telling(&self, voice: &Voice, on_missing: OnMissing) -> Result<Arc<dyn Tts>, SpeechError> {
        let espeak = self.0.espeak.for_session();
        let own = self.own(voice, &espeak)?;
        let multilingual = |on_missing| Multilingual::new(Arc::clone(&own), espeak.clone(), on_missing);
        Ok(match &self.0.service {
            None => Arc::new(multilingual(on_missing)),
            Some(Service { voice, rest, languages }) => {
                let own = Arc::new(multilingual(Arc::clone(&on_missing)));
                let service = Arc::new(Fallback::new(Arc::new(voice.clone()), own, rest.clone()));
                Arc::new(multilingual(on_missing).with_service(service, languages.clone()))
            }
        })
    }

    /// Fails where the voice that is asked for is not here, so that no other speaks for it.
    pub fn check(&self, voice: &Voice) -> Result<(), SpeechError> {
        match voice.engine.as_str() {
            espeak::ENGINE => espeak::check(voice),
            hibari::ENGINE => {
                hibari::check(voice)?;
                Ok(hibari::installed(&hibari::folder(&self.0.models))?)
            }
            _ => from_voice(voice, &self.0.models).map(drop),
        }
    }

    /// Where the neural voice is not installed, or cannot say something, espeak-ng does.
    fn own(&self, voice: &Voice, espeak: &EspeakVoices) -> Result<Arc<dyn Tts>, SpeechError> {
        if voice.engine != hibari::ENGINE {
            self.check(voice)?;
            return Ok(Arc::new(espeak.speaker(voice)));
        }
        hibari::check(voice)?;
        let other: Arc<dyn Tts> = Arc::new(StandIn(espeak.speaker(&stand_in(voice))));
        Ok(match self.hibari() {
            // It fails over a text, not for a time, so it is not left alone afterwards.
            Ok(hibari) => Arc::new(Fallback::new(Arc::new(hibari), other, Rest::lasting(Duration::ZERO))),
            Err(error) => {
                tracing::warn!(%error, "the neural voice is not here, so espeak-ng speaks: scripts/setup.sh installs it");
                other
            }
        })
    }

    /// With turns of its own.
    fn hibari(&self) -> Result<Levelled, hibari::HibariError> {
        let mut started = self.0.hibari.lock().unwrap_or_else(PoisonError::into_inner);
        let (hibari, known) = match &*started {
            Some(started) => started,
            None => started.insert((Hibari::start(&hibari::folder(&self.0.models))?, KnownLoudness::default())),
        };
        Ok(Levelled::with(Arc::new(hibari.for_session()), known.clone()))
    }

    /// Joins the synthesisers' threads, once the sessions that speak with them have ended.
    pub async fn stop(self) {
        // It only panics if they do, which they have told of.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}
