//! Descriptions of pipelines that change while the server runs: who looks for changes, and when.
//!
//! In here: a look at the folder twice a second, and whenever somebody asks over HTTP; one at a time. Not in here: what a
//! change leads to (`media::live`).
//! Runs on: one tokio task; looking, on a thread that may block.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::budget::ResourceBudget;
use crate::media::{ENCODE_RESOURCES, LivePipelines, OUTPUT_RESOURCES, PipelineFile, VIEWER_RESOURCES};
use crate::signalling::pipelines::PipelineEditor;

/// Between two looks. A file is taken at the second look that finds it the same, so that none is taken half written.
const LOOK: Duration = Duration::from_millis(500);

/// Has changed descriptions come into use.
pub(super) struct PipelineEditing {
    live: Arc<LivePipelines>,
    budget: Arc<ResourceBudget>,
    is_watching: bool,
    /// Held while one looks.
    looking: Arc<Mutex<()>>,
}

impl PipelineEditing {
    pub(super) fn new(live: Arc<LivePipelines>, budget: Arc<ResourceBudget>, watches: bool) -> Self {
        let is_watching = watches && live.is_of_files();
        Self { live, budget, is_watching, looking: Arc::default() }
    }

    /// Looks until it is told to stop; at once where there is nothing to watch.
    pub(super) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        if !self.is_watching {
            return;
        }
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let live = Arc::clone(&self.live);
            if matches!(tokio::task::spawn_blocking(move || live.is_changed()).await, Ok(true)) {
                let looking = Arc::clone(&self.looking).lock_owned().await;
                // A trial takes longer than the server has to end; it ends by itself.
                let _ = stop.run_until_cancelled(self.look(true, looking)).await;
            }
        }
    }

    /// `None` without room for what is tried: a session of nobody's with a viewer or an output, beside an encode that takes
    /// the place of another.
    async fn look(&self, settled: bool, looking: OwnedMutexGuard<()>) -> Option<Vec<PipelineFile>> {
        let cost = ENCODE_RESOURCES + ENCODE_RESOURCES + VIEWER_RESOURCES + VIEWER_RESOURCES + OUTPUT_RESOURCES;
        let room = self.budget.take(cost).inspect_err(|short| tracing::warn!(%short, "changed pipelines wait")).ok()?;
        let live = Arc::clone(&self.live);
        let looked = tokio::task::spawn_blocking(move || {
            let _held = (room, looking);
            live.look(settled)
        });
        looked.await.ok()
    }
}

impl PipelineEditor for PipelineEditing {
    fn is_watching(&self) -> bool {
        self.is_watching
    }

    fn files(&self) -> BoxFuture<'_, Vec<PipelineFile>> {
        let live = Arc::clone(&self.live);
        Box::pin(async move { tokio::task::spawn_blocking(move || live.files()).await.unwrap_or_default() })
    }

    fn reload(&self) -> BoxFuture<'_, Option<Vec<PipelineFile>>> {
        Box::pin(async move {
            let looking = Arc::clone(&self.looking).try_lock_owned().ok()?;
            self.look(false, looking).await
        })
    }
}
