//! What a model is made of, as read from `models/<name>/config.json`.
//!
//! In here: one serde struct for each part of the network; `check` says which field cannot be.
//! Not in here: any number of a particular model. The demo model and the full one differ in the file's values only.

mod check;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::lipsync::LipSyncError;
use crate::musetalk::Result;

pub use check::validate_audio;

/// Everything that decides names and shapes of the weights and how they are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The model's, as avatars name it.
    pub name: String,
    /// The spectrogram of the sound.
    pub mel: MelConfig,
    /// What turns it into features.
    pub audio_encoder: WhisperConfig,
    /// How much sound the encoder sees at once.
    pub audio_window: AudioWindow,
    /// The UNet between audio and latents.
    pub unet: UnetConfig,
    /// Latents to pictures and back.
    pub autoencoder: AutoencoderConfig,
    /// Width and height in pixels of the picture that the decoder draws.
    pub crop_size: i64,
    /// The UNet's output is added to the reference latent (the last `out_channels` channels of its input).
    #[serde(default)]
    pub residual: bool,
    /// Per channel: the UNet sees `(latent - mean) / std`. Avatars' latents are stored as the UNet sees them.
    #[serde(default)]
    pub latent_mean: Option<Vec<f32>>,
    /// Their deviation, above 0; 1 if not given.
    #[serde(default)]
    pub latent_std: Option<Vec<f32>>,
    /// First latent row to decode and the one past the last; the rest of the crop is never pasted and stays black.
    #[serde(default)]
    pub decode_rows: Option<[i64; 2]>,
    /// A head that only training uses; its weights, if a checkpoint has them, are not loaded to serve.
    #[serde(default)]
    pub helper_head: Option<HelperHeadConfig>,
    /// The larger decoder that training draws with until its last stage, in which `autoencoder`'s learns from it. Its
    /// weights are not the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_decoder: Option<DecoderSizes>,
}

/// The log-mel spectrogram in front of the audio encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MelConfig {
    /// Mel filters, and so rows of the spectrogram.
    pub n_mels: i64,
    /// What quiet bins are raised to.
    #[serde(default)]
    pub floor: MelFloor,
    /// Of the sound, in hertz.
    #[serde(default = "default_sample_rate")]
    pub sample_rate: i64,
    /// Samples of a window of the spectrum.
    #[serde(default = "default_n_fft")]
    pub n_fft: i64,
    /// Samples from one window to the next: a hundredth of a second.
    #[serde(default = "default_hop")]
    pub hop: i64,
}

/// What quiet bins are raised to before they are scaled to about -1 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MelFloor {
    /// Eight decades under the loudest bin of the segment, as Whisper has it: a row changes with sound far from it.
    #[default]
    SegmentMax,
    /// This power, whatever else is in the segment: a row depends on its own 25 ms only.
    Absolute(f64),
}

/// Whisper's encoder; the names are those of its `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhisperConfig {
    /// Rows of the spectrogram that it takes.
    pub n_mels: i64,
    /// Numbers of a hidden state, even.
    pub d_model: i64,
    /// Transformer layers, each of which gives a hidden state besides the input.
    pub encoder_layers: i64,
    /// Heads of each, a divisor of `d_model`.
    pub encoder_attention_heads: i64,
    /// Width of the two linear layers of each.
    pub encoder_ffn_dim: i64,
    /// The most rows of 20 ms that it has positions for.
    pub max_source_positions: i64,
    /// The last hidden state is taken after the final layer norm (true) or before it (MuseTalk 1.0 as first released).
    #[serde(default = "yes")]
    pub final_norm: bool,
}

/// What stretch of audio the encoder sees at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AudioWindow {
    /// From the start of the sentence, in windows of `max_source_positions` rows (30 s), zero padded: MuseTalk.
    Utterance,
    /// A fixed number of 50 Hz rows that ends shortly after the last row the batch needs: constant cost.
    Local {
        /// At least 16, at most `max_source_positions`.
        rows: i64,
    },
}

