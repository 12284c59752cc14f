//! The real-time loop: every 40 ms one pair of a frame and its sound leaves for each session.
//!
//! In here: pairs, idle and speech, presentation times. Not in here: inference, pixels, GStreamer objects.
//! Runs on: its own OS thread, "playout", one for all sessions.

use std::sync::Arc;

use crate::ids::UtteranceId;
use crate::timeline::{FrameIndex, PLAYOUT_SAMPLES_PER_FRAME};

/// A finished picture: planar YUV 4:2:0, BT.601 limited range, rows without padding. `width` and `height` are even.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct I420Frame {
    pub width: u32,
    pub height: u32,
    /// Y (`width * height`), then U, then V (a quarter of that each).
    pub data: Vec<u8>,
}

/// One unit of media: a frame and the exact 40 ms of sound that belong to it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Frames since the session began; presentation time is this over the frame rate.
    pub index: FrameIndex,
    /// `Arc`, since idle frames are the avatar's own and shared by all sessions.
    pub frame: Arc<I420Frame>,
    /// 48 kHz mono; `None` is silence.
    pub audio: Option<Box<[i16; PLAYOUT_SAMPLES_PER_FRAME]>>,
    /// Whose speech this is; `None` while idle.
    pub utterance: Option<UtteranceId>,
}

/// Where pairs go. Called on the playout thread, so it must not block.
pub trait PairSink: Send {
    fn push(&mut self, pair: Pair);
}
