//! The way of the avatar's voice to the microphone and what it does to it.
//!
//! In here: foretelling the echo from what was said, learning its gains, and following a delay or a loudness that changes
//! all of a sudden. Not in here: finding the delay at first, the verdict (`echo`).
//! Pure.

use std::collections::VecDeque;

use super::powers::{BANDS, Powers, Track};
use super::{JUDGED, LONGEST};

/// Frames, relative to the path's delay, from which an echo is foretold: a room smears it over some.
const TAPS: [i32; 9] = [-2, -1, 0, 1, 2, 3, 5, 8, 12];
/// Frames with sound after which the gains are good.
const LEARNT: u32 = 25;
/// Share of the past that the gains keep from frame to frame: a memory of 3 s of speech.
const KEEPS: f32 = 0.995;
/// Power below which a band of the avatar's voice has nothing.
const SILENT: f32 = 2e-6;
/// Frames that fit nothing after which the path is no longer known: 2 s.
const STRANGE: u32 = 125;
/// By how much somebody may turn the loudspeaker up or down at once: powers, 3 to 12 dB.
const LOUDER: [f32; 8] = [2.0, 4.0, 8.0, 16.0, 0.5, 0.25, 0.125, 0.0625];
/// How much louder or softer than foretold, as a natural logarithm of powers and with what is loud counting most, an echo
/// is. Over [`JUDGED`] frames 99 of 100 differ by less than 0.4 and other people's speech by more than 1.3, whichever delay
/// is tried.
const FITS: f32 = 0.9;
/// The same where the loudness is tried too.
const FITS_TURNED: f32 = 0.6;
/// Over the last [`GLANCE`] frames 97 of 100 echoes are below, and 3 of 100 of other people's.
const SEEMS_TO_FIT: f32 = 0.6;
const GLANCE: usize = 4;
/// How much better than the path of now another one must fit, and one just beside it: time that is stretched.
const BETTER: f32 = 2.0;
const BETTER_BESIDE: f32 = 1.2;

/// Least squares over one band: how much of each tap the echo has.
#[derive(Clone, Copy, Default)]
struct Gains {
    products: [[f32; TAPS.len()]; TAPS.len()],
    with_heard: [f32; TAPS.len()],
    gains: [f32; TAPS.len()],
}

impl Gains {
    fn foretold(&self, taps: &[f32; TAPS.len()]) -> f32 {
        self.gains.iter().zip(taps).map(|(gain, power)| gain * power).sum()
    }

    fn learn(&mut self, taps: &[f32; TAPS.len()], heard: f32, weight: f32) {
        for (row, power) in taps.iter().enumerate() {
            for (product, other) in self.products[row].iter_mut().zip(taps) {
                *product = *product * KEEPS + weight * power * other;
            }
            self.with_heard[row] = self.with_heard[row] * KEEPS + weight * power * heard;
        }
    }

    /// Two rounds of coordinate descent, none below zero: from frame to frame it changes little.
    fn solve(&mut self) {
        for tap in (0..TAPS.len()).chain(0..TAPS.len()) {
            let own = self.products[tap][tap];
            if own > 0.0 {
                let foretold: f32 =
                    self.products[tap].iter().zip(&self.gains).map(|(product, gain)| product * gain).sum();
                let gain = (self.with_heard[tap] - foretold + own * self.gains[tap]) / own;
                self.gains[tap] = gain.max(0.0);
            }
        }
    }
}

/// What is known of the path.
pub struct Path {
    /// In frames.
    delay: usize,
    gains: [Gains; BANDS],
    /// Frames that it was learnt from.
    learnt: u32,
    /// Of the last [`JUDGED`] frames, the newest first.
    misfits: VecDeque<Misfits>,
    is_astray: bool,
    /// Frames in a row that fitted nothing.
    strange: u32,
}

/// Whether the last frames are an echo although they are not as foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    AsForetold,
    /// They may be one through a path that has changed.
    SeemsToFit,
    /// The path has changed, and is known anew.
    Changed,
}

/// By how much a frame differs from what is foretold for each path that is tried.
struct Misfits {
    by_delay: [Misfit; LONGEST],
    by_loudness: [Misfit; LOUDER.len()],
    /// Bands in which there was something to hear.
    heard: usize,
}

#[derive(Clone, Copy, Default)]
struct Misfit {
    sum: f32,
    weight: f32,
}

impl Misfit {
    fn of(foretold: &Powers, louder: f32, heard: &Powers, noise: &Powers) -> Self {
        let mut misfit = Self::default();
        for band in 0..BANDS {
            let (foretold, noise) = (louder * foretold[band], 3.0 * noise[band]);
            let weight = heard[band].max(foretold).max(noise).sqrt() - noise.sqrt();
            misfit.sum += weight * ((heard[band] + noise) / (foretold + noise)).ln().abs().min(3.0);
            misfit.weight += weight;
        }
        misfit
    }

    fn mean(all: impl Iterator<Item = Self>) -> f32 {
        let (sum, weight) = all.fold((0.0, 1e-9), |(sum, weight), one| (sum + one.sum, weight + one.weight));
        sum / weight
    }
}

impl Path {
    pub fn new(delay: usize) -> Self {
        Self {
            delay,
            gains: [Gains::default(); BANDS],
            learnt: 0,
            misfits: VecDeque::new(),
            is_astray: false,
            strange: 0,
        }
    }

    pub fn delay(&self) -> usize {
        self.delay
    }

