//! Formulas and code: signs between letters and numbers, powers, roots, calls of functions, and LaTeX.
//!
//! In here: English. Pure.

use super::english::{Context, Reading};
use super::measures::unit;
use super::numbers::is_digits;

/// In a word that is a formula, the longer sign of two that begin alike first.
#[rustfmt::skip]
const OPERATORS: &[(&str, &str)] = &[
    ("::", " "), ("<-", "from"), ("<=>", "is equivalent to"), ("...", "and so on"), ("==", "equals"),
    ("!=", "is not equal to"), ("<=", "is at most"), (">=", "is at least"), ("=>", "gives"), ("->", "to"),
    ("&&", "and"), ("||", "or"), ("++", "plus plus"), ("+=", "plus equals"), ("-=", "minus equals"),
    ("**", "to the power of"), ("=", "equals"), ("≠", "is not equal to"), ("≈", "is about"), ("≡", "is identical to"),
    ("≤", "is at most"), ("≥", "is at least"), ("<", "is less than"), (">", "is greater than"), ("+", "plus"),
    ("-", "minus"), ("−", "minus"), ("*", "times"), ("×", "times"), ("·", "times"), ("⋅", "times"),
    ("÷", "divided by"), ("±", "plus or minus"), ("→", "to"), ("∈", "in"), ("∝", "is proportional to"), ("/", "over"),
    ("%", "percent"), ("|", "or"),
];
#[rustfmt::skip]
const SIGNS: &[(char, &str)] = &[
    ('∞', "infinity"), ('¬', "not"), ('∧', "and"), ('∨', "or"), ('⁺', "plus"), ('∑', "the sum of"), ('∏', "the product of"), ('∫', "the integral of"), ('∂', "partial"),
    ('∇', "nabla"), ('∅', "the empty set"), ('∀', "for all"), ('∃', "there is"), ('∆', "delta"), ('°', "degrees"),
    ('∪', "union"), ('∩', "intersection"), ('⊂', "is a subset of"), ('∉', "not in"), ('ℏ', "h bar"),
];
#[rustfmt::skip]
const GREEK: &[(char, &str)] = &[
    ('α', "alpha"), ('β', "beta"), ('γ', "gamma"), ('δ', "delta"), ('ε', "epsilon"), ('ζ', "zeta"), ('η', "eta"),
    ('θ', "theta"), ('ι', "iota"), ('κ', "kappa"), ('λ', "lambda"), ('μ', "mu"), ('µ', "micro"), ('ν', "nu"),
    ('ξ', "xi"), ('ο', "omicron"), ('π', "pi"), ('ρ', "rho"), ('σ', "sigma"), ('τ', "tau"), ('υ', "upsilon"),
    ('φ', "phi"), ('χ', "chi"), ('ψ', "psi"), ('ω', "omega"),
];
const SUPERSCRIPTS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const RAISED_MINUS: char = '⁻';
const SUBSCRIPTS: &str = "₀₁₂₃₄₅₆₇₈₉";
/// Any of these makes a word a formula.
const TELLING: &[char] = &[
    '¬', '∧', '∨', '⁺', '=', '≠', '≈', '≡', '≤', '≥', '+', '×', '÷', '±', '→', '∈', '∝', '^', '√', '∛', '∞', '∑', '∏',
    '∫', '∂', '∇', '∅', '∀', '∃', '∆', '⋅', '∪', '∩', '⊂', '∉', 'ℏ',
];
/// LaTeX in words; what is not among them is said by its name.
#[rustfmt::skip]
const COMMANDS: &[(&str, &str)] = &[
    ("times", "×"), ("cdot", "×"), ("div", "÷"), ("pm", "±"), ("leq", "≤"), ("le", "≤"), ("geq", "≥"), ("ge", "≥"),
    ("neq", "≠"), ("ne", "≠"), ("approx", "≈"), ("infty", "∞"), ("to", "→"), ("rightarrow", "→"),
    ("Rightarrow", "=>"), ("sum", "∑"), ("prod", "∏"), ("int", "∫"), ("partial", "∂"), ("nabla", "∇"), ("in", "∈"),
    ("forall", "∀"), ("exists", "∃"), ("left", ""), ("right", ""), ("text", ""), ("mathrm", ""), ("mathbf", ""),
    ("quad", " "), ("displaystyle", ""), ("ldots", "and so on"), ("cdots", "and so on"), ("circ", "°"),
    ("equiv", "≡"),
];

