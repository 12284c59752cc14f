//! Weights between a `VarStore` and safetensors files.
//!
//! In here: loading that says everything that does not fit, saving, and the memory layout for serving.
//! Not in here: which file a model has, and what its tensors mean.

use std::path::Path;

use tch::{Kind, Tensor, nn};

use super::Result;
use super::layers::channels_last;
use crate::lipsync::LipSyncError;

/// How the names in a file become the names in the store.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// Only tensors that start with this are looked at, and it is taken off their names.
    pub prefix: &'a str,
    /// Tensors that start with one of these (after `prefix` is off) may be there but are not loaded.
    pub ignored: &'a [&'a str],
    pub rename: fn(&str) -> String,
}

impl Default for Mapping<'_> {
    fn default() -> Self {
        Self { prefix: "", ignored: &[], rename: str::to_owned }
    }
}

/// All tensors of a safetensors file.
pub fn read_safetensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    Tensor::read_safetensors(path)
        .map_err(|error| LipSyncError::Model { path: path.display().to_string(), problem: error.to_string() })
}

/// Fills every variable of the store from the file, converting to the variable's kind.
///
/// Nothing is changed unless all of them fit; the error names every tensor that is missing, unexpected or misshapen.
pub fn load_safetensors(store: &nn::VarStore, path: &Path, mapping: Mapping<'_>) -> Result<()> {
    let mut variables = store.variables();
    let (mut unexpected, mut misshapen) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for (full, tensor) in read_safetensors(path)? {
        let Some(name) = full.strip_prefix(mapping.prefix) else { continue };
        if mapping.ignored.iter().any(|ignored| name.starts_with(ignored)) {
            continue;
        }
        match variables.remove(&(mapping.rename)(name)) {
            None => unexpected.push(full),
            Some(variable) => match fitted(&tensor, &variable) {
                Some(tensor) => found.push((variable, tensor)),
                None => misshapen.push(format!("{full} {:?} instead of {:?}", tensor.size(), variable.size())),
            },
        }
    }
    if !(variables.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        let mut missing: Vec<String> = variables.into_keys().map(|name| format!("{}{name}", mapping.prefix)).collect();
        missing.sort_unstable();
        unexpected.sort_unstable();
        misshapen.sort_unstable();
        return Err(LipSyncError::Weights { path: path.display().to_string(), missing, unexpected, misshapen });
    }
    tch::no_grad(|| found.into_iter().try_for_each(|(mut variable, tensor)| Ok(variable.f_copy_(&tensor)?)))
}

/// The tensor in the variable's shape. Old checkpoints have 1x1 convolutions where there are linear layers now.
fn fitted(tensor: &Tensor, variable: &Tensor) -> Option<Tensor> {
    let (mut given, wanted) = (tensor.size(), variable.size());
    if given == wanted {
        return Some(tensor.shallow_clone());
    }
    while given.len() > wanted.len() && given.last() == Some(&1) {
        given.pop();
    }
    if given == wanted { tensor.f_view(wanted.as_slice()).ok() } else { None }
}

/// Writes all variables in the order of their names, as 16-bit floats if `half`; an existing file is replaced whole.
pub fn save_safetensors(store: &nn::VarStore, path: &Path, half: bool) -> Result<()> {
    let failed = |problem: String| LipSyncError::Model { path: path.display().to_string(), problem };
    let mut named: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    named.sort_by(|left, right| left.0.cmp(&right.0));
    for (_, tensor) in &mut named {
        let kind = if half { Kind::Half } else { tensor.kind() };
        *tensor = tensor.f_detach()?.f_to_kind(kind)?.f_to_device(tch::Device::Cpu)?.f_contiguous()?;
    }
    let unfinished = path.with_extension("safetensors.part");
    Tensor::write_safetensors(&named, &unfinished).map_err(|error| failed(error.to_string()))?;
    std::fs::rename(&unfinished, path).map_err(|error| failed(error.to_string()))
}

/// Lays out the weights of all 2-D convolutions with channels innermost, as the CPU's convolutions want them.
///
/// Values, names and gradients stay; modules built on the store see the change.
pub fn use_channels_last(store: &nn::VarStore) -> Result<()> {
    tch::no_grad(|| {
        for (_, mut variable) in store.variables() {
            if variable.dim() == 4 {
                let laid_out = channels_last(&variable.f_detach()?)?;
                variable.f_set_data(&laid_out)?;
            }
        }
        Ok(())
    })
}
