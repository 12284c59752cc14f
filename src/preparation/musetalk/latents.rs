//! The latents of all frames, made in batches and kept on disk as they come: a preparation that was cut off goes on where it
//! was.
//!
//! In here: which faces were encoded before, and the finished file. Not in here: the encoder (`musetalk`).
//!
//! What is kept is a file beside the avatars, `.anna.latents-part`: the encoder's fingerprint, then for each face the hash of
//! its pixels, its latents, and a check of both. So nothing depends on which frames or options it was made with: a face that
//! is asked for again is known by its pixels. It is removed when its avatar is done, or when it is a week old.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::avatar::AvatarError;
use crate::ids::AvatarId;
use crate::lipsync::LipSyncError;
use crate::models::checkpoint::write_safetensors;
use crate::models::{CheckpointError, DType};
use crate::musetalk::FaceEncoder;
use crate::picture::RgbPicture;

/// Behind the id in the names of the files that are kept.
const KEPT: &str = ".latents-part";
/// Of a file that is kept: that it is one, and of which layout.
const MAGIC: &[u8; 8] = b"mplat\0\0\x01";
const HASH: usize = 32;
/// Bytes of the check behind a face's latents.
const CHECK: usize = 8;
/// How long a file is kept of a preparation that nobody went on with.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

type Key = [u8; HASH];

/// The latents of an avatar's frames so far.
pub struct Latents<'a> {
    encoder: &'a FaceEncoder,
    kept: Kept,
    known: HashMap<Key, Vec<u8>>,
    /// Faces of the next batch.
    waiting: Vec<(Key, RgbPicture)>,
    /// Of each frame.
    frames: Vec<Key>,
    /// How many faces were known from before.
    found: usize,
}

impl<'a> Latents<'a> {
    /// Begins, or goes on, with the latents of an avatar in the folder of all avatars.
    pub fn begin(root: &Path, id: &AvatarId, encoder: &'a FaceEncoder) -> Self {
        forget_old(root);
        let bytes = encoder.shape().iter().product::<u64>() * 2;
        let record = HASH + usize::try_from(bytes).unwrap_or(0) + CHECK;
        let path = root.join(format!(".{id}{KEPT}"));
        let (kept, known) = Kept::open(path, encoder.fingerprint(), record);
        Self { encoder, kept, found: known.len(), known, waiting: Vec::new(), frames: Vec::new() }
    }

    /// How many faces were encoded by a preparation before, of the same avatar and with the same encoder.
    pub fn found(&self) -> usize {
        self.found
    }

    /// The next frame's face, as large as the encoder takes it. Every so many of them are encoded, which takes a while.
    pub fn push(&mut self, face: RgbPicture) -> Result<(), LipSyncError> {
        let key: Key = Sha256::digest(&face.rgb).into();
        self.frames.push(key);
        if !self.known.contains_key(&key) && self.waiting.iter().all(|(waiting, _)| *waiting != key) {
            self.waiting.push((key, face));
        }
        if self.waiting.len() >= self.encoder.batch() { self.encode() } else { Ok(()) }
    }

    fn encode(&mut self) -> Result<(), LipSyncError> {
        let (keys, faces): (Vec<Key>, Vec<RgbPicture>) = self.waiting.drain(..).unzip();
        let latents = self.encoder.latents(&faces)?;
        for (key, latents) in keys.into_iter().zip(latents) {
            self.kept.add(&key, &latents);
            self.known.insert(key, latents);
        }
        Ok(())
    }

    /// Writes `latents.safetensors` with those of all frames, in their order.
    pub fn finish(mut self, path: &Path) -> Result<Done, Unfinished> {
        self.encode()?;
        let bytes = self.frames.iter().filter_map(|key| self.known.get(key)).flatten().copied().collect::<Vec<u8>>();
        write(path, self.frames.len(), self.encoder.shape(), bytes)?;
        Ok(Done(self.kept))
    }
}

/// Writes `latents.safetensors`: for each frame channels, rows and columns of 16-bit floats, little-endian.
pub fn write(
    path: &Path,
    frames: usize,
    [channels, rows, columns]: [u64; 3],
    latents: Vec<u8>,
) -> Result<(), AvatarError> {
    let described = [("latents".to_owned(), vec![frames as u64, channels, rows, columns], DType::F16)];
    let mut latents = Some(latents);
    write_safetensors(path, &described, |_| Ok::<_, CheckpointError>(latents.take().unwrap_or_default()))
        .map_err(|error| AvatarError::file(path, error.problem))
}

/// The latents are in the avatar's folder; what was kept meanwhile is not needed once that has its place.
pub struct Done(Kept);

impl Done {
    /// Removes what was kept.
    pub fn forget(self) {
        // A file that stays is removed in a week.
        let _ = fs::remove_file(&self.0.path);
    }
}

/// Why the latents are not there.
pub enum Unfinished {
    Network(LipSyncError),
    File(AvatarError),
}

impl From<LipSyncError> for Unfinished {
    fn from(error: LipSyncError) -> Self {
        Self::Network(error)
    }
}

