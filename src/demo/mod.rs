//! The demo avatar and its model: drawing the character, and training and judging the network that speaks for it.
//!
//! Nothing in here runs in the server; `src/bin/demo-model.rs` is its only user.

pub mod character;
