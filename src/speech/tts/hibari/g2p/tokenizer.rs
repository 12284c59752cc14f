//! Cuts a text into words and marks, as spaCy does for English.
//!
//! In here: marks before, after and within what spaces separate, and what must stay whole. Not in here: parts of words
//! (`g2p`). Runs on: a thread of the voice.
//!
//! A port of `tokenize.py` of hibari 0.2.1 (Apache-2.0, see `g2p`), which follows spaCy's rules (MIT).

use std::collections::HashMap;
use std::path::Path;

use super::pattern::Pattern;
use crate::speech::tts::hibari::{HibariError, files};

const LOWER: &str = "a-zß-öø-ÿ";
const UPPER: &str = "A-ZÀ-ÖØ-Þ";
const LETTER: &str = r"[^\W\d_]";
const QUOTES: &str = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉";
const MARKS: &str = "…,:;!?¿¡()[]{}<>_#*&。？！，、；：～·";
const ICONS: &str = "[™®©°§¶†‡•]";
const CURRENCIES: &str = r"\$|£|€|¥|฿|US\$|C\$|A\$|₽|₹|₩|₪|₺|₴|₦|₫|₱|₲|₵|₸|₼|₾|₿";
const UNITS: &str = "km|km²|km³|m|m²|m³|dm|dm²|dm³|cm|cm²|cm³|mm|mm²|mm³|ha|µm|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h\
                     |kmh|mph|hPa|Pa|mbar|mb|MB|kb|KB|gb|GB|tb|TB|T|G|M|K|%";
const ADDRESS: &str = r"(?i)^(?:(?:https?|ftp)://|www\.)\S+$|^[\w.+-]+@[\w-]+(?:\.[\w-]+)+$|^(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|co|uk|de|fr|info|biz|us|ca|au|tv|me|ly|ai)(?:/\S*)?$";

pub(super) struct Tokenizer {
    /// What is cut otherwise, or not at all.
    special: HashMap<String, Vec<String>>,
    prefix: Pattern,
    suffix: Pattern,
    infix: Pattern,
    address: Pattern,
}

/// The signs as alternatives, each escaped.
fn each(signs: &str) -> impl Iterator<Item = String> {
    signs.chars().map(|sign| escape(&sign.to_string()))
}

fn escape(signs: &str) -> String {
    fancy_regex::escape(signs).into_owned()
}

impl Tokenizer {
    pub(super) fn load(folder: &Path) -> Result<Self, HibariError> {
        let own = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        let mut prefixes = own(&["§", "%", "=", "—", "–", r"\+(?![0-9])", "…", "……"]);
        prefixes.extend(each(MARKS));
        prefixes.extend(own(&[r"\.\.+", "…"]));
        prefixes.extend(each(QUOTES));
        prefixes.extend(own(&[CURRENCIES, ICONS]));

        let mut suffixes = own(&["…", "……"]);
        suffixes.extend(each(MARKS));
        suffixes.extend(own(&[r"\.\.+", "…"]));
        suffixes.extend(each(QUOTES));
        suffixes.extend(own(&[ICONS, "'s", "'S", "’s", "’S", "—", "–", r"(?<=[0-9])\+", r"(?<=°[FfCcKk])\."]));
        let (marks, quotes) = (escape(MARKS), escape(QUOTES));
        suffixes.extend([
            format!("(?<=[0-9])(?:{CURRENCIES})"),
            format!("(?<=[0-9])(?:{UNITS})"),
            format!(r"(?<=[0-9{LOWER}%²\-\+{marks}{quotes}])\."),
            format!(r"(?<=[{UPPER}][{UPPER}])\."),
        ]);
        let infixes = [
            r"\.\.+".to_owned(),
            "…".to_owned(),
            ICONS.to_owned(),
            r"(?<=[0-9])[+\-\*^](?=[0-9-])".to_owned(),
            format!(r"(?<=[{LOWER}{quotes}])\.(?=[{UPPER}{quotes}])"),
            format!("(?<={LETTER}),(?={LETTER})"),
            format!(r"(?<=[^\W_])(?:-|–|—|--|---|——|~)(?={LETTER})"),
            format!(r"(?<=[^\W_])[:<>=/](?={LETTER})"),
        ];
        Ok(Self {
            special: files::json(folder, files::EXCEPTIONS)?,
            prefix: Pattern::new(&format!("^(?:{})", prefixes.join("|")))?,
            suffix: Pattern::new(&format!("(?:{})$", suffixes.join("|")))?,
            infix: Pattern::new(&infixes.join("|"))?,
            address: Pattern::new(ADDRESS)?,
        })
    }

