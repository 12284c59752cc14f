//! Words that are not read letter by letter as they stand: short forms, signs, capitals, Roman numbers, keys, phonetic script.
//!
//! In here: English. Pure.

use super::SpokenWord;
use super::english::{Context, Reading, core_of};
use super::numbers::{is_digits, ordinal};

/// Words that are signs.
#[rustfmt::skip]
const SIGNS: &[(&str, &str)] = &[
    ("&", "and"), ("&&", "and"), ("||", "or"), ("+", "plus"), ("=", "equals"), ("==", "equals"), ("===", "equals"), ("≠", "is not equal to"), ("!=", "is not equal to"), ("×", "times"), ("÷", "divided by"), ("≈", "about"),
    ("<", "is less than"), (">", "is greater than"), ("<=", "is at most"), (">=", "is at least"), ("≤", "is at most"), ("≥", "is at least"), ("->", "to"), ("<-", "from"), ("=>", "to"), ("→", "to"), ("±", "plus or minus"), ("+/-", "plus or minus"),
    ("@", "at"), ("#", "number"), ("%", "percent"), ("€", "euros"), ("$", "dollars"), ("£", "pounds"), ("°", "degrees"), ("∞", "infinity"), ("§", "section"), ("©", "copyright"),
    ("w/", "with"), ("w/o", "without"), ("n/a", "not applicable"), ("N/A", "not applicable"), ("b/c", "because"), ("c/o", "care of"), ("//", ""), ("/", "or"),
];
/// Short forms with their stops, and how they are read.
#[rustfmt::skip]
const SHORT: &[(&str, &str)] = &[
    ("e.g.", "for example"), ("Mio.", "million"), ("Mrd.", "billion"), ("E.g.", "for example"), ("I.e.", "that is"), ("Jan.", "January"), ("Feb.", "February"), ("Mar.", "March"), ("Apr.", "April"), ("Jun.", "June"), ("Jul.", "July"), ("Aug.", "August"), ("Sep.", "September"), ("Sept.", "September"), ("Oct.", "October"), ("Nov.", "November"), ("Dec.", "December"), ("Mon.", "Monday"), ("Tue.", "Tuesday"), ("Tues.", "Tuesday"), ("Wed.", "Wednesday"), ("Thu.", "Thursday"), ("Thurs.", "Thursday"), ("Fri.", "Friday"), ("i.e.", "that is"), ("eg.", "for example"), ("ie.", "that is"), ("etc.", "etcetera"), ("vs.", "versus"), ("vs", "versus"), ("cf.", "compare"), ("approx.", "approximately"),
    ("Mr.", "Mister"), ("Mrs.", "Missis"), ("Ms.", "Miz"), ("Dr.", "Doctor"), ("Prof.", "Professor"), ("Sr.", "Senior"), ("Jr.", "Junior"), ("Capt.", "Captain"), ("Lt.", "Lieutenant"), ("Col.", "Colonel"),
    ("Gen.", "General"), ("Sgt.", "Sergeant"), ("Gov.", "Governor"), ("Sen.", "Senator"), ("Rep.", "Representative"), ("Rev.", "Reverend"), ("Hon.", "Honorable"), ("Pres.", "President"), ("Mt.", "Mount"), ("Ft.", "Fort"),
    ("Ave.", "Avenue"), ("Blvd.", "Boulevard"), ("Rd.", "Road"), ("Ln.", "Lane"), ("Hwy.", "Highway"), ("Pkwy.", "Parkway"), ("Sq.", "Square"), ("Ste.", "Suite"), ("Apt.", "Apartment"), ("apt.", "apartment"), ("rm.", "room"), ("Rm.", "Room"), ("Bldg.", "Building"),
    ("Inc.", "Incorporated"), ("Ltd.", "Limited"), ("Corp.", "Corporation"), ("Co.", "Company"), ("Bros.", "Brothers"), ("Dept.", "Department"), ("dept.", "department"), ("Univ.", "University"), ("est.", "established"), ("Est.", "Established"),
    ("Fig.", "Figure"), ("fig.", "figure"), ("Figs.", "Figures"), ("Vol.", "Volume"), ("vol.", "volume"), ("Ch.", "Chapter"), ("ch.", "chapter"), ("Sec.", "Section"), ("sec.", "section"), ("Eq.", "Equation"), ("eq.", "equation"), ("pp.", "pages"), ("p.", "page"), ("ed.", "edition"),
    ("No.", "No."), ("no.", "no."), ("Nos.", "Nos."), ("nos.", "nos."), ("tsp.", "teaspoon"), ("tbsp.", "tablespoon"), ("a.m.", "A.M."), ("p.m.", "P.M."), ("Ph.D.", "P H D"), ("St.", "Street"),
];
/// Words before a Roman number that counts.
const COUNTED: &[&str] = &[
    "chapter", "part", "act", "scene", "section", "volume", "vol.", "book", "phase", "article", "war", "mark", "type",
    "level", "stage", "class", "grade", "bowl", "apollo", "gemini", "fantasy", "episode", "round", "rocky", "season",
    "appendix", "figure", "table", "title", "division",
];
/// Names before a Roman number that orders.
#[rustfmt::skip]
const RULERS: &[&str] = &[
    "pope", "king", "queen", "emperor", "henry", "louis", "edward", "george", "william", "charles", "james", "richard", "elizabeth", "napoleon", "pius", "benedict", "leo", "paul", "ramses", "ramesses",
    "frederick", "philip", "alexander", "nicholas", "peter", "catherine", "ivan", "umberto", "emmanuel", "gustav", "christian", "ferdinand", "john", "mary", "francis", "clement", "innocent", "gregory",
    "urban", "otto", "darius", "xerxes", "ptolemy", "wilhelm", "leopold", "alfonso", "harald", "olaf",
];
/// Spelled or said as such, also where all is in capitals.
#[rustfmt::skip]
const ACRONYMS: &[&str] = &[
    "USA", "UK", "EU", "UN", "UAE", "NASA", "NATO", "FBI", "CIA", "NSA", "IRS", "FDA", "WHO", "BBC", "CNN", "NBC", "ABC", "IBM", "AMD", "BMW", "HIV", "DNA", "RNA", "GPS", "GPU", "CPU", "RAM", "USB", "PDF", "FAQ",
    "API", "URL", "SQL", "HTML", "CSS", "JPEG", "PNG", "GIF", "TCP", "UDP", "IP", "HTTP", "DNS", "VPN", "SSH", "AI", "ML", "LLM", "TV", "PC", "ID", "DIY", "FYI", "ASAP", "ATM", "CEO", "CFO", "CTO", "HR", "PR",
    "VIP", "NBA", "NFL", "NHL", "FIFA", "UEFA", "LED", "LCD", "OK", "TTS",
];
const KEYS: &[(&str, &str)] = &[
    ("Ctrl", "Control"),
    ("Control", "Control"),
    ("Alt", "Alt"),
    ("Shift", "Shift"),
    ("Cmd", "Command"),
    ("Command", "Command"),
    ("Option", "Option"),
    ("Win", "Windows"),
    ("Fn", "Function"),
    ("Esc", "Escape"),
];
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    ("C++", "C plus plus"), ("C#", "C sharp"), ("F#", "F sharp"), (".NET", "dot net"), ("Node.js", "Node J S"),
    ("ASP.NET", "A S P dot net"), ("24/7", "24 7"), ("TCP/IP", "T C P I P"), ("24x7", "24 7"), ("I/O", "I O"),
    ("CO2", "C O 2"), ("H2O", "H 2 O"), ("Wi-Fi", "Wi-Fi"), ("and/or", "and or"),
];
/// Sounds, as an English reader would write them; the longer of two that begin alike first.
#[rustfmt::skip]
const SOUNDS: &[(&str, &str)] = &[
    ("tʃ", "ch"), ("dʒ", "j"), ("aɪ", "eye"), ("eɪ", "ay"), ("ɔɪ", "oy"), ("aʊ", "ow"), ("oʊ", "oh"), ("əʊ", "oh"), ("iː", "ee"), ("uː", "oo"), ("ɑː", "ah"), ("ɔː", "aw"), ("ɜː", "er"), ("ɝ", "er"), ("ɚ", "er"),
    ("ə", "uh"), ("ɪ", "i"), ("ʊ", "oo"), ("ɔ", "aw"), ("ɑ", "ah"), ("ɒ", "o"), ("ɛ", "e"), ("æ", "a"), ("ʌ", "u"), ("ɐ", "uh"), ("ɜ", "er"), ("ʃ", "sh"), ("ʒ", "zh"), ("θ", "th"), ("ð", "th"), ("ŋ", "ng"), ("ɹ", "r"), ("ɾ", "r"),
    ("ɡ", "g"), ("ʔ", ""), ("ç", "ch"), ("ø", "oe"), ("œ", "oe"), ("ɲ", "ny"), ("ʁ", "r"), ("ʀ", "r"), ("ɣ", "g"), ("β", "b"), ("χ", "kh"), ("ɬ", "l"), ("ʎ", "ly"), ("j", "y"), ("ˈ", ""), ("ˌ", ""), ("ː", ""),
];

