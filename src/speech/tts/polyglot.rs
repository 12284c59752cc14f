//! A voice for every script: what its own letters are not, espeak-ng's voice of that language says.
//!
//! In here: one sentence, run by run (`scripts`), the next run made while one is heard; pauses between them; and telling once
//! what nobody can say. Not in here: the voices, how a text is written out (`spoken`). Runs on: one tokio task per sentence
//! that has more than one run, which ends when nobody listens any more.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, mpsc};

use super::espeak::{self, Espeak, Installed};
use super::japanese;
use super::levelled::Levelled;
use super::stand_in;
use crate::speech::leveller::Known;
use crate::speech::resample::Resampler;
use crate::speech::scripts::{self, Run, Tongue};
use crate::speech::tags::pause_ms;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

/// Pieces waiting for the reader.
const PIECES: usize = 16;
/// A rate for what begins with a pause.
const RATE: u32 = 22_050;

/// Told in words of what a session's voices cannot say, once of each script.
pub type OnMissing = Arc<dyn Fn(String) + Send + Sync>;

/// espeak-ng for all languages and all sessions: what is installed, and how loud each of its voices is.
#[derive(Clone)]
pub(super) struct Tongues {
    espeak: Espeak,
    installed: Arc<OnceCell<Option<Installed>>>,
    reads_kanji: Arc<OnceCell<bool>>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

impl Tongues {
    pub fn new() -> Self {
        Self { espeak: Espeak::new(), installed: Arc::default(), reads_kanji: Arc::default(), known: Arc::default() }
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

    /// Whether espeak-ng has a voice for this.
    async fn speaks(&self, voice: &Voice) -> bool {
        let probe = || async {
            let asked = tokio::task::spawn_blocking(|| Installed::probe(espeak::ENGINE)).await;
            asked.ok()?.inspect_err(|error| tracing::warn!(%error, "espeak-ng does not tell its voices")).ok()
        };
        let installed = self.installed.get_or_init(probe).await;
        installed.as_ref().is_some_and(|installed| installed.supports(voice).is_ok())
    }
}

/// A voice and those that speak what it has no letters for, as one session has them.
pub(super) struct Polyglot(Arc<Speakers>);

struct Speakers {
    own: Arc<dyn Tts>,
    /// A service and the languages that it speaks, all of them if there are none.
    service: Option<(Arc<dyn Tts>, Vec<String>)>,
    tongues: Tongues,
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

impl Polyglot {
    pub fn new(own: Arc<dyn Tts>, tongues: Tongues, on_missing: OnMissing) -> Self {
        Self(Arc::new(Speakers { own, service: None, tongues, told: Mutex::default(), on_missing }))
    }

    /// One that a service with these languages, or with all, speaks for.
    pub fn with_service(self, service: Arc<dyn Tts>, languages: Vec<String>) -> Self {
        let Speakers { own, tongues, on_missing, .. } = &*self.0;
        let (own, tongues, on_missing) = (Arc::clone(own), tongues.clone(), Arc::clone(on_missing));
        let service = Some((service, languages));
        Self(Arc::new(Speakers { own, service, tongues, told: Mutex::default(), on_missing }))
    }
}

impl Speakers {
    fn parts(&self, text: &str, language: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        for text in text.split_inclusive(|c| pause_ms(c).is_some()) {
            let pause = text.chars().next_back().and_then(pause_ms);
            let text = text.trim_end_matches(|c| pause_ms(c).is_some());
            for run in scripts::runs(text, language) {
                self.push(run, language, &mut parts);
            }
            parts.extend(pause.map(Part::Pause));
        }
        parts
    }

