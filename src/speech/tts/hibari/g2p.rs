//! From English text to the symbols that the acoustic network knows: misaki's phonemes.
//!
//! In here: the way of a sentence through its steps, and words that are made of parts. The steps have their own files:
//! `readings` writes out dates and units, `tokenizer` cuts, `tagger` finds parts of speech, `lexicon` reads words and
//! numbers, `speller` reads what no lexicon has. Not in here: sound. Runs on: a thread of the voice.
//!
//! A port of `g2p/` of hibari 0.2.1 (Copyright 2026 Maureese Williams, Apache-2.0), which is after misaki (hexgrad,
//! Apache-2.0) and spaCy (ExplosionAI, MIT). Their licence and notice lie beside the voice's files. What changed: only
//! the American half is here, and no phonemes can be written into a text.

mod lexicon;
mod pattern;
mod readings;
mod speller;
mod stress;
mod tagger;
mod token;
mod tokenizer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rten::ThreadPool;

use self::lexicon::{Context, Lexicon, units};
use self::pattern::Pattern;
use self::readings::Readings;
use self::speller::Speller;
use self::stress::{PRIMARY, is_vowel, restressed, weight};
use self::tagger::Tagger;
use self::token::{Token, merge, phonemes_of, text_of};
use self::tokenizer::Tokenizer;
use super::{HibariError, files};

/// Parts of a token: what case, digits, hyphens and apostrophes part.
const PARTS: &str = r"^['‘’]+|[A-ZÀ-ÖØ-Þ](?=[A-ZÀ-ÖØ-Þ][a-zß-öø-ÿ])|(?:^-)?(?:\d?[,.]?\d)+|[-_]+|['‘’]{2,}|[^\W\d_]*?(?:['‘’][^\W\d_])*?[a-zß-öø-ÿ](?=[A-ZÀ-ÖØ-Þ])|[^\W\d_]+(?:['‘’][^\W\d_])*|[^\w\-'‘’]|['‘’]+$";
/// Of a word that nobody knows: letters, digits, signs.
const PIECES: &str = r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+(?:[,.]\d+)*|[^\w\s]+";
/// Silent between the parts of a word.
const JUNK: &str = "',-._‘’/";
const PAUSES: &str = ";:,.!?—…";
const QUOTES: &str = "\"“”";
const CONSONANTS: &str = "bdfhjklmnpstvwzðŋɡɹɾʃʒʤʧθ";
const MARKS: [&str; 11] = [".", ",", "-LRB-", "-RRB-", "``", "\"\"", "''", ":", "$", "#", "NFP"];
/// Phonemes that the network is given at once: about twelve seconds of speech. Longer sentences are cut where they pause, so
/// that nobody waits long for the voice, and because the network drifts.
const LONGEST: usize = 200;
/// At both ends of what the network gets.
const EDGE: i32 = 0;

/// What is heard of a text, and with which phoneme what stands between white space begins.
pub(super) struct Phonemes {
    pub phonemes: String,
    pub begins: Vec<usize>,
}

/// What the network is given at once.
#[derive(Debug, Default)]
pub(super) struct Phrase {
    pub symbols: Vec<i32>,
    /// With which symbol each of its words begins.
    pub words: Vec<usize>,
    /// Whether the sentence pauses after it.
    pub pauses: bool,
}

pub(super) struct G2p {
    readings: Readings,
    tokenizer: Tokenizer,
    tagger: Tagger,
    lexicon: Lexicon,
    speller: Speller,
    parts: Pattern,
    pieces: Pattern,
    symbols: HashMap<char, i32>,
}

impl G2p {
    pub(super) fn load(folder: &Path, pool: &Arc<ThreadPool>) -> Result<Self, HibariError> {
        Ok(Self {
            readings: Readings::load(folder)?,
            tokenizer: Tokenizer::load(folder)?,
            tagger: Tagger::load(folder)?,
            lexicon: Lexicon::load(folder)?,
            speller: Speller::load(folder, pool)?,
            parts: Pattern::new(PARTS)?,
            pieces: Pattern::new(PIECES)?,
            symbols: files::json(folder, files::SYMBOLS)?,
        })
    }

