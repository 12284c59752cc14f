//! What is known of an avatar's mouth on disk: `portrait.safetensors`.
//!
//! In here: two tensors, `plates` of `[frames, numbers]` and `complexion` of `[numbers]`, both 32-bit floats, and the refusal
//! of whatever is not that: avatar folders come from anywhere. Not in here: what the numbers are (`plate`).

use std::path::Path;

use super::PortraitError;
use super::plate::{COMPLEXION, Complexion, MouthPlate, NUMBERS};
use crate::models::{Checkpoint, DType};

/// Of this many frames at most: two hours.
const MOST_FRAMES: usize = 2 * 3600 * 25;

/// The mouths of an avatar's frames, and the light on all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct PortraitData {
    /// One for each of its own frames, at least one.
    pub plates: Vec<MouthPlate>,
    /// Of all.
    pub complexion: Complexion,
}

impl PortraitData {
    /// Reads a file; an error says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, PortraitError> {
        let failed = |problem: String| PortraitError::File { path: path.display().to_string(), problem };
        let file = Checkpoint::open(path).map_err(|error| failed(error.problem.to_string()))?;
        let tensor = |name: &str, most: usize| {
            let entry = file.tensors().iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| failed(format!("has no tensor {name}")))?;
            if entry.bytes() > most as u64 * 4 {
                return Err(failed(format!("tensor {name} has {:?} numbers, the most is {most}", entry.shape)));
            }
            let bytes = file.read_weights_as(entry, DType::F32).map_err(|error| failed(error.problem.to_string()))?;
            let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            Ok((entry.shape.clone(), numbers))
        };
        let (shape, numbers) = tensor("plates", MOST_FRAMES * NUMBERS)?;
        if numbers.is_empty() || shape.len() != 2 || shape.last() != Some(&(NUMBERS as u64)) {
            return Err(failed(format!("plates are {shape:?}, they must be [frames, {NUMBERS}]")));
        }
        let plates = numbers.chunks_exact(NUMBERS).enumerate().map(|(frame, numbers)| {
            MouthPlate::from_numbers(numbers)
                .map_err(|problem| failed(format!("the mouth of frame {frame}: {problem}")))
        });
        let plates = plates.collect::<Result<_, _>>()?;
        let (_, complexion) = tensor("complexion", COMPLEXION)?;
        Ok(Self { plates, complexion: Complexion::from_numbers(&complexion).map_err(failed)? })
    }

    /// Writes the file, or writes it anew.
    pub fn write(&self, path: &Path) -> Result<(), PortraitError> {
        let plates: Vec<u8> = self.plates.iter().flat_map(MouthPlate::numbers).flat_map(f32::to_le_bytes).collect();
        let complexion: Vec<u8> = self.complexion.numbers().iter().flat_map(|number| number.to_le_bytes()).collect();
        let header = serde_json::json!({
            "complexion": { "dtype": "F32", "shape": [COMPLEXION], "data_offsets": [0, complexion.len()] },
            "plates": {
                "dtype": "F32",
                "shape": [self.plates.len(), NUMBERS],
                "data_offsets": [complexion.len(), complexion.len() + plates.len()],
            },
        });
        let mut header = header.to_string();
        // Numbers begin at a multiple of 8.
        while header.len() % 8 != 0 {
            header.push(' ');
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&complexion);
        bytes.extend_from_slice(&plates);
        std::fs::write(path, bytes)
            .map_err(|error| PortraitError::File { path: path.display().to_string(), problem: error.to_string() })
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
        assert_eq!(PortraitData::read(&path).unwrap(), data());
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
            let error = PortraitData::read(&path).unwrap_err().to_string();
            assert!(error.contains(FILE), "{case}: {error}");
            assert!(!case.starts_with("half") || (error.contains(case) && error.contains("frame 1")), "{error}");
        }
    }
}
