//! Times of day, dates, and days of the week and months that are shortened.
//!
//! In here: English. Pure.

use super::english::{Context, Reading};
use super::numbers::{cardinal, is_digits, ordinal};

const MONTHS: &[&str] = &[
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
const DAYS: &[(&str, &str)] = &[
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Tues", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Thur", "Thursday"),
    ("Thurs", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
    ("Weds", "Wednesday"),
    ("Th", "Thursday"),
];

fn small(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| is_digits(text) && text.len() <= 4)
}

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    clock(context)
        .or_else(|| date(context.core).and_then(Reading::word))
        .or_else(|| month_and_day(context))
        .or_else(|| days(context.core))
}

/// "A.M."
fn half_of_day(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().replace('.', "").as_str() {
        "am" => Some("A.M."),
        "pm" => Some("P.M."),
        _ => None,
    }
}

/// `3:30 PM`, `10:00`, `23:59:59`, `7am`, `7 a.m.`, `9:00-17:00`, `14h30`
fn clock(context: &Context<'_>) -> Option<Reading> {
    if let Some((from, to)) = context.core.split_once(['-', '–']) {
        let is_time = |text: &str| {
            text.contains(':') || half_of_day(text.trim_start_matches(|c: char| c.is_ascii_digit())).is_some()
        };
        if is_time(from) || is_time(to) {
            let half = half_of_day(context.next());
            let from = time(from, half).or_else(|| small(from).map(|hour| hour.to_string()))?;
            return Reading::with(usize::from(half.is_some()), format!("{from} to {}", time(to, half)?));
        }
        return None;
    }
    let half = half_of_day(context.next());
    Reading::with(usize::from(half.is_some()), time(context.core, half)?)
}

fn time(text: &str, half: Option<&'static str>) -> Option<String> {
    // `14h30`
    if let Some((hour, minute)) = text.split_once('h').filter(|(hour, minute)| is_digits(hour) && is_digits(minute)) {
        return time(&format!("{hour}:{minute}"), half);
    }
    let letters = text.len() - text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '.').len();
    let (digits, ending) = text.split_at(text.len() - letters);
    let half =
        if ending.is_empty() || (ending == "h" && digits.contains(':')) { half } else { Some(half_of_day(ending)?) };
    let mut parts = digits.split(':');
    let hour = small(parts.next()?).filter(|hour| *hour <= 24)?;
    let Some(minute) = parts.next() else {
        return half.filter(|_| (1..=12).contains(&hour)).map(|half| format!("{hour} {half}"));
    };
    let of_sixty = |text: &str| small(text).filter(|number| *number < 60 && text.len() == 2);
    let minute = of_sixty(minute)?;
    let second = parts.next().map(|second| of_sixty(second.split('.').next().unwrap_or(second)));
    if parts.next().is_some() {
        return None;
    }
    let mut words = cardinal(hour);
    match (minute, second, half) {
        (0, None, None) if hour == 0 => return Some("midnight".to_owned()),
        (0, None, None) if hour <= 12 => words += " o'clock",
        (0, None, None) => words += " hundred hours",
        (0, _, _) => {}
        (1..10, ..) => words += &format!(" oh {}", cardinal(minute)),
        _ => words += &format!(" {}", cardinal(minute)),
    }
    if let Some(second) = second {
        let second = second?;
        words += &format!(" and {} second{}", cardinal(second), if second == 1 { "" } else { "s" });
    }
    if let Some(half) = half {
        words += &format!(" {half}");
    }
    Some(words)
}

/// `2026-01-05`, `12/25/2026`, `25.12.2026`, `2026/1/5`
fn date(word: &str) -> Option<String> {
    let sign = word.chars().find(|c| !c.is_ascii_digit()).filter(|sign| matches!(sign, '-' | '/' | '.'))?;
    let parts: Vec<u32> = word.split(sign).map(small).collect::<Option<_>>()?;
    let lengths: Vec<usize> = word.split(sign).map(str::len).collect();
    let (year, month, day) = match (&parts[..], &lengths[..]) {
        (&[year, month, day], &[4, 1..=2, 1..=2]) => (year, month, day),
        (&[first, second, year], &[1..=2, 1..=2, long @ (2 | 4)])
            if long == 4 || sign == '/' || (sign == '.' && word.split(sign).any(|part| part.starts_with('0'))) =>
        {
            let year = if long == 4 { year } else { year + if year > 50 { 1900 } else { 2000 } };
            // Points are Europe's, strokes America's where they can be.
            let is_day_first = sign == '.' || first > 12;
            if is_day_first { (year, second, first) } else { (year, first, second) }
        }
        _ => return None,
    };
    said(day, month, Some(year))
}

/// "December thirty-first"
pub(super) fn day_of(day: u32, month: u32) -> Option<String> {
    said(day, month, None)
}

fn said(day: u32, month: u32, year: Option<u32>) -> Option<String> {
    let month = MONTHS.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    let day = (1..=31).contains(&day).then(|| ordinal(day))?;
    Some(year.map_or_else(|| format!("{month} {day}"), |year| format!("{month} {day}, {year}")))
}

/// The month's number; a name in full is no short form.
fn month(word: &str) -> Option<u32> {
    let short = word.trim_end_matches('.');
    let known = |month: &&&str| {
        **month == short
            || (short.len() == 3 && month.starts_with(short))
            || (short == "Sept" && **month == "September")
    };
    let at = MONTHS.iter().position(|month| known(&month))?;
    u32::try_from(at + 1).ok()
}

/// `Jan 5`, `Dec. 25th`, `5 Jan 2026`
fn month_and_day(context: &Context<'_>) -> Option<Reading> {
    let day = |word: &str| {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
        small(digits)
            .filter(|day| (1..=31).contains(day) && ["", "st", "nd", "rd", "th"].contains(&&word[digits.len()..]))
    };
    if let (Some(month), Some(day)) = (month(context.core), day(context.next())) {
        return Reading::with(1, said(day, month, None)?);
    }
    if let (Some(day), Some(month)) = (day(context.core), month(context.next())) {
        // "5 May" is a date, "5 March" too.
        let name = MONTHS[usize::try_from(month).ok()? - 1];
        return Reading::with(1, format!("the {} of {name}", ordinal(day)))
            .filter(|_| !context.before.eq_ignore_ascii_case("the"));
    }
    // A month with a year, or alone with its stop.
    let is_short = context.core.ends_with('.')
        || (context.core.len() <= 4 && context.next().len() == 4 && small(context.next()).is_some());
    let name = MONTHS[usize::try_from(month(context.core)?).ok()? - 1];
    (is_short && name != context.core).then(|| Reading::word(name)).flatten()
}

/// `Mon-Fri`, `Sat`
fn days(word: &str) -> Option<Reading> {
    let day = |word: &str| DAYS.iter().find(|(short, _)| *short == word).map(|(_, day)| *day);
    let month = |word: &str| month(word).and_then(|month| MONTHS.get(usize::try_from(month).ok()? - 1)).copied();
    if let Some((from, to)) = word.split_once(['-', '–']) {
        let pair = day(from).zip(day(to)).or_else(|| month(from).zip(month(to)))?;
        return Reading::word(format!("{} to {}", pair.0, pair.1));
    }
    // "Sat" and "Sun" are words too.
    day(word.trim_end_matches('.'))
        .filter(|_| word.ends_with('.') || matches!(word, "Tue" | "Tues" | "Thu" | "Thurs" | "Fri"))
        .and_then(Reading::word)
}
