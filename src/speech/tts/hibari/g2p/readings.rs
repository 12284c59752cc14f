//! Written out before words are looked up: times, dates, units, abbreviations, currencies, signs.
//!
//! In here: what the lexicon's rules cannot read by themselves. Not in here: plain numbers, ordinals, years and dollars,
//! which they do. Runs on: a thread of the voice.
//!
//! A port of `normalize.py` of hibari 0.2.1 (Apache-2.0, see `g2p`); its tables lie in the voice's `normalize.json`.

use std::collections::HashMap;
use std::path::Path;

use super::pattern::{Found, Pattern};
use crate::speech::number_words;
use crate::speech::tts::hibari::{HibariError, files};

const NUMBER: &str = r"\d+(?:,\d{3})*(?:\.\d+)?";
const SCALE: &str = r"(hundred|thousand|million|billion|trillion|[kKmMbB]\b)";
const ROMAN: &str = r"((?=[IVXLC])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))";
const FRACTIONS: [&str; 9] = ["half", "third", "quarter", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];
const DIGITS: [(char, u128); 7] = [('I', 1), ('V', 5), ('X', 10), ('L', 50), ('C', 100), ('D', 500), ('M', 1000)];

/// `normalize.json`.
#[derive(serde::Deserialize)]
struct Tables {
    months: HashMap<String, String>,
    titles: HashMap<String, String>,
    abbreviations: HashMap<String, String>,
    /// One, several.
    units: HashMap<String, [String; 2]>,
    symbols: HashMap<String, String>,
    currency: HashMap<String, [String; 2]>,
    roman_cardinal: Vec<String>,
    roman_ordinal: Vec<String>,
}

pub(super) struct Readings {
    tables: Tables,
    /// From January on.
    months: Vec<String>,
    time: Pattern,
    date_iso: Pattern,
    date_us: Pattern,
    big_money: Pattern,
    cents: Pattern,
    currency: Pattern,
    degrees: Pattern,
    unit: Pattern,
    month_day: Pattern,
    day_month: Pattern,
    title: Pattern,
    abbreviation: Pattern,
    number_sign: Pattern,
    hash: Pattern,
    roman_cardinal: Pattern,
    roman_ordinal: Pattern,
    phone: Pattern,
    fraction: Pattern,
    range: Pattern,
    plus: Pattern,
    /// A sign, what it matches and what is read.
    symbols: Vec<(String, Pattern, String)>,
    space: Pattern,
    space_before_mark: Pattern,
}

/// Any of the words, the longest first.
fn any<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let mut words: Vec<&str> = words.collect();
    words.sort_by_key(|word| (std::cmp::Reverse(word.chars().count()), *word));
    words.into_iter().map(fancy_regex::escape).collect::<Vec<_>>().join("|")
}

fn keys<T>(table: &HashMap<String, T>) -> String {
    any(table.keys().map(String::as_str))
}

