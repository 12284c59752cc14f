//! Makes one recording sound like many: other voices, microphones, rooms and levels.
//!
//! Nothing here moves speech in time, except [`resample`], whose caller moves the labels along.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

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
pub fn disturb(samples: &mut [f32], rng: &mut ChaCha8Rng) {
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
