//! One file for carrying an avatar: a tar archive of its manifest and then of its files.
//!
//! In here: packing and unpacking. Not in here: where the avatar is put (`avatar::draft`), what is in its files.
//! Runs on: whoever exports or imports; both stream, with a quarter of a megabyte in memory.
//!
//! Tar, and nothing compressed in it: the pictures are compressed already, what is not expanded cannot be a bomb, and one
//! pass suffices to write and to read it, from a pipe too. Every system can open it. The manifest comes first and has the
//! length and hash of each file, so a file that is not as announced is refused before or while it is read.
//!
//! An archive may come from anybody. Of tar only plain files are read, by names that an avatar's folder may have; links, long
//! names, sparse files and other extensions are refused as they come. What was unpacked so far disappears with the draft.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{Archive, Builder, Entry, EntryType, Header};

use super::draft::Draft;
use super::files::{self, Files, LONGEST_MANIFEST, MANIFEST};
use super::manifest::{FORMAT, Manifest};
use super::store::StoreError;
use super::{AvatarError, check};
use crate::ids::AvatarId;
use crate::models::disk::ensure_free;
use crate::models::manifest::Recorded;

/// What the file is called: the id and this behind a dot.
pub const EXTENSION: &str = "mouthpiece";
const PIECE: usize = 1 << 18;

/// How much an archive may bring.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All files together.
    pub bytes: u64,
    /// How many files.
    pub files: usize,
}

impl Default for Limits {
    /// Those of somebody at this machine: an hour of 1080p, or a drawn avatar of as many frames as there may be.
    fn default() -> Self {
        Self { bytes: 32 << 30, files: 4096 }
    }
}

/// Packs a folder. `each` is told of every piece that was written, in bytes. A file that is not as the manifest says is an
/// error; an avatar of an older format is packed in the present one.
pub(super) fn pack(
    folder: &Path,
    manifest: Manifest,
    out: &mut dyn Write,
    each: &mut dyn FnMut(u64),
) -> Result<(), StoreError> {
    let manifest = if manifest.format == FORMAT { manifest } else { check::upgraded(folder, manifest, &mut |_| ())? };
    let path = folder.join(MANIFEST);
    let text = manifest.text().map_err(|problem| AvatarError::file(&path, problem))?;
    let mut archive = Builder::new(out);
    let failed = StoreError::Write;
    append(&mut archive, MANIFEST, text.len() as u64, text.as_bytes()).map_err(failed)?;
    for (name, recorded) in &manifest.files {
        let path = folder.join(name);
        let wrong = |problem: &dyn std::fmt::Display| AvatarError::file(&path, problem);
        let file = File::open(&path).map_err(|error| wrong(&error))?;
        let length = file.metadata().map_err(|error| wrong(&error))?.len();
        if length != recorded.bytes {
            return Err(wrong(&format!("has {length} bytes, {MANIFEST} says {}: it is damaged", recorded.bytes)).into());
        }
        let mut read = Hashing { file: file.take(length), hash: Sha256::new(), bytes: 0, each };
        append(&mut archive, name, length, &mut read).map_err(failed)?;
        if read.bytes != length || files::hex(read.hash) != recorded.sha256 {
            return Err(wrong(&"is not what it was when it was made: its hash differs").into());
        }
    }
    archive.finish().map_err(failed)
}

/// The same avatar gives the same archive, whoever packs it and when.
fn append(archive: &mut Builder<&mut dyn Write>, name: &str, length: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name)?;
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    archive.append(&header, bytes)
}

/// A file that is hashed as it is read.
struct Hashing<'a> {
    file: io::Take<File>,
    hash: Sha256,
    bytes: u64,
    each: &'a mut dyn FnMut(u64),
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        self.bytes += read as u64;
        (self.each)(read as u64);
        Ok(read)
    }
}

/// Where an archive comes from, and what it may become.
pub struct Import<'a> {
    /// Its bytes, from the first.
    pub archive: &'a mut dyn Read,
    /// What errors call it.
    pub name: &'a str,
    /// The id that the avatar gets here; its own if left out.
    pub id: Option<&'a AvatarId>,
    /// Whether an avatar of that id is replaced.
    pub overwrite: bool,
    /// How much it may bring.
    pub limits: Limits,
}

