//! The stack machine of Python's pickles, cut down to what holds tensors, or integers.
//!
//! In here: opcodes that build numbers, text and containers. Python's own machine can call anything by name; this one
//! knows the few names of `Global` and refuses a file at the first other one. Values live in one flat heap and refer to
//! each other by index, so no nesting or cycle that a file can describe costs more than its opcodes.
//! Not in here: what the names mean (`torch`, `integers`).

use std::collections::HashMap;

use super::source::Cursor;
use super::{DType, Problem, Result, format, integers, torch};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float,
    Global(Global),
    Node(u32),
}

/// All names that a file may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildTensorV2,
    RebuildParameter,
    Storage(DType),
    NumpyType,
    NumpyScalar,
}

/// Which names a pickle may use, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Those of tensors.
    Tensors,
    /// Those of numpy's integers.
    Integers,
}

impl Names {
    fn global(self, module: &str, name: &str) -> Result<Global> {
        match self {
            Self::Tensors => torch::global(module, name),
            Self::Integers => integers::global(module, name),
        }
    }

    fn call(self, heap: &mut Heap, function: Value, arguments: Value) -> Result<Value> {
        match self {
            Self::Tensors => torch::call(heap, function, arguments),
            Self::Integers => integers::call(heap, function, arguments),
        }
    }

    /// Sets the state of an object, which it is not told of: nothing that a tensor or an integer needs.
    fn set_state(self, heap: &Heap, object: Value, state: Value) -> Result<()> {
        match self {
            // An OrderedDict's attributes, such as a state dict's `_metadata`.
            Self::Tensors if heap.dict(object).is_some() => Ok(()),
            Self::Tensors => format("sets the state of something other than a dictionary"),
            Self::Integers => integers::set_state(heap, object, state),
        }
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Tuple(Box<[Value]>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Storage),
    Tensor(Tensor),
    /// Bytes of an integer.
    NumpyType {
        size: usize,
        signed: bool,
    },
}

/// A run of numbers in the file. `key` is a text node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    pub(super) key: u32,
    pub(super) dtype: DType,
    pub(super) elements: u64,
    /// Where this one begins in the storage of that key, if it is a part of it.
    pub(super) offset: u64,
}

/// A view of a storage, which is a node.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) storage: u32,
    pub(super) offset: u64,
    pub(super) shape: Box<[u64]>,
    pub(super) strides: Box<[u64]>,
}

/// Deepest stack; containers are filled in lots of 1000.
const MOST_ON_STACK: usize = 1 << 16;
/// Heap that any file may use, in nodes; and for how many bytes of the file one more is allowed.
const FREE_NODES: u64 = 1 << 17;
const BYTES_PER_NODE: u64 = 64;
/// A tensor is larger than the other nodes by its shape and strides.
const TENSOR_COST: u64 = 4;
/// "module name" of a global.
const LONGEST_NAME: usize = 256;

/// Everything that was built, by index.
#[derive(Debug)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    left: u64,
}

impl Heap {
    pub(super) fn new(file_length: u64) -> Self {
        Self { nodes: Vec::new(), left: FREE_NODES + file_length / BYTES_PER_NODE }
    }

    /// For a file without large numbers: a node takes two opcodes at least.
    pub(super) fn of_small_objects(file_length: u64) -> Self {
        Self { nodes: Vec::new(), left: FREE_NODES + file_length }
    }

