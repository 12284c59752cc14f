//! A plane of pixels seen through a smooth map, each pixel sampled once.
//!
//! In here: how a sample between pixels is made, eight at a time in 16-bit arithmetic. Not in here: where samples lie (`field`, `eyes`).
//!
//! The filter has six taps on each axis, Lanczos' window of three lobes as polynomials of the place between two pixels, off by at
//! most 0.0034. Four taps would be cheaper, but what moves by half a pixel would lose a third of its detail and win it
//! back, again and again, which is seen as a pulse.

use wide::{i16x8, u8x16};

/// Pixels that are sampled together.
pub(super) const LANES: usize = 8;
/// Steps of a displacement in one pixel.
pub(super) const STEPS: i32 = 256;

const TAPS: usize = 6;
/// Taps before the pixel that a sample falls on.
const BEFORE: i32 = 2;
/// Pixels of a row that the samples of all lanes are made of.
const WINDOW: usize = LANES + TAPS - 1;

/// One of a picture's planes.
#[derive(Clone, Copy)]
pub(super) struct Plane<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `width * height` of them.
    pub(super) levels: &'a [u8],
}

/// Where eight pixels beside each other are sampled, each relative to itself, in [`STEPS`] of a pixel.
#[derive(Clone, Copy)]
pub(super) struct Displacements {
    pub(super) x: i16x8,
    pub(super) y: i16x8,
}

impl Plane<'_> {
    /// What samples of eight pixels are made of, if all of it is inside.
    #[inline]
    fn window(&self, left: isize, top: isize) -> Option<[&[u8; WINDOW]; TAPS]> {
        let (left, top) = (usize::try_from(left).ok()?, usize::try_from(top).ok()?);
        if left + WINDOW > self.width || top + TAPS > self.height {
            return None;
        }
        let mut rows = [&[0; WINDOW]; TAPS];
        for (row, y) in rows.iter_mut().zip(top..) {
            *row = self.levels.get(y * self.width + left..)?.first_chunk()?;
        }
        Some(rows)
    }

    /// The same where the last pixels go on beyond the edge.
    #[cold]
    fn window_with_edge(&self, left: isize, top: isize) -> [[u8; WINDOW]; TAPS] {
        let within = |at: isize, side: usize| at.clamp(0, side.cast_signed() - 1).cast_unsigned();
        std::array::from_fn(|row| {
            let start = within(top + row.cast_signed(), self.height) * self.width;
            std::array::from_fn(|column| {
                let at = start + within(left + column.cast_signed(), self.width);
                self.levels.get(at).copied().unwrap_or_default()
            })
        })
    }
}

/// What each of eight pixels is made of, for any plane of one size.
pub(super) struct Samples {
    x: usize,
    y: usize,
    /// Whole pixels to the right and down of each lane.
    whole: [[i16; LANES]; 2],
    /// Whether these are the same for all.
    together: bool,
    across: [i16x8; TAPS],
    down: [i16x8; TAPS],
}

impl Samples {
    /// Eight pixels from (`x`, `y`) on.
    #[inline]
    pub(super) fn new(x: usize, y: usize, by: Displacements) -> Self {
        let (right, below): (i16x8, i16x8) = (by.x >> 8, by.y >> 8);
        let whole = [right.to_array(), below.to_array()];
        let [first_right, first_below] = whole.map(|[first, ..]| i16x8::splat(first));
        let apart = (right ^ first_right) | (below ^ first_below);
        let together = apart.simd_eq(i16x8::splat(0)).all();
        Self { x, y, whole, together, across: weights(by.x), down: weights(by.y) }
    }

    /// What they become; beyond the edge the plane's last pixel goes on.
    pub(super) fn of(&self, plane: &Plane<'_>) -> [u8; LANES] {
        let [right, below] = &self.whole;
        if self.together {
            return self.window(plane, right[0], below[0]);
        }
        // Lanes whose samples begin at the same pixel are done at once, and those that do not are thrown away.
        let mut out = [0; LANES];
        let mut lane = 0;
        while lane < LANES {
            let same = |other: &usize| right[*other] == right[lane] && below[*other] == below[lane];
            let end = (lane + 1..LANES).find(|other| !same(other)).unwrap_or(LANES);
            let levels = self.window(plane, right[lane], below[lane]);
            out[lane..end].copy_from_slice(&levels[lane..end]);
            lane = end;
        }
        out
    }

    /// All lanes as if their samples began at the same pixel.
    #[inline]
    fn window(&self, plane: &Plane<'_>, right: i16, below: i16) -> [u8; LANES] {
        let left = self.x.cast_signed() + (i32::from(right) - BEFORE) as isize;
        let top = self.y.cast_signed() + (i32::from(below) - BEFORE) as isize;
        match plane.window(left, top) {
            Some(rows) => self.sum(rows),
            None => {
                let rows = plane.window_with_edge(left, top);
                self.sum(std::array::from_fn(|row| &rows[row]))
            }
        }
    }

    #[inline]
    fn sum(&self, rows: [&[u8; WINDOW]; TAPS]) -> [u8; LANES] {
        let mut sum = i16x8::splat(CUT_OFF + 16);
        for (row, down) in rows.into_iter().zip(self.down) {
            sum += self.line(row).mul_keep_high(down);
        }
        let levels: i16x8 = sum >> 5;
        // Cut to 0 to 255.
        let levels = u8x16::narrow_i16x8(levels + i16x8::splat(128), i16x8::splat(0));
        levels.to_array().first_chunk().copied().unwrap_or_default()
    }

    /// One row of the window, in 1/128 of a level around the middle one.
    #[inline(always)]
    fn line(&self, pixels: &[u8; WINDOW]) -> i16x8 {
        let mut line = i16x8::splat(CUT_OFF - (128 << 5));
        for (tap, weights) in self.across.into_iter().enumerate() {
            let mut eight = [0; 16];
            eight[..LANES].copy_from_slice(&pixels[tap..tap + LANES]);
            let levels: i16x8 = i16x8::from_u8x16_low(u8x16::new(eight)) << 7;
            line += levels.mul_keep_high(weights);
        }
        line << 2
    }
}

/// Six products lose half a step each when they are cut.
const CUT_OFF: i16 = 3;

/// What each tap counts, in 1/16384, at the fractions of these displacements: exactly one pixel at 0, and always 1 together.
fn weights(by: i16x8) -> [i16x8; TAPS] {
    // In 1/32768.
    let fraction: i16x8 = (by & i16x8::splat(255)) << 7;
    let hump: i16x8 = fraction.mul_keep_high(i16x8::splat(i16::MAX) - fraction) << 2;
    // hump * (a + b * fraction)
    let curve = |[a, b]: [i16; 2]| {
        let slope: i16x8 = i16x8::splat(b).mul_keep_high(fraction) << 1;
        hump.mul_keep_high(i16x8::splat(a) + slope)
    };
    let [zero, one, three, four, five] = CURVES.map(curve);
    let half: i16x8 = fraction >> 1;
    let three = three + half;
    let two = i16x8::splat(16384) - zero - one - three - four - five;
    [zero, one, two, three, four, five]
}

/// In 1/16384.
const CURVES: [[i16; 2]; TAPS - 1] = [[3575, -3908], [-14475, 11267], [-3303, 21045], [-3208, -11267], [-331, 3908]];

#[cfg(test)]
mod tests;
