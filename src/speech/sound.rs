//! Sound as files and services send it, whatever it is in: the one reader of it in this program.
//!
//! In here: a file from its first bytes to mono samples at a rate that the rest of the program takes. `form` tells by its
//! bytes what something is, `wav` reads WAV as it comes, `encoded` everything else, `mono` mixes; `write` writes WAV. Not in here: raw samples,
//! whose rate only who sends them knows (`tts::answer`). Runs on: whoever owns a reader, which waits for the disk.

mod encoded;
pub(super) mod form;
mod mono;
pub(super) mod wav;
mod write;

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use super::resample::SOURCE_RATES;
use encoded::Encoded;
use form::Form;
use wav::WavReader;
pub use write::write_wav;

/// Channels that are mixed at most.
const MAX_CHANNELS: u16 = 8;

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;

/// What is wrong with a sound.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SoundError {
    /// No known form, or one that is told and not read.
    #[error("is no sound that is known here ({0}): WAV, FLAC, MP3, AAC, M4A, Ogg, WebM, AIFF and CAF are read")]
    Unknown(String),
    /// Named a WAV file and none.
    #[error("does not start like a WAV file")]
    NotWav,
    /// A WAV file without the chunk that says what its samples are.
    #[error("has samples in front of their format")]
    NoFormat,
    /// A WAV file whose samples are coded otherwise.
    #[error("is WAV with {0}: PCM of 8 to 32 bits, floats of 32 and 64, A-law and u-law are read")]
    Coding(String),
    /// Too many channels, or a rate in Hz that is out of range.
    #[error("has {channels} channels at {rate} Hz: 1 to {MAX_CHANNELS} at {} to {} Hz are read", SOURCE_RATES.start(), SOURCE_RATES.end())]
    Shape {
        /// As the file says.
        channels: u16,
        /// In Hz.
        rate: u32,
    },
    /// Another kind of number, which would be played as noise.
    #[error("has a sample of {0}, where -1 to 1 is as loud as can be")]
    TooLoud(String),
    /// A known form that breaks off or is wrong inside.
    #[error("is {form} that cannot be read: {problem}")]
    Damaged {
        /// Its name, such as `MP3`.
        form: &'static str,
        /// What the decoder says.
        problem: String,
    },
    /// Not one sample.
    #[error("holds no sound")]
    Empty,
    /// The file or pipe itself fails.
    #[error("cannot be read: {0}")]
    Io(String),
}

/// A file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct SoundFileError {
    /// As it was given.
    pub path: PathBuf,
    /// Told with the path, so it is no source that a report would add once more.
    pub problem: SoundError,
}

/// Samples of a whole sound, as they are read.
pub struct Reader(Source);

enum Source {
    Wav { reader: Box<WavReader>, bytes: Box<dyn Read + Send>, first: Vec<f32>, is_over: bool },
    Encoded(Box<Encoded>),
}

/// Whatever a sound can be read from.
trait Bytes: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> Bytes for T {}

impl Reader {
    /// Opens a file, or a pipe, and reads up to its first samples.
    pub fn open(path: &Path) -> Result<Self, SoundFileError> {
        let of_file = |problem| SoundFileError { path: path.to_owned(), problem };
        Self::opened(path).map_err(of_file)
    }

    fn opened(path: &Path) -> Result<Self, SoundError> {
        let mut file = File::open(path).map_err(io)?;
        let is_file = file.metadata().map_err(io)?.is_file();
        let mut head = Vec::new();
        file.by_ref().take(form::ENOUGH as u64).read_to_end(&mut head).map_err(io)?;
        if is_file {
            file.rewind().map_err(io)?;
            return Self::new(&head, || Box::new(file));
        }
        // A pipe has nothing to go back to, and some forms are told at their end.
        match form::of(&head, true) {
            Some(Form::Wav) => Self::wav(Box::new(Cursor::new(head).chain(file))),
            _ => {
                let mut bytes = head.clone();
                file.take(LONGEST_PIPE).read_to_end(&mut bytes).map_err(io)?;
                Self::new(&head, || Box::new(Cursor::new(bytes)))
            }
        }
    }

