//! Whether a model folder holds what it should: names, shapes and numbers of the weights, and the hashes they were
//! written with.

use std::path::Path;

use super::Checkpoint;
use super::catalog::PARTS;
use super::manifest::{MANIFEST, Manifest, sha256};
use super::tensor_list::TensorList;

/// One file and everything that is wrong with it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FileReport {
    /// Its name in the folder.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Tensors in it, for weights.
    pub tensors: usize,
    /// What is wrong with it, each in one line; empty if nothing is.
    pub problems: Vec<String>,
}

/// Reads every byte of the folder's weights; `lists` are in the order of [`PARTS`].
pub fn verify(folder: &Path, lists: &[TensorList; 3]) -> Vec<FileReport> {
    let mut reports: Vec<_> = PARTS.iter().zip(lists).map(|(part, list)| weights(folder, part, list)).collect();
    let manifest = match Manifest::load(folder) {
        Ok(manifest) => manifest,
        Err(error) => {
            let problems = vec![error.to_string()];
            reports.push(FileReport { file: MANIFEST.to_owned(), bytes: 0, tensors: 0, problems });
            return reports;
        }
    };
    for (file, recorded) in manifest.files {
        // A manifest may be anyone's; it has no business outside of its folder.
        let problem = if Path::new(&file).file_name() != Some(file.as_ref()) {
            Some("is not a file of this folder".to_owned())
        } else {
            match sha256(&folder.join(&file)) {
                Err(error) => Some(error.to_string()),
                Ok(hash) if hash != recorded.sha256 => Some(format!("has SHA-256 {hash}, it was {}", recorded.sha256)),
                Ok(_) => None,
            }
        };
        let known = reports.iter().position(|report| report.file == file);
        let index = known.unwrap_or_else(|| {
            let bytes = folder.join(&file).metadata().map_or(0, |about| about.len());
            reports.push(FileReport { file, bytes, tensors: 0, problems: Vec::new() });
            reports.len() - 1
        });
        reports[index].problems.extend(problem);
    }
    reports
}

fn weights(folder: &Path, part: &str, list: &TensorList) -> FileReport {
    let file = format!("{part}.safetensors");
    let path = folder.join(&file);
    let mut report = FileReport { file, bytes: 0, tensors: 0, problems: Vec::new() };
    let checkpoint = match Checkpoint::open(&path) {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            report.problems.push(error.problem.to_string());
            return report;
        }
    };
    report.bytes = path.metadata().map_or(0, |about| about.len());
    report.tensors = checkpoint.tensors().len();
    let shapes = checkpoint.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
    let difference = list.compare(shapes);
    if !difference.is_none() {
        report.problems.push(difference.to_string());
    }
    let unusable = checkpoint.tensors().iter().filter_map(|tensor| checkpoint.read_weights(tensor).err());
    report.problems.extend(unusable.map(|error| error.problem.to_string()));
    report
}
