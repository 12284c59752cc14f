//! How a word sounds that is in no lexicon: a small network reads it letter by letter.
//!
//! In here: letters in, phonemes out. Runs on: a thread of the voice.
//!
//! A port of `oov.py` of hibari 0.2.1 (Apache-2.0, see `g2p`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rten::{ThreadPool, Value};
use rten_tensor::Tensor;

use crate::speech::tts::hibari::network::Network;
use crate::speech::tts::hibari::{HibariError, files};

#[derive(serde::Deserialize)]
struct Letters {
    r#in: Vec<char>,
    out: Vec<char>,
    maxlen: usize,
}

pub(super) struct Speller {
    network: Network,
    letters: HashMap<char, i32>,
    phonemes: Vec<char>,
    longest: usize,
}

impl Speller {
    pub(super) fn load(folder: &Path, pool: &Arc<ThreadPool>) -> Result<Self, HibariError> {
        let letters: Letters = files::json(folder, files::SPELLER_LETTERS)?;
        Ok(Self {
            network: Network::load(&folder.join(files::SPELLER), pool)?,
            // 0 fills up.
            letters: letters.r#in.into_iter().zip(1..).collect(),
            phonemes: letters.out,
            longest: letters.maxlen,
        })
    }

    /// Of a word that is longer than the network was taught, part after part. A letter that it was not taught is read as the
    /// one under its accent.
    pub(super) fn read(&self, word: &str) -> Result<String, HibariError> {
        let ids: Vec<i32> = word.chars().filter_map(|letter| self.letter(letter)).collect();
        let parts = ids.len().div_ceil(self.longest.max(1)).max(1);
        let mut said = String::new();
        for part in ids.chunks(ids.len().div_ceil(parts).max(1)) {
            said.push_str(&self.read_part(part.to_vec())?);
        }
        Ok(said)
    }

    fn letter(&self, letter: char) -> Option<i32> {
        let known = |letter: char| self.letters.get(&letter).copied();
        known(letter).or_else(|| plain(letter).and_then(known))
    }

    fn read_part(&self, ids: Vec<i32>) -> Result<String, HibariError> {
        let input = Value::from(Tensor::from_data(&[1, ids.len()], ids));
        let [said] = self.network.run(vec![("chars", input)], ["ids"])?;
        let said = self.network.ids(said)?;
        // Connectionist temporal classification: a sound that lasts is one sound, 0 is between two.
        let begins = |at: usize| at == 0 || said[at] != said[at - 1];
        let sound = |at: usize| self.phonemes.get(usize::try_from(said[at] - 1).ok()?);
        Ok((0..said.len()).filter(|&at| begins(at)).filter_map(sound).collect())
    }
}

/// A letter without its accent.
fn plain(letter: char) -> Option<char> {
    let decomposed = icu_normalizer::DecomposingNormalizerBorrowed::new_nfkd();
    let mut utf8 = [0; 4];
    let plain = decomposed.normalize(letter.encode_utf8(&mut utf8)).chars().next();
    plain.filter(|plain| *plain != letter)
}
