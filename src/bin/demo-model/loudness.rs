//! How loud speech is from syllable to syllable: a jaw opens further for a loud vowel than for the same one murmured
//! (Schulman 1989, "Articulatory dynamics of loud speech").
//!
//! Not in here: which sound is spoken (`visemes`).

use mouthpiece::timeline::LIPSYNC_RATE;

/// Hann window over which power is averaged, in seconds: about a syllable, so that the gap of a stop dips little.
const WINDOW: f64 = 0.16;
/// What counts as loud: this share of a recording's audible moments is less loud.
const LOUD: f64 = 0.9;
/// 30 dB under the loudest moment begins what is inaudible.
const AUDIBLE: f32 = 1e-3;
/// Decibels under loud that would shut the mouth, if `LEAST` let them.
const SHUT_DB: f32 = 20.0;
const LEAST: f32 = 0.4;
const MOST: f32 = 1.1;

/// By how much a mouth opens beside how it opens for loud speech, every `step` seconds of a recording: 0.4, as in a
/// pause, to 1.1. A recording without sound has 1 throughout.
pub fn openness(samples: &[f32], step: f64) -> Vec<f32> {
    let power = syllabic_power(samples, step);
    let least = power.iter().copied().fold(0.0, f32::max) * AUDIBLE;
    let mut audible: Vec<f32> = power.iter().copied().filter(|power| *power > least).collect();
    audible.sort_by(f32::total_cmp);
    let Some(loud) = audible.get(share_of(audible.len())) else { return vec![1.0; power.len()] };
    power.iter().map(|power| (1.0 + 10.0 * (power / loud).log10() / SHUT_DB).clamp(LEAST, MOST)).collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "recordings have far fewer than 2^24 steps"
)]
fn share_of(count: usize) -> usize {
    (count as f64 * LOUD) as usize
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "recordings have far fewer than 2^24 samples"
)]
fn syllabic_power(samples: &[f32], step: f64) -> Vec<f32> {
    let rate = f64::from(LIPSYNC_RATE);
    let (hop, half) = ((step * rate) as usize, (WINDOW * rate / 2.0) as usize);
    // Energy a hop, then the window over hops: a hop is short beside it.
    let hops: Vec<f32> = samples.chunks(hop.max(1)).map(|hop| hop.iter().map(|sample| sample * sample).sum()).collect();
    let reach = half / hop.max(1);
    let weights: Vec<f32> = (0..=2 * reach)
        .map(|at| 0.5 - 0.5 * (std::f32::consts::TAU * (at + 1) as f32 / (2 * reach + 2) as f32).cos())
        .collect();
    (0..hops.len())
        .map(|centre| {
            let around = weights.iter().enumerate();
            let heard = around.filter_map(|(at, weight)| Some(weight * hops.get((centre + at).checked_sub(reach)?)?));
            heard.sum()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quieter_speech_opens_less_however_loud_the_recording() {
        let tone = |at: usize| (at as f32 * 0.3).sin() * if at < 16_000 { 0.5 } else { 0.158 };
        for gain in [1.0, 0.05] {
            let samples: Vec<f32> = (0..32_000).map(|at| gain * tone(at)).collect();
            let openness = openness(&samples, 0.005);
            assert_eq!(openness.len(), 400);
            assert!((openness[100] - 1.0).abs() < 0.02, "{}", openness[100]);
            // 10 dB less.
            assert!((openness[300] - 0.5).abs() < 0.02, "{}", openness[300]);
        }
    }

    #[test]
    fn silence_has_a_value_too() {
        assert_eq!(openness(&[0.0; 1600], 0.005), vec![1.0; 20]);
        assert!(openness(&[], 0.005).is_empty());
    }
}
