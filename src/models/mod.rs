//! Model folders and the files in them: what to fetch, read, convert and check before a network is built.
//!
//! In here: everything about weights that needs no libtorch. Not in here: the networks (`lipsync::musetalk`), what the
//! commands print (`commands::models`).

pub mod checkpoint;

pub use checkpoint::{Checkpoint, CheckpointError, DType};
