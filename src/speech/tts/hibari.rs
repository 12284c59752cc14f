//! A neural English voice in this process: hibari, 8 MB, quicker than real time on one core.
//!
//! In here: the voice's threads, which make sentences for all sessions, phrase by phrase, and give up one that nobody hears
//! any more. Its parts have their own files: `g2p` (text to phonemes), `network` (phonemes to spectra), `dsp` (spectra
//! to sound), `files`. Not in here: whose phrase is next (`fair_queue`), what speaks where this voice cannot (`fallback`).
//! Runs on: threads that belong to the last clone of `Hibari` and are joined when that is dropped.
//!
//! The voice and its files are hibari 0.2.1's (Copyright 2026 Maureese Williams, Apache-2.0, distilled from Kokoro-82M);
//! what of it is ported says so. `scripts/setup.sh` puts the files into `models/voices/hibari`, licence and notice with
//! them.

mod dsp;
mod files;
mod g2p;
mod network;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc;

use self::dsp::{HOP, Noise, SAMPLE_RATE, Synthesis, Transforms};
use self::g2p::{G2p, Phrase};
use self::network::Network;
use super::fair_queue::{FairQueue, LaneId};
use super::trimmer::Trimmer;
use crate::speech::clean::speakable;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice, pcm};
use crate::worker::threads_for_all_sessions;

/// What a manifest writes in `[voice] engine`.
pub const ENGINE: &str = "hibari";
/// The one voice whose files are here.
const NAME: &str = "heart";
/// Words a minute at its own pace.
const OWN_RATE: u32 = 165;
/// How much slower and quicker it can speak.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// Longest pauses where a sentence is joined of phrases: behind a comma, and between two words.
const PAUSE_MS: usize = 200;
const NO_PAUSE_MS: usize = 20;
/// Frames made at a time, 100 ms, between two looks at whether somebody listens.
const FRAMES: usize = 8;
/// Samples in a chunk of sound: 25 ms.
const CHUNK: usize = 2 * HOP;
/// Such chunks that a stream holds: ten minutes, so more than any sentence. The threads serve all sessions and never wait for
/// one's reader.
const CHUNKS: usize = 24_000;

/// Why the neural voice does not speak.
#[derive(Debug, thiserror::Error)]
pub enum HibariError {
    /// A file of the voice is not installed.
    #[error("{folder} has no {file}")]
    Missing {
        /// Where it is looked for.
        folder: String,
        /// Its name.
        file: &'static str,
    },
    /// A file cannot be read, or holds something else.
    #[error("{file}: {problem}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A network is none that can be computed here.
    #[error("{file} cannot be run: {problem}")]
    Network {
        /// Its path.
        file: String,
        /// What the runtime says.
        problem: String,
    },
    /// A file holds no regular expression where one is wanted.
    #[error("pattern {pattern} is none: {problem}")]
    Pattern {
        /// As the file has it.
        pattern: String,
        /// Why it is none.
        problem: String,
    },
    /// Nothing in the text has phonemes.
    #[error("has no sounds for this text")]
    Unspeakable,
    /// The operating system gives no thread.
    #[error("its thread did not start: {0}")]
    Thread(std::io::Error),
}

impl From<HibariError> for SpeechError {
    fn from(error: HibariError) -> Self {
        Self::Voice { engine: ENGINE, problem: error.to_string() }
    }
}

/// Makes speech of text; blocks while it does.
struct Synthesiser {
    g2p: G2p,
    network: Network,
    transforms: Transforms,
}

impl Synthesiser {
    fn load(folder: &Path) -> Result<Self, HibariError> {
        let pool = Network::one_core();
        Ok(Self {
            g2p: G2p::load(folder, &pool)?,
            network: Network::load(&folder.join(files::NETWORK), &pool)?,
            transforms: Transforms::new(),
        })
    }

    /// What is to be said of a text.
    fn sentence(&self, text: &str, speed: f32) -> Result<Sentence, HibariError> {
        let phrases = VecDeque::from(self.g2p.phrases(text)?);
        if phrases.is_empty() && text.chars().any(char::is_alphanumeric) {
            return Err(HibariError::Unspeakable);
        }
        Ok(Sentence { phrases, speed, trimmer: Trimmer::new(SAMPLE_RATE), given: 0, pauses: None })
    }

