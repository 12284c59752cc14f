//! The parts of the demo model as training sees them: each in a store of its own, so that each can be trained,
//! frozen, saved and loaded alone. The modules are those that serve.
//!
//! Not in here: losses and schedules (`train`), and the model as the server runs it (`musetalk::MuseTalk`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, nn};

use super::{DemoError, Result};
use crate::lipsync::LipSyncError;
use crate::musetalk::audio::FRAME_ROWS;
use crate::musetalk::config::{AutoencoderConfig, HelperHeadConfig, ModelConfig, TinyConfig};
use crate::musetalk::weights::{Mapping, load_safetensors, read_safetensors, use_channels_last};
use crate::musetalk::{TinyVaeDecoder, TinyVaeEncoder, Unet, WhisperEncoder, positional_encoding};

/// The prefixes of the parts in a checkpoint.
const PARTS: [&str; 5] = ["audio_encoder.", "helper_head.", "unet.", "autoencoder.encoder.", "autoencoder.decoder."];

/// Predicts the mouth's parameters from a frame's audio tokens: it makes the audio encoder aware of lips before and
/// while the image network learns to draw them. Training only.
#[derive(Debug)]
pub struct HelperHead {
    hidden: nn::Linear,
    out: nn::Linear,
}

impl HelperHead {
    fn new(p: &nn::Path<'_>, config: &HelperHeadConfig, inputs: i64) -> Self {
        let linear = |name: &str, from, to| nn::linear(p / name, from, to, nn::LinearConfig::default());
        Self { hidden: linear("hidden", inputs, config.hidden), out: linear("out", config.hidden, config.parameters) }
    }

    /// `tokens` is `[frames, tokens, d_model]`; gives `[frames, parameters]` within 0 and 1.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let flat = tokens.f_flatten(1, -1)?;
        let hidden = flat.f_linear(&self.hidden.ws, self.hidden.bs.as_ref())?.f_gelu("none")?;
        Ok(hidden.f_linear(&self.out.ws, self.out.bs.as_ref())?.f_sigmoid()?)
    }
}

/// Audio encoder and helper head.
#[derive(Debug)]
pub struct AudioPart {
    pub store: nn::VarStore,
    pub encoder: WhisperEncoder,
    pub helper: HelperHead,
    pub positional: Tensor,
}

impl AudioPart {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        let audio = &config.audio_encoder;
        let tokens = FRAME_ROWS * (audio.encoder_layers + 1);
        let head = config.helper_head.as_ref().ok_or_else(|| wrong("helper_head", "training needs it"))?;
        let encoder = WhisperEncoder::new(&(&root / "audio_encoder"), audio)?;
        let helper = HelperHead::new(&(&root / "helper_head"), head, tokens * audio.d_model);
        let positional = positional_encoding(tokens, audio.d_model)?;
        Ok(Self { store, encoder, helper, positional })
    }
}

#[derive(Debug)]
pub struct UnetPart {
    pub store: nn::VarStore,
    pub unet: Unet,
}

impl UnetPart {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let mut unet = Unet::new(&(store.root() / "unet"), &config.unet)?;
        unet.zero_output()?;
        use_channels_last(&store)?;
        Ok(Self { store, unet })
    }
}

#[derive(Debug)]
pub struct EncoderPart {
    pub store: nn::VarStore,
    pub encoder: TinyVaeEncoder,
}

impl EncoderPart {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = TinyVaeEncoder::new(&(store.root() / "autoencoder" / "encoder"), tiny(config)?)?;
        use_channels_last(&store)?;
        Ok(Self { store, encoder })
    }
}

#[derive(Debug)]
pub struct DecoderPart {
    pub store: nn::VarStore,
    pub decoder: TinyVaeDecoder,
}

impl DecoderPart {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let decoder = TinyVaeDecoder::new(&(store.root() / "autoencoder" / "decoder"), tiny(config)?)?;
        use_channels_last(&store)?;
        Ok(Self { store, decoder })
    }
}

fn wrong(field: &str, problem: &str) -> DemoError {
    LipSyncError::Config { field: field.to_owned(), problem: problem.to_owned() }.into()
}

