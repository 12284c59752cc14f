//! The network itself: one struct for each Python module, with paths equal to the checkpoints' names, so that weights of
//! diffusers and transformers load as they are.
//!
//! In here: the layers, what is built of them, the spectrogram in front of them, and the configuration that all sizes come
//! from. Whoever serves, trains or compares uses the same structs. May use no other room of `musetalk`.

pub(in crate::musetalk) mod attention;
pub mod audio_rows;
pub mod bisenet;
pub mod config;
pub mod decoder;
pub(in crate::musetalk) mod latent_scale;
pub mod layers;
pub(in crate::musetalk) mod layout;
pub mod mel;
pub mod positional_encoding;
mod resnet;
pub mod tiny_vae;
pub mod unet;
pub mod vae;
pub mod whisper;
