//! When each word of a sentence is heard: as the voice tells, else as far as it can be told from its letters.
//!
//! In here: cutting a sentence into words and spreading its time over them; the pace is learnt from the sentences before.
//! Not in here: when a sentence begins (`playout` tells), what viewers are told (`conversation`).
//! Pure; runs on the session's tasks.

use crate::signalling::CaptionWord;
use crate::speech::spoken::spoken;
use crate::timeline::FPS;

/// Of one letter, before anything was heard: 15 a second.
const MS_A_LETTER: f64 = 1000.0 / 15.0;
/// What a pause is worth in letters: within a sentence, and at the end of one.
const SHORT_PAUSE: f64 = 3.0;
const LONG_PAUSE: f64 = 4.0;
/// How much of the pace a new sentence is.
const NEWEST: f64 = 0.3;

/// How fast a voice speaks.
#[derive(Debug)]
pub(super) struct Pace {
    ms_a_letter: f64,
    language: String,
}

impl Pace {
    /// `language` is the voice's, BCP 47.
    pub fn new(language: &str) -> Self {
        Self { ms_a_letter: MS_A_LETTER, language: language.to_owned() }
    }

    /// A sentence took so many frames.
    pub fn learn(&mut self, sentence: &str, frames: u64) {
        let letters: f64 = self.weighed(sentence).iter().map(|(_, letters)| letters).sum();
        if letters > 0.0 && frames > 0 {
            self.ms_a_letter += NEWEST * (ms(frames) / letters - self.ms_a_letter);
        }
    }

    /// When each word is heard, from the beginning of the sentence, which takes so many frames if that is known. `starts` is
    /// when each spoken word begins, in milliseconds, if the voice tells.
    pub fn words(&self, sentence: &str, starts: &[u32], frames: Option<u64>) -> Vec<CaptionWord> {
        let weighed = self.weighed(sentence);
        if let Some(words) = self.told(&weighed, starts, frames) {
            return words;
        }
        let letters: f64 = weighed.iter().map(|(_, letters)| letters).sum();
        let ms_a_letter = frames.map_or(self.ms_a_letter, |frames| ms(frames) / letters.max(1.0));
        let mut before = 0.0;
        weighed
            .into_iter()
            .map(|(text, letters)| {
                let start_ms = whole(before * ms_a_letter);
                before += letters;
                CaptionWord { text: text.to_owned(), start_ms, end_ms: whole(before * ms_a_letter) }
            })
            .collect()
    }

    /// What the voice tells, if it speaks as many words as the sentence has when it is written out: one of those may be
    /// several, or none.
    fn told(&self, weighed: &[(&str, f64)], starts: &[u32], frames: Option<u64>) -> Option<Vec<CaptionWord>> {
        let spoken = |word: &str| spoken(word, &self.language).map_or(0, |said| said.split_whitespace().count());
        let counts: Vec<usize> = weighed.iter().map(|(word, _)| spoken(word)).collect();
        if starts.is_empty() || counts.iter().sum::<usize>() != starts.len() {
            return None;
        }
        let last = weighed.last().map_or(0.0, |(_, letters)| letters * self.ms_a_letter);
        let end = frames.map_or_else(|| starts[starts.len() - 1] + whole(last), |frames| whole(ms(frames)));
        let mut at = 0;
        let begins = counts.iter().map(|count| {
            let begin = starts.get(at).copied().unwrap_or(end).min(end);
            at += count;
            begin
        });
        // The first word has the sentence's beginning, so that what was heard adds up.
        let begins: Vec<u32> = std::iter::once(0).chain(begins.skip(1)).chain([end]).collect();
        let word = |((text, _), time): (&(&str, f64), &[u32])| CaptionWord {
            text: (*text).to_owned(),
            start_ms: time[0],
            end_ms: time[1].max(time[0]),
        };
        Some(weighed.iter().zip(begins.windows(2)).map(word).collect())
    }

    /// The words as they stand in the sentence, with the space behind them, and what each is worth in letters.
    fn weighed<'a>(&self, sentence: &'a str) -> Vec<(&'a str, f64)> {
        let mut words = Vec::new();
        let mut rest = sentence.trim();
        while !rest.is_empty() {
            let (word, after) = rest.split_at(word_end(rest));
            // "$5" and "Dr." have more letters when they are said.
            let said = spoken(word, &self.language);
            words.push((word, letters_of(said.as_deref().unwrap_or_default()) + pause_after(word)));
            rest = after;
        }
        words
    }
}

