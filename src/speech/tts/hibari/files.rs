//! The voice's files: where they lie, which there must be, and reading them.
//!
//! In here: names, JSON plain and gzipped. Not in here: what is in them. Runs on: the voice's thread; blocks.

use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::HibariError;

/// The voice's folder in `models/`.
pub const FOLDER: &str = "voices/hibari";

pub(super) const NETWORK: &str = "hibari.onnx";
pub(super) const SYMBOLS: &str = "vocab.json";
pub(super) const GOLD: &str = "lexicon_us_gold.json.gz";
pub(super) const SILVER: &str = "lexicon_us_silver.json.gz";
pub(super) const TAGGER: &str = "tagger.json.gz";
pub(super) const EXCEPTIONS: &str = "tokenizer_exceptions.json";
pub(super) const READINGS: &str = "normalize.json";
pub(super) const SPELLER: &str = "oov.onnx";
pub(super) const SPELLER_LETTERS: &str = "oov.json";

/// No file of the voice is larger, unpacked.
const LARGEST: u64 = 64 << 20;

/// The first file of the voice that is not in `folder`.
pub(super) fn missing(folder: &Path) -> Option<&'static str> {
    let files = [NETWORK, SYMBOLS, GOLD, SILVER, TAGGER, EXCEPTIONS, READINGS, SPELLER, SPELLER_LETTERS];
    files.into_iter().find(|file| !folder.join(file).is_file())
}

fn fault(path: &Path, problem: impl ToString) -> HibariError {
    HibariError::File { file: path.display().to_string(), problem: problem.to_string() }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, HibariError> {
    let file = std::fs::File::open(path).map_err(|error| fault(path, error))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let mut data = Vec::new();
    let read = match packed {
        true => flate2::read::GzDecoder::new(file).take(LARGEST).read_to_end(&mut data),
        false => file.take(LARGEST).read_to_end(&mut data),
    };
    read.map_err(|error| fault(path, error))?;
    Ok(data)
}

pub(super) fn json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, HibariError> {
    let path = folder.join(name);
    serde_json::from_slice(&read(&path)?).map_err(|error| fault(&path, error))
}
