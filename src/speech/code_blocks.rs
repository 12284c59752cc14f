//! Takes fenced blocks of code out of a text as it streams in: nobody wants to hear them read.
//!
//! In here: a pure, incremental filter. It keeps no more than the spaces and marks at the beginning of a line. A full
//! markdown parser needs the whole text first.

/// What markdown fences code with.
const FENCE: usize = 3;

/// Leaves fenced blocks out of one text.
#[derive(Debug)]
pub struct CodeBlocks {
    /// Spaces and marks at the beginning of the line that may become a fence.
    held: String,
    place: Place,
    /// The mark that the block we are in began with.
    inside: Option<char>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    /// In the line of a fence, whose rest names a language.
    Fence,
    Line,
}

impl Default for CodeBlocks {
    fn default() -> Self {
        Self { held: String::new(), place: Place::LineStart, inside: None }
    }
}

impl CodeBlocks {
    /// Takes the next piece of text and gives what of it is no code.
    pub fn push(&mut self, piece: &str) -> String {
        let mut text = String::with_capacity(piece.len());
        for c in piece.chars() {
            self.take(c, &mut text);
        }
        text
    }

    /// What was held back when the text is over.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(self);
        if held.inside.is_some() { String::new() } else { held.held }
    }

    fn take(&mut self, c: char, text: &mut String) {
        if c == '\n' {
            if self.inside.is_none() && self.place != Place::Fence {
                text.push_str(&self.held);
            }
            // Also where a block was: what is before it ends there.
            if self.inside.is_none() {
                text.push('\n');
            }
            self.held.clear();
            self.place = Place::LineStart;
            return;
        }
        if self.place == Place::LineStart {
            let marks = self.held.trim_start();
            let goes_on = match marks.chars().next() {
                None => c.is_whitespace() || self.inside.map_or(matches!(c, '`' | '~'), |mark| c == mark),
                Some(mark) => c == mark,
            };
            // A line of spaces only is not kept for ever.
            if goes_on && self.held.len() < 64 {
                self.held.push(c);
                if self.held.trim_start().len() == FENCE {
                    self.inside = if self.inside.is_some() { None } else { Some(c) };
                    self.held.clear();
                    self.place = Place::Fence;
                }
                return;
            }
            self.place = Place::Line;
            if self.inside.is_none() {
                text.push_str(&self.held);
            }
            self.held.clear();
        }
        if self.place == Place::Line && self.inside.is_none() {
            text.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn without_code(pieces: &[&str]) -> String {
        let mut blocks = CodeBlocks::default();
        let text: String = pieces.iter().map(|piece| blocks.push(piece)).collect();
        text + &blocks.finish()
    }

    #[test]
    fn blocks_are_left_out_and_all_else_stays() {
        for (text, expected) in [
            ("Look:\n```rust\nlet a = 1;\n```\nDone.", "Look:\n\nDone."),
            ("Look:\n  ~~~\na ``` b\n```\n  ~~~\nDone.", "Look:\n\nDone."),
            ("```\nnever ends", ""),
            ("a `b` ``c`` ```d``` e", "a `b` ``c`` ```d``` e"),
            ("`x` first\n~5 or ~~no~~\n", "`x` first\n~5 or ~~no~~\n"),
            ("a\n``", "a\n``"),
        ] {
            assert_eq!(without_code(&[text]), expected, "{text:?}");
        }
    }

    #[test]
    fn nothing_is_held_back_within_a_line() {
        let mut blocks = CodeBlocks::default();
        assert_eq!(blocks.push("Hel"), "Hel");
        assert_eq!(blocks.push("lo\n``"), "lo\n");
        assert_eq!(blocks.push("x"), "``x");
        blocks.push(&format!("\n{}", " ".repeat(100_000)));
        assert!(blocks.held.len() <= 64);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec(prop::sample::select(
            vec!["```", "``", "`", "~~~", "\n", " ", "word", "é"]), 0..30)) {
            let whole = parts.concat();
            prop_assert_eq!(without_code(&[&whole]), without_code(&parts));
        }
    }
}
