//! Makes one recording sound like many: other voices, microphones, rooms and levels.
//!
//! Nothing here moves speech in time, except [`resample`], whose caller moves the labels along.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Result;

/// Of the scaled logarithm that the spectrogram is in: 10 dB.
const TEN_DECIBELS: f32 = 0.25;

/// The same speech `factor` times as fast and as high: another voice. Linear interpolation is good enough for
/// factors near 1, and its slight dullness is one more augmentation.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clips have far fewer than 2^24 samples"
)]
pub fn resample(samples: &[f32], factor: f64) -> Vec<f32> {
    let length = (samples.len() as f64 / factor) as usize;
    let sample = |at: usize| samples.get(at).copied().unwrap_or(0.0);
    (0..length)
        .map(|index| {
            let at = index as f64 * factor;
            let (whole, part) = (at as usize, at.fract() as f32);
            sample(whole) * (1.0 - part) + sample(whole + 1) * part
        })
        .collect()
}

/// Disturbs a stretch of audio in place: room, tilt, bandwidth, level, noise, in this order.
pub(super) fn disturb(samples: &mut [f32], rng: &mut ChaCha8Rng) {
    if rng.random_bool(0.3) {
        reverberate(samples, rng);
    }
    if rng.random_bool(0.6) {
        tilt(samples, rng.random_range(-0.6..0.7));
    }
    if rng.random_bool(0.25) {
        let cutoff = rng.random_range(3000.0..5500.0);
        low_pass(samples, cutoff);
        low_pass(samples, cutoff);
    }
    let gain = 10_f32.powf(rng.random_range(-12.0..12.0) / 20.0);
    // Recordings clip, too.
    samples.iter_mut().for_each(|sample| *sample = (*sample * gain).clamp(-1.0, 1.0));
    if rng.random_bool(0.6) {
        noise(samples, rng.random_range(12.0..45.0), rng);
    }
}

/// Another throat and another microphone: moves the bands of a spectrogram, `[bands, frames]`, up or down and gives
/// each its own level. Nothing sinks under the spectrogram's own floor.
pub(super) fn disturb_bands(mel: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let bands = mel.size2()?.0;
    let count = u16::try_from(bands).unwrap_or(u16::MAX);
    let (stretch, shift) = (rng.random_range(0.92..1.09_f32), rng.random_range(-0.8..0.8_f32));
    let knots: Vec<f32> = (0..6).map(|_| rng.random_range(-0.8..0.8) * TEN_DECIBELS).collect();
    let (mut weights, mut levels) = (Vec::new(), Vec::new());
    for band in (0..count).map(f32::from) {
        let from = (band * stretch + shift).clamp(0.0, f32::from(count - 1));
        // A tent around where the band comes from: linear interpolation as a matrix.
        weights.extend((0..count).map(|other| (1.0 - (f32::from(other) - from).abs()).max(0.0)));
        levels.push(knots.iter().zip(0_u8..).fold(0.0, |level, (knot, at)| {
            let distance = (band / f32::from(count) * 5.0 - f32::from(at)).abs();
            level + knot * (1.0 - distance).max(0.0)
        }));
    }
    let weights = Tensor::f_from_slice(&weights)?.f_view([bands, bands])?;
    let levels = Tensor::f_from_slice(&levels)?.f_view([bands, 1])?;
    let floor = mel.f_min()?.f_double_value(&[])?;
    Ok(weights.f_matmul(mel)?.f_add(&levels)?.f_clamp_min(floor)?)
}

/// A few early reflections, at most 45 ms late.
fn reverberate(samples: &mut [f32], rng: &mut ChaCha8Rng) {
    let taps: Vec<(usize, f32)> =
        (0..6).map(|_| (rng.random_range(40..720), rng.random_range(-0.22..0.22_f32))).collect();
    for index in (0..samples.len()).rev() {
        let late: f32 = taps.iter().filter_map(|&(delay, gain)| Some(samples[index.checked_sub(delay)?] * gain)).sum();
        samples[index] += late;
    }
}

/// First-order emphasis of high (positive) or low (negative) frequencies.
fn tilt(samples: &mut [f32], amount: f32) {
    let mut before = 0.0;
    for sample in samples {
        let now = *sample;
        *sample = now - amount * before;
        before = now;
    }
}

fn low_pass(samples: &mut [f32], cutoff: f32) {
    let share = 1.0 - (-std::f32::consts::TAU * cutoff / 16_000.0).exp();
    let mut level = 0.0;
    for sample in samples {
        level += share * (*sample - level);
        *sample = level;
    }
}

/// Noise, white or brownish, so far below the speech.
#[allow(clippy::cast_precision_loss, reason = "a stretch has thousands of samples")]
fn noise(samples: &mut [f32], decibels: f32, rng: &mut ChaCha8Rng) {
    let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32;
    let amplitude = (3.0 * power).sqrt() * 10_f32.powf(-decibels / 20.0);
    let memory = if rng.random_bool(0.5) { 0.0 } else { 0.85_f32 };
    let scale = amplitude * (1.0 - memory * memory).sqrt();
    let mut level = 0.0;
    for sample in samples {
        level = memory * level + scale * rng.random_range(-1.0..1.0_f32);
        *sample += level;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn resampling_keeps_what_is_said_and_changes_how_long_it_takes() {
        let slow: Vec<f32> = (0_u16..1000).map(|at| f32::from(at) / 1000.0).collect();
        let fast = resample(&slow, 1.25);
        assert_eq!(fast.len(), 800);
        assert!((fast[400] - slow[500]).abs() < 1e-4);
    }

    #[test]
    fn disturbed_bands_stay_over_the_floor_and_keep_their_place_in_time() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mel = Tensor::full([40, 8], -0.25, (tch::Kind::Float, tch::Device::Cpu));
        let _ = mel.narrow(1, 3, 1).fill_(1.0);
        let disturbed = disturb_bands(&mel, &mut rng).unwrap();
        assert_eq!(disturbed.size(), mel.size());
        assert!(disturbed.min().double_value(&[]) >= -0.25 - 1e-6);
        let loudest = disturbed.mean_dim(0, false, tch::Kind::Float).argmax(0, false).int64_value(&[]);
        assert_eq!(loudest, 3);
    }
}
