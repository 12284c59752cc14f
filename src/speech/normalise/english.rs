//! A run of English, word by word: the first rule that knows how one is read writes it out, some of them with words behind it.
//!
//! In here: the order of the rules, and the marks around a word. The rules have their own files. Pure.

use super::{SpokenWord, addresses, formulas, identifiers, measures, money, times, words, words_of};
use crate::speech::markup::pause_ms;

/// Marks that open before a word and close behind it.
const OPENERS: &[char] = &['(', '[', '{', '"', '“', '\'', '‘', '<', '«', '„', '¿', '¡', '「', '『', '（'];
const CLOSERS: &[char] = &[
    '.', ',', ';', ':', '!', '?', ')', ']', '}', '"', '”', '\'', '’', '…', '>', '»', '」', '』', '）', '，', '。',
    '！', '？',
];
/// Words behind one that a rule may look at.
const AHEAD: usize = 8;

/// A word and what is around it.
pub(super) struct Context<'w> {
    /// Without the marks around it.
    pub core: &'w str,
    /// The words behind it, as far as no mark parts them.
    pub next: Vec<&'w str>,
    /// The word before, if no mark is between.
    pub before: &'w str,
    /// The last word that was said.
    pub said: String,
    /// The marks behind it.
    pub end: &'w str,
    /// Whether a quote opens before it, or letters are left out.
    pub is_quoted: bool,
    /// Whether it is the last of the run.
    pub is_last: bool,
}

impl Context<'_> {
    pub fn next(&self) -> &str {
        self.next.first().copied().unwrap_or_default()
    }

    /// Whether nothing comes behind the word that is so far behind this one.
    pub fn ends_after(&self, words: usize) -> bool {
        self.next.len() <= words
    }
}

/// How a word is read, with so many behind it.
pub(super) struct Reading {
    pub text: String,
    pub takes: usize,
}

impl Reading {
    pub fn word(text: impl Into<String>) -> Option<Self> {
        Some(Self { text: text.into(), takes: 0 })
    }

    pub fn with(takes: usize, text: impl Into<String>) -> Option<Self> {
        Some(Self { text: text.into(), takes })
    }
}

pub(super) fn write_out(chars: &[(usize, char)]) -> Vec<SpokenWord> {
    let chars = formulas::without_latex(chars);
    let mut words = words_of(&chars);
    for word in &mut words {
        word.text = plain_marks(&word.text);
    }
    let is_shouted = words::is_shouted(&words);
    let cores: Vec<(&str, &str, &str)> = words.iter().map(|word| core_of(&word.text)).collect();
    let mut out: Vec<SpokenWord> = Vec::with_capacity(words.len());
    let mut at = 0;
    while at < words.len() {
        let (before, core, mut end) = cores[at];
        let context = context(&cores, at, out.last().map(|word| word.text.as_str()).unwrap_or_default());
        let read = if words[at].text.chars().all(|c| pause_ms(c).is_some()) { None } else { rules(&context) };
        let (text, takes) = match read {
            Some(Reading { text, takes }) => (text, takes),
            None if is_shouted => (words::unshouted(core, &context), 0),
            None => (core.to_owned(), 0),
        };
        if takes > 0 {
            end = cores[at + takes].2;
        }
        let before = if takes > 0 && before == "(" && cores[at].2 == ")" { "" } else { before };
        let before = before.replace(['<', '{', '['], "");
        let end = end.replace(['>', '}', ']'], "");
        // A short form's own stop is the sentence's too.
        let end = if text.ends_with('.') { end.strip_prefix('.').unwrap_or(&end) } else { &end };
        let text = format!("{before}{text}{}", without_repeats(end));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        out.push(SpokenWord { at: words[at].at, text, spaced: words[at].spaced });
        at += 1 + takes;
    }
    out
}

