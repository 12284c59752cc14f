//! What is known of an avatar's mouth on disk: `portrait.safetensors`.
//!
//! In here: two tensors, `plates` of `[frames, numbers]` and `complexion` of `[numbers]`, both 32-bit floats, and the refusal
//! of whatever is not that: avatar folders come from anywhere. Not in here: what the numbers are (`plate`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::PortraitError;
use super::plate::{COMPLEXION, Complexion, MouthPlate, NUMBERS};
use crate::avatar::film::MOST_FRAMES;
use crate::models::checkpoint::TensorEntry;
use crate::models::{Checkpoint, DType};

/// Frames that are looked at together when a file is opened.
const ROWS: usize = 512;
/// [`NUMBERS`] as shapes have it.
const NUMBERS_OF_PLATE: u64 = NUMBERS as u64;

/// The mouths of an avatar's frames, and the light on all of them, to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct PortraitData {
    /// One for each of its own frames, at least one.
    pub plates: Vec<MouthPlate>,
    /// Of all.
    pub complexion: Complexion,
}

/// A file of mouths that stays on the disk: a mouth is read when it is needed, so that a long clip takes no more memory than a
/// short one.
#[derive(Debug)]
pub struct PortraitFile {
    file: Checkpoint,
    plates: TensorEntry,
    frames: usize,
    /// Of all frames.
    pub complexion: Complexion,
}

impl PortraitFile {
    /// Opens a file and looks at all of it; an error says what is wrong with it.
    pub fn open(path: &Path) -> Result<Self, PortraitError> {
        let failed = |problem: String| PortraitError::File { path: path.display().to_string(), problem };
        let file = Checkpoint::open(path).map_err(|error| failed(error.problem.to_string()))?;
        let tensor = |name: &str| {
            let entry = file.tensors().iter().find(|entry| entry.name == name && entry.dtype == DType::F32);
            entry.cloned().ok_or_else(|| failed(format!("has no tensor {name} of 32-bit floats")))
        };
        let (plates, complexion) = (tensor("plates")?, tensor("complexion")?);
        let frames = match plates.shape[..] {
            [frames, NUMBERS_OF_PLATE] if frames > 0 && frames <= MOST_FRAMES as u64 => frames,
            ref shape => {
                return Err(failed(format!("plates are {shape:?}, they must be [1 to {MOST_FRAMES}, {NUMBERS}]")));
            }
        };
        if complexion.shape != [COMPLEXION as u64] {
            return Err(failed(format!("complexion is {:?}, it must be [{COMPLEXION}]", complexion.shape)));
        }
        let complexion = file.read(&complexion).map_err(|error| failed(error.problem.to_string()))?;
        let complexion = Complexion::from_numbers(&numbers(&complexion)).map_err(failed)?;
        let frames = usize::try_from(frames).unwrap_or(0);
        let opened = Self { file, plates, frames, complexion };
        for first in (0..frames).step_by(ROWS) {
            opened.rows(first, ROWS.min(frames - first)).map_err(failed)?;
        }
        Ok(opened)
    }

    /// How many frames it has mouths of.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The mouth of a frame; an error says what is wrong.
    pub fn plate(&self, frame: usize) -> Result<MouthPlate, String> {
        self.rows(frame, 1)?.pop().ok_or_else(|| format!("there is no frame {frame} among {}", self.frames))
    }

    fn rows(&self, first: usize, count: usize) -> Result<Vec<MouthPlate>, String> {
        if first.saturating_add(count) > self.frames {
            return Err(format!("there is no frame {first} among {}", self.frames));
        }
        let bytes = self.file.read_rows(&self.plates, first as u64, count as u64);
        let numbers = numbers(&bytes.map_err(|error| error.problem.to_string())?);
        let plates = numbers.chunks_exact(NUMBERS).zip(first..);
        let plate = |(numbers, frame)| {
            MouthPlate::from_numbers(numbers).map_err(|problem| format!("the mouth of frame {frame}: {problem}"))
        };
        plates.map(plate).collect()
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

impl PortraitData {
    /// Writes the file, or writes it anew.
    pub fn write(&self, path: &Path) -> Result<(), PortraitError> {
        let bytes = self.plates.len() * NUMBERS * 4;
        let complexion: Vec<u8> = self.complexion.numbers().iter().flat_map(|number| number.to_le_bytes()).collect();
        let header = serde_json::json!({
            "complexion": { "dtype": "F32", "shape": [COMPLEXION], "data_offsets": [0, complexion.len()] },
            "plates": {
                "dtype": "F32",
                "shape": [self.plates.len(), NUMBERS],
                "data_offsets": [complexion.len(), complexion.len() + bytes],
            },
        });
        let mut header = header.to_string();
        // Numbers begin at a multiple of 8.
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let write = || -> std::io::Result<()> {
            let mut file = BufWriter::new(File::create(path)?);
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(header.as_bytes())?;
            file.write_all(&complexion)?;
            for number in self.plates.iter().flat_map(MouthPlate::numbers) {
                file.write_all(&number.to_le_bytes())?;
            }
            file.flush()
        };
        write().map_err(|error| PortraitError::File { path: path.display().to_string(), problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avatar::files::PORTRAIT as FILE;
    use crate::portrait::plate::tests::plate;

    fn data() -> PortraitData {
        let complexion = Complexion {
            lip: [150.0, 90.0, 85.0],
            teeth: [210.0, 200.0, 185.0],
            slope: 0.001,
            softness: 0.7,
            own_teeth: 0.0,
        };
        PortraitData { plates: vec![plate(30.0), plate(34.5)], complexion }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        data().write(&path).unwrap();
        let file = PortraitFile::open(&path).unwrap();
        assert_eq!((file.frames(), file.complexion), (2, data().complexion));
        assert_eq!([file.plate(0).unwrap(), file.plate(1).unwrap()].to_vec(), data().plates);
        assert!(file.plate(2).unwrap_err().contains("no frame 2 among 2"));
    }

    #[test]
    fn files_of_anything_else_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        data().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut wrong = data();
        wrong.plates[1].half = -3.0;
        let cases: [(&str, Vec<u8>); 4] = [
            ("cut off", whole[..whole.len() / 2].to_vec()),
            ("text", b"this is no file of numbers".to_vec()),
            ("empty", Vec::new()),
            ("half width is -3", {
                wrong.write(&path).unwrap();
                std::fs::read(&path).unwrap()
            }),
        ];
        for (case, bytes) in cases {
            std::fs::write(&path, bytes).unwrap();
            let error = PortraitFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(FILE), "{case}: {error}");
            assert!(!case.starts_with("half") || (error.contains(case) && error.contains("frame 1")), "{error}");
        }
    }
}
