//! Whether a microphone hears more than the avatar's own voice coming back to it.
//!
//! Browsers take the echo out themselves, but not every client does, and what they leave would interrupt the avatar by
//! itself. The avatar's sound is known, so its echo can be foretold: in each of [`BANDS`] the power of what was said some
//! frames ago, through a path that is learnt. What the microphone has beyond that is somebody else's. Powers rather than
//! samples: the path goes through two codecs and two jitter buffers that stretch time, in which no phase survives.
//! In here: finding the path's delay by correlation, and the verdict. Not in here: the path's gains, learnt by non-negative
//! least squares, and its changes (`path`), whether it is speech (`listener`), what is done about it (`turn`).
//! Pure: time and sound are arguments.

mod path;
mod powers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::path::{Path, Verdict};
use self::powers::{BANDS, Powers, Spectrum, Track};
use super::reference::ReferenceFrame;
use super::{FRAME_SAMPLES, MICROPHONE_RATE};
use crate::speech::pcm::from_i16;
use crate::timeline::{PLAYOUT_RATE, PLAYOUT_SAMPLES_PER_FRAME};

/// Frames of the longest way to a viewer's loudspeaker and back: 1.2 s.
const LONGEST: usize = 75;
/// Frames that are compared to find the delay: 2 s.
const COMPARED: usize = 125;
/// Frames from one look for the delay to the next.
const LOOK_EVERY: u64 = 8;
/// Two things that have nothing to do with each other correlate by 0.3 at most.
const LIKENESS: f32 = 0.5;
/// Of the echo of the frame before that a room still holds at most.
const TAIL: f32 = 0.7;
/// The verdict is over so many frames, 128 ms, in which fluctuations even out.
const JUDGED: usize = 8;
/// What is foretold may be that much more.
const MARGIN: f32 = 3.0;
/// Power of a band of the avatar's voice in which there is enough to compare.
const SOUNDS: f32 = 2e-6;
/// Without an echo that is found, it is at most that much louder than what any half second of speech has shown.
const UNKNOWN_MARGIN: f32 = 10.0;
const HALF_SECOND: usize = 31;

/// The listener's knowledge of the avatar's voice and of the way it takes.
pub struct EchoGuard {
    epoch: Instant,
    voice: Spectrum,
    microphone: Spectrum,
    /// The avatar's samples that are not in `said` yet, the index of the pair that would go on, and their frame's number.
    pending: Vec<f32>,
    following: Option<u64>,
    pending_number: u64,
    said: Track,
    heard: Track,
    previous: [f32; FRAME_SAMPLES],
    /// The least power of late, which is noise.
    noise: Powers,
    /// Once its delay was found.
    path: Option<Path>,
    found_before: Option<usize>,
    /// The loudest that an echo can be while its delay is not known.
    at_most: Powers,
    echo: Powers,
    judged: VecDeque<(Powers, Powers)>,
    frames: u64,
}

impl EchoGuard {
    pub fn new(epoch: Instant) -> Self {
        let hop = FRAME_SAMPLES * as_usize(PLAYOUT_RATE) / as_usize(MICROPHONE_RATE);
        Self {
            epoch,
            voice: Spectrum::new(hop, as_f32(as_usize(PLAYOUT_RATE))),
            microphone: Spectrum::new(FRAME_SAMPLES, as_f32(as_usize(MICROPHONE_RATE))),
            pending: Vec::new(),
            following: None,
            pending_number: 0,
            said: Track::default(),
            heard: Track::default(),
            previous: [0.0; FRAME_SAMPLES],
            noise: [1e-9; BANDS],
            path: None,
            found_before: None,
            at_most: [1.0; BANDS],
            echo: [0.0; BANDS],
            judged: VecDeque::new(),
            frames: 0,
        }
    }

