//! What is face in a frame, and which of it MuseTalk's mouth is pasted through: upstream's arithmetic on a map of classes.
//!
//! In here: a map found in the pixels, as upstream finds it, or drawn from the mesh where nobody fetched the network for that;
//! and upstream's three ways from a map to a mask. Not in here: the network (`musetalk` of the library), the mask's edge and
//! its place (`mask`). After `musetalk/utils/face_parsing/__init__.py`.

use super::geometry::Surroundings;
use crate::face::{Mesh, parts};
use crate::lipsync::LipSyncError;
use crate::musetalk::FaceParser;
use crate::picture::RgbPicture;
use crate::preparation::ParsingMode;

/// Rows and columns of a map.
pub const SIDE: usize = FaceParser::SIDE;
/// BiSeNet's classes, those that matter here.
const SKIN: u8 = 1;
const NOSE: u8 = 10;
const MOUTH: u8 = 11;
const LIPS: [u8; 2] = [12, 13];
const NECK: u8 = 14;
/// The mask in a map of classes: no class.
const OPAQUE: u8 = 255;
/// What of the nose moves least and is not redrawn: its hull.
const NOSE_POINTS: [usize; 18] = [6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 64, 294, 48, 278, 115, 344, 168];

/// Upstream's half cheeks in columns of a map from its middle on: beyond, skin is worn off.
const CHEEKS: usize = 90;
/// Rows that skin grows upwards and downwards, and columns sideways: the kernel's own, which is a cone of 11 rows on 12 even
/// ones, with its middle in row 16 of 33.
const CONE: std::ops::Range<usize> = 10..21;
const KERNEL: usize = 33;
/// Columns of the flat kernel that cheeks are worn off with, twice; above and below its middle it has one pixel.
const FLAT: usize = 35;

/// A map of [`SIDE`] x [`SIDE`] classes, rows from the top.
#[derive(Clone, PartialEq, Eq)]
pub struct Classes(pub Vec<u8>);

impl Classes {
    /// Found in a frame's pixels.
    pub fn found(parser: &FaceParser, frame: &RgbPicture, around: Surroundings) -> Result<Self, LipSyncError> {
        Ok(Self(parser.classes(&around.pixels(frame))?))
    }

    /// Drawn from a mesh: skin inside its outline, the nose and the lips on it.
    pub fn drawn(mesh: &Mesh, around: Surroundings) -> Self {
        let scale = SIDE as f32 / around.side.max(1) as f32;
        let place = |at: usize| {
            let [x, y, _] = mesh.point(at);
            [(x - around.x as f32) * scale, (y - around.y as f32) * scale]
        };
        let mut classes = vec![0; SIDE * SIDE];
        fill(&mut classes, &parts::OUTLINE.map(place), SKIN);
        fill(&mut classes, &hull(NOSE_POINTS.map(place).to_vec()), NOSE);
        let lower = parts::LOWER_LIP_OUTER.into_iter().rev();
        let lips: Vec<[f32; 2]> = parts::UPPER_LIP_OUTER.into_iter().chain(lower).map(place).collect();
        fill(&mut classes, &lips, MOUTH);
        Self(classes)
    }

    /// What of the map is pasted into, in a mode of upstream's: 0 or 255.
    pub fn shown(&self, mode: ParsingMode) -> Vec<u8> {
        match mode {
            ParsingMode::Jaw => self.jaw(),
            ParsingMode::Raw => self.of(&[SKIN, MOUTH, LIPS[0], LIPS[1]]),
            ParsingMode::Neck => self.of(&[SKIN, MOUTH, LIPS[0], LIPS[1], NECK]),
        }
    }

    fn of(&self, shown: &[u8]) -> Vec<u8> {
        self.0.iter().map(|class| if shown.contains(class) { OPAQUE } else { 0 }).collect()
    }

