//! What the network runs on: libtorch and its CUDA half, the device that was asked for, and the floats to compute in.
//!
//! May use of `musetalk`: `network`, `measuring`.

mod choice;
mod cuda;
mod libtorch;
mod precision;

pub use choice::{DeviceChoice, DeviceChoices, DeviceError, find_device};
pub use libtorch::Libtorch;
pub(in crate::musetalk) use precision::cpu_has_bf16;
pub use precision::{Precision, Precisions};

/// libtorch's threads while it serves. A second one costs 15 to 33 points of a core more and draws no faster at the demo
/// model's size.
pub const ENGINE_THREADS: i32 = 1;