    /// Takes what the avatar says, in order.
    pub fn reference(&mut self, frame: &ReferenceFrame) {
        if self.following != Some(frame.index) {
            self.pending.clear();
            self.pending_number = self.number(frame.at);
        }
        self.following = Some(frame.index + 1);
        match &frame.audio {
            Some(audio) => self.pending.extend(audio.iter().copied().map(from_i16)),
            None => self.pending.resize(self.pending.len() + PLAYOUT_SAMPLES_PER_FRAME, 0.0),
        }
        let length = self.voice.length();
        let mut from = 0;
        while let Some(samples) = self.pending.get(from..from + length) {
            let powers = self.voice.powers(samples.iter().copied());
            self.said.enter(self.pending_number, powers);
            self.pending_number += 1;
            from += length / 2;
        }
        self.pending.drain(..from);
    }

    /// How much of what the microphone heard in the last [`JUDGED`] frames is not the avatar, from 0 to 1. Frames come in
    /// order; `at` is when this one began.
    pub fn judge(&mut self, frame: &[i16; FRAME_SAMPLES], at: Instant) -> f32 {
        let number = self.number(at);
        let frame = frame.map(from_i16);
        let both = self.previous.iter().chain(&frame).copied();
        let heard = self.microphone.powers(both);
        self.previous = frame;
        self.heard.enter(number, heard);
        self.frames += 1;
        for (noise, power) in self.noise.iter_mut().zip(heard) {
            *noise = if self.frames < 5 { power } else { (*noise * 1.003).min(power) }.max(1e-9);
        }
        let is_known = self.path.as_ref().is_some_and(|path| path.is_learnt() && !path.is_lost());
        if !is_known && self.frames.is_multiple_of(LOOK_EVERY) && self.frames > COMPARED as u64 {
            self.look_for_the_delay();
        }
        let echo = self.foretell(number);
        for (band, power) in echo.into_iter().enumerate() {
            self.echo[band] = power.max(TAIL * self.echo[band]);
        }
        if self.judged.len() == JUDGED {
            self.judged.pop_front();
        }
        self.judged.push_back((heard, self.echo));
        if let Some(path) = &mut self.path {
            path.learn(&self.said, number, &heard, &self.noise, &echo);
            match path.follow(&self.said, number, &heard, &self.noise) {
                Verdict::AsForetold => {}
                Verdict::SeemsToFit => return 0.0,
                Verdict::Changed => {
                    self.echo = path.foretold(&self.said, number);
                    for ((_, echo), back) in self.judged.iter_mut().rev().zip(0..) {
                        *echo = path.foretold(&self.said, number.saturating_sub(back));
                    }
                }
            }
        }
        self.unexplained()
    }

    /// Roots of powers, so that loud vowels do not hide all else.
    fn unexplained(&self) -> f32 {
        let frames = as_f32(self.judged.len());
        let (mut beyond, mut all) = (0.0, 1e-9);
        for band in 0..BANDS {
            let heard: f32 = self.judged.iter().map(|(heard, _)| heard[band]).sum();
            let echo: f32 = self.judged.iter().map(|(_, echo)| echo[band]).sum();
            beyond += (heard - MARGIN * echo - 6.0 * frames * self.noise[band]).max(0.0).sqrt();
            all += heard.sqrt();
        }
        beyond / all
    }

    /// The echo in this frame, from what was said before.
    fn foretell(&mut self, number: u64) -> Powers {
        let foretold = match &self.path {
            Some(path) if path.is_learnt() => return path.foretold(&self.said, number),
            Some(path) => path.foretold(&self.said, number),
            None => {
                self.bound(number);
                [0.0; BANDS]
            }
        };
        let loudest = self.loudest(number);
        std::array::from_fn(|band| foretold[band].max(loudest[band] * self.at_most[band]))
    }

    /// What was said in any of the frames that may come back now.
    fn loudest(&self, number: u64) -> Powers {
        let mut loudest = [0.0f32; BANDS];
        for back in 0..=LONGEST as u64 {
            let (said, _) = self.said.at(number.saturating_sub(back));
            loudest.iter_mut().zip(said).for_each(|(loudest, power)| *loudest = loudest.max(power));
        }
        loudest
    }