/// Where the first word and the space behind it end: at a space, or, in scripts without, after each character.
/// Punctuation stays with what it follows.
fn word_end(text: &str) -> usize {
    let (mut begun, mut spaced, mut alone) = (false, false, false);
    for (at, character) in text.char_indices() {
        let ends =
            (spaced && !character.is_whitespace()) || stands_alone(character) || (alone && character.is_alphanumeric());
        if begun && ends {
            return at;
        }
        begun |= !character.is_whitespace();
        spaced = character.is_whitespace();
        alone |= stands_alone(character);
    }
    text.len()
}

/// Ideographs, kana and hangul.
fn stands_alone(character: char) -> bool {
    matches!(character, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{20000}'..='\u{3ffff}')
}

fn letters_of(said: &str) -> f64 {
    let weight = |character: char| match character {
        _ if !character.is_alphanumeric() => 0.0,
        // A syllable.
        _ if stands_alone(character) => 3.0,
        // "1200" is twenty letters long when it is said.
        _ if character.is_ascii_digit() => 5.0,
        _ => 1.0,
    };
    said.chars().map(weight).sum()
}

fn pause_after(word: &str) -> f64 {
    match word.trim_end().chars().next_back() {
        Some(',' | ';' | ':' | '、' | '，' | '；' | '：') => SHORT_PAUSE,
        Some('.' | '!' | '?' | '。' | '！' | '？' | '…') => LONG_PAUSE,
        _ => 0.0,
    }
}

#[allow(clippy::cast_precision_loss, reason = "a sentence has some thousand frames at most")]
fn ms(frames: u64) -> f64 {
    frames as f64 * 1000.0 / f64::from(FPS)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of minutes, not below zero")]
fn whole(ms: f64) -> u32 {
    ms.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sentence: &str) -> Vec<String> {
        Pace::new("en-us").words(sentence, &[], None).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_put_together_are_the_sentence_in_any_script() {
        assert_eq!(texts("Well, it is  noon."), ["Well, ", "it ", "is  ", "noon."]);
        assert_eq!(texts("你好，Anna！"), ["你", "好，", "Anna！"]);
        assert_eq!(texts("ok こんにちは"), ["ok ", "こ", "ん", "に", "ち", "は"]);
        assert!(texts("  ").is_empty());
    }

    #[test]
    fn words_follow_each_other_and_fill_the_time_of_the_sentence() {
        let words = Pace::new("en-us").words("People believe, what they can see.", &[], Some(50));
        assert!(words.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms && pair[0].start_ms < pair[0].end_ms));
        assert_eq!((words[0].start_ms, words[5].end_ms), (0, 2000));
        assert!(words[1].end_ms - words[1].start_ms > words[0].end_ms - words[0].start_ms, "a comma takes time");
    }

    #[test]
    fn a_number_takes_as_long_as_its_words() {
        let words = Pace::new("en-us").words("He paid $1200 then.", &[], Some(60));
        let length = |at: usize| words[at].end_ms - words[at].start_ms;
        assert!(length(2) > 3 * length(1), "{words:?}");
    }

    #[test]
    fn words_are_heard_when_the_voice_says_so() {
        // "$5" is two words when it is said, the dash none.
        let pace = Pace::new("en-us");
        let words = pace.words("He paid $5 – then.", &[60, 200, 500, 800, 1400], Some(50));
        let times: Vec<(&str, u32, u32)> =
            words.iter().map(|word| (word.text.trim(), word.start_ms, word.end_ms)).collect();
        let expected =
            [("He", 0, 200), ("paid", 200, 500), ("$5", 500, 1400), ("–", 1400, 1400), ("then.", 1400, 2000)];
        assert_eq!(times, expected);
        let guessed = pace.words("He paid $5 then.", &[], Some(50));
        assert_eq!(pace.words("He paid $5 then.", &[60, 200], Some(50)), guessed, "of another number of words");
    }

    #[test]
    fn the_pace_of_a_slow_voice_is_learnt() {
        let (sentence, mut pace) = ("People believe what they can see", Pace::new("en-us"));
        let guess = pace.words(sentence, &[], None).last().unwrap().end_ms;
        for _ in 0..12 {
            pace.learn(sentence, 100);
        }
        let learnt = pace.words(sentence, &[], None).last().unwrap().end_ms;
        assert!(guess < 2000 && (3900..=4000).contains(&learnt), "{guess} {learnt}");
    }
}
