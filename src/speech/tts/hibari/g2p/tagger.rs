//! Parts of speech: an averaged perceptron over a word, its neighbours and the tags before it.
//!
//! In here: features and weights. Not in here: what a tag means for a word's sound (`lexicon`).
//! Runs on: a thread of the voice.
//!
//! A port of `tagger.py` of hibari 0.2.1 (Apache-2.0, see `g2p`); its weights were learnt from spaCy's tags.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::speech::tts::hibari::{HibariError, files};

const BEFORE: [&str; 2] = ["-START2-", "-START-"];
const AFTER: [&str; 2] = ["-END-", "-END2-"];

#[derive(serde::Deserialize)]
struct Model {
    tags: Vec<String>,
    /// Words with one tag.
    tagdict: HashMap<String, String>,
    /// Words that features may name.
    vocab: HashSet<String>,
    weights: HashMap<String, HashMap<String, f64>>,
}

pub(super) struct Tagger {
    tags: Vec<String>,
    only: HashMap<String, String>,
    known: HashSet<String>,
    /// For each feature the tags, by number, that it speaks for or against.
    weights: HashMap<String, Box<[(usize, f64)]>>,
}

impl Tagger {
    pub(super) fn load(folder: &Path) -> Result<Self, HibariError> {
        let mut model: Model = files::json(folder, files::TAGGER)?;
        // Of tags with equal scores the last in the alphabet is taken.
        model.tags.sort_unstable();
        let number = |tag: &str| model.tags.binary_search_by(|known| known.as_str().cmp(tag)).ok();
        let numbered = |weights: HashMap<String, f64>| {
            weights.iter().filter_map(|(tag, weight)| Some((number(tag)?, *weight))).collect()
        };
        let weights = model.weights.into_iter().map(|(feature, weights)| (feature, numbered(weights))).collect();
        Ok(Self { tags: model.tags, only: model.tagdict, known: model.vocab, weights })
    }

    pub(super) fn tag(&self, words: &[&str]) -> Vec<String> {
        let inner = words.iter().map(|word| self.in_context(word));
        let around: Vec<String> =
            BEFORE.iter().map(|&s| s.to_owned()).chain(inner).chain(AFTER.iter().map(|&s| s.to_owned())).collect();
        let (mut before, mut last) = (BEFORE[0], BEFORE[1]);
        let mut tags = Vec::with_capacity(words.len());
        for (at, word) in words.iter().enumerate() {
            let tag = match self.only.get(*word) {
                Some(tag) => tag,
                None => self.guess(&features(word, &around[at..at + 5], at == 0, last, before)),
            };
            tags.push(tag.to_owned());
            (before, last) = (last, tag);
        }
        tags
    }

    fn guess(&self, features: &[String]) -> &str {
        let mut scores = vec![0.0; self.tags.len()];
        let mut any = false;
        for (tag, weight) in features.iter().filter_map(|feature| self.weights.get(feature)).flatten() {
            scores[*tag] += weight;
            any = true;
        }
        let best = (0..scores.len()).max_by(|&one, &other| scores[one].total_cmp(&scores[other]));
        best.filter(|_| any).map_or("NN", |best| &self.tags[best])
    }

    /// How a word stands in the features of its neighbours: a rare one only by its shape.
    fn in_context(&self, word: &str) -> String {
        let digits = |text: &str| text.chars().all(char::is_numeric);
        let name = if word.contains('-') && !word.starts_with('-') {
            "!HYPHEN".to_owned()
        } else if digits(word) && word.chars().count() == 4 {
            "!YEAR".to_owned()
        } else if word.starts_with(char::is_numeric) {
            "!DIGITS".to_owned()
        } else {
            word.to_lowercase()
        };
        if self.known.contains(&name) { name } else { format!("<{}>", shape(word)) }
    }
}

fn shape(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().unwrap_or_default();
    if word.chars().all(char::is_alphabetic) {
        let shape = match (word.chars().count(), first.is_uppercase()) {
            _ if word.chars().all(char::is_lowercase) => "x",
            (1, true) => "X1",
            _ if word.chars().all(char::is_uppercase) => "XX",
            (_, true) if letters.all(char::is_lowercase) => "Xx",
            _ => "xX",
        };
        return shape.to_owned();
    }
    if word.chars().all(char::is_numeric) {
        return "d".to_owned();
    }
    let sign = |c: char| match c {
        c if c.is_numeric() => 'd',
        c if c.is_alphabetic() => 'x',
        c => c,
    };
    word.chars().take(4).map(sign).collect()
}

fn end(word: &str) -> &str {
    let start = word.char_indices().rev().nth(2).map_or(0, |(at, _)| at);
    &word[start..]
}

/// `around` is the word in the middle of its two neighbours on each side.
fn features(word: &str, around: &[String], is_first: bool, last: &str, before: &str) -> [String; 15] {
    [
        "b".to_owned(),
        format!("s3={}", end(word)),
        format!("p1={}", word.chars().next().unwrap_or_default()),
        format!("w={}", around[2]),
        format!("sh={}", shape(word)),
        if is_first { "i0" } else { "i+" }.to_owned(),
        format!("t-1={last}"),
        format!("t-2={before}"),
        format!("t-12={last},{before}"),
        format!("w-1={}", around[1]),
        format!("s3-1={}", end(&around[1])),
        format!("w-2={}", around[0]),
        format!("w+1={}", around[3]),
        format!("s3+1={}", end(&around[3])),
        format!("w+2={}", around[4]),
    ]
}
