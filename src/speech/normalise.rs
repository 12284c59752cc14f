//! Text normalisation: a written sentence becomes the spoken one. What voices read badly is written out: addresses, amounts of
//! money, ranges, dates, units, formulas, signs.
//!
//! In here: a sentence run by run, in the language of each (`language`), and which of the words that are said each written one
//! has become. English is written out (`english`); in other languages, whose voices know their own numbers, addresses and
//! amounts only lose what is not spoken. Not in here: marks and emoji (`clean`). Pure.

mod addresses;
mod english;
mod formulas;
mod identifiers;
mod measures;
mod money;
mod numbers;
mod other_languages;
mod times;
mod words;

pub use other_languages::stands_alone;

use super::clean::{GROUPS, clean};
use super::language::{self, RunLanguage};
use super::markup::pause_ms;
use super::sentence::SentenceSplitter;

/// The entities that models and pages write.
#[rustfmt::skip]
const ENTITIES: &[(&str, &str)] = &[
    ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&#x27;", "'"),
    ("&#34;", "\""), ("&nbsp;", " "), ("&ndash;", "–"), ("&mdash;", "—"), ("&hellip;", "…"), ("&lsquo;", "‘"),
    ("&rsquo;", "’"), ("&ldquo;", "“"), ("&rdquo;", "”"), ("&deg;", "°"), ("&euro;", "€"), ("&pound;", "£"),
    ("&yen;", "¥"), ("&copy;", "©"), ("&times;", "×"),
];

/// A sentence as it is to be spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokenForm {
    /// On one line, pauses among it (`markup::pause_ms`).
    pub text: String,
    /// What is said for each written word, in order.
    pub words: Vec<SpokenWord>,
}

/// What is said for a written word, or for a character of a script without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokenWord {
    /// Which byte of the sentence the written one begins at.
    pub at: usize,
    /// One word or several, without spaces at its ends.
    pub text: String,
    /// Whether a space parts it from what is said before.
    pub spaced: bool,
}

impl SpokenForm {
    /// How many words are said for what is written in these bytes of the sentence, and what that is.
    pub fn of(&self, bytes: std::ops::Range<usize>) -> (usize, String) {
        let (mut count, mut said) = (0, String::new());
        let is_said = |word: &&SpokenWord| !word.text.chars().all(|c| pause_ms(c).is_some());
        for word in self.words.iter().filter(|word| bytes.contains(&word.at)).filter(is_said) {
            let words = word.text.split_whitespace().count();
            count += if word.spaced { words } else { words.saturating_sub(1) };
            said.push_str(&word.text);
            said.push(' ');
        }
        (count, said)
    }
}

/// The sentences of a whole text, as they are to be spoken.
pub fn sentences(text: &str, language: &str) -> Vec<String> {
    let mut splitter = SentenceSplitter::new();
    let mut sentences = splitter.push(text);
    sentences.extend(splitter.finish());
    sentences.iter().filter_map(|sentence| spoken_form(sentence, language)).map(|spoken| spoken.text).collect()
}

/// A sentence as a voice of this language (BCP 47) should read it, and what has become of each word; `None` if nothing in it
/// can be spoken.
pub fn spoken_form(sentence: &str, language: &str) -> Option<SpokenForm> {
    let chars = with_entities(clean(sentence));
    let plain: String = chars.iter().map(|(_, c)| *c).collect();
    let own = language::primary(language);
    let mut words: Vec<SpokenWord> = Vec::new();
    let mut from = 0;
    for run in language::runs(&plain, language) {
        let count = run.text.chars().count();
        let run_chars = &chars[from..from + count];
        let follows_space = from == 0 || chars[from - 1].1 == ' ' || run_chars.first().is_some_and(|(_, c)| *c == ' ');
        from += count;
        let primary = match run.language {
            RunLanguage::Own => own.clone(),
            RunLanguage::Other { language, .. } => language::primary(language),
        };
        let mut said = match primary.as_str() {
            "en" => english::write_out(run_chars),
            _ => other_languages::write_out(run_chars, &primary),
        };
        if let Some(first) = said.first_mut() {
            first.spaced &= follows_space;
        }
        words.append(&mut said);
    }
    words.retain(|word| !word.text.is_empty());
    if let Some(first) = words.first_mut() {
        first.spaced = true;
    }
    let mut text = String::with_capacity(plain.len());
    for word in &words {
        if word.spaced && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word.text);
    }
    text.chars().any(char::is_alphanumeric).then_some(SpokenForm { text, words })
}

/// The words of a run: what spaces part, and pauses.
fn words_of(chars: &[(usize, char)]) -> Vec<SpokenWord> {
    let mut words: Vec<SpokenWord> = Vec::new();
    let mut parted = true;
    for &(at, c) in chars {
        let is_pause = pause_ms(c).is_some();
        if c == ' ' {
            parted = true;
            continue;
        }
        match words.last_mut() {
            Some(word) if !parted && !is_pause => word.text.push(c),
            _ => words.push(SpokenWord { at, text: c.to_string(), spaced: true }),
        }
        parted = is_pause;
    }
    words
}

fn with_entities(chars: Vec<(usize, char)>) -> Vec<(usize, char)> {
    if !chars.iter().any(|(_, c)| *c == '&') {
        return chars;
    }
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let (source, here) = chars[at];
        let begins = |entity: &str| chars[at..].iter().map(|(_, c)| *c).take(entity.len()).eq(entity.chars());
        match ENTITIES.iter().find(|(entity, _)| here == '&' && begins(entity)) {
            Some((entity, sign)) => {
                out.extend(sign.chars().map(|c| (source, c)));
                at += entity.len();
            }
            None => {
                let (c, length) = numbered_entity(&chars[at..]).unwrap_or((here, 1));
                out.push((source, c));
                at += length;
            }
        }
    }
    out
}

/// `&#8364;` and `&#x20AC;`: the character and how many it is written with.
fn numbered_entity(chars: &[(usize, char)]) -> Option<(char, usize)> {
    const LONGEST: usize = 10;
    let written: String = chars.iter().take(LONGEST).map(|(_, c)| *c).take_while(|c| *c != ';').collect();
    let digits =
        written.strip_prefix("&#").filter(|_| chars.get(written.chars().count()).is_some_and(|(_, c)| *c == ';'))?;
    let number = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    // A sign of control, or a pause, is nobody's to write.
    let c = char::from_u32(number).filter(|c| !c.is_control() && pause_ms(*c).is_none())?;
    Some((c, written.chars().count() + 1))
}

/// Digits in groups that a space parts, without it.
fn without_groups(text: &str) -> String {
    text.replace(GROUPS, "")
}

#[cfg(test)]
mod tests;
