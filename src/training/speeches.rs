//! Speech that training listens to: recordings with what the mouth does in each frame.
//!
//! Not in here: where they come from, and how they are told what the mouth does.

use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How much a frame at rest teaches.
const REST_VALUE: f32 = 0.5;
/// More than this no frame teaches.
const MOST_VALUE: f32 = 3.5;
/// Frames of rest after a recording's end that may be picked, too: a quarter of a second.
const FRAMES_AFTER: usize = 6;

/// What the mouth does in one frame of 40 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment<const PARAMETERS: usize> {
    /// Each within 0 and 1; all 0 is the mouth at rest.
    pub mouth: [f32; PARAMETERS],
    /// How much the frame teaches: its chance to be picked beside others. 0.5 is that of a frame at rest; more than 3.5
    /// count as 3.5.
    pub value: f32,
}

/// A recording and what the mouth does in each of its frames.
#[derive(Clone, Debug)]
pub struct Speech {
    /// 16 kHz mono, -1 to 1.
    pub samples: Arc<[f32]>,
    /// The parameters of every frame, and those of rest.
    mouths: Vec<f32>,
    values: Vec<f32>,
}

impl Speech {
    /// `moments` are those of the recording's frames, from its first sample on.
    pub fn new<const PARAMETERS: usize>(samples: Arc<[f32]>, moments: &[Moment<PARAMETERS>]) -> Self {
        let rest = [0.0; PARAMETERS];
        let mouths = moments.iter().map(|moment| moment.mouth).chain([rest]).flatten().collect();
        Self { samples, mouths, values: moments.iter().map(|moment| moment.value).collect() }
    }

    pub(super) fn frames(&self) -> usize {
        self.values.len()
    }

    /// The mouth's parameters in a frame; at rest after the end.
    pub fn mouth(&self, frame: usize) -> &[f32] {
        let parameters = self.mouths.len() / (self.frames() + 1);
        &self.mouths[frame.min(self.frames()) * parameters..][..parameters]
    }

    fn value(&self, frame: usize) -> f32 {
        self.values.get(frame).copied().unwrap_or(REST_VALUE)
    }
}

/// Recordings that are not learnt from; training is judged by them on the way.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// What the log calls them.
    pub name: String,
    /// Undisturbed.
    pub speeches: Vec<Speech>,
}

/// All the speech of a training.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// Names what it was made of, in the log.
    pub hash: String,
    /// Recordings that the speeches were made of, for the log.
    pub clips: usize,
    /// What is learnt from.
    pub speeches: Vec<Speech>,
    /// What is not; only the audio encoder's stage listens to it.
    pub heldout: Vec<HeldOut>,
}

/// A frame of some speech, valuable ones more often: which speech, and which frame of it or of the rest after its end.
pub fn pick_frame(speeches: &[Speech], rng: &mut ChaCha8Rng) -> (usize, usize) {
    loop {
        let speech = rng.random_range(0..speeches.len());
        let frame = rng.random_range(0..speeches[speech].frames() + FRAMES_AFTER);
        if rng.random_range(0.0..MOST_VALUE) < speeches[speech].value(frame) {
            return (speech, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn speech(values: [f32; 3]) -> Speech {
        let moment = |value| Moment { mouth: [value / 10.0, 0.3], value };
        Speech::new(vec![0.0; 3 * 640].into(), &values.map(moment))
    }

    #[test]
    fn a_mouth_rests_after_the_recordings_end() {
        let speech = speech([1.0, 2.0, 3.0]);
        assert_eq!((speech.frames(), speech.mouth(1)), (3, [0.2, 0.3].as_slice()));
        assert_eq!((speech.mouth(3), speech.mouth(999)), ([0.0; 2].as_slice(), [0.0; 2].as_slice()));
    }

    #[test]
    fn frames_are_picked_by_what_they_teach_and_some_after_the_end() {
        let speeches = [speech([0.0, 3.0, 1.0])];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut picked = [0_u32; 10];
        for _ in 0..4000 {
            picked[pick_frame(&speeches, &mut rng).1] += 1;
        }
        assert_eq!((picked[0], picked[9]), (0, 0));
        assert!(picked[1] > 2 * picked[2] && picked[2] > picked[8] && picked[8] > 0, "{picked:?}");
    }
}