/// Unpacks an archive into the folder of all avatars; gives the avatar's id. `each` is told of every piece that was read, in
/// bytes.
pub(super) fn unpack(root: &Path, from: Import<'_>, each: &mut dyn FnMut(u64)) -> Result<AvatarId, StoreError> {
    let Import { archive, name, id, overwrite, limits } = from;
    let wrong = |problem: String| StoreError::Archive { name: name.to_owned(), problem };
    let unreadable = |error: io::Error| wrong(format!("cannot be read on: {}", of_tar(&error)));
    let mut archive = Archive::new(archive);
    // Raw: what would give an entry another name, length or content is an entry like all others, and refused.
    let mut entries = archive.entries().map_err(unreadable)?.raw(true);
    let first = entries.next().transpose();
    let first = first.map_err(|error| wrong(format!("is no archive of an avatar: {}", of_tar(&error))))?;
    let mut first = first.ok_or_else(|| wrong("is empty".to_owned()))?;
    let mut manifest = read_manifest(&mut first).map_err(wrong)?;
    let total = within(&manifest.files, limits).map_err(wrong)?;
    if let Some(id) = id {
        manifest.id = id.clone();
    }
    let draft = Draft::begin(root, &manifest.id, overwrite)?;
    ensure_free(root, total).map_err(|(free, wanted)| {
        let folder = root.display().to_string();
        StoreError::NoRoom { folder, free, wanted }
    })?;
    let mut expected = manifest.files.clone();
    for entry in entries {
        let mut entry = entry.map_err(unreadable)?;
        let file = name_of(&entry).map_err(wrong)?;
        let Some(recorded) = expected.remove(&file) else {
            let twice = manifest.files.contains_key(&file) || file == MANIFEST;
            let problem = if twice { "more than once" } else { "which its manifest does not list" };
            return Err(wrong(format!("holds {file:?} {problem}")));
        };
        let length = entry.header().size().map_err(unreadable)?;
        if length != recorded.bytes {
            return Err(wrong(format!("holds {file:?} of {length} bytes, its manifest says {}", recorded.bytes)));
        }
        let target = draft.path().join(&file);
        copy(&mut entry, &target, &recorded, each)?
            .map_err(|problem| wrong(format!("holds {file:?}, which {problem}")))?;
    }
    if let Some(file) = expected.keys().next() {
        return Err(wrong(format!("ends without {file:?}: it was cut off")));
    }
    draft.write_manifest(&manifest)?;
    check::contents(draft.path(), &manifest, check::Depth::Headers).map_err(|problem| {
        let folder = format!("{}/", draft.path().display());
        wrong(format!("holds no avatar that could be used: {}", problem.to_string().replace(&folder, "")))
    })?;
    draft.finish_recorded(&manifest)?;
    Ok(manifest.id)
}

/// What kept an archive from being read. The reader's own words quote the file's bytes, whatever they are.
fn of_tar(error: &io::Error) -> String {
    match (error.raw_os_error(), error.kind()) {
        (Some(_), _) => error.to_string(),
        (None, io::ErrorKind::UnexpectedEof) => "it was cut off".to_owned(),
        _ => "it has a header that is none of a tar file's, which `mouthpiece avatars export` writes".to_owned(),
    }
}

fn read_manifest(entry: &mut Entry<'_, &mut dyn Read>) -> Result<Manifest, String> {
    let file = name_of(entry)?;
    if file != MANIFEST {
        return Err(format!("begins with {file:?}, an avatar's archive begins with {MANIFEST:?}"));
    }
    let length = entry.header().size().map_err(|error| error.to_string())?;
    if length > LONGEST_MANIFEST {
        return Err(format!("has a manifest of {length} bytes, the most are {LONGEST_MANIFEST}"));
    }
    let mut text = String::new();
    entry.read_to_string(&mut text).map_err(|error| format!("has a manifest that cannot be read: {error}"))?;
    let manifest = Manifest::parse(&text).map_err(|problem| format!("has a manifest that is wrong: {problem}"))?;
    if manifest.format < FORMAT {
        return Err(format!("has a manifest of format {}, an archive's is {FORMAT}", manifest.format));
    }
    Ok(manifest)
}

/// The name of an entry that is a plain file.
fn name_of(entry: &Entry<'_, &mut dyn Read>) -> Result<String, String> {
    let name = String::from_utf8_lossy(&entry.header().path_bytes()).into_owned();
    match entry.header().entry_type() {
        EntryType::Regular => Ok(name),
        EntryType::Symlink | EntryType::Link => {
            Err(format!("holds {name:?}, which is a link: only plain files may be"))
        }
        other => Err(format!("holds {name:?} of type {other:?}: only plain files may be")),
    }
}

/// The bytes of all files, if they are few enough.
fn within(files: &Files, limits: Limits) -> Result<u64, String> {
    if files.len() > limits.files {
        return Err(format!("lists {} files, at most {} are taken", files.len(), limits.files));
    }
    let total = files.values().fold(0_u64, |total, file| total.saturating_add(file.bytes));
    if total > limits.bytes {
        return Err(format!("lists {total} bytes, at most {} are taken", limits.bytes));
    }
    Ok(total)
}

/// Writes an entry into a new file. The outer error is the disk's, the inner one the archive's.
fn copy(
    entry: &mut Entry<'_, &mut dyn Read>,
    target: &Path,
    recorded: &Recorded,
    each: &mut dyn FnMut(u64),
) -> Result<Result<(), String>, AvatarError> {
    let failed = |error: io::Error| AvatarError::file(target, error);
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = File::create_new(target).map_err(failed)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let read = match entry.read(&mut buffer) {
            Ok(read) => read,
            Err(error) => return Ok(Err(format!("cannot be read on: {error}"))),
        };
        let piece = buffer.get(..read).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        file.write_all(piece).map_err(failed)?;
        hash.update(piece);
        bytes += read as u64;
        each(read as u64);
    }
    if bytes != recorded.bytes {
        return Ok(Err(format!("ends after {bytes} of {} bytes: it was cut off", recorded.bytes)));
    }
    if files::hex(hash) != recorded.sha256 {
        return Ok(Err("is not what its manifest says: its hash differs".to_owned()));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests;
