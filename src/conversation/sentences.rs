//! The sentences of one utterance: how long each is, when it is heard, and how much of them was.
//!
//! Not in here: when the words of a sentence are heard (`captions`), whose they are (`active`).
//! Pure; runs on the session's tasks.

use super::captions::Pace;
use crate::session::CaptionWord;
use crate::timeline::{FRAME_DURATION, FrameIndex};

#[derive(Debug, Default)]
pub(super) struct Sentences(Vec<Sentence>);

#[derive(Debug)]
struct Sentence {
    text: String,
    /// How many it takes, once known.
    frames: Option<u64>,
    /// When its words begin, if the voice tells.
    starts: Vec<u32>,
    /// The pair that it began with.
    began: Option<FrameIndex>,
}

/// A sentence that is being heard, and when its words are.
pub(super) struct Heard {
    /// Which of the utterance.
    pub number: usize,
    pub began: FrameIndex,
    pub words: Vec<CaptionWord>,
}

impl Sentences {
    pub fn begins(&mut self, text: String) {
        self.0.push(Sentence { text, frames: None, starts: Vec::new(), began: None });
    }

    /// The voice tells when the next words of the last sentence begin, in milliseconds.
    pub fn last_has_words(&mut self, starts: Vec<u32>) {
        if let Some(sentence) = self.0.last_mut() {
            sentence.starts.extend(starts);
        }
    }

    /// The last sentence takes so many frames. If it is being heard already, its words are timed anew.
    pub fn last_has(&mut self, pace: &mut Pace, frames: u64) -> Option<Heard> {
        let number = self.0.len().checked_sub(1)?;
        let sentence = self.0.last_mut()?;
        sentence.frames = Some(frames);
        pace.learn(&sentence.text, frames);
        let words = || pace.words(&sentence.text, &sentence.starts, Some(frames));
        sentence.began.map(|began| Heard { number, began, words: words() })
    }

    /// The next sentence is heard from this pair on. `None` if it has no words.
    pub fn next_began(&mut self, pace: &Pace, at: FrameIndex) -> Option<Heard> {
        // Playout never hears of one without a sound.
        let mut waiting = self.0.iter_mut().enumerate();
        let (number, sentence) =
            waiting.find(|(_, sentence)| sentence.began.is_none() && sentence.frames != Some(0))?;
        sentence.began = Some(at);
        let words = pace.words(&sentence.text, &sentence.starts, sentence.frames);
        (!words.is_empty()).then_some(Heard { number, began: at, words })
    }

    /// All of them that had a sound.
    pub fn whole(&self) -> String {
        let texts = self.0.iter().filter(|sentence| sentence.frames != Some(0)).map(|sentence| sentence.text.trim());
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The sentences that were heard whole and the words of the next that fit the frames left.
    pub fn spoken(&self, pace: &Pace, frames: u64) -> String {
        let mut left = u128::from(frames) * FRAME_DURATION.as_millis();
        let mut spoken: Vec<String> = Vec::new();
        // One without a sound is not heard.
        for Sentence { text, starts, frames, .. } in self.0.iter().filter(|sentence| sentence.frames != Some(0)) {
            let words = pace.words(text, starts, *frames);
            let whole = u128::from(words.last().map_or(0, |word| word.end_ms));
            let heard = words.into_iter().take_while(|word| u128::from(word.end_ms) <= left);
            let text: String = heard.map(|word| word.text).collect();
            spoken.extend((!text.is_empty()).then(|| text.trim_end().to_owned()));
            if whole > left {
                break;
            }
            left -= whole;
        }
        spoken.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spoken_is_what_fits_the_frames_that_were_heard() {
        let (mut sentences, mut pace) = (Sentences::default(), Pace::new("en-us"));
        for (text, frames) in [("One two.", 20), ("Three four five six.", 40)] {
            sentences.begins(text.to_owned());
            sentences.last_has(&mut pace, frames);
        }
        sentences.begins("(without a sound)".to_owned());
        sentences.last_has(&mut pace, 0);
        let spoken = |frames| sentences.spoken(&pace, frames);
        assert_eq!(spoken(0), "");
        assert_eq!(spoken(10), "One");
        assert_eq!(spoken(20), "One two.");
        assert_eq!(spoken(41), "One two. Three four");
        assert_eq!(spoken(60), "One two. Three four five six.");
        assert_eq!(sentences.whole(), spoken(60));
    }

    #[test]
    fn sentences_without_a_sound_are_passed_over_by_captions() {
        let (mut sentences, mut pace) = (Sentences::default(), Pace::new("en-us"));
        sentences.begins("(silence)".to_owned());
        assert!(sentences.last_has(&mut pace, 0).is_none());
        sentences.begins("One two.".to_owned());
        let guessed = sentences.next_began(&pace, FrameIndex(7)).unwrap();
        assert_eq!((guessed.number, guessed.began, guessed.words.len()), (1, FrameIndex(7), 2));
        let known = sentences.last_has(&mut pace, 25).unwrap();
        assert_eq!((known.number, known.began, known.words[1].end_ms), (1, FrameIndex(7), 1000));
        assert!(sentences.next_began(&pace, FrameIndex(40)).is_none(), "there is no third");
    }
}
