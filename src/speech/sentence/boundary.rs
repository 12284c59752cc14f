//! Where a sentence ends, and where its first clause does.
//!
//! In here: the decision about one mark, taken from the text around it; it waits where the text has to go on first. Pure. Not
//! in here: sentences without any mark (`sentence`).

use super::characters::{is_cjk, is_closer, is_line_end, is_mark, is_wide_mark};
use crate::speech::clean::is_pictograph;

/// How far a decision looks past a mark: enough for closing quotes, spaces and one short word.
pub(super) const LOOKAHEAD: usize = 24;

/// Narrowest clause that is spoken by itself: shorter ones are over before the next is made.
const MIN_CLAUSE_WIDTH: usize = 12;
/// From this width on a first sentence without a comma is also cut before a conjunction.
const MIN_PHRASE_WIDTH: usize = 50;
/// Where a voice may pause in a long sentence.
const CONJUNCTIONS: &[&str] = &[
    "and", "because", "but", "if", "or", "since", "so", "that", "though", "unless", "until", "when", "where", "which",
    "while", "who",
];

/// Never end a sentence: a name or an example follows.
const LEADING: &[&str] = &[
    "dr", "mr", "mrs", "ms", "mx", "prof", "st", "mt", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "cmdr", "gov",
    "sen", "rep", "pres", "messrs", "mme", "mlle", "sr", "sra", "e.g", "i.e", "eg", "ie", "cf", "vs", "viz", "approx",
    "ca", "z.b", "d.h", "bzw", "hr", "fr",
];
/// End no sentence when a number follows.
const NUMBERED: &[&str] = &[
    "no", "nos", "nr", "fig", "figs", "vol", "p", "pp", "ch", "sec", "eq", "art", "op", "ver", "v", "tel", "ext", "rm",
    "rs", "apt", "bldg",
];
/// End a sentence only when one seems to begin after them.
const TRAILING: &[&str] = &[
    "etc", "a.m", "p.m", "inc", "ltd", "co", "corp", "jr", "ph.d", "u.s", "u.k", "u.n", "e.u", "u.s.a", "d.c", "al",
    "est", "dept", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "a.d", "b.c",
    "tsp", "tbsp", "mio", "mrd", "cit", "ft", "oz", "lb", "lbs", "ave", "blvd", "rd", "hwy", "sq", "mon", "tue",
    "tues", "wed", "thu", "thurs", "fri", "min", "max", "incl", "excl", "temp", "avg", "bros", "univ",
];
/// Words that begin a sentence far more often than they follow an abbreviation inside one.
const STARTERS: &[&str] = &[
    "a", "after", "all", "also", "an", "and", "any", "are", "as", "at", "because", "before", "but", "can", "could",
    "did", "do", "does", "for", "from", "good", "have", "he", "hello", "her", "here", "his", "how", "i", "i'll", "i'm",
    "i've", "if", "in", "is", "it", "it's", "its", "let", "let's", "may", "maybe", "most", "my", "no", "not", "now",
    "of", "on", "one", "or", "our", "please", "she", "so", "some", "thank", "thanks", "that", "that's", "the", "their",
    "then", "there", "these", "they", "this", "those", "to", "we", "we're", "well", "what", "when", "where", "which",
    "while", "who", "why", "will", "with", "would", "yes", "yet", "you", "you're", "your",
];

/// What is known about a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The sentence ends before this index.
    End(usize),
    NoEnd,
    /// The text has to go on first.
    Unknown,
}

/// Whether the sentence ends with the mark at `at`.
pub(super) fn verdict(text: &[char], at: usize) -> Verdict {
    if is_line_end(text[at]) {
        return Verdict::End(at + 1);
    }
    // "?!" and "..." are decided at their first mark.
    if !is_mark(text[at]) || (at > 0 && is_mark(text[at - 1])) {
        return Verdict::NoEnd;
    }
    let limit = at + LOOKAHEAD;
    let run_while = |from: usize, belongs: fn(char) -> bool| {
        let tail = text.iter().take(limit).skip(from);
        from + tail.take_while(|c| belongs(**c)).count()
    };
    let marks_end = run_while(at, is_mark);
    let end = run_while(marks_end, is_closer);
    if end >= limit {
        return Verdict::NoEnd;
    }
    let Some(&next) = text.get(end) else { return Verdict::Unknown };
    let marks = &text[at..marks_end];
    if marks.iter().any(|mark| is_wide_mark(*mark)) || is_line_end(next) {
        return Verdict::End(end);
    }
    // A Latin mark inside of something that goes on is part of a number, an address or a name.
    if !next.is_whitespace() && !is_cjk(next) && !is_pictograph(next) {
        return Verdict::NoEnd;
    }
    let quoted = text[marks_end..end].iter().any(|closer| matches!(closer, '"' | '\'' | '”' | '’' | '»' | ')' | ']'));
    let next = Next::after(text, end, limit);
    let is_ellipsis = marks.iter().all(|mark| matches!(mark, '.' | '…')) && (marks.len() > 1 || marks[0] == '…');
    match marks {
        [';'] if token_before(text, at).starts_with('&') => Verdict::NoEnd,
        _ if is_ellipsis => next.ends_unless(end, |next| next.is_lowercase() || is_cjk(next)),
        ['.'] => verdict_on_full_stop(text, at, end, next, quoted),
        // "Really?" she said.
        _ if quoted => next.ends_unless(end, char::is_lowercase),
        _ => Verdict::End(end),
    }
}

