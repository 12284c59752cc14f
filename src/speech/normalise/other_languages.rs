//! What is written out in other languages than English: their voices know their numbers, signs and short forms.
//!
//! In here: addresses, of which only the host is said; signs that are said in no language; amounts of money in Chinese and
//! Japanese, whose voices pass over the sign. Not in here: how kanji are read (`tts::japanese`). Pure.

use super::addresses::host;
use super::numbers::{number, number_length};
use super::{SpokenWord, without_groups, words_of};

const CURRENCIES: [(char, &str, &str); 4] =
    [('$', "美元", "ドル"), ('€', "欧元", "ユーロ"), ('£', "英镑", "ポンド"), ('¥', "元", "円")];

pub(super) fn write_out(chars: &[(usize, char)], language: &str) -> Vec<SpokenWord> {
    let mut out = Vec::new();
    for word in words_of(chars) {
        let text = without_groups(&word.text).replace('→', "");
        let text = match address(&text) {
            Some(address) => address,
            None if ["zh", "cmn", "yue", "ja"].contains(&language) => amounts(&text, language == "ja"),
            None => text,
        };
        let text = text.replace(['<', '>'], " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let last = word.at + word.text.len().saturating_sub(1);
        cut(SpokenWord { text, ..word }, last, &mut out);
    }
    out
}

/// One for each character that stands alone, so that each has its time.
fn cut(word: SpokenWord, last: usize, out: &mut Vec<SpokenWord>) {
    let mut parts: Vec<SpokenWord> = Vec::new();
    let mut at = word.at;
    for c in word.text.chars() {
        let begins =
            |part: &SpokenWord| stands_alone(c) || (c.is_alphanumeric() && part.text.chars().any(stands_alone));
        match parts.last_mut() {
            Some(part) if !begins(part) => {
                part.text.push(c);
            }
            _ => parts.push(SpokenWord { at, text: c.to_string(), spaced: parts.is_empty() && word.spaced }),
        }
        // Right where nothing was written out, near elsewhere.
        at = last.min(at + c.len_utf8());
    }
    out.append(&mut parts);
}

/// Ideographs, kana and hangul, of which each takes about as long as a word.
pub fn stands_alone(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}')
}

/// A web address as its host, with the marks around it.
fn address(word: &str) -> Option<String> {
    let from = ["https://", "http://", "ftp://", "www."].iter().filter_map(|scheme| word.find(scheme)).min()?;
    let length = word[from..].find(|c: char| !c.is_ascii_graphic()).unwrap_or(word.len() - from);
    let written = word[from..from + length].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '"', '>']);
    let host = host(written)?;
    Some(format!("{}{host}{}", &word[..from], &word[from + written.len()..]))
}

/// `$5` and `5€` with the name of the currency, `5%` with that of the sign.
fn amounts(word: &str, is_japanese: bool) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if let Some((_, chinese, japanese)) = CURRENCIES.iter().find(|(sign, ..)| *sign == c) {
            let digits = number_length(after);
            out.push_str(&plain(&after[..digits]));
            out.push_str(if is_japanese { japanese } else { chinese });
            rest = &after[digits..];
        } else if c.is_ascii_digit() {
            let digits = number_length(rest);
            let (digits, after) = rest.split_at(digits);
            match after.strip_prefix('%') {
                Some(after) if is_japanese => {
                    out.push_str(&format!("{}パーセント", plain(digits)));
                    rest = after;
                }
                Some(after) => {
                    out.push_str(&format!("百分之{}", plain(digits)));
                    rest = after;
                }
                None => {
                    out.push_str(&plain(digits));
                    rest = after;
                }
            }
        } else {
            out.push(c);
            rest = after;
        }
    }
    out
}

/// A number without commas between its thousands.
fn plain(digits: &str) -> String {
    number(digits).map_or_else(|| digits.to_owned(), |number| number.replace(',', ""))
}
