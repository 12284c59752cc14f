//! Model folders and the files in them: what to fetch, read, convert and check before a network is built.
//!
//! In here: everything about weights that needs no libtorch. Not in here: the networks (`musetalk`), what the
//! commands print (`commands::models`).

pub mod catalog;
pub mod checkpoint;
pub mod convert;
pub(crate) mod disk;
pub mod fetch;
pub mod folder;
pub mod manifest;
pub mod names;
mod tensor_list;
pub mod verify;

pub use checkpoint::{Checkpoint, CheckpointError, DType};
pub use tensor_list::{Difference, ListError, TensorList};
