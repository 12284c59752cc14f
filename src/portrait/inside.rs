//! Paints what is seen between the lips: the cavity, teeth and tongue, in the picture's own light.
//!
//! In here: the inner part of the crop, painted in the order from the back to the front; the teeth of a picture that shows
//! its own. Heights (`y`) are counted down from where the lips meet, and follow the arc of the mouth by half. Not in here:
//! where lips are (`field`).

use tch::{Device, Kind, Tensor};

use super::Result;
use super::field::{Grid, Sources, depths, lines_missing, sample, sample_sharp};
use super::plate::{COLUMNS, Complexion};
use super::tensors::{Face, Held, smoothstep, without};

/// How much of the arc of the closed mouth the row of teeth has.
const ARC: f64 = 0.55;
/// How far a row of teeth is bowed.
const BOW: f64 = 2.6;
/// Where one tooth ends and the next begins, as shares of half the row, to either side.
const TEETH_ENDS: [f32; 3] = [0.0, 0.33, 0.62];
/// Places of half a row of teeth at which its shade is known.
const SHADES: f64 = 512.0;

/// The colours of an avatar's mouth, each `[1, 3, 1, 1]`.
#[derive(Debug)]
pub(super) struct Paint {
    cavity: Tensor,
    tongue: Tensor,
    teeth: Tensor,
    /// Of the jaw, `[1, 3, 1, 1]`.
    lower_teeth: Tensor,
    /// How bright half a row of teeth is, from its middle to the corner, `[SHADES]`.
    shades: Tensor,
    contact: Tensor,
    corner: Tensor,
    slope: f64,
    softness: f64,
    /// The picture shows teeth of its own.
    pub own_teeth: bool,
}

impl Paint {
    /// `scale` is pixels to the unit, `half` half the mouth's width in units.
    pub(super) fn new(complexion: &Complexion, scale: f32, half: f32, device: Device) -> Result<Self> {
        // Lines between teeth are as soft as the picture, and the wider the fainter.
        let wide = (complexion.softness / scale).max(0.5);
        #[allow(clippy::cast_possible_truncation, reason = "a small number")]
        let shade = |at: u16| {
            let x = f32::from(at) / (SHADES as f32 - 1.0);
            let line = |end: &f32| (-((x - end) * 0.86 * half / wide).powi(2)).exp();
            let lines: f32 = TEETH_ENDS.iter().map(line).sum();
            (1.0 - 0.38 * x.powf(2.4)) * (1.0 - 0.17 * 0.5 / wide * lines)
        };
        let shades: Vec<f32> = (0..512).map(shade).collect();
        let colour = |base: [f32; 3], times: [f32; 3]| -> Result<Tensor> {
            let channels: Vec<f32> = base.iter().zip(times).map(|(base, times)| base * times).collect();
            Ok(Tensor::f_from_slice(&channels)?.f_to_device(device)?.f_view([1, 3, 1, 1])?)
        };
        Ok(Self {
            cavity: colour(complexion.lip, [0.30, 0.15, 0.15])?,
            tongue: colour(complexion.lip, [0.74, 0.56, 0.58])?,
            teeth: colour(complexion.teeth, [1.0; 3])?,
            lower_teeth: colour(complexion.teeth, [0.5; 3])?,
            shades: Tensor::f_from_slice(&shades)?.f_to_device(device)?,
            contact: colour(complexion.lip, [0.28; 3])?,
            corner: colour(complexion.lip, [0.5, 0.36, 0.36])?,
            slope: f64::from(complexion.slope),
            softness: f64::from(complexion.softness),
            own_teeth: complexion.own_teeth > 0.5,
        })
    }
}

/// What of the inner part does not depend on what is said.
#[derive(Debug)]
pub(super) struct Ground {
    u: Tensor,
    v: Tensor,
    /// Height below where the lips meet.
    y: Tensor,
    /// How far an edge as soft as the picture's reaches, in units, `[frames, 1, 1]`.
    soft: Tensor,
    /// The same of lips, which are painted as sharp as pixels let them be.
    crisp: Tensor,
}

