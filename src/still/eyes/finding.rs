//! Finds lids and iris in the picture, starting from the mesh.
//!
//! In here: what is read from pixels. The mesh's lower lid lies wrong by up to half an eye in drawn faces, so it snaps to where
//! the skin begins; behind dark glasses all of the eye does, so it follows the white where that is brighter than the skin.

use crate::face::{Mesh, parts};
use crate::picture::RgbPicture;

use super::super::frame::{HeadFrame, smooth};
use super::shine;
use super::{Column, Eye, Iris, OVERLAP, RIGID};

/// How much wider than in the mesh an eye is taken to be, for lashes and corners.
const WIDER: f32 = 1.1;
/// How much brighter than skin the white of an eye is that tells where the eye begins, in levels.
const WHITE: f32 = 40.0;
/// How much of an eye's opening is white at least, where it is said to lie elsewhere than in the mesh.
const LEAST_WHITE: f32 = 0.2;
/// How much skin there is at least between the rim of glasses and the upper lid, in heights of the eye.
const LEAST_LID: f32 = 0.2;
/// How much darker and brighter than skin below the eye that of a lid is at most, as parts of it, and how much U and V differ.
const MOST_SHADE: [f32; 2] = [0.3, 0.2];
const MOST_HUE: f32 = 12.0;
/// How much the white of an eye is at least brighter than its iris, in levels.
const CONTRAST: f32 = 18.0;

/// The radii that an iris may have, in widths of the eye; people have 0.19, drawn faces more.
const IRIS_RADII: [f32; 7] = [0.14, 0.165, 0.19, 0.215, 0.24, 0.265, 0.29];

/// The points of one eye, each list along the picture's width.
pub(super) struct Lids {
    upper: [usize; 9],
    lower: [usize; 9],
    brow: [usize; 5],
}

/// The eyes of a mesh, left and right as seen.
pub(super) const EYES: [Lids; 2] = [
    Lids { upper: parts::LEFT_UPPER_LID, lower: parts::LEFT_LOWER_LID, brow: parts::LEFT_BROW },
    Lids { upper: parts::RIGHT_UPPER_LID, lower: parts::RIGHT_LOWER_LID, brow: parts::RIGHT_BROW },
];

impl Eye {
    /// `None` if it is shut, or too small to be moved.
    pub(super) fn find(picture: &RgbPicture, mesh: &Mesh, head: &HeadFrame, lids: &Lids) -> Option<Self> {
        let corners = [0, 8].map(|at| mesh.point(lids.upper[at]));
        let frame = head.about([0, 1].map(|axis| (corners[0][axis] + corners[1][axis]) / 2.0));
        let line = |points: &[usize], wider: f32| {
            let mut line: Vec<[f32; 2]> = points.iter().map(|at| frame.to_head(flat(mesh.point(*at)))).collect();
            line.iter_mut().for_each(|point| point[0] *= wider);
            line.sort_by(|one, other| one[0].total_cmp(&other[0]));
            line
        };
        let (upper, lower, brow) = (line(&lids.upper, WIDER), line(&lids.lower, WIDER), line(&lids.brow, 1.0));
        let (left, right) = (upper.first()?[0].floor(), upper.last()?[0].ceil());
        let width = right - left;
        if !(8.0..4096.0).contains(&width) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "8 to 4096")]
        let count = width as usize + 1;
        let across = |line: &[[f32; 2]]| soften((0..count).map(|at| height_at(line, left + at as f32)), 0.04 * width);
        let (mut upper, mut lower, mut brow) = (across(&upper), across(&lower), across(&brow));
        let height = upper.iter().zip(&lower).map(|(upper, lower)| lower - upper).fold(0.0, f32::max);
        if height < 2.0 {
            return None;
        }
        let pixels = Pixels { picture, frame: &frame };
        let off = pixels.off_the_white(left, &upper, &lower, height);
        [&mut upper, &mut lower, &mut brow].into_iter().flatten().for_each(|v| *v += off);
        let arch = |at: usize| {
            let part = at as f32 / (count - 1) as f32;
            (4.0 * part * (1.0 - part)).max(0.0).powf(0.6)
        };
        let raise = pixels.white_above(left, &upper, &lower, height);
        let shift = pixels.skin_below(left, &upper, &lower, height);
        let hair = pixels.brow_below(left, &brow, &upper);
        upper.iter_mut().zip(&raise).for_each(|(upper, raise)| *upper -= raise);
        lower.iter_mut().enumerate().for_each(|(at, lower)| *lower += shift * arch(at));
        let height = height + shift + raise.iter().copied().fold(0.0, f32::max);
        let mut columns: Vec<Column> = (0..count)
            .map(|at| {
                let (upper, lower) = (upper[at], lower[at].max(upper[at]));
                let top = (brow[at] + hair[at]).min(upper - LEAST_LID * height);
                let rigid = (RIGID * height).min(0.5 * (upper - top));
                let travel = (lower - upper + OVERLAP * head.width * arch(at)).max(0.0);
                // Shut corners stay where they are.
                let travel = travel * smooth(0.0, 0.08, arch(at));
                Column { top, upper, lower, travel, rigid, tint: [0.0; 3], shine: 0.0, aside: 0.0 }
            })
            .collect();
        let (shines, asides) =
            (shine::on_lid(&pixels, left, &columns, height), shine::below_eye(&pixels, left, &columns));
        for ((column, shine), aside) in columns.iter_mut().zip(shines).zip(asides) {
            (column.shine, column.aside) = (shine, aside);
        }
        let tints = pixels.tints(left, &columns);
        columns.iter_mut().zip(tints).for_each(|(column, tint)| column.tint = tint);
        let iris = pixels.iris(left, &columns, width);
        Some(Self { frame, left, columns, iris, width })
    }
}

