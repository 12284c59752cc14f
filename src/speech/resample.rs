//! Sample rate conversion of a stream of mono speech: 16 kHz for the network, 48 kHz for Opus.
//!
//! In here: `Resampler`, over `rubato`'s sinc interpolation. Not in here: what the samples are for.
//! Runs on: whichever task or thread owns the `Resampler`; it never waits.
//!
//! What mouth and voice need from it: output sample `k` is the input at time `k / to` exactly, so nothing shifts
//! the voice against the frames drawn from it, and `n` samples in are `round(n * to / from)` samples out, so two
//! rates made from one input stay equally long. How the input was cut into pieces changes nothing.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use rubato::{
    ResampleError, Resampler as _, ResamplerConstructionError, SincFixedIn, SincInterpolationParameters,
    SincInterpolationType, WindowFunction, calculate_cutoff,
};

use super::SpeechError;
use super::pcm::SAMPLE_RATES;

/// Fastest rate that anything is brought down from: recordings have it.
const MAX_SOURCE_RATE: u32 = 192_000;
/// Samples a second that a stream may have which is converted; what comes out has one of `SAMPLE_RATES`.
pub(super) const SOURCE_RATES: RangeInclusive<u32> = *SAMPLE_RATES.start()..=MAX_SOURCE_RATE;

/// Taps of the filter when the rate rises; falling rates widen it so that its transition keeps its width in Hz.
const TAPS: usize = 128;
/// Positions of the filter that are computed ahead, per input sample; cubic interpolation does the rest.
const OVERSAMPLING: usize = 160;
/// Pieces a second in which input is handed to the filter: 5 ms, about as long as the filter itself looks ahead.
const BLOCKS_PER_SECOND: u32 = 200;

/// Converts one stream of samples between two fixed rates.
pub struct Resampler {
    from: u32,
    to: u32,
    /// `None` when both rates are the same.
    filter: Option<Filter>,
    samples_in: u64,
    samples_out: u64,
}

impl Resampler {
    /// From one rate to another, in Hz: 8 to 192 kHz come in, 8 to 48 kHz go out.
    pub fn new(from: u32, to: u32) -> Result<Self, SpeechError> {
        let failed = |problem: String| SpeechError::Resample { from, to, problem };
        for (rate, rates) in [(from, SOURCE_RATES), (to, SAMPLE_RATES)] {
            if !rates.contains(&rate) {
                return Err(failed(format!("{rate} Hz is outside {} to {} Hz", rates.start(), rates.end())));
            }
        }
        let filter = match from == to {
            true => None,
            false => Some(Filter::new(from, to).map_err(|error| failed(error.to_string()))?),
        };
        Ok(Self { from, to, filter, samples_in: 0, samples_out: 0 })
    }

    /// Takes the next input samples and returns the output that is certain by now, a few milliseconds behind.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>, SpeechError> {
        self.samples_in += samples.len() as u64;
        let Some(filter) = &mut self.filter else {
            return Ok(samples.to_vec());
        };
        let mut out = Vec::with_capacity(samples.len() * self.to as usize / self.from as usize + 64);
        let filtered = filter.push(samples, &mut out);
        self.samples_out += out.len() as u64;
        filtered.map_err(|error| self.failed(&error))?;
        Ok(out)
    }

    /// Returns what is left of the stream and makes the resampler ready for another one.
    pub fn finish(&mut self) -> Result<Vec<f32>, SpeechError> {
        let missing = output_len(self.samples_in, self.from, self.to).saturating_sub(self.samples_out);
        self.samples_in = 0;
        self.samples_out = 0;
        let (from, to) = (self.from, self.to);
        let Some(filter) = &mut self.filter else {
            return Ok(Vec::new());
        };
        let finished = filter.finish(usize::try_from(missing).unwrap_or(usize::MAX), from, to);
        finished.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &ResampleError) -> SpeechError {
        SpeechError::Resample { from: self.from, to: self.to, problem: error.to_string() }
    }
}

/// Output samples that belong to a whole stream of `samples_in`, rounded half up.
fn output_len(samples_in: u64, from: u32, to: u32) -> u64 {
    let (from, to) = (u128::from(from), u128::from(to));
    u64::try_from((u128::from(samples_in) * to * 2 + from) / (2 * from)).unwrap_or(u64::MAX)
}

