//! Bends the lower face: for every pixel, from which place of the picture at rest it comes.
//!
//! In here: two layers, one that follows the upper lip and one that follows the lower lip and the jaw, as displacements of
//! the picture at rest on a coarse grid, turned round by iteration, since pictures are read and not written through them.
//! Not in here: what is seen between the lips (`inside`).
//!
//! Everything is a tensor of `[frames, height, width]` on the avatar's device; nothing is computed a pixel at a time.

use tch::{Device, Kind, Tensor};

use super::Result;
use super::place::keeps;
use super::plate::MouthPlate;
use super::tensors::{Face, Held, smoothstep, smoothstep_between, without};
use crate::picture::CropBox;

/// Rounds in which the displacement is turned round. Each of them but the last is damped, as lips stretch fast.
const ROUNDS: usize = 7;
const DAMPED: f64 = 0.7;

/// The pixels of an avatar's crop and of the part of it where lips part.
#[derive(Debug)]
pub(super) struct Grid {
    pub width: i64,
    pub height: i64,
    /// Where lips move apart, in pixels of the crop: left, top, width, height.
    pub inner: [i64; 4],
    /// Where the inside of the mouth may be seen, in pixels of the inner part.
    pub mouth: [i64; 4],
    /// Places of all pixels, -1 to 1 from the first to the last, `[1, height, width, 2]`.
    pub places: Tensor,
    /// The same of the coarse grid.
    coarse: Tensor,
    /// Columns and rows of the coarse grid and of where the inside is seen in pixels of the crop, `[1, height, width]`.
    coarse_pixels: [Tensor; 2],
    pub mouth_pixels: [Tensor; 2],
    /// The share of its movement that the coarse grid's places keep.
    keeps: Tensor,
}

impl Grid {
    /// For crops of one size, in which mouths open no further than `reach`, of `scale` pixels to the unit.
    pub(super) fn new(size: (u32, u32), scale: f32, reach: &Reach, device: Device) -> Result<Self> {
        let (width, height) = (i64::from(size.0), i64::from(size.1));
        let cell = (2.0 * f64::from(scale)).clamp(1.5, 12.0);
        let cells = |length: i64| nodes(length, cell);
        let (columns, rows) = (cells(width), cells(height));
        let line = |length: i64, nodes: i64| -> Result<Tensor> {
            Ok(Tensor::f_linspace(0.0, to_f64(length - 1), nodes, (Kind::Float, device))?)
        };
        let (x, y) = (line(width, columns)?, line(height, rows)?);
        let fading = |nodes: &Tensor, length: i64| -> Result<Tensor> {
            let nodes = Vec::<f32>::try_from(nodes.f_to_device(Device::Cpu)?)?;
            #[allow(clippy::cast_precision_loss, reason = "pixels of a crop")]
            let kept: Vec<f32> = nodes.into_iter().map(|at| keeps(at, length as f32)).collect();
            Ok(Tensor::f_from_slice(&kept)?.f_to_device(device)?)
        };
        let fading = fading(&y, height)?.f_unsqueeze(1)?.f_mul(&fading(&x, width)?.f_unsqueeze(0)?)?;
        let inner = part(reach.lips, width, height);
        let seen = part(reach.mouth, width, height);
        // It lies in the inner part, cut to it where a mouth is at the edge of its crop.
        let (left, top) = ((seen[0] - inner[0]).clamp(0, inner[2] - 2), (seen[1] - inner[1]).clamp(0, inner[3] - 2));
        let mouth = [left, top, seen[2].clamp(2, inner[2] - left), seen[3].clamp(2, inner[3] - top)];
        let all_x = line(width, width)?;
        let all_y = line(height, height)?;
        let part =
            [all_x.f_narrow(0, inner[0] + mouth[0], mouth[2])?, all_y.f_narrow(0, inner[1] + mouth[1], mouth[3])?];
        let size = (width, height);
        Ok(Self {
            width,
            height,
            inner,
            places: places(&mesh(&all_x, &all_y)?, size)?,
            coarse: places(&mesh(&x, &y)?, size)?,
            coarse_pixels: mesh(&x, &y)?,
            mouth,
            mouth_pixels: mesh(&part[0], &part[1])?,
            keeps: fading.f_unsqueeze(0)?,
        })
    }

