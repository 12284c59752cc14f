//! How a word sounds: two dictionaries, and misaki's rules for endings, letters and words that depend on their neighbours.
//!
//! In here: words. Not in here: numbers (`lexicon::numerals`), words that no rule knows (`speller`).
//! Runs on: a thread of the voice.
//!
//! A port of the American half of `lexicon.py` of hibari 0.2.1, itself one of misaki's `en.py` (both Apache-2.0, see `g2p`).

mod numerals;

pub(super) use numerals::units;

use std::collections::HashMap;
use std::path::Path;

use super::stress::{PRIMARY, SECONDARY, restressed};
use super::token::Token;
use crate::speech::tts::hibari::{HibariError, files};

/// Flapped after these.
const BEFORE_FLAP: &str = "AIOWYiuæɑəɛɪɹʊʌ";
const SYMBOLS: [(&str, &str); 4] = [("%", "percent"), ("&", "and"), ("+", "plus"), ("@", "at")];

/// What comes after a word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    /// Whether the next sound is a vowel; `None` before a pause.
    pub vowel: Option<bool>,
    /// Whether the next word is "to".
    pub to: bool,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Entry {
    One(String),
    /// By part of speech.
    Several(HashMap<String, Option<String>>),
}

impl Entry {
    fn default(&self) -> Option<&str> {
        match self {
            Self::One(phonemes) => Some(phonemes),
            Self::Several(by_tag) => by_tag.get("DEFAULT")?.as_deref(),
        }
    }
}

struct Dictionary(HashMap<String, Entry>);

impl Dictionary {
    /// A word also answers to its other case, if that has no entry of its own.
    fn get(&self, word: &str) -> Option<&Entry> {
        if let Some(entry) = self.0.get(word) {
            return Some(entry);
        }
        let lower = word.to_lowercase();
        let capital = capitalized(&lower);
        if word.chars().nth(1).is_none() {
            None
        } else if word == lower {
            self.0.get(&capital)
        } else if word == capital {
            self.0.get(&lower)
        } else {
            None
        }
    }

    fn knows(&self, word: &str) -> bool {
        self.get(word).is_some()
    }
}

fn capitalized(lower: &str) -> String {
    let mut letters = lower.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(char::is_alphabetic)
}

fn is_upper(word: &str) -> bool {
    word == word.to_uppercase()
}

/// The coarser part of speech that dictionaries name.
fn parent_of(tag: &str) -> &str {
    match tag {
        tag if tag.starts_with("VB") => "VERB",
        tag if tag.starts_with("NN") => "NOUN",
        tag if tag.starts_with("ADV") || tag.starts_with("RB") => "ADV",
        tag if tag.starts_with("ADJ") || tag.starts_with("JJ") => "ADJ",
        tag => tag,
    }
}

/// A word to look up: how it is tagged, stressed and followed.
#[derive(Clone, Copy, Default)]
struct Use<'t> {
    tag: &'t str,
    stress: Option<f32>,
    context: Option<Context>,
}

impl Use<'_> {
    const PLAIN: Self = Use { tag: "", stress: None, context: None };
}

pub(super) struct Lexicon {
    gold: Dictionary,
    silver: Dictionary,
}

impl Lexicon {
    pub(super) fn load(folder: &Path) -> Result<Self, HibariError> {
        let dictionary = |file| Ok::<_, HibariError>(Dictionary(files::json(folder, file)?));
        Ok(Self { gold: dictionary(files::GOLD)?, silver: dictionary(files::SILVER)? })
    }

    /// How the token sounds, if a rule knows.
    pub(super) fn read(&self, token: &Token, context: Context) -> Option<String> {
        let text = token.alias.unwrap_or(&token.text).replace(['‘', '’'], "'");
        let word = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc().normalize(&text);
        let stress = match () {
            () if word == word.to_lowercase() => None,
            () if is_upper(&word) => Some(2.0),
            () => Some(0.5),
        };
        let used = Use { tag: &token.tag, stress, context: Some(context) };
        match self.word(&word, used, context) {
            Some(phonemes) => Some(self.with_currency(phonemes, token.currency)),
            None if numerals::is_number(&word, token.is_head) => self.number(&word, token.currency, token.is_head),
            None => None,
        }
    }

