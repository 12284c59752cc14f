//! A neural English voice in this process: hibari, 8 MB, quicker than real time on one core.
//!
//! In here: the voice's one thread, which makes whole sentences one after the other for all sessions, and gives up one
//! that nobody hears any more. Its parts have their own files: `g2p` (text to phonemes), `network` (phonemes to spectra),
//! `dsp` (spectra to sound), `files`. Not in here: what speaks where this voice cannot (`fallback`).
//! Runs on: a thread that belongs to the last clone of `Hibari` and is joined when that is dropped.
//!
//! The voice and its files are hibari 0.2.1's (Copyright 2026 Maureese Williams, Apache-2.0, distilled from Kokoro-82M);
//! what of it is ported says so. `scripts/setup.sh` puts the files into `models/voices/hibari`, licence and notice with
//! them.

mod dsp;
pub mod files;
mod g2p;
mod network;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc;

use self::dsp::{HOP, Noise, SAMPLE_RATE, Synthesis, Transforms};
use self::g2p::G2p;
use self::network::Network;
use super::silence::Trimmer;
use crate::speech::sentence::speakable;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

/// What a manifest writes in `[voice] engine`.
pub const ENGINE: &str = "hibari";
/// The one voice whose files are here.
const NAME: &str = "heart";
/// Words a minute at its own pace.
const OWN_RATE: u32 = 165;
/// How much slower and quicker it can speak.
const SPEEDS: std::ops::RangeInclusive<f32> = 0.5..=2.0;

/// Sentences that wait for the thread, of all sessions.
const SENTENCES: usize = 256;
/// Frames made at a time, 100 ms, between two looks at whether somebody listens.
const FRAMES: usize = 8;
/// Samples in a piece of sound: 25 ms.
const PIECE: usize = 2 * HOP;
/// Pieces that a stream holds: ten minutes, so more than any sentence. The thread serves all sessions and never waits for
/// one's reader.
const PIECES: usize = 24_000;

#[derive(Debug, thiserror::Error)]
pub enum HibariError {
    #[error("{folder} has no {file}")]
    Missing { folder: String, file: &'static str },
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
    #[error("{file} cannot be run: {problem}")]
    Network { file: String, problem: String },
    #[error("pattern {pattern} is none: {problem}")]
    Pattern { pattern: String, problem: String },
    #[error("has no sounds for this text")]
    Unspeakable,
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

    /// Gives the sound to `heard` piece by piece, until that says that nobody listens; with the first when each word begins,
    /// in milliseconds, if that is known.
    fn speak(
        &self,
        text: &str,
        speed: f32,
        mut heard: impl FnMut(&[f32], Vec<u32>) -> bool,
    ) -> Result<(), HibariError> {
        let (sentence, words) = self.g2p.symbols(text)?;
        if sentence.is_empty() && text.chars().any(char::is_alphanumeric) {
            return Err(HibariError::Unspeakable);
        }
        let mut trimmer = Trimmer::new(SAMPLE_RATE);
        for symbols in sentence {
            // Before the network, the longest step.
            if !heard(&[], Vec::new()) {
                return Ok(());
            }
            let (spectrum, begins) = self.network.spectrum(&symbols, speed)?;
            let mut words: Vec<usize> = words.iter().filter_map(|symbol| begins.get(*symbol).copied()).collect();
            let mut synthesis = Synthesis::new(&self.transforms, spectrum, Noise::new());
            loop {
                let sound = synthesis.next(FRAMES);
                if sound.is_empty() {
                    break;
                }
                let sound = trimmer.push(&sound);
                let words = if sound.is_empty() { Vec::new() } else { std::mem::take(&mut words) };
                let ms = |frame: usize| (frame * HOP).saturating_sub(trimmer.taken_off()) * 1000 / SAMPLE_RATE as usize;
                let words = words.into_iter().map(|frame| u32::try_from(ms(frame)).unwrap_or(u32::MAX)).collect();
                if !heard(&sound, words) {
                    return Ok(());
                }
            }
        }
        heard(&trimmer.finish(), Vec::new());
        Ok(())
    }
}

/// A sentence for the thread.
struct Job {
    text: String,
    speed: f32,
    sender: mpsc::Sender<Result<PcmChunk, SpeechError>>,
}

/// The voice; cheap to clone.
#[derive(Clone, Debug)]
pub struct Hibari(Arc<Worker>);

#[derive(Debug)]
struct Worker {
    /// Taken when the thread is to end.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Worker {
    /// Waits for the sentence that is being made: some tens of milliseconds, as all who listened are gone.
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(engine = ENGINE, "the voice's thread has panicked");
        }
    }
}

