//! What viewers and encodes take of the process's descriptors and threads, for whoever decides how many there may be.
//!
//! In here: numbers alone. `viewer::strangers` counts the real thing and fails where it takes more.

use super::ice::MOST_LOCAL;

/// Of one viewer or one encode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    pub descriptors: usize,
    pub threads: usize,
}

/// One viewer, on a machine with many addresses: a socket for each that is gathered on, and what wakes webrtcbin's own
/// thread, libnice's, and the one that receives. Threads: those three, one for each of video, sound, retransmission, RTCP,
/// DTLS and decryption, and two for a microphone.
pub const PEER_COST: Cost = Cost { descriptors: 4 + MOST_LOCAL, threads: 11 };
/// One encode of a session.
pub const SESSION_COST: Cost = Cost { descriptors: 2, threads: 4 };