    fn word(&self, word: &str, used: Use<'_>, context: Context) -> Option<String> {
        if let Some(phonemes) = self.special(word, used, context) {
            return Some(phonemes);
        }
        let lower = word.to_lowercase();
        let word = if self.is_lower_in_disguise(word, &lower, used) { &lower } else { word };
        if self.is_known(word) {
            return self.look_up(word, used);
        }
        if let Some(owner) = word.strip_suffix("s'").map(|stem| format!("{stem}'s"))
            && self.is_known(&owner)
        {
            return self.look_up(&owner, used);
        }
        if let Some(stem) = word.strip_suffix('\'').filter(|stem| self.is_known(stem)) {
            return self.look_up(stem, used);
        }
        let stressed = Use { stress: used.stress.or(Some(0.5)), ..used };
        self.with_s(word, used).or_else(|| self.with_ed(word, used)).or_else(|| self.with_ing(word, stressed))
    }

    /// Whether a capitalised word without entry of its own is known in lower case.
    fn is_lower_in_disguise(&self, word: &str, lower: &str, used: Use<'_>) -> bool {
        let long = word.chars().count();
        long > 1
            && is_word(&word.replace('\'', ""))
            && word != lower
            && (used.tag != "NNP" || long > 7 || (is_upper(word) && self.is_common(lower)))
            && !self.gold.knows(word)
            && !self.silver.knows(word)
            && (is_upper(word) || word.chars().skip(1).eq(lower.chars().skip(1)))
            && (self.gold.knows(lower)
                || self.silver.knows(lower)
                || self.with_s(lower, used).is_some_and(|phonemes| !phonemes.is_empty())
                || self.with_ed(lower, used).is_some_and(|phonemes| !phonemes.is_empty())
                || self.with_ing(lower, used).is_some_and(|phonemes| !phonemes.is_empty()))
    }

    /// Whether a word in capitals is one that is written so for loudness, not letters that stand for others: "DOORS", "VERY",
    /// but not "CDS". A tagger takes both for names.
    fn is_common(&self, lower: &str) -> bool {
        let long = lower.chars().count();
        let known = |phonemes: Option<String>| phonemes.is_some_and(|phonemes| !phonemes.is_empty());
        let has_vowel = lower.contains(['a', 'e', 'i', 'o', 'u', 'y']);
        let is_form = || {
            let used = Use::PLAIN;
            known(self.with_s(lower, used)) || known(self.with_ed(lower, used)) || known(self.with_ing(lower, used))
        };
        has_vowel && ((long > 4 && self.silver.knows(lower)) || (long > 3 && is_form()))
    }

