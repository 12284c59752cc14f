//! The fixed sinusoid that is added to the audio tokens before the UNet.
//!
//! Sines and cosines alternate here, unlike in Whisper's positions and the UNet's time embedding.

use tch::{Device, Kind, Tensor};

use crate::musetalk::Result;

/// `[tokens, d]`, one row for each token's place in the frame's window.
pub fn positional_encoding(tokens: i64, d: i64) -> Result<Tensor> {
    let options = (Kind::Float, Device::Cpu);
    let size = f64::from(i32::try_from(d).unwrap_or(i32::MAX));
    let pairs = Tensor::f_arange(d.div_euclid(2) + d.rem_euclid(2), options)?;
    let scales = pairs.f_mul_scalar(-2.0 * 10_000_f64.ln() / size)?.f_exp()?;
    let angles = Tensor::f_arange(tokens, options)?.f_unsqueeze(1)?.f_mul(&scales)?;
    let pairs = Tensor::f_stack(&[angles.f_sin()?, angles.f_cos()?], -1)?;
    Ok(pairs.f_flatten(1, 2)?.f_narrow(1, 0, d)?.f_contiguous()?)
}
