//! What is known of the files of a folder, so that a change of them is noticed.
//!
//! In here: when a file has changed and has been written to its end. Editors write another file and rename it, so it is
//! looked for by its name each time. Not in here: what a change leads to (`live`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use crate::media::PipelineDir;

/// Of a description; the longest here has a hundredth.
const MOST_BYTES: u64 = 1 << 20;

/// What a file's entry says of it, of which something is another once it has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    changed: Option<SystemTime>,
    bytes: u64,
    /// A file that was renamed to this name is another one.
    inode: u64,
}

impl Signature {
    /// `None` if there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let found = std::fs::metadata(path).ok()?;
        Some(Self { changed: found.modified().ok(), bytes: found.len(), inode: found.ino() })
    }
}

/// What one file was when it was looked at last.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What was made of it is that of this text.
    pub text: Option<String>,
    pub signature: Option<Signature>,
    /// It could not be read.
    pub is_gone: bool,
    /// What it was at the last look, if it has not been read since.
    pub waiting: Option<Option<Signature>>,
}

impl Known {
    /// Whether it is the very file that was read.
    pub fn is_as(&self, now: Option<Signature>) -> bool {
        now == self.signature && (self.text.is_some() || self.is_gone)
    }

    /// Whether it is another file than the one that was read; with `settled`, and was so the last time.
    pub fn is_to_be_read(&mut self, now: Option<Signature>, settled: bool) -> bool {
        let is_same = self.is_as(now);
        let has_settled = self.waiting == Some(now) || !settled;
        self.waiting = (!is_same).then_some(now);
        !is_same && has_settled
    }
}

/// The files of a folder as they are; those in use as they were when they were read for that.
pub(super) fn known(directory: &PipelineDir, used: impl Fn(&str) -> Option<String>) -> BTreeMap<String, Known> {
    let PipelineDir::Directory(folder) = directory else { return BTreeMap::new() };
    let files = directory.files().unwrap_or_default();
    let known = files.into_iter().map(|file| {
        let path = folder.join(&file);
        let signature = Signature::of(&path);
        let now = read(&path).ok();
        // One that was written in between is looked at again.
        let (text, signature) = match used(&file) {
            Some(used) if now.as_ref() != Some(&used) => (Some(used), None),
            _ => (now, signature),
        };
        (file, Known { is_gone: text.is_none(), text, signature, waiting: None })
    });
    known.collect()
}

/// A file's text, or why there is none.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if length > MOST_BYTES { Err("it is longer than a megabyte".to_owned()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_it_has_stopped_changing() {
        let signature = |bytes| Some(Signature { changed: None, bytes, inode: 1 });
        let mut known = Known { text: Some(String::new()), signature: signature(1), ..Known::default() };
        assert!(!known.is_to_be_read(signature(1), true) && !known.is_to_be_read(signature(1), false));
        assert!(!known.is_to_be_read(signature(2), true), "it may be half written");
        assert!(!known.is_to_be_read(signature(3), true), "it was");
        assert!(known.is_to_be_read(signature(3), true));
        let mut known = Known { text: Some(String::new()), signature: signature(1), ..Known::default() };
        assert!(known.is_to_be_read(signature(2), false), "whoever asks says that it is done");
        assert!(!known.is_to_be_read(None, true) && known.is_to_be_read(None, true), "it is gone");
    }
}
