//! The far-end reference of echo cancellation: what the avatar says, as playout sends it.
//!
//! In here: tapping it on its way to the encoders. Not in here: what is made of it (`echo`).
//! Runs on: the playout thread, which never waits here.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::broadcast;

use crate::playout::{FrameAudio, Pair, PairSink};

/// Frames of one session that listeners may fall behind: a second.
const BEHIND: usize = 25;

/// The sound of one pair, at the playout rate.
#[derive(Clone, Debug)]
pub struct ReferenceFrame {
    /// Of its pair; they follow one another without a gap unless a listener fell behind.
    pub index: u64,
    /// When it was sent.
    pub at: Instant,
    /// 40 ms; `None` is silence.
    pub audio: Option<Arc<FrameAudio>>,
}

/// Lets listeners hear what playout sends, on its way to the encoders.
pub(crate) struct ReferenceTap {
    inner: Box<dyn PairSink>,
    reference: broadcast::Sender<ReferenceFrame>,
}

impl ReferenceTap {
    /// A sink that passes all on to `inner`, and where listeners subscribe.
    pub(crate) fn new(inner: Box<dyn PairSink>) -> (Self, broadcast::Sender<ReferenceFrame>) {
        let (reference, _) = broadcast::channel(BEHIND);
        (Self { inner, reference: reference.clone() }, reference)
    }
}

impl PairSink for ReferenceTap {
    fn push(&mut self, pair: Pair) {
        if self.reference.receiver_count() > 0 {
            let audio = pair.audio.clone().map(Arc::new);
            // The last listener may have gone just now.
            let _ = self.reference.send(ReferenceFrame { index: pair.index.0, at: Instant::now(), audio });
        }
        self.inner.push(pair);
    }
}