/// Whether a clause, of the given width before `at`, ends here.
pub(super) fn clause_verdict(text: &[char], at: usize, width: usize) -> Verdict {
    let is_open = |opener: char, closer: char| {
        let count = |mark: char| text[..at].iter().filter(|c| **c == mark).count();
        count(opener) > count(closer)
    };
    match text[at] {
        '，' | '：' | '、' if width >= MIN_CLAUSE_WIDTH => Verdict::End(at + 1),
        ',' | ':' | '–' | '—' if width >= MIN_CLAUSE_WIDTH => match text.get(at + 1) {
            None => Verdict::Unknown,
            Some(next) if next.is_whitespace() && !is_open('(', ')') && !is_open('[', ']') => Verdict::End(at + 1),
            Some(_) => Verdict::NoEnd,
        },
        c if c.is_whitespace() && width >= MIN_PHRASE_WIDTH => {
            let word: String = text[at + 1..].iter().take(LOOKAHEAD).take_while(|c| c.is_alphabetic()).collect();
            if text.len() <= at + 1 + word.chars().count() && word.len() <= LOOKAHEAD {
                return Verdict::Unknown;
            }
            if CONJUNCTIONS.contains(&word.as_str()) { Verdict::End(at) } else { Verdict::NoEnd }
        }
        _ => Verdict::NoEnd,
    }
}

fn verdict_on_full_stop(text: &[char], at: usize, end: usize, next: Next<'_>, quoted: bool) -> Verdict {
    let token = token_before(text, at);
    let lower = token.to_lowercase();
    let lower = lower.as_str();
    let starts_list = || !text[..at - token.chars().count()].iter().any(|c| c.is_alphanumeric());
    if token.len() <= 3 && !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) && starts_list() {
        return Verdict::NoEnd;
    }
    if LEADING.contains(&lower) {
        return Verdict::NoEnd;
    }
    if NUMBERED.contains(&lower) {
        return next.ends_unless(end, char::is_numeric);
    }
    if TRAILING.contains(&lower) || is_initials(&token) {
        return next.ends_if_it_starts_a_sentence(end);
    }
    if quoted {
        return next.ends_unless(end, char::is_lowercase);
    }
    Verdict::End(end)
}

/// What follows a mark and its spaces.
#[derive(Clone, Copy)]
enum Next<'a> {
    /// Not written yet.
    Unknown,
    /// A new line or a wide gap: that ends any sentence.
    Gap,
    /// The text from the first character on, as far as a decision may look, and whether it goes on to there.
    Text { from: &'a [char], complete: bool },
}

impl<'a> Next<'a> {
    fn after(text: &'a [char], end: usize, limit: usize) -> Self {
        // The word after the spaces may be looked at for as long again.
        for (at, &c) in text.iter().enumerate().take(limit).skip(end) {
            if is_line_end(c) {
                return Self::Gap;
            }
            if !c.is_whitespace() {
                let last = text.len().min(at + LOOKAHEAD);
                return Self::Text { from: &text[at..last], complete: last == at + LOOKAHEAD };
            }
        }
        if text.len() < limit { Self::Unknown } else { Self::Gap }
    }

    fn ends_unless(self, end: usize, goes_on: fn(char) -> bool) -> Verdict {
        match self {
            Self::Unknown => Verdict::Unknown,
            Self::Text { from, .. } if from.first().copied().is_some_and(goes_on) => Verdict::NoEnd,
            _ => Verdict::End(end),
        }
    }

    fn ends_if_it_starts_a_sentence(self, end: usize) -> Verdict {
        let (from, complete) = match self {
            Self::Unknown => return Verdict::Unknown,
            Self::Gap => return Verdict::End(end),
            Self::Text { from, complete } => (from, complete),
        };
        if !from[0].is_uppercase() {
            // A bracket, a dash, a small letter or a number goes on; Chinese after Latin does not.
            return if is_cjk(from[0]) { Verdict::End(end) } else { Verdict::NoEnd };
        }
        let letters = from.iter().take_while(|c| c.is_alphabetic() || matches!(c, '\'' | '’')).count();
        if letters == from.len() && !complete {
            return Verdict::Unknown;
        }
        let word: String = from[..letters].iter().flat_map(|c| c.to_lowercase()).collect();
        let word = word.replace('’', "'");
        if STARTERS.contains(&word.as_str()) { Verdict::End(end) } else { Verdict::NoEnd }
    }
}

/// The word before a mark, without the brackets and quotes that open it.
fn token_before(text: &[char], at: usize) -> String {
    let begins = |c: char| {
        c.is_whitespace()
            || is_cjk(c)
            || matches!(c, '(' | '[' | '{' | '"' | '“' | '„' | '«' | '‘' | '*' | '_' | '/' | '-')
    };
    let length = text[..at].iter().rev().take(LOOKAHEAD).take_while(|c| !begins(**c)).count();
    text[at - length..at].iter().collect()
}

/// `J`, `J.R.R`, `w.r.t`: single letters with full stops between them, one alone only when it is a capital.
fn is_initials(token: &str) -> bool {
    let single = |part: &str| {
        let mut letters = part.chars();
        letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
    };
    token.split('.').all(single) && (token.contains('.') || token.chars().all(char::is_uppercase))
}
