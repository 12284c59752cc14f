//! PyTorch's two ways to store a pickle with the numbers beside it, and what the pickle's names mean.

use std::collections::HashMap;

use super::layout::{Layout, MOST_DIMENSIONS};
use super::pickle::{self, Global, Heap, Node, Storage, Tensor, Value};
use super::source::{Cursor, Source};
use super::zip::Archive;
use super::{DType, Problem, Result, TensorEntry, format, state_dict, tensor_problem};

/// The integer that a legacy file begins with, as the pickle has it.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_PROTOCOL: i64 = 1001;

/// What a name stands for; any that is not here refuses the file.
pub(super) fn global(module: &str, name: &str) -> Result<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch", "Size") => Ok(Global::Size),
        // The first version is PyTorch 0.1's.
        ("torch._utils", "_rebuild_tensor") => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensorV2),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
        ("torch", _) if let Some(dtype) = DType::from_storage(name) => Ok(Global::Storage(dtype)),
        _ => Err(Problem::Global(std::format!("{module}.{name}"))),
    }
}

/// A call of one of the names.
pub(super) fn call(heap: &mut Heap, function: Value, arguments: Value) -> Result<Value> {
    let Value::Global(function) = function else { return format("calls something other than a name") };
    let Some(Node::Tuple(arguments)) = heap.node(arguments) else { return format("calls without arguments") };
    match (function, &**arguments) {
        (Global::OrderedDict, []) => heap.add(Node::Dict(Vec::new())),
        // Python 2 wrote the content as one argument.
        (Global::OrderedDict, &[list]) => {
            let items = heap.items(list).unwrap_or_default();
            let pair = |&item: &Value| match heap.items(item) {
                Some(&[key, value]) => Ok((key, value)),
                _ => format("makes an OrderedDict of something other than pairs"),
            };
            let pairs = items.iter().map(pair).collect::<Result<Vec<_>>>()?;
            heap.charge(pairs.len() as u64)?;
            heap.add(Node::Dict(pairs))
        }
        (Global::Size, &[sizes]) if heap.items(sizes).is_some() => Ok(sizes),
        (Global::RebuildTensor, &[storage, offset, shape, strides])
        | (Global::RebuildTensorV2, &[storage, offset, shape, strides, ..]) => {
            let (Value::Node(storage), Some(Node::Storage(_))) = (storage, heap.node(storage)) else {
                return format("makes a tensor of something other than a storage");
            };
            let tensor =
                Tensor { storage, offset: size(offset)?, shape: sizes(heap, shape)?, strides: sizes(heap, strides)? };
            heap.add(Node::Tensor(tensor))
        }
        (Global::RebuildParameter, &[tensor, ..]) if matches!(heap.node(tensor), Some(Node::Tensor(_))) => Ok(tensor),
        _ => format(std::format!("calls {function:?} with arguments it does not have")),
    }
}

fn size(value: Value) -> Result<u64> {
    match value {
        Value::Int(size) => u64::try_from(size).or_else(|_| format(std::format!("has a size of {size}"))),
        _ => format("has a size that is no integer"),
    }
}

fn sizes(heap: &Heap, value: Value) -> Result<Box<[u64]>> {
    let items = heap.items(value).map_or_else(|| format("has a shape that is no tuple"), Ok)?;
    if items.len() > MOST_DIMENSIONS {
        return format(std::format!("has a tensor of {} dimensions, at most {MOST_DIMENSIONS} are known", items.len()));
    }
    items.iter().map(|&item| size(item)).collect()
}

/// The storage that a persistent id speaks of: ("storage", type, key, device, count) and, in legacy files, which part.
pub(super) fn storage(heap: &Heap, id: Value) -> Result<Storage> {
    let parts = heap.items(id).unwrap_or_default();
    let (&[kind, Value::Global(Global::Storage(dtype)), key, _device, elements], view) = parts
        .split_at_checked(5)
        .and_then(|(first, rest)| Some((<&[Value; 5]>::try_from(first).ok()?, rest)))
        .map_or_else(|| format("refers to something outside that is no storage"), Ok)?
    else {
        return format("refers to something outside that is no storage");
    };
    let (Some("storage"), Value::Node(key), Some(_)) = (heap.text(kind), key, heap.text(key)) else {
        return format("refers to something outside that is no storage");
    };
    let mut storage = Storage { key, dtype, elements: size(elements)?, offset: 0 };
    match view {
        [] | [Value::None] => {}
        &[view] => {
            let &[_key, offset, elements] = heap.items(view).unwrap_or_default() else {
                return format("has a part of a storage that says not which");
            };
            (storage.offset, storage.elements) = (size(offset)?, size(elements)?);
        }
        _ => return format("refers to a storage in too many words"),
    }
    Ok(storage)
}

/// The tensors of a checkpoint since PyTorch 1.6.
pub(super) fn list_zip(source: &Source) -> Result<Vec<TensorEntry>> {
    let archive = Archive::open(source)?;
    let Some((folder, pickle)) = archive.pickle() else {
        return format("is a zip archive without a data.pkl, so no PyTorch checkpoint");
    };
    if let Some(order) = archive.member(&std::format!("{folder}byteorder")) {
        let order = source.read_vec(order.start, order.length.min(16))?;
        if order != b"little" {
            return format("was written by a machine with the bytes of numbers in the other order");
        }
    }
    let mut heap = Heap::new(source.length());
    let root = pickle::load(&mut Cursor::new(source, pickle.start, pickle.start + pickle.length)?, &mut heap)?;
    entries(&mut heap, root, |storage, key| {
        let name = std::format!("{folder}data/{key}");
        let Some(member) = archive.member(&name) else { return Err(std::format!("its numbers, {name}, are missing")) };
        Ok(Run { start: member.start, elements: whole(member.length, storage)? })
    })
}