    fn push(&self, run: Run<'_>, language: &str, parts: &mut Vec<Part>) {
        let spoken = match run.tongue {
            Tongue::Own => language,
            Tongue::Other { language, .. } => language,
        };
        let serves = self.service.as_ref().is_some_and(|(_, languages)| {
            languages.is_empty() || languages.iter().any(|known| scripts::primary(known) == scripts::primary(spoken))
        });
        match (run.tongue, parts.last_mut()) {
            // Marks alone are nobody's.
            (_, Some(Part::Own(before) | Part::Service(before) | Part::Other { text: before, .. }))
                if !run.text.chars().any(char::is_alphanumeric) =>
            {
                before.push_str(run.text);
            }
            (_, Some(Part::Service(before))) if serves => before.push_str(run.text),
            (..) if serves => parts.push(Part::Service(run.text.to_owned())),
            (Tongue::Own, _) => parts.push(Part::Own(run.text.to_owned())),
            (Tongue::Other { language, script }, _) => {
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
                if scripts::primary(&voice.language) == "ja" && voice.engine == espeak::ENGINE {
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
                if !self.tongues.speaks(&other).await {
                    let why = format!("no voice here can say {script} letters, so they are left out");
                    self.missing(script, &why);
                    return Ok(None);
                }
                if *language == "ja" {
                    self.check_kanji(text).await;
                }
                self.tongues.speaker(&other).speak(text, &other).map(Some)
            }
        }
    }

    async fn check_kanji(&self, text: &str) {
        if japanese::has_kanji(text) && !*self.tongues.reads_kanji.get_or_init(japanese::reads_kanji).await {
            self.missing(
                "kanji",
                "kanji are left out of Japanese, because MeCab is not here: apt-get install mecab mecab-ipadic-utf8",
            );
        }
    }

    /// Says the parts one after the other.
    async fn relay(self: Arc<Self>, parts: Vec<Part>, voice: Voice, sender: Sender) {
        let mut mixer = Mixer { sender, rate: None, given: 0, words: Vec::new(), in_word: false };
        let mut parts = parts.into_iter().peekable();
        let mut next = match parts.peek() {
            Some(part) => self.begin(part, &voice).await,
            None => return,
        };
        while let Some(part) = parts.next() {
            let stream = std::mem::replace(&mut next, Ok(None));
            // Made while this one is heard.
            let making = async {
                match parts.peek() {
                    Some(part) => self.begin(part, &voice).await,
                    None => Ok(None),
                }
            };
            let saying = async {
                match (part, stream) {
                    (Part::Pause(ms), _) => mixer.pause(ms).await,
                    (part, Ok(Some(stream))) => mixer.say(stream, &part).await,
                    (_, Ok(None)) => Ok(()),
                    (_, Err(error)) => Err(Stop::Failed(error)),
                }
            };
            let (said, made) = tokio::join!(saying, making);
            next = made;
            match said {
                Ok(()) => {}
                Err(Stop::NobodyListens) => return,
                Err(Stop::Failed(error)) => {
                    // Nobody left to tell is fine.
                    let _ = mixer.sender.send(Err(error)).await;
                    return;
                }
            }
        }
    }
}

impl Tts for Polyglot {
    /// Must be called within a tokio runtime where there is something to say.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        let parts = self.0.parts(text, &voice.language);
        let needs_kana = scripts::primary(&voice.language) == "ja" && voice.engine == espeak::ENGINE;
        match (&parts[..], &self.0.service) {
            ([], _) => self.0.own.speak("", voice),
            ([Part::Own(text)], _) if !needs_kana => self.0.own.speak(text, voice),
            ([Part::Service(text)], Some((service, _))) => service.speak(text, voice),
            _ => {
                let (sender, stream) = mpsc::channel(PIECES);
                tokio::spawn(Arc::clone(&self.0).relay(parts, voice.clone(), sender));
                Ok(stream)
            }
        }
    }
}

/// espeak-ng's voice of another language: as high and as fast, a woman's or a man's.
fn of_language(voice: &Voice, language: &str) -> Voice {
    let own = if voice.engine == espeak::ENGINE { voice.clone() } else { stand_in(voice) };
    Voice { language: language.to_owned(), ..own }
}

type Sender = mpsc::Sender<Result<PcmChunk, SpeechError>>;

enum Stop {
    NobodyListens,
    Failed(SpeechError),
}

/// Puts the runs' sound together, at the rate of the first of them.
struct Mixer {
    sender: Sender,
    rate: Option<u32>,
    /// Samples that went out.
    given: u64,
    /// Times of words that are known and have not been told: of runs whose voice does not tell, as far as they can be guessed.
    words: Vec<u32>,
    /// Whether the last run ended within what stands between white space, so that the next one's first word is known.
    in_word: bool,
}

impl Mixer {
    fn now_ms(&self) -> u32 {
        u32::try_from(self.given * 1_000 / u64::from(self.rate.unwrap_or(RATE))).unwrap_or(u32::MAX)
    }