    /// What the network is to be given, in phrases that are not too long for it. They know with which symbol each word of the
    /// text begins, if its words are not written out as more or fewer.
    pub(super) fn phrases(&self, text: &str) -> Result<Vec<Phrase>, HibariError> {
        let Phonemes { phonemes, begins } = self.phonemes(text)?;
        let known = |sound: char| self.symbols.get(&sound).copied();
        let knows_words = begins.len() == text.split_whitespace().count();
        let mut begins = begins.into_iter().filter(|_| knows_words).peekable();
        let (mut phrases, mut end) = (Vec::new(), 0);
        for sounds in phrases_of(&phonemes) {
            let mut phrase = Phrase { symbols: vec![EDGE], ..Phrase::default() };
            for sound in sounds.chars() {
                while begins.next_if(|begin| *begin <= end).is_some() {
                    phrase.words.push(phrase.symbols.len());
                }
                end += 1;
                // A space begins no phrase.
                if sound != ' ' || phrase.symbols.len() > 1 {
                    phrase.symbols.extend(known(sound));
                }
            }
            while phrase.symbols.len() > 1 && phrase.symbols.last().copied() == known(' ') {
                phrase.symbols.pop();
            }
            phrase.symbols.push(EDGE);
            phrase.pauses = sounds.trim_end().ends_with(|last| PAUSES.contains(last));
            if phrase.symbols.len() > 2 {
                phrases.push(phrase);
            }
        }
        if let Some(last) = phrases.last_mut() {
            last.words.extend(begins.map(|_| last.symbols.len() - 1));
        }
        Ok(phrases)
    }

    pub(super) fn phonemes(&self, text: &str) -> Result<Phonemes, HibariError> {
        let text = self.readings.write_out(text);
        let cut = self.tokenizer.cut(&text);
        let tags = self.tagger.tag(&cut.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>());
        let token = |((text, space), tag)| Token { text, space, tag, is_head: true, ..Token::default() };
        let tokens: Vec<Token> = cut.into_iter().zip(tags).map(token).collect();
        let mut words = self.words(&tokens);
        let mut context = Context::default();
        for word in words.iter_mut().rev() {
            context = match &mut word[..] {
                [token] => self.read_token(token, context)?,
                parts => self.read_parts(parts, context)?,
            };
        }
        let (mut phonemes, mut begins, mut is_first) = (String::new(), Vec::new(), true);
        for word in &words {
            if is_first {
                begins.push(phonemes.chars().count());
            }
            phonemes.push_str(&phonemes_of(word));
            is_first = word.last().is_some_and(|token| token.space);
            if is_first {
                phonemes.push(' ');
            }
        }
        let before = phonemes.chars().take_while(|sound| sound.is_whitespace()).count();
        begins.iter_mut().for_each(|begin| *begin = begin.saturating_sub(before));
        Ok(Phonemes { phonemes: phonemes.trim().replace('ɾ', "T").replace('ʔ', "t"), begins })
    }

    /// The tokens' parts, those together that make one word; marks and signs of currencies have their phonemes.
    fn words(&self, tokens: &[Token]) -> Vec<Vec<Token>> {
        let mut words: Vec<(Vec<Token>, bool)> = Vec::new();
        let mut currency = None;
        for (at, token) in tokens.iter().enumerate() {
            let ends_amount = tokens.get(at + 1).is_none_or(|next| next.tag != "CD");
            let texts: Vec<&str> = self.parts.find_all(&token.text).into_iter().map(|part| &token.text[part]).collect();
            let last = texts.len().saturating_sub(1);
            for (nth, text) in texts.iter().enumerate() {
                let mut part = Token { text: (*text).to_owned(), space: token.space && nth == last, ..token.clone() };
                if let Some(sign) = currency_sign(&part) {
                    currency = Some(sign);
                    part.phonemes = Some(String::new());
                } else if let Some(mark) = mark(&part) {
                    part.phonemes = Some(mark);
                } else if currency.is_some() {
                    if part.tag != "CD" {
                        currency = None;
                    } else if nth == last && ends_amount {
                        part.currency = currency;
                    }
                } else if part.text == "2"
                    && 0 < nth
                    && nth < last
                    && is_between_letters(texts[nth - 1], texts[nth + 1])
                {
                    part.alias = Some("to");
                }
                let fixed = part.alias.is_some() || part.phonemes.is_some();
                match words.last_mut() {
                    Some((word, true)) if !fixed && word.last().is_some_and(|before| !before.space) => {
                        part.is_head = false;
                        word.push(part);
                    }
                    _ => {
                        let is_open = !fixed && !part.space;
                        words.push((vec![part], is_open));
                    }
                }
            }
        }
        words.into_iter().map(|(word, _)| word).collect()
    }

