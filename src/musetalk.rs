//! MuseTalk in libtorch: the network, its weights, and the model that draws mouths. The only home of `tch` but for training.
//!
//! A room uses those of the floors below its own. `tests/it/layering.rs` reads this very table.
//!
//! | floor | rooms | what is there |
//! |---|---|---|
//! | 0 | `gpu` | what libtorch's operators leave to be done on a GPU: kernels of our own, CUDA graphs |
//! | 1 | `network` | layers, UNet, autoencoders, audio encoder, spectrogram; the configuration that sizes come from |
//! | 2 | `measuring`, `weights` | arithmetic of a frame and a stopwatch; files of weights and published configurations |
//! | 3 | `device` | libtorch and its CUDA half, which device, which floats |
//! | 4 | `serving` | a loaded model that draws mouths for avatars |
//! | 5 | `tools` | faces to latents, face parsing, comparing with Python, tuning a small decoder, throughput |
//!
//! Sizes come from a [`ModelConfig`] alone: the demo model and the full one are the same code, and the code that trains is
//! the code that serves.

pub mod device;
pub mod gpu;
pub mod measuring;
pub mod network;
pub mod serving;
pub mod tools;
pub mod weights;

pub use device::{DeviceChoice, find_device};
pub use network::config::ModelConfig;
pub use serving::MuseTalk;
pub use tools::{FaceEncoder, FaceParser};

type Result<T> = std::result::Result<T, crate::lipsync::LipSyncError>;