/// diffusers' `UNet2DConditionModel`; the names are those of `musetalk.json`, which parses as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Of the input: masked and reference latent, so twice the latent's.
    pub in_channels: i64,
    /// Of the output: the latent's.
    pub out_channels: i64,
    /// Channels of each level, from the largest map to the smallest.
    pub block_out_channels: Vec<i64>,
    /// `CrossAttnDownBlock2D` or `DownBlock2D` for each level.
    pub down_block_types: Vec<String>,
    /// `CrossAttnUpBlock2D` or `UpBlock2D` for each level, from the smallest map up.
    pub up_block_types: Vec<String>,
    /// Resnets of each level on the way down; one more on the way up.
    #[serde(default = "two")]
    pub layers_per_block: i64,
    /// The number of heads, in spite of its name: diffusers reads this field so and the checkpoints rely on it.
    pub attention_head_dim: i64,
    /// Numbers of an audio token: the encoder's `d_model`.
    pub cross_attention_dim: i64,
    /// Groups of fewer than 8 channels miss libtorch's vector code on the CPU and cost ten times as much.
    #[serde(default = "default_groups")]
    pub norm_num_groups: i64,
    /// Of the group norms, against dividing by nothing.
    #[serde(default = "default_unet_eps")]
    pub norm_eps: f64,
    /// Whether the time embedding has its cosines first.
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    /// Of the time embedding; time step 0 is the same for any.
    #[serde(default)]
    pub freq_shift: i64,
    /// Only `silu` is supported.
    #[serde(default = "silu")]
    pub act_fn: String,
    /// Only `false` is supported.
    #[serde(default)]
    pub center_input_sample: bool,
    /// Only 1 is supported.
    #[serde(default = "one")]
    pub downsample_padding: i64,
    /// Only 1 is supported.
    #[serde(default = "one_f")]
    pub mid_block_scale_factor: f64,
    /// Nominal only; the real latent's size comes with the latent.
    #[serde(default)]
    pub sample_size: Option<i64>,
    /// As the file has it; says nothing more.
    #[serde(default, rename = "_class_name", skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// As the file has it; says nothing more.
    #[serde(default, rename = "_diffusers_version", skip_serializing_if = "Option::is_none")]
    pub diffusers_version: Option<String>,
}

/// Which kind of autoencoder, and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AutoencoderConfig {
    /// Stable Diffusion's, as MuseTalk has it.
    Kl(KlConfig),
    /// TAESD's kind: quicker, and close to it.
    Tiny(TinyConfig),
}

/// diffusers' `AutoencoderKL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    /// Channels of a picture.
    #[serde(default = "three")]
    pub in_channels: i64,
    /// Channels of a decoded picture.
    #[serde(default = "three")]
    pub out_channels: i64,
    /// Channels of each level, from the picture to the latent; each but the last halves the map.
    pub block_out_channels: Vec<i64>,
    /// Resnets of each level of the encoder; the decoder has one more.
    #[serde(default = "two")]
    pub layers_per_block: i64,
    /// Channels of the latent.
    #[serde(default = "four")]
    pub latent_channels: i64,
    /// Groups of the norms, a divisor of all channels.
    #[serde(default = "default_groups")]
    pub norm_num_groups: i64,
    /// The UNet works on latents times this.
    #[serde(default = "default_kl_scale")]
    pub scaling_factor: f64,
}

/// diffusers' `AutoencoderTiny` (TAESD), with channel counts that may differ from level to level and, instead of
/// convolutions at full resolution, a pixel shuffle at the end of the decoder and the start of the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TinyConfig {
    /// Channels of a picture.
    #[serde(default = "three")]
    pub in_channels: i64,
    /// Channels of a decoded picture.
    #[serde(default = "three")]
    pub out_channels: i64,
    /// Channels of the latent.
    #[serde(default = "four")]
    pub latent_channels: i64,
    /// From the picture to the latent.
    pub encoder_block_out_channels: Vec<i64>,
    /// Residual blocks of each of those levels.
    pub num_encoder_blocks: Vec<i64>,
    /// From the latent to the picture.
    pub decoder_block_out_channels: Vec<i64>,
    /// Residual blocks of each of those levels.
    pub num_decoder_blocks: Vec<i64>,
    /// What each level of the decoder but the last enlarges the map by.
    #[serde(default = "two")]
    pub upsampling_scaling_factor: i64,
    /// The decoder's last convolution gives `out_channels` times the square of this, shuffled into pixels.
    #[serde(default = "one")]
    pub pixel_shuffle: i64,
    /// The encoder's first convolution sees squares of this many pixels as channels.
    #[serde(default = "one")]
    pub pixel_unshuffle: i64,
    /// The UNet works on latents times this.
    #[serde(default = "one_f")]
    pub scaling_factor: f64,
}