pub(super) fn is_sign(word: &str) -> bool {
    SIGNS.iter().any(|(sign, _)| *sign == word)
}

/// Whether a word is known with the stop at its end, or another mark that is its own.
pub(super) fn is_short(word: &str) -> bool {
    if word == "<3" {
        return true;
    }
    SHORT.iter().chain(NAMES).any(|(short, _)| *short == word) || is_initials(word)
}

/// `U.S.A.`, `J.R.R.`
fn is_initials(word: &str) -> bool {
    let Some(letters) = word.strip_suffix('.').filter(|letters| letters.contains('.')) else { return false };
    letters.split('.').all(|part| part.len() == 1 && part.starts_with(|c: char| c.is_ascii_alphabetic()))
}

pub(super) fn sign(context: &Context<'_>) -> Option<Reading> {
    if context.core == "<3" {
        let is_variable = context.before.len() == 1 && !context.before.eq_ignore_ascii_case("i");
        return Reading::word(if is_variable { "is less than 3" } else { "love" });
    }
    let is_term =
        |word: &str| word.len() < 3 || word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '√' | '('));
    if context.core == "/" && context.before.is_empty() && context.next().starts_with(|c: char| c.is_ascii_digit()) {
        return Reading::word("over");
    }
    if matches!(context.core, "-" | "–" | "/") && !context.before.is_empty() && !context.next().is_empty() {
        let is_formula = is_term(context.next()) && (is_term(context.before) || context.said.ends_with("squared"));
        let name = if context.core == "/" { "over" } else { "minus" };
        return is_formula
            .then(|| Reading::word(name))
            .flatten()
            .or_else(|| Reading::word(if context.core == "/" { "or" } else { context.core }));
    }
    if context.said.ends_with("equals")
        && let Some(variable) = context.core.strip_prefix('-').filter(|rest| rest.len() == 1)
    {
        return Reading::word(format!("minus {variable}"));
    }
    let (_, said) = SIGNS.iter().find(|(sign, _)| *sign == context.core)?;
    // As the mark of an item, it is not said.
    if context.said.is_empty() && matches!(context.core, "→" | "->" | "=>" | ">" | "+" | "/") {
        return Reading::word("");
    }
    let is_amount = matches!(context.core, "#" | "€" | "$" | "£");
    if is_amount && context.next().starts_with(|c: char| c.is_ascii_digit()) && context.core != "#" {
        return None;
    }
    Reading::word(*said)
}

