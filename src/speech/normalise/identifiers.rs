//! Digits that are no number: telephones, addresses of machines, versions, numbers of books.
//!
//! In here: English. Pure.

use super::english::{Context, Reading};
use super::numbers::{is_digits, spelled};

/// Before a version.
const VERSIONED: &[&str] = &["version", "v", "release", "ver.", "section", "chapter"];

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    telephone(context)
        .or_else(|| machine(context.core))
        .or_else(|| version(context))
        .or_else(|| groups(context.core))
        .or_else(|| numbered(context))
}

/// `555-1234`, `+1 (555) 123-4567`, `+44 20 7946 0958`, `(555) 123-4567`
fn telephone(context: &Context<'_>) -> Option<Reading> {
    let digits = |word: &str| word.bytes().filter(u8::is_ascii_digit).count();
    let is_part = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '(' | ')' | '/'))
    };
    let core = context.core;
    if let Some(international) = core.strip_prefix('+') {
        let rest = context.next.iter().take_while(|word| is_part(word) && digits(word) <= 8).count();
        let all = std::iter::once(international).chain(context.next[..rest].iter().copied());
        let total: usize = all.clone().map(digits).sum();
        if !is_part(international) || !(7..=16).contains(&total) {
            return None;
        }
        return Reading::with(rest, format!("plus {}", all.map(spelled).collect::<Vec<_>>().join(", ")));
    }
    // Europe's, with its zero: `0171 1234567`, `030/1234567`.
    if core.starts_with('0') && is_part(core) && core.len() > 2 && !core.contains('.') {
        let rest = context.next.iter().take_while(|word| is_digits(word) && word.len() > 1).count();
        let all = std::iter::once(core).chain(context.next[..rest].iter().copied());
        let total: usize = all.clone().map(digits).sum();
        if (8..=14).contains(&total) && (rest > 0 || core.contains(['/', '-'])) {
            return Reading::with(rest, all.map(spelled).collect::<Vec<_>>().join(", "));
        }
    }
    let parts: Vec<&str> = core.split('.').collect();
    if parts.iter().map(|part| part.len()).eq([3, 3, 4]) && parts.iter().all(|part| is_digits(part)) {
        return Reading::word(spelled(core));
    }
    // America's, the area in brackets or not.
    let is_area = is_digits(core) && core.len() == 3;
    let local = |word: &str| {
        word.split_once(['-', '.']).is_some_and(|(a, b)| is_digits(a) && is_digits(b) && (a.len(), b.len()) == (3, 4))
    };
    if is_area && local(context.next()) {
        return Reading::with(1, format!("{}, {}", spelled(core), spelled(context.next())));
    }
    local(core).then(|| Reading::word(spelled(core))).flatten()
}

/// `192.168.1.1:8080`, `2001:db8::1`, `00:1a:2b:3c:4d:5e`
fn machine(word: &str) -> Option<Reading> {
    let (address, port) = word.split_once(':').map_or((word, None), |(address, port)| (address, Some(port)));
    let (address, mask) = address.split_once('/').map_or((address, None), |(address, mask)| (address, Some(mask)));
    let parts: Vec<&str> = address.split('.').collect();
    if parts.len() == 4 && parts.iter().all(|part| is_digits(part) && part.len() < 4) {
        let port = port.filter(|port| is_digits(port)).map_or_else(String::new, |port| format!(" port {port}"));
        let mask = mask.map_or_else(String::new, |mask| format!(" slash {mask}"));
        return Reading::word(parts.join(" dot ") + &mask + &port);
    }
    let parts: Vec<&str> = word.split(':').collect();
    let is_hex = |part: &&str| part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_letters = word.bytes().any(|byte| byte.is_ascii_alphabetic()) || word.contains("::");
    if parts.len() < 3 || !has_letters || word.len() < 3 || !parts.iter().all(is_hex) {
        return None;
    }
    Reading::word(parts.iter().map(|part| spelled(&part.to_uppercase())).collect::<Vec<_>>().join(" colon "))
}

/// `2.10.3`, `v1.2`, `Version 2.10`
fn version(context: &Context<'_>) -> Option<Reading> {
    let core = context.core;
    let (letter, digits) = core.strip_prefix(['v', 'V']).map_or(("", core), |digits| ("version ", digits));
    let (digits, tail) =
        digits.split_at(digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len()));
    let parts: Vec<&str> = digits.split('.').collect();
    let is_named = VERSIONED.contains(&context.before.to_lowercase().as_str()) || !letter.is_empty();
    if parts.len() < 2 || !(parts.len() > 2 || is_named) || !parts.iter().all(|part| is_digits(part) && part.len() < 6)
    {
        return None;
    }
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let has_zero = parts.iter().any(|part| part.len() == 2 && part.starts_with('0'));
    if matches!(lengths[..], [1..=2, 1..=2, 4] | [4, 1..=2, 1..=2]) || (has_zero && matches!(lengths[..], [2, 2, 2])) {
        // A date.
        return None;
    }
    // Groups of three behind a first one are a number.
    let is_grouped = parts[1..].iter().all(|part| part.len() == 3) && parts[0].len() < 4;
    if is_grouped && letter.is_empty() || parts.iter().skip(1).all(|part| part.len() == 3) && !is_named {
        return None;
    }
    let tail = tail.replace(['(', ')', '-', '_'], " ");
    Reading::word(format!(
        "{letter}{}{}",
        parts.join(" point "),
        if tail.is_empty() { tail } else { format!(" {tail}") }
    ))
}

/// `978-3-16-148410-0`, `555-123-4567`: groups of digits that are neither a date nor a range.
fn groups(word: &str) -> Option<Reading> {
    let parts: Vec<&str> = word.split(['-', '.']).collect();
    let digits: usize = parts.iter().map(|part| part.len()).sum();
    let is_plain = parts.iter().all(|part| is_digits(part) || (*part == "X" && digits > 8));
    let is_date = parts.len() == 3
        && (parts[0].len() == 4 && digits <= 8 || word.contains('.') && parts[2].len() == 4 && digits <= 8);
    (parts.len() > 2 && is_plain && digits >= 7 && !is_date && word.contains('-'))
        .then(|| Reading::word(spelled(word)))
        .flatten()
}

/// `#5`, `No. 5`, `#hashtag`, `@user`
fn numbered(context: &Context<'_>) -> Option<Reading> {
    let core = context.core;
    if let Some(name) = core.strip_prefix('#').filter(|name| !name.is_empty()) {
        let is_number = name.starts_with(|c: char| c.is_ascii_digit());
        return Reading::word(format!("{} {}", if is_number { "number" } else { "hashtag" }, name.replace('_', " ")));
    }
    if let Some(name) = core.strip_prefix('@').filter(|name| name.starts_with(char::is_alphanumeric)) {
        return Reading::word(format!("at {}", name.replace('_', " ")));
    }
    let is_number = context.next().starts_with(|c: char| c.is_ascii_digit());
    let said = match core {
        "No." | "no." | "Nr." | "№" | "No" if is_number && core != "No" => "number",
        "Nos." | "nos." if is_number => "numbers",
        _ => return None,
    };
    Reading::word(said)
}