    /// Places in pixels as -1 to 1, `[frames, height, width, 2]`.
    pub(super) fn places(&self, pixels: &[Tensor; 2]) -> Result<Tensor> {
        places(pixels, (self.width, self.height))
    }

    /// Columns and rows in pixels of places from -1 to 1.
    fn pixels(&self, places: &Tensor) -> Result<[Tensor; 2]> {
        let pixels = |axis: i64, length: i64| -> Result<Tensor> {
            let half = to_f64(length - 1) / 2.0;
            Ok(places.f_select(-1, axis)?.f_add_scalar(1.0)?.f_mul_scalar(half)?)
        };
        Ok([pixels(0, self.width)?, pixels(1, self.height)?])
    }

    /// Where the inside is seen, of a map of the inner part, `[frames, .., height, width]`.
    pub(super) fn mouth_of_inner(&self, map: &Tensor) -> Result<Tensor> {
        let [left, top, width, height] = self.mouth;
        Ok(map.f_narrow(-2, top, height)?.f_narrow(-1, left, width)?)
    }

    /// The same of a map of the whole crop.
    pub(super) fn mouth_of(&self, map: &Tensor) -> Result<Tensor> {
        let [left, top, ..] = self.inner;
        let [x, y, width, height] = self.mouth;
        Ok(map.f_narrow(-2, top + y, height)?.f_narrow(-1, left + x, width)?)
    }
}

/// Coarse nodes along a side.
#[allow(clippy::cast_possible_truncation, reason = "at most the side's pixels")]
fn nodes(length: i64, cell: f64) -> i64 {
    ((to_f64(length) / cell).ceil() as i64 + 1).max(4)
}

#[allow(clippy::cast_precision_loss, reason = "pixels of a crop")]
fn to_f64(length: i64) -> f64 {
    length as f64
}

/// Maps of columns and of rows, `[1, rows, columns]`.
fn mesh(x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
    let (columns, rows) = (x.size1()?, y.size1()?);
    let size = [1, rows, columns];
    Ok([x.f_view([1, 1, -1])?.f_expand(size, false)?, y.f_view([1, -1, 1])?.f_expand(size, false)?])
}

fn places([x, y]: &[Tensor; 2], (width, height): (i64, i64)) -> Result<Tensor> {
    let scaled = |map: &Tensor, length: i64| -> Result<Tensor> {
        Ok(map.f_mul_scalar(2.0 / to_f64((length - 1).max(1)))?.f_sub_scalar(1.0)?)
    };
    Ok(Tensor::f_stack(&[scaled(x, width)?, scaled(y, height)?], -1)?)
}

/// Which parts of a crop mouths take up: left, top, right and bottom in its pixels.
#[derive(Debug)]
pub(super) struct Reach {
    /// Where lips move apart.
    lips: [f32; 4],
    /// Where the inside is seen.
    mouth: [f32; 4],
}

impl Default for Reach {
    fn default() -> Self {
        let nothing = [f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY];
        Self { lips: nothing, mouth: nothing }
    }
}

impl Reach {
    /// Takes in a frame's mouth.
    pub(super) fn add(&mut self, plate: &MouthPlate, crop: CropBox) {
        let lowest = plate.lower.iter().copied().fold(0.0, f32::max);
        let highest = plate.upper.iter().copied().fold(0.0, f32::min);
        let lips = [1.32 * plate.half + 8.0, highest - plate.lips[0] - 14.0, lowest + plate.lips[1] + 30.0];
        // Lips part by less than 30 units, of which the upper one takes less than 12, and corners go out by less than 7.
        let mouth = [plate.half + 7.0, highest - 12.0, lowest + 30.0];
        self.lips = around(self.lips, plate, crop, lips);
        self.mouth = around(self.mouth, plate, crop, mouth);
    }
}

