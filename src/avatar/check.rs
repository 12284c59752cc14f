//! Whether an avatar's folder is what its manifest says, and can be used.
//!
//! In here: hashes, contents, and the manifest of an older format in the present one. Runs on: whoever asks; it reads every
//! file of the folder, so it takes as long as the disk does, or with a film as decoding every frame does.

use std::path::Path;

use super::files::{self, Files, MANIFEST};
use super::film::{FRAMES, Film};
use super::manifest::{FORMAT, Kind, Manifest};
use super::{Avatar, AvatarError};
use crate::ids::AvatarId;
use crate::models::Checkpoint;

/// How closely contents are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers, sizes and tables.
    Headers,
    /// Every frame is decoded.
    Frames,
}

/// What was found of one avatar.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Checked {
    /// Its folder's name.
    pub id: AvatarId,
    /// Of its manifest, 0 if that cannot be read.
    pub format: u32,
    /// What is wrong with it, file by file; nothing if it can be used.
    pub problems: Vec<String>,
    /// Files that do not belong to it, which do no harm.
    pub unlisted: Vec<String>,
}

/// Checks a folder: the manifest, length and hash of every file it lists, and what is in them. `each` is told of every piece
/// that was hashed, in bytes.
pub fn check(folder: &Path, id: &AvatarId, each: &mut dyn FnMut(u64)) -> Checked {
    let mut checked = Checked { id: id.clone(), format: 0, problems: Vec::new(), unlisted: Vec::new() };
    let manifest = match Manifest::load(&folder.join(MANIFEST)) {
        Ok(manifest) => manifest,
        Err(error) => {
            checked.problems.push(error.to_string());
            return checked;
        }
    };
    checked.format = manifest.format;
    if manifest.id != *id {
        let problem = format!("id is {:?}, its folder is {:?}", manifest.id.as_str(), id.as_str());
        checked.problems.push(AvatarError::file(&folder.join(MANIFEST), problem).to_string());
    }
    for (name, recorded) in &manifest.files {
        let path = folder.join(name);
        match files::record(&path, each) {
            Ok(found) if found == *recorded => {}
            Ok(found) => {
                let problem = if found.bytes == recorded.bytes {
                    "is not what it was when it was made: its hash differs".to_owned()
                } else {
                    format!("has {} bytes, {MANIFEST} says {}", found.bytes, recorded.bytes)
                };
                checked.problems.push(AvatarError::file(&path, problem).to_string());
            }
            Err(error) => checked.problems.push(error.to_string()),
        }
    }
    match files::walk(folder) {
        Ok((known, unknown)) => {
            // Format 1 lists none.
            let unlisted = known.into_iter().filter(|name| manifest.format > 1 && !manifest.files.contains_key(name));
            checked.unlisted = unlisted.chain(unknown).collect();
        }
        Err(error) => checked.problems.push(error.to_string()),
    }
    // A file that is damaged would only be named once more.
    if checked.problems.is_empty()
        && let Err(error) = contents(folder, &manifest, Depth::Frames)
    {
        checked.problems.push(error.to_string());
    }
    checked
}

/// Whether the files of a folder have in them what an avatar of this manifest needs; the first that does not is named.
pub(super) fn contents(folder: &Path, manifest: &Manifest, depth: Depth) -> Result<(), AvatarError> {
    let (known, _) = files::walk(folder)?;
    for name in known.iter().filter(|name| name.ends_with(".safetensors")) {
        let path = folder.join(name);
        Checkpoint::open(&path).map_err(|error| AvatarError::file(&path, error.problem))?;
    }
    match manifest.kind {
        Kind::Clip => {
            let film = Film::open(folder, manifest)?;
            let frames = match depth {
                Depth::Headers => 0..1,
                Depth::Frames => 0..film.len(),
            };
            for frame in frames {
                film.picture(frame)?;
            }
        }
        // Loading reads all of it.
        Kind::Photo | Kind::Drawn => {}
    }
    Avatar::load(folder).map(|_| ())
}

/// How many frames a folder has.
pub(super) fn frames(folder: &Path, manifest: &Manifest) -> Result<u32, AvatarError> {
    let count = match (manifest.frames, manifest.kind) {
        (Some(frames), _) => return Ok(frames),
        (None, Kind::Photo) => 1,
        (None, Kind::Clip) => Film::open(folder, manifest)?.len(),
        (None, Kind::Drawn) => files::walk(folder)?.0.iter().filter(|name| files::is_picture(name)).count(),
    };
    u32::try_from(count).map_err(|_| AvatarError::file(&folder.join(FRAMES), format!("has {count} frames")))
}

/// The manifest in the present format, with every file as it is now. `each` is told of every piece that was hashed, in bytes.
pub(super) fn upgraded(folder: &Path, manifest: Manifest, each: &mut dyn FnMut(u64)) -> Result<Manifest, AvatarError> {
    let frames = Some(frames(folder, &manifest)?);
    let mut recorded = Files::new();
    for name in files::walk(folder)?.0 {
        let record = files::record(&folder.join(&name), each)?;
        recorded.insert(name, record);
    }
    Ok(Manifest { format: FORMAT, frames, files: recorded, ..manifest })
}

#[cfg(test)]
mod tests;
