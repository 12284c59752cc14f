//! The real-time loop: every 40 ms one pair of a frame and its sound leaves for each session.
//!
//! | file | what is in it | runs on |
//! |---|---|---|
//! | `messages` | what goes in ([`Command`]) and what comes out ([`Event`]) | |
//! | [`schedule`] | what a session shows and sounds at a tick; pure | whoever ticks it |
//! | `clock` | media time, and where each session's idle loop stands | read from any thread |
//! | `pace` | how often pictures change while there is no time for all mouths | "playout" |
//! | `thread` | the thread "playout", one for all sessions, and the ways to it | nothing it calls may block longer than a frame |
//! | `volume` | how loud a session speaks | set from any thread, faded on "playout" |
//!
//! Not in here: inference, pixels, GStreamer objects.

mod clock;
mod messages;
mod pace;
pub mod schedule;
mod thread;
mod volume;

use std::sync::Arc;

pub use clock::{PlayoutClock, PoseClock};
pub use messages::{AvatarNumber, Command, Event};
pub use thread::{Playout, PlayoutEnded, PlayoutThread, SessionPlayout};
pub use volume::Volume;

use crate::ids::UtteranceId;
use crate::picture::I420Frame;
use crate::timeline::{FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};

/// The sound of one frame: 40 ms of 48 kHz mono.
pub type FrameAudio = Box<[i16; PLAYOUT_SAMPLES_PER_FRAME]>;

/// One unit of media: a frame and the exact 40 ms of sound that belong to it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Frames since the session began; presentation time is this over the frame rate.
    pub index: FrameIndex,
    /// `Arc`, since idle frames are the avatar's own and shared by all sessions.
    pub frame: Arc<I420Frame>,
    /// `None` is silence.
    pub audio: Option<FrameAudio>,
    /// Whose speech this is; `None` while idle.
    pub utterance: Option<UtteranceId>,
}

/// Where pairs go. Called on the playout thread, so it must not block.
pub trait PairSink: Send {
    /// Takes the next pair; `index` goes up by one each time.
    fn push(&mut self, pair: Pair);
}
