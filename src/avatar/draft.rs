//! An avatar's folder while it is written: out of sight beside the others, and in its place at once or not at all.
//!
//! In here: hidden folders, who may write which, and what is left when a process was killed. Not in here: the files' content.
//! Runs on: whoever prepares, imports or deletes; everything blocks for the disk.
//!
//! A draft of `anna` is written into `.anna.draft-XXXXXXXX`, on which its process holds a lock that ends with the process.
//! Whatever is hidden and not locked is a leftover, which the next create or list removes. What replaces or deletes an avatar
//! moves it to `.anna.gone-XXXXXXXX` first, so that nobody ever finds half of one. The folder of all avatars is locked for the
//! moment that each of these steps takes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rand::Rng;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::AvatarError;
use super::files::{self, Files, MANIFEST};
use super::manifest::{FORMAT, Manifest};
use super::store::StoreError;
use crate::ids::AvatarId;

/// Between the id and random digits in the names of hidden folders.
const DRAFT: &str = ".draft-";
const GONE: &str = ".gone-";

/// A folder that becomes an avatar when it is finished, and disappears otherwise.
#[derive(Debug)]
pub struct Draft {
    root: PathBuf,
    id: AvatarId,
    overwrite: bool,
    folder: PathBuf,
    /// Holds the lock that says that somebody still writes here.
    _lock: File,
    finished: bool,
}