struct Filter {
    sinc: SincFixedIn<f32>,
    pending: VecDeque<f32>,
    /// One block, in the shape that `rubato` wants: a vector of channels.
    input: [Vec<f32>; 1],
    output: [Vec<f32>; 1],
    /// Output samples still to be thrown away.
    skip: usize,
}

impl Filter {
    fn new(from: u32, to: u32) -> Result<Self, ResamplerConstructionError> {
        let widening = (f64::from(from) / f64::from(to)).max(1.0);
        // rubato wants a multiple of 8 for its SIMD kernels.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let taps = ((TAPS as f64 * widening) as usize).next_multiple_of(8);
        let window = WindowFunction::BlackmanHarris;
        let parameters = SincInterpolationParameters {
            sinc_len: taps,
            f_cutoff: calculate_cutoff(TAPS, window),
            oversampling_factor: OVERSAMPLING,
            interpolation: SincInterpolationType::Cubic,
            window,
        };
        let block = (from / BLOCKS_PER_SECOND) as usize;
        let sinc = SincFixedIn::new(f64::from(to) / f64::from(from), 1.0, parameters, block, 1)?;
        let output = vec![0.0; sinc.output_frames_max()];
        let mut filter = Self { sinc, pending: VecDeque::new(), input: [vec![0.0; block]], output: [output], skip: 0 };
        filter.prime(from, to);
        Ok(filter)
    }

    /// Puts output sample 0 on input sample 0.
    ///
    /// rubato's output sample `k` is the input at `(k + 1) * from / to - 1`. With `from / g - 1` zeros put before the
    /// stream (`g` the greatest common divisor) that is `(k + 1 - to / g) * from / to`: sample `to / g - 1` is the first.
    fn prime(&mut self, from: u32, to: u32) {
        let divisor = greatest_common_divisor(from, to);
        self.pending.clear();
        self.pending.extend(std::iter::repeat_n(0.0, (from / divisor) as usize - 1));
        self.skip = (to / divisor) as usize - 1;
    }

    fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), ResampleError> {
        self.pending.extend(samples);
        let block = self.input[0].len();
        while self.pending.len() >= block {
            for (slot, sample) in self.input[0].iter_mut().zip(self.pending.drain(..block)) {
                *slot = sample;
            }
            let (_, made) = self.sinc.process_into_buffer(&self.input, &mut self.output, None)?;
            let skipped = self.skip.min(made);
            self.skip -= skipped;
            out.extend_from_slice(&self.output[0][skipped..made]);
        }
        Ok(())
    }

    /// Feeds silence until `missing` more samples have come out, then starts afresh.
    fn finish(&mut self, missing: usize, from: u32, to: u32) -> Result<Vec<f32>, ResampleError> {
        let mut out = Vec::with_capacity(missing + self.output[0].len());
        let silence = vec![0.0; self.input[0].len()];
        while out.len() < missing {
            self.push(&silence, &mut out)?;
        }
        out.truncate(missing);
        self.sinc.reset();
        self.prime(from, to);
        Ok(out)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tone(frequency: f64, rate: u32, samples: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        (0..samples).map(|n| (0.5 * (step * n as f64).sin()) as f32).collect()
    }

    fn resampled(samples: &[f32], from: u32, to: u32, piece: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut out = Vec::new();
        for piece in samples.chunks(piece) {
            out.extend(resampler.push(piece).unwrap());
        }
        out.extend(resampler.finish().unwrap());
        out
    }

    /// Amplitude and phase (in samples of delay) of a frequency in the middle of a signal.
    fn measure(samples: &[f32], frequency: f64, rate: u32) -> (f64, f64) {
        let step = std::f64::consts::TAU * frequency / f64::from(rate);
        let periods = (samples.len() / 2) as f64 * step / std::f64::consts::TAU;
        let length = (periods.floor() * std::f64::consts::TAU / step).round() as usize;
        let first = samples.len() / 4;
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate().skip(first).take(length) {
            let phase = step * n as f64;
            sine += f64::from(*sample) * phase.sin();
            cosine += f64::from(*sample) * phase.cos();
        }
        let scale = 2.0 / length as f64;
        ((sine * scale).hypot(cosine * scale), -cosine.atan2(sine) / step)
    }

    const PAIRS: [(u32, u32); 10] = [
        (22_050, 16_000),
        (22_050, 48_000),
        (48_000, 16_000),
        (16_000, 48_000),
        (24_000, 16_000),
        (8_000, 48_000),
        (44_100, 16_000),
        (44_099, 48_000),
        (96_000, 48_000),
        (192_000, 48_000),
    ];

    #[test]
    fn a_tone_keeps_its_level_and_its_place_in_time() {
        for (from, to) in PAIRS {
            let out = resampled(&tone(1_000.0, from, from as usize), from, to, 700);
            let (amplitude, delay) = measure(&out, 1_000.0, to);
            let decibels = 20.0 * (amplitude / 0.5).log10();
            assert!(decibels.abs() < 0.1, "{from} to {to}: {decibels} dB");
            assert!(delay.abs() < 0.05, "{from} to {to}: {delay} samples late");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_taken_out() {
        for (from, to, frequency) in
            [(22_050, 16_000, 9_000.0), (48_000, 16_000, 9_000.0), (48_000, 16_000, 20_000.0), (24_000, 8_000, 5_000.0)]
        {
            let out = resampled(&tone(frequency, from, from as usize), from, to, 512);
            let middle = &out[out.len() / 4..out.len() * 3 / 4];
            let power: f64 = middle.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / middle.len() as f64;
            let decibels = 20.0 * (power.sqrt() / (0.5 / 2f64.sqrt())).log10();
            assert!(decibels < -50.0, "{frequency} Hz from {from} to {to}: {decibels} dB");
        }
    }

    #[test]
    fn a_click_comes_out_where_it_went_in() {
        for (from, to) in PAIRS {
            let mut click = vec![0.0; from as usize / 2];
            let at = from as usize / 4;
            click[at] = 1.0;
            let out = resampled(&click, from, to, 333);
            let peak = (0..out.len()).max_by(|a, b| out[*a].abs().total_cmp(&out[*b].abs())).unwrap();
            let expected = at as f64 * f64::from(to) / f64::from(from);
            assert!((peak as f64 - expected).abs() <= 0.5 + 1e-6, "{from} to {to}: {peak} instead of {expected}");
        }
    }

    #[test]
    fn output_starts_a_few_milliseconds_behind_the_input() {
        for (from, to) in PAIRS {
            let mut resampler = Resampler::new(from, to).unwrap();
            let out = resampler.push(&vec![0.1; from as usize / 50]).unwrap();
            assert!(out.len() >= to as usize / 100, "20 ms at {from} gave only {} samples at {to}", out.len());
        }
    }

    #[test]
    fn equal_rates_pass_through_untouched() {
        let noise: Vec<f32> = (0..999).map(|n| ((n * 7919) % 101) as f32 / 101.0 - 0.5).collect();
        assert_eq!(resampled(&noise, 48_000, 48_000, 17), noise);
    }

    #[test]
    fn the_second_stream_is_resampled_like_the_first() {
        let mut resampler = Resampler::new(22_050, 48_000).unwrap();
        let input = tone(300.0, 22_050, 5_000);
        let mut twice = Vec::new();
        for _ in 0..2 {
            let mut out = resampler.push(&input).unwrap();
            out.extend(resampler.finish().unwrap());
            twice.push(out);
        }
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn rates_out_of_range_are_named() {
        for (from, to, fastest) in [
            (0, 16_000, 192_000),
            (22_050, 0, 48_000),
            (7_999, 16_000, 192_000),
            (192_001, 8_000, 192_000),
            (16_000, 96_000, 48_000),
        ] {
            let error = Resampler::new(from, to).err().unwrap().to_string();
            assert!(error.contains(&format!("outside 8000 to {fastest} Hz")), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn length_is_exact_and_pieces_do_not_matter(
            from in 8_000u32..=48_000,
            to in prop::sample::select(vec![16_000u32, 48_000]),
            length in 0usize..4_000,
            piece in 1usize..2_000,
        ) {
            let input: Vec<f32> = (0..length).map(|n| ((n * 31) % 17) as f32 / 17.0 - 0.5).collect();
            let out = resampled(&input, from, to, piece);
            let exact = length as f64 * f64::from(to) / f64::from(from);
            prop_assert!((out.len() as f64 - exact).abs() <= 0.5);
            prop_assert_eq!(&out, &resampled(&input, from, to, length.max(1)));
        }
    }
}
