//! `index.safetensors` of a film: where each frame and region begins, and where the mouth is in it.
//!
//! Tensors: `frames` and `regions`, I64 [N + 1], the place of each JPEG in its file and of the end; `crops`, I32 [N, 4],
//! x, y, width and height of the generated crop. Places are read from the file when a frame is, crops are kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{MOST_FRAMES, open, region_of};
use crate::avatar::AvatarError;
use crate::models::checkpoint::write_safetensors;
use crate::models::{Checkpoint, CheckpointError, DType};
use crate::picture::CropBox;

/// How far a crop may reach beside a frame, and how large it may be, in pixels.
const FARTHEST: i32 = 4096;

#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    file: File,
    /// Where the numbers of `frames` and of `regions` begin.
    tables: [u64; 2],
    /// Left, top, width and height of each crop.
    crops: Vec<[i16; 4]>,
}

impl Index {
    /// For a film of frames this large, whose two files are this long.
    pub(super) fn open(path: &Path, frame: (u32, u32), lengths: [u64; 2]) -> Result<Self, AvatarError> {
        let wrong = |problem: String| AvatarError::file(path, problem);
        let (file, _) = open(path)?;
        let header = Checkpoint::open(path).map_err(|error| wrong(error.problem.to_string()))?;
        let tensor = |name: &str| {
            let found = header.tensors().iter().find(|tensor| tensor.name == name);
            found.ok_or_else(|| wrong(format!("has no tensor {name}")))
        };
        let crops = tensor("crops")?;
        let count = match crops.shape[..] {
            [count, 4] if crops.dtype == DType::I32 => usize::try_from(count).unwrap_or(usize::MAX),
            _ => return Err(wrong(format!("crops must be I32 [N, 4], is {} {:?}", crops.dtype, crops.shape))),
        };
        if !(1..=MOST_FRAMES).contains(&count) {
            return Err(wrong(format!("has {count} frames, must have 1 to {MOST_FRAMES}")));
        }
        let mut tables = [0; 2];
        for (table, name) in tables.iter_mut().zip(["frames", "regions"]) {
            let places = tensor(name)?;
            if places.dtype != DType::I64 || places.shape != [count as u64 + 1] {
                let (dtype, shape) = (places.dtype, &places.shape);
                return Err(wrong(format!("{name} must be I64 [{}], is {dtype} {shape:?}", count + 1)));
            }
            *table = places.start().ok_or_else(|| wrong(format!("{name} lies scattered")))?;
        }
        let numbers = header.read(crops).map_err(|error| wrong(error.problem.to_string()))?;
        let crops = crops_of(&numbers, frame).map_err(wrong)?;
        let index = Self { path: path.to_owned(), file, tables, crops };
        for (table, (name, length)) in [("frames", lengths[0]), ("regions", lengths[1])].into_iter().enumerate() {
            let (first, end) = (index.number(table, 0)?, index.number(table, count)?);
            if first != 0 || end != length {
                return Err(index.failed(format!("{name} lie from {first} to {end}, their file has {length} bytes")));
            }
        }
        Ok(index)
    }

    pub(super) fn len(&self) -> usize {
        self.crops.len()
    }

    pub(super) fn crop(&self, frame: usize) -> Option<CropBox> {
        let &[x, y, width, height] = self.crops.get(frame)?;
        Some(CropBox {
            x: x.into(),
            y: y.into(),
            width: width.unsigned_abs().into(),
            height: height.unsigned_abs().into(),
        })
    }

    /// From where to where the frame's JPEG lies. Neither is checked.
    pub(super) fn frame_at(&self, frame: usize) -> Result<(u64, u64), AvatarError> {
        Ok((self.number(0, frame)?, self.number(0, frame + 1)?))
    }

    /// From where to where the region's JPEG lies. Neither is checked.
    pub(super) fn region_at(&self, frame: usize) -> Result<(u64, u64), AvatarError> {
        Ok((self.number(1, frame)?, self.number(1, frame + 1)?))
    }

    fn number(&self, table: usize, at: usize) -> Result<u64, AvatarError> {
        let start = self.tables.get(table).copied().unwrap_or_default();
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, start + at as u64 * 8);
        read.map_err(|error| self.failed(error.to_string()))?;
        let number = i64::from_le_bytes(bytes);
        u64::try_from(number).map_err(|_| self.failed(format!("has a frame that begins at {number}")))
    }

    fn failed(&self, problem: String) -> AvatarError {
        AvatarError::file(&self.path, problem)
    }
}

/// Whether a crop is one that an index may have.
pub(super) fn is_near(crop: CropBox) -> bool {
    let near = |at: i32| at.unsigned_abs() <= FARTHEST.unsigned_abs();
    let length = |length: u32| (1..=FARTHEST.unsigned_abs()).contains(&length);
    near(crop.x) && near(crop.y) && length(crop.width) && length(crop.height)
}

/// The crops of a table of theirs, each of which must be near the frame and no larger than any is.
fn crops_of(numbers: &[u8], frame: (u32, u32)) -> Result<Vec<[i16; 4]>, String> {
    let mut crops = Vec::with_capacity(numbers.len() / 16);
    for (at, bytes) in numbers.as_chunks::<16>().0.iter().enumerate() {
        let number = |place: usize| {
            let bytes = bytes.get(place * 4..place * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, i32::from_le_bytes)
        };
        let [x, y, width, height] = [0, 1, 2, 3].map(number);
        let crop =
            CropBox { x, y, width: u32::try_from(width).unwrap_or(0), height: u32::try_from(height).unwrap_or(0) };
        if !is_near(crop) || region_of(crop, frame).is_none() {
            return Err(format!("crop {at}, {width}x{height} at {x}, {y}, does not lie in the frame"));
        }
        crops.push([x, y, width, height].map(|value| i16::try_from(value).unwrap_or(0)));
    }
    Ok(crops)
}

/// Writes the index of a film: ends of frames and of regions, and crops.
pub(super) fn write(path: &Path, ends: &[Vec<u64>; 2], crops: &[CropBox]) -> Result<(), AvatarError> {
    let count = crops.len() as u64;
    let described = [
        ("frames".to_owned(), vec![count + 1], DType::I64),
        ("regions".to_owned(), vec![count + 1], DType::I64),
        ("crops".to_owned(), vec![count, 4], DType::I32),
    ];
    let written = write_safetensors(path, &described, |tensor| {
        let places = |ends: &[u64]| std::iter::once(&0).chain(ends).flat_map(|end| end.to_le_bytes()).collect();
        let side = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
        let crop = |crop: &CropBox| [crop.x, crop.y, side(crop.width), side(crop.height)];
        Ok::<Vec<u8>, CheckpointError>(match ends.get(tensor) {
            Some(ends) => places(ends),
            None => crops.iter().flat_map(crop).flat_map(i32::to_le_bytes).collect(),
        })
    });
    written.map_err(|error| AvatarError::file(path, error.problem))
}