/// Pixels along an eye's axes.
pub(super) struct Pixels<'a> {
    picture: &'a RgbPicture,
    frame: &'a HeadFrame,
}

impl Pixels<'_> {
    fn at(&self, place: [f32; 2]) -> [f32; 3] {
        let [x, y] = self.frame.to_picture(place);
        let &RgbPicture { width, height, ref rgb } = self.picture;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the picture")]
        let [x, y] = [(x, width), (y, height)].map(|(at, side)| at.clamp(0.0, side as f32 - 1.0) as usize);
        let at = (y * width as usize + x) * 3;
        rgb.get(at..at + 3).map_or([0.0; 3], |pixel| [0, 1, 2].map(|colour| f32::from(pixel[colour])))
    }

    pub(super) fn brightness(&self, place: [f32; 2]) -> f32 {
        let [r, g, b] = self.at(place);
        0.299 * r + 0.587 * g + 0.114 * b
    }

    /// How far below the mesh's lower lid the eye ends: where the last pixel is that is no skin.
    fn skin_below(&self, left: f32, upper: &[f32], lower: &[f32], height: f32) -> f32 {
        let mut shifts: Vec<f32> = Vec::new();
        let inner = upper.len() / 4..upper.len() - upper.len() / 4;
        let reach = 0.75 * height;
        for at in inner {
            let u = left + at as f32;
            // One of these places, or two, may be the rim of glasses.
            let mut below = [0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7].map(|away| self.at([u, lower[at] + away * height]));
            below.sort_by(|one, other| one.iter().sum::<f32>().total_cmp(&other.iter().sum()));
            let skin = below[3];
            let unlike = |v: f32| {
                let here = self.at([u, v]);
                (0..3).map(|colour| (here[colour] - skin[colour]).abs()).fold(0.0, f32::max)
            };
            let rows = || steps(upper[at], lower[at] + reach);
            let most = rows().map(unlike).fold(0.0, f32::max);
            let limit = (0.38 * most).max(14.0);
            // What comes after skin is no longer the eye, but the rim of glasses.
            let mut skins = 0.0;
            let eye = rows().take_while(|v| {
                let is_skin = *v > lower[at] - 0.2 * height && unlike(*v) <= limit;
                skins = if is_skin { skins + 1.0 } else { 0.0 };
                skins <= (0.4 * height).max(2.0)
            });
            if let Some(last) = eye.filter(|v| unlike(*v) > limit).last() {
                shifts.push(last + 1.0 - lower[at]);
            }
        }
        shifts.sort_by(f32::total_cmp);
        shifts.get(shifts.len() / 2).copied().unwrap_or(0.0).clamp(-0.2 * height, reach)
    }

    /// How far below the mesh's eye the white one is, where that is brighter than the skin: dark glasses draw the mesh away by
    /// up to half an eye.
    fn off_the_white(&self, left: f32, upper: &[f32], lower: &[f32], height: f32) -> f32 {
        // As fine as is needed, however large the eye is.
        let step = (height / 32.0).max(1.0);
        let columns: Vec<(f32, usize, f32)> = (0..upper.len())
            .step_by((upper.len() / 64).max(1))
            .map(|at| (left + at as f32, at, self.skin_under(left + at as f32, lower[at], height) + WHITE))
            .collect();
        let whites = |off: f32| {
            let within = |&(u, at, white): &(f32, usize, f32)| {
                strides(upper[at] + off, lower[at] + off, step).filter(|v| self.brightness([u, *v]) > white).count()
            };
            columns.iter().map(within).sum::<usize>() as f32
        };
        // A few pixels more are chance, and without much white it is no eye that was found, but a shine on glass.
        let opening = columns.iter().map(|&(_, at, _)| (lower[at] - upper[at]) / step).sum::<f32>();
        let least = (1.15 * whites(0.0) + columns.len() as f32 / 4.0).max(LEAST_WHITE * opening);
        let known = (0.0, least);
        let tries = strides(step, 0.7 * height, step).flat_map(|away| [-away, away]).map(|off| (off, whites(off)));
        tries.fold(known, |best, other| if other.1 > best.1 { other } else { best }).0
    }

    /// How bright the skin is below an eye in one column.
    pub(super) fn skin_under(&self, u: f32, lower: f32, height: f32) -> f32 {
        let mut below = [0.5, 0.8, 1.1].map(|away| self.brightness([u, lower + away * height]));
        below.sort_by(f32::total_cmp);
        below[1]
    }

    /// How far above the mesh's upper lid the eye begins, column by column, where its white is brighter than the skin: a lid
    /// that shut from within the eye would carry white and iris.
    fn white_above(&self, left: f32, upper: &[f32], lower: &[f32], height: f32) -> Vec<f32> {
        let reach = 0.6 * height;
        let shifts: Vec<f32> = (0..upper.len())
            .map(|at| {
                let u = left + at as f32;
                let skin = self.skin_under(u, lower[at], height);
                let white = |away: f32| self.brightness([u, upper[at] - away]) > skin + WHITE;
                // What is apart from the eye is a shine on glass; lashes in between are a pixel or two.
                let mut last = -1.0;
                for away in steps(0.0, reach) {
                    last = if white(away) { away } else { last };
                    if away > last + 2.0 {
                        break;
                    }
                }
                last + 1.0
            })
            .collect();
        // The iris is not white: what is beside it counts there.
        let around = shifts.len() / 5;
        soften(ranked(&shifts, around, 0.75), 0.5 * around as f32)
    }

    /// How far below the mesh's brow its hair ends, or the rim of glasses that is below it, column by column.
    fn brow_below(&self, left: f32, brow: &[f32], upper: &[f32]) -> Vec<f32> {
        let shifts: Vec<f32> = (0..brow.len())
            .map(|at| {
                let (u, brow) = (left + at as f32, brow[at]);
                let gap = upper[at] - brow;
                let between: Vec<f32> =
                    strides(brow + 0.35 * gap, brow + 0.8 * gap, 1.0).map(|v| self.brightness([u, v])).collect();
                // Not the brightest of all, which on dark skin may be a rim of metal.
                let skin = rank(between, 0.88);
                let darker = |v: f32| skin - self.brightness([u, v]);
                // On almost black skin a dark rim is hardly darker.
                let dark = (0.12 * skin).clamp(4.0, 16.0);
                // A rim may lie lower than hair, and differs more than any shade.
                let hair = strides(brow, brow + 0.6 * gap, 1.0).filter(|v| darker(*v) > dark).last();
                let rim = strides(brow + 0.6 * gap, brow + 0.9 * gap, 1.0).filter(|v| darker(*v) > 0.45 * skin).last();
                let bright =
                    strides(brow, brow + 0.9 * gap, 1.0).filter(|v| -darker(*v) > 24.0_f32.max(0.45 * skin)).last();
                let last = [rim.or(hair), bright]
                    .into_iter()
                    .flatten()
                    .fold(None, |one: Option<f32>, other| Some(one.map_or(other, |one| one.max(other))));
                last.map_or(0.0, |last| last + 2.0 - brow)
            })
            .collect();
        let around = shifts.len() / 7;
        soften(ranked(&shifts, around, 2.0 / 3.0), around as f32)
    }

    /// How skin of the lid differs from that below the eye which is laid over it, column by column, in levels of Y, U and V.
    fn tints(&self, left: f32, columns: &[Column]) -> Vec<[f32; 3]> {
        let differences: Vec<[f32; 3]> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let u = left + at as f32;
                let colours = |u: f32, from: f32, to: f32| -> Vec<[f32; 3]> {
                    strides(from, to, 1.0).map(|v| yuv(self.at([u, v]))).collect()
                };
                let mut lid = colours(u, column.top, column.upper - 0.3 * column.rigid);
                let mut cheek = colours(u + column.aside, column.cheek(0.0), column.lowest());
                cheek.sort_by(|one, other| one[0].total_cmp(&other[0]));
                let Some(&cheek) = cheek.get(cheek.len() / 2) else { return [0.0; 3] };
                // Lashes, the lid's crease, a rim and a shine differ more from it than the lid's skin does.
                let unlike = |colour: &[f32; 3]| (0..3).map(|plane| (colour[plane] - cheek[plane]).abs()).sum::<f32>();
                lid.sort_by(|one, other| unlike(one).total_cmp(&unlike(other)));
                let Some(lid) = lid.get(lid.len() / 4) else { return [0.0; 3] };
                let [y, u, v] = [0, 1, 2].map(|plane| lid[plane] - cheek[plane]);
                // Where there is no skin to be seen at all, no more than lids differ in shade and make-up.
                let most = MOST_SHADE.map(|part| part * cheek[0]);
                [y.clamp(-most[0], most[1]), u.clamp(-MOST_HUE, MOST_HUE), v.clamp(-MOST_HUE, MOST_HUE)]
            })
            .collect();
        let around = columns.len() / 6;
        let planes = [0, 1, 2].map(|plane| {
            let plane: Vec<f32> = differences.iter().map(|tint| tint[plane]).collect();
            soften(ranked(&plane, around, 0.5), around as f32)
        });
        (0..columns.len()).map(|at| [0, 1, 2].map(|plane| planes[plane][at])).collect()
    }

    /// The dark disc with brighter pixels on both of its sides.
    fn iris(&self, left: f32, columns: &[Column], width: f32) -> Option<Iris> {
        let column = |u: f32| {
            let at = (u - left).round();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
            (at >= 0.0).then(|| columns.get(at as usize)).flatten()
        };
        let open = |[u, v]: [f32; 2]| column(u).is_some_and(|column| v > column.upper + 1.0 && v < column.lower - 1.0);
        let step = (width / 48.0).max(1.0);
        let mut best: Option<(f32, Iris)> = None;
        for part in IRIS_RADII {
            let radius = part * width;
            for u in strides(left + 0.25 * width, left + 0.75 * width, step) {
                let Some(&Column { upper, lower, .. }) = column(u) else { continue };
                for v in strides(upper + 0.25 * (lower - upper), upper + 0.75 * (lower - upper), step) {
                    let contrast = self.contrast([u, v], radius, step, &open);
                    let Some(contrast) = contrast.filter(|contrast| *contrast > CONTRAST) else { continue };
                    // A pupil is darker than its iris, but smaller.
                    let worth = contrast * part.sqrt();
                    if best.as_ref().is_none_or(|(known, _)| worth > *known) {
                        let room = (u - radius - left).min(left + width - u - radius);
                        best = Some((worth, Iris { middle: [u, v], radius, room: 0.4 * room.max(0.0) }));
                    }
                }
            }
        }
        best.map(|(_, iris)| iris)
    }

    /// How much brighter it is just outside a disc than just inside, on the side where that is less.
    fn contrast(&self, middle: [f32; 2], radius: f32, step: f32, open: &dyn Fn([f32; 2]) -> bool) -> Option<f32> {
        // Left and right, inside and outside.
        let mut sums = [[(0.0, 0.0); 2]; 2];
        for y in strides(-0.7 * radius, 0.7 * radius, step) {
            for x in strides(-1.35 * radius, 1.35 * radius, step) {
                let place = [middle[0] + x, middle[1] + y];
                let distance = x.hypot(y) / radius;
                if ((0.6..=0.92).contains(&distance) || (1.08..=1.35).contains(&distance)) && open(place) {
                    let sum = &mut sums[usize::from(x > 0.0)][usize::from(distance > 1.0)];
                    *sum = (sum.0 + self.brightness(place), sum.1 + 1.0);
                }
            }
        }
        if sums.iter().flatten().any(|(_, count)| *count < 3.0) {
            return None;
        }
        let [left, right] = sums.map(|[inside, outside]| outside.0 / outside.1 - inside.0 / inside.1);
        Some(left.min(right))
    }
}

