//! safetensors files: a JSON header with each tensor's type, shape and place, then the numbers.
//!
//! Not the crate of that name: it wants the whole file in memory, to read as to write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{Layout, MOST_DIMENSIONS};
use super::source::Source;
use super::{CheckpointError, DType, Problem, Result, TensorEntry, format, tensor_problem};

/// The format's own limit.
const LONGEST_HEADER: u64 = 100_000_000;

#[derive(Debug, Deserialize, Serialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The values of a header are tensors but for one.
#[derive(Debug, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    _metadata: Option<serde::de::IgnoredAny>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Info>,
}

pub(super) fn list(source: &Source) -> Result<Vec<TensorEntry>> {
    let mut length = [0; 8];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return format(std::format!("claims a header of {length} bytes"));
    }
    let text = source.read_vec(8, length)?;
    let header: Header =
        serde_json::from_slice(&text).or_else(|error| format(std::format!("has a damaged header: {error}")))?;
    drop(text);
    let start = 8 + length;
    let mut ends = Vec::new();
    let mut tensors = Vec::new();
    for (name, info) in header.tensors {
        let wrong = |problem: String| tensor_problem(&name, problem);
        let dtype = DType::from_name(&info.dtype)
            .ok_or_else(|| wrong(std::format!("holds numbers of type {:?}, which is not known", info.dtype)))?;
        let [first, end] = info.data_offsets;
        if info.shape.len() > MOST_DIMENSIONS {
            return Err(wrong(std::format!("has {} dimensions", info.shape.len())));
        }
        let layout = start.checked_add(first).and_then(|start| Layout::contiguous(start, &info.shape, dtype));
        let layout = layout.ok_or_else(|| wrong(std::format!("has an impossible shape, {:?}", info.shape)))?;
        if end.checked_sub(first) != Some(layout.count * dtype.size()) {
            return Err(wrong(std::format!("{:?} of {dtype} does not lie from {first} to {end}", info.shape)));
        }
        ends.push((first, end));
        tensors.push(TensorEntry { name, dtype, shape: info.shape, layout });
    }
    // No gap and no overlap, so nothing is hidden and nothing is read twice.
    ends.sort_unstable();
    let mut at = 0;
    for (first, end) in ends {
        if first != at {
            return format(std::format!("has a tensor at {first} where one ends at {at}"));
        }
        at = end;
    }
    match start.checked_add(at) {
        Some(end) if end > source.length() => Err(Problem::Truncated { length: source.length() }),
        Some(end) if end < source.length() => format("goes on behind its last tensor"),
        _ => Ok(tensors),
    }
}

/// A tensor to be written: name, shape, type.
pub type Described = (String, Vec<u64>, DType);

/// Writes a safetensors file tensor by tensor; `numbers` gives each one's bytes when it is its turn. A file that is there
/// is replaced whole or not at all.
pub fn write_safetensors<E: From<CheckpointError>>(
    path: &Path,
    tensors: &[Described],
    mut numbers: impl FnMut(usize) -> std::result::Result<Vec<u8>, E>,
) -> std::result::Result<(), E> {
    let failed =
        |error: io::Error| E::from(CheckpointError { path: path.display().to_string(), problem: error.into() });
    let (mut header, mut at) = (BTreeMap::new(), 0);
    for (name, shape, dtype) in tensors {
        let end = at + shape.iter().product::<u64>() * dtype.size();
        header.insert(name, Info { dtype: dtype.name().to_owned(), shape: shape.clone(), data_offsets: [at, end] });
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| failed(error.into()))?;
    // The format wants the numbers to begin at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    let unfinished = path.with_extension("safetensors.part");
    let mut file = BufWriter::new(File::create(&unfinished).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for index in 0..tensors.len() {
        file.write_all(&numbers(index)?).map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}
