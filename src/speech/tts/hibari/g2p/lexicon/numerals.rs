//! How numbers are read: years, ordinals, amounts of money, digit by digit, with endings.
//!
//! In here: the choice of a reading. Not in here: its words (`number_words`). Runs on: a thread of the voice.
//!
//! A port of `lexicon.py` of hibari 0.2.1, after misaki (Apache-2.0, see `g2p`).

use super::{Lexicon, Use, ed, ing, s};
use crate::speech::number_words;

const ORDINALS: [&str; 4] = ["st", "nd", "rd", "th"];
const ENDINGS: [&str; 9] = ["ing", "'d", "ed", "'s", "st", "nd", "rd", "th", "s"];

/// A currency's unit and its hundredth.
pub(in crate::speech::tts::hibari::g2p) fn units(sign: char) -> Option<[&'static str; 2]> {
    match sign {
        '$' => Some(["dollar", "cent"]),
        '£' => Some(["pound", "pence"]),
        '€' => Some(["euro", "cent"]),
        _ => None,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

/// Digits with commas and stops, a sign before the first of a word, an ending behind.
pub(super) fn is_number(word: &str, is_head: bool) -> bool {
    if !word.bytes().any(|digit| digit.is_ascii_digit()) {
        return false;
    }
    let stem = ENDINGS.iter().find_map(|ending| word.strip_suffix(ending)).unwrap_or(word);
    stem.char_indices().all(|(at, c)| c.is_ascii_digit() || c == ',' || c == '.' || (is_head && at == 0 && c == '-'))
}

/// The phonemes of a number as its words come.
struct Reading<'l> {
    lexicon: &'l Lexicon,
    said: Vec<String>,
}

impl Reading<'_> {
    fn say(&mut self, word: &str, stress: Option<f32>) {
        self.said.extend(self.lexicon.look_up(word, Use { stress, ..Use::PLAIN }));
    }

    /// "and" is left out within a number.
    fn words(&mut self, words: &str) {
        for word in words.split(|c: char| !c.is_ascii_lowercase()).filter(|word| !word.is_empty() && *word != "and") {
            self.say(word, (word == "point").then_some(-2.0));
        }
    }

    fn cardinal(&mut self, digits: &str) -> Option<()> {
        self.words(&number_words::cardinal(number_words::parse(digits)?));
        Some(())
    }

    fn each(&mut self, digits: &str) -> Option<()> {
        digits.char_indices().try_for_each(|(at, digit)| self.cardinal(&digits[at..at + digit.len_utf8()]))
    }

    /// Within a word: "7-31" has no thirty-one hundred.
    fn part(&mut self, digits: &str) -> Option<()> {
        if digits.starts_with('0') || digits.len() > 3 {
            self.each(digits)
        } else if digits.len() == 3 && !digits.ends_with("00") {
            self.cardinal(&digits[..1])?;
            if &digits[1..2] == "0" {
                self.say("O", Some(-2.0));
                self.cardinal(&digits[2..])
            } else {
                self.cardinal(&digits[1..])
            }
        } else {
            self.cardinal(digits)
        }
    }

    /// "1.2.10" and decimals within a word.
    fn dotted(&mut self, text: &str) -> Option<()> {
        for part in text.split('.').filter(|part| !part.is_empty()) {
            if part.starts_with('0') || (part.len() != 2 && part[1..].bytes().any(|digit| digit != b'0')) {
                self.each(part)?;
            } else {
                self.cardinal(part)?;
            }
        }
        Some(())
    }

    fn money(&mut self, text: &str, units: [&str; 2]) -> Option<()> {
        let mut amounts = Vec::new();
        for (digits, unit) in text.split('.').zip(units) {
            amounts.push((if digits.is_empty() { 0 } else { number_words::parse(digits)? }, unit));
        }
        if let [(whole, _), (part, _)] = amounts[..] {
            if part == 0 {
                amounts.truncate(1);
            } else if whole == 0 {
                amounts.remove(0);
            }
        }
        for (at, (amount, unit)) in amounts.into_iter().enumerate() {
            if at > 0 {
                self.say("and", None);
            }
            self.words(&number_words::cardinal(amount));
            if amount != 1 && unit != "pence" {
                self.said.extend(self.lexicon.with_s(&format!("{unit}s"), Use::PLAIN));
            } else {
                self.say(unit, None);
            }
        }
        Some(())
    }

    fn plain(&mut self, text: &str, is_ordinal: bool) -> Option<()> {
        let words = if let Some(digits) = text.strip_prefix('.') {
            self.words("point");
            return self.each(digits);
        } else if text.contains('.') {
            number_words::decimal(text)?
        } else {
            let number = number_words::parse(text)?;
            if is_ordinal { number_words::ordinal(number) } else { number_words::cardinal(number) }
        };
        self.words(&words);
        Some(())
    }
}

impl Lexicon {
    /// A number as it is read; `None` if it is none, or too large for words.
    pub(in crate::speech::tts::hibari::g2p) fn number(
        &self,
        word: &str,
        currency: Option<char>,
        is_head: bool,
    ) -> Option<String> {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase() || c == '\'');
        let ending = &word[digits.len()..];
        let is_ordinal = ORDINALS.contains(&ending);
        let units = currency.and_then(units);
        let mut reading = Reading { lexicon: self, said: Vec::new() };
        let positive = digits.strip_prefix('-');
        if positive.unwrap_or(digits).contains(|c: char| !c.is_ascii_digit() && c != ',' && c != '.') {
            return None;
        }
        if positive.is_some() {
            reading.say("minus", None);
        }
        let digits = positive.unwrap_or(digits);
        let plain = digits.replace(',', "");
        let stops = digits.matches('.').count();
        if is_digits(digits) && is_ordinal {
            reading.words(&number_words::ordinal(number_words::parse(digits)?));
        } else if positive.is_none() && digits.len() == 4 && units.is_none() && is_digits(digits) {
            reading.words(&number_words::year(number_words::parse(digits)?));
        } else if !is_head && stops == 0 {
            reading.part(&plain)?;
        } else if stops > 1 || !is_head {
            reading.dotted(&plain)?;
        } else if let Some(units) = units.filter(|_| digits.split_once('.').is_none_or(|(_, part)| part.len() < 3)) {
            reading.money(&plain, units)?;
        } else {
            reading.plain(&plain, is_ordinal && digits != plain)?;
        }
        if reading.said.is_empty() {
            return None;
        }
        let said = reading.said.join(" ");
        match ending {
            "s" | "'s" => s(&said),
            "ed" | "'d" => ed(&said),
            "ing" => ing(&said),
            _ => Some(said),
        }
    }

    /// "5 million" after a sign of dollars ends with dollars.
    pub(super) fn with_currency(&self, phonemes: String, currency: Option<char>) -> String {
        let unit = currency.and_then(units).and_then(|[unit, _]| self.with_s(&format!("{unit}s"), Use::PLAIN));
        match unit {
            Some(unit) => format!("{phonemes} {unit}"),
            None => phonemes,
        }
    }
}
