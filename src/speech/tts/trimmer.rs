//! Takes the long silences off both ends of a spoken sentence, as it streams.
//!
//! In here: `Trimmer`. Not in here: pauses inside a sentence, which are the voice's rhythm and stay.
//! Runs on: the task that owns it; it does no input or output.

/// Quieter than this is silence: -50 dB of full scale, far below espeak-ng's softest consonants (about -35 dB).
const THRESHOLD: f32 = 0.003;
/// Silence kept before the voice. What comes before is only delay, but a cut right at the onset clicks.
const LEAD_MS: usize = 60;
/// Silence kept after the voice. espeak-ng ends a sentence with 200 to 300 ms; with the next sentence right behind,
/// 150 ms is a pause between two sentences of one speaker, and the mouth closes that much sooner at the end.
const TAIL_MS: usize = 150;
/// Longest pause inside a sentence; it also bounds what is held back here.
const PAUSE_MS: usize = 1_500;
/// Silence kept of the beginning of what is joined on: the rest of a pause is the end of what comes before.
const JOINED_LEAD_MS: usize = 20;

pub(super) struct Trimmer {
    /// Silence that has not been followed by voice yet.
    held: Vec<f32>,
    voiced: bool,
    /// Samples taken off the beginning.
    taken_off: usize,
    /// Whether what comes next is joined on and has had no voice yet.
    at_joint: bool,
    lead: usize,
    joined_lead: usize,
    tail: usize,
    pause: usize,
}

impl Trimmer {
    pub fn new(sample_rate: u32) -> Self {
        let samples = |ms: usize| sample_rate as usize * ms / 1_000;
        Self {
            held: Vec::new(),
            voiced: false,
            taken_off: 0,
            at_joint: false,
            lead: samples(LEAD_MS),
            joined_lead: samples(JOINED_LEAD_MS),
            tail: samples(TAIL_MS),
            pause: samples(PAUSE_MS),
        }
    }

    /// Takes samples and returns those that are certainly wanted.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        let is_voice = |sample: &f32| sample.abs() > THRESHOLD;
        let samples = match samples.iter().position(is_voice) {
            _ if !self.at_joint => samples,
            first => {
                let surplus = first.map_or(samples.len(), |first| first.saturating_sub(self.joined_lead));
                self.at_joint = first.is_none();
                self.taken_off += surplus;
                &samples[surplus..]
            }
        };
        let Some(last) = samples.iter().rposition(is_voice) else {
            self.hold(samples);
            return Vec::new();
        };
        let mut out = std::mem::take(&mut self.held);
        if !self.voiced {
            self.voiced = true;
            let first = samples.iter().position(is_voice).unwrap_or(0);
            out.extend_from_slice(&samples[..first]);
            let surplus = out.len().saturating_sub(self.lead);
            self.taken_off += surplus;
            out.drain(..surplus);
            out.extend_from_slice(&samples[first..=last]);
        } else {
            out.extend_from_slice(&samples[..=last]);
        }
        self.hold(&samples[last + 1..]);
        out
    }

    /// What was made apart comes next as if it were one: the pause between the two is at most so long. Gives how much of
    /// it is held.
    pub fn join(&mut self, pause: usize) -> usize {
        self.held.truncate(pause);
        (self.at_joint, self.taken_off) = (self.voiced, 0);
        self.held.len()
    }

    /// How many samples were taken off the beginning, or since the last joint; known once there is a voice.
    pub fn taken_off(&self) -> usize {
        self.taken_off
    }

    /// Gives back what is held, and trims no more; for who only wants the beginning trimmed.
    pub fn release(self) -> Vec<f32> {
        self.held
    }

    /// Returns the end of the sentence. Without any voice before it there is nothing worth hearing.
    pub fn finish(mut self) -> Vec<f32> {
        if !self.voiced {
            return Vec::new();
        }
        self.held.truncate(self.tail);
        self.held
    }

    fn hold(&mut self, silence: &[f32]) {
        self.held.extend_from_slice(silence);
        if self.voiced {
            self.held.truncate(self.pause);
        } else {
            let surplus = self.held.len().saturating_sub(self.lead);
            self.taken_off += surplus;
            self.held.drain(..surplus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 1_000;

    fn trimmed(samples: &[f32], piece: usize) -> Vec<f32> {
        let mut trimmer = Trimmer::new(RATE);
        let mut out = Vec::new();
        for piece in samples.chunks(piece) {
            out.extend(trimmer.push(piece));
        }
        out.extend(trimmer.finish());
        out
    }

    fn sentence(lead: usize, pause: usize, tail: usize) -> Vec<f32> {
        [vec![0.0; lead], vec![0.5; 100], vec![0.001; pause], vec![-0.5; 100], vec![0.0; tail]].concat()
    }

    #[test]
    fn long_ends_are_cut_and_the_pause_inside_stays() {
        for piece in [1, 7, 64, 10_000] {
            assert_eq!(trimmed(&sentence(300, 400, 900), piece), sentence(LEAD_MS, 400, TAIL_MS), "pieces of {piece}");
        }
    }

    #[test]
    fn between_what_is_joined_a_pause_is_as_long_as_it_may_be() {
        for piece in [1, 7, 64, 10_000] {
            let mut trimmer = Trimmer::new(RATE);
            let mut out = Vec::new();
            for (at, part) in [sentence(300, 10, 400), sentence(200, 10, 900)].iter().enumerate() {
                if at > 0 {
                    assert_eq!(trimmer.join(50), 50);
                }
                part.chunks(piece).for_each(|piece| out.extend(trimmer.push(piece)));
            }
            out.extend(trimmer.finish());
            // Samples that came with the voice's first in one piece are kept up to the lead of a joint.
            let joined = out.len() - 2 * 210 - LEAD_MS - TAIL_MS;
            assert!((50..=50 + JOINED_LEAD_MS).contains(&joined), "{joined} in pieces of {piece}");
        }
    }

    #[test]
    fn short_ends_stay_as_they_are() {
        assert_eq!(trimmed(&sentence(12, 0, 30), 64), sentence(12, 0, 30));
    }

    #[test]
    fn silence_alone_is_nothing() {
        assert_eq!(trimmed(&vec![0.0; 100_000], 64), Vec::<f32>::new());
    }

    #[test]
    fn voice_is_handed_on_before_the_sentence_ends() {
        let mut trimmer = Trimmer::new(RATE);
        assert_eq!(trimmer.push(&[0.0, 0.5, 0.5, 0.0]), [0.0, 0.5, 0.5]);
    }

    #[test]
    fn endless_silence_is_not_collected() {
        let mut trimmer = Trimmer::new(RATE);
        trimmer.push(&[0.5]);
        for _ in 0..1_000 {
            assert!(trimmer.push(&[0.0; 100]).is_empty());
        }
        assert_eq!(trimmer.held.len(), PAUSE_MS);
    }
}
