//! Numbers as they are written here and there, written as voices of English read them.
//!
//! In here: the shapes of one number, and which are written in words. Not in here: the words (`number_words`), what is counted
//! (`measures`, `money`). Pure.

use crate::speech::clean::GROUPS;
use crate::speech::number_words;

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// How many bytes at the beginning may be a number.
pub(super) fn number_length(text: &str) -> usize {
    let mut length = 0;
    for (at, c) in text.char_indices() {
        let next_is_digit = text[at + c.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        match c {
            '0'..='9' => length = at + 1,
            '.' | ',' | '\'' | '’' | '_' | GROUPS if next_is_digit => {}
            _ => break,
        }
    }
    length
}

/// A number without a sign, with commas between its thousands if there was something, and a point before its decimals.
///
/// | written | read as |
/// |---|---|
/// | `1,234`, `1.234.567`, `1'234`, `1_234` | thousands |
/// | `1,5`, `49,50`, `0,125`, `1.299,50` | a decimal comma |
/// | `1.5`, `1.234` | a decimal point |
pub(super) fn number(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > 60 || number_length(text) != text.len() {
        return None;
    }
    let text: String = text.chars().map(|c| if matches!(c, '\'' | '’' | '_' | GROUPS) { '\'' } else { c }).collect();
    let marks: Vec<char> = text.chars().filter(|c| !c.is_ascii_digit()).collect();
    let parts: Vec<&str> = text.split(['.', ',', '\'']).collect();
    let Some(last) = marks.last() else { return Some(text) };
    let first_of_all = marks[0];
    let (whole, decimals) = parts.split_at(parts.len() - 1);
    let of_three = |parts: &[&str]| parts.iter().skip(1).all(|part| part.len() == 3) && matches!(parts[0].len(), 1..=3);
    let alike = marks.iter().all(|mark| mark == last);
    if parts[0].is_empty() {
        // `.5`
        return (marks == ['.'] || marks == [',']).then(|| format!("0.{}", decimals[0]));
    }
    if alike && marks.len() == 1 {
        let is_grouped = of_three(&parts) && parts[0] != "0";
        return Some(match last {
            '\'' if is_grouped => parts.join(","),
            ',' if is_grouped => text,
            '.' => text,
            ',' => text.replace(',', "."),
            _ => return None,
        });
    }
    if alike && of_three(&parts) {
        return Some(parts.join(","));
    }
    // India's: 12,34,567
    let (head, tail) = parts.split_at(parts.len() - 1);
    if alike
        && *last == ','
        && tail[0].len() == 3
        && head.iter().skip(1).all(|part| part.len() == 2)
        && head[0].len() <= 2
    {
        return Some(grouped(&parts.concat()));
    }
    let is_decimal = matches!(last, '.' | ',') && marks[..marks.len() - 1].iter().all(|mark| *mark == first_of_all);
    if is_decimal && first_of_all != *last && of_three(whole) {
        return Some(format!("{}.{}", whole.join(","), decimals[0]));
    }
    let is_indian = first_of_all == ',' && *last == '.' && whole.len() > 1 && whole[whole.len() - 1].len() == 3;
    (is_decimal && is_indian && whole[1..whole.len() - 1].iter().all(|part| part.len() == 2))
        .then(|| format!("{}.{}", grouped(&whole.concat()), decimals[0]))
}

/// With commas between its thousands.
pub(super) fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// From here on numbers are left in digits, which every voice reads.
const IN_DIGITS: u32 = 100;

/// "twenty-three", of a number below one hundred; digits else.
pub(super) fn cardinal(number: u32) -> String {
    if number < IN_DIGITS { number_words::cardinal(number.into()) } else { number.to_string() }
}

/// "twenty-third", of a number below one hundred; digits else.
pub(super) fn ordinal(number: u32) -> String {
    if number < IN_DIGITS { number_words::ordinal(number.into()) } else { format!("{number}th") }
}

/// Digit by digit, the groups that something parts with a pause between them.
pub(super) fn spelled(text: &str) -> String {
    let groups = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|group| !group.is_empty());
    let spell = |group: &str| group.chars().map(String::from).collect::<Vec<_>>().join(" ");
    groups.map(spell).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written_in_any_country() {
        for (written, read) in [
            ("5", Some("5")),
            ("1,234", Some("1,234")),
            ("1,234,567.89", Some("1,234,567.89")),
            ("1,5", Some("1.5")),
            ("49,50", Some("49.50")),
            ("0,125", Some("0.125")),
            ("1.299,50", Some("1,299.50")),
            ("1.234.567", Some("1,234,567")),
            ("1.234.567,8", Some("1,234,567.8")),
            ("1'234'567.50", Some("1,234,567.50")),
            ("1\u{a0}299,50", Some("1,299.50")),
            ("1\u{a0}000\u{a0}000", Some("1,000,000")),
            ("1_000_000", Some("1,000,000")),
            ("12,34,567", Some("1,234,567")),
            ("12,34,567.50", Some("1,234,567.50")),
            (".5", Some("0.5")),
            (",5", Some("0.5")),
            ("3.14", Some("3.14")),
            ("1234,567", Some("1234.567")),
            ("1,2,3", None),
            ("1.2.3", None),
            ("12.", None),
            ("x5", None),
            ("", None),
        ] {
            assert_eq!(number(written).as_deref(), read, "{written}");
        }
        assert_eq!(
            (ordinal(23).as_str(), ordinal(12).as_str(), ordinal(20).as_str()),
            ("twenty-third", "twelfth", "twentieth")
        );
        assert_eq!(spelled("555-1234"), "5 5 5, 1 2 3 4");
    }
}
