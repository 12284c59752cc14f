//! mouthpiece gives a program a face: text or audio in, a lip-synced avatar out over WebRTC, in real time.

// Tests cast small constants; the lint guards what runs.
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_lossless))]

pub mod avatar;
pub mod cli;
pub mod commands;
pub mod compose;
pub mod config;
pub mod conversation;
pub mod demo;
pub mod doctor;
pub mod ids;
pub mod lipsync;
pub mod media;
pub mod metrics;
pub mod playout;
pub mod server;
pub mod signalling;
pub mod speech;
pub mod timeline;