impl Ground {
    pub(super) fn new(grid: &Grid, face: &Face, paint: &Paint) -> Result<Self> {
        let [u, v] = face.units(&grid.mouth_pixels[0], &grid.mouth_pixels[1])?;
        let lines = face.heights(&[&face.meeting], &u)?;
        let [meeting] = &lines[..] else { return Err(lines_missing()) };
        let middle = face.meeting.f_select(1, i64::try_from(COLUMNS / 2).unwrap_or(0))?.f_view([-1, 1, 1])?;
        let y = v.f_sub(&middle.f_lerp(meeting, ARC)?)?;
        let soft = face.scale.f_reciprocal()?.f_mul_scalar((2.5 * paint.softness).max(1.0))?;
        let crisp = face.scale.f_reciprocal()?.f_clamp_min(0.9)?;
        Ok(Self { u, v, y, soft, crisp })
    }

    /// How much of a place is covered by what begins `depth` units away, its edge as soft as the picture.
    fn cover(&self, depth: &Tensor) -> Result<Tensor> {
        Ok(depth.f_div(&self.soft)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?)
    }
}

/// All that a frame's mouths are painted with.
pub(super) struct Mouths<'a> {
    pub grid: &'a Grid,
    pub face: &'a Face,
    pub ground: &'a Ground,
    pub paint: &'a Paint,
    pub held: &'a Held,
}

