//! How far the drawn mouth stands open in decoded pictures, for training.
//!
//! In here: the area of the mouth's interior, measured as `character::measure` does, but with a slope everywhere, and on
//! tensors. Not in here: the loss that is made of it (the library's `training::losses`).

use mouthpiece::training::subject::Rectangle;
use tch::{Device, Kind, TchError, Tensor};

use crate::character::REGION;

/// Pixels of the interior, `[n]`, in pictures `[n, 3, height, width]` from -1 to 1 of a part of the crop.
pub fn areas(pictures: &Tensor, part: Rectangle) -> Result<Tensor, TchError> {
    let levels = pictures.f_add_scalar(1.0)?.f_mul_scalar(127.5)?;
    let [r, g, b] = [0, 1, 2].map(|channel| levels.f_select(1, channel));
    let (r, g, b) = (r?, g?, b?);
    let surely = |above: &Tensor, softness: f64| above.f_div_scalar(softness)?.f_sigmoid();
    let purple = surely(&b.f_sub(&g)?.f_sub_scalar(5.0)?, 4.0)?;
    let grey = surely(&g.f_sub(&r)?.f_add_scalar(26.0)?, 4.0)?;
    let dark = surely(&r.f_neg()?.f_add_scalar(62.0)?, 8.0)?;
    let interior = purple.f_maximum(&grey)?.f_maximum(&dark)?;
    interior.f_mul(&region_of(part)?)?.f_sum_dim_intlist([1_i64, 2].as_slice(), false, Kind::Float)
}

/// 1 within [`REGION`], of the part's shape.
fn region_of(part: Rectangle) -> Result<Tensor, TchError> {
    let (cx, cy, rx, ry) = REGION;
    let distance = |length: i64, from: i64, centre: f32, radius: f32| {
        let at = Tensor::f_arange(length, (Kind::Float, Device::Cpu))?;
        let at = at.f_add_scalar(f64::from(i16::try_from(from).unwrap_or(0)))?;
        at.f_sub_scalar(f64::from(centre))?.f_div_scalar(f64::from(radius))?.f_square()
    };
    let rows = distance(part.height, part.top, cy, ry)?.f_unsqueeze(1)?;
    let columns = distance(part.width, part.left, cx, rx)?.f_unsqueeze(0)?;
    rows.f_add(&columns)?.f_lt(1.0)?.f_to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::character::{CROP_SIZE, MouthShape, draw_crop, idle_pose, mouth_opening};
    use mouthpiece::training::latents::to_picture;
    use mouthpiece::training::losses::opening_loss;

    const WHOLE: Rectangle = Rectangle { top: 0, height: CROP_SIZE as i64, left: 0, width: CROP_SIZE as i64 };

    #[test]
    fn areas_agree_with_the_measure_of_the_evaluation() {
        let shapes = (0..16_u8).map(|step| {
            let at = |period: u8| f32::from(step % period) / f32::from(period - 1);
            MouthShape { open: at(16), wide: at(3), round: at(4), teeth: at(5), tongue: at(7), ..MouthShape::default() }
        });
        let crops: Vec<Vec<u8>> =
            shapes.enumerate().map(|(pose, mouth)| draw_crop(&idle_pose(6 * pose), &mouth)).collect();
        let side = i64::from(CROP_SIZE);
        let pictures = Tensor::from_slice(&crops.concat()).view([-1, side, side, 3]);
        let areas = Vec::<f32>::try_from(areas(&to_picture(&pictures).unwrap(), WHOLE).unwrap()).unwrap();
        let side = CROP_SIZE as f32;
        for (crop, area) in crops.iter().zip(areas) {
            let measured = mouth_opening(crop) * side * side;
            assert!((area - measured).abs() <= 40.0 + 0.1 * measured, "{area} for {measured} pixels");
        }
    }

    #[test]
    fn mouths_that_open_together_cost_nothing_and_others_have_a_slope() {
        let side = i64::from(CROP_SIZE);
        let crops = |opens: [f32; 3]| {
            let crop = |open| draw_crop(&idle_pose(0), &MouthShape { open, ..MouthShape::default() });
            to_picture(&Tensor::from_slice(&opens.map(crop).concat()).view([-1, side, side, 3])).unwrap()
        };
        let truth = crops([0.1, 0.5, 0.9]);
        let unlike =
            |drawn: &Tensor| opening_loss(&areas(drawn, WHOLE).unwrap(), &areas(&truth, WHOLE).unwrap()).unwrap();
        let loss = |opens| f64::try_from(unlike(&crops(opens))).unwrap();
        let [same, less, other, opposite] =
            [[0.1, 0.5, 0.9], [0.1, 0.4, 0.7], [0.1, 0.9, 0.5], [0.9, 0.5, 0.1]].map(loss);
        assert!(same.abs() < 1e-3 && less < 0.02 && other > 0.2 && opposite > 1.9, "{same} {less} {other} {opposite}");
        let drawn = crops([0.1, 0.9, 0.5]).set_requires_grad(true);
        unlike(&drawn).backward();
        assert!(f64::try_from(drawn.grad().abs().sum(Kind::Float)).unwrap() > 0.0);
    }
}
