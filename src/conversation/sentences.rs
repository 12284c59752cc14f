//! The sentences of one utterance: how long each is, when it is heard, and how much of them was.
//!
//! Not in here: when the words of a sentence are heard (`word_timing`), whose they are (`turns`).
//! Pure; runs on the session's tasks.

use std::collections::BTreeMap;

use super::word_timing::WordTiming;
use crate::ids::SentenceId;
use crate::session::CaptionWord;
use crate::timeline::{FRAME_DURATION, FrameIndex};

/// Those that are spoken, are being spoken or were, in their order.
#[derive(Debug, Default)]
pub(super) struct Sentences(BTreeMap<SentenceId, Sentence>);

#[derive(Debug)]
struct Sentence {
    /// As it is written; empty if a client speaks it.
    text: String,
    /// How many it takes, once known.
    frames: Option<u64>,
    /// When its words begin, in milliseconds, if the voice tells.
    word_starts: Vec<u32>,
    /// The pair that it began with.
    began: Option<FrameIndex>,
}

/// When the words of a sentence that is being heard are heard.
pub(super) struct CaptionTiming {
    pub sentence: SentenceId,
    /// The pair that it began with.
    pub began: FrameIndex,
    /// From there on.
    pub words: Vec<CaptionWord>,
}

impl Sentences {
    /// The sentence is about to be spoken.
    pub fn begin(&mut self, id: SentenceId, text: String) {
        self.0.insert(id, Sentence { text, frames: None, word_starts: Vec::new(), began: None });
    }

    /// The voice tells when the next words of the sentence begin, in milliseconds.
    pub fn add_word_starts(&mut self, id: SentenceId, starts: Vec<u32>) {
        if let Some(sentence) = self.0.get_mut(&id) {
            sentence.word_starts.extend(starts);
        }
    }

    /// The sentence takes so many frames. If it is being heard already, its words are timed anew.
    pub fn set_frames(&mut self, id: SentenceId, frames: u64, timing: &mut WordTiming) -> Option<CaptionTiming> {
        let sentence = self.0.get_mut(&id)?;
        sentence.frames = Some(frames);
        timing.learn(&sentence.text, frames);
        let words = || timing.words(&sentence.text, &sentence.word_starts, Some(frames));
        sentence.began.map(|began| CaptionTiming { sentence: id, began, words: words() })
    }

    /// The sentence is heard from this pair on. `None` if it has no words.
    pub fn started(&mut self, id: SentenceId, at: FrameIndex, timing: &WordTiming) -> Option<CaptionTiming> {
        let sentence = self.0.get_mut(&id)?;
        sentence.began = Some(at);
        let words = timing.words(&sentence.text, &sentence.word_starts, sentence.frames);
        (!words.is_empty()).then_some(CaptionTiming { sentence: id, began: at, words })
    }

    /// The text of all of them that had a sound.
    pub fn text(&self) -> String {
        let texts = self.with_a_sound().map(|sentence| sentence.text.trim());
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The text of what fits so many frames: whole sentences, and the words of the next that fit what is left.
    pub fn text_within(&self, frames: u64, timing: &WordTiming) -> String {
        let mut left = u128::from(frames) * FRAME_DURATION.as_millis();
        let mut spoken: Vec<String> = Vec::new();
        for Sentence { text, word_starts, frames, .. } in self.with_a_sound() {
            let words = timing.words(text, word_starts, *frames);
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

    /// One without a sound is not heard.
    fn with_a_sound(&self) -> impl Iterator<Item = &Sentence> {
        self.0.values().filter(|sentence| sentence.frames != Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UtteranceId;

    #[test]
    fn what_was_spoken_is_what_fits_the_frames_that_were_heard() {
        let (mut sentences, mut timing) = (Sentences::default(), WordTiming::new("en-us"));
        let utterance = UtteranceId::next();
        let texts = [("One two.", 20), ("Three four five six.", 40), ("(without a sound)", 0)];
        for (number, (text, frames)) in texts.into_iter().enumerate() {
            sentences.begin(utterance.sentence(number), text.to_owned());
            sentences.set_frames(utterance.sentence(number), frames, &mut timing);
        }
        let spoken = |frames| sentences.text_within(frames, &timing);
        assert_eq!(spoken(0), "");
        assert_eq!(spoken(10), "One");
        assert_eq!(spoken(20), "One two.");
        assert_eq!(spoken(41), "One two. Three four");
        assert_eq!(spoken(60), "One two. Three four five six.");
        assert_eq!(sentences.text(), spoken(60));
    }

    #[test]
    fn sentences_without_a_sound_are_passed_over_by_captions() {
        let (mut sentences, mut timing) = (Sentences::default(), WordTiming::new("en-us"));
        let utterance = UtteranceId::next();
        let [silent, spoken, unknown] = [0, 1, 2].map(|number| utterance.sentence(number));
        sentences.begin(silent, "(silence)".to_owned());
        assert!(sentences.set_frames(silent, 0, &mut timing).is_none());
        sentences.begin(spoken, "One two.".to_owned());
        let guessed = sentences.started(spoken, FrameIndex(7), &timing).unwrap();
        assert_eq!((guessed.sentence, guessed.began, guessed.words.len()), (spoken, FrameIndex(7), 2));
        let known = sentences.set_frames(spoken, 25, &mut timing).unwrap();
        assert_eq!((known.sentence, known.began, known.words[1].end_ms), (spoken, FrameIndex(7), 1000));
        assert!(sentences.started(unknown, FrameIndex(40), &timing).is_none(), "there is no third");
    }
}
