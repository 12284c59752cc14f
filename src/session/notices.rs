//! Tells every viewer of a session the same thing, never waiting for one that does not listen.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Notice, NoticeSender, Told};

/// The viewers' connections; cheap to clone.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Vec<NoticeSender>>>);

impl Notices {
    pub fn add(&self, viewer: NoticeSender) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(viewer);
    }

    /// A viewer whose queue is full misses this one, and will be told so; one that is gone is forgotten.
    pub fn tell(&self, notice: &Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|viewer| match viewer.tell(notice.clone()) {
            Told::Yes => true,
            Told::Missed => {
                crate::metrics::event_dropped();
                true
            }
            Told::Gone => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UtteranceId;
    use crate::session::notices;

    #[tokio::test]
    async fn a_viewer_that_does_not_listen_delays_nobody() {
        let viewers = Notices::default();
        let (deaf, mut slow) = notices(1);
        let (listening, mut heard) = notices(8);
        viewers.add(deaf);
        viewers.add(listening);
        let utterance = UtteranceId::next();
        for _ in 0..5 {
            viewers.tell(&Notice::SpeechStarted { utterance, id: None });
        }
        for _ in 0..5 {
            assert_eq!(heard.recv().await, Some(Notice::SpeechStarted { utterance, id: None }));
        }
        assert_eq!(slow.recv().await, Some(Notice::SpeechStarted { utterance, id: None }));
        assert_eq!(slow.recv().await, Some(Notice::Missed { count: 4 }));
    }
}
