//! What a way out is to the thread that runs it.
//!
//! In here: the trait, what it is given and what comes of it. Not in here: when it is tried again (`output`).

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Captions;
use crate::media::publisher::Publisher;

/// Carries a session's encoded stream to one receiver.
pub(crate) trait Carrier: Send {
    /// Carries until it is told to stop, the receiver is lost, or it cannot go on; called on the thread of the output, again
    /// after [`Carried::Lost`] and [`Carried::Changed`]. Looks at `stop` ten times a second, and returns within a second then.
    fn carry(&mut self, attempt: Attempt<'_>) -> Carried;
}

/// What one attempt has to work with.
pub(crate) struct Attempt<'a> {
    /// The encode, which lives as long as somebody holds it.
    pub(in crate::media) publisher: &'a Arc<Publisher>,
    /// Cancelled when the output is to end.
    pub(crate) stop: &'a CancellationToken,
    /// What is said, for whoever writes captions.
    pub(in crate::media) captions: &'a mut Captions,
    /// Where it is told how it goes.
    pub(crate) progress: &'a mut dyn Progress,
}

/// How an attempt goes.
pub(crate) trait Progress {
    /// The receiver takes what it is sent.
    fn live(&mut self);
    /// So many pictures were taken and left out in this attempt.
    fn counted(&mut self, frames: u64, dropped: u64);
}

/// How an attempt ended. Reasons are told to whoever asks, so they hold nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It was told to; what it wrote is whole.
    Stopped,
    /// The stream is another one from now on: it begins anew at once.
    Changed,
    /// The receiver is gone or not there; it is tried again.
    Lost {
        /// In a line.
        reason: String,
    },
    /// It would not go better another time.
    Failed {
        /// In a line.
        reason: String,
    },
}
