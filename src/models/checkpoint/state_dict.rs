//! Which of the dictionaries in a checkpoint is the state dict.

use std::collections::HashSet;

use super::pickle::{Heap, Node, Value};
use super::{Result, format};

/// What training scripts wrap a state dict in, the likeliest first.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "module", "net"];
const DEEPEST: usize = 4;

/// Names and tensors, both as values of the heap.
pub(super) fn find(heap: &Heap, root: Value) -> Result<Vec<(Value, Value)>> {
    let mut found = root;
    for _ in 0..DEEPEST {
        let Some(entries) = heap.dict(found) else {
            return format("holds something other than a dictionary of tensors");
        };
        let wrapped = WRAPPERS.iter().find_map(|wrapper| {
            let (_, inner) = entries.iter().find(|(key, _)| heap.text(*key) == Some(wrapper))?;
            heap.dict(*inner).map(|_| *inner)
        });
        match wrapped {
            Some(inner) => found = inner,
            None => return tensors(heap, entries),
        }
    }
    format("wraps its state dict too deeply")
}

fn tensors(heap: &Heap, entries: &[(Value, Value)]) -> Result<Vec<(Value, Value)>> {
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for &(key, value) in entries {
        let Some(name) = heap.text(key) else { return format("has a tensor whose name is no text") };
        match heap.node(value) {
            Some(Node::Tensor(_)) if names.insert(name) => tensors.push((key, value)),
            Some(Node::Tensor(_)) => return format(std::format!("has two tensors named {name:?}")),
            // Numbers and text beside the tensors, such as a step count.
            None | Some(Node::Text(_)) => {}
            Some(_) => return format(std::format!("has {name:?} among its tensors, which is none")),
        }
    }
    if tensors.is_empty() {
        let keys: Vec<&str> = entries.iter().filter_map(|(key, _)| heap.text(*key)).take(8).collect();
        return format(std::format!("has no tensors, only {keys:?}"));
    }
    Ok(tensors)
}