impl Readings {
    pub(super) fn load(folder: &Path) -> Result<Self, HibariError> {
        let tables: Tables = files::json(folder, files::READINGS)?;
        let short = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        let name = |month: &&str| tables.months.get(*month).cloned().unwrap_or_default();
        let months: Vec<String> = short.iter().map(name).collect();
        let capital = |month: &&str| month[..1].to_uppercase() + &month[1..];
        let capitals: Vec<String> = short.iter().map(capital).chain(["Sept".to_owned()]).collect();
        let month = any(months.iter().chain(&capitals).map(String::as_str));
        let roman = |words: &[String]| {
            Pattern::new(&format!(r"\b({}) {ROMAN}\b(?![.'’]\w)", any(words.iter().map(String::as_str))))
        };
        let mut symbols = Vec::new();
        for (sign, word) in &tables.symbols {
            let escaped = fancy_regex::escape(sign);
            let pattern = if "=<>~".contains(sign.as_str()) {
                format!(r"(?<=\S) ?{escaped} ?(?=\S)")
            } else {
                escaped.into_owned()
            };
            symbols.push((sign.clone(), Pattern::new(&pattern)?, word.clone()));
        }
        Ok(Self {
            time: Pattern::new(r"\b(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s?([AaPp])\.?[Mm]\.?(?![A-Za-z]))?(?!\d)")?,
            date_iso: Pattern::new(r"\b(\d{4})-(\d{2})-(\d{2})\b")?,
            date_us: Pattern::new(r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})\b")?,
            big_money: Pattern::new(&format!(r"([$£€])({NUMBER})\s?{SCALE}"))?,
            cents: Pattern::new(&format!(r"(?<![\w.])({NUMBER})\s?¢"))?,
            currency: Pattern::new(&format!(r"(?<![\w])([¥₹₩]|Rs\.?|USD|EUR|GBP)\s?({NUMBER})(?:\s?{SCALE})?"))?,
            degrees: Pattern::new(&format!(r"(?<![\w.])(-?{NUMBER})\s?°\s?([CF])?(?![\w])"))?,
            unit: Pattern::new(&format!(r"(?<![\w.])(-?{NUMBER})\s?({})(?![\w])", keys(&tables.units)))?,
            month_day: Pattern::new(&format!(
                r"\b({month})\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?![\d:%])(,? \d{{4}}\b)?"
            ))?,
            day_month: Pattern::new(&format!(r"\b(the )?(\d{{1,2}}) (?:of )?({month})\b\.?"))?,
            title: Pattern::new(&format!(r"\b({})\.? (?=[A-Z])", keys(&tables.titles)))?,
            abbreviation: Pattern::new(&format!(r"(?<![\w.])({})(?![\w])", keys(&tables.abbreviations)))?,
            number_sign: Pattern::new(r"\b(No|Nos)\. ?(?=\d)")?,
            hash: Pattern::new(r"(?<![\w&])#(?=\d)")?,
            roman_cardinal: roman(&tables.roman_cardinal)?,
            roman_ordinal: roman(&tables.roman_ordinal)?,
            phone: Pattern::new(r"(?<![\w.\-])(?:\d{3}-)?\d{3}-\d{4}(?![\w.\-])")?,
            fraction: Pattern::new(r"(?<![\w./])(\d{1,2})/(\d{1,2})(?![\w./])")?,
            range: Pattern::new(r"(?<![\w.\-])(\d{1,4})\s?[-–]\s?(\d{1,4})(?![\w.\-%])")?,
            plus: Pattern::new(r"(?<![\w+])\+(?=\d)")?,
            symbols,
            space: Pattern::new(r"\s+")?,
            space_before_mark: Pattern::new(r" +([,.;:!?])")?,
            months,
            tables,
        })
    }

    pub(super) fn write_out(&self, text: &str) -> String {
        let text = self.space.replace(text, |_| " ".to_owned());
        let text = text.trim().replace('\u{a0}', " ").replace('’', "'").replace('‒', "-").replace('―', "—");
        let text = self.time.replace(&text, time);
        let text = self.date_iso.replace(&text, |found| {
            self.date(found.text(1), found.number(2), found.number(3)).unwrap_or_else(|| found.whole().to_owned())
        });
        let text = self.date_us.replace(&text, |found| self.american_date(found));
        let text = self.money(&text);
        let text = self.degrees.replace(&text, degrees);
        let text = self.unit.replace(&text, |found| {
            let (number, unit) = (found.text(1), self.tables.units.get(found.text(2)));
            unit.map_or_else(|| found.whole().to_owned(), |unit| format!("{number} {}", plural(number, unit)))
        });
        let text = self.month_day.replace(&text, |found| match (self.month(found.text(1)), found.number(2)) {
            (Some(month), day @ 1..=31) => format!("{month} {}{}", number_words::ordinal(day), found.text(3)),
            _ => found.whole().to_owned(),
        });
        let text = self.day_month.replace(&text, |found| match (self.month(found.text(3)), found.number(2)) {
            (Some(month), day @ 1..=31) => format!("the {} of {month}", number_words::ordinal(day)),
            _ => found.whole().to_owned(),
        });
        let text = self.short_forms(&text);
        let text = self.phone.replace(&text, |found| {
            let spaced: Vec<String> = found.whole().replace('-', ", ").chars().map(String::from).collect();
            spaced.join(" ")
        });
        let text = self.fraction.replace(&text, |found| self.fraction_or_date(found));
        let text = self.range.replace(&text, |found| format!("{} to {}", found.text(1), found.text(2)));
        let mut text = self.plus.replace(&text, |_| "plus ".to_owned());
        for (sign, pattern, word) in &self.symbols {
            if text.contains(sign.as_str()) {
                text = pattern.replace(&text, |_| if word.is_empty() { " ".to_owned() } else { format!(" {word} ") });
            }
        }
        let text = self.space.replace(&text, |_| " ".to_owned());
        self.space_before_mark.replace(&text, |found| found.text(1).to_owned()).trim().to_owned()
    }

    fn money(&self, text: &str) -> String {
        let words = |sign: &str| self.tables.currency.get(sign.trim_end_matches('.'));
        let text = self.big_money.replace(text, |found| match words(found.text(1)) {
            Some(words) => format!("{} {} {}", found.text(2), scale(found.text(3)), words[1]),
            None => found.whole().to_owned(),
        });
        let text = self.cents.replace(&text, |found| match words("¢") {
            Some(words) => format!("{} {}", found.text(1), plural(found.text(1), words)),
            None => found.whole().to_owned(),
        });
        self.currency.replace(&text, |found| match (words(found.text(1)), found.group(3)) {
            (Some(words), Some(big)) => format!("{} {} {}", found.text(2), scale(big), words[1]),
            (Some(words), None) => format!("{} {}", found.text(2), plural(found.text(2), words)),
            (None, _) => found.whole().to_owned(),
        })
    }

    /// Titles, abbreviations and Roman numbers.
    fn short_forms(&self, text: &str) -> String {
        let word = |table: &HashMap<String, String>, key: &str| table.get(key).cloned().unwrap_or_default();
        let text = self.title.replace(text, |found| word(&self.tables.titles, found.text(1)) + " ");
        let text = self.abbreviation.replace(&text, |found| {
            // A stop at the end is the sentence's too.
            let stop = if found.after().is_empty() && found.text(1).ends_with('.') { "." } else { "" };
            word(&self.tables.abbreviations, found.text(1)) + stop
        });
        let text = self
            .number_sign
            .replace(&text, |found| if found.text(1) == "No" { "Number ".to_owned() } else { "Numbers ".to_owned() });
        let text = self.hash.replace(&text, |_| "number ".to_owned());
        let text = self.roman_cardinal.replace(&text, |found| format!("{} {}", found.text(1), roman(found.text(2))));
        self.roman_ordinal
            .replace(&text, |found| format!("{} the {}", found.text(1), number_words::ordinal(roman(found.text(2)))))
    }

    fn month(&self, name: &str) -> Option<&str> {
        let short = name.get(..3)?.to_lowercase();
        self.tables.months.get(&short).map(String::as_str)
    }

    fn date(&self, year: &str, month: u128, day: u128) -> Option<String> {
        let name = usize::try_from(month).ok()?.checked_sub(1).and_then(|at| self.months.get(at))?;
        if !(1..=31).contains(&day) {
            return None;
        }
        let year = if year.is_empty() { String::new() } else { format!(", {year}") };
        Some(format!("{name} {}{year}", number_words::ordinal(day)))
    }

    fn american_date(&self, found: &Found<'_>) -> String {
        let (first, second, mut year) = (found.number(1), found.number(2), found.text(3).to_owned());
        if year.len() == 2 {
            let century = if found.number(3) > 30 { "19" } else { "20" };
            year.insert_str(0, century);
        }
        let (month, day) = if first <= 12 { (first, second) } else { (second, first) };
        self.date(&year, month, day).unwrap_or_else(|| found.whole().to_owned())
    }

    fn fraction_or_date(&self, found: &Found<'_>) -> String {
        let (above, below) = (found.number(1), found.number(2));
        let name = usize::try_from(below).ok().and_then(|below| FRACTIONS.get(below.checked_sub(2)?));
        match name {
            Some(&"half") if above == 1 => "one half".to_owned(),
            Some(name) if 0 < above && above < below => {
                format!("{above} {name}{}", if above == 1 { "" } else { "s" })
            }
            _ => self.date("", above, below).unwrap_or_else(|| format!("{above} slash {below}")),
        }
    }
}

