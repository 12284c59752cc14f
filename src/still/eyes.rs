//! An eye in a picture: its lids, its iris, and where its pixels come from when the lid closes and the eye turns.
//!
//! In here: the map of one eye, in pixels along the line between the corners of the eyes (u) and across it (v). `eyes::finding`
//! finds lids and iris in the picture, `eyes::shine` what lies before them on glass. Not in here: the turn of the head (`field`), which comes before.
//!
//! The upper lid slides down over an eye that stays: its edge keeps its lashes, the skin between lid and brow stretches.
//! Where there is too little of that skin, under a low brow or the rim of glasses, skin from below the eye is laid over its
//! streaks, as bright as that of the lid. What is before the lid, a rim or a shine on glass, does not go down with it.
//! The iris slides within the opening and comes to rest towards its edges.

mod finding;
mod shine;

use crate::face::Mesh;
use crate::picture::RgbPicture;
use finding::EYES;

use super::HeadPose;
use super::frame::{HeadFrame, smooth};

/// How far below the lower lid the edge of a shut one comes to lie, in face widths.
const OVERLAP: f32 = 0.02;
/// What moves with the edge of the lid as one, in heights of the eye.
const RIGID: f32 = 0.45;
/// An eye that is narrower than this part of the other is on the far side of a head turned away, where the mesh guesses.
const TURNED_AWAY: f32 = 0.55;
/// How much skin from below the eye covers a lid that is stretched far, at most.
const MOST_CHEEK: f32 = 0.85;
/// The radius of an eyeball, in widths of the opening.
const EYEBALL: f32 = 0.4;

/// An eye and the map around it.
#[derive(Debug)]
pub(super) struct Eye {
    frame: HeadFrame,
    /// u of the first column.
    left: f32,
    /// One for each pixel of width.
    columns: Vec<Column>,
    iris: Option<Iris>,
    /// Of the opening, in pixels.
    width: f32,
}

/// What lies above each other at one place of the eye's width, as v in pixels.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    /// Where skin begins to stretch: the brow's lower edge.
    top: f32,
    /// The upper lid's edge.
    upper: f32,
    /// The lower lid's edge.
    lower: f32,
    /// How far the edge goes to be shut.
    travel: f32,
    /// How far above the edge the lid moves as one.
    rigid: f32,
    /// How skin of the lid differs from skin below the eye, in levels of Y, U and V.
    tint: [f32; 3],
    /// How much of the lid's edge is behind a shine on glass, which does not go down with it, 0 to 1.
    shine: f32,
    /// How far beside it the skin below the eye is taken from, in pixels.
    aside: f32,
}

#[derive(Clone, Copy, Debug)]
struct Iris {
    middle: [f32; 2],
    radius: f32,
    /// How far it may move to either side.
    room: f32,
}

/// An eye at one pose.
pub(super) struct EyeMap<'a> {
    eye: &'a Eye,
    lids: f32,
    /// In pixels.
    gaze: [f32; 2],
}

/// Where a pixel comes from, in pixels of the picture, relative to where it is.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    pub(super) by: [f32; 2],
    pub(super) second: Option<Second>,
}

/// What else is seen in a pixel.
#[derive(Clone, Copy, Default)]
pub(super) struct Second {
    /// How much of the pixel that is, 0 to 1.
    pub(super) part: f32,
    pub(super) by: [f32; 2],
    /// What is added to it, in levels of Y, U and V.
    pub(super) tint: [f32; 3],
}

impl Eye {
    /// Both eyes of a face, or those of them that can be moved.
    pub(super) fn both(picture: &RgbPicture, mesh: &Mesh, head: &HeadFrame) -> Vec<Self> {
        let mut eyes: Vec<Self> = EYES.iter().filter_map(|lids| Self::find(picture, mesh, head, lids)).collect();
        // Where one is cut by the picture's edge, the other does not wink at the viewer.
        if eyes.iter().any(|eye| !eye.lies_within(picture.width, picture.height)) {
            return Vec::new();
        }
        let widest = eyes.iter().map(|eye| eye.width).fold(0.0, f32::max);
        eyes.retain(|eye| eye.width > TURNED_AWAY * widest);
        Self::pair(&mut eyes);
        eyes
    }

    /// Makes eyes look the same way: as far as both can, and not at all where the iris of one was not found.
    fn pair(eyes: &mut [Self]) {
        let known = eyes.iter().all(|eye| eye.iris.is_some());
        let rooms = eyes.iter().filter_map(|eye| eye.iris.map(|iris| iris.room / eye.width));
        let room = rooms.fold(f32::INFINITY, f32::min);
        for eye in eyes {
            eye.iris = eye.iris.filter(|_| known).map(|iris| Iris { room: room * eye.width, ..iris });
        }
    }

