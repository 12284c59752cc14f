//! What training makes small: how unlike two pictures, two mouths' parameters and two courses of an opening are.

use tch::{Kind, Tensor};

use super::Result;

/// Differences between neighbours, across and down: where the edges are.
fn edges(picture: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((
        picture.f_diff(1, 3, None::<&Tensor>, None::<&Tensor>)?,
        picture.f_diff(1, 2, None::<&Tensor>, None::<&Tensor>)?,
    ))
}

/// Mean absolute difference of colours and of edges.
pub(super) fn picture_loss(drawn: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let (across, down) = edges(&drawn.f_sub(truth)?)?;
    let flat = drawn.f_sub(truth)?;
    let sharp = across.f_abs()?.f_mean(Kind::Float)?.f_add(&down.f_abs()?.f_mean(Kind::Float)?)?;
    let colour = flat.f_abs()?.f_mean(Kind::Float)?.f_add(&flat.f_square()?.f_mean(Kind::Float)?.f_mul_scalar(2.0)?)?;
    Ok(colour.f_add(&sharp)?)
}

/// In decibels, of pictures from -1 to 1.
pub(super) fn psnr(drawn: &Tensor, truth: &Tensor) -> Result<f64> {
    let error = drawn.f_clamp(-1.0, 1.0)?.f_sub(truth)?.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?;
    Ok(10.0 * (4.0 / error.max(1e-12)).log10())
}

/// Cross-entropy of predicted parameters, `[frames, parameters]`; its best guess is the mean, and it hurries at closures.
pub(super) fn parameter_loss(guess: &Tensor, truth: &Tensor, weights: &[f32]) -> Result<Tensor> {
    let weights = Tensor::f_from_slice(weights)?;
    let guess = guess.f_clamp(1e-4, 1.0 - 1e-4)?;
    let inverse = |tensor: &Tensor| tensor.f_neg()?.f_add_scalar(1.0);
    let yes = guess.f_log()?.f_mul(truth)?;
    let no = inverse(&guess)?.f_log()?.f_mul(&inverse(truth)?)?;
    Ok(yes.f_add(&no)?.f_mul(&weights)?.f_mean(Kind::Float)?.f_neg()?)
}

/// 1 less the correlation of how far drawn and true mouths of a batch stand open, both `[n]` in pixels: 0 to 2.
///
/// The opening is what a viewer sees of speech first, and the pixels alone teach the network to draw the likeliest mouth,
/// which follows the sound less than the sound would allow. Not the openings' distance: where the sound leaves a doubt,
/// the mouth that is least far from all it might be hardly moves.
pub fn opening_loss(drawn: &Tensor, truth: &Tensor) -> Result<Tensor> {
    let centred = |areas: &Tensor| areas.f_sub(&areas.f_mean(Kind::Float)?);
    let (drawn, truth) = (centred(drawn)?, centred(truth)?);
    let product = |a: &Tensor, b: &Tensor| a.f_mul(b)?.f_sum(Kind::Float);
    // A pixel's worth keeps the slope finite where nothing moves.
    let spread = product(&drawn, &drawn)?.f_add_scalar(1.0)?.f_mul(&product(&truth, &truth)?.f_add_scalar(1.0)?)?;
    Ok(product(&drawn, &truth)?.f_div(&spread.f_sqrt()?)?.f_neg()?.f_add_scalar(1.0)?)
}
