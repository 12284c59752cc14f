//! Numbers and what they count: units, scales, fractions, ranges, powers of ten, times as much.
//!
//! In here: English. Not in here: the shapes of one number (`numbers`), money, dates. Pure.

use super::english::{Context, Reading};
use super::numbers::{cardinal, is_digits, number, number_length, ordinal, spelled};
use super::times;
use crate::speech::clean::GROUPS;

/// After a number: as written, one, several.
#[rustfmt::skip]
const UNITS: &[(&str, &str, &str)] = &[
    ("%", "percent", "percent"), ("‰", "per mille", "per mille"), ("pct", "percent", "percent"), ("pp", "percentage point", "percentage points"),
    ("km/h", "kilometer an hour", "kilometers an hour"), ("kmh", "kilometer an hour", "kilometers an hour"), ("kph", "kilometer an hour", "kilometers an hour"),
    ("mph", "mile an hour", "miles an hour"), ("m/s", "meter a second", "meters a second"), ("m/s²", "meter per second squared", "meters per second squared"),
    ("km", "kilometer", "kilometers"), ("m", "meter", "meters"), ("cm", "centimeter", "centimeters"), ("mm", "millimeter", "millimeters"),
    ("µm", "micrometer", "micrometers"), ("μm", "micrometer", "micrometers"), ("nm", "nanometer", "nanometers"),
    ("km²", "square kilometer", "square kilometers"), ("m²", "square meter", "square meters"), ("cm²", "square centimeter", "square centimeters"),
    ("m2", "square meter", "square meters"), ("km2", "square kilometer", "square kilometers"), ("sqm", "square meter", "square meters"),
    ("m³", "cubic meter", "cubic meters"), ("cm³", "cubic centimeter", "cubic centimeters"), ("m3", "cubic meter", "cubic meters"), ("cc", "cubic centimeter", "cubic centimeters"),
    ("kg", "kilogram", "kilograms"), ("g", "gram", "grams"), ("mg", "milligram", "milligrams"), ("µg", "microgram", "micrograms"), ("μg", "microgram", "micrograms"), ("mcg", "microgram", "micrograms"),
    ("l", "liter", "liters"), ("L", "liter", "liters"), ("ml", "milliliter", "milliliters"), ("mL", "milliliter", "milliliters"), ("cl", "centiliter", "centiliters"), ("dl", "deciliter", "deciliters"),
    ("lb", "pound", "pounds"), ("lbs", "pound", "pounds"), ("oz", "ounce", "ounces"), ("ft", "foot", "feet"), ("yd", "yard", "yards"), ("mi", "mile", "miles"),
    ("gal", "gallon", "gallons"), ("qt", "quart", "quarts"), ("pt", "pint", "pints"), ("tsp", "teaspoon", "teaspoons"), ("tbsp", "tablespoon", "tablespoons"), ("Tbsp", "tablespoon", "tablespoons"),
    ("psi", "P S I", "P S I"), ("hPa", "hectopascal", "hectopascals"), ("kPa", "kilopascal", "kilopascals"), ("bar", "bar", "bar"), ("mbar", "millibar", "millibars"),
    ("°C", "degree Celsius", "degrees Celsius"), ("°F", "degree Fahrenheit", "degrees Fahrenheit"), ("°K", "degree Kelvin", "degrees Kelvin"), ("°", "degree", "degrees"), ("ºC", "degree Celsius", "degrees Celsius"), ("ºF", "degree Fahrenheit", "degrees Fahrenheit"),
    ("s", "second", "seconds"), ("sec", "second", "seconds"), ("secs", "second", "seconds"), ("ms", "millisecond", "milliseconds"), ("µs", "microsecond", "microseconds"), ("ns", "nanosecond", "nanoseconds"),
    ("min", "minute", "minutes"), ("mins", "minute", "minutes"), ("h", "hour", "hours"), ("hr", "hour", "hours"), ("hrs", "hour", "hours"),
    ("kB", "kilobyte", "kilobytes"), ("KB", "kilobyte", "kilobytes"), ("MB", "megabyte", "megabytes"), ("GB", "gigabyte", "gigabytes"), ("TB", "terabyte", "terabytes"), ("GiB", "gibibyte", "gibibytes"), ("MiB", "mebibyte", "mebibytes"),
    ("Mbps", "megabit per second", "megabits per second"), ("Gbps", "gigabit per second", "gigabits per second"), ("kbps", "kilobit per second", "kilobits per second"), ("Mbit/s", "megabit per second", "megabits per second"), ("MB/s", "megabyte per second", "megabytes per second"), ("fps", "frame per second", "frames per second"),
    ("Hz", "hertz", "hertz"), ("kHz", "kilohertz", "kilohertz"), ("MHz", "megahertz", "megahertz"), ("GHz", "gigahertz", "gigahertz"), ("dB", "decibel", "decibels"),
    ("W", "watt", "watts"), ("kW", "kilowatt", "kilowatts"), ("kWh", "kilowatt hour", "kilowatt hours"), ("V", "volt", "volts"), ("Ω", "ohm", "ohms"), ("kΩ", "kilohm", "kilohms"), ("MΩ", "megohm", "megohms"), ("mAh", "milliamp hour", "milliamp hours"),
];
const FRACTIONS: &[(char, u32, u32)] = &[
    ('½', 1, 2),
    ('⅓', 1, 3),
    ('⅔', 2, 3),
    ('¼', 1, 4),
    ('¾', 3, 4),
    ('⅕', 1, 5),
    ('⅖', 2, 5),
    ('⅗', 3, 5),
    ('⅘', 4, 5),
    ('⅙', 1, 6),
    ('⅚', 5, 6),
    ('⅐', 1, 7),
    ('⅛', 1, 8),
    ('⅜', 3, 8),
    ('⅝', 5, 8),
    ('⅞', 7, 8),
    ('⅑', 1, 9),
    ('⅒', 1, 10),
];
/// Before a decade.
const BEFORE_DECADES: &[&str] = &["the", "mid", "early", "late", "his", "her", "their", "my", "our", "your", "in"];
/// A number behind one of these is a place, not an amount.
const PLACES: &[&str] = &[
    "apt",
    "apt.",
    "apartment",
    "room",
    "rm",
    "rm.",
    "gate",
    "seat",
    "unit",
    "flat",
    "suite",
    "platform",
    "row",
    "figure",
    "fig.",
    "building",
    "step",
];