    /// The eye's map at a pose; `None` if it is as in the picture.
    pub(super) fn at(&self, pose: &HeadPose) -> Option<EyeMap<'_>> {
        let gaze = match self.iris {
            None => [0.0; 2],
            Some(iris) => {
                let turned = pose.gaze.map(|degrees| EYEBALL * self.width * degrees.to_radians().sin());
                [turned[0].clamp(-iris.room, iris.room), turned[1].clamp(-0.3 * iris.radius, 0.3 * iris.radius)]
            }
        };
        let moved = pose.lids > 0.0 || gaze != [0.0; 2];
        moved.then_some(EyeMap { eye: self, lids: pose.lids, gaze })
    }

    fn column(&self, u: f32) -> Option<Column> {
        let at = u - self.left;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let first = if at >= 0.0 { at as usize } else { return None };
        let (one, other) = (self.columns.get(first)?, self.columns.get(first + 1)?);
        let mix = |one: f32, other: f32| one + (other - one) * at.fract();
        Some(Column {
            top: mix(one.top, other.top),
            upper: mix(one.upper, other.upper),
            lower: mix(one.lower, other.lower),
            travel: mix(one.travel, other.travel),
            rigid: mix(one.rigid, other.rigid),
            tint: [0, 1, 2].map(|plane| mix(one.tint[plane], other.tint[plane])),
            shine: mix(one.shine, other.shine),
            // Between a column to the left and one to the right there is the shine again.
            aside: one.aside,
        })
    }

    /// What the lids' map may touch: left, top, right and bottom in pixels of the picture.
    pub(super) fn bounds(&self) -> [f32; 4] {
        let mut bounds = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        for (at, column) in self.columns.iter().enumerate() {
            for v in [column.top, column.lower.max(column.upper + column.travel) + 1.0] {
                let [x, y] = self.frame.to_picture([self.left + at as f32, v]);
                bounds = [bounds[0].min(x), bounds[1].min(y), bounds[2].max(x), bounds[3].max(y)];
            }
        }
        [bounds[0] - 1.0, bounds[1] - 1.0, bounds[2] + 1.0, bounds[3] + 1.0]
    }

    /// Whether all of it is in a picture of this size.
    fn lies_within(&self, width: u32, height: u32) -> bool {
        let [left, top, right, bottom] = self.bounds();
        left >= 0.0 && top >= 0.0 && right <= width as f32 && bottom <= height as f32
    }
}

impl Column {
    /// Where below the eye the skin is that is laid so far above what moves with the lid's edge.
    fn cheek(&self, above: f32) -> f32 {
        self.lower + self.rigid + 0.6 * above
    }

    /// Where the lowest skin is that is laid over a shut lid.
    fn lowest(&self) -> f32 {
        self.cheek((self.upper + self.travel - self.rigid - self.top).max(0.0))
    }
}

impl EyeMap<'_> {
    /// Where the pixel at `place` of the unturned picture comes from.
    pub(super) fn source(&self, place: [f32; 2]) -> Source {
        let frame = &self.eye.frame;
        let [u, v] = frame.to_head(place);
        let Some(column) = self.eye.column(u) else { return Source::default() };
        if v <= column.top || v > column.lower.max(column.upper + column.travel) + 1.0 {
            return Source::default();
        }
        let down = self.lids * column.travel;
        let edge = column.upper + down;
        let eye = || frame.along(self.turned([u, v], &column));
        if v >= edge + 0.5 {
            return Source { by: eye(), second: None };
        }
        let rigid = edge - column.rigid;
        let cheek = |part: f32| {
            let by = frame.along([column.aside, column.cheek(rigid - v) - v]);
            (part > 0.0).then_some(Second { part, by, tint: column.tint })
        };
        if v >= rigid {
            // The edge of the lid may run through this pixel.
            let part = v - edge + 0.5;
            let eye = (part > 0.0).then(|| Second { part, by: eye(), tint: [0.0; 3] });
            let shone = cheek(column.shine * smooth(0.0, 0.2, self.lids));
            return Source { by: frame.along([0.0, -down]), second: eye.or(shone) };
        }
        let skin = (rigid - column.top).max(0.1);
        let stretched = (v - column.top) / skin;
        let by = frame.along([0.0, -down * stretched]);
        let thin = MOST_CHEEK * smooth(1.7, 3.2, skin / (skin - down).max(0.1));
        let shone = column.shine * smooth(0.0, 0.2, self.lids);
        let part = thin * smooth(0.0, 0.4, stretched) * (1.0 - smooth(0.8, 1.0, stretched));
        Source { by, second: cheek(part.max(shone * smooth(0.0, 0.1, stretched))) }
    }

    /// How far the iris brings a place of the opening along, as a way back.
    fn turned(&self, [u, v]: [f32; 2], column: &Column) -> [f32; 2] {
        let Some(iris) = self.eye.iris else { return [0.0; 2] };
        // Not what belongs to the lids: lashes of the upper one reach into the opening.
        let open = (column.lower - column.upper).max(1.0);
        let lids = smooth(0.08, 0.38, (v - column.upper) / open) * smooth(0.0, 0.25, (column.lower - v) / open);
        let away = (u - iris.middle[0]).hypot(v - iris.middle[1]);
        let within = 1.0 - smooth(iris.radius, iris.radius + 2.2 * iris.room, away);
        self.gaze.map(|by| -by * lids * within)
    }
}

#[cfg(test)]
mod tests;
