//! Work of steady shapes, written down once as CUDA graphs and replayed.
//!
//! A UNet of some hundred operators takes a GPU less time than it takes to ask for them one after the other; a graph asks
//! once. In here: which work is captured, when, and what is done where that fails. Not in here: capturing (`shim`), and what
//! the work is (`serving`). Runs on: the thread that owns the network.
//!
//! A graph reads and writes the same memory each time, so inputs are copied to where it reads them, and an output is good
//! until the next replay of any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use tch::{Device, Tensor};

use super::kernels;
use super::shim::{Graph, Pool, Shim, ShimError};
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;

/// Set to `off`, everything is launched one by one: to compare.
const SWITCH: &str = "MOUTHPIECE_GRAPHS";
/// How many are kept: batch sizes, times decoders, times parts of the picture. Work beyond is launched one by one.
const MOST: usize = 64;

/// Writes down work.
pub trait Recorder: Debug {
    /// Writes down what `work` has the device do, and gives its output, which has its values after a replay.
    fn record(&self, work: &mut dyn FnMut() -> Result<Tensor>) -> Result<(Box<dyn Replay>, Tensor)>;
}

/// What was written down.
pub trait Replay: Debug {
    /// Has the device do it.
    fn replay(&self) -> Result<()>;
}

/// All that was captured, by what tells one work from another: its kind and its shapes.
#[derive(Debug)]
pub struct Graphs<Key> {
    /// `None` where nothing can be captured.
    recorder: Option<Box<dyn Recorder>>,
    captured: BTreeMap<Key, Captured>,
    /// Work that could not be captured is not tried again.
    refused: BTreeSet<Key>,
    warming_up: bool,
}

#[derive(Debug)]
struct Captured {
    // In the order in which they go: the graph before the memory that it writes to.
    graph: Box<dyn Replay>,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl<Key: Ord + Clone + Debug> Graphs<Key> {
    /// For work on a device. Captures nothing on a CPU, without the shim, or where the environment's `MOUTHPIECE_GRAPHS` is
    /// `off`. Where it does, the thread's work goes to a stream of its own from now on.
    pub fn new(device: Device) -> Self {
        let off = std::env::var_os(SWITCH).is_some_and(|value| value == "off");
        let recorder = match (device, Shim::loaded()) {
            (Device::Cuda(gpu), Some(shim)) if !off => match CudaRecorder::new(shim, gpu) {
                Ok(recorder) => Some(Box::new(recorder) as Box<dyn Recorder>),
                Err(error) => {
                    tracing::warn!(%error, "nothing is captured: each operator is launched by itself");
                    None
                }
            },
            _ => None,
        };
        Self::with(recorder)
    }

    /// Captures nothing.
    pub fn none() -> Self {
        Self::with(None)
    }

    fn with(recorder: Option<Box<dyn Recorder>>) -> Self {
        Self { recorder, captured: BTreeMap::new(), refused: BTreeSet::new(), warming_up: false }
    }

    /// Whether work that is not captured yet is to be captured when it is next done. That takes many times as long as the
    /// work, so nobody should wait for it.
    pub fn warm_up(&mut self, warming_up: bool) {
        self.warming_up = warming_up;
    }

    /// What `suits` gives of the first of the captured of which it gives anything.
    pub fn find<T>(&self, suits: impl Fn(&Key) -> Option<T>) -> Option<T> {
        self.captured.keys().find_map(suits)
    }

    /// The output of `work` for these inputs, by a replay where it was captured under this key, which has to tell it from
    /// all work with other operators or shapes. What is captured must depend on nothing but the inputs and the weights.
    pub fn run<const INPUTS: usize>(
        &mut self,
        key: &Key,
        inputs: [&Tensor; INPUTS],
        work: &dyn Fn([&Tensor; INPUTS]) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if let Some(captured) = self.captured.get_mut(key) {
            return captured.replay(&inputs);
        }
        // By itself first: kernels are loaded and chosen at the first call, which cannot be written down.
        let output = work(inputs)?;
        let wanted = self.warming_up && self.captured.len() < MOST && !self.refused.contains(key);
        if let Some(recorder) = self.recorder.as_deref().filter(|_| wanted) {
            match Captured::new(recorder, inputs, work) {
                Ok(captured) => {
                    self.captured.insert(key.clone(), captured);
                }
                Err(error) => {
                    tracing::warn!(%error, ?key, "not captured: its operators are launched one by one");
                    self.refused.insert(key.clone());
                }
            }
        }
        Ok(output)
    }

    /// Forgets what was captured under the keys that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.captured.retain(|key, _| keep(key));
        self.refused.retain(keep);
    }
}

impl Captured {
    fn new<const INPUTS: usize>(
        recorder: &dyn Recorder,
        inputs: [&Tensor; INPUTS],
        work: &dyn Fn([&Tensor; INPUTS]) -> Result<Tensor>,
    ) -> Result<Self> {
        // Of the same layout, and not in the graph's memory. They have values at the first replay, before which nothing is
        // done with them.
        let own = inputs.iter().map(|input| Ok(input.f_empty_like()?)).collect::<Result<Vec<_>>>()?;
        let (graph, output) = recorder.record(&mut || work(std::array::from_fn(|at| &own[at])))?;
        Ok(Self { graph, inputs: own, output })
    }

