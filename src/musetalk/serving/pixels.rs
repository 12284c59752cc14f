//! Between 8-bit RGB and the autoencoders' pictures, where black is -1 and white 1.

use tch::{Kind, Tensor};

use crate::musetalk::Result;

/// `[height, width, 3]` bytes as the autoencoder's input, `[1, 3, height, width]`.
///
/// `masked` hides the lower half, as MuseTalk does with the first of its two latents. The hidden half is black, so -1:
/// masking after the change of range would make it grey, which the network never saw.
pub fn from_rgb8(rgb: &Tensor, masked: bool) -> Result<Tensor> {
    let mut unit = rgb.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?.f_permute([2, 0, 1])?.f_unsqueeze(0)?;
    if masked {
        let height = unit.size4()?.2;
        let kept = height / 2;
        unit = unit.f_narrow(2, 0, kept)?.f_constant_pad_nd([0, 0, 0, height - kept])?;
    }
    Ok(unit.f_sub_scalar(0.5)?.f_div_scalar(0.5)?.f_contiguous()?)
}

/// The decoder's `[batch, 3, height, width]` as bytes, `[batch, height, width, 3]`, rounded half to even.
pub fn to_rgb8(picture: &Tensor) -> Result<Tensor> {
    // The order of the steps decides which way ties fall, so it is upstream's.
    let unit = picture.f_div_scalar(2.0)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?.f_to_kind(Kind::Float)?;
    let levels = unit.f_permute([0, 2, 3, 1])?.f_mul_scalar(255.0)?.f_round()?;
    Ok(levels.f_to_kind(Kind::Uint8)?.f_contiguous()?)
}
