//! The half of a model's autoencoder that serving needs, of either kind.

use tch::{Tensor, nn};

use super::config::AutoencoderConfig;
use super::tiny_vae::TinyVaeDecoder;
use super::vae::AutoencoderKlDecoder;
use crate::musetalk::Result;

/// A decoder from latents to pictures.
#[derive(Debug)]
pub enum Decoder {
    /// Stable Diffusion's.
    Kl(Box<AutoencoderKlDecoder>),
    /// TAESD's kind.
    Tiny(TinyVaeDecoder),
}

impl Decoder {
    /// `p` is the path of `autoencoder`.
    pub fn new(p: &nn::Path<'_>, config: &AutoencoderConfig) -> Result<Self> {
        match config {
            AutoencoderConfig::Kl(kl) => Ok(Self::Kl(Box::new(AutoencoderKlDecoder::new(p, kl)?))),
            AutoencoderConfig::Tiny(tiny) => Ok(Self::Tiny(TinyVaeDecoder::new(&(p / "decoder"), tiny)?)),
        }
    }

    /// The part of the picture that belongs to `rows` rows of the latent; see [`TinyVaeDecoder::decode_rows`]. The KL
    /// decoder's norms and attention see the whole latent, so it decodes all of it.
    pub fn decode_rows(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        match self {
            Self::Tiny(tiny) => tiny.decode_rows(latent, first, rows),
            Self::Kl(kl) => {
                let picture = kl.decode(latent)?;
                let scale = picture.size4()?.2 / latent.size4()?.2;
                Ok(picture.f_narrow(2, first * scale, rows * scale)?)
            }
        }
    }
}
