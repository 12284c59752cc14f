//! The committed lists of what a network's weights are called and how they are shaped, and how a file differs from one.
//!
//! `models/musetalk/*.tensors` hold one tensor a line, the name and then the sizes; `scripts/make_tensor_lists.py`
//! makes them.

use std::collections::BTreeMap;
use std::path::Path;

/// Names and shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorList(BTreeMap<String, Vec<u64>>);

/// What a file has too little, too much or in another shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names that are in the list and not in the file.
    pub missing: Vec<String>,
    /// Names that are in the file and not in the list.
    pub unexpected: Vec<String>,
    /// Names with both shapes, the file's first.
    pub misshapen: Vec<String>,
}

/// A list that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("list of tensors {path}: {problem}")]
pub struct ListError {
    path: String,
    problem: String,
}

impl TensorList {
    /// Reads a list: a line for each tensor, its name and its sizes.
    pub fn load(path: &Path) -> Result<Self, ListError> {
        let failed = |problem: String| ListError { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut tensors = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let shape: Result<Vec<u64>, _> = words.map(str::parse).collect();
            let shape = shape.map_err(|_| format!("line {number}: a size of {name} is no number"))?;
            if tensors.insert(name.to_owned(), shape).is_some() {
                return Err(format!("line {number}: {name} is there twice"));
            }
        }
        Ok(Self(tensors))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tensors with their shapes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u64])> {
        self.0.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }

    /// All numbers of all tensors.
    pub fn numbers(&self) -> u64 {
        self.0.values().map(|shape| shape.iter().product::<u64>()).sum()
    }

    /// How names and shapes differ from the list. A linear layer may be a 1x1 convolution, as in old checkpoints.
    pub fn compare<'a>(&self, given: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Difference {
        let mut left = self.0.clone();
        let mut difference = Difference::default();
        for (name, shape) in given {
            match left.remove(name) {
                None => difference.unexpected.push(name.to_owned()),
                Some(wanted) if same_shape(shape, &wanted) => {}
                Some(wanted) => difference.misshapen.push(format!("{name} {shape:?} instead of {wanted:?}")),
            }
        }
        difference.missing = left.into_keys().collect();
        difference
    }
}

fn same_shape(given: &[u64], wanted: &[u64]) -> bool {
    given.strip_prefix(wanted).is_some_and(|rest| rest.iter().all(|&size| size == 1))
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Difference {
    /// The first few of each kind: a file of another network would fill screens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        let mut separator = "";
        for (what, names) in
            [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &self.misshapen)]
        {
            if names.is_empty() {
                continue;
            }
            write!(f, "{separator}{} {what}: {}", names.len(), names[..names.len().min(SHOWN)].join(", "))?;
            if names.len() > SHOWN {
                write!(f, ", ..")?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(part: &str) -> TensorList {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/musetalk/{part}.tensors"));
        TensorList::load(&path).unwrap()
    }

    #[test]
    fn the_committed_lists_are_the_published_networks() {
        for (part, tensors, numbers) in
            [("unet", 686, 849_947_844), ("autoencoder", 248, 83_653_863), ("audio_encoder", 67, 8_208_384)]
        {
            let list = committed(part);
            assert_eq!((list.len(), list.numbers()), (tensors, numbers), "{part}");
            let small = match part {
                "unet" => "unet.safetensors",
                "autoencoder" => "autoencoder_kl.safetensors",
                _ => "whisper.safetensors",
            };
            let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(small);
            let small = crate::models::Checkpoint::open(&small).unwrap();
            let small: Vec<&str> = small.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
            assert_eq!(
                small,
                list.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                "{part}: the small network's names"
            );
        }
    }

    #[test]
    fn a_difference_says_what_is_missing_unexpected_and_misshapen() {
        let list = TensorList::parse("a 2 3\nb 4\nc\n").unwrap();
        let shapes: [(&str, &[u64]); 3] = [("a", &[3, 2]), ("c", &[]), ("d", &[1])];
        let text = list.compare(shapes).to_string();
        assert_eq!(text, "1 missing: b; 1 unexpected: d; 1 of another shape: a [3, 2] instead of [2, 3]");
        let shapes: [(&str, &[u64]); 3] = [("a", &[2, 3, 1, 1]), ("b", &[4]), ("c", &[])];
        assert!(list.compare(shapes).is_none());
        assert_eq!(list.compare([("a", &[2, 3, 2][..])]).misshapen.len(), 1);
        assert!(TensorList::parse("a x").is_err() && TensorList::parse("a 1\na 1").is_err());
    }
}
