//! Where an output may go: an address, or a name in the folder that the settings give.
//!
//! In here: names that are taken, files and folders that are made, and another file for each part of a recording. Not in
//! here: addresses (`address`). Names come from whoever may use the API.

use std::path::{Path, PathBuf};

use super::address::{Address, without};
use crate::media::description::{OutputPlaces, output_values};

/// Longest name; with the number of a part and `.mp4` it fits every file system.
const LONGEST: usize = 100;
/// Parts that a recording has at most; a new one begins when the picture has another size.
const MOST_PARTS: u32 = 1000;

/// Why a name or a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// A name that no file is given.
    #[error("name: use 1 to {LONGEST} of A-Z, a-z, 0-9, '.', '_' and '-', not beginning with '.' or '-'")]
    Name,
    /// There is one of this name.
    #[error("name: there is a recording or a stream {0:?} already: choose another name, or leave it out")]
    Exists(String),
    /// The folder cannot be written.
    #[error("the folder of outputs cannot be written: {0}")]
    Folder(#[source] std::io::Error),
}

/// Where one output goes.
#[derive(Clone)]
pub(crate) enum Place {
    /// A receiver, which may come and go.
    Address(Address),
    /// `<folder>/<name>.mp4`, and `<name>-2.mp4` and so on where the stream begins anew.
    Film {
        /// Where it lies.
        folder: PathBuf,
        /// Without its ending.
        name: String,
    },
    /// A folder with a playlist and its segments.
    Folder(PathBuf),
    /// A video device.
    Device(String),
}

/// Whether a name can be that of a file or folder in ours, and of nothing else.
pub(crate) fn check_name(name: &str) -> Result<(), PlaceError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let starts_well = !name.starts_with(['.', '-']) && !name.is_empty();
    if starts_well && name.len() <= LONGEST && name.bytes().all(allowed) { Ok(()) } else { Err(PlaceError::Name) }
}

impl Place {
    /// Where it goes, as anybody may be told.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Address(address) => address.shown.clone(),
            Self::Film { name, .. } => format!("{name}.mp4"),
            Self::Folder(folder) => {
                folder.file_name().map(|name| format!("{}/index.m3u8", name.to_string_lossy())).unwrap_or_default()
            }
            Self::Device(device) => device.clone(),
        }
    }

    /// Whether a receiver that is lost may come back.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Address(_))
    }

    /// Makes what has to be there before it begins. Fails where something of this name is there already.
    pub(crate) fn claim(&self) -> Result<(), PlaceError> {
        match self {
            Self::Address(_) | Self::Device(_) => Ok(()),
            Self::Film { folder, name } => {
                std::fs::create_dir_all(folder).map_err(PlaceError::Folder)?;
                create(&film(folder, name, 1), name)
            }
            Self::Folder(folder) => {
                let parent = folder.parent().unwrap_or(folder);
                std::fs::create_dir_all(parent).map_err(PlaceError::Folder)?;
                let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                std::fs::create_dir(folder).map_err(|error| named(error, &name))
            }
        }
    }

    /// The placeholders of its description in its attempt of this number, from 1.
    pub(super) fn values(&self, attempt: u32) -> Result<Vec<(&'static str, String)>, PlaceError> {
        let none = OutputPlaces::default();
        Ok(match self {
            Self::Address(address) => output_values(OutputPlaces { url: &address.url, ..none }),
            Self::Film { folder, name } => {
                let path = match attempt {
                    1 => film(folder, name, 1),
                    _ => next_part(folder, name)?,
                };
                output_values(OutputPlaces { path: &path.to_string_lossy(), ..none })
            }
            Self::Folder(folder) => output_values(OutputPlaces { folder: &folder.to_string_lossy(), ..none }),
            Self::Device(device) => output_values(OutputPlaces { device, ..none }),
        })
    }

    /// A message as anybody may be told: without keys, and without where folders lie on this machine.
    pub(super) fn told(&self, message: &str) -> String {
        match self {
            Self::Address(address) => without(&address.secrets, message),
            Self::Film { folder, .. } => without(&[folder.to_string_lossy().into_owned()], message),
            Self::Folder(folder) => without(&[folder.to_string_lossy().into_owned()], message),
            Self::Device(_) => message.to_owned(),
        }
    }
}

fn film(folder: &Path, name: &str, part: u32) -> PathBuf {
    folder.join(if part == 1 { format!("{name}.mp4") } else { format!("{name}-{part}.mp4") })
}

fn next_part(folder: &Path, name: &str) -> Result<PathBuf, PlaceError> {
    for part in 2..=MOST_PARTS {
        let path = film(folder, name, part);
        match create(&path, name) {
            Err(PlaceError::Exists(_)) => {}
            created => return created.map(|()| path),
        }
    }
    Err(PlaceError::Exists(name.to_owned()))
}

/// Makes an empty file; filesink then writes into it.
fn create(path: &Path, name: &str) -> Result<(), PlaceError> {
    std::fs::File::options().write(true).create_new(true).open(path).map(drop).map_err(|error| named(error, name))
}

fn named(error: std::io::Error, name: &str) -> PlaceError {
    if error.kind() == std::io::ErrorKind::AlreadyExists {
        PlaceError::Exists(name.to_owned())
    } else {
        PlaceError::Folder(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for name in ["a", "Talk-2026.11_1", "x".repeat(100).as_str()] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "../a", "a/b", ".hidden", "-x", "a b", "a\"b", "ä", "a%d", "x".repeat(101).as_str()]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn nothing_that_is_there_is_written_over_and_each_part_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Film { folder: folder.path().join("films"), name: "talk".to_owned() };
        place.claim().unwrap();
        assert!(matches!(place.claim().unwrap_err(), PlaceError::Exists(_)));
        let path = |attempt| place.values(attempt).unwrap().into_iter().find(|(name, _)| *name == "path").unwrap().1;
        let parts = [path(1), path(2), path(3)];
        for (part, name) in parts.iter().zip(["talk.mp4", "talk-2.mp4", "talk-3.mp4"]) {
            assert!(part.ends_with(name) && Path::new(part).exists(), "{part}");
        }
        let stream = Place::Folder(folder.path().join("films/live"));
        stream.claim().unwrap();
        assert!(stream.claim().unwrap_err().to_string().contains("\"live\""));
        assert_eq!((place.shown(), stream.shown()), ("talk.mp4".to_owned(), "live/index.m3u8".to_owned()));
        assert!(!place.told(&format!("cannot write {}", parts[0])).contains("films"));
    }
}