    fn read_token(&self, token: &mut Token, context: Context) -> Result<Context, HibariError> {
        if token.phonemes.is_none() {
            token.phonemes = self.lexicon.read(token, context);
        }
        if token.phonemes.is_none() {
            token.phonemes = Some(self.spell(&token.text)?);
        }
        Ok(before(context, token.phonemes.as_deref().unwrap_or_default(), token))
    }

    /// A word of several parts: the longest runs of them that the lexicon knows, from the end on; all of it spelled if
    /// one is not known.
    fn read_parts(&self, parts: &mut [Token], mut context: Context) -> Result<Context, HibariError> {
        let (mut left, mut right) = (0, parts.len());
        while left < right {
            let is_free = parts[left..right].iter().all(|part| part.alias.is_none() && part.phonemes.is_none());
            let run = is_free.then(|| merge(&parts[left..right]));
            let read = run.and_then(|run| Some((self.lexicon.read(&run, context)?, run)));
            if let Some((phonemes, run)) = read {
                context = before(context, &phonemes, &run);
                parts[left..right].iter_mut().for_each(|part| part.phonemes = Some(String::new()));
                parts[left].phonemes = Some(phonemes);
                (left, right) = (0, left);
            } else if left + 1 < right {
                left += 1;
            } else {
                right -= 1;
                left = 0;
                if parts[right].phonemes.is_none() {
                    if !parts[right].text.chars().all(|c| JUNK.contains(c)) {
                        let spelled = self.spell(&merge(parts).text)?;
                        parts.iter_mut().for_each(|part| part.phonemes = Some(String::new()));
                        parts[0].phonemes = Some(spelled);
                        return Ok(context);
                    }
                    parts[right].phonemes = Some(String::new());
                }
            }
        }
        balance(parts);
        Ok(context)
    }

    /// A word that no rule knows, or signs.
    fn spell(&self, text: &str) -> Result<String, HibariError> {
        let mut said = Vec::new();
        for piece in self.pieces.find_all(text) {
            let piece = &text[piece];
            let phonemes = match piece.chars().next() {
                Some(first) if first.is_numeric() => self.lexicon.number(piece, None, false).unwrap_or_default(),
                Some(first) if first.is_alphabetic() => self.speller.read(piece)?,
                _ => piece.chars().map(sign_name).collect(),
            };
            if !phonemes.is_empty() {
                said.push(phonemes);
            }
        }
        Ok(said.join(" "))
    }
}

fn currency_sign(part: &Token) -> Option<char> {
    let sign = part.text.chars().next().filter(|_| part.tag == "$")?;
    (part.text.chars().count() == 1 && units(sign).is_some()).then_some(sign)
}

/// The phonemes of a mark, empty for one that is not heard.
fn mark(part: &Token) -> Option<String> {
    if part.tag == ":" && ["-", "–"].contains(&part.text.as_str()) {
        return Some("—".to_owned());
    }
    let is_word = part.text.chars().all(|c| c.is_ascii_alphabetic());
    if is_word || !MARKS.contains(&part.tag.as_str()) {
        return None;
    }
    Some(match part.tag.as_str() {
        "-LRB-" => "(".to_owned(),
        "-RRB-" => ")".to_owned(),
        "``" => "“".to_owned(),
        "\"\"" | "''" => "”".to_owned(),
        _ => part.text.chars().filter(|&c| PAUSES.contains(c) || QUOTES.contains(c)).collect(),
    })
}

fn is_between_letters(before: &str, after: &str) -> bool {
    before.ends_with(char::is_alphabetic) && after.starts_with(char::is_alphabetic)
}

