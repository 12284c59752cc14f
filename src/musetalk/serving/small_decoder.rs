//! A small decoder (TAESD's kind) of an avatar's own choice, in place of the model's.
//!
//! In here: loading one from a folder as diffusers writes it, fitting it to a model, writing it back. Not in here: the
//! network (`network::tiny_vae`), training it (`tools::tune`). Runs on: the engine's thread, or whoever tunes.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, nn};

use crate::lipsync::LipSyncError;
use crate::models::folder::{CONFIGS, WEIGHTS, first_of};
use crate::musetalk::Result;
use crate::musetalk::network::config::{AutoencoderConfig, TinyConfig};
use crate::musetalk::network::layers::{blank, channels_last};
use crate::musetalk::network::tiny_vae::TinyVaeDecoder;
use crate::musetalk::weights::published::Published;
use crate::musetalk::weights::{Mapping, load_safetensors, save_safetensors, set_kind_of, use_channels_last};

/// The names that it is written under, diffusers' own.
const CONFIG: &str = CONFIGS[0];
const WEIGHTS_FILE: &str = WEIGHTS[0];

/// A decoder, its weights, and the folder that they came from.
#[derive(Debug)]
pub struct SmallDecoder {
    folder: PathBuf,
    config: TinyConfig,
    pub(in crate::musetalk) store: nn::VarStore,
    decoder: TinyVaeDecoder,
    /// What the model's latents are multiplied by to be this decoder's.
    scale: f64,
}

impl SmallDecoder {
    /// Of the folder's `AutoencoderTiny` the decoder, in 32 bits; it must decode the latents of a model with `autoencoder`.
    pub fn load(folder: &Path, autoencoder: &AutoencoderConfig, device: Device) -> Result<Self> {
        let path = first_of(folder, &CONFIGS)?;
        let wrong = |problem: String| LipSyncError::Model { path: path.display().to_string(), problem };
        let Published::Tiny(config) = Published::load(&path)? else {
            return Err(wrong("its configuration is not an AutoencoderTiny's, which a small decoder is".to_owned()));
        };
        check(&config, autoencoder).map_err(wrong)?;
        let store = nn::VarStore::new(device);
        let decoder = blank(|| TinyVaeDecoder::new(&(store.root() / "decoder"), &config))?;
        let weights = first_of(folder, &WEIGHTS)?;
        load_safetensors(&store, &weights, Mapping { ignored: &["encoder."], ..Mapping::default() })?;
        use_channels_last(&store)?;
        let scale = autoencoder.scaling_factor() / config.scaling_factor;
        Ok(Self { folder: folder.to_owned(), config, store, decoder, scale })
    }

    /// Where it was loaded from.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its sizes.
    pub(super) fn config(&self) -> &TinyConfig {
        &self.config
    }

    /// Computes in these floats and learns no more.
    pub(super) fn freeze(&mut self, kind: Kind) -> Result<()> {
        self.store.freeze();
        set_kind_of(&self.store, "", kind)
    }

    /// As [`TinyVaeDecoder::decode_rows`], of a latent as the model's own decoder wants it.
    pub(in crate::musetalk) fn decode_rows(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        self.decoder.decode_rows(&channels_last(&latent.f_mul_scalar(self.scale)?)?, first, rows)
    }

    /// Writes it, with the configuration that it came with, into a folder that is there.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let failed = |error: std::io::Error| LipSyncError::Model {
            path: folder.display().to_string(),
            problem: error.to_string(),
        };
        std::fs::copy(first_of(&self.folder, &CONFIGS)?, folder.join(CONFIG)).map_err(failed)?;
        save_safetensors(&self.store, &folder.join(WEIGHTS_FILE), true)
    }
}

/// Whether a decoder of this configuration can stand in for the model's.
fn check(config: &TinyConfig, autoencoder: &AutoencoderConfig) -> std::result::Result<(), String> {
    for (what, own, wanted) in [
        ("latent_channels", config.latent_channels, autoencoder.latent_channels()),
        ("pixels a latent cell", config.decoder_scale(), autoencoder.scale()),
        ("out_channels", config.out_channels, 3),
    ] {
        if own != wanted {
            return Err(format!("{what}: {own}, the model's latents need {wanted}"));
        }
    }
    Ok(())
}
