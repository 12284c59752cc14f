//! Tells clients when the words of the sentence that is being heard are heard.
//!
//! A caption's time is that of the RTP packet its sentence begins with, and of each word in milliseconds from there. Not in
//! here: when a sentence begins (`playout` tells) and its words are (`sentences`, `word_timing`).
//! Runs on: the session's tasks.

use super::RtpClock;
use super::sentences::CaptionTiming;
use super::turns::Turns;
use crate::session::Notice;

/// A session's captions on their way to its clients.
#[derive(Clone)]
pub(super) struct Captions {
    pub turns: Turns,
    pub audio_clock: RtpClock,
}

impl Captions {
    pub fn tell(&self, timing: CaptionTiming) {
        let CaptionTiming { sentence, began, words } = timing;
        let rtp_timestamp = (self.audio_clock)(began);
        self.turns.tell(sentence.utterance, &Notice::Caption { sentence, rtp_timestamp, words });
    }
}
