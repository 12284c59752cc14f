//! The colours of lips and skin in a picture, how bright teeth are in its light, where the light comes from, and how sharp
//! the picture is: all that makes a painted inside of the mouth belong to it.

use super::analysis::{Outline, height_at, median};
use super::pixels::{Pixels, brightness};
use super::plate::{Complexion, MouthPlate};
use crate::face::{Mesh, parts};

/// Places of plain skin on cheeks and chin.
const SKIN: [usize; 17] = [50, 280, 205, 425, 187, 411, 216, 436, 202, 422, 204, 424, 194, 418, 199, 200, 152];
/// Teeth are a little warmer than the white of the eye.
const TEETH: [f32; 3] = [1.01, 0.965, 0.895];

/// The two colours that tell lips from the rest.
pub(super) struct Tone {
    pub lip: [f32; 3],
    pub skin: [f32; 3],
}

impl Tone {
    pub(super) fn measure(pixels: &Pixels<'_>, mesh: &Mesh, plate: &MouthPlate, outline: &Outline) -> Self {
        let mut lips = Vec::new();
        for at in -8i16..=8 {
            let u = plate.half * f32::from(at) / 14.0;
            for (inner, outer) in
                [(&outline.upper_inner, &outline.upper_outer), (&outline.lower_inner, &outline.lower_outer)]
            {
                let (inner, outer) = (height_at(inner, u), height_at(outer, u));
                for share in [0.45, 0.6, 0.75] {
                    lips.push(pixels.at(plate.to_pixels([u, inner + share * (outer - inner)])));
                }
            }
        }
        Self { lip: middle(&lips), skin: middle(&skin(pixels, mesh).map(|(_, colour)| colour).collect::<Vec<_>>()) }
    }
}

fn skin<'a>(pixels: &'a Pixels<'_>, mesh: &'a Mesh) -> impl Iterator<Item = ([f32; 2], [f32; 3])> + 'a {
    let places = SKIN.iter().filter_map(|index| mesh.points.get(*index)).map(|[x, y, _]| [*x, *y]);
    places.filter(|place| pixels.contains(*place)).map(|place| (place, pixels.at(place)))
}

/// The median of each channel.
fn middle(colours: &[[f32; 3]]) -> [f32; 3] {
    std::array::from_fn(|channel| median(colours.iter().map(|colour| colour[channel]).collect()).unwrap_or(128.0))
}

/// The light on a mouth whose plate is found.
pub(super) fn complexion(pixels: &Pixels<'_>, mesh: &Mesh, plate: &MouthPlate, tone: &Tone) -> Complexion {
    let painted = painted_teeth(pixels, mesh, tone);
    let own = if plate.open > 0.5 { own_teeth(pixels, plate, tone) } else { None };
    Complexion {
        lip: tone.lip,
        teeth: own.unwrap_or(painted),
        slope: slope(pixels, mesh, plate),
        softness: softness(pixels, plate),
        own_teeth: f32::from(u8::from(own.is_some())),
    }
}

/// How bright and how tinted teeth would be: as the white of the eyes, which is in the same light.
fn painted_teeth(pixels: &Pixels<'_>, mesh: &Mesh, tone: &Tone) -> [f32; 3] {
    let skin = brightness(tone.skin).max(1.0);
    let mut white = Vec::new();
    let eyes = [(parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID), (parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID)];
    for (upper, lower) in eyes {
        for (upper, lower) in upper.iter().zip(&lower) {
            let (Some(upper), Some(lower)) = (mesh.points.get(*upper), mesh.points.get(*lower)) else { continue };
            for share in [0.25, 0.4, 0.5, 0.6, 0.75] {
                let between = |axis: usize| upper[axis] + share * (lower[axis] - upper[axis]);
                let place = [between(0), between(1)];
                if pixels.contains(place) {
                    white.push(pixels.at(place));
                }
            }
        }
    }
    white.sort_by(|left, right| brightness(*left).total_cmp(&brightness(*right)));
    let bright = white.get(white.len() * 3 / 4..white.len() * 19 / 20).unwrap_or_default();
    let colour = if bright.is_empty() { [skin; 3] } else { middle(bright) };
    let level = brightness(colour).max(1.0);
    let teeth = (1.3 * level).clamp(1.05 * skin, 1.5 * skin).min(level.max(228.0));
    std::array::from_fn(|channel| (TEETH[channel] * teeth * (0.65 + 0.35 * colour[channel] / level)).clamp(0.0, 255.0))
}

