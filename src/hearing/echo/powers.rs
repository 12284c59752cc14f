//! Sound as powers in bands, frame by frame.
//!
//! In here: the spectrum, and a stream of its frames by number. Not in here: what is foretold of them (`path`).
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

use super::as_f32;

/// Edges of the bands in Hz: about two a Bark, over what speech has.
const EDGES: [f32; BANDS + 1] =
    [150.0, 300.0, 450.0, 600.0, 800.0, 1000.0, 1250.0, 1550.0, 1900.0, 2350.0, 2900.0, 3600.0, 4500.0, 5600.0, 7000.0];
pub const BANDS: usize = 14;
/// Frames that are kept: 4.4 s.
const KEPT: usize = 275;

/// Squares of samples from -1 to 1.
pub type Powers = [f32; BANDS];

/// The power in each band of frames that overlap by half.
pub struct Spectrum {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    bins: [(usize, usize); BANDS],
    scale: f32,
    input: Vec<f32>,
    output: Vec<Complex<f32>>,
}

impl Spectrum {
    /// Of two frames of `hop` samples each.
    pub fn new(hop: usize, rate: f32) -> Self {
        let length = 2 * hop;
        let fft = RealFftPlanner::new().plan_fft_forward(length);
        let turn = std::f32::consts::TAU / as_f32(length);
        let window: Vec<f32> = (0..length).map(|at| 0.5 - 0.5 * (as_f32(at) * turn).cos()).collect();
        let width = rate / as_f32(length);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let bin = |edge: f32| (edge / width).round() as usize;
        let bins = std::array::from_fn(|band| (bin(EDGES[band]), bin(EDGES[band + 1])));
        let scale = 1.0 / (window.iter().map(|weight| weight * weight).sum::<f32>() * as_f32(length));
        Self { input: fft.make_input_vec(), output: fft.make_output_vec(), fft, window, bins, scale }
    }

    /// Samples of a frame and of the half before it.
    pub fn length(&self) -> usize {
        self.window.len()
    }

    pub fn powers(&mut self, samples: impl Iterator<Item = f32>) -> Powers {
        self.input.iter_mut().zip(samples.zip(&self.window)).for_each(|(to, (sample, weight))| *to = sample * weight);
        // It fails only for buffers of another length than it made itself.
        let _ = self.fft.process(&mut self.input, &mut self.output);
        self.bins.map(|(from, to)| self.output[from..to].iter().map(Complex::norm_sqr).sum::<f32>() * self.scale)
    }
}

/// The powers of a stream of frames, by their number on one time line.
#[derive(Default)]
pub struct Track {
    frames: VecDeque<(Powers, Powers)>,
    next: u64,
}

impl Track {
    /// Enters a frame; numbers in between are silent, and one that was entered before is entered again.
    pub fn enter(&mut self, number: u64, powers: Powers) {
        if number < self.next {
            let back = usize::try_from(self.next - number).unwrap_or(usize::MAX);
            self.frames.truncate(self.frames.len().saturating_sub(back));
        } else if number - self.next > KEPT as u64 {
            self.frames.clear();
        } else {
            (self.next..number).for_each(|_| self.frames.push_back(silence()));
        }
        self.frames.push_back((powers, powers.map(|power| (power + 1e-9).ln())));
        self.next = number + 1;
        while self.frames.len() > KEPT {
            self.frames.pop_front();
        }
    }

    /// The number of the newest frame.
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// A frame's powers and their logarithms; silence where there is none.
    pub fn at(&self, number: u64) -> (Powers, Powers) {
        let back = self.next.checked_sub(number).and_then(|back| usize::try_from(back).ok());
        let place = back.filter(|back| *back > 0).and_then(|back| self.frames.len().checked_sub(back));
        place.and_then(|place| self.frames.get(place)).copied().unwrap_or_else(silence)
    }
}

fn silence() -> (Powers, Powers) {
    ([0.0; BANDS], [1e-9f32.ln(); BANDS])
}
