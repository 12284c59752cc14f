//! Regular expressions that look ahead and behind, which those of the port do.
//!
//! In here: finding and replacing, where a text that takes too long to match does not match. Runs on: a thread of the voice.

use std::ops::Range;

use fancy_regex::{Captures, Regex};

use crate::speech::number_words;
use crate::speech::tts::hibari::HibariError;

pub(super) struct Pattern(Regex);

impl Pattern {
    /// Patterns are made of words from the voice's files, so one may be bad.
    pub(super) fn new(pattern: &str) -> Result<Self, HibariError> {
        let regex = Regex::new(pattern);
        Ok(Self(
            regex.map_err(|error| HibariError::Pattern { pattern: pattern.to_owned(), problem: error.to_string() })?,
        ))
    }

    pub(super) fn find(&self, text: &str) -> Option<Range<usize>> {
        self.0.find(text).ok().flatten().map(|found| found.start()..found.end())
    }

    pub(super) fn find_all(&self, text: &str) -> Vec<Range<usize>> {
        self.0.find_iter(text).map_while(Result::ok).map(|found| found.start()..found.end()).collect()
    }

    pub(super) fn replace(&self, text: &str, by: impl Fn(&Found<'_>) -> String) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut from = 0;
        for captures in self.0.captures_iter(text).map_while(Result::ok) {
            let found = Found { captures, text };
            let at = found.range();
            replaced.push_str(&text[from..at.start]);
            replaced.push_str(&by(&found));
            from = at.end;
        }
        replaced.push_str(&text[from..]);
        replaced
    }
}

/// One match within a text.
pub(super) struct Found<'t> {
    captures: Captures<'t, str>,
    text: &'t str,
}

impl<'t> Found<'t> {
    fn range(&self) -> Range<usize> {
        self.captures.get(0).map_or(0..0, |whole| whole.start()..whole.end())
    }

    pub(super) fn whole(&self) -> &'t str {
        &self.text[self.range()]
    }

    /// What comes after it.
    pub(super) fn after(&self) -> &'t str {
        &self.text[self.range().end..]
    }

    /// A group, if it took part.
    pub(super) fn group(&self, number: usize) -> Option<&'t str> {
        self.captures.get(number).map(|group| &self.text[group.start()..group.end()])
    }

    /// A group, empty if it took no part.
    pub(super) fn text(&self, number: usize) -> &'t str {
        self.group(number).unwrap_or_default()
    }

    /// A group's number, 0 if it is none.
    pub(super) fn number(&self, number: usize) -> u128 {
        number_words::parse(self.text(number)).unwrap_or_default()
    }
}
