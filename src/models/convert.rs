//! From upstream's folder as it lies on disk to a model folder of this project.
//!
//! A model folder appears whole or not at all: everything is written beside it first. Not in here: turning upstream's
//! configurations into `config.json` (`musetalk::weights::published`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::catalog::{KnownModel, PARTS};
use super::checkpoint::{CheckpointError, DType, write_safetensors};
use super::folder::{CONFIGS, MissingFile, WEIGHTS, first_of};
use super::manifest::{self, Manifest};
use super::names::{audio_encoder_prefix, current_name};
use super::tensor_list::{Difference, TensorList};
use super::{Checkpoint, ListError};

/// Why a published model cannot be made into one of ours.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A network's folder is missing.
    #[error("{from} has no folder {wanted} with {} in it", CONFIGS.join(" or "))]
    Folder {
        /// The folder that was looked into.
        from: String,
        /// The names that it may have.
        wanted: String,
    },
    /// A file is missing.
    #[error(transparent)]
    File(#[from] MissingFile),
    /// A file of weights is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A list of tensors is wrong.
    #[error(transparent)]
    List(#[from] ListError),
    /// The weights are those of another network.
    #[error("{path} is not MuseTalk's {part}: {difference}")]
    Different {
        /// The file.
        path: String,
        /// The network.
        part: &'static str,
        /// How its tensors differ.
        difference: Difference,
    },
    /// The model is there already.
    #[error("{0} is there already: give --replace to make it anew")]
    Exists(String),
    /// The disk has too little room.
    #[error("{folder} has {free} MB left on its disk, {wanted} MB are needed")]
    Disk {
        /// The folder that is meant.
        folder: String,
        /// Megabytes that are left.
        free: u64,
        /// Megabytes that are needed.
        wanted: u64,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's own error.
        source: io::Error,
    },
}

/// Upstream's folders of a model's networks, in the order of [`PARTS`].
pub fn find_folders(model: &KnownModel, from: &Path) -> Result<[PathBuf; 3], ConvertError> {
    let find = |names: &[&str]| {
        let folders = names.iter().map(|name| from.join(name));
        folders
            .into_iter()
            .find(|folder| first_of(folder, &CONFIGS).is_ok())
            .ok_or_else(|| ConvertError::Folder { from: from.display().to_string(), wanted: names.join(" or ") })
    };
    let [audio_encoder, unet, autoencoder] = model.folders;
    Ok([find(audio_encoder)?, find(unet)?, find(autoencoder)?])
}

/// What to write and where.
#[derive(Debug)]
pub struct Target<'a> {
    /// `models/`, with the lists in it.
    pub models: &'a Path,
    /// What each network must have, in the order of [`PARTS`].
    pub lists: [TensorList; 3],
    /// The text of `config.json`.
    pub config: &'a str,
    /// The type that floats are written in.
    pub dtype: DType,
    /// A folder that is there already gives way.
    pub replace: bool,
}

/// Reads the weights in `folders` and writes the model `name`; gives its folder.
pub fn convert(name: &str, folders: &[PathBuf; 3], target: &Target<'_>) -> Result<PathBuf, ConvertError> {
    let finished = target.models.join(name);
    if finished.exists() && !target.replace {
        return Err(ConvertError::Exists(finished.display().to_string()));
    }
    // All of them are looked at before the first gigabyte is written.
    let mut sources = Vec::new();
    for ((part, folder), list) in PARTS.into_iter().zip(folders).zip(&target.lists) {
        sources.push(Source::open(part, folder, list)?);
    }
    let bytes = target.lists.iter().map(|list| list.numbers() * target.dtype.size()).sum();
    super::disk::ensure_free(target.models, bytes).map_err(|(free, wanted)| ConvertError::Disk {
        folder: target.models.display().to_string(),
        free,
        wanted,
    })?;
    let unfinished = target.models.join(format!(".{name}.part"));
    let outcome = write(name, &sources, target, &unfinished).and_then(|()| {
        if finished.exists() {
            fs::remove_dir_all(&finished).map_err(|source| failed(&finished, source))?;
        }
        fs::rename(&unfinished, &finished).map_err(|source| failed(&finished, source))
    });
    if outcome.is_err() {
        // What failed is the news; a folder that stays behind is overwritten next time.
        let _ = fs::remove_dir_all(&unfinished);
    }
    outcome.map(|()| finished)
}

fn failed(path: &Path, source: io::Error) -> ConvertError {
    ConvertError::Io { path: path.display().to_string(), source }
}

fn write(name: &str, sources: &[Source], target: &Target<'_>, folder: &Path) -> Result<(), ConvertError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|source| failed(folder, source))?;
    }
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let mut manifest = Manifest { name: name.to_owned(), ..Manifest::default() };
    for source in sources {
        let path = folder.join(format!("{}.safetensors", source.part));
        tracing::info!(from = source.file.path(), part = source.part, "converting");
        source.write(&path, target.dtype)?;
        manifest.add(&path).map_err(|source| failed(&path, source))?;
        let from = Path::new(source.file.path());
        let sha256 = manifest::sha256(from).map_err(|source| failed(from, source))?;
        manifest.sources.insert(source.part.to_owned(), manifest::Origin { file: file_name(from), sha256 });
    }
    let config = folder.join("config.json");
    fs::write(&config, target.config).map_err(|source| failed(&config, source))?;
    manifest.add(&config).map_err(|source| failed(&config, source))?;
    manifest.save(folder).map_err(|source| failed(folder, source))
}

/// The last two names of a path: which folder of upstream's and which file.
fn file_name(path: &Path) -> String {
    let names: Vec<_> = path.iter().rev().take(2).collect();
    names.into_iter().rev().collect::<PathBuf>().display().to_string()
}

/// One network's file, its tensors found on the list.
struct Source {
    part: &'static str,
    file: Checkpoint,
    /// Name and shape by the list, and which of the file's tensors it is.
    tensors: Vec<(String, Vec<u64>, usize)>,
}

impl Source {
    fn open(part: &'static str, folder: &Path, list: &TensorList) -> Result<Self, ConvertError> {
        let file = Checkpoint::open(&first_of(folder, &WEIGHTS)?)?;
        let prefix = if part == "audio_encoder" { audio_encoder_prefix(&file) } else { "" };
        let mut named: Vec<(String, usize)> = Vec::new();
        for (index, tensor) in file.tensors().iter().enumerate() {
            if let Some(name) = tensor.name.strip_prefix(prefix) {
                named.push((current_name(name), index));
            }
        }
        let shapes = named.iter().map(|(name, index)| (name.as_str(), file.tensors()[*index].shape.as_slice()));
        let difference = list.compare(shapes);
        if !difference.is_none() {
            return Err(ConvertError::Different { path: file.path().to_owned(), part, difference });
        }
        // The list's shape, since a linear layer may have come as a convolution.
        let shape = |name: &str| list.iter().find(|(listed, _)| *listed == name).map(|(_, shape)| shape.to_vec());
        let tensors = named.into_iter().filter_map(|(name, index)| Some((shape(&name)?, name, index)));
        let tensors = tensors.map(|(shape, name, index)| (name, shape, index)).collect();
        Ok(Self { part, file, tensors })
    }

    fn write(&self, path: &Path, dtype: DType) -> Result<(), ConvertError> {
        let described: Vec<_> =
            self.tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone(), dtype)).collect();
        write_safetensors(path, &described, |index| {
            let tensor = &self.file.tensors()[self.tensors[index].2];
            Ok::<_, ConvertError>(self.file.read_weights_as(tensor, dtype)?)
        })
    }
}