    /// Makes the next phrase of a sentence and gives its sound to `heard` bit by bit, until that says that nobody listens; with
    /// the first bit when each of the phrase's words begins, in milliseconds from the beginning of the sentence, if that is
    /// known. Gives how many symbols were made.
    fn step(
        &self,
        sentence: &mut Sentence,
        heard: &mut impl FnMut(&[f32], Vec<u32>) -> bool,
    ) -> Result<usize, HibariError> {
        let Sentence { phrases, speed, trimmer, given, pauses } = sentence;
        let Some(Phrase { symbols, words, pauses: pauses_then }) = phrases.pop_front() else { return Ok(0) };
        // Before the network, the longest step.
        if !heard(&[], Vec::new()) {
            phrases.clear();
            return Ok(0);
        }
        let (spectrum, begins) = self.network.spectrum(&symbols, *speed)?;
        let joint = pauses.replace(pauses_then).map(|pauses| if pauses { PAUSE_MS } else { NO_PAUSE_MS });
        let held = joint.map_or(0, |pause| trimmer.join(pause * SAMPLE_RATE as usize / 1_000));
        let start = *given + held;
        let mut words: Vec<usize> = words.iter().filter_map(|symbol| begins.get(*symbol).copied()).collect();
        let mut synthesis = Synthesis::new(&self.transforms, spectrum, Noise::new());
        loop {
            let sound = synthesis.next(FRAMES);
            if sound.is_empty() {
                break;
            }
            let sound = trimmer.push(&sound);
            let words = if sound.is_empty() { Vec::new() } else { std::mem::take(&mut words) };
            let at = |frame: usize| (start + frame * HOP).saturating_sub(trimmer.taken_off());
            let ms = |frame: usize| u32::try_from(at(frame) * 1_000 / SAMPLE_RATE as usize).unwrap_or(u32::MAX);
            *given += sound.len();
            if !heard(&sound, words.into_iter().map(ms).collect()) {
                phrases.clear();
                return Ok(symbols.len());
            }
        }
        Ok(symbols.len())
    }

    /// All of a text at once.
    fn speak(
        &self,
        text: &str,
        speed: f32,
        mut heard: impl FnMut(&[f32], Vec<u32>) -> bool,
    ) -> Result<(), HibariError> {
        let mut sentence = self.sentence(text, speed)?;
        while !sentence.phrases.is_empty() {
            self.step(&mut sentence, &mut heard)?;
        }
        heard(&sentence.trimmer.finish(), Vec::new());
        Ok(())
    }
}

/// A sentence that is being made.
struct Sentence {
    phrases: VecDeque<Phrase>,
    speed: f32,
    trimmer: Trimmer,
    /// Samples that went out.
    given: usize,
    /// Whether the phrase before pauses at its end; `None` before the first.
    pauses: Option<bool>,
}

/// A sentence for the thread.
struct Job {
    text: String,
    speed: f32,
    sender: Sender,
    /// Once it is begun.
    sentence: Option<Sentence>,
}

type Sender = mpsc::Sender<Result<PcmChunk, SpeechError>>;

/// The voice as one session has it; a clone shares its place in the turns.
#[derive(Clone)]
pub struct Hibari {
    worker: Arc<Worker>,
    lane: LaneId,
}

struct Worker {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads have to do.
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    jobs: FairQueue<Job>,
    /// Nobody adds to it any more, or nobody takes of it.
    has_ended: bool,
}

impl Queue {
    /// Held for a look at whose turn it is.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    /// Waits for the next job; none once it has ended and all is done.
    fn next(&self) -> Option<(LaneId, Job)> {
        let mut state = self.lock();
        loop {
            match state.jobs.next() {
                None if state.has_ended => return None,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                // Whoever has gone takes no turn.
                Some((lane, job)) if job.sender.is_closed() => state.jobs.done(lane, 0),
                next => return next,
            }
        }
    }
}

impl Drop for Worker {
    /// Waits for the sentences that somebody still hears: some tens of milliseconds, as all who listened are gone.
    fn drop(&mut self) {
        self.queue.end();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(engine = ENGINE, "a thread of the voice has panicked");
            }
        }
    }
}

impl Hibari {
    /// Starts the threads, each of which reads the voice's files: half a second, for which the first sentence waits. A thread
    /// works for 10 to 33 ms for a second of speech, so thirty to a hundred speakers are all that one has time for.
    pub fn start(folder: &Path) -> Result<Self, HibariError> {
        Self::start_on(folder, threads_for_all_sessions())
    }

    fn start_on(folder: &Path, threads: usize) -> Result<Self, HibariError> {
        installed(folder)?;
        let state = Mutex::new(State { jobs: FairQueue::new(), has_ended: false });
        let queue = Arc::new(Queue { state, changed: Condvar::new() });
        // Those that have started are joined if one does not.
        let mut worker = Worker { queue, threads: Vec::new() };
        for _ in 0..threads {
            let (folder, jobs) = (folder.to_owned(), Arc::clone(&worker.queue));
            let thread = std::thread::Builder::new().name("hibari".to_owned());
            worker.threads.push(thread.spawn(move || work(&folder, &jobs)).map_err(HibariError::Thread)?);
        }
        Ok(Self { worker: Arc::new(worker), lane: LaneId::next() })
    }

    /// The same voice with turns of its own.
    pub fn for_session(&self) -> Self {
        Self { worker: Arc::clone(&self.worker), lane: LaneId::next() }
    }
}

