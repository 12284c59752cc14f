//! What a model is made of, as read from `models/<name>/config.json`.
//!
//! In here: one serde struct for each part of the network, and the checks that name the field that is wrong.
//! Not in here: any number of a particular model. The demo model and the full one differ in this file's values only.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Result;
use crate::lipsync::LipSyncError;

/// Everything that decides names and shapes of the weights and how they are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    pub name: String,
    pub mel: MelConfig,
    pub audio_encoder: WhisperConfig,
    pub audio_window: AudioWindow,
    pub unet: UnetConfig,
    pub autoencoder: AutoencoderConfig,
    /// Width and height in pixels of the picture that the decoder draws.
    pub crop_size: i64,
    /// The UNet's output is added to the reference latent (the last `out_channels` channels of its input).
    #[serde(default)]
    pub residual: bool,
    /// Per channel: the UNet sees `(latent - mean) / std`. Avatars' latents are stored as the UNet sees them.
    #[serde(default)]
    pub latent_mean: Option<Vec<f32>>,
    #[serde(default)]
    pub latent_std: Option<Vec<f32>>,
    /// First latent row to decode and the one past the last; the rest of the crop is never pasted and stays black.
    #[serde(default)]
    pub decode_rows: Option<[i64; 2]>,
    /// A head that only training uses; its weights, if a checkpoint has them, are not loaded to serve.
    #[serde(default)]
    pub helper_head: Option<HelperHeadConfig>,
}

/// The log-mel spectrogram in front of the audio encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MelConfig {
    pub n_mels: i64,
    #[serde(default)]
    pub floor: MelFloor,
    #[serde(default = "default_sample_rate")]
    pub sample_rate: i64,
    #[serde(default = "default_n_fft")]
    pub n_fft: i64,
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
    pub n_mels: i64,
    pub d_model: i64,
    pub encoder_layers: i64,
    pub encoder_attention_heads: i64,
    pub encoder_ffn_dim: i64,
    pub max_source_positions: i64,
    /// The last hidden state is taken after the final layer norm (true) or before it (MuseTalk 1.0 as first released).
    #[serde(default = "yes")]
    pub final_norm: bool,
}

/// What stretch of audio the encoder sees at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AudioWindow {
    /// From the start of the segment, in windows of `max_source_positions` rows (30 s), zero padded: MuseTalk.
    Utterance,
    /// A fixed number of 50 Hz rows that ends shortly after the last row the batch needs: constant cost.
    Local { rows: i64 },
}

/// diffusers' `UNet2DConditionModel`; the names are those of `musetalk.json`, which parses as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub block_out_channels: Vec<i64>,
    pub down_block_types: Vec<String>,
    pub up_block_types: Vec<String>,
    #[serde(default = "two")]
    pub layers_per_block: i64,
    /// The number of heads, in spite of its name: diffusers reads this field so and the checkpoints rely on it.
    pub attention_head_dim: i64,
    pub cross_attention_dim: i64,
    #[serde(default = "default_groups")]
    pub norm_num_groups: i64,
    #[serde(default = "default_unet_eps")]
    pub norm_eps: f64,
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    #[serde(default)]
    pub freq_shift: i64,
    #[serde(default = "silu")]
    pub act_fn: String,
    #[serde(default)]
    pub center_input_sample: bool,
    #[serde(default = "one")]
    pub downsample_padding: i64,
    #[serde(default = "one_f")]
    pub mid_block_scale_factor: f64,
    /// Nominal only; the real latent's size comes with the latent.
    #[serde(default)]
    pub sample_size: Option<i64>,
    #[serde(default, rename = "_class_name", skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    #[serde(default, rename = "_diffusers_version", skip_serializing_if = "Option::is_none")]
    pub diffusers_version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AutoencoderConfig {
    Kl(KlConfig),
    Tiny(TinyConfig),
}

/// diffusers' `AutoencoderKL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    #[serde(default = "three")]
    pub in_channels: i64,
    #[serde(default = "three")]
    pub out_channels: i64,
    pub block_out_channels: Vec<i64>,
    #[serde(default = "two")]
    pub layers_per_block: i64,
    #[serde(default = "four")]
    pub latent_channels: i64,
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
    #[serde(default = "three")]
    pub in_channels: i64,
    #[serde(default = "three")]
    pub out_channels: i64,
    #[serde(default = "four")]
    pub latent_channels: i64,
    /// From the picture to the latent.
    pub encoder_block_out_channels: Vec<i64>,
    pub num_encoder_blocks: Vec<i64>,
    /// From the latent to the picture.
    pub decoder_block_out_channels: Vec<i64>,
    pub num_decoder_blocks: Vec<i64>,
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

/// A head on the audio features that predicts the mouth's parameters while training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperHeadConfig {
    pub parameters: i64,
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

fn ensure(holds: bool, field: &str, problem: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(LipSyncError::Config { field: field.to_owned(), problem: problem() }) }
}

fn positive(field: &str, value: i64) -> Result<()> {
    // The upper bound keeps products of two sizes far from overflow, whatever a file says.
    ensure((1..=1 << 20).contains(&value), field, || format!("{value} is not between 1 and {}", 1 << 20))
}