    /// Words whose sound hangs on their neighbours, signs, and abbreviations with stops.
    fn special(&self, word: &str, used: Use<'_>, context: Context) -> Option<String> {
        let Use { tag, stress, .. } = used;
        let symbol = SYMBOLS.iter().find(|(symbol, _)| *symbol == word);
        let fixed = |phonemes: &str| Some(phonemes.to_owned());
        let gold = |word: &str| self.gold.get(word).and_then(Entry::default).map(str::to_owned);
        match word {
            "." | "/" if tag == "ADD" => {
                let name = if word == "." { "dot" } else { "slash" };
                self.look_up(name, Use { tag: "", stress: Some(-0.5), ..used })
            }
            _ if let Some((_, name)) = symbol => self.look_up(name, Use { tag: "", stress: None, ..used }),
            _ if is_dotted(word) => self.letters(word),
            "a" | "A" => fixed(if tag == "DT" { "ɐ" } else { "ˈA" }),
            "am" | "Am" | "AM" if tag.starts_with("NN") => self.letters(word),
            "am" | "Am" | "AM"
                if context.vowel.is_none() || word != "am" || stress.is_some_and(|stress| stress > 0.0) =>
            {
                gold("am")
            }
            "am" => fixed("ɐm"),
            "AN" if tag.starts_with("NN") => self.letters(word),
            "an" | "An" | "AN" => fixed("ɐn"),
            "I" if tag == "PRP" => fixed("ˌI"),
            "by" | "By" | "BY" if parent_of(tag) == "ADV" => fixed("bˈI"),
            "to" | "To" | "TO" if word != "TO" || ["TO", "IN"].contains(&tag) => match context.vowel {
                None => gold("to"),
                Some(false) => fixed("tə"),
                Some(true) => fixed("tʊ"),
            },
            "in" | "In" | "IN" if word != "IN" || tag != "NNP" => {
                fixed(if context.vowel.is_none() || tag != "IN" { "ˈɪn" } else { "ɪn" })
            }
            "the" | "The" | "THE" if word != "THE" || tag == "DT" => {
                fixed(if context.vowel == Some(true) { "ði" } else { "ðə" })
            }
            _ if tag == "IN" && ["vs", "vs."].contains(&word.to_lowercase().as_str()) => {
                self.look_up("versus", Use { tag: "", stress: None, ..used })
            }
            "used" | "Used" | "USED" => match self.gold.get("used") {
                Some(Entry::Several(by_tag)) if ["VBD", "JJ"].contains(&tag) && context.to => {
                    by_tag.get("VBD").cloned().flatten()
                }
                _ => gold("used"),
            },
            _ => None,
        }
    }

    fn is_known(&self, word: &str) -> bool {
        if self.gold.knows(word) || self.silver.knows(word) || SYMBOLS.iter().any(|(symbol, _)| *symbol == word) {
            return true;
        }
        if word.is_empty() || !word.chars().all(|letter| letter.is_ascii_alphabetic()) {
            return false;
        }
        // Letters that can be spelled.
        word.len() == 1 || (is_upper(word) && self.gold.knows(&word.to_lowercase())) || is_upper(&word[1..])
    }

    fn look_up(&self, word: &str, used: Use<'_>) -> Option<String> {
        let lower = word.to_lowercase();
        let shouted = is_upper(word) && !self.gold.knows(word);
        let (word, is_name) = if shouted { (lower.as_str(), used.tag == "NNP") } else { (word, false) };
        let entry = self.gold.get(word).or_else(|| if is_name { None } else { self.silver.get(word) });
        let phonemes = match entry {
            None => None,
            Some(Entry::One(phonemes)) => Some(phonemes.as_str()),
            Some(Entry::Several(by_tag)) => {
                let at_a_pause = used.context.is_some_and(|context| context.vowel.is_none());
                let tag = match used.tag {
                    _ if at_a_pause && by_tag.contains_key("None") => "None",
                    tag if by_tag.contains_key(tag) => tag,
                    tag => parent_of(tag),
                };
                by_tag.get(tag).or_else(|| by_tag.get("DEFAULT")).and_then(Option::as_deref)
            }
        };
        if phonemes.is_none_or(|phonemes| is_name && !phonemes.contains(PRIMARY))
            && let Some(letters) = self.letters(word)
        {
            return Some(letters);
        }
        phonemes.map(|phonemes| restressed(phonemes, used.stress))
    }

    /// Spelled, the last letter with the stress.
    fn letters(&self, word: &str) -> Option<String> {
        let mut all = String::new();
        for letter in word.chars().filter(|letter| letter.is_alphabetic()) {
            let name: String = letter.to_uppercase().collect();
            all.push_str(self.gold.get(&name)?.default()?);
        }
        let all = restressed(&all, Some(0.0));
        Some(match all.rsplit_once(SECONDARY) {
            Some((before, after)) => format!("{before}{PRIMARY}{after}"),
            None => all,
        })
    }

