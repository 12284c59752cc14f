//! A loaded model that draws mouths: what the engine runs.
//!
//! In here: [`MuseTalk`], which is the `LipSync`; the networks with their weights; the avatars that it knows; tokens of sound;
//! pictures and tensors turned into each other; pasting on the device; an avatar's own small decoder. May use of `musetalk`:
//! `gpu`, `network`, `measuring`, `weights`, `device`. Runs on: whichever thread owns the model, in the server the engine's.

mod audio;
mod avatars;
pub(in crate::musetalk) mod canvas;
mod floats;
mod layouts;
mod model;
mod musetalk;
mod pixels;
mod small_decoder;
mod steady;

pub use audio::{AudioFrontEnd, Stretch};
pub use musetalk::MuseTalk;
pub use pixels::{from_rgb8, to_rgb8};
pub use small_decoder::SmallDecoder;
