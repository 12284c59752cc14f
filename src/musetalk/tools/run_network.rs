//! One network of a model folder, run on named tensors: to check a conversion against Python, and our own code.
//!
//! The folder is this project's, or what `save_pretrained` or `torch.save(state_dict())` wrote with its `config.json`.
//! Everything about the network comes from the folder.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, nn};

use super::face_encoder::FaceEncoder;
use super::face_parser::FaceParser;
use super::named_tensors::{Inputs, write_outputs};
use crate::lipsync::LipSyncError;
use crate::models::Checkpoint;
use crate::models::catalog::{FACE_PARSER_WEIGHTS, WHOLE};
use crate::models::folder::{CONFIGS, WEIGHTS, first_of};
use crate::models::names::{audio_encoder_prefix, current_name};
use crate::musetalk::Result;
use crate::musetalk::device::Precision;
use crate::musetalk::network::config::{
    AudioWindow, AutoencoderConfig, KlConfig, MelConfig, ModelConfig, TinyConfig, UnetConfig, WhisperConfig,
};
use crate::musetalk::network::layers::{blank, channels_last};
use crate::musetalk::network::mel::LogMel;
use crate::musetalk::network::tiny_vae::{TinyVaeDecoder, TinyVaeEncoder};
use crate::musetalk::network::unet::Unet;
use crate::musetalk::network::vae::AutoencoderKl;
use crate::musetalk::network::whisper::WhisperEncoder;
use crate::musetalk::serving::MuseTalk;
use crate::musetalk::weights::published::{Published, load_extractor};
use crate::musetalk::weights::{Mapping, load_checkpoint};
use crate::picture::RgbPicture;

/// Which network, and which half of an autoencoder; `Latents` is what an avatar's faces are to a model, `FaceParsing` what
/// their masks may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    Unet,
    VaeEncode,
    VaeDecode,
    TaesdDecode,
    AudioEncoder,
    Mel,
    Latents,
    FaceParsing,
}

/// Reads the inputs from the file `inputs`, runs the network of `folder`, writes what comes out as 32-bit floats.
pub fn run(
    folder: &Path,
    network: Network,
    (inputs, output): (&Path, &Path),
    device: Device,
    precision: Precision,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let inputs = Inputs::read(inputs, device, precision.kind())?;
    write_outputs(output, Opened { folder, device, kind: precision.kind() }.run(network, &inputs)?)
}

/// Draws from the `sample` and `tokens` of the file `inputs`, and writes the `latent` and the whole `picture` into the file
/// `output`: what serving computes, for comparisons.
pub fn draw(model: &MuseTalk, (inputs, output): (&Path, &Path)) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let inputs = Inputs::read(inputs, model.device(), model.precisions().unet.kind())?;
    let config = model.config();
    let size = config.latent_size();
    let sample = inputs.get("sample", &[0, config.unet.in_channels, size, size])?;
    let tokens = inputs.get("tokens", &[sample.size4()?.0, 0, config.unet.cross_attention_dim])?;
    let latent = model.generate(&channels_last(&sample)?, &tokens)?;
    let picture = model.decode(&latent, 0, size)?;
    write_outputs(output, vec![("latent", latent), ("picture", picture)])
}

/// A folder, and how its networks are to run.
struct Opened<'a> {
    folder: &'a Path,
    device: Device,
    kind: Kind,
}

