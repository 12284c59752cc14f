//! Tells every viewer of a session the same thing, never waiting for one that does not listen.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::signalling::Notice;

/// The viewers' connections; cheap to clone.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Vec<mpsc::Sender<Notice>>>>);

impl Notices {
    pub fn add(&self, viewer: mpsc::Sender<Notice>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(viewer);
    }

    /// A viewer whose queue is full misses this one; one that is gone is forgotten.
    pub fn tell(&self, notice: &Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|viewer| match viewer.try_send(notice.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                crate::metrics::event_dropped();
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UtteranceId;

    #[tokio::test]
    async fn a_viewer_that_does_not_listen_delays_nobody() {
        let notices = Notices::default();
        let (deaf, _kept) = mpsc::channel(1);
        let (listening, mut heard) = mpsc::channel(8);
        notices.add(deaf);
        notices.add(listening);
        let utterance = UtteranceId::next();
        for _ in 0..5 {
            notices.tell(&Notice::SpeechStarted { utterance, id: None });
        }
        for _ in 0..5 {
            assert_eq!(heard.recv().await, Some(Notice::SpeechStarted { utterance, id: None }));
        }
    }
}
