//! Meshes of a clip's frames, on the disk: two hours of them are a gigabyte.
//!
//! In here: a list that grows at its end and is read and changed at any place. Its file has no name and goes with the list.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::{FaceError, Mesh, POINTS};

/// Bytes of a mesh: its presence and three numbers of each point.
const BYTES: usize = 4 + POINTS * 12;

/// For each frame a mesh or none.
#[derive(Debug)]
pub(super) struct MeshList {
    file: File,
    /// Whether a frame has one.
    has: Vec<bool>,
}

impl MeshList {
    /// An empty list, whose file is on the disk of that folder.
    pub(super) fn new(folder: &Path) -> Result<Self, FaceError> {
        let file = tempfile::tempfile_in(folder).map_err(|error| FaceError::Meshes { problem: error.to_string() })?;
        Ok(Self { file, has: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.has.len()
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.has.get(at).copied().unwrap_or(false)
    }

    /// The next frame's.
    pub(super) fn push(&mut self, mesh: Option<&Mesh>) -> Result<(), FaceError> {
        self.has.push(false);
        mesh.map_or(Ok(()), |mesh| self.set(self.has.len() - 1, mesh))
    }

    /// Changes that of a frame, or gives it one. A mesh has [`POINTS`] points.
    pub(super) fn set(&mut self, at: usize, mesh: &Mesh) -> Result<(), FaceError> {
        let Some(has) = self.has.get_mut(at) else { return Ok(()) };
        let numbers = [mesh.presence].into_iter().chain(mesh.points.iter().flatten().copied());
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        debug_assert_eq!(bytes.len(), BYTES, "a face has {POINTS} points");
        let written = self.file.write_all_at(&bytes, (at * BYTES) as u64);
        written.map_err(|error| FaceError::Meshes { problem: error.to_string() })?;
        *has = true;
        Ok(())
    }

    /// That of a frame.
    pub(super) fn get(&self, at: usize) -> Result<Option<Mesh>, FaceError> {
        if !self.has(at) {
            return Ok(None);
        }
        let mut bytes = [0; BYTES];
        let read = self.file.read_exact_at(&mut bytes, (at * BYTES) as u64);
        read.map_err(|error| FaceError::Meshes { problem: error.to_string() })?;
        let mut numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let presence = numbers.next().unwrap_or_default();
        let mut points = vec![[0.0; 3]; POINTS];
        points.iter_mut().flatten().zip(numbers).for_each(|(value, number)| *value = number);
        Ok(Some(Mesh { points, presence }))
    }
}
