//! What playout reports becomes notices, metrics and ends of turns.
//!
//! Not in here: what an end does (`turns`). Runs on: a tokio task of the session, which ends with its place in playout.

use tokio::sync::mpsc;

use super::RtpClock;
use super::captions::Captions;
use super::turns::{PlayoutEnd, Turns};
use crate::latency::Stage;
use crate::playout::Event;
use crate::session::Notice;

/// Takes in the events of one session's playout.
pub(super) struct PlayoutObserver {
    pub turns: Turns,
    pub captions: Captions,
    pub video_clock: RtpClock,
}

impl PlayoutObserver {
    pub async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.handle(event);
        }
        self.turns.end_all();
    }

    fn handle(&self, event: Event) {
        let Self { turns, captions, video_clock } = self;
        match event {
            Event::Started { utterance, .. } => turns.started(utterance),
            Event::SentenceStarted { sentence, index } => {
                if let Some(timing) = turns.sentence_started(sentence, index) {
                    captions.tell(timing);
                }
            }
            Event::FirstMouth { utterance, index, at } => {
                let Some(times) = turns.times(utterance) else { return };
                times.reach(Stage::FirstFrame, at);
                let stages = times.stages();
                tracing::info!(%utterance, ?stages, "first lip-synced frame");
                turns.tell(utterance, &Notice::Latency { utterance, rtp_timestamp: video_clock(index), stages });
            }
            Event::Ended { utterance, frames, interrupted, at } => {
                turns.ended(utterance, PlayoutEnd { frames, interrupted, at });
            }
        }
    }
}