    fn replay(&mut self, inputs: &[&Tensor]) -> Result<Tensor> {
        for (own, given) in self.inputs.iter_mut().zip(inputs) {
            own.f_copy_(given)?;
        }
        self.graph.replay()?;
        Ok(self.output.shallow_clone())
    }
}

/// Captures on one GPU; all of its graphs have their memory in common, as they are replayed one after the other.
#[derive(Debug)]
struct CudaRecorder {
    shim: &'static Shim,
    pool: Pool,
}

impl CudaRecorder {
    fn new(shim: &'static Shim, gpu: usize) -> Result<Self> {
        shim.use_own_stream(gpu)?;
        kernels::set_stream_source(current_stream);
        Ok(Self { shim, pool: shim.new_pool()? })
    }
}

/// Where our own kernels have to go to come in libtorch's order.
fn current_stream(gpu: i32) -> *mut std::ffi::c_void {
    let gpu = usize::try_from(gpu).unwrap_or(0);
    Shim::loaded().map_or(std::ptr::null_mut(), |shim| shim.current_stream(gpu))
}

impl Recorder for CudaRecorder {
    fn record(&self, work: &mut dyn FnMut() -> Result<Tensor>) -> Result<(Box<dyn Replay>, Tensor)> {
        let (graph, output) = self.shim.capture(self.pool, work)?;
        // The work has memory of its own now, and what it took when it was done by itself is only kept for later.
        self.shim.trim_memory()?;
        Ok((Box::new(graph), output))
    }
}

impl Replay for Graph {
    fn replay(&self) -> Result<()> {
        Ok(Graph::replay(self)?)
    }
}

impl From<ShimError> for LipSyncError {
    fn from(error: ShimError) -> Self {
        // It is libtorch's own message, and what follows from it is the same.
        Self::Torch(tch::TchError::Torch(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Does the work when it is written down, and counts replays.
    #[derive(Debug, Default, Clone)]
    struct Fake {
        replays: Rc<Cell<usize>>,
        fails: bool,
    }

    impl Recorder for Fake {
        fn record(&self, work: &mut dyn FnMut() -> Result<Tensor>) -> Result<(Box<dyn Replay>, Tensor)> {
            if self.fails {
                return Err(crate::kit::network::libtorch_error("operation not permitted when stream is capturing"));
            }
            Ok((Box::new(self.clone()), work()?))
        }
    }

    impl Replay for Fake {
        fn replay(&self) -> Result<()> {
            self.replays.set(self.replays.get() + 1);
            Ok(())
        }
    }

    fn ones(count: i64) -> Tensor {
        Tensor::ones([count], (tch::Kind::Float, Device::Cpu))
    }

    fn doubled([input]: [&Tensor; 1]) -> Result<Tensor> {
        Ok(input.f_mul_scalar(2.0)?)
    }

    #[test]
    fn work_is_captured_while_warming_up_alone_and_replayed_from_then_on() {
        let fake = Fake::default();
        let mut graphs = Graphs::with(Some(Box::new(fake.clone())));
        let run = |graphs: &mut Graphs<i64>, count: i64| graphs.run(&count, [&ones(count)], &doubled).unwrap();
        drop([run(&mut graphs, 1), run(&mut graphs, 1)]);
        assert_eq!((fake.replays.get(), graphs.captured.len()), (0, 0), "nobody waits for a capture");
        graphs.warm_up(true);
        assert_eq!(run(&mut graphs, 2), ones(2) * 2.0, "the call that captures gives its own output");
        graphs.warm_up(false);
        for _ in 0..3 {
            drop([run(&mut graphs, 2), run(&mut graphs, 1)]);
        }
        assert_eq!((fake.replays.get(), graphs.find(|key| Some(*key))), (3, Some(2)));
        graphs.retain(|count| *count != 2);
        drop(run(&mut graphs, 2));
        assert_eq!((fake.replays.get(), graphs.find(|key| Some(*key))), (3, None));
    }

    #[test]
    fn a_replay_reads_what_it_is_given_now() {
        let mut graphs = Graphs::with(Some(Box::new(Fake::default())));
        graphs.warm_up(true);
        for input in [ones(3), ones(3) * 5.0] {
            drop(graphs.run(&(), [&input], &doubled).unwrap());
        }
        assert_eq!(graphs.captured[&()].inputs[0], ones(3) * 5.0);
    }

    #[test]
    fn work_that_cannot_be_captured_is_done_and_not_tried_again() {
        let mut graphs = Graphs::with(Some(Box::new(Fake { fails: true, ..Fake::default() })));
        graphs.warm_up(true);
        for _ in 0..2 {
            assert_eq!(graphs.run(&1, [&ones(1)], &doubled).unwrap(), ones(1) * 2.0);
        }
        assert_eq!(graphs.refused.len(), 1);
    }

    #[test]
    fn on_a_cpu_nothing_is_captured() {
        let mut graphs = Graphs::new(Device::Cpu);
        graphs.warm_up(true);
        assert_eq!(graphs.run(&1, [&ones(1)], &doubled).unwrap(), ones(1) * 2.0);
        assert!(graphs.captured.is_empty());
    }
}
