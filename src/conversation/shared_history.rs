//! What both sides of a conversation said, shared by the session's tasks.
//!
//! Not in here: what is kept and forgotten (`dialogue::history`), who writes what (`turns`, `speaker`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::dialogue::history::History;

/// Locked for a moment, never across an await; cheap to clone.
#[derive(Clone)]
pub(super) struct SharedHistory(Arc<Mutex<History>>);

impl SharedHistory {
    pub fn new(history: History) -> Self {
        Self(Arc::new(Mutex::new(history)))
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
