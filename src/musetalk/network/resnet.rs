//! diffusers' `ResnetBlock2D`, `Downsample2D` and `Upsample2D`, shared by the UNet and the KL autoencoder.

use tch::{Tensor, nn};

use super::layers::{Conv2d, GroupNorm, Linear, upsample_nearest};
use crate::musetalk::Result;

/// Two convolutions with norms before them, and the input around them.
#[derive(Debug)]
pub struct ResnetBlock2d {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
}

/// The group norms' settings, which all resnets of a network share.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// A divisor of all channels.
    pub groups: i64,
    /// Against dividing by nothing.
    pub eps: f64,
}

impl ResnetBlock2d {
    /// `time` is the size of the time embedding; the autoencoder's resnets have none.
    pub fn new(p: &nn::Path<'_>, inputs: i64, outputs: i64, time: Option<i64>, norm: Norm) -> Result<Self> {
        let time_emb_proj = time.map(|size| Linear::new(p / "time_emb_proj", size, outputs)).transpose()?;
        let shortcut = inputs != outputs;
        Ok(Self {
            norm1: GroupNorm::new(p / "norm1", norm.groups, inputs, norm.eps)?,
            conv1: Conv2d::new(p / "conv1", inputs, outputs, 3)?,
            time_emb_proj,
            norm2: GroupNorm::new(p / "norm2", norm.groups, outputs, norm.eps)?,
            conv2: Conv2d::new(p / "conv2", outputs, outputs, 3)?,
            conv_shortcut: shortcut.then(|| Conv2d::new(p / "conv_shortcut", inputs, outputs, 1)).transpose()?,
        })
    }

    /// `time` is SiLU of the time embedding, `[1, size]`.
    pub fn forward(&self, x: &Tensor, time: Option<&Tensor>) -> Result<Tensor> {
        let normed = self.norm1.forward_silu(x)?;
        let projection = self.time_emb_proj.as_ref().zip(time);
        // A bias that is added where it costs nothing: by the norm behind it.
        let hidden = match self.conv1.own_bias(&normed).filter(|_| projection.is_none()) {
            Some(bias) => self.norm2.forward_shifted_silu(&self.conv1.forward_without_bias(&normed)?, bias)?,
            None => {
                let mut hidden = self.conv1.forward(&normed)?;
                if let Some((projection, time)) = projection {
                    hidden = hidden.f_add(&projection.forward(time)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?)?;
                }
                self.norm2.forward_silu(&hidden)?
            }
        };
        let Some(shortcut) = &self.conv_shortcut else { return self.conv2.forward_adding(&hidden, x, None) };
        match shortcut.own_bias(x) {
            Some(bias) => self.conv2.forward_adding(&hidden, &shortcut.forward_without_bias(x)?, Some(bias)),
            None => self.conv2.forward_adding(&hidden, &shortcut.forward(x)?, None),
        }
    }

    /// Puts the projection of a time embedding that never changes into `conv1`'s bias, and drops the projection.
    pub fn fold_time(&mut self, time: &Tensor) -> Result<()> {
        if let (Some(projection), Some(bias)) = (self.time_emb_proj.take(), &self.conv1.bias) {
            let folded = bias.f_add(&projection.forward(time)?.f_squeeze_dim(0)?)?;
            self.conv1.bias = Some(folded.f_detach()?);
        }
        Ok(())
    }
}

/// Halves a map by a strided convolution.
#[derive(Debug)]
pub struct Downsample2d {
    conv: Conv2d,
    asymmetric: bool,
}

impl Downsample2d {
    /// The autoencoder pads right and bottom only (`asymmetric`), the UNet all sides.
    pub fn new(p: &nn::Path<'_>, channels: i64, asymmetric: bool) -> Result<Self> {
        let padding = i64::from(!asymmetric);
        Ok(Self { conv: Conv2d::with(p / "conv", channels, channels, 3, 2, padding, true)?, asymmetric })
    }

    /// Half as high and wide.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.asymmetric { self.conv.forward(&x.f_constant_pad_nd([0, 1, 0, 1])?) } else { self.conv.forward(x) }
    }
}

/// Doubles a map: nearest neighbour, then a convolution.
#[derive(Debug)]
pub struct Upsample2d {
    conv: Conv2d,
}

impl Upsample2d {
    /// Of maps with so many channels.
    pub fn new(p: &nn::Path<'_>, channels: i64) -> Result<Self> {
        Ok(Self { conv: Conv2d::new(p / "conv", channels, channels, 3)? })
    }

    /// Twice as high and wide.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&upsample_nearest(x, 2)?)
    }
}
