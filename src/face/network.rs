//! One of the networks: a crop's pixels in, numbers out.
//!
//! In here: loading and running with `rten`. Not in here: what the numbers mean. Runs on: the caller's thread and those of
//! the pool, which end with it.

use std::path::Path;
use std::sync::Arc;

use rten::{Model, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use super::FaceError;

/// No file of a network is larger.
const LARGEST: u64 = 64 << 20;

pub(super) struct Network {
    model: Model,
    pool: Arc<ThreadPool>,
    file: String,
    input: NodeId,
    outputs: [NodeId; 2],
    size: u32,
    lengths: [usize; 2],
}

/// What a network's file must be.
pub(super) struct Layout {
    pub(super) file: &'static str,
    pub(super) input: &'static str,
    /// Rows and columns of the input.
    pub(super) size: u32,
    pub(super) outputs: [&'static str; 2],
    /// How many numbers each output has.
    pub(super) lengths: [usize; 2],
}

impl Network {
    pub(super) fn load(folder: &Path, layout: &Layout, pool: &Arc<ThreadPool>) -> Result<Self, FaceError> {
        let path = folder.join(layout.file);
        let file = path.display().to_string();
        let fault = |problem: String| FaceError::File { file: file.clone(), problem };
        let length = std::fs::metadata(&path).map_err(|error| fault(error.to_string()))?.len();
        if length > LARGEST {
            return Err(fault(format!("has {length} bytes, a network here has at most {LARGEST}")));
        }
        let data = std::fs::read(&path).map_err(|error| fault(error.to_string()))?;
        let model = Model::load(data).map_err(|error| fault(format!("is no ONNX network: {error}")))?;
        let node = |name: &str| model.node_id(name).map_err(|_| fault(format!("has no value named {name}")));
        let (input, outputs) = (node(layout.input)?, [node(layout.outputs[0])?, node(layout.outputs[1])?]);
        let pool = Arc::clone(pool);
        Ok(Self { model, pool, file, input, outputs, size: layout.size, lengths: layout.lengths })
    }

    /// Rows and columns of the input.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Both outputs for `[3, size, size]`.
    pub(super) fn run(&self, planes: Vec<f32>) -> Result<[Vec<f32>; 2], FaceError> {
        let fault = |problem: String| FaceError::Network { file: self.file.clone(), problem };
        let side = self.size as usize;
        let input = Tensor::from_data(&[1, 3, side, side], planes);
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let given = vec![(self.input, Value::from(input).into())];
        let made = self.model.run(given, &self.outputs, Some(options)).map_err(|error| fault(error.to_string()))?;
        let mut numbers = [Vec::new(), Vec::new()];
        for ((output, value), length) in numbers.iter_mut().zip(made).zip(self.lengths) {
            let tensor =
                value.into_tensor::<f32>().ok_or_else(|| fault("gave something else than floats".to_owned()))?;
            *output = tensor.to_vec();
            if output.len() != length {
                return Err(fault(format!("gave {} numbers where {length} belong", output.len())));
            }
        }
        Ok(numbers)
    }
}
