//! What an articulation does to a mouth: from the seven parameters that are heard in speech to lengths in the mouth's units.
//!
//! In here: plain arithmetic on a frame. It is that of the drawn character (`bin/demo-model/character/mouth.rs`), of which the
//! audio encoder learned, with corners, and the relief of a smile, which a drawn mouth at rest has not. Not in here: pixels
//! (`field`, `inside`).

use super::plate::{COLUMNS, MouthPlate};

/// Half the width of the drawn character's mouth.
const DRAWN_HALF: f32 = 33.5;
/// A mouth that is wider than this at rest smiles.
const SMILING: f32 = 34.8;
/// Corners come down by less than would fold the skin beside them.
const MOST_DROP: f32 = 12.0;
/// Corners that are this much above the middle at rest smile.
const ARCHED: f32 = 6.0;

/// How a mouth is held, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Articulation {
    /// The jaw is down.
    pub open: f32,
    /// The corners are drawn apart, as for "ee".
    pub wide: f32,
    /// The lips are pursed, as for "oo".
    pub round: f32,
    /// The lips are pressed shut, as for "m".
    pub press: f32,
    /// The upper teeth are on the lower lip, as for "f".
    pub bite: f32,
    /// The tongue is at the upper teeth, as for "th".
    pub tongue: f32,
    /// The teeth are together and seen, as for "s".
    pub teeth: f32,
    /// The mouth is as the picture has it, whatever else is said here: 1 in silence, 0 in speech.
    pub rest: f32,
}

/// What becomes of one mouth in one frame, in its units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deformation {
    /// How far the lips are apart in the middle.
    pub gap: f32,
    /// How far the upper lip is up.
    pub lift: f32,
    /// How much further the corners are from the middle; negative is narrower.
    pub widen: f32,
    /// How far the corners are down.
    pub drop: f32,
    /// How much of its own waves the line between the lips loses as they part.
    pub even: f32,
    /// What the thickness of the upper and of the lower lip is multiplied by.
    pub lips: [f32; 2],
    /// How far the chin is down.
    pub jaw: f32,
    /// Half the width of the opening, along the lips as they are at rest.
    pub inner: f32,
    /// Half the width of the opening as it is seen.
    pub seen: f32,
    /// The opening's height over its width is `(1 - |u / inner|^bend[0])^bend[1]`.
    pub bend: [f32; 2],
    /// v of the upper teeth's edge, from where the lips meet.
    pub upper_teeth: f32,
    /// The same of the lower teeth.
    pub lower_teeth: f32,
    /// The same of the tongue's highest part.
    pub tongue: f32,
    /// Its parameters, within 0 and 1.
    pub held: Articulation,
}

/// 0 below `from`, 1 above `to`, and smoothly from one to the other.
pub(super) fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

fn lerp(from: f32, to: f32, share: f32) -> f32 {
    from + (to - from) * share
}