    /// Upstream's mode `jaw`, of version 1.5: skin grown over the jaw and worn off at the cheeks, without the nose, and the
    /// mouth.
    fn jaw(&self) -> Vec<u8> {
        let skin: Vec<bool> = self.0.iter().map(|class| *class == SKIN).collect();
        let grown = grown(&skin);
        let worn = worn(&worn(&grown));
        let middle = SIDE / 2 - CHEEKS + 1..SIDE / 2 + CHEEKS;
        let opaque = |(at, class): (usize, &u8)| {
            let face = if middle.contains(&(at % SIDE)) { &grown } else { &worn };
            let face = face.get(at).copied().unwrap_or_default() && *class != NOSE;
            if face || *class == MOUTH || LIPS.contains(class) { OPAQUE } else { 0 }
        };
        self.0.iter().enumerate().map(opaque).collect()
    }
}

/// Skin and whatever is less than the kernel away from it; nothing comes in over the edge.
fn grown(skin: &[bool]) -> Vec<bool> {
    let half = |row: usize| row.min(CONE.end - 1).checked_sub(CONE.start);
    let sums: Vec<[u16; SIDE + 1]> = skin.chunks_exact(SIDE).map(running).collect();
    let mut grown = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        let rows: Vec<(usize, &[u16; SIDE + 1])> = (CONE.start..KERNEL)
            .filter_map(|row| Some((half(row)?, sums.get((y + row).checked_sub(KERNEL / 2)?)?)))
            .collect();
        grown.extend((0..SIDE).map(|x| rows.iter().any(|(half, sums)| count(sums, x, *half) > 0)));
    }
    grown
}

/// What has the whole flat kernel inside it; what lies over the edge does not count.
fn worn(face: &[bool]) -> Vec<bool> {
    let sums: Vec<[u16; SIDE + 1]> = face.chunks_exact(SIDE).map(running).collect();
    let at = |x: usize, y: Option<usize>| y.filter(|y| *y < SIDE).and_then(|y| face.get(y * SIDE + x)).copied();
    let mut worn = Vec::with_capacity(SIDE * SIDE);
    for (y, sums) in sums.iter().enumerate() {
        worn.extend((0..SIDE).map(|x| {
            let (from, end) = (x.saturating_sub(FLAT / 2), (x + FLAT / 2 + 1).min(SIDE));
            usize::from(count(sums, x, FLAT / 2)) == end - from
                && at(x, y.checked_sub(1)).unwrap_or(true)
                && at(x, Some(y + 1)).unwrap_or(true)
        }));
    }
    worn
}

/// How many there are before each column.
fn running(row: &[bool]) -> [u16; SIDE + 1] {
    let mut sums = [0; SIDE + 1];
    let mut sum = 0;
    for (total, is) in sums.iter_mut().skip(1).zip(row) {
        sum += u16::from(*is);
        *total = sum;
    }
    sums
}

/// How many there are at most `half` columns away.
fn count(sums: &[u16; SIDE + 1], x: usize, half: usize) -> u16 {
    sums[(x + half + 1).min(SIDE)] - sums[x.saturating_sub(half)]
}

/// Sets the pixels whose middle lies in a polygon.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the map")]
fn fill(classes: &mut [u8], polygon: &[[f32; 2]], class: u8) {
    for (y, row) in classes.chunks_exact_mut(SIDE).enumerate() {
        let middle = y as f32 + 0.5;
        let next = polygon.iter().skip(1).chain(polygon.first());
        let mut crossings: Vec<f32> = polygon
            .iter()
            .zip(next)
            .filter(|(from, to)| (from[1] <= middle) != (to[1] <= middle))
            .map(|(from, to)| from[0] + (middle - from[1]) / (to[1] - from[1]) * (to[0] - from[0]))
            .collect();
        crossings.sort_by(f32::total_cmp);
        for pair in crossings.as_chunks::<2>().0 {
            let [from, end] = pair.map(|x| (x - 0.5).ceil().clamp(0.0, SIDE as f32) as usize);
            row.get_mut(from..end).into_iter().flatten().for_each(|pixel| *pixel = class);
        }
    }
}

/// The convex hull of points, in order round it (Andrew's monotone chain).
fn hull(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    let half = |points: &mut dyn Iterator<Item = [f32; 2]>| {
        let mut chain: Vec<[f32; 2]> = Vec::new();
        for point in points {
            while let [.., a, b] = chain[..]
                && (b[0] - a[0]) * (point[1] - a[1]) <= (b[1] - a[1]) * (point[0] - a[0])
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut round = half(&mut points.iter().copied());
    round.extend(half(&mut points.iter().rev().copied()));
    round
}