/// How many numbers there are in `bytes`, which the storage's own count must agree with.
fn whole(bytes: u64, storage: &Storage) -> std::result::Result<u64, String> {
    let size = storage.dtype.size();
    if storage.offset == 0 && storage.elements.checked_mul(size) != Some(bytes) {
        return Err(std::format!("{} numbers of type {} are not {bytes} bytes", storage.elements, storage.dtype));
    }
    Ok(bytes / size)
}

/// The tensors of a checkpoint before PyTorch 1.6.
pub(super) fn list_legacy(source: &Source) -> Result<Vec<TensorEntry>> {
    let mut heap = Heap::new(source.length());
    let mut cursor = Cursor::new(source, 0, source.length())?;
    let magic = pickle::load(&mut cursor, &mut heap)?;
    if !matches!(heap.node(magic), Some(Node::Bytes(bytes)) if **bytes == LEGACY_MAGIC) {
        return format("is a Python pickle, but no PyTorch checkpoint");
    }
    let protocol = pickle::load(&mut cursor, &mut heap)?;
    if protocol != Value::Int(LEGACY_PROTOCOL) {
        return format("is of another version of PyTorch's old format than 1001");
    }
    let system = pickle::load(&mut cursor, &mut heap)?;
    let is_little =
        |(key, value): &(Value, Value)| heap.text(*key) == Some("little_endian") && *value == Value::Bool(true);
    if !heap.dict(system).unwrap_or_default().iter().any(is_little) {
        return format("was written by a machine with the bytes of numbers in the other order");
    }
    let root = pickle::load(&mut cursor, &mut heap)?;
    let keys = pickle::load(&mut cursor, &mut heap)?;
    let runs = legacy_runs(source, cursor.position(), &heap, keys)?;
    entries(&mut heap, root, |_, key| runs.get(key).copied().ok_or_else(|| "its numbers are missing".to_owned()))
}

/// Behind the pickles: for each key in order the count of its numbers, then the numbers.
fn legacy_runs(source: &Source, start: u64, heap: &Heap, keys: Value) -> Result<HashMap<String, Run>> {
    let mut sizes = HashMap::new();
    for node in heap.nodes() {
        if let Node::Storage(storage) = node {
            sizes.insert(heap.text(Value::Node(storage.key)).unwrap_or_default(), storage.dtype.size());
        }
    }
    let (mut runs, mut at) = (HashMap::new(), start);
    for &key in heap.items(keys).unwrap_or_default() {
        let Some((key, size)) = heap.text(key).and_then(|key| sizes.remove_entry(key)) else {
            return format("lists numbers that no tensor has");
        };
        let mut count = [0; 8];
        source.read_at(at, &mut count)?;
        let elements = u64::from_le_bytes(count);
        let end = elements.checked_mul(size).and_then(|bytes| (at + 8).checked_add(bytes));
        let Some(end) = end.filter(|&end| end <= source.length()) else {
            return Err(Problem::Truncated { length: source.length() });
        };
        runs.insert(key.to_owned(), Run { start: at + 8, elements });
        at = end;
    }
    Ok(runs)
}

/// Where a storage's numbers are.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    elements: u64,
}

/// The tensors of a list, each named by its place in eight digits, so that their order is that of their names.
fn listed(heap: &mut Heap, items: Vec<Value>) -> Result<Vec<(Value, Value)>> {
    let name = |(at, item): (usize, Value)| match heap.node(item) {
        Some(Node::Tensor(_)) => Ok((heap.add(Node::Text(std::format!("{at:08}").into()))?, item)),
        _ => format(std::format!("is a list with something other than a tensor in place {at}")),
    };
    if items.is_empty() {
        return format("is an empty list");
    }
    items.into_iter().enumerate().map(name).collect()
}

/// The named tensors of what a pickle left, each with its place in the file.
fn entries(
    heap: &mut Heap,
    root: Value,
    run: impl Fn(&Storage, &str) -> std::result::Result<Run, String>,
) -> Result<Vec<TensorEntry>> {
    let list = if let Some(Node::List(items)) = heap.node(root) { Some(items.clone()) } else { None };
    let named = match list {
        Some(items) => listed(heap, items)?,
        None => state_dict::find(heap, root)?,
    };
    heap.charge(4 * named.len() as u64)?;
    let heap = &*heap;
    let place = |&(name, tensor): &(Value, Value)| {
        let name = heap.text(name).unwrap_or_default();
        let wrong = |problem: String| tensor_problem(name, problem);
        let Some(Node::Tensor(tensor)) = heap.node(tensor) else { return Err(wrong("is none".to_owned())) };
        let Some(Node::Storage(storage)) = heap.node(Value::Node(tensor.storage)) else {
            return Err(wrong("has no storage".to_owned()));
        };
        let run = run(storage, heap.text(Value::Node(storage.key)).unwrap_or_default()).map_err(wrong)?;
        let (offset, end) = (storage.offset, storage.offset.checked_add(storage.elements));
        if end.is_none_or(|end| end > run.elements) {
            return Err(wrong(std::format!("wants {} numbers where there are {}", storage.elements, run.elements)));
        }
        let start = run.start + offset * storage.dtype.size();
        let view = (&*tensor.shape, &*tensor.strides);
        let layout = Layout::strided(start, storage.elements, tensor.offset, view, storage.dtype).map_err(wrong)?;
        Ok(TensorEntry { name: name.to_owned(), dtype: storage.dtype, shape: tensor.shape.to_vec(), layout })
    };
    named.iter().map(place).collect()
}
