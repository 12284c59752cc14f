//! Weights and configurations as they lie on the disk, and as the network has them.
//!
//! In here: filling a `VarStore` from a file and writing it; configurations of diffusers, transformers and upstream turned
//! into this project's. May use of `musetalk`: `network`. Not in here: how files store tensors (`models::checkpoint`).

pub mod published;
mod var_store;

pub use var_store::{Mapping, load_safetensors, read_safetensors, save_safetensors, use_channels_last};
pub(in crate::musetalk) use var_store::{load_checkpoint, set_kind_of, set_layout_of};