pub(super) fn read(context: &Context<'_>) -> Option<Reading> {
    file(context.core)
        .or_else(|| short(context))
        .or_else(|| roman(context))
        .or_else(|| keys(context.core))
        .or_else(|| strokes(context.core))
        .or_else(|| ampersand(context.core))
}

fn short(context: &Context<'_>) -> Option<Reading> {
    if let Some((_, said)) = NAMES.iter().find(|(name, _)| *name == context.core) {
        return Reading::word(*said);
    }
    let is_name_next = context.next().starts_with(char::is_uppercase);
    match context.core {
        "St." if is_name_next && !context.before.starts_with(char::is_uppercase) => return Reading::word("Saint"),
        "Dr." if !is_name_next && context.before.starts_with(char::is_uppercase) => return Reading::word("Drive"),
        "Co." | "No." | "no." | "Nos." | "nos." | "est." | "p." | "sec." | "fig." | "ed." | "ch."
            if context.next.is_empty() =>
        {
            return None;
        }
        "p." | "sec." if !context.next().starts_with(|c: char| c.is_ascii_digit()) => return None,
        _ => {}
    }
    let (written, said) = SHORT.iter().find(|(short, _)| *short == context.core)?;
    // A stop that ends the sentence is heard.
    let is_last = context.is_last && context.end.is_empty() && written.ends_with('.') && !said.ends_with('.');
    Reading::word(format!("{said}{}", if is_last { "." } else { "" }))
}

