//! `mesh.safetensors` of a photo: the face's points, and where its mouth is.
//!
//! Tensors: `mesh`, F32 [468, 3], as [`Mesh::points`]; `crop`, four I32: x, y, width and height of the generated crop.

use std::path::Path;

use super::AvatarError;
use crate::face::{Mesh, POINTS};
use crate::models::checkpoint::write_safetensors;
use crate::models::{Checkpoint, CheckpointError, DType};
use crate::picture::CropBox;

/// Of a crop, in pixels.
const LONGEST: u32 = 4096;

/// Writes the points of a face and the place of its mouth.
pub fn write(path: &Path, mesh: &Mesh, crop: CropBox) -> Result<(), AvatarError> {
    let side = |length: u32| i32::try_from(length).unwrap_or(i32::MAX);
    let points: Vec<u8> = mesh.points.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let place = [crop.x, crop.y, side(crop.width), side(crop.height)];
    let place: Vec<u8> = place.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors =
        [("mesh".to_owned(), vec![mesh.points.len() as u64, 3], DType::F32), ("crop".to_owned(), vec![4], DType::I32)];
    let written = write_safetensors(path, &tensors, |tensor| {
        Ok::<Vec<u8>, CheckpointError>(if tensor == 0 { points.clone() } else { place.clone() })
    });
    written.map_err(|error| AvatarError::file(path, error.problem))
}

/// Reads them; an error names what is wrong.
pub fn read(path: &Path) -> Result<(Mesh, CropBox), AvatarError> {
    let wrong = |problem: String| AvatarError::file(path, problem);
    let header = Checkpoint::open(path).map_err(|error| wrong(error.problem.to_string()))?;
    let bytes = |name: &str, dtype: DType, shape: &[u64]| {
        let found = header.tensors().iter().find(|tensor| tensor.name == name);
        let tensor = found.ok_or_else(|| wrong(format!("has no tensor {name}")))?;
        if tensor.dtype != dtype || tensor.shape != shape {
            let (is, of) = (tensor.dtype, &tensor.shape);
            return Err(wrong(format!("{name} must be {dtype} {shape:?}, is {is} {of:?}")));
        }
        header.read(tensor).map_err(|error| wrong(error.problem.to_string()))
    };
    let points = bytes("mesh", DType::F32, &[POINTS as u64, 3])?;
    let points = points.as_chunks::<12>().0.iter().map(|point| {
        let (parts, _) = point.as_chunks::<4>();
        [0, 1, 2].map(|axis| parts.get(axis).map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes)))
    });
    let points: Vec<[f32; 3]> = points.collect();
    if !points.iter().flatten().all(|value| value.is_finite()) {
        return Err(wrong("mesh has a number that is none".to_owned()));
    }
    let place = bytes("crop", DType::I32, &[4])?;
    let place: Vec<i32> = place.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    let side = |at: usize| {
        let length = place.get(at).and_then(|length| u32::try_from(*length).ok());
        length.filter(|length| (1..=LONGEST).contains(length)).ok_or_else(|| wrong(format!("crop is {place:?}")))
    };
    let (width, height) = (side(2)?, side(3)?);
    let (x, y) = (place.first().copied().unwrap_or(0), place.get(1).copied().unwrap_or(0));
    Ok((Mesh { points, presence: 1.0 }, CropBox { x, y, width, height }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_no_mesh_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.safetensors");
        let points = (0..POINTS).map(|at| [at as f32, 2.5, -1.0]).collect();
        let (mesh, crop) = (Mesh { points, presence: 1.0 }, CropBox { x: -3, y: 40, width: 200, height: 120 });
        write(&path, &mesh, crop).unwrap();
        assert_eq!(read(&path).unwrap(), (mesh.clone(), crop));

        let few = Mesh { points: vec![[0.0; 3]; 9], presence: 1.0 };
        write(&path, &few, crop).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("mesh must be F32 [468, 3]"));
        write(&path, &mesh, CropBox { width: 0, ..crop }).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("crop is"));
        let mut wild = mesh;
        wild.points[7][1] = f32::NAN;
        write(&path, &wild, crop).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("none"));
    }
}
