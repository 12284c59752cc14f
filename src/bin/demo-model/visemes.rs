//! From phones with times to the shape of the mouth at every moment: what the network is taught and judged by.
//!
//! Three rules. Most of the mouth is sluggish, so its targets are smoothed over neighbouring phones (coarticulation). The
//! closures of p, b, m and the bite of f, v are not: they are narrow tracks of their own that smoothing cannot wash
//! out and that sampling at 25 fps cannot miss. And what is said louder opens the mouth further (`loudness`). Not in
//! here: where phones and times come from (`corpus`).

use crate::character::MouthShape;
use crate::loudness::openness;

/// What the lips do for a class of phones. `ax` is no viseme of the MPEG-4 set, which opens the mouth for a schwa as
/// for the vowel of "father": a mouth that does so flaps, and cannot tell the schwa from the `ih` that it sounds like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(non_camel_case_types, reason = "the names of the MPEG-4 set, as the corpus writes them")]
pub enum Viseme {
    sil,
    PP,
    FF,
    TH,
    DD,
    kk,
    CH,
    SS,
    RR,
    aa,
    ax,
    E,
    ih,
    oh,
    ou,
}

/// A phone of a clip; times in seconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Phone {
    pub viseme: Viseme,
    pub phone: String,
    pub start: f64,
    pub end: f64,
}

/// The number of [`MouthShape`]'s parameters.
pub const PARAMETERS: usize = 7;

/// Width of the smoothing that stands for coarticulation.
const SMOOTHING: f64 = 0.13;
/// A closure lasts at least this long on screen, whatever the label says: under 40 ms it could fall between frames.
const LEAST_CLOSURE: f64 = 0.07;
/// How fast lips meet and part around a closure.
const CLOSURE_EDGE: f64 = 0.03;
/// Closures are taken at their most closed within this of the moment asked for.
const CLOSURE_REACH: f64 = 0.01;
/// Step of the stored track.
const STEP: f64 = 0.005;
const FRAME: f64 = 0.04;

/// The parameters in the order in which the helper head predicts them.
pub fn parameters(shape: &MouthShape) -> [f32; PARAMETERS] {
    [shape.open, shape.wide, shape.round, shape.press, shape.bite, shape.tongue, shape.teeth]
}

pub fn shape([open, wide, round, press, bite, tongue, teeth]: [f32; PARAMETERS]) -> MouthShape {
    MouthShape { open, wide, round, press, bite, tongue, teeth }
}

/// The sluggish part of a viseme: open, wide, round, tongue, teeth.
fn target(viseme: Viseme) -> [f32; 5] {
    match viseme {
        Viseme::sil => [0.0; 5],
        Viseme::PP => [0.08, 0.0, 0.0, 0.0, 0.0],
        Viseme::FF => [0.12, 0.1, 0.0, 0.0, 0.0],
        Viseme::TH => [0.25, 0.15, 0.0, 0.9, 0.0],
        Viseme::DD => [0.24, 0.2, 0.0, 0.55, 0.0],
        Viseme::kk => [0.3, 0.15, 0.0, 0.0, 0.0],
        Viseme::CH => [0.2, 0.0, 0.5, 0.0, 0.75],
        Viseme::SS => [0.14, 0.4, 0.0, 0.0, 0.9],
        Viseme::RR => [0.3, 0.0, 0.4, 0.1, 0.0],
        Viseme::aa => [0.85, 0.15, 0.0, 0.0, 0.0],
        Viseme::ax => [0.45, 0.15, 0.0, 0.0, 0.0],
        Viseme::E => [0.55, 0.45, 0.0, 0.0, 0.0],
        Viseme::ih => [0.32, 0.7, 0.0, 0.0, 0.0],
        Viseme::oh => [0.65, 0.0, 0.55, 0.0, 0.0],
        Viseme::ou => [0.28, 0.0, 0.95, 0.0, 0.0],
    }
}

/// A clip's mouth over time.
#[derive(Clone, Debug)]
pub struct MouthTrack {
    /// Smoothed, one for each step.
    slow: Vec<[f32; 5]>,
    presses: Vec<(f64, f64)>,
    bites: Vec<(f64, f64)>,
}

impl MouthTrack {
    /// `phones` in order of time, of the recording `samples` at 16 kHz, which tells how loud each is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clips last seconds")]
    pub fn new(phones: &[Phone], samples: &[f32]) -> Self {
        let end = phones.last().map_or(0.0, |phone| phone.end) + SMOOTHING;
        let steps = (end.clamp(0.0, 3600.0) / STEP) as usize + 1;
        let mut raw = vec![[0.0_f32; 5]; steps];
        for phone in phones {
            let (from, to) = ((phone.start / STEP).round() as usize, (phone.end / STEP).round() as usize);
            for value in raw.iter_mut().take(to).skip(from) {
                *value = target(phone.viseme);
            }
        }
        for ([open, ..], openness) in raw.iter_mut().zip(openness(samples, STEP)) {
            *open *= openness;
        }
        Self { slow: smooth(&raw), presses: closures(phones, Viseme::PP), bites: closures(phones, Viseme::FF) }
    }

