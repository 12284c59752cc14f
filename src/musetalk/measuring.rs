//! What times are measured with: the arithmetic of a frame, and a stopwatch that waits for the device.
//!
//! May use of `musetalk`: `network`. Not in here: running a model to measure it (`tools::throughput`).

mod flops;
mod stopwatch;

pub use flops::Arithmetic;
pub use stopwatch::StageTimes;
pub(in crate::musetalk) use stopwatch::Stopwatch;
