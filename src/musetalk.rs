//! MuseTalk's network in libtorch: mel, audio encoder, positional encoding, UNet, autoencoder. The only home of `tch`.
//!
//! One struct for each Python module and paths equal to the checkpoints' names, so that weights of diffusers and
//! transformers load as they are. Sizes come from a [`ModelConfig`] alone: the demo model and the full one are the same
//! code, and the code that trains is the code that serves. Runs on whichever thread owns the model.
//!
//! Not in here: CUDA graphs and streams of our own, since tch binds neither.

pub mod attention;
pub mod audio;
mod canvas;
pub mod config;
mod cuda;
pub mod device;
pub mod flops;
pub mod layers;
pub mod libtorch;
pub mod mel;
pub mod model;
pub mod network;
pub mod picture;
pub mod positional_encoding;
pub mod precision;
pub mod resnet;
pub mod small_decoder;
pub mod stopwatch;
pub mod throughput;
pub mod tiny_vae;
pub mod tune;
pub mod unet;
pub mod vae;
pub mod weights;
pub mod whisper;

pub use config::ModelConfig;
pub use device::{DeviceChoice, DeviceChoices, find_device};
pub use mel::log_mel;
pub use model::MuseTalk;
pub use positional_encoding::positional_encoding;
pub use tiny_vae::{TinyVaeDecoder, TinyVaeEncoder};
pub use unet::Unet;
pub use vae::AutoencoderKl;
pub use weights::{load_safetensors, save_safetensors};
pub use whisper::WhisperEncoder;

use crate::lipsync::LipSyncError;

/// libtorch's threads. A second one costs 15 to 33 points of a core more and draws no faster at the demo model's size.
pub const ENGINE_THREADS: i32 = 1;

type Result<T> = std::result::Result<T, LipSyncError>;
