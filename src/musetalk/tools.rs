//! What is done with a model besides serving: faces made its latents, parsing them, comparing its networks with Python's,
//! tuning a small decoder, measuring, comparing our kernels with plain operators.
//!
//! May use all rooms of `musetalk`. Runs on: the thread that calls.

mod face_encoder;
mod face_parser;
pub mod kernel_check;
mod named_tensors;
pub mod run_network;
pub mod throughput;
pub mod tune;

pub use face_encoder::FaceEncoder;
pub use face_parser::FaceParser;
