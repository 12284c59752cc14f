//! Writes out what voices read badly: addresses, amounts of money, ranges, dates, units, signs.
//!
//! In here: a pure function on one sentence, in English; other languages only lose the unspeakable parts of addresses.
//! Not in here: marks and emoji (`speakable`); plain numbers and common abbreviations, which synthesisers know.

use super::sentence::SentenceSplitter;
use super::speakable::speakable;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Sign, one, several.
const CURRENCIES: [(char, &str, &str); 4] =
    [('$', "dollar", "dollars"), ('€', "euro", "euros"), ('£', "pound", "pounds"), ('¥', "yen", "yen")];
const SCALES: [&str; 4] = ["thousand", "million", "billion", "trillion"];
/// After a number: as written, one, several.
const UNITS: [(&str, &str, &str); 24] = [
    ("%", "percent", "percent"),
    ("km/h", "kilometer an hour", "kilometers an hour"),
    ("mph", "mile an hour", "miles an hour"),
    ("m/s", "meter a second", "meters a second"),
    ("km", "kilometer", "kilometers"),
    ("cm", "centimeter", "centimeters"),
    ("mm", "millimeter", "millimeters"),
    ("kg", "kilogram", "kilograms"),
    ("mg", "milligram", "milligrams"),
    ("ml", "milliliter", "milliliters"),
    ("°C", "degree Celsius", "degrees Celsius"),
    ("°F", "degree Fahrenheit", "degrees Fahrenheit"),
    ("°", "degree", "degrees"),
    ("ms", "millisecond", "milliseconds"),
    ("kB", "kilobyte", "kilobytes"),
    ("KB", "kilobyte", "kilobytes"),
    ("MB", "megabyte", "megabytes"),
    ("GB", "gigabyte", "gigabytes"),
    ("TB", "terabyte", "terabytes"),
    ("Hz", "hertz", "hertz"),
    ("kHz", "kilohertz", "kilohertz"),
    ("MHz", "megahertz", "megahertz"),
    ("GHz", "gigahertz", "gigahertz"),
    ("kWh", "kilowatt hour", "kilowatt hours"),
];
/// Words that are signs, and short forms of Latin.
const SIGNS: [(&str, &str); 16] = [
    ("&", "and"),
    ("+", "plus"),
    ("=", "equals"),
    ("==", "equals"),
    ("≠", "is not"),
    ("!=", "is not"),
    ("×", "times"),
    ("≈", "about"),
    ("<", "less than"),
    (">", "greater than"),
    ("≤", "at most"),
    ("≥", "at least"),
    ("->", "to"),
    ("=>", "to"),
    ("e.g.", "for example"),
    ("i.e.", "that is"),
];
/// The entities that models write.
const ENTITIES: [(&str, &str); 6] =
    [("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " ")];

/// The sentences of a whole text, as they are to be spoken.
pub fn sentences(text: &str, language: &str) -> Vec<String> {
    let mut splitter = SentenceSplitter::new();
    let mut sentences = splitter.push(text);
    sentences.extend(splitter.finish());
    sentences.iter().filter_map(|sentence| spoken(sentence, language)).collect()
}

/// A sentence as a voice of this language (BCP 47) should read it; `None` if nothing in it can be spoken.
pub fn spoken(sentence: &str, language: &str) -> Option<String> {
    let english = language.split('-').next().is_some_and(|primary| primary.eq_ignore_ascii_case("en"));
    let text = speakable(&without_entities(sentence))?;
    let words: Vec<&str> = text.split(' ').collect();
    let mut out: Vec<String> = Vec::with_capacity(words.len());
    let mut rest = words.as_slice();
    while let Some((word, after)) = rest.split_first() {
        rest = after;
        let (before, core, end) = core_of(word);
        if let Some(said) = address(core, english) {
            out.push(format!("{}{said}{}", before.trim_matches('<'), end.trim_start_matches('>')));
            continue;
        }
        // A mark after a number parts it from what follows.
        let next = after.first().filter(|_| end.is_empty()).copied().unwrap_or_default();
        let (said, takes_next) = if english { in_english(core, next) } else { (None, false) };
        out.push(said.map_or_else(|| (*word).to_owned(), |said| format!("{before}{said}{end}")));
        if takes_next {
            rest = &rest[1..];
            // Its own mark stays: "$3 million."
            let (_, _, end) = core_of(next);
            if let Some(last) = out.last_mut() {
                last.push_str(end);
            }
        }
    }
    speakable(&out.join(" "))
}

fn without_entities(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    ENTITIES.iter().fold(text.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

/// A word without the brackets and marks around it, which come before and after.
fn core_of(word: &str) -> (&str, &str, &str) {
    let core = word.trim_start_matches(['(', '[', '"', '“', '\'', '<']);
    let before = &word[..word.len() - core.len()];
    // The full stops of a short form are its own.
    if SIGNS.iter().any(|(sign, _)| *sign == word) || SIGNS.iter().any(|(sign, _)| *sign == core) {
        return (before, core, "");
    }
    let kept = core.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '"', '”', '\'', '…']);
    let kept = if core.contains("://") { kept.trim_end_matches('>') } else { kept };
    (before, kept, &core[kept.len()..])
}

/// The host of a web address, a mail address in words.
fn address(word: &str, english: bool) -> Option<String> {
    let dotted = |text: &str| if english { text.replace('.', " dot ") } else { text.to_owned() };
    let host = ["https://", "http://", "ftp://"].iter().find_map(|scheme| word.strip_prefix(scheme));
    if let Some(rest) = host.or_else(|| word.starts_with("www.").then_some(word)) {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = host.rsplit('@').next().unwrap_or(host);
        let host = host.split(':').next().unwrap_or(host);
        let host = host.strip_prefix("www.").unwrap_or(host);
        return host.contains(char::is_alphanumeric).then(|| dotted(host));
    }
    let (user, domain) = word.split_once('@')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let is_mail = english && !user.is_empty() && domain.contains('.') && user.chars().chain(domain.chars()).all(plain);
    is_mail.then(|| format!("{} at {}", dotted(user), dotted(domain)))
}

/// How a word is said in English, if not as it is written, and whether the next one is part of it.
fn in_english(word: &str, next: &str) -> (Option<String>, bool) {
    if let Some((_, said)) = SIGNS.iter().find(|(sign, _)| *sign == word) {
        return (Some((*said).to_owned()), false);
    }
    if let Some(said) = money(word, next) {
        return said;
    }
    let (sign, number) = match word.chars().next() {
        Some('~' | '≈') => ("about ", &word[word.chars().next().map_or(0, char::len_utf8)..]),
        Some('-' | '−') => ("minus ", &word[word.chars().next().map_or(0, char::len_utf8)..]),
        _ => ("", word),
    };
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return (None, false);
    }
    let said = date(word).or_else(|| range(word)).or_else(|| measure(number).map(|said| format!("{sign}{said}")));
    if said.is_some() {
        return (said, false);
    }
    if is_number(number) {
        let (_, unit, _) = core_of(next);
        if let Some((_, one, several)) = UNITS.iter().find(|(written, ..)| *written == unit) {
            let unit = if number == "1" { one } else { several };
            return (Some(format!("{sign}{number} {unit}")), true);
        }
        return ((!sign.is_empty()).then(|| format!("{sign}{number}")), false);
    }
    (None, false)
}

/// `$5.20`, `€3 million`
fn money(word: &str, next: &str) -> Option<(Option<String>, bool)> {
    let sign = word.chars().next()?;
    let (_, one, several) = CURRENCIES.iter().find(|(known, ..)| *known == sign)?;
    let amount = &word[sign.len_utf8()..];
    if !is_number(amount) {
        return None;
    }
    let (_, scale, _) = core_of(next);
    if SCALES.contains(&scale) {
        return Some((Some(format!("{amount} {scale} {several}")), true));
    }
    let name = if amount == "1" { one } else { several };
    let said = match amount.split_once('.') {
        Some((whole, "00")) => format!("{whole} {name}"),
        Some((whole, cents)) if cents.len() == 2 => {
            format!("{whole} {} {}", if whole == "1" { one } else { several }, cents.trim_start_matches('0'))
        }
        _ => format!("{amount} {name}"),
    };
    Some((Some(said), false))
}

/// `2024-05-01`
fn date(word: &str) -> Option<String> {
    let mut parts = word.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || !plain(year, 4) || !plain(month, 2) || !plain(day, 2) {
        return None;
    }
    let month = MONTHS.get(month.parse::<usize>().ok()?.checked_sub(1)?)?;
    let day: u32 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    Some(format!("{month} {day}, {year}"))
}

/// `3-5`, `10–12%`, but not a score or a number of a telephone.
fn range(word: &str) -> Option<String> {
    let (from, to) = word.split_once('–').or_else(|| word.split_once('-'))?;
    let digits = to.bytes().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')).count();
    let (first, last): (f64, f64) = (from.parse().ok()?, to[..digits].parse().ok()?);
    let alike = (from.len() <= 3 && digits <= 3) || (from.len() == 4 && digits == 4);
    if !alike || first >= last {
        return None;
    }
    let last = if digits == to.len() { to.to_owned() } else { measure(to)? };
    Some(format!("{from} to {last}"))
}

/// `5km`, `20%`
fn measure(word: &str) -> Option<String> {
    let digits = word.bytes().take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b',')).count();
    let (number, unit) = word.split_at(digits);
    let (_, one, several) = UNITS.iter().find(|(written, ..)| *written == unit)?;
    is_number(number).then(|| format!("{number} {}", if number == "1" { one } else { several }))
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with(|c: char| c.is_ascii_digit())
        && word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_voices_read_badly_is_written_out() {
        for (text, said) in [
            ("See https://www.example.com/a_b?q=1#x.", "See example dot com."),
            ("(see <https://docs.rs/tokio>), or www.a.org!", "(see docs dot rs), or a dot org!"),
            ("Mail jo.doe@example.org, please.", "Mail jo dot doe at example dot org, please."),
            ("It costs $5.20, or €1, or £1,000.00.", "It costs 5 dollars 20, or 1 euro, or 1,000 pounds."),
            ("About $3 million.", "About 3 million dollars."),
            ("On 2024-05-01, 3-5 people", "On May 1, 2024, 3 to 5 people"),
            ("Call 555-1234 or 2-1.", "Call 555-1234 or 2-1."),
            (
                "10–12% of 5km at 80 km/h, -5°C",
                "10 to 12 percent of 5 kilometers at 80 kilometers an hour, minus 5 degrees Celsius",
            ),
            ("a 1 GB file, ~5 MB.", "a 1 gigabyte file, about 5 megabytes."),
            ("Tom &amp; Jerry: 1 + 1 = 2, e.g. this", "Tom and Jerry: 1 plus 1 equals 2, for example this"),
            ("3.14, 1,000 and 10:30 stay.", "3.14, 1,000 and 10:30 stay."),
            ("**Bold** [guide](https://a.b/c) `code`", "Bold guide code"),
        ] {
            assert_eq!(spoken(text, "en-us").as_deref(), Some(said), "{text}");
        }
    }

    #[test]
    fn other_languages_keep_their_words_and_lose_only_the_address() {
        let said = spoken("Siehe https://example.com/lang/weg: 5 km & $5", "de").unwrap();
        assert_eq!(said, "Siehe example.com: 5 km & $5");
        assert_eq!(spoken("你好，世界。", "cmn").as_deref(), Some("你好，世界。"));
    }

    #[test]
    fn nothing_to_say_is_none() {
        for text in ["", "😀", "***", "&nbsp;", "?!"] {
            assert_eq!(spoken(text, "en-us"), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_sentence_is_taken(text in "[a-z0-9$€%~°@:/.,<>&=+ –-]{0,60}") {
            if let Some(said) = spoken(&text, "en-us") {
                prop_assert!(said.contains(char::is_alphanumeric) && !said.contains("  "));
            }
        }

        #[test]
        fn any_text_is_taken(text in any::<String>()) {
            let _ = spoken(&text, "en-us");
        }
    }
}