fn digit_of(signs: &str, c: char) -> Option<char> {
    let at = signs.chars().position(|sign| sign == c)?;
    char::from_digit(u32::try_from(at).ok()?, 10)
}

fn power(number: &str) -> String {
    match number {
        "2" => " squared ".to_owned(),
        "3" => " cubed ".to_owned(),
        "°" | " degrees " => " degrees ".to_owned(),
        number => format!(" to the power of {} ", number.replace('-', "minus ")),
    }
}

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    let core = context.core;
    let is_raised = core.chars().any(|c| digit_of(SUPERSCRIPTS, c).is_some() || digit_of(SUBSCRIPTS, c).is_some());
    let is_greek = core.chars().any(|c| greek(c).is_some());
    let letters = core.chars().filter(|c| c.is_alphabetic()).count();
    let is_call = core.contains('(') && core.contains(|c: char| c.is_alphabetic()) && !core.ends_with("(s)");
    if let Some(name) = core.strip_prefix('\\').filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic())) {
        return Reading::word(name.replace(['\\', '{', '}', '_'], " "));
    }
    if is_greek && letters > 3 {
        let name = |c: char| greek(c).map_or_else(|| c.to_string(), str::to_owned);
        return Reading::word(core.chars().map(name).collect::<String>());
    }
    let has_operator = core.contains(TELLING) || core.contains("->") || between_digits(core);
    let is_code = core.contains('_') || core.contains("::") || core.contains(['{', '}']) || core.ends_with(';');
    if is_raised || has_operator || (is_greek && letters < 4) || is_call || is_code {
        return Reading::word(said(core));
    }
    if core.ends_with("(s)") {
        return Reading::word(core.replace("(s)", "s"));
    }
    None
}

/// `2*3`, `x<y`
fn between_digits(core: &str) -> bool {
    let chars: Vec<char> = core.chars().collect();
    chars
        .windows(3)
        .any(|three| three[0].is_alphanumeric() && matches!(three[1], '*' | '<' | '>') && three[2].is_alphanumeric())
}

fn greek(c: char) -> Option<&'static str> {
    let lower = c.to_lowercase().next().unwrap_or(c);
    GREEK
        .iter()
        .find(|(letter, _)| *letter == c || *letter == lower)
        .map(|(_, name)| *name)
        .or((c == 'ς').then_some("sigma"))
}

/// A formula, sign by sign.
pub(super) fn said(core: &str) -> String {
    let mut out = String::with_capacity(core.len() * 2);
    let mut rest = core;
    // How many brackets of a call are open.
    let mut calls = 0;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let raised: String = rest.chars().map_while(|c| digit_of(SUPERSCRIPTS, c)).collect();
        let lowered: String = rest.chars().map_while(|c| digit_of(SUBSCRIPTS, c)).collect();
        let take = |count: usize| rest.char_indices().nth(count).map_or("", |(at, _)| &rest[at..]);
        if c == RAISED_MINUS {
            let raised: String = after.chars().map_while(|c| digit_of(SUPERSCRIPTS, c)).collect();
            out.push_str(&format!(" to the power of minus {raised} "));
            rest = after.char_indices().nth(raised.len()).map_or("", |(at, _)| &after[at..]);
        } else if !raised.is_empty() {
            out.push_str(&power(&raised));
            rest = take(raised.len());
        } else if !lowered.is_empty() {
            out.push_str(&format!(" {lowered} "));
            rest = take(lowered.len());
        } else if c == '^' {
            let (number, behind) = raised_to(after);
            out.push_str(&power(&said(number)));
            rest = behind;
        } else if c == '√' || c == '∛' {
            out.push_str(if c == '√' { " the square root of " } else { " the cube root of " });
            rest = after;
        } else if let Some((sign, said)) = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            // A stroke and a hyphen within words are those.
            let is_word = matches!(*sign, "-" | "/" | "." | "...") && !is_formula_around(&out, &rest[sign.len()..]);
            out.push_str(&if is_word { " ".to_owned() } else { format!(" {said} ") });
            rest = &rest[sign.len()..];
        } else if let Some((_, said)) = SIGNS.iter().find(|(sign, _)| *sign == c) {
            out.push_str(&format!(" {said} "));
            rest = after;
        } else if let Some(name) = greek(c) {
            out.push_str(&format!(" {name} "));
            rest = after;
        } else {
            match c {
                // `f(x)` of one letter is a function's value.
                '(' => {
                    let name = out.rsplit(' ').next().unwrap_or_default();
                    let is_value =
                        name.trim_end_matches('\'').len() == 1 && name.starts_with(|c: char| c.is_alphabetic());
                    out.push_str(if is_value { " of " } else { " " });
                    calls += 1;
                }
                '\'' if out.ends_with(|c: char| c.is_alphabetic()) && calls == 0 && after.starts_with('(') => {
                    let name = out.pop().unwrap_or_default();
                    out.push_str(&format!("{name} prime of "));
                    rest = after.strip_prefix('(').unwrap_or(after);
                    continue;
                }
                ')' | '[' | ']' | '{' | '}' | ';' | '_' | '"' | '\\' => out.push(' '),
                ':' if after.starts_with(':') => out.push(' '),
                c if c.is_ascii_digit() && out.ends_with(|c: char| c.is_alphabetic()) => {
                    // `H2O` as its letters and digits.
                    out.push(' ');
                    out.push(c);
                }
                c if c.is_alphabetic() && out.ends_with(|c: char| c.is_ascii_digit()) => {
                    out.push(' ');
                    out.push(c);
                }
                c => out.push(c),
            }
            rest = after;
        }
    }
    joined(&out)
}

