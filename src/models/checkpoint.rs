//! Weights as they lie on disk: the tensors of a safetensors file or a PyTorch checkpoint, by name.
//!
//! In here: which dialect a file is in, the list of its tensors, and their numbers, read one tensor at a time. A file may
//! come from anywhere: nothing in it is run, every size is checked against the file's own before memory is taken, and
//! the error names the file and the tensor. Together that stays below four times the file and a few megabytes.
//! And boxes of faces, which are pickled beside such files. Not in here: which tensors a network wants (`networks`), libtorch (`musetalk`).

mod dtype;
mod integers;
mod layout;
mod pickle;
mod safetensors;
mod source;
mod state_dict;
mod torch;
mod zip;

use std::path::Path;

pub use dtype::DType;
pub use integers::integer_rows;
use layout::Layout;
pub use safetensors::write_safetensors;
use source::Source;

/// A file of weights that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct CheckpointError {
    /// The file, or what [`Checkpoint::from_bytes`] was told to call it.
    pub path: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is cut off.
    #[error("ends too early, at {length} bytes: the download or copy was cut off")]
    Truncated {
        /// Its length in bytes.
        length: u64,
    },
    /// It is no file of weights.
    #[error("{0}")]
    Format(String),
    /// Its pickle names something that is neither tensor nor container.
    #[error(
        "names {0}, which is neither a tensor nor a plain container: it was not run, and the file is refused. \
         Save the weights alone, torch.save(model.state_dict(), ..)"
    )]
    Global(String),
    /// One of its tensors is wrong.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

type Result<T> = std::result::Result<T, Problem>;

fn format<T>(problem: impl Into<String>) -> Result<T> {
    Err(Problem::Format(problem.into()))
}

fn tensor_problem(name: &str, problem: impl Into<String>) -> Problem {
    Problem::Tensor { name: name.to_owned(), problem: problem.into() }
}

/// How a file stores its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Hugging Face's safetensors.
    Safetensors,
    /// `torch.save` since PyTorch 1.6.
    TorchZip,
    /// `torch.save` before 1.6: pickles one after the other, then the numbers.
    TorchLegacy,
}

/// One tensor of a file; its numbers stay in the file until they are read.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// As the file calls it.
    pub name: String,
    /// The type of its numbers in the file.
    pub dtype: DType,
    /// Its sizes, the outermost first; empty for a single number.
    pub shape: Vec<u64>,
    layout: Layout,
}

/// An open file of weights.
#[derive(Debug)]
pub struct Checkpoint {
    path: String,
    source: Source,
    dialect: Dialect,
    tensors: Vec<TensorEntry>,
}

impl Checkpoint {
    /// Reads the list of tensors, not the tensors.
    pub fn open(path: &Path) -> std::result::Result<Self, CheckpointError> {
        let shown = path.display().to_string();
        let source =
            Source::open(path).map_err(|error| CheckpointError { path: shown.clone(), problem: error.into() })?;
        Self::from_source(shown, source)
    }

    /// A file that is in memory already; `name` is what errors call it.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> std::result::Result<Self, CheckpointError> {
        Self::from_source(name.to_owned(), Source::Memory(bytes))
    }

    fn from_source(path: String, source: Source) -> std::result::Result<Self, CheckpointError> {
        match list(&source) {
            Ok((dialect, mut tensors)) => {
                tensors.sort_by(|left, right| left.name.cmp(&right.name));
                Ok(Self { path, source, dialect, tensors })
            }
            Err(problem) => Err(CheckpointError { path, problem }),
        }
    }

    /// What errors call the file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// How the file stores its tensors.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// In the order of their names.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// The tensor's numbers in its own type, little-endian, the last dimension innermost.
    pub fn read(&self, tensor: &TensorEntry) -> std::result::Result<Vec<u8>, CheckpointError> {
        tensor.layout.read(&self.source, tensor).map_err(|problem| self.failed(problem))
    }

    /// [`Checkpoint::read`] of a part: of `rows` indices of the first dimension from `first` on. Only for tensors whose numbers
    /// lie one after the other, as all of safetensors do.
    pub fn read_rows(
        &self,
        tensor: &TensorEntry,
        first: u64,
        rows: u64,
    ) -> std::result::Result<Vec<u8>, CheckpointError> {
        tensor.layout.read_rows(&self.source, tensor, first, rows).map_err(|problem| self.failed(problem))
    }

    /// [`Checkpoint::read`] of weights: floats, none of them infinite or NaN.
    pub fn read_weights(&self, tensor: &TensorEntry) -> std::result::Result<Vec<u8>, CheckpointError> {
        let wrong = |problem: String| self.failed(tensor_problem(&tensor.name, problem));
        if !tensor.dtype.is_float() {
            return Err(wrong(format!("holds numbers of type {}, weights are floats", tensor.dtype)));
        }
        let bytes = self.read(tensor)?;
        match tensor.dtype.first_not_finite(&bytes) {
            Some((index, value)) => Err(wrong(format!("number {index} is {value}: the file is damaged"))),
            None => Ok(bytes),
        }
    }

    /// [`Checkpoint::read_weights`] as `dtype`, which is one of the 16- and 32-bit floats.
    pub fn read_weights_as(&self, tensor: &TensorEntry, dtype: DType) -> std::result::Result<Vec<u8>, CheckpointError> {
        let bytes = self.read_weights(tensor)?;
        tensor.dtype.convert(bytes, dtype).map_err(|problem| self.failed(tensor_problem(&tensor.name, problem)))
    }

    fn failed(&self, problem: Problem) -> CheckpointError {
        CheckpointError { path: self.path.clone(), problem }
    }
}

impl TensorEntry {
    /// Where in the file its numbers begin, for whoever reads some of them at a time. `None` if they lie scattered, which
    /// those of a safetensors file never do.
    pub fn start(&self) -> Option<u64> {
        self.layout.start()
    }

    /// Bytes that [`Checkpoint::read`] gives.
    pub fn bytes(&self) -> u64 {
        self.layout.count * self.dtype.size()
    }
}

fn list(source: &Source) -> Result<(Dialect, Vec<TensorEntry>)> {
    let mut start = [0; 9];
    let known = usize::try_from(source.length()).unwrap_or(usize::MAX).min(start.len());
    source.read_at(0, &mut start[..known])?;
    let (dialect, tensors) = match start {
        [b'P', b'K', 3, 4, ..] => (Dialect::TorchZip, torch::list_zip(source)?),
        // Before the pickle, as which a header of 128 or 384 bytes begins: its length comes first. PyTorch's own magic
        // number has no brace there.
        [.., b'{'] => (Dialect::Safetensors, safetensors::list(source)?),
        [0x80, 0..=5, ..] => (Dialect::TorchLegacy, torch::list_legacy(source)?),
        _ if known == 0 => return Err(Problem::Truncated { length: 0 }),
        _ if start.starts_with(b"version ") => {
            return format("is a Git LFS pointer, not the weights themselves: fetch them with `git lfs pull`");
        }
        _ => return format("is neither a safetensors file nor a PyTorch checkpoint"),
    };
    let total = tensors.iter().fold(0_u64, |total, tensor| total.saturating_add(tensor.bytes()));
    if total / 4 > source.length() {
        return format(format!("{} bytes claim to hold tensors of {total} bytes", source.length()));
    }
    Ok((dialect, tensors))
}

#[cfg(test)]
mod tests;
