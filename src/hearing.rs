//! Listening to microphones: what a viewer's microphone hears in, turns of the conversation out.
//!
//! `listener` is the task that listens to one microphone; `echo` tells the avatar's own voice from others by `reference`, what
//! the avatar says; `turn` decides when somebody speaks and when a turn is over, `asr` makes text of speech, `transcript`
//! tells what of it was said. Not in here: the microphone's way to us (`media`), what is answered (`conversation`).

pub mod asr;
mod backchannel;
mod echo;
mod listener;
mod reference;
mod transcript;
mod turn;

use std::time::Instant;

pub use listener::{Listener, Listeners};
pub use reference::ReferenceFrame;
pub(crate) use reference::ReferenceTap;

use crate::session::{Notice, Refusal};

/// Hertz; microphones are heard at this rate, mono.
const MICROPHONE_RATE: u32 = 16_000;
/// Samples of a frame: 16 ms, as the voice activity detector wants them.
const FRAME_SAMPLES: usize = 256;

/// What a microphone heard for a moment.
#[derive(Clone, Debug)]
pub struct MicrophoneChunk {
    /// When its first sample sounded.
    pub at: Instant,
    /// 16-bit mono at 16 kHz, any number of them.
    pub samples: Vec<i16>,
}

/// The conversation as a listener may act on it. Implemented by the server, faked in tests.
pub trait TurnTaking: Send + Sync {
    /// Somebody begins to speak, or has no more to say for now; each beginning has its end.
    fn hears(&self, speech: bool);
    /// Somebody may be about to speak: lower the avatar's voice for a while.
    fn speak_lower(&self);
    /// It was nothing.
    fn go_on(&self);
    /// Somebody takes the turn from the avatar, which stops.
    fn interrupt(&self);
    /// A turn was taken by voice; `ended` is when the last of it sounded.
    fn take_turn(&self, content: String, ended: Instant) -> Result<(), Refusal>;
    /// Tells all clients of the session.
    fn tell(&self, notice: Notice);
}