impl Hibari {
    /// Starts the thread, which reads the voice's files: half a second, for which the first sentence waits.
    pub fn start(folder: &Path) -> Result<Self, HibariError> {
        installed(folder)?;
        let (jobs, queue) = mpsc::channel(SENTENCES);
        let folder = folder.to_owned();
        let thread = std::thread::Builder::new().name("hibari".to_owned());
        let thread = thread.spawn(move || work(&folder, queue)).map_err(HibariError::Thread)?;
        Ok(Self(Arc::new(Worker { jobs: Some(jobs), thread: Mutex::new(Some(thread)) })))
    }
}

impl Tts for Hibari {
    /// Text without anything to say gives a stream that ends at once.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        check(voice)?;
        let (sender, stream) = mpsc::channel(PIECES);
        let Some(text) = speakable(text) else { return Ok(stream) };
        let job = Job { text, speed: speed(voice.rate), sender };
        let jobs = self.0.jobs.as_ref().ok_or_else(|| fault("has ended"))?;
        jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => fault("has too many sentences to say already"),
            mpsc::error::TrySendError::Closed(_) => fault("has ended"),
        })?;
        Ok(stream)
    }
}

fn fault(problem: &str) -> SpeechError {
    SpeechError::Voice { engine: ENGINE, problem: problem.to_owned() }
}

#[allow(clippy::cast_precision_loss, reason = "some hundred words a minute")]
fn speed(rate: u32) -> f32 {
    (rate as f32 / OWN_RATE as f32).clamp(*SPEEDS.start(), *SPEEDS.end())
}

fn work(folder: &Path, mut jobs: mpsc::Receiver<Job>) {
    let voice = Synthesiser::load(folder);
    if let Err(error) = &voice {
        tracing::error!(engine = ENGINE, %error, "the voice's files cannot be used");
    }
    while let Some(Job { text, speed, sender }) = jobs.blocking_recv() {
        let spoken = match &voice {
            Ok(voice) => {
                // What one text does to the voice must not silence it for all others.
                let speak = || Ok(voice.speak(&text, speed, |samples, words| send(samples, words, &sender))?);
                catch_unwind(AssertUnwindSafe(speak)).unwrap_or_else(|_| Err(fault("panicked over this text")))
            }
            Err(error) => Err(fault(&error.to_string())),
        };
        if let Err(error) = spoken {
            // Nobody left to tell is fine.
            let _ = sender.try_send(Err(error));
        }
    }
}

/// Whether somebody still listens.
fn send(samples: &[f32], mut words: Vec<u32>, sender: &mpsc::Sender<Result<PcmChunk, SpeechError>>) -> bool {
    if samples.is_empty() {
        return !sender.is_closed();
    }
    samples.chunks(PIECE).all(|piece| {
        let words = std::mem::take(&mut words);
        sender.try_send(Ok(PcmChunk { words, ..PcmChunk::new(piece.to_vec(), SAMPLE_RATE) })).is_ok()
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
    voice.speak(SENTENCE, 1.0, |piece, _| {
        samples += u32::try_from(piece.len()).unwrap_or(0);
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