    /// The tokens, each with whether space comes after it.
    pub(super) fn cut(&self, text: &str) -> Vec<(String, bool)> {
        let mut tokens = Vec::new();
        let end = text.trim_end();
        for chunk in text.split_whitespace() {
            tokens.extend(self.cut_chunk(chunk).into_iter().map(|token| (token, false)));
            if let Some((_, space)) = tokens.last_mut() {
                *space = true;
            }
        }
        if let Some((_, space)) = tokens.last_mut() {
            *space = end.len() < text.len();
        }
        tokens
    }

    fn cut_chunk(&self, chunk: &str) -> Vec<String> {
        if let Some(tokens) = self.special.get(chunk) {
            return tokens.clone();
        }
        let (mut tokens, mut behind) = (Vec::new(), Vec::new());
        let core = self.peel(chunk, &mut tokens, &mut behind);
        if let Some(special) = self.special.get(core) {
            tokens.extend(special.iter().cloned());
        } else if self.address.find(core).is_some() {
            tokens.push(core.to_owned());
        } else {
            let mut from = 0;
            for infix in self.infix.find_all(core).into_iter().filter(|infix| infix.start > 0 && !infix.is_empty()) {
                if infix.start > from {
                    tokens.push(core[from..infix.start].to_owned());
                }
                from = infix.end;
                tokens.push(core[infix].to_owned());
            }
            if from < core.len() {
                tokens.push(core[from..].to_owned());
            }
        }
        tokens.extend(behind.into_iter().rev());
        if tokens.len() > 1 { self.rejoin(&tokens) } else { tokens }
    }

    /// Takes marks off both ends; what is left may be empty.
    fn peel<'t>(&self, chunk: &'t str, before: &mut Vec<String>, behind: &mut Vec<String>) -> &'t str {
        let mut core = chunk;
        while !core.is_empty() && !self.special.contains_key(core) {
            let prefix = self.prefix.find(core).map_or(0, |found| found.end);
            if prefix > 0 && self.special.contains_key(&core[prefix..]) {
                before.push(core[..prefix].to_owned());
                return &core[prefix..];
            }
            // Behind the prefix, so that what a suffix looks back at is not in it.
            let suffix = self.suffix.find(&core[prefix..]).map_or(0, |found| found.len());
            let start = core.len() - suffix;
            if suffix > 0 && self.special.contains_key(&core[..start]) {
                behind.push(core[start..].to_owned());
                return &core[..start];
            }
            if prefix == 0 && suffix == 0 {
                break;
            }
            let (from, to) = if prefix + suffix <= core.len() { (prefix, start) } else { (prefix, core.len()) };
            if from > 0 {
                before.push(core[..from].to_owned());
            }
            if to < core.len() {
                behind.push(core[to..].to_owned());
            }
            core = &core[from..to];
        }
        core
    }

    /// Neighbours that together are special are cut as that: "Sept" and "." are one.
    fn rejoin(&self, tokens: &[String]) -> Vec<String> {
        let mut joined = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let special = [3, 2].into_iter().find_map(|count| {
                let cut = self.special.get(&tokens.get(at..at + count)?.concat())?;
                Some((count, cut.as_slice()))
            });
            let (count, cut) = special.unwrap_or((1, &tokens[at..=at]));
            joined.extend_from_slice(cut);
            at += count;
        }
        joined
    }
}
