//! When a turn reached each stage of its way: from what the user said to the first picture of the answer on a screen.
//!
//! In here: the stages, and the record of one turn, which goes with it from task to task. A turn of text begins when its
//! message is read, one of speech at the end of the speech; a stage that it skips stays empty.
//! Not in here: who tells viewers (`conversation`), histograms (`metrics`).
//! Runs on: whoever reaches a stage; nothing here waits.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A stage of a turn, in the order in which a turn of speech reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What the user said is known as text; only for speech.
    Transcript,
    /// The first words of the reply; not for what is said as given.
    FirstToken,
    /// The first sound of the voice.
    FirstAudio,
    /// The first lip-synced frame is handed to the encoder.
    FirstFrame,
    /// The first encoded frame of the utterance, with a mouth or before it opens.
    FirstPacket,
    /// A viewer sees the first lip-synced frame, by the viewer's own word.
    Shown,
}

impl Stage {
    const COUNT: usize = 6;

    /// As in `/metrics`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Transcript => "transcript",
            Self::FirstToken => "first_token",
            Self::FirstAudio => "first_audio",
            Self::FirstFrame => "first_frame",
            Self::FirstPacket => "first_packet",
            Self::Shown => "shown",
        }
    }
}

/// The times of one turn. Cheap to clone; all clones are of the same turn.
#[derive(Clone, Debug)]
pub struct TurnTimes(Arc<Times>);

#[derive(Debug)]
struct Times {
    began: Instant,
    reached: [OnceLock<Duration>; Stage::COUNT],
}

/// Milliseconds since a turn began; what it skipped, or has not reached, is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stages {
    /// What the user said was known as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<u64>,
    /// The reply began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<u64>,
    /// The voice began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_audio: Option<u64>,
    /// The first lip-synced frame was handed to the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_frame: Option<u64>,
}

impl TurnTimes {
    /// Of a turn that began at this moment.
    pub fn since(began: Instant) -> Self {
        Self(Arc::new(Times { began, reached: Default::default() }))
    }

    /// The turn is at a stage. Only the first time counts, there and in `/metrics`.
    pub(crate) fn reach(&self, stage: Stage, at: Instant) {
        self.reach_after(stage, at.saturating_duration_since(self.0.began));
    }

    /// The same, so long after the turn began.
    pub(crate) fn reach_after(&self, stage: Stage, after: Duration) {
        if self.0.reached[stage as usize].set(after).is_ok() {
            crate::metrics::turn_reached(stage.as_str(), after);
        }
    }

    /// How long after its beginning the turn was at a stage.
    pub(crate) fn of(&self, stage: Stage) -> Option<Duration> {
        self.0.reached[stage as usize].get().copied()
    }

    /// How long ago the turn began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// What viewers are told.
    pub(crate) fn stages(&self) -> Stages {
        let ms = |stage| self.of(stage).map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Stages {
            transcript: ms(Stage::Transcript),
            first_token: ms(Stage::FirstToken),
            first_audio: ms(Stage::FirstAudio),
            first_frame: ms(Stage::FirstFrame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_stage_counts_from_the_beginning_and_once() {
        let began = Instant::now();
        let times = TurnTimes::since(began);
        times.reach(Stage::FirstToken, began + 52 * MS);
        times.reach(Stage::FirstToken, began + 90 * MS);
        times.clone().reach(Stage::FirstAudio, began + 180 * MS);
        assert_eq!(times.of(Stage::FirstToken), Some(52 * MS));
        assert_eq!(times.of(Stage::FirstAudio), Some(180 * MS));
        assert_eq!(times.of(Stage::Shown), None);
    }

    #[test]
    fn a_stage_that_seems_to_come_before_the_beginning_took_no_time() {
        let now = Instant::now();
        let times = TurnTimes::since(now + 5 * MS);
        times.reach(Stage::Transcript, now);
        assert_eq!(times.of(Stage::Transcript), Some(Duration::ZERO));
    }

    #[test]
    fn viewers_are_told_whole_milliseconds_of_what_was_reached() {
        let times = TurnTimes::since(Instant::now());
        assert_eq!(serde_json::to_string(&times.stages()).unwrap(), "{}");
        times.reach_after(Stage::FirstAudio, Duration::from_micros(120_900));
        times.reach_after(Stage::FirstPacket, 200 * MS);
        times.reach_after(Stage::FirstFrame, 220 * MS);
        times.reach_after(Stage::Transcript, 80 * MS);
        assert_eq!(
            serde_json::to_string(&times.stages()).unwrap(),
            r#"{"transcript":80,"first_audio":120,"first_frame":220}"#
        );
    }
}
