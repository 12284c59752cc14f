//! The folder that holds avatars, one sub-folder each.

use std::path::{Path, PathBuf};

use super::draft::{self, Draft};
use super::{Avatar, AvatarError, Manifest, files};
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
    /// Another process or request is making one.
    #[error("avatar \"{id}\" is being made just now, by somebody else: wait for that, or choose another id")]
    Busy {
        /// The id that was asked for.
        id: AvatarId,
    },
}

/// Finds avatars by id.
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
