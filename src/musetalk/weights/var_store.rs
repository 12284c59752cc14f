//! Weights between a `VarStore` and files.
//!
//! In here: loading that says everything that does not fit, saving, and the memory layout for serving.
//! Not in here: how files store tensors (`models::checkpoint`), which file a model has, and what its tensors mean.

use std::path::Path;
use std::sync::mpsc;

use tch::{Kind, Tensor, nn};

use crate::lipsync::LipSyncError;
use crate::models::checkpoint::TensorEntry;
use crate::models::{Checkpoint, DType};
use crate::musetalk::Result;
use crate::musetalk::network::layers::channels_last;
use crate::musetalk::network::layout::Layout;

/// How the names in a file become the names in the store.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// Only tensors that start with this are looked at, and it is taken off their names.
    pub prefix: &'a str,
    /// Put before their names: only the variables that start with this are filled.
    pub into: &'a str,
    /// Tensors that start with one of these (after `prefix` is off) may be there but are not loaded.
    pub ignored: &'a [&'a str],
    /// The same of tensors that end with one of these.
    pub ignored_ends: &'a [&'a str],
    /// What a name in the file, without `prefix`, is in the store, without `into`.
    pub rename: fn(&str) -> String,
    /// As [`use_channels_last`], which costs less while the weights are read.
    pub channels_last: bool,
    /// Matrices and kernels that the file has in 16 bits stay so; the layers cast them when they run. Vectors (biases,
    /// norms) are converted all the same: they weigh nothing, and by them a layer knows what it computes in.
    pub keep_16_bits: bool,
}

impl Default for Mapping<'_> {
    fn default() -> Self {
        Self {
            prefix: "",
            into: "",
            ignored: &[],
            ignored_ends: &[],
            rename: str::to_owned,
            channels_last: false,
            keep_16_bits: false,
        }
    }
}

/// All tensors of a file of any dialect.
pub fn read_safetensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let file = Checkpoint::open(path)?;
    file.tensors().iter().map(|entry| Ok((entry.name.clone(), to_tensor(entry, &file.read(entry)?)?))).collect()
}

/// Fills every variable below `mapping.into` from the file at `path`, in any dialect; nothing is changed unless all names and
/// shapes fit, and the error names every tensor that does not.
pub fn load_safetensors(store: &nn::VarStore, path: &Path, mapping: Mapping<'_>) -> Result<()> {
    load_checkpoint(store, &Checkpoint::open(path)?, mapping)
}

