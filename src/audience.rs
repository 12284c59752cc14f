//! How many viewers a session has, for those who work only while somebody watches.
//!
//! In here: the count and each viewer's hold on it. Not in here: what a viewer is (`media`), who may become one
//! (`server`). Runs on: any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A session's viewers. Clones count the same ones.
#[derive(Clone, Debug, Default)]
pub struct Audience {
    viewers: Arc<AtomicUsize>,
    /// Sessions of the server that have viewers.
    watched: Arc<AtomicUsize>,
}

/// That one viewer watches; counts no more when dropped.
#[derive(Debug)]
pub struct ViewerGuard(Audience);

impl Audience {
    /// Of another session of the same server.
    pub(crate) fn of_another_session(&self) -> Self {
        Self { viewers: Arc::default(), watched: Arc::clone(&self.watched) }
    }

    /// Counts one viewer more, until the guard is dropped.
    pub fn enter(&self) -> ViewerGuard {
        if self.viewers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.watched.fetch_add(1, Ordering::Relaxed);
        }
        ViewerGuard(self.clone())
    }

    /// Whether nobody watches this session.
    pub(crate) fn is_empty(&self) -> bool {
        self.viewers.load(Ordering::Relaxed) == 0
    }

    /// How many sessions of the server have viewers.
    pub(crate) fn watched_sessions(&self) -> usize {
        self.watched.load(Ordering::Relaxed)
    }
}

impl Drop for ViewerGuard {
    fn drop(&mut self) {
        if self.0.viewers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.watched.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_watched_until_its_last_viewer_leaves() {
        let audience = Audience::default();
        let other = audience.of_another_session();
        let (first, second, elsewhere) = (audience.enter(), audience.clone().enter(), other.enter());
        assert_eq!((audience.is_empty(), other.is_empty(), audience.watched_sessions()), (false, false, 2));
        drop((first, elsewhere));
        assert_eq!((audience.is_empty(), other.is_empty(), audience.watched_sessions()), (false, true, 1));
        drop(second);
        assert_eq!((audience.is_empty(), other.watched_sessions()), (true, 0));
    }
}
