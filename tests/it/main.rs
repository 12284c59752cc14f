//! One binary for all integration tests, so that they link once.

// Clippy's own exemption for tests covers test functions only, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod alone;
mod avatar_api;
mod avatars;
mod barge_in;
mod cli;
mod clips;
mod create;
mod documents;
mod echo;
mod face_parser;
mod faces;
mod fetch;
mod film;
mod flood;
mod foreign_peer;
mod full_size;
mod gpu_bundle;
mod hearing;
mod hub;
mod interruption;
#[path = "../kit/mod.rs"]
mod kit;
mod launches;
mod layering;
mod limits;
mod live_pipelines;
mod llm;
mod llm_replies;
mod models;
mod narrow_network;
mod network;
mod parity;
mod peer;
mod prepare_musetalk;
mod programs;
mod recogniser;
mod scripts;
mod signalling;
mod soak;
mod speech;
mod swap;
#[path = "../support/tall_avatar.rs"]
mod tall_avatar;
mod torch_file;
mod tune;
mod voices;
#[path = "../support/watchdog.rs"]
mod watchdog;