fn flat([x, y, _]: [f32; 3]) -> [f32; 2] {
    [x, y]
}

fn steps(from: f32, to: f32) -> impl Iterator<Item = f32> {
    strides(from, to, 1.0)
}

pub(super) fn strides(from: f32, to: f32, step: f32) -> impl Iterator<Item = f32> {
    (0_u16..4096).map(move |at| from + f32::from(at) * step).take_while(move |at| *at <= to)
}

/// The line's height at a place, level beyond its ends.
fn height_at(line: &[[f32; 2]], u: f32) -> f32 {
    let after = line.partition_point(|point| point[0] <= u);
    match (after.checked_sub(1).and_then(|before| line.get(before)), line.get(after)) {
        (Some(one), Some(other)) => one[1] + (other[1] - one[1]) * (u - one[0]) / (other[0] - one[0]).max(1e-3),
        (Some(only), None) | (None, Some(only)) => only[1],
        (None, None) => 0.0,
    }
}

/// The value that so large a part of them does not exceed, 0 of none.
pub(super) fn rank(mut values: Vec<f32>, part: f32) -> f32 {
    values.sort_by(f32::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the values")]
    let at = (values.len() as f32 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// That of each value and those so near.
pub(super) fn ranked(values: &[f32], around: usize, part: f32) -> impl Iterator<Item = f32> {
    (0..values.len())
        .map(move |at| rank(values[at.saturating_sub(around)..(at + around + 1).min(values.len())].to_vec(), part))
}

/// BT.601's, as frames are, without what is added to each.
fn yuv([r, g, b]: [f32; 3]) -> [f32; 3] {
    let y = 0.257 * r + 0.504 * g + 0.098 * b;
    [y, 0.439 * b - 0.148 * r - 0.291 * g, 0.439 * r - 0.368 * g - 0.071 * b]
}

/// A line without corners: two running means.
pub(super) fn soften(line: impl Iterator<Item = f32>, radius: f32) -> Vec<f32> {
    let mut line: Vec<f32> = line.collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of an eye")]
    let radius = radius.max(1.0) as usize;
    for _ in 0..2 {
        let hard = line.clone();
        for (at, level) in line.iter_mut().enumerate() {
            let radius = radius.min(at).min(hard.len() - 1 - at);
            let near = &hard[at - radius..=at + radius];
            *level = near.iter().sum::<f32>() / near.len() as f32;
        }
    }
    line
}