/// The colour of the teeth that an open mouth shows, if it shows any: brighter than the lips and less red.
fn own_teeth(pixels: &Pixels<'_>, plate: &MouthPlate, tone: &Tone) -> Option<[f32; 3]> {
    let mut seen = Vec::new();
    let quarter = plate.upper.len() / 4;
    for column in quarter..=3 * quarter {
        let u = plate.half * (column as f32 / super::analysis::HALF_COLUMNS - 1.0);
        for share in [0.25, 0.4, 0.55] {
            let v = plate.upper[column] + share * (plate.lower[column] - plate.upper[column]);
            seen.push(pixels.at(plate.to_pixels([u, v])));
        }
    }
    let colour = middle(&seen);
    let is_tooth = brightness(colour) > 0.95 * brightness(tone.lip)
        && super::pixels::redness(colour) < 0.75 * super::pixels::redness(tone.lip);
    is_tooth.then_some(colour)
}

/// How the brightness of the skin changes to the right, from a line through its samples.
fn slope(pixels: &Pixels<'_>, mesh: &Mesh, plate: &MouthPlate) -> f32 {
    let samples: Vec<(f32, f32)> =
        skin(pixels, mesh).map(|(place, colour)| (plate.to_units(place)[0], brightness(colour))).collect();
    let count = samples.len().max(1) as f32;
    let (u, level) = samples.iter().fold((0.0, 0.0), |(u, level), sample| (u + sample.0, level + sample.1));
    let (u, level) = (u / count, level / count);
    let (mut both, mut spread) = (0.0, 1.0);
    for sample in &samples {
        both += (sample.0 - u) * (sample.1 - level);
        spread += (sample.0 - u).powi(2);
    }
    (both / spread / level.max(1.0)).clamp(-0.012, 0.012)
}

/// How soft the sharpest edges about the mouth are, from what a known blur does to them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mouth's size in pixels, bounded")]
fn softness(pixels: &Pixels<'_>, plate: &MouthPlate) -> f32 {
    let blur = 1.5 * plate.scale.max(0.6);
    // Along the picture's own rows and columns; no more than is needed of a large face.
    let side = (1.5 * plate.half * plate.scale).clamp(16.0, 160.0) as usize;
    let [x, y] = plate.to_pixels([0.0, 0.0]);
    let start = [x.floor() + 0.5 - side as f32, y.floor() + 0.5 - side as f32];
    let size = 2 * side;
    let levels: Vec<f32> = (0..size * size)
        .map(|at| brightness(pixels.at([start[0] + (at % size) as f32, start[1] + (at / size) as f32])))
        .collect();
    let sharp = steepest(&levels, size);
    let soft = steepest(&blurred(&levels, size, blur), size);
    let share = (soft / sharp.max(1e-3)).clamp(0.05, 0.98);
    (0.5 * blur * share / (1.0 - share * share).sqrt()).clamp(0.3, 3.0 * plate.scale.max(0.6))
}

/// The 99th percentile of the gradients of a square of brightnesses.
fn steepest(levels: &[f32], size: usize) -> f32 {
    let mut gradients = Vec::with_capacity(levels.len());
    for row in 1..size.saturating_sub(1) {
        for column in 1..size - 1 {
            let at = row * size + column;
            gradients.push((levels[at + 1] - levels[at - 1]).hypot(levels[at + size] - levels[at - size]));
        }
    }
    let place = gradients.len() * 99 / 100;
    if gradients.is_empty() {
        return 0.0;
    }
    let (_, value, _) = gradients.select_nth_unstable_by(place, f32::total_cmp);
    *value
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a few pixels")]
fn blurred(levels: &[f32], size: usize, deviation: f32) -> Vec<f32> {
    let reach = (3.0 * deviation).ceil() as i32;
    let kernel: Vec<f32> = (-reach..=reach).map(|at| (-0.5 * (at as f32 / deviation).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    let pass = |levels: &[f32], step: usize, across: usize| {
        let mut out = vec![0.0; levels.len()];
        for line in 0..size {
            for at in 0..size {
                let value = |offset: i32| {
                    let at = (at as i32 + offset).clamp(0, size as i32 - 1) as usize;
                    levels[line * across + at * step]
                };
                out[line * across + at * step] =
                    (-reach..=reach).zip(&kernel).map(|(offset, weight)| weight * value(offset)).sum::<f32>() / sum;
            }
        }
        out
    };
    pass(&pass(levels, 1, size), size, 1)
}