/// `1.5M`, `£1bn`, "3 million". Of money a small m is a million too.
pub(super) fn scale(text: &str, of_money: bool) -> Option<&'static str> {
    Some(match text.strip_suffix('.').filter(|short| short.len() > 2).unwrap_or(text) {
        "thousand" | "k" | "K" => "thousand",
        "million" | "M" | "mn" | "mln" | "mio" | "Mio" | "mil" | "MM" => "million",
        "m" if of_money => "million",
        "billion" | "B" | "bn" | "Bn" | "bln" | "BN" | "Mrd" => "billion",
        "b" if of_money => "billion",
        "trillion" | "T" | "tn" | "trn" | "TN" => "trillion",
        "hundred" => "hundred",
        _ => return None,
    })
}

pub(super) fn unit(written: &str) -> Option<(&'static str, &'static str)> {
    let written = written.strip_suffix('.').filter(|short| short.len() > 1).unwrap_or(written);
    UNITS.iter().find(|(known, ..)| *known == written).map(|(_, one, several)| (*one, *several))
}

pub(super) fn fraction(above: u32, below: u32) -> String {
    let name = match below {
        2 => "half".to_owned(),
        4 => "quarter".to_owned(),
        below => ordinal(below),
    };
    let above_word = super::numbers::cardinal(above);
    match above {
        1 => format!("one {name}"),
        _ if below == 2 => format!("{above_word} halves"),
        _ => format!("{above_word} {name}s"),
    }
}