    /// A sound in memory.
    pub(super) fn of_bytes(bytes: Vec<u8>) -> Result<Self, SoundError> {
        let head = bytes[..bytes.len().min(form::ENOUGH)].to_vec();
        Self::new(&head, || Box::new(Cursor::new(bytes)))
    }

    fn new(head: &[u8], bytes: impl FnOnce() -> Box<dyn Bytes>) -> Result<Self, SoundError> {
        match form::of(head, true) {
            // ADPCM is read by who reads everything else.
            Some(Form::Wav) => match WavReader::default().push(head) {
                Err(error @ SoundError::Coding(_)) => {
                    let other = Encoded::new("WAV", bytes()).map_err(|_| error)?;
                    Ok(Self(Source::Encoded(Box::new(other))))
                }
                _ => {
                    let bytes = bytes();
                    Self::wav(Box::new(bytes))
                }
            },
            Some(Form::Encoded(form)) => Ok(Self(Source::Encoded(Box::new(Encoded::new(form, bytes())?)))),
            _ if head.is_empty() => Err(SoundError::Empty),
            told => Err(SoundError::Unknown(told.map_or_else(String::new, |form| form.to_string()))),
        }
    }

    fn wav(mut bytes: Box<dyn Read + Send>) -> Result<Self, SoundError> {
        let mut reader = Box::<WavReader>::default();
        let (first, is_over) = fill(&mut reader, &mut bytes)?;
        match first.is_empty() {
            true => Err(SoundError::Empty),
            false => Ok(Self(Source::Wav { reader, bytes, first, is_over })),
        }
    }

    /// Of the samples that come; never faster than speech comes in.
    pub fn sample_rate(&self) -> u32 {
        match &self.0 {
            Source::Wav { reader, .. } => reader.sample_rate().unwrap_or_default(),
            Source::Encoded(encoded) => encoded.sample_rate(),
        }
    }

    /// The next samples, at least one; `None` at the end.
    pub fn next_samples(&mut self) -> Result<Option<Vec<f32>>, SoundError> {
        match &mut self.0 {
            Source::Wav { reader, bytes, first, is_over } => {
                let mut samples = std::mem::take(first);
                while samples.is_empty() && !*is_over {
                    (samples, *is_over) = fill(reader, bytes)?;
                }
                Ok(Some(samples).filter(|samples| !samples.is_empty()))
            }
            Source::Encoded(encoded) => encoded.next_samples(),
        }
    }
}

/// What a pipe may hold that is not WAV: ten minutes of uncompressed music.
const LONGEST_PIPE: u64 = 128 << 20;

/// Reads until there are samples; true at the end.
fn fill(reader: &mut WavReader, bytes: &mut Box<dyn Read + Send>) -> Result<(Vec<f32>, bool), SoundError> {
    let mut piece = vec![0; PIECE];
    loop {
        match bytes.read(&mut piece) {
            Ok(0) => return Ok((reader.finish()?, true)),
            Ok(read) => {
                let samples = reader.push(&piece[..read])?;
                if !samples.is_empty() {
                    return Ok((samples, false));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
}

/// All samples of a file, and their rate.
pub fn read(path: &Path) -> Result<(Vec<f32>, u32), SoundFileError> {
    let of_file = |problem| SoundFileError { path: path.to_owned(), problem };
    let mut reader = Reader::open(path)?;
    let mut samples = Vec::new();
    while let Some(piece) = reader.next_samples().map_err(of_file)? {
        samples.extend(piece);
    }
    Ok((samples, reader.sample_rate()))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn io(error: std::io::Error) -> SoundError {
    SoundError::Io(error.to_string())
}

#[cfg(test)]
mod tests;
