//! What playout reports becomes notices, metrics and ends of turns.
//!
//! Not in here: what an end does (`active`). Runs on: a tokio task of the session, which ends with its place in playout.

use tokio::sync::mpsc;

use super::active::{Active, Extent};
use super::{Captions, RtpClock};
use crate::latency::Stage;
use crate::playout::Event;
use crate::session::Notice;

pub(super) struct PlayoutWatch {
    pub active: Active,
    pub captions: Captions,
    pub video_clock: RtpClock,
}

impl PlayoutWatch {
    pub async fn run(self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            self.heed(event);
        }
        self.active.end_all();
    }

    fn heed(&self, event: Event) {
        let Self { active, captions, video_clock } = self;
        match event {
            Event::Started { utterance, .. } => active.started(utterance),
            Event::SentenceStarted { utterance, index } => {
                if let Some(heard) = active.sentence_began(utterance, index) {
                    captions.tell(utterance, heard);
                }
            }
            Event::FirstMouth { utterance, index, at } => {
                let Some(times) = active.times(utterance) else { return };
                times.reach(Stage::FirstFrame, at);
                let stages = times.stages();
                tracing::info!(%utterance, ?stages, "first lip-synced frame");
                active.tell(utterance, &Notice::Latency { utterance, rtp_timestamp: video_clock(index), stages });
            }
            Event::Ended { utterance, frames, interrupted, at } => {
                active.ended(utterance, Extent { frames, interrupted, at });
            }
        }
    }
}