impl Opened<'_> {
    fn run(&self, network: Network, inputs: &Inputs<'_>) -> Result<Vec<(&'static str, Tensor)>> {
        match network {
            Network::Unet => {
                let config = self.unet_config()?;
                let unet = self.build("unet", |p| Unet::new(p, &config))?;
                let sample = inputs.get("sample", &[0, config.in_channels, 0, 0])?;
                let step = 1 << (config.block_out_channels.len() - 1);
                let (batch, _, height, width) = sample.size4()?;
                if height % step != 0 || width % step != 0 {
                    let problem = format!("is {height} x {width}, both must be multiples of {step}");
                    return Err(LipSyncError::Config { field: "sample".to_owned(), problem });
                }
                let context = inputs.get("encoder_hidden_states", &[batch, 0, config.cross_attention_dim])?;
                Ok(vec![("out", unet.forward(&sample, &context)?)])
            }
            Network::VaeEncode => {
                let config = self.kl_config()?;
                let step = 1 << (config.block_out_channels.len() - 1);
                let image = inputs.get("image", &[0, config.in_channels, 0, 0])?;
                let (_, _, height, width) = image.size4()?;
                if height < step || width < step {
                    let problem = format!("is {height} x {width}, at least {step} x {step} is needed");
                    return Err(LipSyncError::Config { field: "image".to_owned(), problem });
                }
                let (mean, logvar) = self.build("autoencoder", |p| AutoencoderKl::new(p, &config))?.encode(&image)?;
                Ok(vec![("mean", mean), ("logvar", logvar)])
            }
            Network::VaeDecode => {
                let config = self.kl_config()?;
                let latent = inputs.get("latent", &[0, config.latent_channels, 0, 0])?;
                Ok(vec![("out", self.build("autoencoder", |p| AutoencoderKl::new(p, &config))?.decode(&latent)?)])
            }
            Network::TaesdDecode => {
                let config = self.tiny_config()?;
                let latent = inputs.get("latent", &[0, config.latent_channels, 0, 0])?;
                let both = |p: &nn::Path<'_>| {
                    TinyVaeEncoder::new(&(p / "encoder"), &config)?;
                    TinyVaeDecoder::new(&(p / "decoder"), &config)
                };
                Ok(vec![("out", self.build("autoencoder", both)?.decode(&latent)?)])
            }
            Network::AudioEncoder => {
                let config = self.whisper_config()?;
                let mel = inputs.get("mel", &[0, config.n_mels, 0])?;
                let encoder = self.build("audio_encoder", |p| WhisperEncoder::new(p, &config))?;
                Ok(vec![("out", encoder.hidden_states(&mel)?)])
            }
            Network::Mel => {
                // A spectrogram has no weights and is made in 32 bits whatever the networks run in.
                Ok(vec![("out", self.mel(&inputs.get_as("audio", &[0], Kind::Float)?)?)])
            }
            Network::Latents => Ok(vec![("latents", self.latents(&inputs.rgb8("face")?)?)]),
            Network::FaceParsing => Ok(vec![("classes", self.classes(&inputs.rgb8("face")?)?)]),
        }
    }

    /// What an avatar's faces are to the UNet.
    fn latents(&self, faces: &[RgbPicture]) -> Result<Tensor> {
        if !matches!(self.config()?, Published::Whole(_)) {
            return self.other("a whole model's, which says how large a face is");
        }
        let encoder = FaceEncoder::load_as(self.folder, self.device, self.kind)?;
        let latents = faces.chunks(1).map(|face| encoder.encode(face)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&latents, 0)?)
    }

    /// What face parsing finds, `[faces, side, side]`.
    fn classes(&self, faces: &[RgbPicture]) -> Result<Tensor> {
        let parser = FaceParser::load(&self.folder.join(FACE_PARSER_WEIGHTS), self.device)?;
        let side = i64::try_from(FaceParser::SIDE).unwrap_or(0);
        let map = |face| Ok(Tensor::f_from_slice(&parser.classes(face)?)?.f_view([side, side])?);
        let maps = faces.iter().map(map).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_stack(&maps, 0)?.f_to_kind(Kind::Float)?)
    }

    /// `[segments, n_mels, frames]`: as Whisper's extractor, every segment of 30 s padded with silence.
    fn mel(&self, audio: &Tensor) -> Result<Tensor> {
        let (config, segment) = self.mel_config(audio.size1()?)?;
        let mel = LogMel::new(&config, self.device)?;
        let samples = audio.size1()?;
        let segments = (0..samples).step_by(usize::try_from(segment).unwrap_or(usize::MAX));
        let segments = segments.map(|start| {
            let part = audio.f_narrow(0, start, segment.min(samples - start))?;
            mel.segment(&part.f_constant_pad_nd([0, segment - part.size1()?])?)
        });
        Ok(Tensor::f_stack(&segments.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// Builds a network and fills it from the folder's weights, all of which must fit.
    fn build<T>(&self, part: &str, make: impl FnOnce(&nn::Path<'_>) -> Result<T>) -> Result<T> {
        let mut store = nn::VarStore::new(self.device);
        let built = blank(|| make(&store.root()))?;
        let (path, prefix) = self.weights(part)?;
        let file = Checkpoint::open(&path)?;
        let is_encoder = part == "audio_encoder" && prefix.is_empty();
        let prefix = if is_encoder { audio_encoder_prefix(&file) } else { &prefix };
        load_checkpoint(&store, &file, Mapping { prefix, rename: current_name, ..Mapping::default() })?;
        store.freeze();
        store.set_kind(self.kind);
        Ok(built)
    }

    /// The file with a network's weights, and what is before its tensors' names there.
    fn weights(&self, part: &str) -> Result<(PathBuf, String)> {
        if !matches!(self.config()?, Published::Whole(_)) {
            return Ok((first_of(self.folder, &WEIGHTS)?, String::new()));
        }
        let file = format!("{part}.safetensors");
        let own = first_of(self.folder, &[&file, WHOLE])?;
        let prefix = if own.ends_with(WHOLE) { format!("{part}.") } else { String::new() };
        Ok((own, prefix))
    }

    fn config(&self) -> Result<Published> {
        Published::load(&first_of(self.folder, &CONFIGS)?)
    }

    fn other<T>(&self, wanted: &str) -> Result<T> {
        let path = self.folder.display().to_string();
        Err(LipSyncError::Model { path, problem: format!("its configuration is not {wanted}") })
    }

    fn unet_config(&self) -> Result<UnetConfig> {
        match self.config()? {
            Published::Unet(config) => Ok(config),
            Published::Whole(model) => Ok(model.unet),
            _ => self.other("a UNet2DConditionModel's"),
        }
    }

    fn kl_config(&self) -> Result<KlConfig> {
        match self.config()? {
            Published::Kl(config) => Ok(config),
            Published::Whole(model) => match model.autoencoder {
                AutoencoderConfig::Kl(config) => Ok(config),
                AutoencoderConfig::Tiny(_) => self.other("an AutoencoderKL's"),
            },
            _ => self.other("an AutoencoderKL's"),
        }
    }

    fn tiny_config(&self) -> Result<TinyConfig> {
        match self.config()? {
            Published::Tiny(config) => Ok(config),
            Published::Whole(model) => match model.autoencoder {
                AutoencoderConfig::Tiny(config) => Ok(config),
                AutoencoderConfig::Kl(_) => self.other("an AutoencoderTiny's"),
            },
            _ => self.other("an AutoencoderTiny's"),
        }
    }

    fn whisper_config(&self) -> Result<WhisperConfig> {
        match self.config()? {
            Published::Whisper(config) => Ok(config),
            Published::Whole(model) => Ok(model.audio_encoder),
            _ => self.other("a Whisper's"),
        }
    }

    /// The spectrogram's settings and the samples of a segment, where `samples` are given.
    fn mel_config(&self, samples: i64) -> Result<(MelConfig, i64)> {
        if let Ok(extractor) = first_of(self.folder, &["preprocessor_config.json"]) {
            return load_extractor(&extractor);
        }
        match self.config()? {
            Published::Whisper(WhisperConfig { n_mels, max_source_positions, .. }) => {
                let mel = MelConfig { n_mels, ..MelConfig::default() };
                let segment = 2 * max_source_positions * mel.hop;
                Ok((mel, segment))
            }
            Published::Whole(model) => Ok(segment_of(*model, samples)),
            _ => self.other("a Whisper's"),
        }
    }
}

fn segment_of(model: ModelConfig, samples: i64) -> (MelConfig, i64) {
    let segment = match model.audio_window {
        AudioWindow::Utterance => 2 * model.audio_encoder.max_source_positions * model.mel.hop,
        // Cut from a stream, so there is nothing to pad to.
        AudioWindow::Local { .. } => samples,
    };
    (model.mel, segment)
}