fn context<'w>(cores: &[(&'w str, &'w str, &'w str)], at: usize, said: &str) -> Context<'w> {
    let mut next = Vec::new();
    let is_area = |(opener, core, end): &(&str, &str, &str)| {
        *opener == "(" && *end == ")" && core.bytes().all(|byte| byte.is_ascii_digit())
    };
    // The brackets of a telephone number are its own.
    let mut end = if is_area(&cores[at]) { "" } else { cores[at].2 };
    for word in cores[at + 1..].iter().take(AHEAD) {
        let (opener, core, closer) = word;
        if !end.is_empty() || !(opener.is_empty() || is_area(word)) || core.is_empty() {
            break;
        }
        next.push(*core);
        end = if is_area(word) { "" } else { closer };
    }
    let before =
        at.checked_sub(1).map(|at| cores[at]).filter(|(.., end)| end.is_empty()).map_or("", |(_, core, _)| core);
    Context {
        core: cores[at].1,
        next,
        before,
        end: cores[at].2,
        is_quoted: cores[at].0.ends_with(['\'', '’', '‘']),
        is_last: at + 1 == cores.len(),
        said: said.to_owned(),
    }
}

fn rules(context: &Context<'_>) -> Option<Reading> {
    if context.core.is_empty() {
        return None;
    }
    words::sign(context)
        .or_else(|| addresses::said(context.core).and_then(Reading::word))
        .or_else(|| words::phonetic(context))
        .or_else(|| identifiers::read(context))
        .or_else(|| money::read(context))
        .or_else(|| times::read(context))
        .or_else(|| measures::read(context))
        .or_else(|| words::read(context))
        .or_else(|| formulas::read(context))
}

/// A word without the brackets and marks around it, which come before and after.
pub(super) fn core_of(word: &str) -> (&str, &str, &str) {
    let mut core = word.trim_start_matches(OPENERS);
    // `(a+b)^2` keeps its bracket, and `<5` its sign.
    let is_whole = |core: &str| {
        let count = |mark: char| core.trim_end_matches(CLOSERS).chars().filter(|c| *c == mark).count();
        count(')') <= count('(')
    };
    if word.starts_with('(') && !is_whole(core) && is_whole(word) {
        core = word;
    }
    if word.starts_with('<') && !core.starts_with(char::is_alphabetic) {
        core = word;
    }
    let before = &word[..word.len() - core.len()];
    // The stops of a short form are its own, and a sign is no mark.
    if words::is_sign(word) || words::is_short(word) {
        return ("", word, "");
    }
    if words::is_short(core) {
        return (before, core, "");
    }
    let mut kept = core.trim_end_matches(CLOSERS);
    // `f(x)` keeps its bracket, `(see x)` does not.
    while core[kept.len()..].starts_with([')', ']', '}']) && is_open(kept) {
        kept = &core[..kept.len() + 1];
    }
    // `5'4"` too.
    if kept.starts_with(|c: char| c.is_ascii_digit())
        && kept.contains(['\'', '′'])
        && core[kept.len()..].starts_with('"')
    {
        kept = &core[..=kept.len()];
    }
    if core[kept.len()..].starts_with('.') && words::is_short(&core[..=kept.len()]) {
        kept = &core[..=kept.len()];
    }
    (before, kept, &core[kept.len()..])
}

fn is_open(text: &str) -> bool {
    let count = |marks: [char; 3]| text.chars().filter(|c| marks.contains(c)).count();
    count(['(', '[', '{']) > count([')', ']', '}'])
}

/// Marks of other scripts that an English voice passes over.
fn plain_marks(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '，' | '、' | '،' => plain.push(','),
            '。' | '｡' | '।' | '۔' => plain.push('.'),
            '！' => plain.push('!'),
            '？' | '؟' => plain.push('?'),
            '；' => plain.push(';'),
            '：' => plain.push(':'),
            '（' | '【' => plain.push('('),
            '）' | '】' => plain.push(')'),
            '「' | '『' => plain.push('“'),
            '」' | '』' => plain.push('”'),
            '−' | '‐' | '‑' | '‒' | '﹣' => plain.push('-'),
            '٠'..='٩' | '۰'..='۹' | '०'..='९' => {
                let digit = u32::from(c) % 16;
                // Arabic digits begin at a row's first place, India's at its seventh.
                plain.push(char::from_digit(if matches!(c, '०'..='९') { digit - 6 } else { digit }, 10).unwrap_or(c));
            }
            _ => plain.push(c),
        }
    }
    plain
}

/// "!!!" is one mark to a voice.
fn without_repeats(marks: &str) -> String {
    let mut kept = String::with_capacity(marks.len());
    for mark in marks.chars() {
        let is_one = matches!(mark, '!' | '?' | ',' | ';' | ':');
        let repeats = (is_one && kept.ends_with(mark)) || (mark == '.' && kept.ends_with("..."));
        if !repeats {
            kept.push(mark);
        }
    }
    kept
}
