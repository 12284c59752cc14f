//! The ears of a session: what a viewer's microphone hears in, turns of the conversation out.
//!
//! `ear` is the task that listens to one microphone; `echo` tells the avatar's own voice from others, `turn` decides when
//! somebody speaks and when a turn is over, `asr` makes text of speech, `transcript` tells what of it was said. Not in here: the microphone's way to us (`media`),
//! what is answered (`conversation`).

pub mod asr;
mod backchannel;
mod ear;
mod echo;
mod transcript;
mod turn;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::broadcast;

pub use ear::{Ear, Ears};
pub use echo::Spoken;

use crate::playout::{Pair, PairSink};
use crate::session::{Notice, Refusal};

/// Microphones are heard at this rate, mono.
pub const MICROPHONE_RATE: u32 = 16_000;
/// Samples of a frame: 16 ms, as the voice activity detector wants them.
pub const FRAME: usize = 256;

/// What a microphone heard for a moment.
#[derive(Clone, Debug)]
pub struct Sound {
    /// When its first sample sounded.
    pub at: Instant,
    /// At [`MICROPHONE_RATE`].
    pub samples: Vec<i16>,
}

/// The conversation as an ear may act on it. Implemented by the server, faked in tests.
pub trait Floor: Send + Sync {
    /// Somebody may be about to speak: lower the avatar's voice for a while.
    fn speak_lower(&self);
    /// It was nothing.
    fn go_on(&self);
    fn interrupt(&self);
    /// A turn was taken by voice; `ended` is when the last of it sounded.
    fn take_turn(&self, content: String, ended: Instant) -> Result<(), Refusal>;
    fn tell(&self, notice: Notice);
}

/// Pairs of one session that ears may fall behind: a second.
const BEHIND: usize = 25;

/// Lets ears hear what playout sends, on its way to the encoders.
pub struct Overheard {
    inner: Box<dyn PairSink>,
    voice: broadcast::Sender<Spoken>,
}

impl Overheard {
    pub fn new(inner: Box<dyn PairSink>) -> (Self, broadcast::Sender<Spoken>) {
        let (voice, _) = broadcast::channel(BEHIND);
        (Self { inner, voice: voice.clone() }, voice)
    }
}

impl PairSink for Overheard {
    fn push(&mut self, pair: Pair) {
        if self.voice.receiver_count() > 0 {
            let audio = pair.audio.clone().map(Arc::new);
            // The last ear may have gone just now.
            let _ = self.voice.send(Spoken { index: pair.index.0, at: Instant::now(), audio });
        }
        self.inner.push(pair);
    }
}
