//! Cuts streamed text into sentences, so that the first is spoken while the rest is still being written.
//!
//! In here: `SentenceSplitter`, pure and incremental; `boundary` tells where a sentence or its first clause ends, `characters`
//! which characters count as marks. Not in here: cleaning (`clean`) and speaking (`tts`).
//!
//! Every decision is taken from the text around one mark and waits until enough of it has come to be certain, so
//! how a text was cut into pieces never changes its sentences. How far a decision looks ahead is bounded, and so is
//! the length of a sentence: it ends somewhere without any punctuation too.

mod boundary;
mod characters;

use super::clean::{is_invisible, speakable};
use super::markup::MarkupFilter;
use boundary::{Verdict, clause_verdict, verdict};
use characters::{is_combining, width};

/// Longest sentence. About 13 s of speech; longer ones are cut at a comma or a space.
const MAX_WIDTH: usize = 200;
/// A cut for length leaves at least this much before it, unless there is no place to cut.
const MIN_CUT_WIDTH: usize = 60;

/// Collects text and gives out whole sentences.
#[derive(Debug, Default)]
pub struct SentenceSplitter {
    /// What is not decided yet, at most about two sentences long.
    pending: Vec<char>,
    /// Everything before this index of `pending` holds no end.
    scanned: usize,
    /// Width of `pending[..scanned]`.
    width: usize,
    /// The next sentence may be cut after a clause.
    clause_next: bool,
    tags: MarkupFilter,
}

impl SentenceSplitter {
    /// One that gives out whole sentences alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that gives out the first clause of the first sentence by itself, so that a voice can begin with it while
    /// the text is still being written.
    pub fn clause_first() -> Self {
        Self { clause_next: true, ..Self::default() }
    }

    /// Takes the next piece of text and returns the sentences that are certain by now, as they were written but for tags.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        let mut plain = String::with_capacity(text.len());
        self.tags.push(text, &mut plain);
        self.push_plain(&plain)
    }

    fn push_plain(&mut self, text: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut chars = text.chars();
        loop {
            let before = self.pending.len();
            // Bit by bit, so that memory stays bounded whatever the size of one push.
            self.pending.extend(chars.by_ref().take(MAX_WIDTH));
            if self.pending.len() == before {
                return sentences;
            }
            while let Some(end) = self.next_end() {
                let text: String = self.pending.drain(..end).collect();
                if let Some(sentence) = sentence(&text) {
                    sentences.push(sentence);
                    self.clause_next = false;
                }
                self.scanned = 0;
                self.width = 0;
            }
        }
    }

    /// Returns what is left when the text is over, nearly always one sentence; the splitter is then ready for another text.
    pub fn finish(&mut self) -> Vec<String> {
        let mut plain = String::new();
        self.tags.finish(&mut plain);
        let mut sentences = self.push_plain(&plain);
        let rest: String = std::mem::take(self).pending.into_iter().collect();
        sentences.extend(sentence(&rest));
        sentences
    }

    /// Index of the end of the next sentence, as soon as it is certain.
    fn next_end(&mut self) -> Option<usize> {
        while self.scanned < self.pending.len() {
            match verdict(&self.pending, self.scanned) {
                Verdict::End(end) => return Some(end),
                Verdict::Unknown => return None,
                Verdict::NoEnd if self.clause_next => match clause_verdict(&self.pending, self.scanned, self.width) {
                    Verdict::End(end) => return Some(end),
                    Verdict::Unknown => return None,
                    Verdict::NoEnd => {}
                },
                Verdict::NoEnd => {}
            }
            self.width += width(self.pending[self.scanned]);
            self.scanned += 1;
            if self.width >= MAX_WIDTH {
                return Some(cut_for_length(&self.pending[..self.scanned]));
            }
        }
        None
    }
}

fn sentence(text: &str) -> Option<String> {
    let text = text.trim();
    speakable(text).map(|_| text.to_owned())
}

/// Where a text without an end is cut: after its last comma, else at its last space, else before its last character.
fn cut_for_length(text: &[char]) -> usize {
    let (mut comma, mut space, mut before) = (None, None, 0);
    for (at, &c) in text.iter().enumerate() {
        before += width(c);
        let next_is_space = || text.get(at + 1).is_some_and(|next| next.is_whitespace());
        if before >= MIN_CUT_WIDTH
            && (matches!(c, '，' | '、' | '：' | '—') || (matches!(c, ',' | ':' | '–' | '،') && next_is_space()))
        {
            comma = Some(at + 1);
        }
        if c.is_whitespace() && at > 0 {
            space = Some(at);
        }
    }
    comma.or(space).unwrap_or_else(|| {
        // Not between a letter and its accent, nor within an emoji.
        let joined = |at: usize| is_combining(text[at]) || is_invisible(text[at]) || text[at - 1] == '\u{200d}';
        let last = text.len() - 1;
        (last.saturating_sub(8).max(1)..=last).rev().find(|at| !joined(*at)).unwrap_or(last.max(1))
    })
}

#[cfg(test)]
mod tests;
