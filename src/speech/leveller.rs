//! Brings every voice to the same loudness, slowly, so that a change of voice is no change of volume.
//!
//! In here: what is known of a voice's loudness and the gain that follows from it. Loudness is that of ITU-R BS.1770 (the
//! crate `ebur128` has the K-weighting): blocks of 400 ms, those gated out that are far below the rest, which are pauses.
//! Not in here: whose sound is levelled (`tts::levelled`). Pure; runs on the task that owns it.

use std::sync::{Arc, Mutex, PoisonError};

use ebur128::{EbuR128, Mode};

/// Where every voice is brought, in LUFS: as loud as recorded speech is delivered (EBU R 128's -23 is for broadcasts with
/// music in them; spoken-word platforms ask for -16 to -20), with room above for its peaks.
pub const TARGET: f64 = -19.0;
/// The most that a voice is turned down or up, in dB. One that needs more is broken, or is noise.
const BOUNDS: (f64, f64) = (-15.0, 18.0);
/// How fast the gain moves within a sentence, in dB a second: not heard as such. It jumps between sentences.
const SLEW: f64 = 4.0;
/// A step of the measure, of which a block has four (BS.1770).
const STEPS_A_SECOND: u32 = 10;
const STEPS_A_BLOCK: u32 = 4;
/// Quieter blocks are silence (BS.1770).
const SILENCE: f64 = -70.0;
/// Blocks so far below the mean are pauses (BS.1770).
const PAUSE: f64 = 10.0;
/// What a block counts for after the next one: two thirds of what is known are the last ten seconds of speech.
const KEPT: f64 = 0.99;
/// Louder than a full-scale square wave is no sound.
const LOUDEST: f64 = 6.0;
/// Blocks (half a second) that must be known before they are believed.
const ENOUGH: f64 = 1.9;
/// Up to here a sample passes as it is, and is bent towards 1 from here on.
const KNEE: f32 = 0.8;

/// How loud a voice is known to be; clones know the same, so that whatever it says next begins at the right gain.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownLoudness(Arc<Mutex<Means>>);

/// Mean powers that forget.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    all: Mean,
    speech: Mean,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    fn take(&mut self, power: f64) {
        self.sum = self.sum * KEPT + power;
        self.weight = self.weight * KEPT + 1.0;
    }

    /// `None` before there is enough of it.
    fn loudness(self) -> Option<f64> {
        (self.weight >= ENOUGH).then(|| 10.0 * (self.sum / self.weight).log10())
    }
}

impl KnownLoudness {
    fn take(&self, loudness: f64) {
        // What is not a number is in no range either.
        if (SILENCE..LOUDEST).contains(&loudness) {
            let mut means = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let power = 10f64.powf(loudness / 10.0);
            means.all.take(power);
            if means.all.loudness().is_none_or(|mean| loudness > mean - PAUSE) {
                means.speech.take(power);
            }
        }
    }

    /// In dB; `None` as long as too little of the voice was heard.
    fn gain(&self) -> Option<f64> {
        let speech = self.0.lock().unwrap_or_else(PoisonError::into_inner).speech;
        speech.loudness().map(|loudness| (TARGET - loudness).clamp(BOUNDS.0, BOUNDS.1))
    }
}

/// Levels one sentence as it comes.
pub(super) struct Leveller {
    known: KnownLoudness,
    meter: EbuR128,
    sample_rate: u32,
    /// Samples of the meter's step that has begun, and steps before it.
    begun: usize,
    steps: u32,
    /// In dB.
    gain: f64,
}

impl Leveller {
    /// `None` at a rate that cannot be measured; such a sentence stays as loud as it is.
    pub fn new(known: KnownLoudness, sample_rate: u32) -> Option<Self> {
        let meter = EbuR128::new(1, sample_rate, Mode::M).ok()?;
        let gain = known.gain().unwrap_or(0.0);
        Some(Self { known, meter, sample_rate, begun: 0, steps: 0, gain })
    }

