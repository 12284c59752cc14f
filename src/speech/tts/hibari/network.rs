//! The acoustic network: symbols in, five parts of a spectrum and the pitch out, one frame for each 12.5 ms.
//!
//! In here: running it with `rten` on one core. Not in here: which symbols a text has (`g2p`), how a spectrum becomes
//! sound (`dsp`). Runs on: a thread of the voice; the arithmetic itself on the one thread of its rten pool, which sleeps
//! between calls and ends with it.

use std::path::Path;
use std::sync::Arc;

use rten::{Model, NodeId, RunOptions, ThreadPool, Value};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use super::HibariError;
use super::dsp::{BINS, Spectrum};

/// How long each symbol lasts, in steps of [`FRAMES_A_STEP`]: rounded, and cut to what the network can be given. It is no
/// output of the network but a value within it.
const DURATIONS: &str = "/Clip_output_0";
const FRAMES_A_STEP: usize = 2;

/// A model, and a pool of one thread: rten's own pool takes all cores, which belong to those who draw and encode.
pub(super) struct Network {
    model: Model,
    pool: Arc<ThreadPool>,
    file: String,
}

impl Network {
    pub(super) fn load(path: &Path, pool: &Arc<ThreadPool>) -> Result<Self, HibariError> {
        let file = path.display().to_string();
        let data = super::files::read(path)?;
        let model = Model::load(data);
        let model = model.map_err(|error| HibariError::File { file: file.clone(), problem: error.to_string() })?;
        Ok(Self { model, pool: Arc::clone(pool), file })
    }

    pub(super) fn one_core() -> Arc<ThreadPool> {
        Arc::new(ThreadPool::with_num_threads(1))
    }

    fn fault(&self, problem: impl ToString) -> HibariError {
        HibariError::Network { file: self.file.clone(), problem: problem.to_string() }
    }

    fn node(&self, name: &str) -> Result<NodeId, HibariError> {
        self.model.node_id(name).map_err(|error| self.fault(error))
    }

    pub(super) fn run<const N: usize>(
        &self,
        inputs: Vec<(&str, Value)>,
        outputs: [&str; N],
    ) -> Result<[Value; N], HibariError> {
        let mut given = Vec::with_capacity(inputs.len());
        for (name, value) in inputs {
            given.push((self.node(name)?, value.into()));
        }
        let mut wanted = Vec::with_capacity(N);
        for name in outputs {
            wanted.push(self.node(name)?);
        }
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.pool)));
        let made = self.model.run(given, &wanted, Some(options)).map_err(|error| self.fault(error))?;
        made.try_into().map_err(|_| self.fault("gave another number of outputs"))
    }

    /// What is said at `speed` times the voice's own pace, and in which frame each symbol begins.
    pub(super) fn spectrum(&self, symbols: &[i32], speed: f32) -> Result<(Spectrum, Vec<usize>), HibariError> {
        let ids = Tensor::from_data(&[1, symbols.len()], symbols.to_vec());
        let inputs = vec![("ids", Value::from(ids)), ("speed", Value::from(Tensor::from_data(&[1], vec![speed])))];
        let [harmonic, theta, noise, free, phase, pitch, durations] =
            self.run(inputs, ["lh", "theta", "ln", "lr", "phi", "f0", DURATIONS])?;
        let pitch = self.floats(pitch)?;
        let begins = begins(&self.floats(durations)?);
        let part = |value: Value| match self.floats(value)? {
            part if part.len() == BINS * pitch.len() => Ok(part),
            part => Err(self.fault(format!("gave {} values for {} frames", part.len(), pitch.len()))),
        };
        let spectrum = Spectrum {
            harmonic: part(harmonic)?,
            theta: part(theta)?,
            noise: part(noise)?,
            free: part(free)?,
            phase: part(phase)?,
            pitch,
        };
        Ok((spectrum, begins))
    }

    fn floats(&self, value: Value) -> Result<Vec<f32>, HibariError> {
        Ok(value.into_tensor::<f32>().ok_or_else(|| self.fault("gave something else than floats"))?.to_vec())
    }

    pub(super) fn ids(&self, value: Value) -> Result<Vec<i32>, HibariError> {
        Ok(value.into_tensor::<i32>().ok_or_else(|| self.fault("gave something else than integers"))?.to_vec())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some steps, not below zero")]
fn begins(durations: &[f32]) -> Vec<usize> {
    let mut frame = 0;
    let begin = |duration: &f32| {
        let begin = frame;
        frame += FRAMES_A_STEP * duration.round() as usize;
        begin
    };
    durations.iter().map(begin).collect()
}
