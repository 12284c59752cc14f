//! espeak-ng's voices of all languages, as every session has them.
//!
//! In here: what is installed, asked once, and how loud each voice is known to be. Not in here: which language a text is in
//! (`language`), who speaks it (`multilingual`). Runs on: tokio tasks; the program is asked on a blocking thread.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::{ENGINE, Espeak, Installed};
use crate::speech::Voice;
use crate::speech::leveller::KnownLoudness;
use crate::speech::tts::japanese;
use crate::speech::tts::levelled::Levelled;

/// espeak-ng for all languages and all sessions: what is installed, and how loud each of its voices is.
#[derive(Clone)]
pub(in crate::speech::tts) struct EspeakVoices {
    espeak: Espeak,
    installed: Arc<OnceCell<Option<Installed>>>,
    can_read_kanji: Arc<OnceCell<bool>>,
    known: Arc<Mutex<HashMap<String, KnownLoudness>>>,
}

impl EspeakVoices {
    pub fn new() -> Self {
        Self { espeak: Espeak::new(), installed: Arc::default(), can_read_kanji: Arc::default(), known: Arc::default() }
    }

    /// With turns of its own.
    pub fn for_session(&self) -> Self {
        Self { espeak: self.espeak.for_session(), ..self.clone() }
    }

    /// espeak-ng, as loud as every other voice.
    pub fn speaker(&self, voice: &Voice) -> Levelled {
        let name = format!("{}+{}", voice.language, voice.name);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone();
        Levelled::with(Arc::new(self.espeak.clone()), known)
    }

    /// Whether kanji can be read here.
    pub async fn reads_kanji(&self) -> bool {
        *self.can_read_kanji.get_or_init(japanese::reads_kanji).await
    }

    /// Whether espeak-ng has a voice for this.
    pub async fn speaks(&self, voice: &Voice) -> bool {
        let probe = || async {
            let asked = tokio::task::spawn_blocking(|| Installed::probe(ENGINE)).await;
            asked.ok()?.inspect_err(|error| tracing::warn!(%error, "espeak-ng does not tell its voices")).ok()
        };
        let installed = self.installed.get_or_init(probe).await;
        installed.as_ref().is_some_and(|installed| installed.supports(voice).is_ok())
    }
}
