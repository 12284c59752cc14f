//! Which file of a network's folder is the configuration and which the weights, under the names in use.

use std::path::{Path, PathBuf};

/// diffusers and transformers write the first, MuseTalk's own folders hold the second.
pub const CONFIGS: [&str; 2] = ["config.json", "musetalk.json"];

/// safetensors first: the same weights, quicker to open.
pub const WEIGHTS: [&str; 6] = [
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "unet.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "unet.pth",
];

/// A folder in which something that must be there is not.
#[derive(Debug, thiserror::Error)]
#[error("{folder} has none of {wanted}")]
pub struct MissingFile {
    /// The folder that was looked into.
    pub folder: String,
    /// The names of which it has none.
    pub wanted: String,
}

/// The first of `names` that is a file in `folder`.
pub fn first_of(folder: &Path, names: &[&str]) -> Result<PathBuf, MissingFile> {
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| MissingFile { folder: folder.display().to_string(), wanted: names.join(", ") })
}