/// The sign before a number, in words, and the rest.
fn sign(core: &str) -> (&'static str, &str) {
    let signs = [
        ("+/-", "plus or minus "),
        ("±", "plus or minus "),
        ("~", "about "),
        ("≈", "about "),
        ("-", "minus "),
        ("+", "plus "),
        ("<=", "at most "),
        (">=", "at least "),
        ("≤", "at most "),
        ("≥", "at least "),
        ("<", "less than "),
        (">", "more than "),
    ];
    signs.into_iter().find_map(|(sign, said)| Some((said, core.strip_prefix(sign)?))).unwrap_or(("", core))
}

/// One number at the beginning of a word, as it is said, and the rest of the word.
fn begins(text: &str) -> Option<(String, &str)> {
    // `1½`, `½`
    let digits = number_length(text);
    let of_fraction = |rest: &str| FRACTIONS.iter().find(|(sign, ..)| rest.starts_with(*sign)).copied();
    if let Some((sign, above, below)) = of_fraction(&text[digits..]) {
        let rest = &text[digits + sign.len_utf8()..];
        let part = fraction(above, below);
        return match digits {
            0 => Some((part, rest)),
            _ => Some((format!("{} and {}", number(&text[..digits])?, part.replacen("one ", "a ", 1)), rest)),
        };
    }
    let point = usize::from(digits == 0 && text.starts_with(['.', ',']));
    let length = point + number_length(&text[point..]);
    let (written, rest) = text.split_at(length);
    if point == 1 {
        return is_digits(&written[1..]).then(|| (format!("point {}", spelled(&written[1..])), rest));
    }
    Some((number(written)?, rest))
}

fn counted(number: &str, (one, several): (&str, &str)) -> String {
    let is_one = number == "1" || (number.starts_with("one ") && !number.contains(" and "));
    format!("{number} {}", if is_one { one } else { several })
}

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    decade(context)
        .or_else(|| area(context.core))
        .or_else(|| feet(context))
        .or_else(|| spaced_groups(context))
        .or_else(|| size(context.core))
        .or_else(|| ratio(context.core))
        .or_else(|| range(context))
        .or_else(|| stroke(context))
        .or_else(|| measure(context))
}

/// `1980s`, the `90s`
fn decade(context: &Context<'_>) -> Option<Reading> {
    let digits = context.core.strip_suffix("'s").or_else(|| context.core.strip_suffix('s'))?;
    let year: u32 = digits.parse().ok().filter(|_| is_digits(digits) && digits.ends_with('0'))?;
    let tens = |number: u32| cardinal(number).strip_suffix('y').map(|stem| format!("{stem}ies"));
    match digits.len() {
        4 if year.is_multiple_of(1000) => Reading::word(format!("{} thousands", cardinal(year / 1000))),
        4 if year.is_multiple_of(100) => Reading::word(format!("{} hundreds", cardinal(year / 100))),
        4 => {
            Reading::word(format!("{} {}", cardinal(year / 100), tens(year % 100).unwrap_or_else(|| "tens".to_owned())))
        }
        2 if BEFORE_DECADES.contains(&context.before.to_lowercase().as_str()) || context.is_quoted => {
            tens(year).and_then(Reading::word)
        }
        _ => None,
    }
}

/// `m²`, `km/h` and `°C` without a number.
fn area(core: &str) -> Option<Reading> {
    if !core.ends_with(['²', '³']) && !core.starts_with('°') && !core.contains('/') {
        return None;
    }
    unit(core).and_then(|(_, several)| Reading::word(several))
}

/// `16:9`
fn ratio(core: &str) -> Option<Reading> {
    let (first, last) = core.split_once(':')?;
    Reading::word(format!("{} to {}", number(first)?, number(last)?))
}

/// `5'10"`, `6′`
fn feet(context: &Context<'_>) -> Option<Reading> {
    let (feet, rest) = context.core.split_once(['\'', '′'])?;
    let inches = rest.trim_end_matches(['"', '″', '”']);
    (is_digits(feet) && feet.len() < 3 && is_digits(inches) && inches.len() < 3)
        .then(|| Reading::word(format!("{feet} feet {inches} inches")))
        .flatten()
}

