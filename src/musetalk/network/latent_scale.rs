//! From the UNet's latents to the autoencoder's and back.

use tch::{Device, Kind, Tensor};

use super::config::ModelConfig;
use crate::musetalk::Result;

/// Deviation and mean of the autoencoder's latents, by channel, each `[1, channels, 1, 1]`.
#[derive(Debug)]
pub struct LatentScale {
    std: Tensor,
    mean: Tensor,
}

impl LatentScale {
    /// That of a configuration, in the floats and on the device of the latents.
    pub fn new(config: &ModelConfig, kind: Kind, device: Device) -> Result<Self> {
        let channels = config.autoencoder.latent_channels();
        let per_channel = |values: &Option<Vec<f32>>, default: f64| -> Result<Tensor> {
            let values = match values {
                Some(values) => Tensor::f_from_slice(values)?,
                None => Tensor::f_full([channels], default, (Kind::Float, Device::Cpu))?,
            };
            Ok(values.f_view([1, channels, 1, 1])?.f_to_kind(kind)?.f_to_device(device)?)
        };
        // The mean counts in the autoencoder's unscaled latents, so only the deviation carries the scaling factor.
        let std = per_channel(&config.latent_std, 1.0)?.f_div_scalar(config.autoencoder.scaling_factor())?;
        Ok(Self { std, mean: per_channel(&config.latent_mean, 0.0)? })
    }

    /// The UNet's latents, `[batch, channels, height, width]`, as the autoencoder's decoder wants them.
    pub fn to_autoencoder(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_mul(&self.std)?.f_add(&self.mean)?)
    }

    /// What the autoencoder's encoder gives, `[batch, channels, height, width]`, as the UNet wants it.
    pub fn to_unet(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_sub(&self.mean)?.f_div(&self.std)?)
    }
}
