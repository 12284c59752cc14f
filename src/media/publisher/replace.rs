//! Another pipeline in the place of the one that encodes, with its viewers none the wiser.
//!
//! In here: starting it beside the other, waiting for it to take over, giving it up. Not in here: which pairs it gets
//! (`sink`), what passes (`relay`), who wants it (`live`).
//! Runs on: a thread that may block.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, mpsc};
use std::time::Duration;

use super::encode::Encode;
use super::outlet::Outlet;
use super::relay::Generation;
use super::sink::{Newcomer, Outcome};
use super::{Publisher, least, on_failure};
use crate::media::{MediaError, Selected};

/// For a pipeline to start, to encode, and to take over: some frames each. An encoder on a GPU may take a second to open.
const PATIENCE: Duration = Duration::from_secs(5);

impl Publisher {
    /// Whether it encodes as these descriptions say.
    pub(in crate::media) fn is_of(&self, selected: &Selected) -> bool {
        let encode = self.encode();
        encode.selected.publish.rung(self.rung).text() == selected.publish.rung(self.rung).text()
    }

    /// Viewers who come from now on are built so, and have these rungs. Its own pipeline stays.
    pub(in crate::media) fn is_followed_by(&self, selected: &Selected) {
        self.encode().selected = selected.clone();
    }

    /// Encodes as other descriptions say, from a key frame on. Blocks until it does, for some frames, or until it is given up
    /// after `PATIENCE`; then what encoded before goes on.
    pub(in crate::media) fn replace(&self, selected: &Selected) -> Result<(), MediaError> {
        self.replace_within(selected, PATIENCE)
    }

    pub(super) fn replace_within(&self, selected: &Selected, patience: Duration) -> Result<(), MediaError> {
        let mut last = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = *last + 1;
        *last = generation;
        let refused = |reason: String| MediaError::Start { file: selected.publish.file().to_owned(), reason };
        // One outcome counts, and whoever has another is not to wait.
        let (outcome, told) = mpsc::sync_channel(1);
        let telling = outcome.clone();
        let report = on_failure(self.codec, (&self.outlets, generation), &self.failed, &self.common, move |message| {
            let _ = telling.try_send(Err(Some(message)));
        });
        let parts = (&self.outlets, generation);
        let started = Encode::start(selected, self.rung, &self.common, parts, &self.counters, report);
        let (encode, inlet) = started.inspect_err(|_| self.forget(generation))?;
        self.outlets.iter().for_each(|outlet| outlet.rehearse(generation));
        let is_given_up = Arc::new(AtomicBool::new(false));
        let newcomer =
            Newcomer { inlet, outcome: Outcome(outcome), is_given_up: Arc::clone(&is_given_up), asked: None };
        let outcome = match self.newcomers.try_send(newcomer) {
            Ok(()) => told
                .recv_timeout(patience)
                .unwrap_or_else(|_| Err(Some(format!("no key frame of it and no sound came within {patience:?}")))),
            Err(_) => Err(None),
        };
        let passes = |outlet: &Arc<Outlet>| outlet.passing() == generation;
        match outcome {
            _ if self.outlets.iter().all(passes) => {
                let demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
                encode.rate.want(least(&demands));
                *self.encode() = encode;
                Ok(())
            }
            outcome => {
                is_given_up.store(true, Ordering::Relaxed);
                self.forget(generation);
                let Some(reason) = outcome.err().flatten() else { return Err(MediaError::SessionEnds) };
                if self.outlets.iter().any(passes) {
                    // Half of it has taken over, and goes with it: viewers offer again.
                    self.failed.send_replace(Some(format!("the encode of the session failed: {reason}")));
                }
                Err(refused(reason))
            }
        }
    }

    fn forget(&self, generation: Generation) {
        self.outlets.iter().for_each(|outlet| outlet.forget(generation));
    }
}