/// `1 000 000`, `1 299,50`: groups of three digits behind spaces, if it can be nothing else.
fn spaced_groups(context: &Context<'_>) -> Option<Reading> {
    let (said, core) = sign(context.core);
    if !is_digits(core) || core.len() > 3 || core.starts_with('0') {
        return None;
    }
    let group = |word: &&&str| word.len() == 3 && is_digits(word);
    let whole = context.next.iter().take_while(group).count();
    let last = context.next.get(whole).filter(|word| {
        let (digits, decimals) = word.split_once([',', '.']).unwrap_or((word, ""));
        digits.len() == 3 && is_digits(digits) && is_digits(decimals)
    });
    let count = whole + usize::from(last.is_some());
    let is_sure = last.is_some() || whole > 1 || context.next.first() == Some(&"000");
    if count == 0 || !is_sure {
        return None;
    }
    let mut written = core.to_owned();
    context.next[..count].iter().for_each(|group| written += &format!("{GROUPS}{group}"));
    let read = number(&written)?;
    let unit = context.next.get(count).and_then(|word| unit(word));
    Some(match unit {
        Some(names) => Reading { text: format!("{said}{}", counted(&read, names)), takes: count + 1 },
        None => Reading { text: format!("{said}{read}"), takes: count },
    })
}

/// `1920x1080`, `4×4`
fn size(core: &str) -> Option<Reading> {
    let parts: Vec<String> = core.split(['x', '×', 'X']).map(number).collect::<Option<_>>()?;
    (parts.len() > 1).then(|| Reading::word(parts.join(" by "))).flatten()
}

/// `3-5`, `10–12%`, `-3 to`, but not a date or a number of a telephone.
fn range(context: &Context<'_>) -> Option<Reading> {
    let (said, core) = sign(context.core);
    let (from, to) = core.split_once(['–', '—']).or_else(|| core.split_once('-'))?;
    let (first, unit_of_first) = begins(from)?;
    let (last, rest) = begins(to.trim_start_matches(['–', '-']))?;
    let is_plain = is_digits(from) && is_digits(to);
    // Nine digits or groups of seven are a telephone's.
    if is_plain && (from.len() > 4 || to.len() > 4 || (from.len() != to.len() && to.len() == 4)) {
        return None;
    }
    let first = match unit(unit_of_first) {
        _ if unit_of_first.is_empty() => first,
        Some(names) => counted(&first, names),
        None => match scale(unit_of_first, false) {
            Some(scale) => format!("{first} {scale}"),
            None => return None,
        },
    };
    let read = ending(&last, rest, context)?;
    Some(Reading { text: format!("{said}{first} to {}", read.text), takes: read.takes })
}

/// `3/4`, `7.5/10`, `24/7`, `1 1/2`
fn stroke(context: &Context<'_>) -> Option<Reading> {
    let whole = context.core;
    if is_digits(whole)
        && let Some((above, below)) = parts_of(context.next())
        && above < below
        && below <= 16
    {
        let part = fraction(above, below).replacen("one ", "a ", 1);
        return Reading::with(1, format!("{whole} and {part}"));
    }
    let (above, below) = whole.split_once('/')?;
    let (first, last) = (number(above)?, number(below)?);
    let is_rated = matches!(context.next(), "stars" | "star" | "points");
    let text = match (parts_of(whole), last.as_str()) {
        _ if first == last => format!("{first} {last}"),
        _ if is_rated => format!("{first} out of {last}"),
        _ if (first.as_str(), last.as_str()) == ("24", "7") || (first.as_str(), last.as_str()) == ("9", "11") => {
            format!("{first} {last}")
        }
        (_, "10" | "100" | "5" | "20") if first.contains('.') || last != "5" => format!("{first} out of {last}"),
        (Some((above, below)), _) if above < below && below <= 16 => {
            let part = fraction(above, below);
            return match unit(context.next()).filter(|_| context.next().len() > 1) {
                Some(names) => Reading::with(1, counted(&part, names)),
                None => Reading::word(part),
            };
        }
        (Some((month, day)), _) if month <= 12 && day > 16 => return times::day_of(day, month).and_then(Reading::word),
        _ => format!("{first} over {last}"),
    };
    Reading::word(text)
}

