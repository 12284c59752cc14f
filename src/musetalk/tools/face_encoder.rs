//! Faces as a model's latents: what an avatar's own frames are to the UNet.
//!
//! In here: the autoencoder's encoder alone, run in batches. Not in here: where a face is in a frame, and the file of latents
//! (`preparation`). Runs on: the thread that calls.

use std::path::Path;

use half::f16;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor, nn};

use crate::lipsync::LipSyncError;
use crate::models::Checkpoint;
use crate::models::catalog::WHOLE;
use crate::models::folder::first_of;
use crate::models::names::current_name;
use crate::musetalk::Result;
use crate::musetalk::network::config::{AutoencoderConfig, ModelConfig};
use crate::musetalk::network::latent_scale::LatentScale;
use crate::musetalk::network::layers::blank;
use crate::musetalk::network::tiny_vae::TinyVaeEncoder;
use crate::musetalk::network::vae::AutoencoderKlEncoder;
use crate::musetalk::serving::from_rgb8;
use crate::musetalk::weights::{Mapping, load_checkpoint};
use crate::picture::RgbPicture;
use crate::picture::resize::lanczos4;

/// Of an autoencoder's tensors, those that decode.
const DECODING: [&str; 2] = ["decoder.", "post_quant_conv."];
/// Faces of a batch on a GPU, each of them two pictures: activations of MuseTalk's own encoder take 2 GB then. A CPU is as
/// quick with one.
const GPU_BATCH: usize = 8;

/// The half of a model's autoencoder that avatars are prepared with.
#[derive(Debug)]
pub struct FaceEncoder {
    encoder: Encoder,
    scale: LatentScale,
    config: ModelConfig,
    device: Device,
    kind: Kind,
    fingerprint: [u8; 32],
}

#[derive(Debug)]
enum Encoder {
    Kl(Box<AutoencoderKlEncoder>),
    Tiny(TinyVaeEncoder),
}

impl FaceEncoder {
    /// The encoder of a model's folder, in the floats that upstream prepares with: 16 bits on a GPU, 32 on a CPU.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let kind = if device.is_cuda() { Kind::Half } else { Kind::Float };
        Self::load_as(folder, device, kind)
    }

    pub(super) fn load_as(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = ModelConfig::load(&folder.join("config.json"))?;
        let path = first_of(folder, &["autoencoder.safetensors", WHOLE])?;
        let file = Checkpoint::open(&path)?;
        let prefix = if path.ends_with(WHOLE) { "autoencoder." } else { "" };
        if !file.tensors().iter().any(|tensor| tensor.name.starts_with(&format!("{prefix}encoder."))) {
            let problem = "has no encoder, which only preparing an avatar needs: convert or fetch the model again";
            return Err(LipSyncError::Model { path: file.path().to_owned(), problem: problem.to_owned() });
        }
        let mut store = nn::VarStore::new(device);
        let root = store.root();
        let encoder = blank(|| match &config.autoencoder {
            AutoencoderConfig::Kl(sizes) => {
                AutoencoderKlEncoder::new(&root, sizes).map(|encoder| Encoder::Kl(Box::new(encoder)))
            }
            AutoencoderConfig::Tiny(sizes) => TinyVaeEncoder::new(&(&root / "encoder"), sizes).map(Encoder::Tiny),
        })?;
        let mapping = Mapping { prefix, ignored: &DECODING, rename: current_name, ..Mapping::default() };
        load_checkpoint(&store, &file, mapping)?;
        store.freeze();
        store.set_kind(kind);
        let scale = LatentScale::new(&config, kind, device)?;
        let fingerprint = fingerprint(&file, prefix, &config)?;
        Ok(Self { encoder, scale, config, device, kind, fingerprint })
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The side of a face that it takes, in pixels.
    pub fn side(&self) -> u32 {
        u32::try_from(self.config.crop_size).unwrap_or(0)
    }

    /// Faces that are best given at once.
    pub fn batch(&self) -> usize {
        if self.device.is_cuda() { GPU_BATCH } else { 1 }
    }

    /// Channels, rows and columns of the latents of one face.
    pub fn shape(&self) -> [u64; 3] {
        let size = self.config.latent_size();
        [self.config.unet.in_channels, size, size].map(|length| u64::try_from(length).unwrap_or(0))
    }

    /// Another encoder has another: a hash of its weights and of what scales its latents.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// The latents of each face, as 16-bit floats, little-endian: that of the face with its lower half hidden, then that of
    /// the whole. A face of another size than [`FaceEncoder::side`] is scaled as upstream scales it.
    ///
    /// The mean of what the encoder gives, where upstream takes a sample without a seed: the same face has the same latents.
    pub fn latents(&self, faces: &[RgbPicture]) -> Result<Vec<Vec<u8>>> {
        let _no_grad = tch::no_grad_guard();
        let mut all = Vec::with_capacity(faces.len());
        for some in faces.chunks(self.batch()) {
            let latents = self.encode(some)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?;
            for latent in latents.f_unbind(0)? {
                let numbers = Vec::<f32>::try_from(latent.f_contiguous()?.f_view([-1])?)?;
                if let Some(wrong) = numbers.iter().find(|number| !f16::from_f32(**number).is_finite()) {
                    let problem = format!("gives latents of {wrong}, which is out of range");
                    return Err(LipSyncError::Model { path: self.config.name.clone(), problem });
                }
                all.push(numbers.into_iter().flat_map(|number| f16::from_f32(number).to_le_bytes()).collect());
            }
        }
        Ok(all)
    }

    /// The latents of faces in one batch, `[faces, channels, rows, columns]`.
    pub(super) fn encode(&self, faces: &[RgbPicture]) -> Result<Tensor> {
        let side = self.side();
        let mut pairs = Vec::with_capacity(2 * faces.len());
        for face in faces {
            let scaled = if (face.width, face.height) == (side, side) { face } else { &lanczos4(face, side, side) };
            let face = Tensor::f_from_slice(&scaled.rgb)?.f_view([i64::from(side), i64::from(side), 3])?;
            pairs.extend([from_rgb8(&face, true)?, from_rgb8(&face, false)?]);
        }
        let pictures = Tensor::f_cat(&pairs, 0)?.f_to_kind(self.kind)?.f_to_device(self.device)?;
        let latent = match &self.encoder {
            Encoder::Kl(encoder) => encoder.encode(&pictures)?.0,
            Encoder::Tiny(encoder) => encoder.encode(&pictures)?,
        };
        let [channels, rows, columns] = self.shape().map(|length| i64::try_from(length).unwrap_or(0));
        // Two of four channels after one another are one of eight.
        Ok(self.scale.to_unet(&latent)?.f_contiguous()?.f_view([-1, channels, rows, columns])?)
    }
}

fn fingerprint(file: &Checkpoint, prefix: &str, config: &ModelConfig) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let scaled = (config.crop_size, &config.latent_mean, &config.latent_std, config.autoencoder.scaling_factor());
    hash.update(format!("{scaled:?}"));
    for tensor in file.tensors() {
        let Some(name) = tensor.name.strip_prefix(prefix) else { continue };
        if DECODING.iter().all(|decoding| !name.starts_with(decoding)) {
            hash.update(name);
            hash.update(file.read(tensor)?);
        }
    }
    Ok(hash.finalize().into())
}
