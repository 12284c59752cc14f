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
    /// Of every crop.
    size: (u32, u32),
    /// Left and top of each.
    places: Vec<(i16, i16)>,
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
        let (size, places) = places(&numbers, frame).map_err(wrong)?;
        let index = Self { path: path.to_owned(), file, tables, size, places };
        for (table, (name, length)) in [("frames", lengths[0]), ("regions", lengths[1])].into_iter().enumerate() {
            let (first, end) = (index.number(table, 0)?, index.number(table, count)?);
            if first != 0 || end != length {
                return Err(index.failed(format!("{name} lie from {first} to {end}, their file has {length} bytes")));
            }
        }
        Ok(index)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn crop(&self, frame: usize) -> Option<CropBox> {
        let (x, y) = *self.places.get(frame)?;
        Some(CropBox { x: x.into(), y: y.into(), width: self.size.0, height: self.size.1 })
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

/// The common size of the crops, and where each is.
type Places = ((u32, u32), Vec<(i16, i16)>);

fn places(numbers: &[u8], frame: (u32, u32)) -> Result<Places, String> {
    let mut size = None;
    let mut places = Vec::with_capacity(numbers.len() / 16);
    for (at, bytes) in numbers.as_chunks::<16>().0.iter().enumerate() {
        let number = |place: usize| {
            let bytes = bytes.get(place * 4..place * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, i32::from_le_bytes)
        };
        let [x, y, width, height] = [0, 1, 2, 3].map(number);
        let near = |at: i32| i16::try_from(at).ok().filter(|_| at.abs() <= FARTHEST);
        let length = |length: i32| u32::try_from(length).ok().filter(|_| (1..=FARTHEST).contains(&length));
        let crop = near(x).zip(near(y)).zip(length(width).zip(length(height)));
        let Some((place, (width, height))) = crop.filter(|(_, (width, height))| {
            region_of(CropBox { x, y, width: *width, height: *height }, frame).is_some()
        }) else {
            return Err(format!("crop {at}, {width}x{height} at {x}, {y}, does not lie in the frame"));
        };
        let (wanted_width, wanted_height) = *size.get_or_insert((width, height));
        if (width, height) != (wanted_width, wanted_height) {
            return Err(format!("crop {at} is {width}x{height}, those before it are {wanted_width}x{wanted_height}"));
        }
        places.push(place);
    }
    size.map(|size| (size, places)).ok_or_else(|| "has no crops".to_owned())
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