fn roman_value(text: &str) -> Option<u32> {
    let value = |c: char| {
        Some(match c {
            'I' => 1,
            'V' => 5,
            'X' => 10,
            'L' => 50,
            'C' => 100,
            _ => return None,
        })
    };
    let values: Vec<u32> = text.chars().map(value).collect::<Option<_>>()?;
    let (mut plus, mut minus) = (0, 0);
    for (at, value) in values.iter().enumerate() {
        match values.get(at + 1) {
            Some(next) if next > value => minus += value,
            _ => plus += value,
        }
    }
    let sum: u32 = u32::checked_sub(plus, minus)?;
    // Only as it is written today.
    (written_roman(sum) == text && sum > 0).then_some(sum)
}

fn written_roman(mut number: u32) -> String {
    let mut out = String::new();
    let steps = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")];
    for (value, letters) in steps {
        while number >= value {
            out.push_str(letters);
            number -= value;
        }
    }
    out
}

/// `Chapter IV`, `Louis XIV`, `World War II`, `Apollo XI`
fn roman(context: &Context<'_>) -> Option<Reading> {
    let (numeral, owner) = context
        .core
        .strip_suffix("'s")
        .or_else(|| context.core.strip_suffix("’s"))
        .map_or((context.core, ""), |core| (core, "'s"));
    if numeral.is_empty() || numeral.len() > 8 || !numeral.bytes().all(|byte| b"IVXLC".contains(&byte)) {
        return None;
    }
    let before = context.before.to_lowercase();
    let is_name = context.before.starts_with(char::is_uppercase) && context.before.len() > 1;
    let value = roman_value(numeral)?;
    if COUNTED.contains(&before.as_str()) {
        return Reading::word(format!("{value}{owner}"));
    }
    // "King Henry I think" is rare, "Henry I" is not.
    if is_name
        && RULERS.contains(&before.as_str())
        && (numeral.len() > 1
            || numeral != "I"
            || context.next.is_empty()
            || context.next().starts_with(|c: char| c.is_lowercase()))
    {
        return Reading::word(format!("the {}{owner}", ordinal(value)));
    }
    let is_plain = numeral.len() > 1
        && !["XX", "XXX", "XL", "CC", "CL", "CI", "LI", "CV", "CX", "LL"].contains(&numeral)
        && value < 40;
    (is_name && is_plain && context.before != context.before.to_uppercase())
        .then(|| Reading::word(format!("{value}{owner}")))
        .flatten()
}

/// `Ctrl+C`
fn keys(core: &str) -> Option<Reading> {
    let (first, rest) = core.split_once('+').filter(|(_, rest)| !rest.is_empty())?;
    let name = |key: &str| {
        KEYS.iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(key))
            .map_or_else(|| key.to_owned(), |(_, name)| (*name).to_owned())
    };
    let is_key = KEYS.iter().any(|(known, _)| known.eq_ignore_ascii_case(first));
    is_key
        .then(|| {
            Reading::word(std::iter::once(name(first)).chain(rest.split('+').map(name)).collect::<Vec<_>>().join(" "))
        })
        .flatten()
}

/// `A/B`, `he/she`, `TCP/IP`: words that a stroke parts.
fn strokes(core: &str) -> Option<Reading> {
    let parts: Vec<&str> = core.split('/').collect();
    let is_word =
        |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '\'' | '’'));
    (parts.len() > 1 && parts.iter().all(is_word)).then(|| Reading::word(parts.join(" "))).flatten()
}

/// `AT&T`, `R&D`
fn ampersand(core: &str) -> Option<Reading> {
    let parts: Vec<&str> = core.split('&').collect();
    if parts.len() < 2 || parts.iter().any(|part| part.is_empty() || !part.chars().all(char::is_alphanumeric)) {
        return None;
    }
    let spell = |part: &&str| match part.chars().count() < 3 && part.chars().all(char::is_uppercase) {
        true => part.chars().map(String::from).collect::<Vec<_>>().join(" "),
        false => (*part).to_owned(),
    };
    Reading::word(parts.iter().map(spell).collect::<Vec<_>>().join(" and "))
}

