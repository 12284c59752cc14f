//! Whether a configuration can be built and its parts fit together; the error names the field that is wrong.
//!
//! Everything that would make libtorch or arithmetic fail later is refused here, since the file may be anyone's.

use super::{
    AudioWindow, AutoencoderConfig, KlConfig, MelConfig, MelFloor, ModelConfig, TinyConfig, UnetConfig, WhisperConfig,
};
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;

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

/// Whether the parts that hear can exist and fit together.
pub fn validate_audio(mel: &MelConfig, encoder: &WhisperConfig, window: AudioWindow) -> Result<()> {
    mel.validate()?;
    encoder.validate()?;
    ensure(mel.n_mels == encoder.n_mels, "audio_encoder.n_mels", || {
        format!("is {}, but mel.n_mels is {}", encoder.n_mels, mel.n_mels)
    })?;
    ensure(mel.sample_rate == 100 * mel.hop, "mel.hop", || {
        format!("{} is not a hundredth of mel.sample_rate, and the encoder needs 100 mel frames a second", mel.hop)
    })?;
    if let AudioWindow::Local { rows } = window {
        let most = encoder.max_source_positions;
        ensure((16..=most).contains(&rows), "audio_window.local.rows", || {
            format!("{rows} is not between 16 and audio_encoder.max_source_positions ({most})")
        })?;
    }
    Ok(())
}

impl ModelConfig {
    /// Whether the parts can exist and fit together.
    pub fn validate(&self) -> Result<()> {
        validate_audio(&self.mel, &self.audio_encoder, self.audio_window)?;
        self.unet.validate()?;
        self.autoencoder.validate()?;
        if let Some(sizes) = &self.teacher_decoder {
            let AutoencoderConfig::Tiny(tiny) = &self.autoencoder else {
                return ensure(false, "teacher_decoder", || "only a \"tiny\" autoencoder can have one".to_owned());
            };
            let checked = tiny.with_decoder(sizes).validate();
            checked.or_else(|error| ensure(false, "teacher_decoder", || error.to_string()))?;
        }
        positive("crop_size", self.crop_size)?;
        ensure(self.unet.cross_attention_dim == self.audio_encoder.d_model, "unet.cross_attention_dim", || {
            format!("is {}, but audio_encoder.d_model is {}", self.unet.cross_attention_dim, self.audio_encoder.d_model)
        })?;
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
}

impl MelConfig {
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
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
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
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
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
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
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
        match self {
            Self::Kl(kl) => kl.validate(),
            Self::Tiny(tiny) => tiny.validate(),
        }
    }
}

fn usable_scale(value: f64) -> Result<()> {
    ensure(value.is_finite() && value > 0.0, "autoencoder.scaling_factor", || format!("{value} is not above 0"))
}

impl KlConfig {
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
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
    /// An error that names the field that cannot be.
    pub(in crate::musetalk) fn validate(&self) -> Result<()> {
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
}