impl Draft {
    /// Begins an avatar in the folder of all avatars, which is made if it is not there. Refused if there is one of this id
    /// and it is not to be overwritten, or if somebody else is at it.
    pub fn begin(root: &Path, id: &AvatarId, overwrite: bool) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(|error| AvatarError::file(root, error))?;
        let _locked = lock(root)?;
        sweep_locked(root);
        let prefix = format!(".{id}{DRAFT}");
        if hidden(root).iter().any(|name| name.starts_with(&prefix)) {
            return Err(StoreError::Busy { id: id.clone() });
        }
        if !overwrite && exists(&root.join(id.as_str())) {
            return Err(StoreError::Exists { id: id.clone() });
        }
        let folder = root.join(hidden_name(id, DRAFT));
        fs::create_dir(&folder).map_err(|error| AvatarError::file(&folder, error))?;
        let lock = File::open(&folder).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        });
        match lock {
            Ok(lock) => {
                let (root, id) = (root.to_owned(), id.clone());
                Ok(Self { root, id, overwrite, folder, _lock: lock, finished: false })
            }
            Err(error) => {
                // What failed is the news; an empty folder without a lock is swept next time.
                let _ = fs::remove_dir(&folder);
                Err(AvatarError::file(&folder, error).into())
            }
        }
    }

    /// Where to write the avatar's files, by the names in [`files`].
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The id that it will have.
    pub fn id(&self) -> &AvatarId {
        &self.id
    }

    /// Writes the manifest, with length and hash of every file as it is now, and puts the folder into its place. `each` is
    /// told of every piece that was hashed, in bytes. A file that belongs to no avatar is an error, and so is one that is
    /// missing.
    pub fn finish(self, manifest: Manifest, each: &mut dyn FnMut(u64)) -> Result<PathBuf, StoreError> {
        let (known, unknown) = files::walk(&self.folder)?;
        if let Some(name) = unknown.first() {
            return Err(AvatarError::file(&self.folder.join(name), "is no file of an avatar").into());
        }
        let mut recorded = Files::new();
        for name in known {
            let path = self.folder.join(&name);
            recorded.insert(name, files::record(&path, each)?);
        }
        let manifest = Manifest { format: FORMAT, files: recorded, ..manifest };
        self.write_manifest(&manifest)?;
        self.finish_recorded(&manifest)
    }

    /// Writes the manifest as it is; an error names the field.
    pub(super) fn write_manifest(&self, manifest: &Manifest) -> Result<(), AvatarError> {
        let path = self.folder.join(MANIFEST);
        if manifest.id != self.id {
            let problem = format!("id is {:?}, must be {:?}", manifest.id.as_str(), self.id.as_str());
            return Err(AvatarError::file(&path, problem));
        }
        let text = manifest.text().map_err(|problem| AvatarError::file(&path, problem))?;
        fs::write(&path, text).map_err(|error| AvatarError::file(&path, error))
    }

    /// Puts the folder into its place, whose files are as the manifest in it says.
    pub(super) fn finish_recorded(mut self, manifest: &Manifest) -> Result<PathBuf, StoreError> {
        for folder in manifest.files.keys().filter_map(|name| name.split_once('/')).map(|(folder, _)| folder) {
            sync(&self.folder.join(folder))?;
        }
        for name in manifest.files.keys().map(String::as_str).chain([MANIFEST, ""]) {
            sync(&self.folder.join(name))?;
        }
        let place = self.root.join(self.id.as_str());
        let _locked = lock(&self.root)?;
        if !exists(&place) {
            fs::rename(&self.folder, &place).map_err(|error| AvatarError::file(&place, error))?;
        } else if self.overwrite {
            replace(&self.root, &self.id, &self.folder, &place)?;
        } else {
            // Not by a draft of ours, or this one would have been refused.
            return Err(StoreError::Exists { id: self.id.clone() });
        }
        self.finished = true;
        sync(&self.root)?;
        Ok(place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind is swept next time.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Puts a draft in the place of an avatar, and removes that.
fn replace(root: &Path, id: &AvatarId, draft: &Path, place: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::from(AvatarError::file(place, error));
    let gone = root.join(hidden_name(id, GONE));
    match renameat_with(CWD, draft, CWD, place, RenameFlags::EXCHANGE) {
        // Under a name that is swept even while our lock on it lasts.
        Ok(()) => fs::rename(draft, &gone).map_err(failed)?,
        // A file system that cannot exchange: for a moment there is neither, but the old one comes back if that fails.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::rename(place, &gone).map_err(failed)?;
            if let Err(error) = fs::rename(draft, place) {
                let _ = fs::rename(&gone, place);
                return Err(failed(error));
            }
        }
        Err(error) => return Err(failed(error.into())),
    }
    let _ = fs::remove_dir_all(gone);
    Ok(())
}

/// Writes an avatar's manifest anew, whole or not at all.
pub(super) fn rewrite(root: &Path, folder: &Path, manifest: &Manifest) -> Result<(), AvatarError> {
    let (path, new) = (folder.join(MANIFEST), folder.join(".avatar.toml.new"));
    let text = manifest.text().map_err(|problem| AvatarError::file(&path, problem))?;
    let _locked = lock(root)?;
    fs::write(&new, text).map_err(|error| AvatarError::file(&new, error))?;
    sync(&new)?;
    fs::rename(&new, &path).map_err(|error| AvatarError::file(&path, error))?;
    sync(folder)
}

/// Takes an avatar out of sight at once, and then off the disk. Who has its files open reads on.
pub(super) fn remove(root: &Path, id: &AvatarId) -> Result<(), StoreError> {
    let place = root.join(id.as_str());
    let gone = root.join(hidden_name(id, GONE));
    {
        let _locked = lock(root)?;
        fs::rename(&place, &gone).map_err(|error| AvatarError::file(&place, error))?;
        sync(root)?;
    }
    fs::remove_dir_all(&gone).map_err(|error| AvatarError::file(&gone, error).into())
}

/// Removes what killed processes left in the folder of all avatars. What cannot be removed, or looked for, stays.
pub(super) fn sweep(root: &Path) {
    // Most often there is nothing, and a folder that only others may write needs no lock then.
    if !hidden(root).is_empty()
        && let Ok(_locked) = lock(root)
    {
        sweep_locked(root);
    }
}

fn sweep_locked(root: &Path) {
    for name in hidden(root) {
        let path = root.join(&name);
        let unlocked = File::open(&path).and_then(|file| {
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        });
        if unlocked.is_ok() || name.contains(GONE) {
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::info!(folder = %path.display(), "what a process left that was killed is removed"),
                // Somebody else removes it too, or it is not ours.
                Err(error) => tracing::debug!(folder = %path.display(), %error, "a leftover stays"),
            }
        }
    }
}

/// Names of drafts and of what is being removed.
fn hidden(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // Nothing but what is named exactly as here, as it is going to be removed.
    let ours = |name: &String| {
        let parts = name.strip_prefix('.').and_then(|name| name.split_once(DRAFT).or_else(|| name.split_once(GONE)));
        parts.is_some_and(|(id, digits)| {
            id.parse::<AvatarId>().is_ok() && digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    names.filter(ours).collect()
}

fn hidden_name(id: &AvatarId, what: &str) -> String {
    format!(".{id}{what}{:08x}", rand::rng().random::<u32>())
}

/// Whether anything is there, a broken link too.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Only one at a time until the file is dropped: of all processes and threads that ask so.
fn lock(folder: &Path) -> Result<File, AvatarError> {
    let failed = |error: io::Error| AvatarError::file(folder, error);
    let file = File::open(folder).map_err(failed)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    Ok(file)
}

/// Returns when the disk has it: the folder's list or the file's bytes.
fn sync(path: &Path) -> Result<(), AvatarError> {
    let done = File::open(path).and_then(|file| file.sync_all());
    done.map_err(|error| AvatarError::file(path, error))
}

#[cfg(test)]
mod tests;