impl From<AvatarError> for Unfinished {
    fn from(error: AvatarError) -> Self {
        Self::File(error)
    }
}

/// The file that is kept. Whatever is wrong with it costs time, but not the avatar.
struct Kept {
    path: PathBuf,
    file: Option<File>,
}

impl Kept {
    /// Opens or begins the file; with what is in it that can be used.
    fn open(path: PathBuf, fingerprint: [u8; HASH], record: usize) -> (Self, HashMap<Key, Vec<u8>>) {
        let known = read(&path, fingerprint, record).unwrap_or_default();
        let begun = begin(&path, fingerprint, record, &known);
        if let Err(error) = &begun {
            tracing::warn!(path = %path.display(), %error, "latents are not kept: a preparation that is cut off begins anew");
        }
        (Self { path, file: begun.ok() }, known)
    }

    fn add(&mut self, key: &Key, latents: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(&record_of(key, latents)) {
            tracing::warn!(path = %self.path.display(), %error, "no more latents are kept");
            self.file = None;
        }
    }
}

/// A face's hash, its latents, and a check of both, as one write.
fn record_of(key: &Key, latents: &[u8]) -> Vec<u8> {
    [key, latents, &check(key, latents)].concat()
}

fn check(key: &[u8], latents: &[u8]) -> [u8; CHECK] {
    let hash = Sha256::new().chain_update(key).chain_update(latents).finalize();
    std::array::from_fn(|at| hash.get(at).copied().unwrap_or_default())
}

/// Every whole record of a file of this encoder. A record that was cut off ends the file.
fn read(path: &Path, fingerprint: [u8; HASH], record: usize) -> io::Result<HashMap<Key, Vec<u8>>> {
    let mut file = File::open(path)?;
    let mut head = [0; MAGIC.len() + HASH];
    file.read_exact(&mut head)?;
    let mut known = HashMap::new();
    if head != *[&MAGIC[..], &fingerprint].concat() {
        return Ok(known);
    }
    let mut bytes = vec![0; record];
    while file.read_exact(&mut bytes).is_ok() {
        let whole =
            bytes.split_first_chunk::<HASH>().and_then(|(key, rest)| Some((key, rest.split_last_chunk::<CHECK>()?)));
        let Some((key, (latents, given))) = whole else { break };
        if check(key, latents) != *given {
            break;
        }
        known.insert(*key, latents.to_vec());
    }
    Ok(known)
}

/// A file with these records, to be added to: the old one as far as it is whole, or a new one.
fn begin(path: &Path, fingerprint: [u8; HASH], record: usize, known: &HashMap<Key, Vec<u8>>) -> io::Result<File> {
    let head = [&MAGIC[..], &fingerprint].concat();
    let whole = (head.len() + record * known.len()) as u64;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path)?;
    if known.is_empty() {
        file.set_len(0)?;
        file.write_all(&head)?;
    } else {
        file.set_len(whole)?;
    }
    Ok(file)
}

/// Removes files that nobody went on with.
fn forget_old(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(KEPT)?.parse::<AvatarId>().ok());
        let age = entry.metadata().and_then(|about| about.modified()).ok().and_then(|modified| modified.elapsed().ok());
        if ours.is_some() && age.is_some_and(|age| age > KEPT_FOR) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &Path, fingerprint: u8, record: usize) -> (Kept, HashMap<Key, Vec<u8>>) {
        Kept::open(path.to_owned(), [fingerprint; HASH], record)
    }

    #[test]
    fn what_was_kept_is_found_again_up_to_where_it_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".anna.latents-part");
        let record = HASH + 6 + CHECK;
        let (mut file, known) = kept(&path, 1, record);
        assert!(known.is_empty());
        for face in 1..=3 {
            file.add(&[face; HASH], &[face; 6]);
        }
        let whole = fs::read(&path).unwrap();
        // The third was cut off in its middle, and another is added in its place.
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let (mut file, known) = kept(&path, 1, record);
        assert_eq!(known.len(), 2);
        assert_eq!(known[&[2; HASH]], [2; 6]);
        file.add(&[9; HASH], &[9; 6]);
        let known = kept(&path, 1, record).1;
        assert_eq!((known.len(), &known[&[9; HASH]]), (3, &vec![9; 6]));
    }

    #[test]
    fn what_another_encoder_made_or_is_damaged_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".anna.latents-part");
        let record = HASH + 6 + CHECK;
        let (mut file, _) = kept(&path, 1, record);
        file.add(&[1; HASH], &[1; 6]);
        file.add(&[2; HASH], &[2; 6]);
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.len() - record + HASH;
        bytes[second] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(kept(&path, 1, record).1.len(), 1);
        assert_eq!(kept(&path, 2, record).1.len(), 0);
        assert_eq!(kept(&path, 1, record).1.len(), 0, "the other encoder began anew");
        fs::write(&path, b"no such file").unwrap();
        assert_eq!(kept(&path, 1, record).1.len(), 0);
    }
}
