//! A word, number or mark of a sentence, with what is known of how it sounds.
//!
//! In here: the record, and several of them as one. Runs on: a thread of the voice.
//!
//! A port of `token.py` of hibari 0.2.1, after misaki (Apache-2.0, see `g2p`).

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Token {
    pub text: String,
    /// Part of speech, as the Penn Treebank names it.
    pub tag: String,
    /// Whether space comes after it.
    pub space: bool,
    pub phonemes: Option<String>,
    /// Whether it begins a word, not goes on with one.
    pub is_head: bool,
    /// Read as this instead.
    pub alias: Option<&'static str>,
    /// The sign before the amount that it ends.
    pub currency: Option<char>,
    /// Whether a pause is heard before it within its word.
    pub prespace: bool,
}

/// As they are written.
pub(super) fn text_of(tokens: &[Token]) -> String {
    let mut text = String::new();
    for (at, token) in tokens.iter().enumerate() {
        text.push_str(&token.text);
        if token.space && at + 1 < tokens.len() {
            text.push(' ');
        }
    }
    text
}

/// One token for all; it has no phonemes yet.
pub(super) fn merge(tokens: &[Token]) -> Token {
    let weight = |token: &Token| -> usize { token.text.chars().map(|c| 1 + usize::from(!is_lower(c))).sum() };
    let heaviest = tokens.iter().rev().max_by_key(|token| weight(token));
    Token {
        text: text_of(tokens),
        tag: heaviest.map(|token| token.tag.clone()).unwrap_or_default(),
        space: tokens.last().is_some_and(|token| token.space),
        is_head: tokens.first().is_some_and(|token| token.is_head),
        currency: tokens.iter().filter_map(|token| token.currency).max(),
        prespace: tokens.first().is_some_and(|token| token.prespace),
        ..Token::default()
    }
}

/// What is heard of them together.
pub(super) fn phonemes_of(tokens: &[Token]) -> String {
    let mut all = String::new();
    for token in tokens {
        let phonemes = token.phonemes.as_deref().unwrap_or_default();
        if token.prespace && !phonemes.is_empty() && !all.is_empty() && !all.ends_with(char::is_whitespace) {
            all.push(' ');
        }
        all.push_str(phonemes);
    }
    all
}

/// Whether it is its own lower case, as marks are too.
fn is_lower(c: char) -> bool {
    c.to_lowercase().eq([c])
}
