//! When each word of a sentence is heard: as the voice tells, else as far as it can be told from its letters.
//!
//! In here: cutting a sentence into words and spreading its time over them; how fast the voice speaks is learnt from the
//! sentences before. Not in here: when a sentence begins (`playout` tells), what clients are told (`captions`).
//! Pure; runs on the session's tasks.

use crate::session::CaptionWord;
use crate::speech::markup::pause_ms;
use crate::speech::normalise::{spoken_form, stands_alone};
use crate::timeline::FPS;

/// Of one letter, before anything was heard: 15 a second.
const MS_A_LETTER: f64 = 1000.0 / 15.0;
/// What a pause is worth in letters: within a sentence, and at the end of one.
const SHORT_PAUSE: f64 = 3.0;
const LONG_PAUSE: f64 = 4.0;
/// How much of the pace a new sentence is.
const NEWEST: f64 = 0.3;

/// Times words by how fast the voice has spoken so far.
#[derive(Debug)]
pub(super) struct WordTiming {
    ms_a_letter: f64,
    language: String,
}

impl WordTiming {
    /// `language` is the voice's, BCP 47.
    pub fn new(language: &str) -> Self {
        Self { ms_a_letter: MS_A_LETTER, language: language.to_owned() }
    }

    /// A sentence took so many frames.
    pub fn learn(&mut self, sentence: &str, frames: u64) {
        let letters: f64 = self.weighed(sentence).iter().map(|word| word.letters).sum();
        if letters > 0.0 && frames > 0 {
            self.ms_a_letter += NEWEST * (ms(frames) / letters - self.ms_a_letter);
        }
    }

    /// When each word is heard, from the beginning of the sentence, which takes so many frames if that is known. `starts` is
    /// when each spoken word begins, in milliseconds, as far as the voice tells.
    pub fn words(&self, sentence: &str, starts: &[u32], frames: Option<u64>) -> Vec<CaptionWord> {
        let weighed = self.weighed(sentence);
        let letters: f64 = weighed.iter().map(|word| word.letters).sum();
        let told = self.told(&weighed, starts, frames).unwrap_or_else(|| {
            let ms_a_letter = frames.map_or(self.ms_a_letter, |frames| ms(frames) / letters.max(1.0));
            spread(&weighed, 0.0, letters * ms_a_letter)
        });
        let ends: Vec<u32> = told[1..].to_vec();
        let word = |((word, start_ms), end_ms): ((Weighed<'_>, u32), u32)| CaptionWord {
            text: shown(word.text),
            start_ms,
            end_ms: end_ms.max(start_ms),
        };
        weighed.into_iter().zip(told).zip(ends).map(word).filter(|word| !word.text.trim().is_empty()).collect()
    }

    /// When each word begins, and where the last one ends, as far as the voice tells: the first words that are said. A written
    /// one may be several of those, or none. The rest is guessed.
    fn told(&self, weighed: &[Weighed<'_>], starts: &[u32], frames: Option<u64>) -> Option<Vec<u32>> {
        let said: usize = weighed.iter().map(|word| word.said).sum();
        if starts.is_empty() || starts.len() > said {
            return None;
        }
        // The words that are known to begin, and of the last one whatever comes behind it.
        let mut begins: Vec<(usize, u32)> = Vec::new();
        let mut at = 0;
        for (number, word) in weighed.iter().enumerate() {
            if word.said > 0 && at < starts.len() {
                begins.push((number, starts[at]));
            }
            at += word.said;
        }
        let (last, last_start) = *begins.last()?;
        let letters: f64 = weighed[last..].iter().map(|word| word.letters).sum();
        let end = frames.map_or_else(|| last_start + whole(letters * self.ms_a_letter), |frames| whole(ms(frames)));
        // The first word has the sentence's beginning, so that what was heard adds up.
        begins[0] = (0, 0);
        let ends = begins[1..].iter().copied().chain([(weighed.len(), end)]);
        let mut times = Vec::with_capacity(weighed.len() + 1);
        for ((from, start), (to, stop)) in begins.iter().copied().zip(ends) {
            let part = spread(&weighed[from..to], f64::from(start.min(end)), f64::from(stop.min(end)));
            times.extend_from_slice(&part[..to - from]);
        }
        times.push(end);
        Some(times)
    }

    /// The words as they stand in the sentence, with the space behind them, and what each is worth in letters.
    fn weighed<'a>(&self, sentence: &'a str) -> Vec<Weighed<'a>> {
        let mut words = Vec::new();
        let spoken = spoken_form(sentence, &self.language);
        let rest = sentence.trim_start();
        let mut from = sentence.len() - rest.len();
        let end = sentence.trim_end().len();
        while from < end {
            let to = from + word_end(&sentence[from..end]);
            let text = &sentence[from..to];
            // "$5" and "Dr." have more letters when they are said.
            let (said, letters) = match &spoken {
                Some(spoken) => spoken.of(from..to),
                None => (0, String::new()),
            };
            let pause: u32 = text.chars().filter_map(pause_ms).sum();
            let letters = letters_of(&letters) + pause_after(text) + f64::from(pause) / MS_A_LETTER;
            words.push(Weighed { text, said, letters });
            from = to;
        }
        words
    }
}