    /// The next samples of the sentence, as many as there are.
    pub fn push(&mut self, samples: &[f32]) -> Vec<f32> {
        let mut levelled = Vec::with_capacity(samples.len());
        let step = (self.sample_rate / STEPS_A_SECOND).max(1) as usize;
        let mut rest = samples;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(step - self.begun));
            self.begun += now.len();
            // Refused is only what has another number of channels.
            let _ = self.meter.add_frames_f32(now);
            self.turn(now, &mut levelled);
            // Only at a step's end, so that pieces may be as long as they like.
            if self.begun == step {
                self.measure();
            }
            rest = later;
        }
        levelled
    }

    fn measure(&mut self) {
        self.begun = 0;
        self.steps = self.steps.saturating_add(1);
        if self.steps >= STEPS_A_BLOCK
            && let Ok(loudness) = self.meter.loudness_momentary()
        {
            self.known.take(loudness);
        }
    }

    /// Moves the gain towards what it should be, a little with each sample.
    fn turn(&mut self, samples: &[f32], levelled: &mut Vec<f32>) {
        let wanted = self.known.gain().unwrap_or(self.gain);
        let most = SLEW / f64::from(self.sample_rate);
        let (mut factor, left) = (factor(self.gain), wanted - self.gain);
        let moving = samples.len().min(whole(left.abs() / most));
        let a_sample = self::factor(most.copysign(left));
        for (at, sample) in samples.iter().enumerate() {
            if at < moving {
                factor *= a_sample;
            }
            levelled.push(limited(sample * factor));
        }
        let steps = f64::from(u32::try_from(moving).unwrap_or(u32::MAX));
        self.gain = if moving < samples.len() { wanted } else { self.gain + steps * most.copysign(left) };
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a factor of at most 8")]
fn factor(decibels: f64) -> f32 {
    10f64.powf(decibels / 20.0) as f32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and `as` saturates")]
fn whole(number: f64) -> usize {
    number as usize
}

/// Never louder than full scale; bent softly, without a corner, where it would be.
fn limited(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over <= 0.0 { sample } else { (KNEE + (1.0 - KNEE) * (over / (1.0 - KNEE)).tanh()).copysign(sample) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: u32 = 24_000;

    /// A hum with overtones in syllables, with a pause each second: speech as far as a meter can tell.
    fn speech(seconds: f32, peak: f32) -> Vec<f32> {
        let samples = (seconds * RATE as f32) as u32;
        let sample = |at: u32| {
            let time = at as f32 / RATE as f32;
            let voice: f32 = (1..20).map(|n| (std::f32::consts::TAU * 140.0 * n as f32 * time).sin() / n as f32).sum();
            let syllable = (std::f32::consts::PI * 4.0 * time).sin().abs();
            if time.fract() > 0.85 { 0.0 } else { peak * 0.55 * voice * syllable }
        };
        (0..samples).map(sample).collect()
    }

    fn levelled(known: &KnownLoudness, samples: &[f32], piece: usize) -> Vec<f32> {
        let mut leveller = Leveller::new(known.clone(), RATE).unwrap();
        samples.chunks(piece).flat_map(|piece| leveller.push(piece)).collect()
    }

    /// Of the whole, gated, as a loudness meter shows it.
    fn loudness(samples: &[f32]) -> f64 {
        let mut meter = EbuR128::new(1, RATE, Mode::I).unwrap();
        meter.add_frames_f32(samples).unwrap();
        meter.loudness_global().unwrap()
    }

    #[test]
    fn voices_of_any_loudness_are_equally_loud_from_their_second_sentence_on() {
        for peak in [0.06, 0.12, 0.25, 0.5, 1.0] {
            let known = KnownLoudness::default();
            levelled(&known, &speech(3.0, peak), 480);
            let second = loudness(&levelled(&known, &speech(3.0, peak), 480));
            assert!((second - TARGET).abs() < 0.7, "peak {peak}: {second:.2} LUFS");
        }
    }

    #[test]
    fn the_gain_moves_slowly_within_a_sentence() {
        let (quiet, known) = (vec![0.01f32; RATE as usize], KnownLoudness::default());
        levelled(&known, &speech(2.0, 0.1), 480);
        // KnownLoudness to need some gain, then something much louder is said.
        let mut leveller = Leveller::new(known, RATE).unwrap();
        leveller.push(&speech(4.0, 1.0));
        let after = leveller.gain;
        leveller.push(&quiet);
        assert!((leveller.gain - after).abs() <= SLEW + 0.01);
        let mut before = leveller.gain;
        for piece in speech(2.0, 0.5).chunks(RATE as usize / 100) {
            leveller.push(piece);
            assert!((leveller.gain - before).abs() <= SLEW / 100.0 + 1e-9);
            before = leveller.gain;
        }
    }

    #[test]
    fn silence_and_noise_far_below_speech_are_not_turned_up() {
        let known = KnownLoudness::default();
        assert!(levelled(&known, &vec![0.0; 5 * RATE as usize], 777).iter().all(|sample| *sample == 0.0));
        assert_eq!(known.gain(), None, "silence tells nothing of the voice");
        levelled(&known, &speech(3.0, 0.5), 480);
        let before = known.gain().unwrap();
        let hiss: Vec<f32> = speech(5.0, 0.5).iter().map(|sample| sample * 0.05).collect();
        levelled(&known, &hiss, 480);
        assert!((known.gain().unwrap() - before).abs() < 0.2, "a pause full of noise changes the gain");
    }

    #[test]
    fn the_limiter_has_no_corner() {
        let curve: Vec<f32> = (0..4000).map(|at| limited(at as f32 / 1000.0)).collect();
        let slopes: Vec<f32> = curve.windows(2).map(|pair| (pair[1] - pair[0]) * 1000.0).collect();
        assert!(slopes.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.01 && pair[1] >= -1e-3));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_clips_nothing_is_lost_and_pieces_do_not_matter(
            peak in 0.0f32..4.0,
            pieces in prop::collection::vec(1usize..3000, 1..20),
        ) {
            let said = speech(1.5, peak);
            let whole = levelled(&KnownLoudness::default(), &said, said.len());
            let (mut rest, mut out) = (&said[..], Vec::new());
            let mut leveller = Leveller::new(KnownLoudness::default(), RATE).unwrap();
            for piece in pieces.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(rest.len().min(*piece));
                out.extend(leveller.push(now));
                rest = later;
            }
            prop_assert_eq!(out.len(), said.len());
            for ((one, other), given) in out.iter().zip(&whole).zip(&said) {
                prop_assert!((one - other).abs() < 2e-3, "{} and {}", one, other);
                prop_assert!(one.abs() <= 1.0);
                prop_assert!(one * given >= 0.0 && (*given != 0.0 || *one == 0.0));
            }
        }

        #[test]
        fn whatever_comes_is_survived(samples in prop::collection::vec(any::<f32>(), 0..9000)) {
            let mut leveller = Leveller::new(KnownLoudness::default(), 8_000).unwrap();
            prop_assert_eq!(leveller.push(&samples).len(), samples.len());
            let (least, most) = BOUNDS;
            prop_assert!((least..=most).contains(&leveller.gain));
        }
    }
}
