//! Text becomes sound: sentences, a synthesiser behind a small trait, and resampling.
//!
//! In here: the types that the rest of the server sees of speech. `sentence` cuts text into sentences (`markup` takes tags out,
//! `clean` what cannot be said, `code_blocks` leaves code out), `language` tells which language each run of one is in,
//! `normalise` writes out what voices read badly, `tts` holds the synthesisers, `leveller` makes all of them equally loud,
//! `sound` reads files and what services answer with, `resample` makes 16 kHz for the network and 48 kHz for Opus.
//! Not in here: frames and scheduling (`animation`, `playout`). Runs on: tokio tasks.

pub mod clean;
pub mod code_blocks;
mod language;
pub mod leveller;
pub mod markup;
pub mod normalise;
mod number_words;
pub mod pcm;
pub mod resample;
pub mod sentence;
pub mod sound;
pub mod tts;

pub use pcm::{PcmChunk, PcmStream};

/// How an avatar speaks; the `[voice]` table of its manifest.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    /// Which synthesiser: `espeak-ng` or `hibari`.
    pub engine: String,
    /// BCP 47 tag, such as `en-us` or `cmn`.
    pub language: String,
    /// The engine's name for the voice or voice variant, such as `f3`; the language's default voice if empty.
    #[serde(default)]
    pub name: String,
    /// Words a minute, 80 to 450.
    #[serde(default = "Voice::default_rate")]
    pub rate: u32,
    /// 0 to 99, 50 is the voice's own.
    #[serde(default = "Voice::default_pitch")]
    pub pitch: u32,
}

impl Voice {
    /// An engine's own name, pace and pitch.
    pub fn plain(language: &str) -> Self {
        let language = language.to_owned();
        let (rate, pitch) = (Self::default_rate(), Self::default_pitch());
        Self { engine: String::new(), language, name: String::new(), rate, pitch }
    }

    const fn default_rate() -> u32 {
        165
    }

    const fn default_pitch() -> u32 {
        50
    }
}

/// Speaks one sentence at a time. Dropping the stream stops the work behind it.
pub trait Tts: Send + Sync {
    /// Starts speaking `text`; the first chunk should come while the rest is still being made.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError>;
}

/// Why a sentence is not spoken, or not to its end. Its words are fit for viewers: they hold neither keys nor addresses.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// A synthesiser that is not installed.
    #[error("{program} did not start ({source}): install it, on Debian with `apt-get install {program}`")]
    ProgramMissing {
        /// Its name.
        program: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A synthesiser that is here and cannot be run.
    #[error("{program} did not start: {source}")]
    ProgramNotStarted {
        /// Its name.
        program: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A synthesiser that gave up, and what it said of that.
    #[error("{program} ended with {status} while speaking: {stderr}")]
    ProgramFailed {
        /// Its name.
        program: &'static str,
        /// How it ended, such as `exit status: 1`.
        status: String,
        /// The beginning of what it complained about.
        stderr: String,
    },
    /// A synthesiser whose output is no sound.
    #[error("{program} wrote no usable audio: {problem}")]
    BadAudio {
        /// Its name.
        program: &'static str,
        /// What is wrong with its output.
        problem: String,
    },
    /// A field of `Voice` that the engine does not take.
    #[error("voice {field} {value:?} cannot be spoken with: it must be {expected}")]
    BadVoice {
        /// Its name in the manifest.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// An engine that is not built in.
    #[error("voice engine {name:?} is not known; known: espeak-ng, hibari")]
    UnknownEngine {
        /// As the manifest has it, shortened.
        name: String,
    },
    /// A voice in this process.
    #[error("the voice {engine} {problem}")]
    Voice {
        /// Its name in the manifest.
        engine: &'static str,
        /// Goes on after its name.
        problem: String,
    },
    /// A voice behind an endpoint, in words that go on after "the voice service".
    #[error("the voice service {0}")]
    Service(String),
    /// Rates in Hz between which no filter can be made.
    #[error("cannot resample {from} Hz to {to} Hz: {problem}")]
    Resample {
        /// Samples a second that come in.
        from: u32,
        /// Samples a second that are wanted.
        to: u32,
        /// Why there is no filter.
        problem: String,
    },
}