/// Bounds in a crop's pixels, grown to hold what is `side` units to either side, from `top` to `bottom`.
#[allow(clippy::cast_precision_loss, reason = "places in a frame")]
fn around(known: [f32; 4], plate: &MouthPlate, crop: CropBox, [side, top, bottom]: [f32; 3]) -> [f32; 4] {
    let corners = [[-side, top], [side, top], [-side, bottom], [side, bottom]].map(|corner| plate.to_pixels(corner));
    corners.iter().fold(known, |[left, top, right, bottom], [x, y]| {
        let (x, y) = (x - crop.x as f32, y - crop.y as f32);
        [left.min(x), top.min(y), right.max(x), bottom.max(y)]
    })
}

/// Bounds as left, top, width and height within a crop.
#[allow(clippy::cast_possible_truncation, reason = "cut to the crop")]
fn part([left, top, right, bottom]: [f32; 4], width: i64, height: i64) -> [i64; 4] {
    let start = |edge: f32, length: i64| (edge.floor() as i64).clamp(0, length - 2);
    let end = |edge: f32, start: i64, length: i64| (edge.ceil() as i64).clamp(start + 2, length) - start;
    let (x, y) = (start(left, width), start(top, height));
    [x, y, end(right, x, width), end(bottom, y, height)]
}

/// What of the bending does not depend on what is said: maps of the coarse grid at rest.
#[derive(Debug)]
pub(super) struct Field {
    u: Tensor,
    /// From the lips' edges to where they meet.
    to_meeting: [Tensor; 2],
    /// From there to the arc without waves.
    to_arc: Tensor,
    /// How much of a change of width, of the jaw and of the corners' height a place takes part in.
    wide: Tensor,
    jaw: Tensor,
    corner: Tensor,
    /// 0 within the mouth's width, 1 beyond its corners.
    beyond: Tensor,
    /// How much of its lip's movement a place takes part in, of either layer.
    follows: [Tensor; 2],
    /// How far a place moves when its lip swells by once its thickness.
    swells: [Tensor; 2],
    /// The square of the share of half the width.
    curved: Tensor,
}

/// From where each pixel comes, in places from -1 to 1.
pub(super) struct Sources {
    /// Of the whole crop, `[frames, height, width, 2]`; of the layer that is seen, outside of the inner part.
    pub all: Tensor,
    /// Of the inner part, of the upper and of the lower layer, `[frames, height, width, 2]`.
    pub inner: [Tensor; 2],
}

/// How high the opening is at u, as a share of the middle's height.
fn profile(u: &Tensor, held: &Held) -> Result<Tensor> {
    let share = u.f_div(&held.inner)?.f_abs()?.f_clamp_max(1.0)?;
    Ok(without(&share.f_pow(&held.bend[0])?)?.f_pow(&held.bend[1])?)
}