    /// The shape at a moment.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clips last seconds")]
    pub fn at(&self, seconds: f64) -> MouthShape {
        let index = (seconds / STEP).round().max(0.0) as usize;
        let [open, wide, round, tongue, teeth] = self.slow.get(index).copied().unwrap_or_default();
        let (press, bite) = (closure(&self.presses, seconds), closure(&self.bites, seconds));
        // Teeth on the lower lip keep the jaw up and the corners where they are.
        let free = 1.0 - 0.7 * bite;
        MouthShape {
            open: open * free,
            wide: wide * free,
            round: round * free,
            press,
            bite: bite * (1.0 - press),
            tongue: tongue * (1.0 - bite),
            teeth: teeth * (1.0 - bite),
        }
    }

    /// What video frame `frame` shows: the shape at its middle, as frame `f` sounds from `f/25` to `(f+1)/25`.
    pub fn frame(&self, frame: usize) -> MouthShape {
        let frame = f64::from(u32::try_from(frame).unwrap_or(u32::MAX));
        self.at((frame + 0.5) * FRAME)
    }

    /// Whether a frame's middle lies within a closure as it is shown.
    pub fn is_pressed(&self, frame: usize) -> bool {
        self.frame(frame).press > 0.99
    }
}

/// Hann-weighted mean over [`SMOOTHING`].
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fixed small number")]
fn smooth(raw: &[[f32; 5]]) -> Vec<[f32; 5]> {
    let half = (SMOOTHING / STEP / 2.0) as usize;
    let weights: Vec<f32> = (0..=2 * half)
        .map(|at| {
            let at =
                f32::from(u16::try_from(at + 1).unwrap_or(1)) / f32::from(u16::try_from(2 * half + 2).unwrap_or(1));
            0.5 - 0.5 * (std::f32::consts::TAU * at).cos()
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    (0..raw.len())
        .map(|index| {
            let mut mean = [0.0; 5];
            for (offset, weight) in weights.iter().enumerate() {
                // Before the start and after the end the mouth is at rest.
                let Some(value) = (index + offset).checked_sub(half).and_then(|at| raw.get(at)) else { continue };
                mean.iter_mut().zip(value).for_each(|(mean, value)| *mean += value * weight / sum);
            }
            mean
        })
        .collect()
}

/// Stretches of one viseme, neighbours joined, each at least [`LEAST_CLOSURE`] long.
fn closures(phones: &[Phone], viseme: Viseme) -> Vec<(f64, f64)> {
    let mut found: Vec<(f64, f64)> = Vec::new();
    for phone in phones.iter().filter(|phone| phone.viseme == viseme) {
        let grow = ((LEAST_CLOSURE - (phone.end - phone.start)) / 2.0).max(0.0);
        let (start, end) = (phone.start - grow, phone.end + grow);
        match found.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => found.push((start, end)),
        }
    }
    found
}

#[allow(clippy::cast_possible_truncation, reason = "between 0 and 1")]
fn closure(stretches: &[(f64, f64)], seconds: f64) -> f32 {
    let outside = |&(start, end): &(f64, f64)| (start - seconds).max(seconds - end);
    let distance = stretches.iter().map(outside).fold(f64::INFINITY, f64::min);
    let t = (1.0 - (distance - CLOSURE_REACH) / CLOSURE_EDGE).clamp(0.0, 1.0);
    (t * t * (3.0 - 2.0 * t)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(viseme: Viseme, start: f64, end: f64) -> Phone {
        Phone { viseme, phone: String::new(), start, end }
    }

    #[test]
    fn a_short_closure_between_vowels_shuts_the_lips_in_a_frame_wherever_it_falls() {
        for shift in 0..40 {
            let start = 0.4 + f64::from(shift) * 0.001;
            let phones = [
                phone(Viseme::aa, 0.1, start),
                phone(Viseme::PP, start, start + 0.02),
                phone(Viseme::aa, start + 0.02, 0.9),
            ];
            let track = MouthTrack::new(&phones, &[]);
            assert!((0..22).any(|frame| track.is_pressed(frame)), "shift {shift}");
            assert!((0..22).map(|frame| track.frame(frame).open).fold(0.0, f32::max) > 0.8);
        }
    }

    #[test]
    fn silence_is_rest() {
        let track = MouthTrack::new(
            &[phone(Viseme::sil, 0.0, 0.5), phone(Viseme::aa, 0.5, 0.7), phone(Viseme::sil, 0.7, 1.5)],
            &[],
        );
        for frame in (0..10).chain(20..60) {
            assert_eq!(track.frame(frame), MouthShape::default(), "frame {frame}");
        }
        assert!(track.frame(14).open > 0.5);
    }

    #[test]
    fn the_helper_heads_order_is_the_shapes() {
        let values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];
        assert_eq!(parameters(&shape(values)), values);
    }
}
