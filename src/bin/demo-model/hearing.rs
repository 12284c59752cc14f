//! Takes out of a trained model what hears: the audio encoder and the head that says how a mouth is held. Portraits are
//! spoken for by these two alone.
//!
//! In here: writing `models/portrait`. Not in here: training them (the library's `training`), running them (its
//! `portrait`).

use std::path::Path;

use anyhow::Context;
use mouthpiece::musetalk::ModelConfig;
use mouthpiece::musetalk::weights::read_safetensors;
use mouthpiece::portrait::{FAMILY, HearingConfig};
use tch::{Kind, Tensor};

use crate::file_error;

/// What a portrait's model has of another's weights.
const PARTS: [&str; 2] = ["audio_encoder.", "helper_head."];

/// Writes `config.json` and `model.safetensors`, in 16 bits, of the folder `out`, which is made if it is not there.
pub fn write(model: &Path, out: &Path) -> anyhow::Result<()> {
    let config = ModelConfig::load(&model.join("config.json"))?;
    let helper_head = config.helper_head.context("the model has no helper head")?;
    let config = HearingConfig {
        name: FAMILY.to_owned(),
        family: FAMILY.to_owned(),
        mel: config.mel,
        audio_encoder: config.audio_encoder,
        audio_window: config.audio_window,
        helper_head,
    };
    let mut weights = read_safetensors(&model.join("model.safetensors"))?;
    weights.retain(|(name, _)| PARTS.iter().any(|part| name.starts_with(part)));
    for (_, tensor) in &mut weights {
        *tensor = tensor.f_to_kind(Kind::Half)?.f_contiguous()?;
    }
    std::fs::create_dir_all(out).map_err(|error| file_error(out, error))?;
    let path = out.join("config.json");
    let text = serde_json::to_string_pretty(&config)? + "\n";
    std::fs::write(&path, text).map_err(|error| file_error(&path, error))?;
    let path = out.join("model.safetensors");
    Tensor::write_safetensors(&weights, &path).map_err(|error| file_error(&path, error))
}