/// What makes one decoder of a [`TinyConfig`] larger than another; the fields are that one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderSizes {
    /// From the latent to the picture.
    pub decoder_block_out_channels: Vec<i64>,
    /// Residual blocks of each of those levels.
    pub num_decoder_blocks: Vec<i64>,
    /// Pixels, across and down, that the last convolution gives at once.
    pub pixel_shuffle: i64,
}

/// A head on the audio features that predicts the mouth's parameters while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperHeadConfig {
    /// Numbers that describe a mouth.
    pub parameters: i64,
    /// Width of its hidden layer.
    pub hidden: i64,
}

fn default_sample_rate() -> i64 {
    16_000
}
fn default_n_fft() -> i64 {
    400
}
fn default_hop() -> i64 {
    160
}
fn default_groups() -> i64 {
    32
}
fn default_unet_eps() -> f64 {
    1e-5
}
fn default_kl_scale() -> f64 {
    0.18215
}
fn silu() -> String {
    "silu".to_owned()
}
fn yes() -> bool {
    true
}
fn one() -> i64 {
    1
}
fn two() -> i64 {
    2
}
fn three() -> i64 {
    3
}
fn four() -> i64 {
    4
}
fn one_f() -> f64 {
    1.0
}

impl Default for MelConfig {
    /// Whisper's.
    fn default() -> Self {
        Self {
            n_mels: 80,
            floor: MelFloor::SegmentMax,
            sample_rate: default_sample_rate(),
            n_fft: default_n_fft(),
            hop: default_hop(),
        }
    }
}

impl ModelConfig {
    /// Reads and checks a model's `config.json`.
    pub fn load(path: &Path) -> Result<Self> {
        let model = |problem: String| LipSyncError::Model { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| model(error.to_string()))?;
        let config: Self = serde_json::from_str(&text).map_err(|error| model(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Rows and columns of the latent.
    pub fn latent_size(&self) -> i64 {
        self.crop_size / self.autoencoder.scale()
    }
}

impl AutoencoderConfig {
    /// Channels of the latent.
    pub fn latent_channels(&self) -> i64 {
        match self {
            Self::Kl(kl) => kl.latent_channels,
            Self::Tiny(tiny) => tiny.latent_channels,
        }
    }

    /// Pixels of the picture per cell of the latent, along one side.
    pub fn scale(&self) -> i64 {
        match self {
            Self::Kl(kl) => 1 << (kl.block_out_channels.len() - 1),
            Self::Tiny(tiny) => tiny.decoder_scale(),
        }
    }

    /// What latents are multiplied by for the UNet.
    pub fn scaling_factor(&self) -> f64 {
        match self {
            Self::Kl(kl) => kl.scaling_factor,
            Self::Tiny(tiny) => tiny.scaling_factor,
        }
    }
}

impl TinyConfig {
    /// The same with a decoder of other sizes.
    pub fn with_decoder(&self, sizes: &DecoderSizes) -> Self {
        let DecoderSizes { decoder_block_out_channels, num_decoder_blocks, pixel_shuffle } = sizes.clone();
        Self { decoder_block_out_channels, num_decoder_blocks, pixel_shuffle, ..self.clone() }
    }

    pub(super) fn encoder_scale(&self) -> i64 {
        self.pixel_unshuffle << (self.encoder_block_out_channels.len() - 1)
    }

    pub(in crate::musetalk) fn decoder_scale(&self) -> i64 {
        let steps = (1..self.decoder_block_out_channels.len()).map(|_| self.upsampling_scaling_factor);
        steps.fold(self.pixel_shuffle, i64::saturating_mul)
    }
}
