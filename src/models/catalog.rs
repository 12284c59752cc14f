//! The models that this program knows by name: what they are made of and what upstream calls its folders.

/// The networks of a model, as `config.json` and the files of their weights name them.
pub const PARTS: [&str; 3] = ["audio_encoder", "unet", "autoencoder"];

/// A published model.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownModel {
    pub name: &'static str,
    /// For each of [`PARTS`], the folders of upstream's `models/` that may hold it.
    pub folders: [&'static [&'static str]; 3],
}

pub const KNOWN: [KnownModel; 2] = [
    KnownModel { name: "musetalk-v1.0", folders: [WHISPER, &["musetalk"], AUTOENCODER] },
    KnownModel { name: "musetalk-v1.5", folders: [WHISPER, &["musetalkV15"], AUTOENCODER] },
];

const WHISPER: &[&str] = &["whisper", "whisper-tiny"];
/// The second is what MuseTalk called it first.
const AUTOENCODER: &[&str] = &["sd-vae", "sd-vae-ft-mse"];

/// The folder of `models/` with the lists of names and shapes, which all versions share.
pub const LISTS: &str = "musetalk";

/// A name that is none of [`KNOWN`].
#[derive(Debug, thiserror::Error)]
#[error("no model is named {name:?}; there are {}", KNOWN.map(|model| model.name).join(", "))]
pub struct UnknownModel {
    name: String,
}

pub fn known(name: &str) -> Result<&'static KnownModel, UnknownModel> {
    KNOWN.iter().find(|model| model.name == name).ok_or_else(|| UnknownModel { name: name.to_owned() })
}
