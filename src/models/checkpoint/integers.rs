//! Integers in Python's pickles: lists of tuples of them, plain ones or numpy's, such as boxes of faces.
//!
//! In here: the two names of numpy that such a pickle needs, and which rows it leaves. Not in here: the stack machine
//! (`pickle`), which calls nothing.

use std::path::Path;

use super::pickle::{self, Global, Heap, Names, Node, Value};
use super::source::{Cursor, Source};
use super::{CheckpointError, Problem, Result, format};

/// The longest file that is read, in bytes: some hundred bytes a row are usual.
const LONGEST: u64 = 64 << 20;

/// What a name stands for; any that is not here refuses the file.
pub(super) fn global(module: &str, name: &str) -> Result<Global> {
    match (module, name) {
        ("numpy", "dtype") => Ok(Global::NumpyType),
        // The second is numpy 2's.
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Ok(Global::NumpyScalar),
        _ => {
            format(std::format!("names {module}.{name}, which is no integer: it was not run, and the file is refused"))
        }
    }
}

/// A call of one of the names.
pub(super) fn call(heap: &mut Heap, function: Value, arguments: Value) -> Result<Value> {
    let Value::Global(function) = function else { return format("calls something other than a name") };
    let Some(Node::Tuple(arguments)) = heap.node(arguments) else { return format("calls without arguments") };
    match (function, &**arguments) {
        (Global::NumpyType, &[name, ..]) => {
            let name = heap.text(name).unwrap_or_default();
            let (signed, size) = match name.as_bytes() {
                [b'i', size @ b'1'..=b'8'] => (true, size - b'0'),
                [b'u', size @ b'1'..=b'8'] => (false, size - b'0'),
                _ => return format(std::format!("has numbers of numpy's type {name:?}, which is none of integers")),
            };
            heap.add(Node::NumpyType { size: usize::from(size), signed })
        }
        (Global::NumpyScalar, &[kind, bytes]) => match (heap.node(kind), heap.node(bytes)) {
            (Some(Node::NumpyType { size, signed }), Some(Node::Bytes(bytes))) if bytes.len() == *size => {
                let negative = *signed && bytes.last().is_some_and(|last| last & 0x80 != 0);
                let mut whole = [if negative { 0xff } else { 0 }; 8];
                whole.iter_mut().zip(bytes.iter()).for_each(|(to, from)| *to = *from);
                let number = i64::from_le_bytes(whole);
                if number < 0 && !signed {
                    return format("has an integer that is too large");
                }
                Ok(Value::Int(number))
            }
            _ => format("has a number of numpy's without its type or its bytes"),
        },
        _ => format(std::format!("calls {function:?} with arguments it does not have")),
    }
}

/// What a type of numpy's is told after it was made: the order of its bytes, second.
pub(super) fn set_state(heap: &Heap, object: Value, state: Value) -> Result<()> {
    let order = heap.items(state).and_then(|items| heap.text(*items.get(1)?));
    match (heap.node(object), order) {
        (Some(Node::NumpyType { .. }), Some("<" | "|")) => Ok(()),
        (Some(Node::NumpyType { .. }), _) => format("has numpy's numbers with their bytes in the other order"),
        _ => format("sets the state of something other than a type"),
    }
}

/// The rows of a pickled list of tuples or lists of `N` integers each. An error names the row.
pub fn integer_rows<const N: usize>(path: &Path) -> std::result::Result<Vec<[i64; N]>, CheckpointError> {
    let failed = |problem: Problem| CheckpointError { path: path.display().to_string(), problem };
    let source = Source::open(path).map_err(|error| failed(error.into()))?;
    rows(&source).map_err(failed)
}

fn rows<const N: usize>(source: &Source) -> Result<Vec<[i64; N]>> {
    if source.length() > LONGEST {
        return format(std::format!("has {} bytes, a list of integers has at most {LONGEST}", source.length()));
    }
    // Each number may be made of a type, bytes and a tuple of both, where weights have most of their bytes in no object.
    let mut heap = Heap::of_small_objects(source.length());
    let mut cursor = Cursor::new(source, 0, source.length())?;
    let root = pickle::load_as(&mut cursor, &mut heap, Names::Integers)?;
    let Some(items) = heap.items(root) else { return format("is no list") };
    let row = |(at, item): (usize, &Value)| {
        let wrong = || {
            Problem::Format(std::format!(
                "has something other than {N} integers in row {at}: what was not found, upstream has as floats"
            ))
        };
        let numbers = heap.items(*item).ok_or_else(wrong)?;
        let number = |value: &Value| if let Value::Int(number) = value { Some(*number) } else { None };
        let numbers: Vec<i64> = numbers.iter().filter_map(number).collect();
        <[i64; N]>::try_from(numbers).map_err(|_| wrong())
    };
    items.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<[i64; 4]>> {
        rows(&Source::Memory(bytes.to_vec()))
    }

    /// A list of so many rows of plain integers, as protocol 4 has it.
    fn plain(rows: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = b"\x80\x04]\x94(".to_vec();
        for row in rows {
            bytes.push(b'(');
            row.iter().for_each(|number| bytes.extend([b'K', *number]));
            bytes.push(b't');
        }
        bytes.extend(b"e.");
        bytes
    }

    #[test]
    fn plain_integers_are_rows() {
        assert_eq!(read(&plain(&[[1, 2, 3, 4], [9, 8, 7, 6]])).unwrap(), [[1, 2, 3, 4], [9, 8, 7, 6]]);
        assert_eq!(read(&plain(&[])).unwrap(), [[0; 4]; 0]);
    }

    #[test]
    fn numpys_integers_are_read_whatever_their_size() {
        // numpy.int16(-2) as protocol 2 names it, kept and recalled.
        let mut bytes =
            b"\x80\x04]((cnumpy.core.multiarray\nscalar\n\x94cnumpy\ndtype\n\x8c\x02i2K\x00K\x01\x87R".to_vec();
        bytes.extend(b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x94C\x02\xfe\xff\x86R\x94");
        bytes.extend(b"h\x02K\x05h\x02te.");
        assert_eq!(read(&bytes).unwrap(), [[-2, -2, 5, -2]]);
        let other_order = bytes.iter().map(|byte| if *byte == b'<' { b'>' } else { *byte }).collect::<Vec<u8>>();
        assert!(read(&other_order).unwrap_err().to_string().contains("the other order"));
    }

    #[test]
    fn a_foreign_name_is_refused_and_never_called() {
        let error = read(b"\x80\x04cposix\nsystem\n\x8c\x04true\x85R.").unwrap_err().to_string();
        assert!(error.contains("posix.system") && error.contains("not run"), "{error}");
        assert!(read(b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n.").is_err());
    }

    #[test]
    fn what_is_no_list_of_boxes_is_refused_by_its_row() {
        let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(error(b"\x80\x04(K\x01K\x02K\x03t\x85.").contains("row 0"));
        // Floats, as upstream marks a frame without a face.
        let floats =
            [&b"\x80\x04]((K\x01K\x02K\x03K\x04t("[..], &[b'G', 0, 0, 0, 0, 0, 0, 0, 0].repeat(4), b"te."].concat();
        assert!(error(&floats).contains("row 1"), "{}", error(&floats));
        assert!(error(b"\x80\x04K\x01.").contains("no list"));
        assert!(error(b"").contains("ends too early"));
        assert!(error(&plain(&[[1; 4]])[..6]).contains("ends too early"));
        // A list that has itself in it.
        assert!(error(b"\x80\x04]\x94h\x00a.").contains("row 0"));
    }
}