fn parts_of(text: &str) -> Option<(u32, u32)> {
    let (above, below) = text.split_once('/')?;
    let small = |text: &str| text.parse().ok().filter(|_| is_digits(text) && text.len() < 3);
    Some((small(above)?, small(below)?)).filter(|(above, below)| *above > 0 && *below > 1)
}

/// A number with a sign, and a unit or a scale attached or behind it.
fn measure(context: &Context<'_>) -> Option<Reading> {
    let (said, core) = sign(context.core);
    let (first, rest) = begins(core)?;
    let read = ending(&first, rest, context)?;
    let is_written = read.takes == 0 && said.is_empty() && read.text == context.core;
    (!is_written).then(|| Reading { text: format!("{said}{}", read.text), takes: read.takes })
}

/// A number and what comes behind it.
fn ending(first: &str, rest: &str, context: &Context<'_>) -> Option<Reading> {
    let is_place = PLACES.contains(&context.before.to_lowercase().as_str());
    if rest.is_empty() {
        // A unit behind a space; "in" is one only behind feet.
        let next = context.next();
        if let Some(scale) = scale(next, false).filter(|_| next.len() > 1) {
            return Reading::with(1, format!("{first} {scale}"));
        }
        if next == "in" && (context.said.ends_with(" feet") || context.said.ends_with(" foot") || context.ends_after(1))
        {
            return Reading::with(1, counted(first, ("inch", "inches")));
        }
        if let Some(names) =
            unit(next).filter(|_| next.len() > 1 || !matches!(next, "h" | "s") || context.ends_after(1))
        {
            return Reading::with(1, counted(first, names));
        }
        if let Some((unit, per)) = next.split_once('/').and_then(|(of, per)| Some((unit(of)?, unit(per)?))) {
            return Reading::with(1, format!("{} per {}", counted(first, unit), per.0));
        }
        let is_long = first.len() > 15 || (first.len() > 1 && first.starts_with('0') && is_digits(first));
        return Some(Reading {
            text: if is_long && is_digits(first) { spelled(first) } else { first.to_owned() },
            takes: 0,
        });
    }
    let text = match rest {
        // A letter of a formula.
        "x" if super::words::is_sign(context.next()) || context.said.ends_with("equals") => format!("{first} x"),
        "°" if matches!(context.next(), "C" | "F") => {
            let unit = if context.next() == "C" {
                ("degree Celsius", "degrees Celsius")
            } else {
                ("degree Fahrenheit", "degrees Fahrenheit")
            };
            return Reading::with(1, counted(first, unit));
        }
        "x" | "X" | "×" => format!("{first} times"),
        "+" => format!("{first} plus"),
        "in" | "″" => counted(first, ("inch", "inches")),
        "′" => counted(first, ("foot", "feet")),
        "K" if matches!(first, "2" | "4" | "8") => format!("{first} K"),
        _ if is_place && rest.len() == 1 => format!("{first} {}", rest.to_uppercase()),
        _ => match (unit(rest), scale(rest.trim_end_matches('+'), false), power_of_ten(rest)) {
            (_, _, Some(power)) => format!("{first} times 10 to the power of {power}"),
            (None, Some(scale), _) => format!("{first} {scale}{}", if rest.ends_with('+') { " plus" } else { "" }),
            (Some(names), ..) => counted(first, names),
            _ => {
                let (of, per) = rest.split_once('/')?;
                format!("{} per {}", counted(first, unit(of)?), unit(per)?.0)
            }
        },
    };
    Reading::word(text)
}

/// `1e10`, `2.5E-3`
fn power_of_ten(rest: &str) -> Option<String> {
    let power = rest.strip_prefix(['e', 'E'])?;
    let (minus, digits) =
        power.strip_prefix('-').map_or(("", power.trim_start_matches('+')), |digits| ("minus ", digits));
    (is_digits(digits) && digits.len() < 4).then(|| format!("{minus}{digits}"))
}
