//! What a session tells of its speech, as cues of a caption track.
//!
//! In here: which words are shown from when to when, on the session's time line; cues of what was interrupted, or is told
//! again with better times, are taken back as far as they were not written. Not in here: how a track is written (`launch`).
//! Runs on: the thread of an output; nothing here waits.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{SentenceId, UtteranceId};
use crate::media::session_time::SessionTime;
use crate::session::{CaptionWord, Notice, NoticeReceiver};
use crate::timeline::MediaTime;

/// Two lines as television has them (EBU-TT, BBC subtitle guidelines: 37 characters each).
const CHARACTERS: usize = 74;
/// A cue that is shorter cannot be read.
const SHORTEST: Duration = Duration::from_millis(400);
/// Cues that wait; a sentence has a few.
const MOST: usize = 256;

/// One text on screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::media) struct Cue {
    pub from: MediaTime,
    pub to: MediaTime,
    pub text: String,
    sentence: SentenceId,
    /// The word of the sentence behind its last one, as a number.
    words: usize,
}

/// The captions of a session on their way into a track.
pub(in crate::media) struct Captions {
    notices: NoticeReceiver,
    waiting: VecDeque<Cue>,
    /// The last cue that was given out: its sentence, and how many words of that were written.
    written: Option<(SentenceId, usize)>,
}

impl Captions {
    pub fn new(notices: NoticeReceiver) -> Self {
        Self { notices, waiting: VecDeque::new(), written: None }
    }

    /// Takes in what was told since the last time.
    pub fn take_in(&mut self, time: &SessionTime) {
        while let Some(notice) = self.notices.try_recv() {
            match notice {
                Notice::Caption { sentence, rtp_timestamp: Some(timestamp), words } => {
                    self.retime(sentence, time.of_audio_rtp_timestamp(timestamp), &words);
                }
                Notice::SpeechEnded { utterance, interrupted: true, .. } | Notice::Failed { utterance, .. } => {
                    self.drop_unwritten(utterance);
                }
                _ => {}
            }
        }
    }

    fn retime(&mut self, sentence: SentenceId, began: MediaTime, words: &[CaptionWord]) {
        self.waiting.retain(|cue| cue.sentence != sentence);
        let written = self.written.filter(|(last, _)| *last == sentence).map_or(0, |(_, words)| words);
        let cues = cues(sentence, began, words, written);
        self.waiting.extend(cues);
        while self.waiting.len() > MOST {
            self.waiting.pop_front();
        }
    }

    fn drop_unwritten(&mut self, utterance: UtteranceId) {
        self.waiting.retain(|cue| cue.sentence.utterance != utterance);
    }

    /// The next cue that has begun by then.
    pub fn next(&mut self, until: MediaTime) -> Option<Cue> {
        let cue = self.waiting.pop_front_if(|cue| cue.from <= until)?;
        self.written = Some((cue.sentence, cue.words));
        Some(cue)
    }
}

/// The words from this one on, in as many cues as they need.
fn cues(sentence: SentenceId, began: MediaTime, words: &[CaptionWord], from: usize) -> Vec<Cue> {
    let at = |ms: u32| after(began, Duration::from_millis(u64::from(ms)));
    let mut cues: Vec<Cue> = Vec::new();
    for (number, word) in words.iter().enumerate().skip(from) {
        match cues.last_mut() {
            Some(cue) if cue.text.chars().count() + word.text.chars().count() <= CHARACTERS => {
                // With the spaces that the sentence has.
                cue.text.push_str(&word.text);
                (cue.to, cue.words) = (at(word.end_ms), number + 1);
            }
            _ if word.text.trim().is_empty() => {}
            _ => {
                let (from, to, text) = (at(word.start_ms), at(word.end_ms), word.text.clone());
                cues.push(Cue { from, to, text, sentence, words: number + 1 });
            }
        }
    }
    let begins: Vec<MediaTime> = cues.iter().skip(1).map(|cue| cue.from).collect();
    for (number, cue) in cues.iter_mut().enumerate() {
        cue.text = cue.text.trim().to_owned();
        cue.to = cue.to.max(after(cue.from, SHORTEST));
        if let Some(next) = begins.get(number) {
            cue.to = cue.to.min(*next);
        }
    }
    cues
}

