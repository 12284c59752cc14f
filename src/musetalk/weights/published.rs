//! Configurations as diffusers, transformers and upstream write them, turned into this project's.
//!
//! They name far more than these networks have. A field that is not known here must be null or what the network is
//! built as; anything else would be another network, and is refused by the field's name.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::network::config::{
    AudioWindow, AutoencoderConfig, KlConfig, MelConfig, ModelConfig, TinyConfig, UnetConfig, WhisperConfig,
};

/// What a `config.json` turned out to describe.
#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    /// diffusers' `UNet2DConditionModel`.
    Unet(UnetConfig),
    /// diffusers' `AutoencoderKL`.
    Kl(KlConfig),
    /// diffusers' `AutoencoderTiny`.
    Tiny(TinyConfig),
    /// transformers' `WhisperModel`, of which the encoder is used.
    Whisper(WhisperConfig),
    /// This project's own: all networks of a model.
    Whole(Box<ModelConfig>),
}

/// Says nothing about the network: training, generation, or what other fields say too.
const ANY: &str = "";

/// Fields of diffusers' `UNet2DConditionModel` that are one thing in `unet`, with their values as JSON.
const UNET: [(&str, &str); 17] = [
    ("_name_or_path", ANY),
    ("addition_embed_type_num_heads", ANY),
    ("attention_type", "\"default\""),
    ("class_embeddings_concat", "false"),
    ("conv_in_kernel", "3"),
    ("conv_out_kernel", "3"),
    ("dropout", ANY),
    ("dual_cross_attention", "false"),
    ("mid_block_type", "\"UNetMidBlock2DCrossAttn\""),
    ("only_cross_attention", "false"),
    ("resnet_out_scale_factor", "1"),
    ("resnet_skip_time_act", "false"),
    ("resnet_time_scale_shift", "\"default\""),
    ("time_embedding_type", "\"positional\""),
    ("transformer_layers_per_block", "1"),
    ("upcast_attention", ANY),
    ("use_linear_projection", "false"),
];

const KL: [(&str, &str); 10] = [
    ("_class_name", ANY),
    ("_diffusers_version", ANY),
    ("_name_or_path", ANY),
    ("act_fn", "\"silu\""),
    ("down_block_types", ANY),
    ("up_block_types", ANY),
    ("force_upcast", ANY),
    ("mid_block_add_attention", "true"),
    ("sample_size", ANY),
    ("use_quant_conv", "true"),
];

const TINY: [(&str, &str); 10] = [
    ("_class_name", ANY),
    ("_diffusers_version", ANY),
    ("_name_or_path", ANY),
    ("act_fn", "\"relu\""),
    ("block_out_channels", ANY),
    ("force_upcast", ANY),
    ("latent_magnitude", "3"),
    ("latent_shift", "0.5"),
    ("shift_factor", "0"),
    ("upsample_fn", "\"nearest\""),
];

impl Published {
    /// Reads and checks a configuration of any of these kinds.
    pub fn load(path: &Path) -> Result<Self> {
        let fields = object(path)?;
        let in_file = |error: LipSyncError| match error {
            LipSyncError::Config { field, problem } => {
                LipSyncError::Model { path: path.display().to_string(), problem: format!("{field}: {problem}") }
            }
            other => other,
        };
        Self::from_fields(fields).map_err(in_file)
    }

    fn from_fields(fields: Map<String, Value>) -> Result<Self> {
        let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (text("_class_name").as_str(), text("model_type").as_str()) {
            ("UNet2DConditionModel", _) => {
                let config: UnetConfig = parse(fields, &UNET)?;
                config.validate()?;
                Ok(Self::Unet(config))
            }
            ("AutoencoderKL", _) => Ok(Self::Kl(kl(fields)?)),
            ("AutoencoderTiny", _) => {
                let config: TinyConfig = parse(fields, &TINY)?;
                config.validate()?;
                Ok(Self::Tiny(config))
            }
            (_, "whisper") => Ok(Self::Whisper(whisper(&fields)?)),
            _ if fields.contains_key("unet") => {
                let config: ModelConfig = parse(fields, &[])?;
                config.validate()?;
                Ok(Self::Whole(Box::new(config)))
            }
            ("", "") => wrong("_class_name", "is missing, and so is model_type: what network is this?"),
            (class, "") => wrong("_class_name", format!("{class:?} is no network that is known here")),
            (_, model) => wrong("model_type", format!("{model:?} is no network that is known here")),
        }
    }
}

