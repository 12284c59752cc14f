//! Numbers of many frames as tensors, and the few functions on tensors that field and inside share.
//!
//! In here: one tensor of `[frames, 1, 1]` for each number, so that it meets maps of `[frames, height, width]`. Not in here:
//! what the numbers mean (`plate`, `shape`).

use tch::{Device, Kind, Tensor};

use super::Result;
use super::plate::{COLUMNS, MouthPlate};
use super::shape::Deformation;
use crate::picture::CropBox;

/// Deformations of frames, a field for each of theirs.
#[derive(Debug)]
pub(super) struct Held {
    pub gap: Tensor,
    pub lift: Tensor,
    pub widen: Tensor,
    pub drop: Tensor,
    /// What the lips' thickness is multiplied by, less 1.
    pub upper_swell: Tensor,
    pub lower_swell: Tensor,
    pub jaw: Tensor,
    pub even: Tensor,
    pub inner: Tensor,
    pub seen: Tensor,
    pub bend: [Tensor; 2],
    pub upper_teeth: Tensor,
    pub lower_teeth: Tensor,
    pub tongue: Tensor,
    pub tip: Tensor,
    pub teeth: Tensor,
    pub round: Tensor,
    /// 1 in speech, 0 at rest.
    pub alive: Tensor,
    /// Whether any frame shows the tip of the tongue, or teeth of the jaw.
    pub any_tip: bool,
    pub any_lower_teeth: bool,
}

impl Held {
    pub(super) fn new(frames: &[Deformation], device: Device) -> Result<Self> {
        let numbers: Vec<f32> = frames
            .iter()
            .flat_map(|d| {
                [
                    d.gap,
                    d.lift,
                    d.widen,
                    d.drop,
                    d.lips[0] - 1.0,
                    d.lips[1] - 1.0,
                    d.jaw,
                    d.inner,
                    d.seen,
                    d.bend[0],
                    d.bend[1],
                    d.upper_teeth,
                    d.lower_teeth,
                    d.tongue,
                    d.held.tongue,
                    d.held.teeth,
                    d.held.round,
                    1.0 - d.held.rest,
                    d.even,
                ]
            })
            .collect();
        let all = table(&numbers, 19, device)?;
        let number = |at: i64| column(&all, at);
        Ok(Self {
            gap: number(0)?,
            lift: number(1)?,
            widen: number(2)?,
            drop: number(3)?,
            upper_swell: number(4)?,
            lower_swell: number(5)?,
            jaw: number(6)?,
            inner: number(7)?,
            seen: number(8)?,
            bend: [number(9)?, number(10)?],
            upper_teeth: number(11)?,
            lower_teeth: number(12)?,
            tongue: number(13)?,
            tip: number(14)?,
            teeth: number(15)?,
            round: number(16)?,
            alive: number(17)?,
            any_tip: frames.iter().any(|d| d.held.tongue > 0.1),
            any_lower_teeth: frames.iter().any(|d| d.gap > 9.0 || d.held.teeth > 0.0),
            even: number(18)?,
        })
    }
}

/// Plates of frames; places are in pixels of the crop, of which the first one's middle is (0, 0).
#[derive(Debug)]
pub(super) struct Face {
    origin: [Tensor; 2],
    along: [Tensor; 2],
    pub scale: Tensor,
    pub half: Tensor,
    pub open: Tensor,
    /// Whether any mouth is open at all.
    pub any_open: bool,
    pub lips: [Tensor; 2],
    pub nose: Tensor,
    pub chin: Tensor,
    pub side: Tensor,
    pub room: Tensor,
    /// Lines of the mouth at rest, `[frames, COLUMNS]`.
    pub upper: Tensor,
    pub lower: Tensor,
    pub meeting: Tensor,
    /// The arc of the line on which they meet, without its waves.
    pub arc: Tensor,
}

impl Face {
    pub(super) fn new(frames: &[(&MouthPlate, CropBox)], device: Device) -> Result<Self> {
        #[allow(clippy::cast_precision_loss, reason = "places in a frame")]
        let numbers: Vec<f32> = frames
            .iter()
            .flat_map(|(plate, crop)| {
                let mut numbers = plate.numbers();
                numbers[0] -= crop.x as f32 + 0.5;
                numbers[1] -= crop.y as f32 + 0.5;
                numbers
            })
            .collect();
        let rooms: Vec<f32> = frames.iter().map(|(plate, _)| plate.room()).collect();
        let columns = i64::try_from(COLUMNS).unwrap_or(0);
        let arcs: Vec<f32> = frames.iter().flat_map(|(plate, _)| plate.arc()).collect();
        let all = table(&numbers, 13 + 2 * columns, device)?;
        let number = |at: i64| column(&all, at);
        let lines = all.f_squeeze_dim(-1)?.f_squeeze_dim(-1)?;
        let (upper, lower) = (lines.f_narrow(1, 13, columns)?, lines.f_narrow(1, 13 + columns, columns)?);
        Ok(Self {
            origin: [number(0)?, number(1)?],
            along: [number(2)?, number(3)?],
            scale: number(4)?,
            half: number(5)?,
            open: number(6)?,
            any_open: frames.iter().any(|(plate, _)| plate.open > 0.0),
            lips: [number(7)?, number(8)?],
            nose: number(9)?,
            chin: number(10)?,
            side: number(11)?,
            room: table(&rooms, 1, device)?.f_select(1, 0)?,
            meeting: upper.f_lerp(&lower, 0.42)?,
            arc: Tensor::f_from_slice(&arcs)?.f_to_device(device)?.f_view([-1, columns])?,
            upper: upper.f_contiguous()?,
            lower: lower.f_contiguous()?,
        })
    }