impl Field {
    pub(super) fn new(grid: &Grid, face: &Face) -> Result<Self> {
        let [u, v] = face.units(&grid.coarse_pixels[0], &grid.coarse_pixels[1])?;
        let lines = face.heights(&[&face.upper, &face.lower, &face.meeting, &face.arc], &u)?;
        let [upper, lower, meeting, arc] = &lines[..] else { return Err(lines_missing()) };
        let share = u.f_div(&face.half)?;
        let outwards = share.f_abs()?;
        let past_corner = u.f_abs()?.f_sub(&face.half)?.f_clamp_min(0.0)?;
        let (above, below) = (upper.f_sub(&v)?, v.f_sub(lower)?);
        let from_seam = v.f_sub(upper)?;
        let up = face.nose.f_mul_scalar(1.5)?.f_clamp_min(30.0)?;
        let down = face.chin.f_mul_scalar(0.85)?.f_clamp_min(30.0)?;
        let tall = from_seam.f_clamp_min(0.0)?.f_div(&down)?.f_sub(&from_seam.f_clamp_max(0.0)?.f_div(&up)?)?;
        let distance = past_corner.f_div(&face.room)?.f_square()?.f_add(&tall.f_square()?)?.f_sqrt()?;
        let wide = without(&smoothstep(0.0, 1.0, &distance)?)?.f_mul(&share.f_clamp(-1.0, 1.0)?)?;
        let [upper_lip, lower_lip] = &face.lips;
        let reach = face.chin.f_mul_scalar(0.75)?.f_maximum(&lower_lip.f_mul_scalar(2.2)?)?;
        let minus_14 = reach.f_zeros_like()?.f_sub_scalar(14.0)?;
        let sideways = without(&smoothstep(0.45, 1.3, &u.f_abs()?.f_div(&face.side)?)?)?;
        let under_chin = without(&smoothstep(4.0, 64.0, &v.f_sub(&face.chin)?)?)?;
        let jaw = smoothstep_between(&minus_14, &reach, &from_seam)?.f_mul(&sideways)?.f_mul(&under_chin)?;
        let near = past_corner.f_square()?.f_add(&from_seam.f_square()?)?;
        let corner = near.f_mul_scalar(-1.0 / 256.0)?.f_exp()?;
        let top = face.nose.f_mul_scalar(0.98)?.f_maximum(&upper_lip.f_mul_scalar(1.4)?)?;
        let follows = [
            without(&smoothstep_between(&upper_lip.f_mul_scalar(0.6)?, &top, &above)?)?,
            without(&smoothstep_between(&lower_lip.f_mul_scalar(0.8)?, &lower_lip.f_mul_scalar(2.6)?, &below)?)?,
        ];
        let swells = |distance: &Tensor, lip: &Tensor| -> Result<Tensor> {
            let share = distance.f_clamp_min(0.0)?.f_div(lip)?;
            Ok(without(&smoothstep(1.0, 2.2, &share)?)?.f_mul(&share.f_clamp_max(1.0)?)?.f_mul(lip)?)
        };
        Ok(Self {
            to_meeting: [meeting.f_sub(upper)?, meeting.f_sub(lower)?],
            to_arc: arc.f_sub(meeting)?,
            wide: wide.f_mul(&grid.keeps)?,
            jaw,
            corner,
            beyond: smoothstep(0.9, 1.25, &outwards)?,
            follows,
            swells: [swells(&above, upper_lip)?, swells(&below, lower_lip)?],
            curved: outwards.f_clamp_max(1.0)?.f_square()?,
            u,
        })
    }

    /// How far places at rest move in both layers, as -1 to 1, `[2 x frames, 2, height, width]`, the upper layer first.
    fn movement(&self, grid: &Grid, face: &Face, held: &Held) -> Result<Tensor> {
        let profile = profile(&self.u, held)?;
        let full = Self::full(&self.u, held)?;
        let curve = self.curved.f_mul(&held.drop)?.f_add(&self.to_arc.f_mul(&held.even)?)?;
        let jaw = self.jaw.f_mul(&held.jaw)?;
        let skin = self.corner.f_mul(&held.drop)?.f_add(&jaw)?;
        let [to_upper, to_lower] = &self.to_meeting;
        let upper = to_upper.f_sub(&profile.f_mul(&held.lift)?)?.f_add(&curve)?.f_mul(&self.follows[0])?;
        let upper = upper.f_lerp_tensor(&skin, &self.beyond)?;
        let upper = upper.f_sub(&self.swells[0].f_mul(&held.upper_swell)?.f_mul(&full)?)?;
        let lower = to_lower.f_add(&profile.f_mul(&held.gap.f_sub(&held.lift)?)?)?.f_add(&curve)?;
        let lower = jaw.f_lerp_tensor(&lower, &self.follows[1])?.f_lerp_tensor(&skin, &self.beyond)?;
        let lower = lower.f_add(&self.swells[1].f_mul(&held.lower_swell)?.f_mul(&full)?)?;
        let kept = grid.keeps.f_mul(&held.alive)?;
        let du = self.wide.f_mul(&held.widen)?.f_mul(&held.alive)?;
        let scaled = |dv: &Tensor| -> Result<Tensor> {
            let [dx, dy] = face.movement(&du, &dv.f_mul(&kept)?)?;
            let dx = dx.f_mul_scalar(2.0 / to_f64(grid.width - 1))?;
            let dy = dy.f_mul_scalar(2.0 / to_f64(grid.height - 1))?;
            Ok(Tensor::f_stack(&[dx, dy], 1)?)
        };
        Ok(Tensor::f_cat(&[scaled(&upper)?, scaled(&lower)?], 0)?)
    }

