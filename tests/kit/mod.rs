//! What tests of any module need, once: a network that draws as it is told, a small avatar, a WebRTC peer.
//!
//! Compiled into the library's unit tests (`crate::kit`) and into `tests/it` (`crate::kit` there too), so it names the
//! library `mouthpiece` in both. Not in here: what only one test needs.

// Each crate that this is compiled into uses its own part of it.
#![allow(dead_code)]

pub mod avatar;
pub mod drawn_face;
pub mod network;
pub mod peer;
pub mod relay;