/// What the word before this one has to know.
fn before(after: Context, phonemes: &str, token: &Token) -> Context {
    let first = phonemes.chars().find(|&c| is_vowel(c) || CONSONANTS.contains(c) || PAUSES.contains(c));
    let vowel = match first {
        None => after.vowel,
        Some(pause) if PAUSES.contains(pause) => None,
        Some(sound) => Some(is_vowel(sound)),
    };
    let to = match token.text.as_str() {
        "to" | "To" => true,
        "TO" => ["TO", "IN"].contains(&token.tag.as_str()),
        _ => false,
    };
    Context { vowel, to }
}

/// Marks within a word, and fewer stresses than parts.
fn balance(parts: &mut [Token]) {
    let text = text_of(parts);
    let kind = |c: char| match c {
        c if c.is_alphabetic() => 0,
        c if c.is_ascii_digit() => 1,
        _ => 2,
    };
    let mut kinds = text.chars().filter(|&c| !JUNK.contains(c)).map(kind);
    let is_mixed = kinds.next().is_some_and(|first| kinds.any(|kind| kind != first));
    let is_apart = is_mixed || text.contains([' ', '/']);
    let last = parts.len() - 1;
    for (at, part) in parts.iter_mut().enumerate() {
        let is_pause = part.text.chars().count() == 1 && PAUSES.contains(&part.text);
        if part.phonemes.is_some() {
            part.prespace |= at > 0 && is_apart;
        } else if at == last && is_pause {
            part.phonemes = Some(part.text.clone());
        } else if part.text.chars().all(|c| JUNK.contains(c)) {
            part.phonemes = Some(String::new());
        }
    }
    if is_apart {
        return;
    }
    let heard = |(at, part): (usize, &Token)| {
        let phonemes = part.phonemes.as_deref().filter(|phonemes| !phonemes.is_empty())?;
        Some((phonemes.contains(PRIMARY), weight(phonemes), at))
    };
    let mut heard: Vec<_> = parts.iter().enumerate().filter_map(heard).collect();
    let stressed = heard.iter().filter(|(is_stressed, ..)| *is_stressed).count();
    let weaker = match heard[..] {
        [(.., first), (.., second)] if parts[first].text.chars().count() == 1 => vec![second],
        _ if heard.len() < 2 || stressed <= heard.len().div_ceil(2) => return,
        _ => {
            heard.sort_unstable();
            heard[..heard.len() / 2].iter().map(|(.., at)| *at).collect()
        }
    };
    for at in weaker {
        parts[at].phonemes = parts[at].phonemes.as_deref().map(|phonemes| restressed(phonemes, Some(-0.5)));
    }
}

const fn sign_name(sign: char) -> &'static str {
    match sign {
        '/' => "slˈæʃ",
        '=' => "ˈikwᵊlz",
        '+' => "plˈʌs",
        '&' => "ænd",
        '@' => "æt",
        '%' => "pəɹsˈɛnt",
        '#' => "hˈæʃ",
        '*' => "ˈæstəɹˌɪsk",
        '~' => "tˈɪldə",
        '^' => "kˈɛɹət",
        '<' => "lˈɛs ðən",
        '>' => "ɡɹˈATəɹ ðən",
        '—' => "—",
        _ => "",
    }
}

/// Cut behind clauses where all is longer than the network is given at once, behind words where even a clause is, and
/// within words where even one is. All together they are the phonemes.
fn phrases_of(phonemes: &str) -> Vec<String> {
    let long = |text: &str| text.chars().count();
    let whole = long(phonemes);
    if whole <= LONGEST {
        return vec![phonemes.to_owned()];
    }
    // Phrases of about one length sound better than long ones and a rest.
    let share = whole.div_ceil(whole.div_ceil(LONGEST));
    let mut phrases = vec![String::new()];
    for clause in phonemes.split_inclusive([',', ';', ':', '—', '.', '!', '?', '…']) {
        let is_long = long(clause) > LONGEST;
        let words: Vec<&str> = if is_long { clause.split_inclusive(' ').collect() } else { vec![clause] };
        for word in words {
            let letters: Vec<char> = word.chars().collect();
            for part in letters.chunks(LONGEST) {
                let last = phrases.last().map_or(0, |phrase| long(phrase));
                let is_full = last + part.len() > LONGEST || (is_long && last >= share);
                if last > 0 && is_full {
                    phrases.push(String::new());
                }
                if let Some(phrase) = phrases.last_mut() {
                    phrase.extend(part);
                }
            }
        }
    }
    phrases
}
