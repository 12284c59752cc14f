//! What viewers and encodes take of the process's descriptors and threads, for whoever decides how many there may be.
//!
//! In here: numbers alone. `tests/it/strangers.rs` counts the real thing and fails where it takes more.

/// Of one viewer or one encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub descriptors: usize,
    pub threads: usize,
}

/// One viewer on a machine with one address.
pub const PEER_COST: Cost = Cost { descriptors: 9, threads: 8 };
/// One encode of a session.
pub const SESSION_COST: Cost = Cost { descriptors: 4, threads: 6 };
