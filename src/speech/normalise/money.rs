//! Amounts of money: the sign before or behind, codes, scales, what is paid for.
//!
//! In here: English. Not in here: the shapes of a number (`numbers`). Pure.

use super::english::{Context, Reading};
use super::measures::scale;
use super::numbers::{is_digits, number, number_length};

struct Currency {
    signs: &'static [&'static str],
    one: &'static str,
    several: &'static str,
    /// Of its hundredth; empty where there is none.
    cents: [&'static str; 2],
}

const fn currency(
    signs: &'static [&'static str],
    one: &'static str,
    several: &'static str,
    cents: [&'static str; 2],
) -> Currency {
    Currency { signs, one, several, cents }
}

const CENT: [&str; 2] = ["cent", "cents"];
const NONE: [&str; 2] = ["", ""];
/// Signs and codes; the longer one of two that begin alike comes first.
const CURRENCIES: &[Currency] = &[
    currency(&["US$", "USD"], "US dollar", "US dollars", CENT),
    currency(&["CA$", "C$", "CAD"], "Canadian dollar", "Canadian dollars", CENT),
    currency(&["AU$", "A$", "AUD"], "Australian dollar", "Australian dollars", CENT),
    currency(&["NZ$", "NZD"], "New Zealand dollar", "New Zealand dollars", CENT),
    currency(&["HK$", "HKD"], "Hong Kong dollar", "Hong Kong dollars", CENT),
    currency(&["S$", "SGD"], "Singapore dollar", "Singapore dollars", CENT),
    currency(&["NT$", "TWD"], "Taiwan dollar", "Taiwan dollars", CENT),
    currency(&["MX$", "MXN"], "Mexican peso", "Mexican pesos", NONE),
    currency(&["R$", "BRL"], "real", "reais", NONE),
    currency(&["$"], "dollar", "dollars", CENT),
    currency(&["€", "EUR"], "euro", "euros", CENT),
    currency(&["£", "GBP"], "pound", "pounds", ["penny", "pence"]),
    currency(&["CN¥", "RMB", "CNY"], "yuan", "yuan", NONE),
    currency(&["¥", "￥", "JPY"], "yen", "yen", NONE),
    currency(&["₹", "INR", "Rs.", "Rs"], "rupee", "rupees", NONE),
    currency(&["₩", "KRW"], "won", "won", NONE),
    currency(&["₽", "RUB"], "ruble", "rubles", NONE),
    currency(&["₺", "TRY"], "lira", "lira", NONE),
    currency(&["₴", "UAH"], "hryvnia", "hryvnias", NONE),
    currency(&["₪", "ILS"], "shekel", "shekels", NONE),
    currency(&["₫", "VND"], "dong", "dong", NONE),
    currency(&["₱", "PHP"], "peso", "pesos", NONE),
    currency(&["₦", "NGN"], "naira", "naira", NONE),
    currency(&["฿", "THB"], "baht", "baht", NONE),
    currency(&["₿", "BTC"], "bitcoin", "bitcoins", NONE),
    currency(&["CHF", "Fr."], "Swiss franc", "Swiss francs", NONE),
    currency(&["zł", "PLN"], "zloty", "zloty", NONE),
    currency(&["Kč", "CZK"], "Czech crown", "Czech crowns", NONE),
    currency(&["SEK"], "Swedish crown", "Swedish crowns", NONE),
    currency(&["NOK"], "Norwegian crown", "Norwegian crowns", NONE),
    currency(&["DKK"], "Danish crown", "Danish crowns", NONE),
    currency(&["ZAR"], "rand", "rand", NONE),
    currency(&["AED"], "dirham", "dirhams", NONE),
    currency(&["¢"], "cent", "cents", NONE),
];
/// Behind a stroke.
#[rustfmt::skip]
const PER: &[(&str, &str)] = &[
    ("h", "hour"), ("hr", "hour"), ("hour", "hour"), ("d", "day"), ("day", "day"), ("wk", "week"), ("week", "week"),
    ("mo", "month"), ("month", "month"), ("y", "year"), ("yr", "year"), ("year", "year"), ("kg", "kilogram"),
    ("lb", "pound"), ("night", "night"), ("user", "user"), ("person", "person"), ("unit", "unit"),
];

/// A sign at the beginning and what comes behind it.
fn sign_before(text: &str) -> Option<(&'static Currency, &str)> {
    let signs = CURRENCIES.iter().flat_map(|currency| currency.signs.iter().map(move |sign| (currency, *sign)));
    signs.filter_map(|(currency, sign)| Some((currency, text.strip_prefix(sign)?))).min_by_key(|(_, rest)| rest.len())
}

/// A word that is a sign or a code.
fn sign(text: &str) -> Option<&'static Currency> {
    sign_before(text).filter(|(_, rest)| rest.is_empty()).map(|(currency, _)| currency)
}

/// An amount and what is of it behind: a scale, a sign, a stroke.
struct Amount<'t> {
    number: String,
    scale: Option<&'static str>,
    rest: &'t str,
}