    /// u and v of places in the crop.
    pub(super) fn units(&self, x: &Tensor, y: &Tensor) -> Result<[Tensor; 2]> {
        let dx = x.f_sub(&self.origin[0])?.f_div(&self.scale)?;
        let dy = y.f_sub(&self.origin[1])?.f_div(&self.scale)?;
        let [along, down] = &self.along;
        Ok([dx.f_mul(along)?.f_add(&dy.f_mul(down)?)?, dy.f_mul(along)?.f_sub(&dx.f_mul(down)?)?])
    }

    /// A movement in units as one in pixels.
    pub(super) fn movement(&self, du: &Tensor, dv: &Tensor) -> Result<[Tensor; 2]> {
        let [along, down] = &self.along;
        let dx = du.f_mul(along)?.f_sub(&dv.f_mul(down)?)?.f_mul(&self.scale)?;
        let dy = du.f_mul(down)?.f_add(&dv.f_mul(along)?)?.f_mul(&self.scale)?;
        Ok([dx, dy])
    }

    /// Places of units in pixels of the crop.
    pub(super) fn places(&self, u: &Tensor, v: &Tensor) -> Result<[Tensor; 2]> {
        let [x, y] = self.movement(u, v)?;
        Ok([x.f_add(&self.origin[0])?, y.f_add(&self.origin[1])?])
    }

    /// The heights of lines of `[frames, COLUMNS]` at maps of u; beyond the corners those of the corners.
    pub(super) fn heights(&self, lines: &[&Tensor], u: &Tensor) -> Result<Vec<Tensor>> {
        let steps = (COLUMNS - 1) as f64;
        let place = u.f_div(&self.half)?.f_add_scalar(1.0)?.f_mul_scalar(steps / 2.0)?.f_clamp(0.0, steps)?;
        let (frames, height, width) = place.size3()?;
        let left = place.f_clamp_max(steps - 1.0)?.f_floor()?;
        let share = place.f_sub(&left)?;
        let left = left.f_to_kind(Kind::Int64)?.f_view([frames, height * width])?;
        let right = left.f_add_scalar(1)?;
        lines
            .iter()
            .map(|line| {
                let line = line.f_expand([frames, -1], false)?;
                let at = |index: &Tensor| line.f_gather(1, index, false)?.f_view([frames, height, width]);
                let (from, to) = (at(&left)?, at(&right)?);
                Ok(from.f_lerp_tensor(&to, &share)?)
            })
            .collect()
    }
}

/// Rows of `width` numbers as `[rows, width, 1, 1]`.
fn table(numbers: &[f32], width: i64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(numbers)?.f_to_device(device)?.f_view([-1, width, 1, 1])?)
}

/// One number of all rows, `[rows, 1, 1]`.
fn column(table: &Tensor, at: i64) -> Result<Tensor> {
    Ok(table.f_select(1, at)?)
}

/// 0 where a map is below `from`, 1 above `to`, smoothly between.
pub(super) fn smoothstep(from: f64, to: f64, map: &Tensor) -> Result<Tensor> {
    cubic(&map.f_sub_scalar(from)?.f_div_scalar(to - from)?)
}

/// [`smoothstep`] from a number of each frame to another.
pub(super) fn smoothstep_between(from: &Tensor, to: &Tensor, map: &Tensor) -> Result<Tensor> {
    cubic(&map.f_sub(from)?.f_div(&to.f_sub(from)?)?)
}

fn cubic(t: &Tensor) -> Result<Tensor> {
    let t = t.f_clamp(0.0, 1.0)?;
    let rest = t.f_mul_scalar(-2.0)?.f_add_scalar(3.0)?;
    Ok(t.f_square()?.f_mul(&rest)?)
}

/// 1 less a map.
pub(super) fn without(map: &Tensor) -> Result<Tensor> {
    Ok(map.f_neg()?.f_add_scalar(1.0)?)
}
