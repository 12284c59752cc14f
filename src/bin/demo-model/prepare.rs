//! Draws the demo avatar's idle loop and writes the folder that the server loads.
//!
//! In here: frames, mask, boxes, manifest and the latents that condition the network. Not in here: the drawing itself
//! (`character`) and the network's training.

use std::path::Path;

use mouthpiece::avatar::Manifest;
use mouthpiece::musetalk::ModelConfig;
use mouthpiece::picture::{CropBox, png};
use mouthpiece::training::checkpoints::load_part;
use mouthpiece::training::latents::conditioning;
use mouthpiece::training::parts::EncoderPart;
use tch::{Kind, Tensor};

use crate::character::{self, CROP_SIZE, FRAME_SIZE, IDLE_FRAMES, MouthShape, crop_origin, idle_pose};
use crate::file_error;
use crate::subject::DrawnCharacter;

/// Writes the avatar's folder for the model in `model`, which must hold the autoencoder's encoder.
pub fn prepare(model: &Path, avatar: &Path) -> anyhow::Result<()> {
    let config = ModelConfig::load(&model.join("config.json"))?;
    let encoder = EncoderPart::new(&config)?;
    load_part(&encoder.store, &model.join("model.safetensors"))?;
    write_drawing(&config, avatar)?;
    write_latents(&config, &encoder, avatar)
}

/// The latents alone: what changes when the model was trained again and the drawing stayed.
pub fn write_latents(config: &ModelConfig, encoder: &EncoderPart, avatar: &Path) -> anyhow::Result<()> {
    let latents = conditioning(&DrawnCharacter, config, encoder)?.f_to_kind(Kind::Half)?.f_contiguous()?;
    let path = avatar.join("latents.safetensors");
    std::fs::create_dir_all(avatar).map_err(|error| file_error(avatar, error))?;
    Tensor::write_safetensors(&[("latents", latents)], &path).map_err(|error| file_error(&path, error))
}

fn write_drawing(config: &ModelConfig, folder: &Path) -> anyhow::Result<()> {
    let frames = folder.join("frames");
    std::fs::create_dir_all(&frames).map_err(|error| file_error(&frames, error))?;
    let mut boxes = Vec::with_capacity(IDLE_FRAMES);
    for frame in 0..IDLE_FRAMES {
        let pose = idle_pose(frame);
        let picture = character::draw_frame(&pose, &MouthShape::default());
        let path = frames.join(format!("{frame:04}.png"));
        png::write_rgb(&path, FRAME_SIZE, FRAME_SIZE, &picture).map_err(|error| file_error(&path, error))?;
        boxes.push(crop_box(frame));
    }
    let mask = character::paste_mask();
    let path = folder.join("mask.png");
    png::write_grey(&path, CROP_SIZE, CROP_SIZE, &mask).map_err(|error| file_error(&path, error))?;
    write(&folder.join("boxes.json"), &boxes_json(&boxes)?)?;
    write(&folder.join("avatar.toml"), &manifest(config, &mask)?)
}

/// Where the crop of an idle frame lies.
pub fn crop_box(frame: usize) -> CropBox {
    let (x, y) = crop_origin(&idle_pose(frame));
    let whole = |value: u32| i32::try_from(value).unwrap_or(0);
    CropBox { x: whole(x), y: whole(y), width: CROP_SIZE, height: CROP_SIZE }
}

/// One box a line: 125 of them are read by people too.
fn boxes_json(boxes: &[CropBox]) -> anyhow::Result<String> {
    let lines: std::result::Result<Vec<String>, _> = boxes.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|error| file_error(Path::new("boxes.json"), error))?;
    Ok(format!("[\n  {}\n]\n", lines.join(",\n  ")))
}

/// First and one past the last latent row under the mask.
pub fn masked_rows(config: &ModelConfig, mask: &[u8]) -> [i64; 2] {
    let scale = config.autoencoder.scale();
    let rows: Vec<i64> = (0_i64..)
        .zip(mask.chunks_exact(CROP_SIZE as usize))
        .filter(|(_, row)| row.iter().any(|alpha| *alpha > 0))
        .map(|(row, _)| row)
        .collect();
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => [first / scale, last / scale + 1],
        _ => [0, config.latent_size()],
    }
}

fn manifest(config: &ModelConfig, mask: &[u8]) -> anyhow::Result<String> {
    let [first, end] = masked_rows(config, mask);
    let text = format!(
        "# Written by `demo-model prepare`.\n\
         id = \"demo\"\nname = \"Mika\"\nmodel = \"{}\"\nwidth = {FRAME_SIZE}\nheight = {FRAME_SIZE}\nfps = 25\n\
         cycle = \"loop\"\ndecode_rows = [{first}, {end}]\nlicence = \"MIT OR Apache-2.0\"\n\n\
         [voice]\nengine = \"hibari\"\nlanguage = \"en-us\"\nrate = 168\n",
        config.name
    );
    // What is written can be read, or it is not written.
    match toml::from_str::<Manifest>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(file_error(Path::new("avatar.toml"), error)),
    }
}

pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).map_err(|error| file_error(path, error))
}