fn tiny(config: &ModelConfig) -> Result<&TinyConfig> {
    match &config.autoencoder {
        AutoencoderConfig::Tiny(tiny) => Ok(tiny),
        AutoencoderConfig::Kl(_) => Err(wrong("autoencoder.kind", "only \"tiny\" can be trained here")),
    }
}

/// Loads one part out of a checkpoint that may hold all of them.
pub fn load_part(store: &nn::VarStore, path: &Path) -> Result<()> {
    let own: Vec<String> = store.variables().into_keys().collect();
    let others: Vec<&str> = PARTS.into_iter().filter(|part| !own.iter().any(|name| name.starts_with(part))).collect();
    Ok(load_safetensors(store, path, Mapping { ignored: &others, ..Mapping::default() })?)
}

/// Writes the parts into one checkpoint, in the order of names; an existing file is replaced whole.
pub fn save_parts(stores: &[&nn::VarStore], path: &Path, half: bool) -> Result<()> {
    let mut named: Vec<(String, Tensor)> = stores.iter().flat_map(|store| store.variables()).collect();
    named.sort_by(|left, right| left.0.cmp(&right.0));
    for (_, tensor) in &mut named {
        let kind = if half { Kind::Half } else { tensor.kind() };
        *tensor = tensor.f_detach()?.f_to_kind(kind)?.f_contiguous()?;
    }
    let unfinished = path.with_extension("part");
    Tensor::write_safetensors(&named, &unfinished)?;
    std::fs::rename(&unfinished, path).map_err(|error| DemoError::file(path, error))
}

/// Writes the mean of checkpoints of one training, which serves better than any one of them; as 16-bit floats.
pub fn average(checkpoints: &[PathBuf], path: &Path) -> Result<()> {
    let (first, others) = checkpoints.split_first().ok_or_else(|| DemoError::file(path, "no checkpoint to average"))?;
    let mut named: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, tensor) in read_safetensors(first)? {
        named.insert(name, tensor.f_to_kind(Kind::Double)?);
    }
    for other in others {
        let tensors = read_safetensors(other)?;
        if tensors.len() != named.len() {
            return Err(DemoError::file(other, format!("has {} tensors, must have {}", tensors.len(), named.len())));
        }
        for (name, tensor) in tensors {
            let sum = named.get_mut(&name).ok_or_else(|| DemoError::file(other, format!("{name} is unexpected")))?;
            *sum = sum.f_add(&tensor)?;
        }
    }
    let count = f64::from(u32::try_from(checkpoints.len()).unwrap_or(u32::MAX));
    let mut mean = Vec::with_capacity(named.len());
    for (name, sum) in named {
        mean.push((name, sum.f_div_scalar(count)?.f_to_kind(Kind::Half)?.f_contiguous()?));
    }
    Tensor::write_safetensors(&mean, path).map_err(|error| DemoError::file(path, error))
}

/// Crops, `[n, side, side, 3]` bytes, as the autoencoder wants them: -1 to 1, channels innermost in memory.
pub fn to_picture(crops: &Tensor) -> Result<Tensor> {
    Ok(crops.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?)
}

/// What the UNet sees and gives instead of the autoencoder's own latents.
#[derive(Debug)]
pub struct Normalisation {
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

    pub fn undo(&self, latent: &Tensor) -> Result<Tensor> {
        Ok(latent.f_mul(&self.std)?.f_add(&self.mean)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_of_two_checkpoints_lies_half_way_and_needs_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tensor: &str, value: f64| {
            let path = folder.path().join(name);
            let filled = Tensor::full([2, 3], value, (Kind::Float, Device::Cpu));
            Tensor::write_safetensors(&[(tensor, filled)], &path).unwrap();
            path
        };
        let (one, two, other) = (write("1", "a", 1.0), write("2", "a", 2.0), write("3", "b", 3.0));
        let out = folder.path().join("mean");
        average(&[one.clone(), two], &out).unwrap();
        let mean = read_safetensors(&out).unwrap();
        assert_eq!((mean[0].0.as_str(), mean[0].1.mean(Kind::Float).double_value(&[])), ("a", 1.5));
        assert!(average(&[one, other], &out).unwrap_err().to_string().contains('b'));
    }
}
