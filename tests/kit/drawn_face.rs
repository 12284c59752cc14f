//! Faces that are drawn for tests, of many people in many poses, with the true place of every point.
//!
//! In here: who they are and how they hold themselves. `shape` bends MediaPipe's canonical face model into theirs and turns
//! it, `paint` shades and colours it. Nobody real is drawn.

mod paint;
mod shape;

use mouthpiece::picture::RgbPicture;

/// How somebody looks; lengths are factors, 1 is the canonical face.
#[derive(Clone, Copy, Debug)]
pub struct Person {
    pub skin: [u8; 3],
    pub hair: [u8; 3],
    pub lips: [u8; 3],
    pub iris: [u8; 3],
    pub jaw: f32,
    pub chin: f32,
    pub eyes: f32,
    pub eyes_apart: f32,
    pub nose: f32,
    pub mouth: f32,
    pub lip: f32,
    /// 0 to 1.
    pub beard: f32,
    pub glasses: Option<Glasses>,
    pub long_hair: bool,
    /// Where light comes from, and how much comes from everywhere.
    pub light: [f32; 3],
    pub ambient: f32,
    pub background: [u8; 3],
}

/// What somebody has on the nose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glasses {
    /// Dark frames with corners.
    Dark,
    /// Thin round ones of metal.
    Round,
    /// Thick black ones, narrow, whose upper rim is between eye and brow.
    Thick,
    /// Dark above, and below nothing but glass with a shine on it.
    Browline,
    /// Large brown ones that hide the brows.
    Large,
}

impl Glasses {
    pub const ALL: [Self; 5] = [Self::Dark, Self::Round, Self::Thick, Self::Browline, Self::Large];
}

/// How somebody holds the head and the face.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bearing {
    /// Degrees, to the right as seen.
    pub yaw: f32,
    /// Degrees, down.
    pub pitch: f32,
    /// Degrees, clockwise as seen.
    pub roll: f32,
    /// Pixels that the head is away from the middle.
    pub shift: [f32; 2],
    /// 0 to 1: jaw drop, corners outwards and up, lips rounded, lids shut.
    pub open: f32,
    pub smile: f32,
    pub round: f32,
    pub blink: f32,
}

/// A picture and its truth.
pub struct Drawn {
    pub picture: RgbPicture,
    /// Of all 468 points, in pixels.
    pub points: Vec<[f32; 2]>,
}

/// Numbers by chance that are the same each time.
pub struct Chance(pub u64);

impl Chance {
    /// 0 to 1.
    pub fn next(&mut self) -> f32 {
        // SplitMix64, whose upper bits are good.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }

    pub fn within(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.next()
    }
}

impl Person {
    /// Somebody, the same for the same number.
    pub fn number(number: u64) -> Self {
        const SKINS: [[u8; 3]; 8] = [
            [244, 208, 184],
            [234, 190, 160],
            [224, 172, 138],
            [198, 142, 106],
            [160, 108, 76],
            [128, 84, 60],
            [96, 62, 46],
            [70, 46, 36],
        ];
        const HAIRS: [[u8; 3]; 6] =
            [[32, 24, 22], [70, 44, 28], [120, 74, 40], [196, 156, 96], [150, 60, 30], [168, 168, 170]];
        const EYES: [[u8; 3]; 4] = [[70, 46, 30], [64, 96, 70], [72, 106, 150], [96, 78, 48]];
        const WALLS: [[u8; 3]; 4] = [[150, 178, 190], [206, 200, 190], [70, 80, 92], [120, 140, 116]];
        let mut chance = Chance(number.wrapping_mul(7919));
        let skin = SKINS[(number % 8) as usize];
        let mut pick = |of: usize| (chance.next() * of as f32) as usize;
        let (hair, iris, wall) = (HAIRS[pick(6)], EYES[pick(4)], WALLS[pick(4)]);
        let red = chance.within(0.5, 1.0);
        let lips = [
            (f32::from(skin[0]) * (0.82 + 0.08 * red)) as u8,
            (f32::from(skin[1]) * (0.72 - 0.16 * red)) as u8,
            (f32::from(skin[2]) * (0.76 - 0.12 * red)) as u8,
        ];
        Self {
            skin,
            hair,
            lips,
            iris,
            jaw: chance.within(0.9, 1.1),
            chin: chance.within(0.93, 1.1),
            eyes: chance.within(0.92, 1.2),
            eyes_apart: chance.within(0.95, 1.06),
            nose: chance.within(0.9, 1.12),
            mouth: chance.within(0.88, 1.12),
            lip: chance.within(0.8, 1.4),
            beard: if chance.next() < 0.25 { chance.within(0.4, 0.9) } else { 0.0 },
            glasses: (chance.next() < 0.25).then_some(Glasses::Dark),
            long_hair: chance.next() < 0.5,
            light: [chance.within(-0.5, 0.5), chance.within(0.4, 0.9), 1.0],
            ambient: chance.within(0.45, 0.65),
            background: wall,
        }
    }
}

impl Bearing {
    /// A pose by chance within what an avatar's source may have.
    pub fn by_chance(chance: &mut Chance) -> Self {
        Self {
            yaw: chance.within(-18.0, 18.0),
            pitch: chance.within(-10.0, 10.0),
            roll: chance.within(-15.0, 15.0),
            shift: [chance.within(-30.0, 30.0), chance.within(-20.0, 20.0)],
            open: if chance.next() < 0.5 { 0.0 } else { chance.within(0.1, 1.0) },
            smile: if chance.next() < 0.5 { 0.0 } else { chance.within(0.0, 1.0) },
            round: if chance.next() < 0.7 { 0.0 } else { chance.within(0.3, 1.0) },
            blink: 0.0,
        }
    }

    /// Somebody who talks and moves, at a time in seconds.
    pub fn talking(seconds: f32) -> Self {
        let wave = |times: f32, shift: f32| (std::f32::consts::TAU * (times * seconds + shift)).sin();
        Self {
            yaw: 9.0 * wave(0.31, 0.0),
            pitch: 4.0 * wave(0.47, 0.2),
            roll: 4.0 * wave(0.23, 0.4),
            shift: [14.0 * wave(0.27, 0.1), 6.0 * wave(0.41, 0.3)],
            open: (0.35 + 0.5 * wave(2.9, 0.0)).clamp(0.0, 1.0),
            smile: 0.3 + 0.3 * wave(0.6, 0.5),
            round: (0.6 * wave(1.3, 0.25)).max(0.0),
            blink: if wave(0.35, 0.0) > 0.98 { 1.0 } else { 0.0 },
        }
    }
}

/// Draws a face that is `width` pixels from ear to ear in the middle of a square picture.
pub fn draw(person: &Person, bearing: &Bearing, side: u32, width: f32) -> Drawn {
    let shape = shape::of(person, bearing, side, width);
    let picture = paint::paint(person, &shape, side);
    Drawn { points: shape.points.iter().map(|[x, y, _]| [*x, *y]).collect(), picture }
}

/// The same picture with noise of that standard deviation, in levels.
pub fn noisy(picture: &RgbPicture, deviation: f32, chance: &mut Chance) -> RgbPicture {
    // The sum of twelve is as good as normal.
    let mut one = || (0..12).map(|_| chance.next()).sum::<f32>() - 6.0;
    let rgb = picture.rgb.iter().map(|level| (f32::from(*level) + deviation * one()).round().clamp(0.0, 255.0) as u8);
    RgbPicture { width: picture.width, height: picture.height, rgb: rgb.collect() }
}
