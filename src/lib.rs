//! mouthpiece gives a program a face: text or audio in, a lip-synced avatar out over WebRTC, in real time.

pub mod avatar;
pub mod compose;
pub mod demo;
pub mod ids;
pub mod lipsync;
pub mod media;
pub mod metrics;
pub mod playout;
pub mod signalling;
pub mod speech;
pub mod timeline;