impl Deformation {
    /// Of this mouth, held so; `own_teeth` if the picture shows teeth. Numbers out of range are taken as their nearest, what
    /// is no number as 0.
    pub fn new(given: &Articulation, plate: &MouthPlate, own_teeth: bool) -> Self {
        let unit = |x: f32| if x.is_finite() { x.clamp(0.0, 1.0) } else { 0.0 };
        let press = unit(given.press);
        let free = 1.0 - press;
        let held = Articulation {
            open: unit(given.open) * free,
            wide: unit(given.wide),
            round: unit(given.round),
            press,
            bite: unit(given.bite) * free,
            tongue: unit(given.tongue) * free,
            teeth: unit(given.teeth) * free,
            rest: unit(given.rest),
        };
        let Articulation { open, wide, round, bite, tongue, teeth, .. } = held;
        // What parts the lips adds up like the sides of a box: the largest part decides, and nothing jumps.
        let parts =
            [26.0 * open * (1.0 - 0.3 * round), 7.5 * teeth, 10.0 * tongue, 8.5 * round * free, 4.0 * wide * free];
        let parted = parts.iter().map(|p| p * p * p).sum::<f32>().cbrt();
        // A photograph's lower lip goes further under the teeth than the drawn one.
        let gap = lerp(parted, 3.8, bite * 0.9);
        let lift = gap * lerp(0.2, 0.42, round) * (1.0 - 0.35 * open) + 1.2 * bite;
        let half = plate.half;
        let widen = 6.0 * wide * (1.0 - 0.5 * round) - 13.5 * round - 3.5 * open - press - 2.0 * bite;
        let (relief, middle) = (1.0 - 0.5 * wide, COLUMNS / 2);
        let smile = (half - SMILING).max(0.0) * (0.45 + 0.25 * open + 0.35 * round).min(0.85) * relief;
        // The cheeks give way by less than would fold them.
        let room = plate.room();
        let widen = (widen - smile).max(-0.47 * half).max(-0.45 * room);
        let meeting = plate.meeting();
        let arch = (meeting[middle] - (meeting[0] + meeting[COLUMNS - 1]) / 2.0).max(0.0);
        let (arch, slight) = ((arch - ARCHED).max(0.0), arch.min(ARCHED));
        let drop = -0.8 * wide
            + 3.8 * round
            + 0.16 * gap
            + 0.8 * press
            + arch * (0.45 + 0.15 * open + 0.5 * round).min(0.95) * relief
            + 0.45 * slight * round;
        let drop = drop.min(MOST_DROP);
        let size = half / DRAWN_HALF;
        let corner = (0.8 + smoothstep(0.0, 12.0, gap)) * size;
        // Pursed lips touch beside the hole between them.
        let pursed = 1.0 - 0.2 * round;
        let inner = (half * lerp(1.0, 0.93, plate.open) - corner) * pursed;
        let lower = gap - lift;
        let between = plate.lower[middle] - plate.upper[middle];
        let biting = match own_teeth {
            // The picture's own teeth are as long as they are, and hidden by rounding lips alone.
            true => 0.58 * between - 12.0 * round,
            false => 1.6 + 1.2 * wide + teeth + 1.6 * open - 7.5 * round * (1.0 - 0.5 * teeth),
        };
        let low = lerp(lower - 0.1 * gap, lower - 0.4 * gap, smoothstep(5.0, 20.0, gap))
            .max(biting + if own_teeth { 7.0 } else { 1.5 });
        let upper_teeth = lerp(biting, lower + 1.2, bite);
        Self {
            gap,
            lift,
            widen,
            drop,
            lips: [
                (9.8 - 1.4 * wide + 2.0 * round - 0.05 * gap) / 9.8 * (1.0 - 0.42 * press),
                (10.4 - 1.2 * wide + 1.6 * round - 0.07 * gap) / 10.4 * (1.0 - 0.4 * press) * (1.0 - 0.34 * bite),
            ],
            jaw: 0.43 * lower + 1.2 * open - 1.2 * bite - 0.6 * press - 0.26 * between,
            inner,
            seen: (half + widen - corner) * pursed,
            bend: [lerp(2.0, 2.5, round), lerp(1.05, 0.66, round)],
            even: 0.8 * smoothstep(1.0, 9.0, gap),
            upper_teeth,
            lower_teeth: lerp(lower - 3.4 * smoothstep(10.0, 24.0, gap) + 1.0, biting + 0.9, teeth),
            tongue: lerp(low + 3.0 * teeth, biting - 2.6, tongue),
            held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portrait::plate::tests::plate;

    fn deform(change: impl Fn(&mut Articulation)) -> Deformation {
        let mut held = Articulation::default();
        change(&mut held);
        Deformation::new(&held, &plate(33.5), false)
    }

    #[test]
    fn a_mouth_at_ease_is_shut_and_as_it_was() {
        let at_ease = deform(|_| ());
        assert_eq!((at_ease.gap, at_ease.lift, at_ease.widen, at_ease.drop, at_ease.jaw), (0.0, 0.0, 0.0, 0.0, 0.0));
        assert_eq!(at_ease.lips, [1.0, 1.0]);
    }

    #[test]
    fn the_gap_grows_with_the_opening_and_the_chin_goes_with_it() {
        let mouths: Vec<Deformation> =
            (0..=10).map(|at| deform(|held| held.open = f32::from(at as u8) / 10.0)).collect();
        assert!(mouths.windows(2).all(|pair| pair[1].gap > pair[0].gap && pair[1].jaw > pair[0].jaw));
        assert!((mouths[10].gap - 26.0).abs() < 1e-4);
    }

    #[test]
    fn pressed_lips_meet_whatever_else_is_asked() {
        let pressed = deform(|held| {
            *held = Articulation { open: 1.0, wide: 1.0, tongue: 1.0, teeth: 1.0, bite: 1.0, press: 1.0, ..*held };
        });
        assert_eq!(pressed.gap, 0.0);
        assert!(pressed.lips[0] < 0.6 && pressed.lips[1] < 0.6);
    }

    #[test]
    fn teeth_on_the_lip_reach_it() {
        let bitten = deform(|held| held.bite = 1.0);
        assert!(bitten.upper_teeth > bitten.gap - bitten.lift);
    }

    #[test]
    fn a_smile_lets_go_in_speech_and_most_of_all_for_oo() {
        let (smile, straight) = (MouthPlate { contour: 92.0, ..plate(44.0) }, plate(33.5));
        let held = Articulation::default();
        assert!(Deformation::new(&held, &smile, false).widen < Deformation::new(&held, &straight, false).widen - 3.0);
        let round = Articulation { round: 1.0, ..held };
        assert!(smile.half + Deformation::new(&round, &smile, false).widen < 26.0);
    }

    #[test]
    fn what_is_no_number_is_taken_as_none_of_it() {
        let nonsense = deform(|held| (held.open, held.wide) = (f32::NAN, f32::INFINITY));
        assert_eq!(nonsense, deform(|_| ()));
    }
}