fn plural<'w>(number: &str, words: &'w [String; 2]) -> &'w str {
    let one = ["1", "1.0", "-1"].contains(&number.replace(',', "").as_str());
    &words[usize::from(!one)]
}

fn scale(letter: &str) -> &str {
    match letter {
        "k" | "K" => "thousand",
        "m" | "M" => "million",
        "b" | "B" => "billion",
        word => word,
    }
}

fn roman(text: &str) -> u128 {
    let values: Vec<u128> = text
        .chars()
        .map(|letter| DIGITS.iter().find(|(digit, _)| *digit == letter).map_or(0, |(_, value)| *value))
        .collect();
    let (mut plus, mut minus) = (0, 0);
    for (at, value) in values.iter().enumerate() {
        match values.get(at + 1) {
            Some(next) if next > value => minus += value,
            _ => plus += value,
        }
    }
    plus - minus
}

fn time(found: &Found<'_>) -> String {
    let (hour, minute, second) = (found.number(1), found.number(2), found.group(3).map(|_| found.number(3)));
    if hour > 24 || minute > 59 || second.is_some_and(|second| second > 59) {
        return found.whole().to_owned();
    }
    let half = found.group(4);
    let mut words = number_words::cardinal(hour);
    match minute {
        0 if half.is_some() || second.is_some() => {}
        0 => words += " o'clock",
        1..10 => words += &format!(" oh {}", number_words::cardinal(minute)),
        _ => words += &format!(" {}", number_words::cardinal(minute)),
    }
    if let Some(second) = second {
        words += &format!(" and {} second{}", number_words::cardinal(second), if second == 1 { "" } else { "s" });
    }
    if let Some(half) = half {
        // With stops, so that the lexicon spells the letters.
        let stop = if found.after().starts_with('.') { "" } else { "." };
        words += &format!(" {}.M{stop}", half.to_uppercase());
    }
    words
}

fn degrees(found: &Found<'_>) -> String {
    let number = found.text(1);
    let words = plural(number, &["degree".to_owned(), "degrees".to_owned()]).to_owned();
    let scale = match found.text(2) {
        "C" => " Celsius",
        "F" => " Fahrenheit",
        _ => "",
    };
    format!("{number} {words}{scale}")
}