fn after(time: MediaTime, duration: Duration) -> MediaTime {
    MediaTime::from_nanos(time.nanos().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{NoticeSender, notice_queue};

    fn word(text: &str, start_ms: u32, end_ms: u32) -> CaptionWord {
        CaptionWord { text: text.to_owned(), start_ms, end_ms }
    }

    fn captions() -> (NoticeSender, Captions, SessionTime) {
        crate::media::init().unwrap();
        let (told, notices) = notice_queue(16);
        (told, Captions::new(notices), SessionTime::start())
    }

    /// The sound of a sentence that is heard so long after the session began.
    fn caption(sentence: SentenceId, seconds: u32, words: Vec<CaptionWord>) -> Notice {
        Notice::Caption { sentence, rtp_timestamp: Some(seconds * 48_000), words }
    }

    fn texts(captions: &mut Captions, until_s: u64) -> Vec<(u64, u64, String)> {
        let until = MediaTime::from_nanos(until_s * 1_000_000_000);
        let mut found = Vec::new();
        while let Some(Cue { from, to, text, .. }) = captions.next(until) {
            found.push((from.nanos() / 1_000_000, to.nanos() / 1_000_000, text));
        }
        found
    }

    #[test]
    fn a_sentence_is_as_many_cues_as_fit_the_screen_each_from_its_first_word_to_its_last() {
        let (told, mut captions, time) = captions();
        let words: Vec<CaptionWord> = (0..20).map(|n| word("quarter ", n * 300, n * 300 + 250)).collect();
        told.tell(caption(UtteranceId::next().sentence(0), 2, words));
        captions.take_in(&time);
        assert_eq!(texts(&mut captions, 1), [], "it is not heard yet");
        let found = texts(&mut captions, 60);
        let times: Vec<(u64, u64)> = found.iter().map(|cue| (cue.0, cue.1)).collect();
        assert_eq!(times, [(2000, 4650), (4700, 7350), (7400, 7950)]);
        assert!(found.iter().all(|(_, _, text)| text.len() <= CHARACTERS && text.ends_with("quarter")), "{found:?}");
    }

    #[test]
    fn what_is_told_again_takes_the_place_of_what_is_not_written_yet() {
        let (told, mut captions, time) = captions();
        let sentence = UtteranceId::next().sentence(0);
        let first = "a sentence that is so long that its text does not fit one screen of two lines ";
        told.tell(caption(sentence, 2, vec![word(first, 0, 3000), word("and ends", 3000, 4000)]));
        captions.take_in(&time);
        assert_eq!(texts(&mut captions, 2).len(), 1);
        told.tell(caption(sentence, 2, vec![word(first, 0, 3500), word("and ends", 3500, 5000)]));
        captions.take_in(&time);
        assert_eq!(texts(&mut captions, 60), [(5500, 7000, "and ends".to_owned())]);
    }

    #[test]
    fn what_was_interrupted_is_not_shown_and_times_beyond_a_day_are_right() {
        let (told, mut captions, time) = captions();
        let utterance = UtteranceId::next();
        told.tell(caption(utterance.sentence(0), 2, vec![word("Never", 0, 500)]));
        let text_spoken = String::new();
        told.tell(Notice::SpeechEnded { utterance, id: None, interrupted: true, spoken_ms: 0, text_spoken });
        captions.take_in(&time);
        assert_eq!(texts(&mut captions, 60), []);
        let day = 100_000 * 1_000_000_000;
        let stamp = u32::try_from((100_001u64 * 48_000) & u64::from(u32::MAX)).unwrap();
        assert_eq!(SessionTime::at_audio_rtp_timestamp(MediaTime::from_nanos(day), stamp).nanos(), day + 1_000_000_000);
        assert_eq!(
            SessionTime::at_audio_rtp_timestamp(MediaTime::from_nanos(day), stamp.wrapping_sub(96_000)).nanos(),
            day - 1_000_000_000
        );
    }
}
