//! The folder that holds avatars, one sub-folder each.
//!
//! In here: what may be done with them by id, for the command line and for whoever serves. Not in here: how (`avatar::draft`,
//! `avatar::archive`, `avatar::check`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::archive::{self, Import};
use super::check::{self, Checked};
use super::draft::{self, Draft};
use super::files::{self, MANIFEST};
use super::{Avatar, AvatarError, Manifest};
use crate::ids::AvatarId;

/// Why an avatar is not made, changed, carried or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// One of its files.
    #[error(transparent)]
    Avatar(#[from] AvatarError),
    /// There is one already.
    #[error("avatar \"{id}\" is there already: choose another id, or have it replaced")]
    Exists {
        /// The id that was asked for.
        id: AvatarId,
    },
    /// An archive of somebody's cannot be taken; what was unpacked of it is gone.
    #[error("{name} {problem}")]
    Archive {
        /// What the archive was called.
        name: String,
        /// What is wrong with it; no path of this machine is in it.
        problem: String,
    },
    /// An archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Write(io::Error),
    /// The disk is too small.
    #[error("{folder} has {free} MB left, {wanted} MB are needed")]
    NoRoom {
        /// Where the room is needed.
        folder: String,
        /// Megabytes.
        free: u64,
        /// Megabytes, with what must stay free.
        wanted: u64,
    },
    /// Another process or request is making one.
    #[error("avatar \"{id}\" is being made just now, by somebody else: wait for that, or choose another id")]
    Busy {
        /// The id that was asked for.
        id: AvatarId,
    },
}

/// What a list says of an avatar, without loading it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its manifest.
    pub manifest: Manifest,
    /// How many frames of its own it has.
    pub frames: u32,
    /// What its files take on the disk, in bytes.
    pub bytes: u64,
}

/// Finds avatars by id, and makes, checks, carries and removes them. Everything blocks for the disk.
#[derive(Clone, Debug)]
pub struct AvatarStore {
    root: PathBuf,
}

impl AvatarStore {
    /// Of the avatars in this folder, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that holds the avatars.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Begins a new avatar; see [`Draft`].
    pub fn begin(&self, id: &AvatarId, overwrite: bool) -> Result<Draft, StoreError> {
        Draft::begin(&self.root, id, overwrite)
    }

    /// Removes an avatar. A server that has loaded it goes on showing it, as the files stay for whoever has them open, and
    /// notices when it loads it next.
    pub fn delete(&self, id: &AvatarId) -> Result<(), StoreError> {
        self.folder(id)?;
        draft::remove(&self.root, id)
    }

    /// Packs an avatar into one file, which [`AvatarStore::import`] reads. `each` is told of every piece that was written, in
    /// bytes.
    pub fn export(&self, id: &AvatarId, out: &mut dyn Write, each: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        archive::pack(&self.folder(id)?, self.manifest(id)?, out, each)
    }

    /// [`AvatarStore::export`] into a file that is not there yet; nothing is left of one that failed.
    pub fn export_to(&self, id: &AvatarId, path: &Path, each: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::from(AvatarError::file(path, error));
        let (folder, manifest) = (self.folder(id)?, self.manifest(id)?);
        // Made here, so that it may be removed here.
        let mut out = File::create_new(path).map_err(failed)?;
        let packed = archive::pack(&folder, manifest, &mut out, each).map_err(|error| match error {
            StoreError::Write(error) => failed(error),
            other => other,
        });
        let packed = packed.and_then(|()| out.sync_all().map_err(failed));
        if packed.is_err() {
            // What failed is the news.
            let _ = std::fs::remove_file(path);
        }
        packed
    }

    /// Unpacks an avatar that somebody packed; gives its id. Nothing is left of one that failed. `each` is told of every
    /// piece that was read, in bytes.
    pub fn import(&self, from: Import<'_>, each: &mut dyn FnMut(u64)) -> Result<AvatarId, StoreError> {
        archive::unpack(&self.root, from, each)
    }

    /// Looks at every byte of an avatar. `each` is told of every piece that was hashed, in bytes.
    pub fn check(&self, id: &AvatarId, each: &mut dyn FnMut(u64)) -> Result<Checked, AvatarError> {
        Ok(check::check(&self.folder(id)?, id, each))
    }

    /// Writes an avatar's manifest anew, in the present format and with every file as it is now: an older one becomes a
    /// present one, and what was added to the folder belongs to it. `each` is told of every piece that was hashed, in bytes.
    pub fn record(&self, id: &AvatarId, each: &mut dyn FnMut(u64)) -> Result<Manifest, StoreError> {
        let folder = self.folder(id)?;
        let manifest = check::upgraded(&folder, self.manifest(id)?, each)?;
        draft::rewrite(&self.root, &folder, &manifest)?;
        Ok(manifest)
    }

    /// What a list says of an avatar.
    pub fn summary(&self, id: &AvatarId) -> Result<Summary, AvatarError> {
        let folder = self.folder(id)?;
        let manifest = Manifest::load(&folder.join(MANIFEST))?;
        let frames = check::frames(&folder, &manifest)?;
        let lengths = files::walk(&folder)?.0.into_iter().filter_map(|name| folder.join(name).metadata().ok());
        Ok(Summary { frames, bytes: lengths.map(|about| about.len()).sum(), manifest })
    }

    /// Every folder that has a manifest, by name. Removes what a killed process left behind.
    pub fn list(&self) -> Vec<AvatarId> {
        draft::sweep(&self.root);
        let Ok(entries) = std::fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let mut ids: Vec<AvatarId> = entries
            .flatten()
            .filter(|entry| entry.path().join("avatar.toml").is_file())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        ids
    }

    /// The folder of an avatar that exists.
    pub fn folder(&self, id: &AvatarId) -> Result<PathBuf, AvatarError> {
        let folder = self.root.join(id.as_str());
        if folder.join("avatar.toml").is_file() {
            return Ok(folder);
        }
        let names: Vec<String> = self.list().iter().map(ToString::to_string).collect();
        Err(AvatarError::Unknown {
            id: id.to_string(),
            folder: self.root.display().to_string(),
            available: if names.is_empty() { "nothing".to_owned() } else { names.join(", ") },
        })
    }

    /// An avatar's manifest without its pictures.
    pub fn manifest(&self, id: &AvatarId) -> Result<Manifest, AvatarError> {
        Manifest::load(&self.folder(id)?.join("avatar.toml"))
    }

    /// A whole avatar, after a look at the lengths of its files; a drawn one takes up to a gigabyte and a while.
    pub fn load(&self, id: &AvatarId) -> Result<Avatar, AvatarError> {
        let folder = self.folder(id)?;
        files::check_lengths(&folder, &self.manifest(id)?)?;
        Avatar::load(&folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn an_unknown_id_is_answered_with_what_exists() {
        let root = tempfile::tempdir().unwrap();
        kit::avatar::write(&root.path().join("tiny"));
        std::fs::create_dir(root.path().join("not-an-avatar")).unwrap();
        let store = AvatarStore::new(root.path());
        let error = store.load(&"anna".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("\"anna\"") && error.contains("tiny") && !error.contains("not-an-avatar"), "{error}");
        assert_eq!(store.load(&"tiny".parse().unwrap()).unwrap().frame_count(), 4);
    }
}