    async fn give(&mut self, samples: Vec<f32>, levelled: Option<Vec<f32>>, rate: u32) -> Result<(), Stop> {
        if samples.is_empty() {
            return Ok(());
        }
        self.given += samples.len() as u64;
        let words = std::mem::take(&mut self.words);
        let piece = PcmChunk { samples, sample_rate: rate, levelled, words };
        self.sender.send(Ok(piece)).await.map_err(|_| Stop::NobodyListens)
    }

    async fn pause(&mut self, ms: u32) -> Result<(), Stop> {
        let rate = *self.rate.get_or_insert(RATE);
        let piece = rate as usize / 25;
        let mut left = rate as usize * ms as usize / 1_000;
        while left > 0 {
            let samples = vec![0.0; left.min(piece)];
            left -= samples.len();
            let levelled = samples.clone();
            self.give(samples, Some(levelled), rate).await?;
        }
        Ok(())
    }

    async fn say(&mut self, mut stream: PcmStream, part: &Part) -> Result<(), Stop> {
        let (Part::Own(text) | Part::Service(text) | Part::Other { text, .. }) = part else { return Ok(()) };
        let began = self.now_ms();
        let mut resamplers: Option<[Resampler; 2]> = None;
        let mut told = 0;
        let skip = usize::from(self.in_word && !text.starts_with(char::is_whitespace));
        self.in_word = !text.ends_with(char::is_whitespace);
        loop {
            let piece = tokio::select! {
                biased;
                () = self.sender.closed() => return Err(Stop::NobodyListens),
                piece = stream.recv() => piece,
            };
            let Some(piece) = piece.transpose().map_err(Stop::Failed)? else { break };
            let known = piece.words.iter().skip(skip.saturating_sub(told));
            self.words.extend(known.map(|word| began + word));
            told += piece.words.len();
            let to = *self.rate.get_or_insert(piece.sample_rate);
            if to == piece.sample_rate && resamplers.is_none() {
                self.give(piece.samples, piece.levelled, to).await?;
                continue;
            }
            // One for the sound as it came and one for the levelled.
            let [came, levelled] = match &mut resamplers {
                Some(resamplers) => resamplers,
                none => {
                    let resampler = || Resampler::new(piece.sample_rate, to).map_err(Stop::Failed);
                    none.insert([resampler()?, resampler()?])
                }
            };
            let samples = came.push(&piece.samples).map_err(Stop::Failed)?;
            let levelled = levelled.push(piece.heard()).map_err(Stop::Failed)?;
            self.give(samples, Some(levelled), to).await?;
        }
        if let (Some([mut came, mut levelled]), Some(rate)) = (resamplers, self.rate) {
            let samples = came.finish().map_err(Stop::Failed)?;
            let levelled = levelled.finish().map_err(Stop::Failed)?;
            self.give(samples, Some(levelled), rate).await?;
        }
        if told == 0 {
            self.guess_words(began, text, skip);
        }
        Ok(())
    }

    /// The words of a run that is over, spread over its time by their letters.
    fn guess_words(&mut self, began: u32, text: &str, skip: usize) {
        let lasts = f64::from(self.now_ms().saturating_sub(began));
        let letters =
            |text: &str| u32::try_from(text.chars().filter(|c| c.is_alphanumeric()).count()).unwrap_or(u32::MAX);
        let all = f64::from(letters(text).max(1));
        let mut before = 0;
        for (number, word) in text.split_whitespace().enumerate() {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the run's time")]
            let at = began + (lasts * f64::from(before) / all) as u32;
            self.words.extend((number >= skip).then_some(at));
            before += letters(word);
        }
    }
}
