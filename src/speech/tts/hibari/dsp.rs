//! From the network's spectrum to sound at 24 kHz, frame by frame.
//!
//! In here: a train of pulses at the voice's pitch, its spectrum shaped by the harmonic part, shaped noise and a part
//! with a phase of its own added, and one inverse transform with overlapping windows. Not in here: the network.
//! Runs on: a thread of the voice.
//!
//! A port of `dsp.py` of hibari 0.2.1 (Copyright 2026 Maureese Williams, Apache-2.0; licence and notice lie beside the
//! voice's files).

use std::f32::consts::PI;
use std::f64::consts::TAU;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

pub(super) const SAMPLE_RATE: u32 = 24_000;
/// Samples from one frame to the next.
pub(super) const HOP: usize = 300;
const WINDOW: usize = 1_200;
/// Frames that overlap at any sample.
const OVERLAP: usize = WINDOW / HOP;
/// Frequencies of a frame.
pub(super) const BINS: usize = WINDOW / 2 + 1;

/// Below this pitch a frame has no pulses.
const VOICED_HZ: f32 = 40.0;
/// Harmonics end here, below half the rate.
const HIGHEST_HARMONIC_HZ: f32 = 11_000.0;
/// Logarithms of magnitudes are cut here.
const LOUDEST: f32 = 7.0;

/// What the network gives: for each bin the values of all frames, one bin after the other, and the pitch.
pub(super) struct Spectrum {
    /// Logarithm of the pulses' magnitude.
    pub harmonic: Vec<f32>,
    /// What turns the pulses' phase, before `tanh`.
    pub theta: Vec<f32>,
    /// Logarithm of the noise's magnitude.
    pub noise: Vec<f32>,
    /// Logarithm of the magnitude of the part with its own phase.
    pub free: Vec<f32>,
    pub phase: Vec<f32>,
    /// Hz, for each frame.
    pub pitch: Vec<f32>,
}

/// The transforms, planned once.
pub(super) struct Transforms {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    window: Vec<f32>,
}

impl Transforms {
    pub(super) fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        let hann = |at: usize| 0.5 - 0.5 * (TAU * at as f64 / WINDOW as f64).cos();
        #[allow(clippy::cast_possible_truncation, reason = "a window's values lie between 0 and 1")]
        let window = (0..WINDOW).map(|at| hann(at) as f32).collect();
        Self { forward: planner.plan_fft_forward(WINDOW), inverse: planner.plan_fft_inverse(WINDOW), window }
    }
}

/// Normally distributed noise; `None` is silence, for comparisons.
pub(super) struct Noise(Option<ChaCha8Rng>);

impl Noise {
    /// The same each time: one text always gives the same sound.
    pub(super) fn new() -> Self {
        Self(Some(ChaCha8Rng::seed_from_u64(0)))
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Two independent values of unit variance, by Box and Muller.
    fn pair(&mut self) -> Complex32 {
        let Some(random) = &mut self.0 else { return Complex32::ZERO };
        let radius = (-2.0 * (1.0 - random.random::<f32>()).ln()).sqrt();
        Complex32::from_polar(radius, 2.0 * PI * random.random::<f32>())
    }
}

/// A sentence's sound on its way; gives 300 samples for each frame.
pub(super) struct Synthesis<'t> {
    transforms: &'t Transforms,
    spectrum: Spectrum,
    pulses: Vec<f32>,
    noise: Noise,
    /// Frames added to `sum`.
    added: usize,
    /// Blocks of `HOP` samples given out.
    given: usize,
    /// The next `OVERLAP` blocks, each the sum of the frames so far.
    sum: Vec<f32>,
    bins: Vec<Complex32>,
    scratch: Vec<f32>,
}

impl<'t> Synthesis<'t> {
    pub(super) fn new(transforms: &'t Transforms, spectrum: Spectrum, noise: Noise) -> Self {
        let pulses = pulses(&spectrum.pitch);
        Self {
            transforms,
            spectrum,
            pulses,
            noise,
            added: 0,
            given: 0,
            sum: vec![0.0; WINDOW],
            bins: vec![Complex32::ZERO; BINS],
            scratch: vec![0.0; WINDOW],
        }
    }

