//! The folder that holds avatars, one sub-folder each.

use std::path::{Path, PathBuf};

use super::{Avatar, AvatarError, Manifest};
use crate::ids::AvatarId;

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

    /// Every folder that has a manifest, by name.
    pub fn list(&self) -> Vec<AvatarId> {
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

    /// A whole avatar; up to half a gigabyte, so this takes a while.
    pub fn load(&self, id: &AvatarId) -> Result<Avatar, AvatarError> {
        Avatar::load(&self.folder(id)?)
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
