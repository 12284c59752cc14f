//! What goes into playout and what comes out of it, as messages of the channels of one session.
//!
//! Not in here: pairs, which go to a sink instead (`PairSink`), and what is done about any of it (`schedule`, `thread`).

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use super::FrameAudio;
use super::schedule::Change;
use crate::avatar::OwnFrames;
use crate::ids::{SentenceId, UtteranceId};
use crate::picture::I420Frame;
use crate::timeline::FrameIndex;

/// Which of a session's avatars, in the order in which they came; 0 is the one that it was opened with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AvatarNumber(pub u32);

/// Speech on its way to playout: sentence by sentence, and within each in order of its frames.
#[derive(Debug)]
pub enum Command {
    /// A sentence is being made.
    BeginSentence {
        /// Which one.
        sentence: SentenceId,
        /// Its frames were drawn for the poses from this one on.
        start_pose: u64,
        /// Cancelled when its utterance is interrupted.
        cancelled: CancellationToken,
    },
    /// The next frame of a sentence.
    Frame {
        /// Whose frame it is.
        sentence: SentenceId,
        /// What is heard while it is seen.
        audio: FrameAudio,
        /// Whether the avatar's own frame is its picture (silence); else a mouth follows.
        own: bool,
        /// Whose mouth that would be, unless another avatar has come by then.
        avatar: AvatarNumber,
        /// Bounds how far ahead of the picture on screen the engine works; given back when the frame is shown or dropped.
        permit: OwnedSemaphorePermit,
    },
    /// The picture of a frame that was announced before.
    Mouth {
        /// Whose frame it is.
        sentence: SentenceId,
        /// Which frame of the sentence, from 0.
        index: u64,
        /// The avatar's frame with the mouth pasted into it.
        picture: Arc<I420Frame>,
        /// Whether the mouth was drawn for this frame; else it is that of the frame before.
        fresh: bool,
        /// Whose picture it is. One of an avatar that is gone is not shown.
        avatar: AvatarNumber,
    },
    /// All frames of the sentence were announced.
    EndSentence {
        /// Which one.
        sentence: SentenceId,
    },
    /// Another avatar takes over, at the first tick at which its own frame is ready. The sound goes on.
    Swap {
        /// Its own frames.
        own: OwnFrames,
        /// What it is called from now on; higher than that of the one before.
        avatar: AvatarNumber,
        /// Told when its first picture leaves; dropped if it never does.
        shown: oneshot::Sender<()>,
    },
    /// All sentences of the utterance have begun.
    EndUtterance {
        /// Which one.
        utterance: UtteranceId,
        /// Cancelled when the utterance is interrupted.
        cancelled: CancellationToken,
    },
}

/// What playout tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The utterance is heard from now on.
    Started {
        /// Which one.
        utterance: UtteranceId,
        /// When its first pair left.
        at: Instant,
    },
    /// The sentence is heard from now on.
    SentenceStarted {
        /// Which one.
        sentence: SentenceId,
        /// Its first pair.
        index: FrameIndex,
    },
    /// The first generated mouth of the utterance left.
    FirstMouth {
        /// Whose mouth it is.
        utterance: UtteranceId,
        /// The pair that it left with.
        index: FrameIndex,
        /// When it left.
        at: Instant,
    },
    /// The utterance is over.
    Ended {
        /// Which one.
        utterance: UtteranceId,
        /// How many of its frames were heard, 40 ms each.
        frames: u64,
        /// Whether it was cancelled before its end.
        interrupted: bool,
        /// When the first pair without it left.
        at: Instant,
    },
}

impl Event {
    /// What changed in a schedule with the pair of this index, which left at this moment.
    pub(crate) fn of(change: Change, index: FrameIndex, at: Instant) -> Self {
        match change {
            Change::Started(utterance) => Self::Started { utterance, at },
            Change::SentenceStarted(sentence) => Self::SentenceStarted { sentence, index },
            Change::FirstMouth(utterance) => Self::FirstMouth { utterance, index, at },
            Change::Ended { utterance, frames, interrupted } => Self::Ended { utterance, frames, interrupted, at },
        }
    }
}
