//! Checkpoints: writing parts of a network into a file, reading one out of it, and the mean of several.
//!
//! Not in here: when they are written (`schedule`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor, nn};

use super::{Result, TrainingError};
use crate::musetalk::weights::{Mapping, load_safetensors, read_safetensors};

/// The prefixes of the parts in a checkpoint.
const PARTS: [&str; 5] = ["audio_encoder.", "helper_head.", "unet.", "autoencoder.encoder.", "autoencoder.decoder."];

/// Loads one part out of a checkpoint that may hold all of them.
pub fn load_part(store: &nn::VarStore, path: &Path) -> Result<()> {
    let own: Vec<String> = store.variables().into_keys().collect();
    let others: Vec<&str> = PARTS.into_iter().filter(|part| !own.iter().any(|name| name.starts_with(part))).collect();
    Ok(load_safetensors(store, path, Mapping { ignored: &others, ..Mapping::default() })?)
}

/// Writes the parts into one checkpoint, in the order of names; an existing file is replaced whole.
pub(super) fn save_parts(stores: &[&nn::VarStore], path: &Path, half: bool) -> Result<()> {
    let mut named: Vec<(String, Tensor)> = stores.iter().flat_map(|store| store.variables()).collect();
    named.sort_by(|left, right| left.0.cmp(&right.0));
    for (_, tensor) in &mut named {
        let kind = if half { Kind::Half } else { tensor.kind() };
        *tensor = tensor.f_detach()?.f_to_kind(kind)?.f_contiguous()?;
    }
    let unfinished = path.with_extension("part");
    Tensor::write_safetensors(&named, &unfinished)?;
    std::fs::rename(&unfinished, path).map_err(|error| TrainingError::file(path, error))
}

/// Writes the mean of checkpoints of one training, which serves better than any one of them; as 16-bit floats.
pub fn average(checkpoints: &[PathBuf], path: &Path) -> Result<()> {
    let (first, others) =
        checkpoints.split_first().ok_or_else(|| TrainingError::file(path, "no checkpoint to average"))?;
    let mut named: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, tensor) in read_safetensors(first)? {
        named.insert(name, tensor.f_to_kind(Kind::Double)?);
    }
    for other in others {
        let tensors = read_safetensors(other)?;
        if tensors.len() != named.len() {
            return Err(TrainingError::file(
                other,
                format!("has {} tensors, must have {}", tensors.len(), named.len()),
            ));
        }
        for (name, tensor) in tensors {
            let sum =
                named.get_mut(&name).ok_or_else(|| TrainingError::file(other, format!("{name} is unexpected")))?;
            *sum = sum.f_add(&tensor)?;
        }
    }
    let count = f64::from(u32::try_from(checkpoints.len()).unwrap_or(u32::MAX));
    let mut mean = Vec::with_capacity(named.len());
    for (name, sum) in named {
        mean.push((name, sum.f_div_scalar(count)?.f_to_kind(Kind::Half)?.f_contiguous()?));
    }
    Tensor::write_safetensors(&mean, path).map_err(|error| TrainingError::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_average_of_two_checkpoints_lies_half_way_and_needs_the_same_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, tensor: &str, value: f64| {
            let path = folder.path().join(name);
            let filled = Tensor::full([2, 3], value, (Kind::Float, Device::Cpu));
            Tensor::write_safetensors(&[(tensor, filled)], &path).unwrap();
            path
        };
        let (one, two, other) = (write("1", "a", 1.0), write("2", "a", 2.0), write("3", "b", 3.0));
        let out = folder.path().join("mean");
        average(&[one.clone(), two], &out).unwrap();
        let mean = read_safetensors(&out).unwrap();
        assert_eq!((mean[0].0.as_str(), mean[0].1.mean(Kind::Float).double_value(&[])), ("a", 1.5));
        assert!(average(&[one, other], &out).unwrap_err().to_string().contains('b'));
    }
}