impl Tts for Hibari {
    /// Text without anything to say gives a stream that ends at once.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        check(voice)?;
        let Some(text) = speakable(text) else { return Ok(pcm::silent()) };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        let job = Job { text, speed: speed(voice.rate), sender, sentence: None };
        let queue = &self.worker.queue;
        let mut state = queue.lock();
        if state.has_ended {
            return Err(fault("has ended"));
        }
        state.jobs.add(self.lane, job).map_err(|_| fault("has too many sentences to say already"))?;
        drop(state);
        queue.changed.notify_one();
        Ok(pcm::received(chunks))
    }
}

fn fault(problem: &str) -> SpeechError {
    SpeechError::Voice { engine: ENGINE, problem: problem.to_owned() }
}

#[allow(clippy::cast_precision_loss, reason = "some hundred words a minute")]
fn speed(rate: u32) -> f32 {
    (rate as f32 / OWN_RATE as f32).clamp(*SPEEDS.start(), *SPEEDS.end())
}

fn work(folder: &Path, queue: &Queue) {
    let voice = Synthesiser::load(folder);
    if let Err(error) = &voice {
        tracing::error!(engine = ENGINE, %error, "the voice's files cannot be used");
    }
    while let Some((lane, mut job)) = queue.next() {
        let made = match &voice {
            // What one text does to the voice must not silence it for all others.
            Ok(voice) => catch_unwind(AssertUnwindSafe(|| next_phrase(voice, &mut job)))
                .unwrap_or_else(|_| Err(fault("panicked over this text"))),
            Err(error) => Err(fault(&error.to_string())),
        };
        let cost = made.as_ref().map_or(1, |symbols| *symbols as u64);
        if let Err(error) = made {
            // Nobody left to tell is fine.
            let _ = job.sender.try_send(Err(error));
            job.sentence = None;
        }
        let goes_on = job.sentence.is_some();
        let mut state = queue.lock();
        if goes_on {
            state.jobs.put_back(lane, job, cost)
        } else {
            state.jobs.done(lane, cost)
        }
        drop(state);
        // What this session has left is for whoever is free; this thread may find another's more urgent.
        queue.changed.notify_one();
    }
}

/// Makes the next phrase of a sentence, and gives what it cost.
fn next_phrase(voice: &Synthesiser, job: &mut Job) -> Result<usize, SpeechError> {
    let Job { text, speed, sender, sentence } = job;
    let mut sentence_now = match sentence.take() {
        Some(sentence) => sentence,
        None => voice.sentence(text, *speed)?,
    };
    let cost = voice.step(&mut sentence_now, &mut |samples, words| send(samples, words, sender))?;
    if sentence_now.phrases.is_empty() {
        send(&sentence_now.trimmer.finish(), Vec::new(), sender);
    } else {
        *sentence = Some(sentence_now);
    }
    Ok(cost)
}

/// Whether somebody still listens.
fn send(samples: &[f32], mut words: Vec<u32>, sender: &Sender) -> bool {
    if samples.is_empty() {
        return !sender.is_closed();
    }
    samples.chunks(CHUNK).all(|chunk| {
        let words = std::mem::take(&mut words);
        sender.try_send(Ok(PcmChunk { words, ..PcmChunk::new(chunk.to_vec(), SAMPLE_RATE) })).is_ok()
    })
}

/// Where the voice's files are put, in the folder of models.
pub fn folder(models: &Path) -> PathBuf {
    models.join(files::FOLDER)
}

/// Whether all its files are there.
pub fn installed(folder: &Path) -> Result<(), HibariError> {
    match files::missing(folder) {
        None => Ok(()),
        Some(file) => Err(HibariError::Missing { folder: folder.display().to_string(), file }),
    }
}

/// Says a sentence and tells how many seconds it works for one of speech.
pub fn try_out(folder: &Path) -> Result<f64, HibariError> {
    const SENTENCE: &str = "It speaks quicker than it is heard.";
    installed(folder)?;
    let voice = Synthesiser::load(folder)?;
    let mut samples = 0u32;
    let started = Instant::now();
    voice.speak(SENTENCE, 1.0, |chunk, _| {
        samples += u32::try_from(chunk.len()).unwrap_or(0);
        true
    })?;
    Ok(started.elapsed().as_secs_f64() * f64::from(SAMPLE_RATE) / f64::from(samples.max(1)))
}

/// Says which field of `voice` this voice cannot speak with.
pub fn check(voice: &Voice) -> Result<(), SpeechError> {
    let bad = |field, value: &str, expected| {
        Err(SpeechError::BadVoice { field, value: value.chars().take(80).collect(), expected })
    };
    if !["en", "en-us"].contains(&voice.language.to_ascii_lowercase().as_str()) {
        return bad("language", &voice.language, "en-us with the engine hibari; espeak-ng speaks others");
    }
    if !["", NAME].contains(&voice.name.as_str()) {
        return bad("name", &voice.name, "heart or nothing with the engine hibari");
    }
    if !(80..=330).contains(&voice.rate) {
        return bad("rate", &voice.rate.to_string(), "80 to 330 words a minute with the engine hibari");
    }
    if voice.pitch != 50 {
        return bad("pitch", &voice.pitch.to_string(), "50 with the engine hibari, which has one pitch");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
