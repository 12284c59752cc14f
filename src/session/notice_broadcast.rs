//! Tells every client of a session the same thing, never waiting for one that does not listen.
//!
//! Not in here: the queue to one client (`notice_queue`), what is told (`Notice`). Runs on: whoever tells.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Notice, NoticeSender, Told};

/// The queues to all clients of one session; cheap to clone.
#[derive(Clone, Default)]
pub struct NoticeBroadcast(Arc<Mutex<Vec<NoticeSender>>>);

impl NoticeBroadcast {
    /// From now on this client is told too.
    pub fn add(&self, client: NoticeSender) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(client);
    }

    /// A client whose queue is full misses this one, and will be told so; one that is gone is forgotten.
    pub fn tell(&self, notice: &Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|client| match client.tell(notice.clone()) {
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
    use crate::session::notice_queue;

    #[tokio::test]
    async fn a_viewer_that_does_not_listen_delays_nobody() {
        let clients = NoticeBroadcast::default();
        let (deaf, mut slow) = notice_queue(1);
        let (listening, mut heard) = notice_queue(8);
        clients.add(deaf);
        clients.add(listening);
        let utterance = UtteranceId::next();
        for _ in 0..5 {
            clients.tell(&Notice::SpeechStarted { utterance, id: None });
        }
        for _ in 0..5 {
            assert_eq!(heard.recv().await, Some(Notice::SpeechStarted { utterance, id: None }));
        }
        assert_eq!(slow.recv().await, Some(Notice::SpeechStarted { utterance, id: None }));
        assert_eq!(slow.recv().await, Some(Notice::Missed { count: 4 }));
    }
}