    pub fn is_learnt(&self) -> bool {
        self.learnt >= LEARNT
    }

    /// Nothing fits any more.
    pub fn is_lost(&self) -> bool {
        self.strange >= STRANGE
    }

    /// The echo in a frame.
    pub fn foretold(&self, said: &Track, number: u64) -> Powers {
        self.from(said, number.saturating_sub(self.delay as u64))
    }

    /// What comes back of what was said in a frame and around it.
    fn from(&self, said: &Track, origin: u64) -> Powers {
        let past = taps(said, origin);
        std::array::from_fn(|band| self.gains[band].foretold(&past.map(|powers| powers[band])))
    }

    /// What a frame teaches; `foretold` is what was expected of it.
    pub fn learn(&mut self, said: &Track, number: u64, heard: &Powers, noise: &Powers, foretold: &Powers) {
        let past = taps(said, number.saturating_sub(self.delay as u64));
        let is_learnt = self.is_learnt();
        let mut active = 0;
        for band in 0..BANDS {
            let taps = past.map(|powers| powers[band]);
            if taps.iter().all(|power| *power < SILENT) {
                continue;
            }
            active += 1;
            let beyond_noise = (heard[band] - noise[band]).max(0.0);
            // Relative errors count, and hardly any where somebody else speaks or the path has changed.
            let mut weight = (beyond_noise + foretold[band] + 4.0 * noise[band]).powi(-2);
            if is_learnt && (self.is_astray || beyond_noise > 3.0 * foretold[band] + 4.0 * noise[band]) {
                weight *= 0.02;
            }
            self.gains[band].learn(&taps, beyond_noise, weight);
        }
        self.learnt += u32::from(active > BANDS / 4);
        if number.is_multiple_of(4) {
            self.gains.iter_mut().for_each(Gains::solve);
        }
    }

    /// Jitter buffers and stalled machines change the delay from one frame to the next, people turn the volume. What was
    /// learnt of the rest of the path still holds, so that the change shows within a few frames.
    pub fn follow(&mut self, said: &Track, number: u64, heard: &Powers, noise: &Powers) -> Verdict {
        if !self.is_learnt() {
            return Verdict::AsForetold;
        }
        let misfits = self.misfits(said, number, heard, noise);
        self.misfits.truncate(JUDGED - 1);
        self.misfits.push_front(misfits);
        let now = self.by_delay(self.delay, JUDGED);
        let (delayed, delay) = least((0..LONGEST).map(|delay| self.by_delay(delay, JUDGED)));
        let (turned, turn) = least((0..LOUDER.len()).map(|turn| self.by_loudness(turn, JUDGED)));
        let glance = least((0..LONGEST).map(|delay| self.by_delay(delay, GLANCE))).0;
        let glance_turned = least((0..LOUDER.len()).map(|turn| self.by_loudness(turn, GLANCE))).0;
        self.is_astray = self.by_delay(self.delay, GLANCE) > FITS;
        if self.misfits.iter().map(|row| row.heard).sum::<usize>() > JUDGED * BANDS / 4 {
            let better = if delay.abs_diff(self.delay) <= 2 { BETTER_BESIDE } else { BETTER };
            self.strange = if delayed < FITS || turned < FITS_TURNED { 0 } else { self.strange + 1 };
            if delay != self.delay && delayed < FITS && better * delayed < now {
                return self.changed(delay, 1.0);
            }
            if turned < FITS_TURNED && BETTER * turned < now {
                return self.changed(self.delay, LOUDER[turn]);
            }
        }
        if glance.min(glance_turned) < SEEMS_TO_FIT { Verdict::SeemsToFit } else { Verdict::AsForetold }
    }

    fn changed(&mut self, delay: usize, louder: f32) -> Verdict {
        tracing::debug!(delay_ms = delay * 16, before_ms = self.delay * 16, louder, "the avatar's echo has changed");
        self.delay = delay;
        for gains in &mut self.gains {
            gains.gains.iter_mut().chain(&mut gains.with_heard).for_each(|gain| *gain *= louder);
        }
        self.misfits.clear();
        Verdict::Changed
    }

    fn misfits(&self, said: &Track, number: u64, heard: &Powers, noise: &Powers) -> Misfits {
        let by_delay =
            |delay: usize| Misfit::of(&self.from(said, number.saturating_sub(delay as u64)), 1.0, heard, noise);
        let now = self.foretold(said, number);
        Misfits {
            by_delay: std::array::from_fn(by_delay),
            by_loudness: LOUDER.map(|louder| Misfit::of(&now, louder, heard, noise)),
            heard: (0..BANDS).filter(|band| heard[*band] > 6.0 * noise[*band]).count(),
        }
    }

    fn by_delay(&self, delay: usize, frames: usize) -> f32 {
        Misfit::mean(self.misfits.iter().take(frames).map(|row| row.by_delay[delay]))
    }

    fn by_loudness(&self, turn: usize, frames: usize) -> f32 {
        Misfit::mean(self.misfits.iter().take(frames).map(|row| row.by_loudness[turn]))
    }
}

fn taps(said: &Track, origin: u64) -> [Powers; TAPS.len()] {
    TAPS.map(|tap| said.at(origin.saturating_add_signed(-i64::from(tap))).0)
}

/// The least of all, and its place.
fn least(all: impl Iterator<Item = f32>) -> (f32, usize) {
    let places = all.zip(0..);
    places.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((f32::MAX, 0))
}