fn amount(text: &str) -> Option<Amount<'_>> {
    let length = number_length(text);
    let length = if length == 0 && text.starts_with(['.', ',']) { 1 + number_length(&text[1..]) } else { length };
    let (digits, rest) = text.split_at(length);
    // `5,-` and `49.–` have no cents.
    let rest = [",-", ",–", ".-", ".–", ",—"].iter().find_map(|none| rest.strip_prefix(none)).unwrap_or(rest);
    // Money has two decimals, so three behind a point are thousands.
    let number = match number(digits)? {
        number
            if number
                .split_once('.')
                .is_some_and(|(whole, part)| part.len() == 3 && whole != "0" && !digits.contains(',')) =>
        {
            number.replace('.', ",")
        }
        number => number,
    };
    let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
    Some(match scale(&rest[..letters], true) {
        Some(scale) => Amount { number, scale: Some(scale), rest: &rest[letters..] },
        None => Amount { number, scale: None, rest },
    })
}

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    let (minus, core) = match context.core.strip_prefix(['-', '+', '~', '≈']) {
        Some(rest) => (
            ["minus ", "plus ", "about "]
                [usize::from(!context.core.starts_with('-')) + usize::from(context.core.starts_with(['~', '≈']))],
            rest,
        ),
        None => ("", context.core),
    };
    let (said, takes) = signed(core, context).or_else(|| followed(core, context))?;
    Reading::with(takes, format!("{minus}{said}"))
}

/// `€49,50`, `$ 5`, `USD 100`, `£1bn`, `$1.5 million`, `$10-20`, `$5/month`
fn signed(core: &str, context: &Context<'_>) -> Option<(String, usize)> {
    let (currency, rest) = sign_before(core)?;
    let (text, mut takes) = if rest.is_empty() { (context.next(), 1) } else { (rest, 0) };
    if !rest.is_empty()
        && core.starts_with(|c: char| c.is_ascii_alphabetic())
        && core.len() - rest.len() < 3
        && !core.contains('$')
    {
        return None;
    }
    let text = text.strip_prefix('-').map_or(text, |text| text);
    let Amount { number, mut scale, rest } = amount(text)?;
    if let Some(to) = rest.strip_prefix(['-', '–', '—']) {
        // `$10–$20`, `$5-10 million`
        let to = sign_before(to).map_or(to, |(_, to)| to);
        let last = amount(to).filter(|last| last.rest.is_empty())?;
        let scale = last.scale.or_else(|| following_scale(context, &mut takes));
        let scale = scale.map_or_else(String::new, |scale| format!(" {scale}"));
        return Some((format!("{number} to {}{scale} {}", last.number, currency.several), takes));
    }
    if scale.is_none() && rest.is_empty() {
        scale = following_scale(context, &mut takes);
    }
    let per = per(rest)?;
    Some((said(&number, scale, currency) + &per, takes))
}

/// `20 €`, `15$`, `100 USD`, `3 million €`
fn followed(core: &str, context: &Context<'_>) -> Option<(String, usize)> {
    let (core, prefix) = match range_start(core) {
        Some((first, rest)) => (rest, format!("{first} to ")),
        None => (core, String::new()),
    };
    let Amount { number, mut scale, rest } = amount(core)?;
    let mut takes = 0;
    if rest.is_empty() && scale.is_none() {
        scale = following_scale(context, &mut takes);
    }
    let (currency, per) = if rest.is_empty() {
        let sign_at = context.next.get(takes)?;
        takes += 1;
        let (sign_text, stroke) =
            sign_at.split_once('/').map_or((*sign_at, ""), |(sign, _)| (sign, &sign_at[sign.len()..]));
        (sign(sign_text)?, per(stroke)?)
    } else {
        let (currency, rest) = sign_before(rest)?;
        if rest.len() == 2 && is_digits(rest) && is_digits(&number) {
            // `5€50`
            return Some((said(&format!("{number}.{rest}"), None, currency), 0));
        }
        (currency, per(rest)?)
    };
    Some((prefix + &said(&number, scale, currency) + &per, takes))
}

/// `10-20€`
fn range_start(core: &str) -> Option<(String, &str)> {
    let (first, rest) = core.split_once(['-', '–'])?;
    Some((number(first)?, rest))
}

fn following_scale(context: &Context<'_>, takes: &mut usize) -> Option<&'static str> {
    let word = context.next.get(*takes)?;
    let scale = scale(word, false)?;
    *takes += 1;
    Some(scale)
}

/// " per month"; `None` if something else comes behind the amount.
fn per(rest: &str) -> Option<String> {
    if rest.is_empty() {
        return Some(String::new());
    }
    if rest == "+" {
        return Some(" or more".to_owned());
    }
    let unit = rest.strip_prefix('/')?.trim_end_matches('.');
    PER.iter().find(|(written, _)| *written == unit).map(|(_, said)| format!(" per {said}"))
}

fn said(number: &str, scale: Option<&str>, currency: &Currency) -> String {
    let Currency { one, several, cents, .. } = currency;
    if let Some(scale) = scale {
        return format!("{number} {scale} {several}");
    }
    let name = if number == "1" { one } else { several };
    match number.split_once('.') {
        Some((whole, part)) if part.len() == 2 && is_digits(part) && !cents[0].is_empty() => {
            let count = part.trim_start_matches('0');
            let cents = if count == "1" { cents[0] } else { cents[1] };
            let whole_name = if whole == "1" { one } else { several };
            match (whole, count) {
                (_, "") => format!("{whole} {whole_name}"),
                ("0", count) => format!("{count} {cents}"),
                (whole, count) => format!("{whole} {whole_name} {count}"),
            }
        }
        Some((whole, "00")) => format!("{whole} {}", if whole == "1" { one } else { several }),
        _ => format!("{number} {name}"),
    }
}