fn all_positive(field: &str, values: &[i64]) -> Result<()> {
    ensure((1..=16).contains(&values.len()), field, || format!("has {} entries, 1 to 16 are possible", values.len()))?;
    values.iter().try_for_each(|&value| positive(field, value))
}

fn divides(divisor: i64, value: i64, field: &str) -> Result<()> {
    ensure(value % divisor == 0, field, || format!("{divisor} does not divide {value} channels"))
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

    /// Whether the parts can exist and fit together.
    pub fn validate(&self) -> Result<()> {
        self.mel.validate()?;
        self.audio_encoder.validate()?;
        self.unet.validate()?;
        self.autoencoder.validate()?;
        positive("crop_size", self.crop_size)?;
        ensure(self.mel.n_mels == self.audio_encoder.n_mels, "audio_encoder.n_mels", || {
            format!("is {}, but mel.n_mels is {}", self.audio_encoder.n_mels, self.mel.n_mels)
        })?;
        ensure(self.mel.sample_rate == 100 * self.mel.hop, "mel.hop", || {
            format!(
                "{} is not a hundredth of mel.sample_rate, and the encoder needs 100 mel frames a second",
                self.mel.hop
            )
        })?;
        ensure(self.unet.cross_attention_dim == self.audio_encoder.d_model, "unet.cross_attention_dim", || {
            format!("is {}, but audio_encoder.d_model is {}", self.unet.cross_attention_dim, self.audio_encoder.d_model)
        })?;
        if let AudioWindow::Local { rows } = self.audio_window {
            let most = self.audio_encoder.max_source_positions;
            ensure((16..=most).contains(&rows), "audio_window.local.rows", || {
                format!("{rows} is not between 16 and audio_encoder.max_source_positions ({most})")
            })?;
        }
        let channels = self.autoencoder.latent_channels();
        ensure(self.unet.out_channels == channels, "unet.out_channels", || {
            format!("is {}, but the autoencoder has {channels} latent channels", self.unet.out_channels)
        })?;
        ensure(self.unet.in_channels == 2 * channels, "unet.in_channels", || {
            format!("is {}, but masked and reference latent have {} channels", self.unet.in_channels, 2 * channels)
        })?;
        self.validate_latents()
    }

    fn validate_latents(&self) -> Result<()> {
        let channels = self.autoencoder.latent_channels();
        for (field, values) in [("latent_mean", &self.latent_mean), ("latent_std", &self.latent_std)] {
            let Some(values) = values else { continue };
            ensure(i64::try_from(values.len()) == Ok(channels), field, || {
                format!("has {} entries for {channels} latent channels", values.len())
            })?;
            ensure(values.iter().all(|value| value.is_finite()), field, || {
                "has an entry that is no number".to_owned()
            })?;
        }
        let stds = self.latent_std.as_deref().unwrap_or_default();
        ensure(stds.iter().all(|&std| std > 0.0), "latent_std", || "has an entry that is not above 0".to_owned())?;
        let scale = self.autoencoder.scale();
        let step = scale << (self.unet.block_out_channels.len() - 1);
        ensure(self.crop_size % step == 0, "crop_size", || {
            format!("{} is not a multiple of {step}, what autoencoder and UNet shrink it by", self.crop_size)
        })?;
        let rows = self.crop_size / scale;
        if let Some([first, end]) = self.decode_rows {
            ensure(0 <= first && first < end && end <= rows, "decode_rows", || {
                format!("[{first}, {end}) is not a run of the {rows} latent rows")
            })?;
        }
        Ok(())
    }

    /// Rows and columns of the latent.
    pub fn latent_size(&self) -> i64 {
        self.crop_size / self.autoencoder.scale()
    }
}

impl MelConfig {
    pub fn validate(&self) -> Result<()> {
        positive("mel.n_mels", self.n_mels)?;
        positive("mel.sample_rate", self.sample_rate)?;
        positive("mel.n_fft", self.n_fft)?;
        positive("mel.hop", self.hop)?;
        if let MelFloor::Absolute(power) = self.floor {
            ensure(power.is_finite() && power > 0.0, "mel.floor.absolute", || format!("{power} is not above 0"))?;
        }
        Ok(())
    }
}

impl WhisperConfig {
    pub fn validate(&self) -> Result<()> {
        positive("audio_encoder.n_mels", self.n_mels)?;
        positive("audio_encoder.d_model", self.d_model)?;
        positive("audio_encoder.encoder_layers", self.encoder_layers)?;
        positive("audio_encoder.encoder_attention_heads", self.encoder_attention_heads)?;
        positive("audio_encoder.encoder_ffn_dim", self.encoder_ffn_dim)?;
        positive("audio_encoder.max_source_positions", self.max_source_positions)?;
        divides(2, self.d_model, "audio_encoder.d_model")?;
        divides(self.encoder_attention_heads, self.d_model, "audio_encoder.encoder_attention_heads")
    }
}