    pub(super) fn charge(&mut self, cost: u64) -> Result<()> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => format("has a pickle out of all proportion to its numbers"),
        }
    }

    pub(super) fn add(&mut self, node: Node) -> Result<Value> {
        self.charge(if matches!(node, Node::Tensor(_)) { TENSOR_COST } else { 1 })?;
        let index = u32::try_from(self.nodes.len()).or_else(|_| format("has too many objects"))?;
        self.nodes.push(node);
        Ok(Value::Node(index))
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        if let Value::Node(index) = value { self.nodes.get(index as usize) } else { None }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn text(&self, value: Value) -> Option<&str> {
        if let Some(Node::Text(text)) = self.node(value) { Some(text) } else { None }
    }

    pub(super) fn items(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(items)) => Some(items),
            Some(Node::List(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        if let Some(Node::Dict(items)) = self.node(value) { Some(items) } else { None }
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        if let Value::Node(index) = value { self.nodes.get_mut(index as usize) } else { None }
    }
}

#[derive(Debug)]
struct Machine<'a, 'b> {
    names: Names,
    cursor: &'a mut Cursor<'b>,
    heap: &'a mut Heap,
    stack: Vec<Value>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

/// Runs one pickle from `cursor` on to its end, and gives what it leaves.
pub(super) fn load(cursor: &mut Cursor<'_>, heap: &mut Heap) -> Result<Value> {
    load_as(cursor, heap, Names::Tensors)
}

/// [`load`] of a pickle that may use other names.
pub(super) fn load_as(cursor: &mut Cursor<'_>, heap: &mut Heap, names: Names) -> Result<Value> {
    let mut machine = Machine { names, cursor, heap, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.cursor.position();
        let opcode = machine.cursor.byte()?;
        match machine.step(opcode) {
            Ok(false) => {}
            Ok(true) => return machine.pop(),
            Err(Problem::Format(problem)) => {
                return format(std::format!("{problem} (pickle opcode 0x{opcode:02x} at byte {at})"));
            }
            Err(other) => return Err(other),
        }
    }
}

impl Machine<'_, '_> {
    /// Does one opcode; true after the last.
    fn step(&mut self, opcode: u8) -> Result<bool> {
        match opcode {
            b'.' => return Ok(true),
            0x80 => {
                let protocol = self.cursor.byte()?;
                if protocol > 5 {
                    return format(std::format!("is of pickle protocol {protocol}, 2 to 5 are known"));
                }
            }
            0x95 => self.cursor.skip(8)?,
            b'(' if self.marks.len() < MOST_ON_STACK => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.pop()?;
                self.push(top)?;
                self.push(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(opcode)?,
            b'G' => {
                self.cursor.skip(8)?;
                self.push(Value::Float)?;
            }
            b'X' | 0x8c | 0x8d | b'T' | b'U' => {
                let bytes = self.counted(opcode)?;
                let node = String::from_utf8(bytes)
                    .map_or_else(|error| Node::Bytes(error.into_bytes().into()), |text| Node::Text(text.into()));
                self.push_node(node)?;
            }
            b'B' | b'C' | 0x8e => {
                let bytes = self.counted(opcode)?;
                self.push_node(Node::Bytes(bytes.into()))?;
            }
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' => self.container(opcode)?,
            b'a' | b'e' | b's' | b'u' => self.fill(opcode)?,
            b'c' => {
                let (module, name) = (self.cursor.line(LONGEST_NAME)?, self.cursor.line(LONGEST_NAME)?);
                self.push(Value::Global(self.names.global(&module, &name)?))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (self.heap.text(module), self.heap.text(name)) {
                    (Some(module), Some(name)) => self.names.global(module, name)?,
                    _ => return format("names a global by something other than text"),
                };
                self.push(Value::Global(global))?;
            }
            b'q' | b'r' | 0x94 => self.put(opcode)?,
            b'h' | b'j' => {
                let index = self.index(opcode == b'h')?;
                match self.memo.get(&index) {
                    Some(&value) => self.push(value)?,
                    None => return format(std::format!("recalls object {index} before it was kept")),
                }
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = self.names.call(self.heap, function, arguments)?;
                self.push(value)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = torch::storage(self.heap, id)?;
                self.push_node(Node::Storage(storage))?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.pop()?);
                self.names.set_state(self.heap, object, state)?;
                self.push(object)?;
            }
            _ => return format("does what no checkpoint's pickle needs"),
        }
        Ok(false)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() == MOST_ON_STACK {
            return format(std::format!("stacks more than {MOST_ON_STACK} objects"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        let value = self.heap.add(node)?;
        self.push(value)
    }

    fn pop(&mut self) -> Result<Value> {
        // What is below a mark belongs to the container that is still open.
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => format("takes an object that was never put there"),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => format("ends a container that was never begun"),
        }
    }

    fn index(&mut self, short: bool) -> Result<u32> {
        Ok(if short { u32::from(self.cursor.byte()?) } else { u32::from_le_bytes(self.cursor.take()?) })
    }

    fn put(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            0x94 => u32::try_from(self.memo.len()).or_else(|_| format("keeps too many objects"))?,
            opcode => self.index(opcode == b'q')?,
        };
        self.heap.charge(1)?;
        let value = self.pop()?;
        self.memo.insert(index, value);
        self.push(value)
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'J' => i64::from(i32::from_le_bytes(self.cursor.take()?)),
            b'K' => i64::from(self.cursor.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.cursor.take()?)),
            _ => {
                let bytes = self.counted(opcode)?;
                if bytes.len() > 8 {
                    return self.push_node(Node::Bytes(bytes.into()));
                }
                // Two's complement, as short as it can be.
                let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
                let mut whole = [sign; 8];
                whole[..bytes.len()].copy_from_slice(&bytes);
                i64::from_le_bytes(whole)
            }
        };
        self.push(Value::Int(value))
    }

    /// The bytes after an opcode that says how many there are.
    fn counted(&mut self, opcode: u8) -> Result<Vec<u8>> {
        let length = match opcode {
            0x8a | 0x8c | b'U' | b'C' => u64::from(self.cursor.byte()?),
            0x8d | 0x8e => u64::from_le_bytes(self.cursor.take()?),
            _ => u64::from(u32::from_le_bytes(self.cursor.take()?)),
        };
        self.cursor.bytes(length)
    }

    fn container(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            b')' => Node::Tuple(Box::default()),
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b't' => Node::Tuple(self.pop_mark()?.into()),
            b'l' => Node::List(self.pop_mark()?),
            b'd' => Node::Dict(pairs(&self.pop_mark()?)?),
            opcode => {
                let mut items = Vec::new();
                for _ in 0x84..opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items.into())
            }
        };
        self.push_node(node)
    }

    fn fill(&mut self, opcode: u8) -> Result<()> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.pop_mark()?,
        };
        self.heap.charge(items.len() as u64)?;
        let target = self.pop()?;
        match (self.heap.node_mut(target), opcode) {
            (Some(Node::List(list)), b'a' | b'e') => list.extend(items),
            (Some(Node::Dict(dict)), b's' | b'u') => dict.extend(pairs(&items)?),
            _ => return format("fills a container of another kind"),
        }
        self.push(target)
    }
}

/// Keys and values that follow one another.
fn pairs(items: &[Value]) -> Result<Vec<(Value, Value)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return format("has a key without a value");
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
