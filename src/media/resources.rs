//! What viewers and encodes take of the process's descriptors and threads, for whoever decides how many there may be.
//!
//! In here: numbers alone. `viewer::hostile_peers` counts the real thing and fails where it takes more.

use std::ops::Add;

use super::ice::MOST_LOCAL;

/// What something takes of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Open files and sockets.
    pub(crate) descriptors: usize,
    /// Threads of the system.
    pub(crate) threads: usize,
}

impl Add for Resources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { descriptors: self.descriptors + other.descriptors, threads: self.threads + other.threads }
    }
}

/// One viewer, on a machine with many addresses: a socket for each that is gathered on, or one on loopback and its connections
/// by the one port, and what wakes webrtcbin's own
/// thread, libnice's, and the one that receives. Threads: those three, one for each of video, sound, retransmission, RTCP,
/// DTLS and decryption, and two for a microphone.
pub(crate) const VIEWER_RESOURCES: Resources = Resources { descriptors: 4 + MOST_LOCAL, threads: 11 };
/// One encode of a session, with both further rungs of its picture.
pub(crate) const ENCODE_RESOURCES: Resources = Resources { descriptors: 4, threads: 8 };
/// One output: a socket or a file with what wakes who waits for it; its own thread, those of two sources, a muxer, a
/// connection, and of a decoder where it has one.
pub(crate) const OUTPUT_RESOURCES: Resources = Resources { descriptors: 8, threads: 10 };
