//! `manifest.json` of a model folder: each file's size and hash when it was made, and what it was made from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file beside the weights that says what they are.
pub(super) const MANIFEST: &str = "manifest.json";

/// What a model's folder holds, and where that came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// Every file of the folder by name.
    pub files: BTreeMap<String, Recorded>,
    /// For each network, the file that it was converted from.
    #[serde(default)]
    pub sources: BTreeMap<String, Origin>,
}

/// A file as it was when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Its length.
    pub bytes: u64,
    /// Of its bytes, in hex digits.
    pub sha256: String,
}

/// A file that weights were converted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Its name upstream.
    pub file: String,
    /// Of its bytes, in hex digits.
    pub sha256: String,
}

impl Manifest {
    /// Reads the folder's `manifest.json`.
    pub fn load(folder: &Path) -> io::Result<Self> {
        let text = fs::read(folder.join(MANIFEST))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Writes the folder's `manifest.json`.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(folder.join(MANIFEST), text)
    }

    /// Records a file as it is now.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        let recorded = Recorded { bytes: path.metadata()?.len(), sha256: sha256(path)? };
        self.files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), recorded);
        Ok(())
    }
}

/// A file's SHA-256, in hexadecimal.
pub fn sha256(path: &Path) -> io::Result<String> {
    digest(path, Sha256::new())
}

/// What `hash` makes of a file after what it has seen already, in hexadecimal.
pub fn digest(path: &Path, mut hash: impl Digest) -> io::Result<String> {
    let (mut file, mut buffer) = (File::open(path)?, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}