/// Fills every variable below `mapping.into` from the file, converting to the variable's kind unless `mapping` says else.
///
/// Nothing is changed unless all names and shapes fit; the error names every tensor that is missing, unexpected or
/// misshapen. A number that is not finite is an error too.
///
/// The file is read, not mapped into memory. libtorch could borrow a mapping (`Tensor::from_blob`), but neither safely nor
/// to any gain: a borrowed tensor does not keep its mapping alive; whoever shortens the file ends this process (SIGBUS);
/// pages that the system took back are read from the disk again in the middle of a word; and convolutions, most of the
/// bytes, must be laid out anew, so copied, anyway. What is touched counts as resident either way.
///
/// Tensor by tensor, so that beside the variables only three of them are in memory: one being read and checked on a thread
/// of its own, one waiting, one being converted.
pub(in crate::musetalk) fn load_checkpoint(
    store: &nn::VarStore,
    file: &Checkpoint,
    mapping: Mapping<'_>,
) -> Result<()> {
    let mut variables = store.variables();
    variables.retain(|name, _| name.starts_with(mapping.into));
    let (mut unexpected, mut misshapen) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for entry in file.tensors() {
        let Some(name) = entry.name.strip_prefix(mapping.prefix) else { continue };
        let is_ignored = mapping.ignored.iter().any(|ignored| name.starts_with(ignored))
            || mapping.ignored_ends.iter().any(|ignored| name.ends_with(ignored));
        if is_ignored {
            continue;
        }
        match variables.remove(&format!("{}{}", mapping.into, (mapping.rename)(name))) {
            None => unexpected.push(entry.name.clone()),
            Some(variable) if fits(&entry.shape, &variable.size()) => found.push((variable, entry)),
            Some(variable) => {
                misshapen.push(format!("{} {:?} instead of {:?}", entry.name, entry.shape, variable.size()));
            }
        }
    }
    if !(variables.is_empty() && unexpected.is_empty() && misshapen.is_empty()) {
        let in_file = |name: String| format!("{}{}", mapping.prefix, &name[mapping.into.len()..]);
        let mut missing: Vec<String> = variables.into_keys().map(in_file).collect();
        missing.sort_unstable();
        unexpected.sort_unstable();
        misshapen.sort_unstable();
        return Err(LipSyncError::Weights { path: file.path().to_owned(), missing, unexpected, misshapen });
    }
    let entries: Vec<&TensorEntry> = found.iter().map(|(_, entry)| *entry).collect();
    std::thread::scope(|scope| {
        let (sender, numbers) = mpsc::sync_channel(1);
        let read = move || entries.into_iter().try_for_each(|entry| sender.send(file.read_weights(entry)));
        std::thread::Builder::new().name("weights".into()).spawn_scoped(scope, read).map_err(|error| {
            LipSyncError::Model { path: file.path().to_owned(), problem: format!("no thread to read it: {error}") }
        })?;
        // As many as were found, since the other side sends one for each; it ends when this side is gone.
        for ((mut variable, entry), numbers) in found.into_iter().zip(numbers) {
            let tensor = to_tensor(entry, &numbers?)?.f_view(variable.size().as_slice())?;
            let tensor = tensor.f_to_device(variable.device())?;
            let laid_out = if mapping.channels_last && tensor.dim() == 4 { channels_last(&tensor)? } else { tensor };
            let is_kept = mapping.keep_16_bits && entry.dtype.size() == 2 && laid_out.dim() > 1;
            let kind = if is_kept { laid_out.kind() } else { variable.kind() };
            tch::no_grad(|| variable.f_set_data(&laid_out.f_to_kind(kind)?))?;
        }
        Ok(())
    })
}

fn to_tensor(entry: &TensorEntry, numbers: &[u8]) -> Result<Tensor> {
    let kind = match entry.dtype {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
    };
    let shape: Vec<i64> = entry.shape.iter().map(|&size| i64::try_from(size).unwrap_or(i64::MAX)).collect();
    Ok(Tensor::f_from_data_size(numbers, &shape, kind)?)
}

/// Whether a file's shape is a variable's. Old checkpoints have 1x1 convolutions where there are linear layers now.
fn fits(given: &[u64], wanted: &[i64]) -> bool {
    let (same, rest) = given.split_at(given.len().min(wanted.len()));
    same.len() == wanted.len()
        && same.iter().zip(wanted).all(|(&given, &wanted)| i64::try_from(given) == Ok(wanted))
        && rest.iter().all(|&size| size == 1)
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

/// Turns the variables whose names begin with `prefix` into other floats.
pub(in crate::musetalk) fn set_kind_of(store: &nn::VarStore, prefix: &str, kind: Kind) -> Result<()> {
    tch::no_grad(|| {
        for (name, mut variable) in store.variables() {
            if name.starts_with(prefix) {
                let converted = variable.f_detach()?.f_to_kind(kind)?;
                variable.f_set_data(&converted)?;
            }
        }
        Ok(())
    })
}

/// Lays out the weights of all 2-D convolutions with channels innermost, as the CPU's convolutions want them.
///
/// Values, names and gradients stay; modules built on the store see the change.
pub fn use_channels_last(store: &nn::VarStore) -> Result<()> {
    set_layout_of(store, "", Layout::ChannelsLast)
}

/// As [`use_channels_last`], in either layout and of the variables whose names begin with `prefix`.
pub(in crate::musetalk) fn set_layout_of(store: &nn::VarStore, prefix: &str, layout: Layout) -> Result<()> {
    tch::no_grad(|| {
        for (name, mut variable) in store.variables() {
            if name.starts_with(prefix) && variable.dim() == 4 {
                let laid_out = layout.of(&variable.f_detach()?)?;
                variable.f_set_data(&laid_out)?;
            }
        }
        Ok(())
    })
}
