//! A voice for every script: what its own letters are not, espeak-ng's voice of that language says.
//!
//! In here: who says each run of a sentence (`language`), and telling once what nobody can say; `joined` makes one stream of
//! them. Not in here: the voices, how a text is written out (`normalise`). Runs on: the task that asks for a sentence.

mod joined;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::espeak::{self, EspeakVoices};
use super::japanese;
use super::stand_in;
use crate::speech::language::{self, Run, RunLanguage};
use crate::speech::markup::pause_ms;
use crate::speech::{PcmStream, SpeechError, Tts, Voice};
use joined::joined;

/// Told in words of what a session's voices cannot say, once of each script.
pub type OnMissing = Arc<dyn Fn(String) + Send + Sync>;

/// A voice and those that speak what it has no letters for, as one session has them.
pub(super) struct Multilingual(Arc<Speakers>);

struct Speakers {
    own: Arc<dyn Tts>,
    /// A service and the languages that it speaks, all of them if there are none.
    service: Option<(Arc<dyn Tts>, Vec<String>)>,
    espeak: EspeakVoices,
    told: Mutex<HashSet<String>>,
    on_missing: OnMissing,
}

/// What is said next.
enum Part {
    Own(String),
    Service(String),
    Other { text: String, language: &'static str, script: &'static str },
    Pause(u32),
}

impl Part {
    /// What is said, unless it is a pause.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Own(text) | Self::Service(text) | Self::Other { text, .. } => Some(text),
            Self::Pause(_) => None,
        }
    }
}

impl Multilingual {
    pub fn new(own: Arc<dyn Tts>, espeak: EspeakVoices, on_missing: OnMissing) -> Self {
        Self(Arc::new(Speakers { own, service: None, espeak, told: Mutex::default(), on_missing }))
    }

    /// One that a service with these languages, or with all, speaks for.
    pub fn with_service(self, service: Arc<dyn Tts>, languages: Vec<String>) -> Self {
        let Speakers { own, espeak, on_missing, .. } = &*self.0;
        let (own, espeak, on_missing) = (Arc::clone(own), espeak.clone(), Arc::clone(on_missing));
        let service = Some((service, languages));
        Self(Arc::new(Speakers { own, service, espeak, told: Mutex::default(), on_missing }))
    }
}

impl Speakers {
    fn parts(&self, text: &str, language: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for text in text.split_inclusive(|c| pause_ms(c).is_some()) {
            let pause = text.chars().next_back().and_then(pause_ms);
            let text = text.trim_end_matches(|c| pause_ms(c).is_some());
            for run in language::runs(text, language) {
                self.push(run, language, &mut parts);
            }
            parts.extend(pause.map(Part::Pause));
        }
        parts
    }

    fn push(&self, run: Run<'_>, language: &str, parts: &mut Vec<Part>) {
        let spoken = match run.language {
            RunLanguage::Own => language,
            RunLanguage::Other { language, .. } => language,
        };
        let serves = self.service.as_ref().is_some_and(|(_, languages)| {
            languages.is_empty() || languages.iter().any(|known| language::primary(known) == language::primary(spoken))
        });
        match (run.language, parts.last_mut()) {
            // Marks alone are nobody's.
            (_, Some(Part::Own(before) | Part::Service(before) | Part::Other { text: before, .. }))
                if !run.text.chars().any(char::is_alphanumeric) =>
            {
                before.push_str(run.text);
            }
            (_, Some(Part::Service(before))) if serves => before.push_str(run.text),
            (..) if serves => parts.push(Part::Service(run.text.to_owned())),
            (RunLanguage::Own, _) => parts.push(Part::Own(run.text.to_owned())),
            (RunLanguage::Other { language, script }, _) => {
                parts.push(Part::Other { text: run.text.to_owned(), language, script });
            }
        }
    }

    /// Says once in the log, and to whoever listens, that a script cannot be said.
    fn missing(&self, script: &str, why: &str) {
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(script.to_owned());
        if is_new {
            tracing::warn!(script, "{why}");
            (self.on_missing)(why.to_owned());
        }
    }

    /// The stream of a part; `None` where nobody can say it, which is told.
    async fn begin(&self, part: &Part, voice: &Voice) -> Result<Option<PcmStream>, SpeechError> {
        match part {
            Part::Pause(_) => Ok(None),
            Part::Own(text) => {
                if language::primary(&voice.language) == "ja" && voice.engine == espeak::ENGINE {
                    self.check_kanji(text).await;
                }
                self.own.speak(text, voice).map(Some)
            }
            Part::Service(text) => match &self.service {
                Some((service, _)) => service.speak(text, voice).map(Some),
                None => self.own.speak(text, voice).map(Some),
            },
            Part::Other { text, language, script } => {
                let other = of_language(voice, language);
                if !self.espeak.speaks(&other).await {
                    let why = format!("no voice here can say {script} letters, so they are left out");
                    self.missing(script, &why);
                    return Ok(None);
                }
                if *language == "ja" {
                    self.check_kanji(text).await;
                }
                self.espeak.speaker(&other).speak(text, &other).map(Some)
            }
        }
    }

    async fn check_kanji(&self, text: &str) {
        if japanese::has_kanji(text) && !self.espeak.reads_kanji().await {
            self.missing(
                "kanji",
                "kanji are left out of Japanese, because MeCab is not here: apt-get install mecab mecab-ipadic-utf8",
            );
        }
    }
}

impl Tts for Multilingual {
    /// Must be called within a tokio runtime where there is something to say.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let parts = self.0.parts(text, &voice.language);
        let needs_kana = language::primary(&voice.language) == "ja" && voice.engine == espeak::ENGINE;
        match (&parts[..], &self.0.service) {
            ([], _) => self.0.own.speak("", voice),
            ([Part::Own(text)], _) if !needs_kana => self.0.own.speak(text, voice),
            ([Part::Service(text)], Some((service, _))) => service.speak(text, voice),
            _ => Ok(joined(Arc::clone(&self.0), parts, voice.clone())),
        }
    }
}

/// espeak-ng's voice of another language: as high and as fast, a woman's or a man's.
fn of_language(voice: &Voice, language: &str) -> Voice {
    let own = if voice.engine == espeak::ENGINE { voice.clone() } else { stand_in(voice) };
    Voice { language: language.to_owned(), ..own }
}