fn wrong<T>(field: &str, problem: impl Into<String>) -> Result<T> {
    Err(LipSyncError::Config { field: field.to_owned(), problem: problem.into() })
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let model = |problem: String| LipSyncError::Model { path: path.display().to_string(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| model(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| model(error.to_string()))
}

/// The fields without those that say nothing new, as `T`, which knows all others.
fn parse<T: DeserializeOwned>(mut fields: Map<String, Value>, fixed: &[(&str, &str)]) -> Result<T> {
    for (name, only) in fixed {
        let Some(value) = fields.remove(*name) else { continue };
        let same = match (value.as_f64(), only.parse::<f64>()) {
            (Some(given), Ok(only)) => (given - only).abs() < f64::EPSILON,
            _ => serde_json::from_str::<Value>(only).is_ok_and(|only| value == only),
        };
        if *only != ANY && !same {
            return wrong(name, format!("{value} is not supported, only {only}"));
        }
    }
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(fields)).or_else(|error| wrong("field", error.to_string()))
}

fn kl(mut fields: Map<String, Value>) -> Result<KlConfig> {
    for (field, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
        let types = fields.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(other) = types.iter().find(|given| **given != kind) {
            return wrong(field, format!("{other} is not supported, only {kind}"));
        }
    }
    if fields.get("use_post_quant_conv") == Some(&json!(false)) {
        return wrong("use_post_quant_conv", "false is not supported");
    }
    fields.remove("use_post_quant_conv");
    // What diffusers takes where the file says nothing.
    fields.entry("layers_per_block").or_insert(json!(1));
    let config: KlConfig = parse(fields, &KL)?;
    config.validate()?;
    Ok(config)
}

fn whisper(fields: &Map<String, Value>) -> Result<WhisperConfig> {
    // transformers leaves out what is Whisper-tiny's.
    let size = |field: &str, default: i64| match fields.get(field) {
        None => Ok(default),
        Some(value) => value.as_i64().map_or_else(|| wrong(field, format!("{value} is no integer")), Ok),
    };
    for (field, only) in [("activation_function", json!("gelu")), ("scale_embedding", json!(false))] {
        if let Some(other) = fields.get(field).filter(|given| **given != only) {
            return wrong(field, format!("{other} is not supported, only {only}"));
        }
    }
    let config = WhisperConfig {
        n_mels: size("num_mel_bins", 80)?,
        d_model: size("d_model", 384)?,
        encoder_layers: size("encoder_layers", 4)?,
        encoder_attention_heads: size("encoder_attention_heads", 6)?,
        encoder_ffn_dim: size("encoder_ffn_dim", 1536)?,
        max_source_positions: size("max_source_positions", 1500)?,
        final_norm: true,
    };
    config.validate()?;
    Ok(config)
}

/// The model that upstream's configurations of audio encoder, UNet and autoencoder make together.
pub fn assemble(name: &str, [audio_encoder, unet, autoencoder]: [&Path; 3]) -> Result<ModelConfig> {
    let other = |path: &Path, wanted: &str| LipSyncError::Model {
        path: path.display().to_string(),
        problem: format!("is not {wanted}"),
    };
    let Published::Whisper(whisper) = Published::load(audio_encoder)? else {
        return Err(other(audio_encoder, "a Whisper's"));
    };
    let Published::Unet(unet) = Published::load(unet)? else {
        return Err(other(unet, "a UNet2DConditionModel's"));
    };
    let autoencoder = match Published::load(autoencoder)? {
        Published::Kl(config) => AutoencoderConfig::Kl(config),
        Published::Tiny(config) => AutoencoderConfig::Tiny(config),
        _ => return Err(other(autoencoder, "an AutoencoderKL's")),
    };
    let model = ModelConfig {
        name: name.to_owned(),
        mel: MelConfig { n_mels: whisper.n_mels, ..MelConfig::default() },
        audio_encoder: whisper,
        audio_window: AudioWindow::Utterance,
        unet,
        // MuseTalk works on latents of 32 rows, whatever sizes the configurations name.
        crop_size: 32 * autoencoder.scale(),
        autoencoder,
        residual: false,
        latent_mean: None,
        latent_std: None,
        decode_rows: None,
        helper_head: None,
        teacher_decoder: None,
    };
    model.validate()?;
    Ok(model)
}

/// Whisper's feature extractor, and how many samples it pads a segment to.
pub(in crate::musetalk) fn load_extractor(path: &Path) -> Result<(MelConfig, i64)> {
    let fields = object(path)?;
    let size = |field: &str, default: i64| fields.get(field).and_then(Value::as_i64).unwrap_or(default);
    let whisper = MelConfig::default();
    let config = MelConfig {
        n_mels: size("feature_size", whisper.n_mels),
        sample_rate: size("sampling_rate", whisper.sample_rate),
        n_fft: size("n_fft", whisper.n_fft),
        hop: size("hop_length", whisper.hop),
        ..whisper
    };
    config.validate()?;
    let seconds = size("chunk_length", 30);
    if !(1..=3600).contains(&seconds) {
        return wrong("chunk_length", format!("{seconds} s is not between 1 and 3600"));
    }
    let segment = seconds * config.sample_rate;
    Ok((config, segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Published> {
        Published::from_fields(value.as_object().unwrap().clone())
    }

    /// What diffusers 0.30 writes beside MuseTalk's own fields.
    fn modern_unet() -> Value {
        let mut value: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/unet.json")))
                .unwrap();
        for (field, given) in UNET {
            value[field] = serde_json::from_str(given).unwrap_or(json!(0.0));
        }
        for field in ["addition_embed_type", "num_attention_heads", "reverse_transformer_layers_per_block"] {
            value[field] = Value::Null;
        }
        value
    }

    #[test]
    fn a_unet_means_the_same_with_the_fields_of_another_version_of_diffusers() {
        let old: Value =
            serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/unet.json")))
                .unwrap();
        assert_eq!(read(&modern_unet()).unwrap(), read(&old).unwrap());
    }

    #[test]
    fn a_field_that_makes_it_another_network_is_named() {
        for (field, value) in [
            ("use_linear_projection", json!(true)),
            ("conv_in_kernel", json!(1)),
            ("center_input_sample", json!(true)),
            ("addition_embed_type", json!("text")),
            ("something_new", json!(3)),
            ("act_fn", json!("gelu")),
            ("norm_num_groups", json!(7)),
        ] {
            let mut changed = modern_unet();
            changed[field] = value;
            let error = read(&changed).unwrap_err().to_string();
            assert!(error.contains(field), "{field}: {error}");
        }
        let error = read(&json!({"_class_name": "FluxTransformer2DModel"})).unwrap_err().to_string();
        assert!(error.contains("FluxTransformer2DModel"), "{error}");
        assert!(read(&json!({})).unwrap_err().to_string().contains("_class_name"));
    }

    #[test]
    fn an_autoencoder_without_a_scaling_factor_has_stable_diffusions() {
        let published = read(&json!({
            "_class_name": "AutoencoderKL", "_diffusers_version": "0.4.2", "act_fn": "silu", "sample_size": 256,
            "block_out_channels": [128, 256, 512, 512], "in_channels": 3, "out_channels": 3, "latent_channels": 4,
            "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
            "layers_per_block": 2, "norm_num_groups": 32,
        }));
        let Published::Kl(config) = published.unwrap() else { panic!("no autoencoder") };
        assert_eq!((config.scaling_factor, config.layers_per_block), (0.18215, 2));
    }

    #[test]
    fn whispers_sizes_come_from_its_file() {
        let whisper = read(&json!({"model_type": "whisper", "d_model": 48, "num_mel_bins": 128, "vocab_size": 51865}));
        let Published::Whisper(config) = whisper.unwrap() else { panic!("no encoder") };
        assert_eq!((config.d_model, config.n_mels, config.encoder_layers), (48, 128, 4));
        assert!(read(&json!({"model_type": "whisper", "activation_function": "relu"})).is_err());
    }
}