/// A written word.
struct Weighed<'a> {
    text: &'a str,
    /// How many spoken ones begin with it.
    said: usize,
    letters: f64,
}

/// When each of some words begins that are heard between two times, by their letters, and where the last one ends.
fn spread(words: &[Weighed<'_>], start: f64, end: f64) -> Vec<u32> {
    let letters: f64 = words.iter().map(|word| word.letters).sum();
    let mut before = 0.0;
    let mut times = Vec::with_capacity(words.len() + 1);
    for word in words {
        times.push(whole(start + (end - start) * before / letters.max(1e-9)));
        before += word.letters;
    }
    times.push(whole(end));
    times
}

/// A word as people read it: pauses are heard and not seen.
fn shown(word: &str) -> String {
    word.chars().filter(|c| pause_ms(*c).is_none()).collect()
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
        WordTiming::new("en-us").words(sentence, &[], None).into_iter().map(|word| word.text).collect()
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
        let words = WordTiming::new("en-us").words("People believe, what they can see.", &[], Some(50));
        assert!(words.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms && pair[0].start_ms < pair[0].end_ms));
        assert_eq!((words[0].start_ms, words[5].end_ms), (0, 2000));
        assert!(words[1].end_ms - words[1].start_ms > words[0].end_ms - words[0].start_ms, "a comma takes time");
    }

    #[test]
    fn a_number_takes_as_long_as_its_words() {
        let words = WordTiming::new("en-us").words("He paid $1200 then.", &[], Some(60));
        let length = |at: usize| words[at].end_ms - words[at].start_ms;
        assert!(length(2) > 3 * length(1), "{words:?}");
    }

    #[test]
    fn words_are_heard_when_the_voice_says_so() {
        // "$5" is two words when it is said.
        let timing = WordTiming::new("en-us");
        let words = timing.words("He paid $5 – then.", &[60, 200, 500, 800, 1300, 1400], Some(50));
        let times: Vec<(&str, u32, u32)> =
            words.iter().map(|word| (word.text.trim(), word.start_ms, word.end_ms)).collect();
        let expected =
            [("He", 0, 200), ("paid", 200, 500), ("$5", 500, 1300), ("–", 1300, 1400), ("then.", 1400, 2000)];
        assert_eq!(times, expected);
        let guessed = timing.words("He paid $5 then.", &[], Some(50));
        let more = [0, 100, 200, 300, 400, 500];
        assert_eq!(timing.words("He paid $5 then.", &more, Some(50)), guessed, "of more words than there are");
        // What is not told yet is spread over the rest.
        let begun = timing.words("He paid $5 then.", &[60, 200], Some(50));
        assert_eq!((begun[0].end_ms, begun[1].start_ms, begun[3].end_ms), (200, 200, 2000));
        assert!(begun.windows(2).all(|pair| pair[0].end_ms == pair[1].start_ms && pair[0].start_ms < pair[0].end_ms));
    }

    #[test]
    fn what_is_rewritten_for_the_voice_stands_as_it_is_written() {
        let timing = WordTiming::new("en-us");
        let shown = |sentence: &str, starts: &[u32]| {
            let words = timing.words(sentence, starts, Some(100));
            assert_eq!(words.last().unwrap().end_ms, 4000, "{words:?}");
            words.into_iter().map(|word| (word.text, word.start_ms)).collect::<Vec<_>>()
        };
        // "The total is 1,299 euros 50 then."
        let money = shown("The total is 1.299,50 EUR then.", &[0, 300, 700, 1000, 1500, 2000, 3000]);
        let [.., amount, code, then] = &money[..] else { panic!("{money:?}") };
        assert_eq!((amount, code.0.as_str(), then), (&("1.299,50 ".into(), 1000), "EUR ", &("then.".into(), 3000)));
        // "She said 她说 hello.", of which the Chinese is one word to the voice and two to the eye.
        let mixed = shown("She said 她说 hello.", &[0, 500, 1000, 2000]);
        assert_eq!(
            mixed,
            [
                ("She ".into(), 0),
                ("said ".into(), 500),
                ("她".into(), 1000),
                ("说 ".into(), 1500),
                ("hello.".into(), 2000)
            ]
        );
        // A second of pause is time, and nothing to see.
        let pause = shown(&format!("Wait {} then.", char::from_u32(0xf_0064).unwrap()), &[0, 2000]);
        assert_eq!(pause, [("Wait ".into(), 0), ("then.".into(), 2000)]);
    }

    #[test]
    fn the_pace_of_a_slow_voice_is_learnt() {
        let (sentence, mut timing) = ("People believe what they can see", WordTiming::new("en-us"));
        let guess = timing.words(sentence, &[], None).last().unwrap().end_ms;
        for _ in 0..12 {
            timing.learn(sentence, 100);
        }
        let learnt = timing.words(sentence, &[], None).last().unwrap().end_ms;
        assert!(guess < 2000 && (3900..=4000).contains(&learnt), "{guess} {learnt}");
    }
}