impl Mouths<'_> {
    /// The whole crops, `[frames, 3, height, width]`, 0 to 255, from the pictures at rest of that shape.
    pub(super) fn draw(&self, pictures: &Tensor, sources: &Sources) -> Result<Tensor> {
        let [upper, lower] = depths(self.grid, self.face, &sources.inner[0], &sources.inner[1])?;
        let is_upper = upper.f_le_tensor(&lower)?.f_unsqueeze(-1)?;
        let seen = sources.inner[0].f_where_self(&is_upper, &sources.inner[1])?;
        let [left, top, width, height] = self.grid.inner;
        let mut part = sources.all.f_narrow(1, top, height)?.f_narrow(2, left, width)?;
        part.f_copy_(&seen)?;
        let drawn = sample_sharp(pictures, &sources.all)?;
        let mut part = self.grid.mouth_of(&drawn)?;
        let (upper, lower) = (self.grid.mouth_of_inner(&upper)?, self.grid.mouth_of_inner(&lower)?);
        // A shut mouth's dark seam is cut off the lips as they part, and an open one's fringe of teeth.
        let fringe = self.face.open.f_mul_scalar(-0.5)?.f_add_scalar(1.3)?;
        let trim = smoothstep(0.5, 4.0, &self.held.gap)?.f_mul(&fringe)?;
        let (below_upper, above_lower) = (upper.f_add(&trim)?, lower.f_add(&trim)?);
        let inside = self.inside(pictures, &below_upper, &above_lower)?;
        let within = |depth: &Tensor| -> Result<Tensor> { Ok(depth.f_div(&self.ground.crisp)?.f_clamp(0.0, 1.0)?) };
        let share = self.ground.u.f_abs()?.f_div(&self.face.half.f_add(&self.held.widen)?)?;
        let opening = within(&below_upper)?.f_mul(&within(&above_lower)?)?;
        let opening = opening.f_mul(&without(&smoothstep(0.88, 1.0, &share)?)?)?;
        // An open picture's own mouth comes back as it comes to rest.
        let awake = smoothstep(0.0, 0.8, &self.held.alive)?;
        let opening = opening.f_mul(&awake)?.f_unsqueeze(1)?;
        let mut mixed = part.f_lerp_tensor(&inside, &opening)?;
        if self.face.any_open {
            mixed = mixed.f_lerp_tensor(&self.paint.contact, &self.contact(&upper, &awake)?)?;
        }
        part.f_copy_(&mixed)?;
        Ok(drawn)
    }

    /// How dark the line is on which the lips of an open picture meet: there is none in the picture.
    fn contact(&self, below_upper: &Tensor, awake: &Tensor) -> Result<Tensor> {
        let near = below_upper.f_div_scalar(1.1)?.f_square()?.f_neg()?.f_exp()?;
        let nearly_shut = without(&smoothstep(0.0, 3.5, &self.held.gap)?)?;
        let share = self.ground.u.f_abs()?.f_div(&self.face.half)?;
        let inwards = without(&smoothstep(0.75, 0.93, &share)?)?;
        let line = near.f_mul(&nearly_shut)?.f_mul(&inwards)?.f_mul(&self.face.open)?.f_mul(awake)?;
        Ok(line.f_mul_scalar(0.55)?.f_unsqueeze(1)?)
    }

    fn inside(&self, pictures: &Tensor, below_upper: &Tensor, above_lower: &Tensor) -> Result<Tensor> {
        let Self { ground, held, paint, .. } = self;
        let depth = ground.y.f_add(&held.lift)?.f_div(&held.gap.f_add_scalar(1.0)?)?.f_clamp(0.0, 1.0)?;
        let dim = depth.f_mul_scalar(0.58)?.f_add_scalar(0.42)?.f_unsqueeze(1)?;
        // At the corners the lips themselves are seen.
        let corner = ground.u.f_div(&held.seen)?.f_square()?.f_clamp_max(1.0)?;
        let corner = corner.f_square()?.f_mul(&corner)?;
        let corner = corner.f_mul_scalar(0.7)?.f_unsqueeze(1)?;
        let mut colour = paint.cavity.f_mul(&dim)?.f_lerp_tensor(&paint.corner, &corner)?;
        let lower_edge = held.gap.f_sub(&held.lift)?;
        let layer = |under: &Tensor, over: &Tensor, alpha: &Tensor| -> Result<Tensor> {
            Ok(under.f_lerp_tensor(over, &alpha.f_unsqueeze(1)?)?)
        };
        colour = layer(&colour, &self.tongue_colour(&held.tongue, &lower_edge)?, &self.tongue(&lower_edge)?)?;
        // Teeth of the jaw, in its shadow.
        if held.any_lower_teeth {
            let ridge = self.row(&held.lower_teeth, 0.62, 1.0)?;
            let seen = smoothstep(9.0, 16.0, &held.gap)?.f_maximum(&held.teeth)?.f_mul_scalar(0.75)?;
            colour = colour.f_lerp_tensor(&paint.lower_teeth, &ridge.f_mul(&seen)?.f_unsqueeze(1)?)?;
        }
        if paint.own_teeth {
            let (own, seen) = self.own_teeth(pictures)?;
            colour = layer(&colour, &own, &seen)?;
        } else {
            colour = layer(&colour, &self.teeth_colour(0.86)?, &self.row(&held.upper_teeth, 0.86, -1.0)?)?;
        }
        if held.any_tip {
            colour = layer(&colour, &self.tip_colour()?, &self.tip()?)?;
        }
        // Lips shade what lies behind them.
        let shade = |depth: &Tensor, reach: f64, dark: f64| -> Result<Tensor> {
            let far = depth.f_div_scalar(reach)?.f_clamp(0.0, 1.0)?;
            Ok(far.f_mul_scalar(dark)?.f_add_scalar(1.0 - dark)?)
        };
        let light = shade(below_upper, 3.2, 0.34)?.f_mul(&shade(above_lower, 2.0, 0.25)?)?;
        let side = ground.u.f_mul_scalar(paint.slope)?.f_add_scalar(1.0)?;
        Ok(colour.f_mul(&light.f_mul(&side)?.f_unsqueeze(1)?)?.f_clamp(0.0, 255.0)?)
    }

    /// Where a row of teeth is: above its free edge for `side` -1, below it for 1; `width` is a share of the opening's.
    fn row(&self, edge: &Tensor, width: f64, side: f64) -> Result<Tensor> {
        let half = self.held.seen.f_mul_scalar(width)?;
        let x = self.ground.u.f_div(&half)?;
        let bow = x.f_square()?.f_mul_scalar(side * BOW)?;
        let depth = self.ground.y.f_sub(edge)?.f_sub(&bow)?.f_mul_scalar(side)?;
        let inwards = half.f_sub(&self.ground.u.f_abs()?)?;
        Ok(self.ground.cover(&depth)?.f_mul(&self.ground.cover(&inwards)?)?)
    }

    /// Teeth get darker towards the corners, and between one and the next.
    fn teeth_colour(&self, width: f64) -> Result<Tensor> {
        let half = self.held.seen.f_mul_scalar(width)?;
        let x = self.ground.u.f_abs()?.f_div(&half)?.f_clamp_max(1.0)?;
        let place = x.f_mul_scalar(SHADES - 1.0)?.f_round()?.f_to_kind(Kind::Int64)?;
        let shade = self.paint.shades.f_take(&place)?;
        Ok(self.paint.teeth.f_mul(&shade.f_unsqueeze(1)?)?)
    }

    fn ellipse(&self, top: &Tensor, half_height: &Tensor, half_width: &Tensor) -> Result<Tensor> {
        let x = self.ground.u.f_div(half_width)?;
        let y = self.ground.y.f_sub(top)?.f_sub(half_height)?.f_div(half_height)?;
        let inwards = without(&x.f_square()?.f_add(&y.f_square()?)?.f_sqrt()?)?;
        self.ground.cover(&inwards.f_mul(&half_height.f_minimum(half_width)?)?)
    }

    fn tongue_width(&self) -> Result<Tensor> {
        Ok(self.held.tip.f_mul_scalar(-0.06)?.f_add_scalar(0.62)?.f_mul(&self.held.seen)?)
    }

    fn tongue(&self, lower_edge: &Tensor) -> Result<Tensor> {
        let half_height = lower_edge.f_add_scalar(9.0)?.f_sub(&self.held.tongue)?.f_clamp_min(3.0)?;
        self.ellipse(&self.held.tongue, &half_height, &self.tongue_width()?)
    }

    fn tongue_colour(&self, top: &Tensor, lower_edge: &Tensor) -> Result<Tensor> {
        let bottom = lower_edge.f_add_scalar(2.0)?.f_maximum(&top.f_add_scalar(4.0)?)?;
        let down = self.ground.y.f_sub(top)?.f_div(&bottom.f_sub(top)?)?.f_clamp(0.0, 1.0)?;
        let shade = without(&down.f_mul_scalar(0.5)?)?;
        // The groove along its middle.
        let groove = self.ground.u.f_div_scalar(2.5)?.f_square()?.f_neg()?.f_exp()?.f_mul_scalar(0.1)?;
        Ok(self.paint.tongue.f_mul(&shade.f_mul(&without(&groove)?)?.f_unsqueeze(1)?)?)
    }

    /// The tip of the tongue passes in front of the teeth.
    fn tip(&self) -> Result<Tensor> {
        let half_height = self.held.tip.f_zeros_like()?.f_add_scalar(7.0)?;
        let half_width = self.tongue_width()?.f_mul_scalar(0.84)?;
        let seen = smoothstep(0.1, 0.6, &self.held.tip)?;
        Ok(self.ellipse(&self.held.tongue, &half_height, &half_width)?.f_mul(&seen)?)
    }

    fn tip_colour(&self) -> Result<Tensor> {
        let down = self.ground.y.f_sub(&self.held.tongue)?.f_div_scalar(10.0)?.f_clamp(0.0, 1.0)?;
        let shade = down.f_mul_scalar(-0.32)?.f_add_scalar(1.06)?;
        Ok(self.paint.tongue.f_mul(&shade.f_unsqueeze(1)?)?)
    }

    /// The picture's own teeth, which belong to the skull and so stay where they are, and where they are seen.
    fn own_teeth(&self, pictures: &Tensor) -> Result<(Tensor, Tensor)> {
        let Self { grid, face, ground, held, .. } = self;
        let narrower = held.widen.f_mul_scalar(0.5)?.f_div(&face.half)?.f_add_scalar(1.0)?;
        let u = ground.u.f_div(&narrower)?;
        let raised = ground.v.f_add(&held.round.f_mul_scalar(12.0)?)?;
        let lines = face.heights(&[&face.upper, &face.lower], &u)?;
        let [upper, lower] = &lines[..] else { return Err(lines_missing()) };
        // Above the lip's edge at rest the teeth go on as they are at it.
        let v = raised.f_maximum(&upper.f_add_scalar(1.4)?)?.f_minimum(&lower.f_sub_scalar(0.8)?)?;
        let places = grid.places(&face.places(&u, &v)?)?;
        let own = sample(pictures, &places)?;
        let shown = lower.f_sub_scalar(0.4)?.f_sub(&raised)?.f_div_scalar(1.3)?.f_clamp(0.0, 1.0)?;
        let outwards = u.f_abs()?.f_div(&face.half)?;
        let inwards = without(&smoothstep(0.86, 0.98, &outwards)?)?;
        // Rounded lips hide them.
        let hidden = without(&smoothstep(0.35, 0.9, &held.round)?)?;
        Ok((own, shown.f_mul(&inwards)?.f_mul(&hidden)?))
    }
}

/// Crops as bytes, `[frames, height, width, 3]`.
pub(super) fn to_bytes(drawn: &Tensor) -> Result<Tensor> {
    let levels = drawn.f_round()?.f_clamp(0.0, 255.0)?.f_to_kind(Kind::Uint8)?;
    Ok(levels.f_permute([0, 2, 3, 1])?.f_contiguous()?)
}