impl UnetConfig {
    pub fn validate(&self) -> Result<()> {
        positive("unet.in_channels", self.in_channels)?;
        positive("unet.out_channels", self.out_channels)?;
        all_positive("unet.block_out_channels", &self.block_out_channels)?;
        positive("unet.layers_per_block", self.layers_per_block)?;
        positive("unet.attention_head_dim", self.attention_head_dim)?;
        positive("unet.cross_attention_dim", self.cross_attention_dim)?;
        positive("unet.norm_num_groups", self.norm_num_groups)?;
        let levels = self.block_out_channels.len();
        for (field, types, with, without) in [
            ("unet.down_block_types", &self.down_block_types, "CrossAttnDownBlock2D", "DownBlock2D"),
            ("unet.up_block_types", &self.up_block_types, "CrossAttnUpBlock2D", "UpBlock2D"),
        ] {
            ensure(types.len() == levels, field, || format!("has {} entries for {levels} levels", types.len()))?;
            if let Some(other) = types.iter().find(|kind| *kind != with && *kind != without) {
                return ensure(false, field, || format!("{other:?} is neither {with} nor {without}"));
            }
        }
        for &channels in &self.block_out_channels {
            divides(self.norm_num_groups, channels, "unet.norm_num_groups")?;
            divides(self.attention_head_dim, channels, "unet.attention_head_dim")?;
        }
        divides(2, self.block_out_channels[0], "unet.block_out_channels")?;
        ensure(self.act_fn == "silu", "unet.act_fn", || format!("{:?} is not supported, only \"silu\"", self.act_fn))?;
        ensure(!self.center_input_sample, "unet.center_input_sample", || "true is not supported".to_owned())?;
        ensure(self.downsample_padding == 1, "unet.downsample_padding", || "only 1 is supported".to_owned())?;
        ensure(self.mid_block_scale_factor == 1.0, "unet.mid_block_scale_factor", || "only 1 is supported".to_owned())
    }
}

impl AutoencoderConfig {
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Kl(kl) => kl.validate(),
            Self::Tiny(tiny) => tiny.validate(),
        }
    }

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

    pub fn scaling_factor(&self) -> f64 {
        match self {
            Self::Kl(kl) => kl.scaling_factor,
            Self::Tiny(tiny) => tiny.scaling_factor,
        }
    }
}

fn usable_scale(value: f64) -> Result<()> {
    ensure(value.is_finite() && value > 0.0, "autoencoder.scaling_factor", || format!("{value} is not above 0"))
}

impl KlConfig {
    pub fn validate(&self) -> Result<()> {
        positive("autoencoder.in_channels", self.in_channels)?;
        positive("autoencoder.out_channels", self.out_channels)?;
        positive("autoencoder.latent_channels", self.latent_channels)?;
        positive("autoencoder.layers_per_block", self.layers_per_block)?;
        positive("autoencoder.norm_num_groups", self.norm_num_groups)?;
        all_positive("autoencoder.block_out_channels", &self.block_out_channels)?;
        usable_scale(self.scaling_factor)?;
        for &channels in &self.block_out_channels {
            divides(self.norm_num_groups, channels, "autoencoder.norm_num_groups")?;
        }
        Ok(())
    }
}

impl TinyConfig {
    pub fn validate(&self) -> Result<()> {
        positive("autoencoder.in_channels", self.in_channels)?;
        positive("autoencoder.out_channels", self.out_channels)?;
        positive("autoencoder.latent_channels", self.latent_channels)?;
        all_positive("autoencoder.encoder_block_out_channels", &self.encoder_block_out_channels)?;
        all_positive("autoencoder.decoder_block_out_channels", &self.decoder_block_out_channels)?;
        usable_scale(self.scaling_factor)?;
        for (field, blocks, channels) in [
            ("autoencoder.num_encoder_blocks", &self.num_encoder_blocks, &self.encoder_block_out_channels),
            ("autoencoder.num_decoder_blocks", &self.num_decoder_blocks, &self.decoder_block_out_channels),
        ] {
            ensure(blocks.len() == channels.len(), field, || {
                format!("has {} entries for {} levels", blocks.len(), channels.len())
            })?;
            ensure(blocks.iter().all(|count| (0..=64).contains(count)), field, || "is not 0 to 64 each".to_owned())?;
        }
        for (field, value) in [
            ("autoencoder.upsampling_scaling_factor", self.upsampling_scaling_factor),
            ("autoencoder.pixel_shuffle", self.pixel_shuffle),
            ("autoencoder.pixel_unshuffle", self.pixel_unshuffle),
        ] {
            ensure((1..=8).contains(&value), field, || format!("{value} is not between 1 and 8"))?;
        }
        let (down, up) = (self.encoder_scale(), self.decoder_scale());
        ensure(down == up, "autoencoder.pixel_unshuffle", || {
            format!("the encoder shrinks by {down}, but the decoder grows by {up}")
        })
    }

    fn encoder_scale(&self) -> i64 {
        self.pixel_unshuffle << (self.encoder_block_out_channels.len() - 1)
    }

    fn decoder_scale(&self) -> i64 {
        let steps = (1..self.decoder_block_out_channels.len()).map(|_| self.upsampling_scaling_factor);
        steps.fold(self.pixel_shuffle, i64::saturating_mul)
    }
}