    /// The sound of up to so many more frames; empty at the end.
    pub(super) fn next(&mut self, frames: usize) -> Vec<f32> {
        let end = self.frames().min(self.given + frames);
        let mut sound = Vec::with_capacity((end - self.given) * HOP);
        while self.given < end {
            // The first block of the sum is complete once its frame is in. The first two lie before the sound.
            let block = self.added;
            if block < self.frames() {
                self.add_frame(block);
            }
            self.added += 1;
            if block >= OVERLAP / 2 {
                sound.extend(self.sum[..HOP].iter().zip(self.weights(block)).map(|(sum, weight)| sum / weight));
                self.given += 1;
            }
            self.sum.copy_within(HOP.., 0);
            self.sum[WINDOW - HOP..].fill(0.0);
        }
        sound
    }

    fn frames(&self) -> usize {
        self.spectrum.pitch.len()
    }

    /// Sums of the squared windows that overlap in a block; fewer at both ends.
    fn weights(&self, block: usize) -> [f32; HOP] {
        let mut weights = [0.0; HOP];
        for part in 0..OVERLAP {
            if block >= part && block - part < self.frames() {
                let window = &self.transforms.window[part * HOP..(part + 1) * HOP];
                weights.iter_mut().zip(window).for_each(|(weight, window)| *weight += window * window);
            }
        }
        weights.map(|weight: f32| weight.max(1e-11))
    }

    /// Adds one frame's waveform to the sum, whose first block is the frame's.
    fn add_frame(&mut self, frame: usize) {
        let Self { transforms, spectrum, pulses, noise, sum, bins, scratch, .. } = self;
        // A pulse's harmonic peaks at half the window's sum, so its magnitude becomes that of `harmonic`.
        let scale = OVERLAP as f32 / WINDOW as f32;
        for (at, (value, window)) in scratch.iter_mut().zip(&transforms.window).enumerate() {
            *value = mirrored(pulses, frame * HOP + at) * window * scale;
        }
        // Only lengths could be wrong.
        let _ = transforms.forward.process(scratch, bins);
        let frames = spectrum.pitch.len();
        for (bin, value) in bins.iter_mut().enumerate() {
            let at = bin * frames + frame;
            let magnitude = |logarithms: &[f32]| logarithms[at].min(LOUDEST).exp();
            *value *= Complex32::from_polar(magnitude(&spectrum.harmonic), PI * spectrum.theta[at].tanh());
            *value += noise.pair() * magnitude(&spectrum.noise);
            *value += Complex32::from_polar(magnitude(&spectrum.free), spectrum.phase[at]);
        }
        // A real signal has none there, and the transform would refuse it.
        bins[0].im = 0.0;
        bins[BINS - 1].im = 0.0;
        let _ = transforms.inverse.process(bins, scratch);
        for ((sum, value), window) in sum.iter_mut().zip(scratch).zip(&transforms.window) {
            *sum += *value * window / WINDOW as f32;
        }
    }
}

/// A sample of the signal with half a window mirrored in front and behind.
fn mirrored(signal: &[f32], at: usize) -> f32 {
    let last = signal.len() - 1;
    let at = at.abs_diff(WINDOW / 2);
    // A signal shorter than that is mirrored again and again.
    let at = if last == 0 { 0 } else { at % (2 * last) };
    signal[if at > last { 2 * last - at } else { at }]
}

/// Every harmonic of the pitch at unit amplitude: the sum over `cos(h t)` is `sin((H + 1/2) t) / (2 sin(t/2)) - 1/2`.
fn pulses(pitch: &[f32]) -> Vec<f32> {
    let mut pulses = Vec::with_capacity(pitch.len() * HOP);
    let mut turns = 0.0f64;
    for frame in 0..pitch.len() {
        let (here, before) = (pitch[frame], pitch[frame.saturating_sub(1)]);
        let after = pitch[(frame + 1).min(pitch.len() - 1)];
        for at in 0..HOP {
            // A frame's value is that of its middle; between middles it runs straight.
            let way = (at as f32 + 0.5) / HOP as f32 + 0.5;
            let hertz =
                if at < HOP / 2 { before * (1.0 - way) + here * way } else { here * (2.0 - way) + after * (way - 1.0) };
            let voiced = hertz > VOICED_HZ;
            let hertz = hertz.max(VOICED_HZ);
            turns = (turns + f64::from(hertz) / f64::from(SAMPLE_RATE)).fract();
            #[allow(clippy::cast_possible_truncation, reason = "an angle within one turn")]
            let angle = (turns * TAU) as f32;
            let harmonics = (HIGHEST_HARMONIC_HZ / hertz).floor() + 0.5;
            let divisor = 2.0 * (angle * 0.5).sin();
            let sum = if divisor.abs() <= 2e-3 { harmonics } else { (harmonics * angle).sin() / divisor };
            pulses.push(if voiced { sum - 0.5 } else { 0.0 });
        }
    }
    pulses
}