/// `/həˈloʊ/`, `[ˈwɔːtər]`: written as it sounds.
pub(super) fn phonetic(context: &Context<'_>) -> Option<Reading> {
    let core = context.core.trim_matches(['/', '[', ']']);
    let telling = |c: char| {
        matches!(
            c,
            'ə' | 'ɪ'
                | 'ʊ'
                | 'ɔ'
                | 'ɑ'
                | 'ɒ'
                | 'ɛ'
                | 'ʌ'
                | 'ɜ'
                | 'ɝ'
                | 'ɚ'
                | 'ʃ'
                | 'ʒ'
                | 'θ'
                | 'ŋ'
                | 'ɹ'
                | 'ɾ'
                | 'ʔ'
                | 'ˈ'
                | 'ˌ'
                | 'ː'
                | 'ɐ'
                | 'ɲ'
                | 'ʁ'
                | 'ɣ'
        )
    };
    if !core.contains(telling) || !core.contains(char::is_alphabetic) {
        return None;
    }
    let mut out = String::new();
    let mut rest = core;
    while let Some(c) = rest.chars().next() {
        let known = SOUNDS.iter().find(|(sound, _)| rest.starts_with(sound));
        let (length, said) = known.map_or((c.len_utf8(), None), |(sound, said)| (sound.len(), Some(*said)));
        match said {
            Some(said) => out.push_str(said),
            None if c == '.' => {}
            None => out.push(c),
        }
        rest = &rest[length..];
    }
    Reading::word(out)
}

/// Whether all of a sentence is in capitals: that is loud, not spelled.
pub(super) fn is_shouted(words: &[SpokenWord]) -> bool {
    let letters = |word: &SpokenWord| core_of(&word.text).1.chars().filter(|c| c.is_alphabetic()).count();
    if words.iter().any(|word| word.text.chars().any(char::is_lowercase)) {
        return false;
    }
    let long = words.iter().filter(|word| letters(word) > 1 && !is_acronym(core_of(&word.text).1)).count();
    let has_long = words.iter().any(|word| letters(word) > 3 && has_vowel(&word.text));
    long > 1 && has_long
}

fn has_vowel(word: &str) -> bool {
    word.contains(['A', 'E', 'I', 'O', 'U', 'Y'])
}

fn is_acronym(word: &str) -> bool {
    ACRONYMS.contains(&word)
}

/// A shouted word as it is said.
pub(super) fn unshouted(core: &str, context: &Context<'_>) -> String {
    let letters = core.chars().filter(|c| c.is_alphabetic()).count();
    let is_plain = letters > 1 && core.chars().all(|c| c.is_alphabetic() || matches!(c, '\'' | '’' | '-'));
    let is_half = matches!(core, "AM" | "PM") && is_digits(context.before);
    if core == "A" && !context.said.is_empty() {
        return "a".to_owned();
    }
    if !is_plain || is_half || is_acronym(core) || !has_vowel(core) {
        return core.to_owned();
    }
    let lower = core.to_lowercase();
    if !context.said.is_empty() {
        return lower;
    }
    let mut letters = lower.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Ends of files' names that are said as words.
const SPOKEN_ENDS: &[&str] =
    &["doc", "zip", "log", "java", "json", "toml", "yaml", "lock", "conf", "bin", "tar", "bak", "dat", "iso"];
/// Those that are spelled.
const SPELLED_ENDS: &[&str] = &[
    "txt", "md", "py", "rs", "js", "ts", "tsx", "html", "htm", "css", "cpp", "pdf", "docx", "xls", "xlsx", "csv",
    "png", "jpg", "jpeg", "gif", "mp3", "mp4", "wav", "exe", "sh", "xml", "ini", "cfg", "sql", "svg", "gz", "php",
    "rb", "go", "dll", "yml", "ppt", "pptx",
];

/// `README.md`
fn file(core: &str) -> Option<Reading> {
    let (name, end) = core.rsplit_once('.')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(plain) || !name.contains(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let end = match () {
        () if SPOKEN_ENDS.contains(&end) => end.to_owned(),
        () if SPELLED_ENDS.contains(&end) => end.to_uppercase().chars().map(String::from).collect::<Vec<_>>().join(" "),
        () => return None,
    };
    Reading::word(format!("{} dot {end}", name.replace('.', " dot ").replace(['_', '-'], " ")))
}
