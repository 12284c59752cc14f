//! Numbers in English words: cardinal, ordinal, years, decimals.
//!
//! In here: the words. Not in here: which reading a number gets (`normalise`, and of hibari `lexicon::numerals`). Pure.
//!
//! A port of `numbers.py` of hibari 0.2.1 (Apache-2.0, see `tts::hibari`).

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const SCALES: [&str; 12] = [
    "",
    " thousand",
    " million",
    " billion",
    " trillion",
    " quadrillion",
    " quintillion",
    " sextillion",
    " septillion",
    " octillion",
    " nonillion",
    " decillion",
];
const IRREGULAR: [(&str, &str); 7] = [
    ("one", "first"),
    ("two", "second"),
    ("three", "third"),
    ("five", "fifth"),
    ("eight", "eighth"),
    ("nine", "ninth"),
    ("twelve", "twelfth"),
];

/// The number that the digits write; none beyond the words for it.
pub(super) fn parse(digits: &str) -> Option<u128> {
    digits.parse().ok().filter(|number| *number < 10u128.pow(36))
}

/// The word for a digit or a number below twenty.
fn one(number: u128) -> &'static str {
    usize::try_from(number).ok().and_then(|at| ONES.get(at)).unwrap_or(&"")
}

fn below_a_thousand(mut number: u128) -> String {
    let mut words = Vec::new();
    if number >= 100 {
        words.push(format!("{} hundred", one(number / 100)));
        number %= 100;
        if number != 0 {
            words.push("and".to_owned());
        }
    }
    if number >= 20 {
        let tens = usize::try_from(number / 10).map_or("", |at| TENS[at]);
        words.push(match number % 10 {
            0 => tens.to_owned(),
            ones => format!("{tens}-{}", one(ones)),
        });
    } else if number > 0 || words.is_empty() {
        words.push(one(number).to_owned());
    }
    words.join(" ")
}

/// "one thousand, two hundred and thirty-four"
pub(super) fn cardinal(mut number: u128) -> String {
    if number < 1000 {
        return below_a_thousand(number);
    }
    let mut groups = Vec::new();
    for scale in SCALES {
        let group = number % 1000;
        number /= 1000;
        if group > 0 {
            groups.push(below_a_thousand(group) + scale);
        }
    }
    groups.reverse();
    match groups.split_last() {
        Some((last, others)) if !others.is_empty() && !last.contains(' ') => {
            format!("{} and {last}", others.join(", "))
        }
        _ => groups.join(", "),
    }
}

/// "twenty-third", "one hundred and first", "thousandth"
pub(super) fn ordinal(number: u128) -> String {
    let cardinal = cardinal(number);
    let split = cardinal.rfind([' ', '-']).map_or(0, |at| at + 1);
    let (head, last) = cardinal.split_at(split);
    let last = match (IRREGULAR.iter().find(|(word, _)| *word == last), last.strip_suffix('y')) {
        (Some((_, ordinal)), _) => (*ordinal).to_owned(),
        (None, Some(stem)) => format!("{stem}ieth"),
        (None, None) => format!("{last}th"),
    };
    format!("{head}{last}")
}

/// "nineteen oh-five", "two thousand and five", "twenty ten"
pub(super) fn year(number: u128) -> String {
    let (high, low) = (number / 100, number % 100);
    if high == 0 || (high.is_multiple_of(10) && low < 10) || high >= 100 {
        return cardinal(number);
    }
    let low = match low {
        0 => "hundred".to_owned(),
        1..10 => format!("oh-{}", cardinal(low)),
        _ => cardinal(low),
    };
    format!("{} {low}", cardinal(high))
}

/// "three point one four"; zeros at the end are not said.
pub(super) fn decimal(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let mut words = cardinal(parse(if whole.is_empty() { "0" } else { whole })?);
    let part = part.trim_end_matches('0');
    if !part.is_empty() {
        words.push_str(" point");
    }
    for digit in part.chars() {
        words.push(' ');
        words.push_str(one(u128::from(digit.to_digit(10)?)));
    }
    Some(words)
}
