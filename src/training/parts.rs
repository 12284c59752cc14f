//! The parts of the network as training sees them: each in a store of its own, so that each can be trained, frozen,
//! saved and loaded alone. The modules are those that serve.
//!
//! Not in here: losses and stages, files (`checkpoints`), and the model as the server runs it
//! (`musetalk::MuseTalk`).

use tch::{Device, Tensor, nn};

use super::{Result, TrainingError};
use crate::lipsync::LipSyncError;
use crate::musetalk::network::audio_rows::FRAME_ROWS;
use crate::musetalk::network::config::{AutoencoderConfig, HelperHeadConfig, ModelConfig, TinyConfig};
use crate::musetalk::network::positional_encoding::positional_encoding;
use crate::musetalk::network::tiny_vae::{TinyVaeDecoder, TinyVaeEncoder};
use crate::musetalk::network::unet::Unet;
use crate::musetalk::network::whisper::WhisperEncoder;
use crate::musetalk::weights::use_channels_last;

/// Predicts the mouth's parameters from a frame's audio tokens: it makes the audio encoder aware of lips before and
/// while the image network learns to draw them. Training only.
#[derive(Debug)]
pub(super) struct HelperHead {
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
pub(super) struct AudioPart {
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
pub(super) struct UnetPart {
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

/// The half of the autoencoder that makes latents.
#[derive(Debug)]
pub struct EncoderPart {
    /// Its weights, in 32 bits.
    pub store: nn::VarStore,
    pub(super) encoder: TinyVaeEncoder,
}

impl EncoderPart {
    /// With random weights; fails if the configuration's autoencoder is none that can be trained here.
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = TinyVaeEncoder::new(&(store.root() / "autoencoder" / "encoder"), tiny(config)?)?;
        use_channels_last(&store)?;
        Ok(Self { store, encoder })
    }
}

#[derive(Debug)]
pub(super) struct DecoderPart {
    pub store: nn::VarStore,
    pub decoder: TinyVaeDecoder,
}

impl DecoderPart {
    /// The one that serves.
    pub fn new(config: &ModelConfig) -> Result<Self> {
        Self::of(tiny(config)?)
    }

    /// The one that is trained with everything else: a larger one that the one that serves learns from, or that one itself.
    pub fn teacher(config: &ModelConfig) -> Result<Self> {
        let tiny = tiny(config)?;
        config.teacher_decoder.as_ref().map_or_else(|| Self::of(tiny), |sizes| Self::of(&tiny.with_decoder(sizes)))
    }

    fn of(config: &TinyConfig) -> Result<Self> {
        let store = nn::VarStore::new(Device::Cpu);
        let decoder = TinyVaeDecoder::new(&(store.root() / "autoencoder" / "decoder"), config)?;
        use_channels_last(&store)?;
        Ok(Self { store, decoder })
    }
}

fn wrong(field: &str, problem: &str) -> TrainingError {
    LipSyncError::Config { field: field.to_owned(), problem: problem.to_owned() }.into()
}

fn tiny(config: &ModelConfig) -> Result<&TinyConfig> {
    match &config.autoencoder {
        AutoencoderConfig::Tiny(tiny) => Ok(tiny),
        AutoencoderConfig::Kl(_) => Err(wrong("autoencoder.kind", "only \"tiny\" can be trained here")),
    }
}