    /// How much lips swell at u: less towards the corners.
    fn full(u: &Tensor, held: &Held) -> Result<Tensor> {
        Ok(profile(&u.f_mul_scalar(0.94)?, held)?.f_sqrt()?)
    }

    /// Where everything comes from when mouths are held so.
    pub(super) fn sources(&self, grid: &Grid, face: &Face, held: &Held) -> Result<Sources> {
        let movement = self.movement(grid, face, held)?;
        let frames = movement.size4()?.0 / 2;
        let mut from = grid.coarse.f_expand([2 * frames, -1, -1, -1], false)?;
        for round in 1..=ROUNDS {
            let moved = grid.coarse.f_sub(&sample(&movement, &from)?.f_permute([0, 2, 3, 1])?)?;
            from = if round < ROUNDS { from.f_lerp(&moved, DAMPED)? } else { moved };
        }
        let shift = from.f_sub(&grid.coarse)?;
        let (upper, lower) = (shift.f_narrow(0, 0, frames)?, shift.f_narrow(0, frames, frames)?);
        let of = |layer: i64| from.f_narrow(0, layer * frames, frames);
        let inwards = depths(grid, face, &of(0)?, &of(1)?)?;
        let is_upper = inwards[0].f_le_tensor(&inwards[1])?.f_unsqueeze(-1)?;
        let seen = upper.f_where_self(&is_upper, &lower)?.f_permute([0, 3, 1, 2])?;
        let seen = seen.f_upsample_bilinear2d([grid.height, grid.width], true, None, None)?;
        let all = seen.f_permute([0, 2, 3, 1])?.f_add(&grid.places)?;
        let both = Tensor::f_cat(&[upper, lower], -1)?.f_permute([0, 3, 1, 2])?;
        let [left, top, width, height] = grid.inner;
        let part = grid.places.f_narrow(1, top, height)?.f_narrow(2, left, width)?;
        let shift = sample(&both, &part.f_expand([frames, -1, -1, -1], false)?)?.f_permute([0, 2, 3, 1])?;
        let inner = [part.f_add(&shift.f_narrow(-1, 0, 2)?)?, part.f_add(&shift.f_narrow(-1, 2, 2)?)?];
        Ok(Sources { all, inner })
    }
}

/// How far inside the mouth places are in units, from the upper lip's edge and from the lower one's; negative on the lips.
pub(super) fn depths(grid: &Grid, face: &Face, upper: &Tensor, lower: &Tensor) -> Result<[Tensor; 2]> {
    let depth = |places: &Tensor, line: &Tensor| -> Result<Tensor> {
        let [x, y] = grid.pixels(places)?;
        let [u, v] = face.units(&x, &y)?;
        let heights = face.heights(&[line], &u)?;
        let [height] = &heights[..] else { return Err(lines_missing()) };
        Ok(v.f_sub(height)?)
    };
    Ok([depth(upper, &face.upper)?, depth(lower, &face.lower)?.f_neg()?])
}

/// Pictures of `[frames, channels, height, width]` at places from -1 to 1, `[frames, height, width, 2]`, bilinear.
pub(super) fn sample(pictures: &Tensor, places: &Tensor) -> Result<Tensor> {
    // 0 is bilinear, 1 repeats what is at the edge.
    Ok(pictures.f_grid_sampler(places, 0, 1, true)?)
}

/// [`sample`], bicubic: keeps the picture as sharp as it is.
pub(super) fn sample_sharp(pictures: &Tensor, places: &Tensor) -> Result<Tensor> {
    Ok(pictures.f_grid_sampler(places, 2, 1, true)?)
}

pub(super) fn lines_missing() -> crate::lipsync::LipSyncError {
    crate::lipsync::LipSyncError::Panicked("a line of the mouth is missing".to_owned())
}