/// The words of a formula, with units and variables among them.
fn joined(said: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in said.split_whitespace() {
        let counts = words.last().is_some_and(|before| before.starts_with(|c: char| c.is_ascii_digit()));
        let unit = unit(word).filter(|_| counts && word.chars().count() > 1);
        words.push(unit.map_or_else(|| variables(word), |(_, several)| several.to_owned()));
    }
    words.join(" ")
}

/// `mc` is two letters and no word.
fn variables(word: &str) -> String {
    if word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return word.chars().map(String::from).collect::<Vec<_>>().join(" ");
    }
    let is_plain = (2..4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    match is_plain && !word.contains(['a', 'e', 'i', 'o', 'u', 'y']) {
        true => word.chars().map(String::from).collect::<Vec<_>>().join(" "),
        false => word.to_owned(),
    }
}

/// Whether single letters or digits are on both sides.
fn is_formula_around(before: &str, after: &str) -> bool {
    let last = before.split(' ').rfind(|word| !word.is_empty()).unwrap_or_default();
    let next: String = after.chars().take_while(|c| c.is_alphanumeric()).collect();
    let is_short = |word: &str| word.chars().count() < 3 || is_digits(word);
    is_short(last) && is_short(&next)
}

/// What is raised to: `2`, `-1`, `n`, `{n+1}`, `(n+1)`.
fn raised_to(after: &str) -> (&str, &str) {
    for (opener, closer) in [('{', '}'), ('(', ')')] {
        if let Some((inner, rest)) = after.strip_prefix(opener).and_then(|after| after.split_once(closer)) {
            return (inner, rest);
        }
    }
    let sign = usize::from(after.starts_with('-'));
    let digits = after[sign..].len() - after[sign..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let end = if digits > 0 { sign + digits } else { after.chars().next().map_or(0, char::len_utf8) };
    after.split_at(end)
}

/// `$\frac{a}{b}$`, `\(x\)` and `\[x\]` with usual signs; everything else stays.
pub(super) fn without_latex(chars: &[(usize, char)]) -> Vec<(usize, char)> {
    let text: String = chars.iter().map(|(_, c)| *c).collect();
    if !text.contains('$') && !text.contains("\\(") && !text.contains("\\[") && !text.contains("\\frac") {
        return chars.to_vec();
    }
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        match formula_at(chars, at) {
            Some((from, to, end)) => {
                let latex: String = chars[from..to].iter().map(|(_, c)| *c).collect();
                let said = latex_said(&latex, 0);
                // A mark behind it stays with it.
                let space = if chars.get(end).is_some_and(|(_, c)| c.is_alphanumeric()) { " " } else { "" };
                let spaced = format!(" {}{space}", said.trim());
                out.extend(spaced.chars().map(|c| (chars[at].0, c)));
                at = end;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out.dedup_by(|(_, c), (_, before)| *c == ' ' && *before == ' ');
    out
}

/// A formula that begins here: what is between its marks, and where it ends. Formulas are short, which keeps this linear.
fn formula_at(chars: &[(usize, char)], at: usize) -> Option<(usize, usize, usize)> {
    const LONGEST: usize = 300;
    let c = |at: usize| chars.get(at).map(|(_, c)| *c);
    let find = |from: usize, mark: [char; 2]| {
        (from..chars.len().min(from + LONGEST))
            .find(|at| c(*at) == Some(mark[0]) && (mark[1] == ' ' || c(*at + 1) == Some(mark[1])))
    };
    match (c(at)?, c(at + 1)?) {
        ('\\', '(') => find(at + 2, ['\\', ')']).map(|end| (at + 2, end, end + 2)),
        ('\\', '[') => find(at + 2, ['\\', ']']).map(|end| (at + 2, end, end + 2)),
        ('$', '$') => find(at + 2, ['$', '$']).map(|end| (at + 2, end, end + 2)),
        ('$', next) if !next.is_whitespace() => {
            let end = find(at + 1, ['$', ' '])?;
            let inner = &chars[at + 1..end];
            let is_tight =
                !c(end - 1).is_some_and(char::is_whitespace) && !c(end + 1).is_some_and(|c| c.is_ascii_digit());
            let letters = inner.iter().filter(|(_, c)| c.is_alphabetic()).count();
            let is_formula =
                inner.iter().any(|(_, c)| matches!(c, '\\' | '^' | '{' | '=')) || (inner.len() <= 3 && letters > 0);
            (is_tight && is_formula && !inner.is_empty()).then_some((at + 1, end, end + 1))
        }
        _ => None,
    }
}

/// LaTeX in signs and words. Braces within braces are followed to a few levels.
fn latex_said(latex: &str, depth: u32) -> String {
    let mut out = String::new();
    let mut rest = latex;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if c != '\\' {
            match c {
                '{' | '}' | '&' => out.push(' '),
                '^' => {
                    let (inner, behind) = argument(after);
                    out.push_str(&power(latex_said(inner, depth + 1).trim()));
                    rest = behind;
                    continue;
                }
                '=' | '+' | '<' | '>' | '*' | '/' | '-' => {
                    let (_, said) =
                        OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).copied().unwrap_or(("", ""));
                    out.push_str(&format!(" {said} "));
                }
                _ => out.push(c),
            }
            rest = after;
            continue;
        }
        let length = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (name, behind) = after.split_at(length);
        rest = behind;
        match name {
            "" => {
                out.push(' ');
                rest = after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
            }
            "frac" | "dfrac" | "tfrac" if depth < 5 => {
                let (above, behind) = argument(rest);
                let (below, behind) = argument(behind);
                out.push_str(&format!(" {} over {} ", latex_said(above, depth + 1), latex_said(below, depth + 1)));
                rest = behind;
            }
            "sum" | "prod" | "int" | "lim" if depth < 5 => {
                out.push_str(match name {
                    "sum" => " the sum",
                    "prod" => " the product",
                    "int" => " the integral",
                    _ => " the limit",
                });
                let (lower, upper) = (rest.starts_with(['_', '{']), if name == "lim" { " as " } else { " from " });
                if lower {
                    let (inner, behind) = argument(rest.strip_prefix('_').unwrap_or(rest));
                    out.push_str(&format!("{upper}{}", latex_said(inner, depth + 1)));
                    rest = behind;
                }
                if let Some(raised) = rest.strip_prefix('^').filter(|_| name != "lim") {
                    let (inner, behind) = argument(raised);
                    out.push_str(&format!(" to {}", latex_said(inner, depth + 1)));
                    rest = behind;
                }
                out.push_str(" of ");
            }
            "sqrt" if depth < 5 => {
                let (inner, behind) = argument(rest);
                out.push_str(&format!(" the square root of {} ", latex_said(inner, depth + 1)));
                rest = behind;
            }
            name => {
                let known = COMMANDS.iter().find(|(known, _)| *known == name).map_or(name, |(_, said)| *said);
                let word = known.chars().next().filter(|_| known.chars().count() == 1);
                let said = word.and_then(|sign| {
                    OPERATORS.iter().find(|(known, _)| known.starts_with(sign)).map(|(_, said)| *said)
                });
                let said = said.or_else(|| {
                    word.and_then(|sign| SIGNS.iter().find(|(known, _)| *known == sign).map(|(_, said)| *said))
                });
                out.push_str(&format!(" {} ", said.unwrap_or(known)));
            }
        }
    }
    joined(&out)
}

/// `{...}` with the braces within it, or one character.
fn argument(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    if !text.starts_with('{') {
        return text.split_at(text.chars().next().map_or(0, char::len_utf8));
    }
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    (&text[1..], "")
}
