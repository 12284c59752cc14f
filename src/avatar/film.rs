//! An avatar's own frames on disk: compressed, read one at a time by number, so that memory does not grow with length.
//!
//! In here: the files' names, their layout and the reader. `film::writer` writes them, `film::index` is the table of where
//! each frame lies. Not in here: which frame is shown when (`avatar::cycle`), and decoding ahead (`playout`).
//! Runs on: any thread, several at a time; a read blocks for the disk and for some milliseconds of decoding, so it is no
//! work for the playout thread.
//!
//! `frames.mjpeg` holds the whole frames, with their mattes if there are any, one JPEG behind the other. `regions.mjpeg` holds the rectangle around the mouth of
//! each frame once more, in full colour resolution and finer: it is what a mouth is drawn from and pasted into. A frame is
//! shown with its region laid over it, so pasting nothing changes nothing, bit for bit.

mod index;
mod writer;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AvatarError, Manifest};
use crate::picture::{AvatarFrame, CropBox, I420Frame, Region, color, jpeg};
use index::Index;

pub use writer::FilmWriter;

/// The whole frames.
pub const FRAMES: &str = "frames.mjpeg";
/// The rectangle around the mouth of each.
pub const REGIONS: &str = "regions.mjpeg";
/// Where each frame and each region lies, and where the mouth is.
pub const INDEX: &str = "index.safetensors";
/// Four hours at 25 fps: what one film may have.
pub const MOST_FRAMES: usize = 360_000;

/// The frames of an avatar, on disk. Cheap to keep: three open files and eight bytes a frame.
#[derive(Debug)]
pub struct Film {
    /// Of the pictures, without the matte.
    width: u32,
    height: u32,
    /// Of the frames, with it.
    frame_size: (u32, u32),
    index: Index,
    frames: Pack,
    regions: Pack,
}

impl Film {
    /// Opens the three files in an avatar's folder and checks that they belong together and to its manifest; no picture is
    /// read. The time that takes does not depend on how long the film is, but for sixteen bytes a frame.
    pub fn open(folder: &Path, manifest: &Manifest) -> Result<Self, AvatarError> {
        let (width, height) = (manifest.width, manifest.height);
        let (frames, regions) = (Pack::open(folder.join(FRAMES))?, Pack::open(folder.join(REGIONS))?);
        let path = folder.join(INDEX);
        let index = Index::open(&path, (width, height), [frames.length, regions.length])?;
        if let Some(wanted) = manifest.frames.filter(|wanted| usize::try_from(*wanted) != Ok(index.len())) {
            return Err(AvatarError::file(&path, format!("has {} frames, avatar.toml says {wanted}", index.len())));
        }
        Ok(Self { width, height, frame_size: manifest.frame_size(), index, frames, regions })
    }

    /// How many frames there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Where the generated crop belongs in a frame; its size may be another in each. `None` beyond the last frame.
    pub fn crop(&self, frame: usize) -> Option<CropBox> {
        self.index.crop(frame)
    }

    /// Whole pixels around the mouth: all of the crop that lies in the frame. Crops of one size have regions of one size.
    pub fn region(&self, frame: usize) -> Result<Region, AvatarError> {
        let crop = self.crop(frame).ok_or_else(|| self.beyond(frame))?;
        // Checked when the index was opened.
        let place = region_of(crop, (self.width, self.height)).ok_or_else(|| self.beyond(frame))?;
        let bytes = self.regions.read(self.index.region_at(frame)?, frame, place.width, place.height)?;
        let picture = jpeg::read_rgb(&bytes, place.width, place.height)
            .map_err(|error| self.regions.failed(format!("region {frame} {error}")))?;
        Ok(Region { rgb: picture.rgb, ..place })
    }

    /// A whole frame as it is shown, ready for the encoder.
    pub fn picture(&self, frame: usize) -> Result<I420Frame, AvatarError> {
        Ok(self.with_region(frame)?.0)
    }

    /// A whole frame, where the mouth goes in it, and the pixels around it.
    pub fn frame(&self, frame: usize) -> Result<AvatarFrame, AvatarError> {
        let crop = self.crop(frame).ok_or_else(|| self.beyond(frame))?;
        let (picture, region) = self.with_region(frame)?;
        Ok(AvatarFrame { picture: Arc::new(picture), crop, region })
    }

    fn with_region(&self, frame: usize) -> Result<(I420Frame, Region), AvatarError> {
        let region = self.region(frame)?;
        let (width, height) = self.frame_size;
        let bytes = self.frames.read(self.index.frame_at(frame)?, frame, width, height)?;
        let mut picture = jpeg::read_i420(&bytes, width, height)
            .map_err(|error| self.frames.failed(format!("frame {frame} {error}")))?;
        color::write_region(&mut picture, region.x, region.y, region.width, region.height, &region.rgb);
        Ok((picture, region))
    }

    fn beyond(&self, frame: usize) -> AvatarError {
        self.frames.failed(format!("has {} frames, not one of number {frame}", self.len()))
    }
}

/// JPEGs one behind the other in a file.
#[derive(Debug)]
struct Pack {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Pack {
    fn open(path: PathBuf) -> Result<Self, AvatarError> {
        let (file, length) = open(&path)?;
        Ok(Self { path, file, length })
    }

    /// The bytes from `start` to `end`, no more than a picture of this size can have.
    fn read(&self, (start, end): (u64, u64), frame: usize, width: u32, height: u32) -> Result<Vec<u8>, AvatarError> {
        // Noise at the highest quality takes less than its pixels; headers are below one kilobyte.
        let most = u64::from(width) * u64::from(height) * 4 + 4096;
        let length = end.checked_sub(start).filter(|length| *length <= most && end <= self.length);
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| {
            self.failed(format!("frame {frame} cannot lie from {start} to {end} of its {} bytes", self.length))
        })?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| self.failed(format!("frame {frame}: {error}")))?;
        Ok(bytes)
    }

    fn failed(&self, problem: String) -> AvatarError {
        AvatarError::file(&self.path, problem)
    }
}

/// A plain file and its length: a pipe or a device would never end.
fn open(path: &Path) -> Result<(File, u64), AvatarError> {
    let failed = |error: std::io::Error| AvatarError::file(path, error);
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(AvatarError::file(path, "is not a file"));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

/// The rectangle that is kept for a crop: even, inside the frame, around all of the crop that is, and of a size that depends
/// on those of crop and frame alone. Without its pixels. `None` if the crop lies beside the frame.
fn region_of(crop: CropBox, (width, height): (u32, u32)) -> Option<Region> {
    let along = |at: i32, length: u32, end: u32| {
        let reaches = i64::from(at) < i64::from(end) && i64::from(at) + i64::from(length) > 0;
        // One more than the crop where that begins at an odd place.
        let size = (length.checked_add(2)? & !1).min(end);
        let first = u32::try_from((at & !1).max(0)).ok()?.min(end.checked_sub(size)?);
        reaches.then_some((first, size))
    };
    let (x, width) = along(crop.x, crop.width, width)?;
    let (y, height) = along(crop.y, crop.height, height)?;
    Some(Region { x, y, width, height, rgb: Vec::new() })
}

#[cfg(test)]
mod tests;
