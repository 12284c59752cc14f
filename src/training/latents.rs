//! Pictures as the autoencoder wants them, and latents as the UNet sees them.

use tch::{Device, Kind, Tensor};

use super::Result;
use super::parts::EncoderPart;
use super::subject::{Crop, Subject};
use crate::musetalk::ModelConfig;

/// Crops, `[n, side, side, 3]` bytes, as the autoencoder wants them: -1 to 1, channels innermost in memory.
pub fn to_picture(crops: &Tensor) -> Result<Tensor> {
    Ok(crops.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?)
}

/// What the UNet sees and gives instead of the autoencoder's own latents.
#[derive(Debug)]
pub(super) struct Normalisation {
    mean: Tensor,
    std: Tensor,
}

impl Normalisation {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let channels = config.autoencoder.latent_channels();
        let per_channel = |values: &Option<Vec<f32>>, default: f64| -> Result<Tensor> {
            let values = match values {
                Some(values) => Tensor::f_from_slice(values)?,
                None => Tensor::f_full([channels], default, (Kind::Float, Device::Cpu))?,
            };
            Ok(values.f_view([1, channels, 1, 1])?)
        };
        let std = per_channel(&config.latent_std, 1.0)?.f_div_scalar(config.autoencoder.scaling_factor())?;
        Ok(Self { mean: per_channel(&config.latent_mean, 0.0)?, std })
    }

    pub fn apply(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_sub(&self.mean)?.f_div(&self.std)?)
    }

    pub(super) fn undo(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_mul(&self.std)?.f_add(&self.mean)?)
    }
}

/// The latents of the idle loop as the UNet sees them, `[poses, 2 * channels, cells, cells]`: the crop with the mouth
/// hidden, then the crop at rest.
pub fn conditioning(subject: &dyn Subject, config: &ModelConfig, encoder: &EncoderPart) -> Result<Tensor> {
    let normalisation = Normalisation::new(config)?;
    let hidden_from = subject.layout().hidden_from;
    let rest = vec![0.0; subject.parameter_weights().len()];
    let mut latents = Vec::with_capacity(subject.poses());
    tch::no_grad(|| {
        for pose in 0..subject.poses() {
            let picture = to_picture(&subject.crops(&[Crop { pose, mouth: rest.clone() }])?)?;
            let masked = picture.f_mul_scalar(1.0)?;
            let _ = masked.f_narrow(2, hidden_from, picture.size()[2] - hidden_from)?.f_fill_(-1.0)?;
            let pair = Tensor::f_cat(&[masked, picture], 0)?;
            let latent = normalisation.apply(&encoder.encoder.encode(&pair)?)?;
            let (_, channels, height, width) = latent.size4()?;
            latents.push(latent.f_contiguous()?.f_view([1, 2 * channels, height, width])?);
        }
        Ok(Tensor::f_cat(&latents, 0)?)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Result;
    use super::super::speeches::Speech;
    use super::super::subject::{Layout, Rectangle};
    use super::*;
    use rand_chacha::ChaCha8Rng;

    const ALL: Rectangle = Rectangle { top: 0, height: 16, left: 0, width: 16 };

    /// Grey above, and of its own level below row 64.
    struct Face(f64);

    impl Subject for Face {
        fn layout(&self) -> Layout {
            Layout {
                hidden_from: 64,
                mouth: ALL,
                mouth_begins: [0..=64, 0..=64],
                mouth_cells: ALL,
                mouth_patch: ALL,
                jaw_patch: ALL,
            }
        }

        fn parameter_weights(&self) -> &[f32] {
            &[1.0]
        }

        fn poses(&self) -> usize {
            3
        }

        fn crops(&self, wanted: &[Crop]) -> Result<Tensor> {
            assert!(wanted.iter().all(|crop| crop.mouth == [0.0]));
            let crops = Tensor::f_full([1, 128, 128, 3], 128_i64, (Kind::Uint8, Device::Cpu))?;
            let _ = crops.f_narrow(1, 64, 64)?.f_fill_(self.0)?;
            Ok(crops)
        }

        fn examples(&self, _: usize, _: &[Speech], _: &mut ChaCha8Rng) -> Result<Tensor> {
            self.crops(&[])
        }

        fn openings(&self, pictures: &Tensor, _: Rectangle) -> Result<Tensor> {
            Ok(pictures.f_amax([1, 2, 3].as_slice(), false)?)
        }
    }

    #[test]
    fn the_first_latent_of_a_pose_hides_the_mouth_and_the_second_shows_it() {
        let config: ModelConfig = serde_json::from_str(include_str!("../../models/demo/config.json")).unwrap();
        let encoder = EncoderPart::new(&config).unwrap();
        let [dark, light] = [10.0, 240.0].map(|level| conditioning(&Face(level), &config, &encoder).unwrap());
        assert_eq!(dark.size(), [3, 8, 16, 16]);
        let halves = |latents: &Tensor| [latents.narrow(1, 0, 4), latents.narrow(1, 4, 4)];
        let ([dark_hidden, dark_shown], [light_hidden, light_shown]) = (halves(&dark), halves(&light));
        assert_eq!(dark_hidden, light_hidden);
        assert_ne!(dark_shown, light_shown);
    }
}
