//! All networks of a model with their weights, in the floats that suit the device.
//!
//! In here: loading a model's folder, and the way from tokens and latents to a picture. Not in here: which avatar and which
//! sound (`musetalk`).

use std::path::{Path, PathBuf};

use tch::{Device, Tensor, nn};

use super::audio::AudioFrontEnd;
use super::floats;
use super::layouts::{self, Layouts};
use crate::lipsync::LipSyncError;
use crate::models::catalog::{PARTS, WHOLE};
use crate::models::names::current_name;
use crate::musetalk::Result;
use crate::musetalk::device::{Precision, Precisions};
use crate::musetalk::gpu::kernels;
use crate::musetalk::network::config::ModelConfig;
use crate::musetalk::network::decoder::Decoder;
use crate::musetalk::network::latent_scale::LatentScale;
use crate::musetalk::network::layers::blank;
use crate::musetalk::network::unet::Unet;
use crate::musetalk::weights::{Mapping, load_safetensors, set_kind_of, use_channels_last};

/// On a CPU, a model of more numbers than this keeps its weights in the 16 bits of the file, even if it computes in 32:
/// MuseTalk has 900 million, and casting each layer when it runs is little beside running it, while the demo's few would
/// only be slower.
const LARGE: usize = 100_000_000;

/// What drawing needs of a model.
#[derive(Debug)]
pub(super) struct Model {
    /// What it is made of.
    pub config: ModelConfig,
    /// Where all of it is.
    pub device: Device,
    /// What the UNet computes in, and so what latents and tokens are in.
    pub kind: tch::Kind,
    /// What each network computes in.
    pub precisions: Precisions,
    /// Sound to tokens.
    pub audio: AudioFrontEnd,
    /// How each network's maps lie in memory.
    pub layouts: Layouts,
    unet: Unet,
    decoder: Decoder,
    scale: LatentScale,
}

impl Model {
    /// The model of a folder, in the given floats throughout or those that are [`Precisions::quickest`].
    pub fn load(folder: &Path, device: Device, threads: i32, precision: Option<Precision>) -> Result<Self> {
        // All cores while it loads, when nothing else runs.
        let cores = std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1));
        tch::set_num_threads(cores.max(threads));
        let config = ModelConfig::load(&folder.join("config.json"))?;
        let precisions = precision.map_or_else(|| Precisions::quickest(device, &config), Precisions::all);
        let parts = PARTS.map(|part| folder.join(format!("{part}.safetensors")));
        let in_parts = parts.iter().any(|part| part.is_file());
        let whole = [folder.join(WHOLE)];
        let weights: &[PathBuf] = if in_parts { &parts } else { &whole };
        let model = Self::build(config, weights, device, precisions, precision.is_none());
        tch::set_num_threads(threads.max(1));
        model
    }

    /// The model that `config` describes, in 32 bits, with the weights of one file.
    pub fn with_weights(config: ModelConfig, weights: &Path, device: Device) -> Result<Self> {
        Self::build(config, &[weights.to_owned()], device, Precisions::all(Precision::Fp32), false)
    }

    /// `weights` is one file, or one for each of [`PARTS`]. Where the floats `may_be_fewer`, the decoder is tried in such.
    fn build(
        config: ModelConfig,
        weights: &[PathBuf],
        device: Device,
        precisions: Precisions,
        may_be_fewer: bool,
    ) -> Result<Self> {
        config.validate()?;
        let kind = precisions.unet.kind();
        // Kernels are compiled while weights are read.
        let kinds = [precisions.unet, precisions.decoder].map(Precision::kind);
        let preparing = std::thread::spawn(move || kinds.map(|kind| kernels::prepare(device, kind)));
        let mut store = nn::VarStore::new(device);
        let root = store.root();
        let (mut audio, mut unet, decoder) = blank(|| {
            let audio = AudioFrontEnd::new(&(&root / "audio_encoder"), &config)?;
            let unet = Unet::new(&(&root / "unet"), &config.unet)?;
            Ok::<_, LipSyncError>((audio, unet, Decoder::new(&(&root / "autoencoder"), &config.autoencoder)?))
        })?;
        // A checkpoint may keep what training and avatar preparation need beside what serving needs.
        let ignored = ["autoencoder.encoder.", "autoencoder.quant_conv.", "helper_head."];
        let numbers: usize = store.variables().values().map(Tensor::numel).sum();
        let keep_16_bits = device == Device::Cpu && numbers > LARGE;
        let mapping = Mapping {
            ignored: &ignored,
            rename: current_name,
            channels_last: true,
            keep_16_bits,
            ..Mapping::default()
        };
        match weights {
            [whole] => load_safetensors(&store, whole, mapping)?,
            parts => {
                for (part, file) in PARTS.iter().zip(parts) {
                    let ignored: &[&str] = if *part == "autoencoder" { &["encoder.", "quant_conv."] } else { &[] };
                    load_safetensors(&store, file, Mapping { into: &format!("{part}."), ignored, ..mapping })?;
                }
            }
        }
        store.freeze();
        if kind != tch::Kind::Float {
            store.set_kind(kind);
            audio.set_kind(kind)?;
        }
        if precisions.decoder != precisions.unet {
            set_kind_of(&store, "autoencoder.", precisions.decoder.kind())?;
        }
        use_channels_last(&store)?;
        unet.fold()?;
        // One that panicked has prepared nothing, which leaves the plain operators.
        let _ = preparing.join();
        let scale = LatentScale::new(&config, kind, device)?;
        let layouts = Layouts::default();
        let mut model = Self { config, device, kind, precisions, audio, layouts, unet, decoder, scale };
        layouts::choose(&mut model, &store)?;
        if may_be_fewer {
            floats::choose(&mut model, &store)?;
        }
        Ok(model)
    }

    /// The latent of the talking face as the autoencoder wants it, from the UNet's `sample`,
    /// `[batch, in_channels, height, width]`, and `tokens`, `[batch, tokens, cross_attention_dim]`.
    pub fn generate(&self, sample: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let sample = self.layouts.unet.of(sample)?;
        let mut latent = self.unet.forward(&sample, tokens)?;
        if self.config.residual {
            latent = latent.f_add(&self.reference(&sample)?)?;
        }
        self.scale.to_autoencoder(&latent)
    }

    /// The latent of the avatar's own face in a `sample` as the autoencoder wants it.
    pub fn own_latent(&self, sample: &Tensor) -> Result<Tensor> {
        self.scale.to_autoencoder(&self.reference(sample)?)
    }

    /// The reference latent: the last channels of a UNet's sample.
    fn reference(&self, sample: &Tensor) -> Result<Tensor> {
        let channels = self.config.unet.out_channels;
        Ok(sample.f_narrow(1, self.config.unet.in_channels - channels, channels)?)
    }

    /// The part of the picture that belongs to `rows` rows of the latent from `first` on.
    pub fn decode(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        let latent = self.layouts.decoder.of(&latent.f_to_kind(self.precisions.decoder.kind())?)?;
        Ok(self.decoder.decode_rows(&latent, first, rows)?.f_to_kind(self.kind)?)
    }
}