    fn with_s(&self, word: &str, used: Use<'_>) -> Option<String> {
        let long = word.chars().count();
        let known = |stem: &&str| self.is_known(stem);
        let stem = word.strip_suffix('s').filter(|_| long >= 3)?;
        let one = Some(stem).filter(|_| !word.ends_with("ss")).filter(known).map(str::to_owned);
        let two = || {
            let es = long > 4 && word.ends_with("es") && !word.ends_with("ies");
            let stem = stem.strip_suffix('\'').or(stem.strip_suffix('e').filter(|_| es));
            stem.filter(known).map(str::to_owned)
        };
        let three = || {
            let stem = stem.strip_suffix("ie").filter(|_| long > 4).map(|stem| format!("{stem}y"));
            stem.filter(|stem| self.is_known(stem))
        };
        s(&self.look_up(&one.or_else(two).or_else(three)?, used)?)
    }

    fn with_ed(&self, word: &str, used: Use<'_>) -> Option<String> {
        let long = word.chars().count();
        let stem = word.strip_suffix('d').filter(|_| long >= 4)?;
        let known = |stem: &&str| self.is_known(stem);
        let one = Some(stem).filter(|_| !word.ends_with("dd")).filter(known);
        let two = || stem.strip_suffix('e').filter(|stem| long > 4 && !stem.ends_with('e')).filter(known);
        ed(&self.look_up(one.or_else(two)?, used)?)
    }

    fn with_ing(&self, word: &str, used: Use<'_>) -> Option<String> {
        let long = word.chars().count();
        let stem = word.strip_suffix("ing").filter(|_| long >= 5)?;
        let known = |stem: &String| self.is_known(stem);
        let one = Some(stem.to_owned()).filter(|_| long > 5).filter(known);
        let two = || Some(format!("{stem}e")).filter(known);
        let three = || {
            let mut letters = stem.chars().rev();
            let (last, before) = (letters.next()?, letters.next()?);
            let doubled = (last == before && "bcdgklmnprstvxz".contains(last)) || (last == 'k' && before == 'c');
            let shorter = &stem[..stem.len() - last.len_utf8()];
            Some(shorter.to_owned()).filter(|_| doubled && long > 5).filter(known)
        };
        ing(&self.look_up(&one.or_else(two).or_else(three)?, used)?)
    }
}

/// "U.S." and its like, spelled with stops.
fn is_dotted(word: &str) -> bool {
    word.trim_matches('.').contains('.')
        && is_word(&word.replace('.', ""))
        && word.split('.').all(|part| part.chars().count() < 3)
}

/// The last two sounds, the last first.
fn last_two(stem: &str) -> Option<(char, Option<char>)> {
    let mut sounds = stem.chars().rev();
    Some((sounds.next()?, sounds.next()))
}

fn s(stem: &str) -> Option<String> {
    let end = match last_two(stem)?.0 {
        'p' | 't' | 'k' | 'f' | 'θ' => "s",
        's' | 'z' | 'ʃ' | 'ʒ' | 'ʧ' | 'ʤ' => "ᵻz",
        _ => "z",
    };
    Some(format!("{stem}{end}"))
}

fn ed(stem: &str) -> Option<String> {
    Some(match last_two(stem)? {
        ('p' | 'k' | 'f' | 'θ' | 'ʃ' | 's' | 'ʧ', _) => format!("{stem}t"),
        ('d', _) => format!("{stem}ᵻd"),
        ('t', None) => format!("{stem}ɪd"),
        ('t', Some(before)) if BEFORE_FLAP.contains(before) => format!("{}ɾᵻd", &stem[..stem.len() - 1]),
        ('t', _) => format!("{stem}ᵻd"),
        _ => format!("{stem}d"),
    })
}

fn ing(stem: &str) -> Option<String> {
    Some(match last_two(stem)? {
        ('t', Some(before)) if BEFORE_FLAP.contains(before) => format!("{}ɾɪŋ", &stem[..stem.len() - 1]),
        _ => format!("{stem}ɪŋ"),
    })
}