    /// Without an echo to be found there may be none, as with headphones: then half a second in which the avatar spoke,
    /// whatever the delay, and the microphone heard little says how loud an echo can be at most.
    fn bound(&mut self, number: u64) {
        if !self.frames.is_multiple_of(LOOK_EVERY) || self.frames < HALF_SECOND as u64 {
            return;
        }
        let sums = |track: &Track, from: u64| {
            let mut sums = [0.0f32; BANDS];
            for back in 0..HALF_SECOND as u64 {
                let (powers, _) = track.at(from.saturating_sub(back));
                sums.iter_mut().zip(powers).for_each(|(sum, power)| *sum += power);
            }
            sums
        };
        let mut said = [f32::MAX; BANDS];
        for delay in (0..=LONGEST as u64).step_by(5) {
            let sums = sums(&self.said, number.saturating_sub(delay));
            said.iter_mut().zip(sums).for_each(|(least, sum)| *least = least.min(sum));
        }
        let heard = sums(&self.heard, number);
        for band in 0..BANDS {
            if said[band] > as_f32(HALF_SECOND) * SOUNDS {
                let noise = as_f32(HALF_SECOND) * self.noise[band];
                let ratio = (heard[band] - noise).max(0.0) / said[band];
                self.at_most[band] = self.at_most[band].min((UNKNOWN_MARGIN * ratio).max(1e-4));
            }
        }
    }

    /// The delay at which what was said is most like what is heard, if it is twice in a row.
    fn look_for_the_delay(&mut self) {
        let last = self.heard.last();
        let quietest: Powers = self.noise.map(|noise| (8.0 * noise).ln());
        let heard = centred(|back| self.heard.at(last.saturating_sub(back)).1, &quietest);
        let (mut best, mut likeness) = (0, 0.0);
        for delay in 0..LONGEST {
            let from = last.saturating_sub(delay as u64);
            let said = centred(|back| self.said.at(from.saturating_sub(back)).1, &[1e-7f32.ln(); BANDS]);
            let like = likeness_of(&heard, &said);
            if like > likeness {
                (best, likeness) = (delay, like);
            }
        }
        if likeness < LIKENESS {
            return;
        }
        let again = self.found_before.is_some_and(|before| before.abs_diff(best) <= 1);
        self.found_before = Some(best);
        let is_new = |path: &Path| path.is_lost() || path.delay().abs_diff(best) > 1;
        if again && self.path.as_ref().is_none_or(is_new) {
            tracing::debug!(delay_ms = best * 16, likeness, "the avatar's voice comes back");
            self.path = Some(Path::new(best));
        }
    }

    fn number(&self, at: Instant) -> u64 {
        let frame = frame_time(1).as_nanos();
        // Some seconds after zero, so that what came before the first frame has a number too.
        let passed = at.saturating_duration_since(self.epoch) + frame_time(1000);
        u64::try_from((passed.as_nanos() + frame / 2) / frame).unwrap_or(u64::MAX)
    }
}

/// Powers of the last frames, in decibels of a kind, without each band's mean.
fn centred(at: impl Fn(u64) -> Powers, quietest: &Powers) -> Vec<f32> {
    let mut values = Vec::with_capacity(COMPARED * BANDS);
    let mut means = [0.0f32; BANDS];
    for back in 0..COMPARED as u64 {
        for (band, power) in at(back).into_iter().enumerate() {
            let power = power.max(quietest[band]);
            means[band] += power / as_f32(COMPARED);
            values.push(power);
        }
    }
    values
        .chunks_exact_mut(BANDS)
        .for_each(|frame| frame.iter_mut().zip(means).for_each(|(power, mean)| *power -= mean));
    values
}

fn likeness_of(one: &[f32], other: &[f32]) -> f32 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    product(one, other) / (product(one, one) * product(other, other) + 1e-9).sqrt()
}

fn frame_time(frames: u64) -> Duration {
    Duration::from_micros(frames * 16_000)
}

#[allow(clippy::cast_precision_loss)] // Hundreds.
fn as_f32(count: usize) -> f32 {
    count as f32
}

fn as_usize(rate: u32) -> usize {
    rate as usize
}
