//! Which rung of the picture comes through to one viewer, while it is given two.
//!
//! In here: the change from one to another at a key frame, so that nothing is seen of it: the pictures before it are all of
//! the one, those from it on all of the other, and presentation times go on rising. Not in here: which rung is wanted
//! (`adaptation`).
//! Runs on: the streaming thread of the viewer's own `appsrc`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::media::publisher::mark_of;
use crate::media::rungs::Rung;

/// By so much a key frame comes after the picture of the same moment on the other rung.
const NUDGE: gst::ClockTime = gst::ClockTime::from_mseconds(1);

/// The mark of no rung.
const NOTHING: u64 = u64::MAX;

#[derive(Debug, Default)]
pub struct Gate {
    wanted: AtomicU64,
    passing: AtomicU64,
}

impl Gate {
    /// Stands behind a viewer's `appsrc`.
    pub fn guard(self: &Arc<Self>, source: &gst::Element) {
        let Some(pad) = source.static_pad("src") else { return };
        let gate = Arc::clone(self);
        // Only this pad's streaming thread takes the lock.
        let last = Mutex::new(None::<gst::ClockTime>);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
            if !gate.passes(buffer.offset_end(), !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)) {
                return gst::PadProbeReturn::Drop;
            }
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(pts) = buffer.pts() {
                let rising = last.map_or(pts, |last| pts.max(last + NUDGE));
                if rising != pts {
                    buffer.make_mut().set_pts(rising);
                }
                *last = Some(rising);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// The next key frame of this rung begins it.
    pub fn want(&self, rung: Rung) {
        self.wanted.store(mark_of(rung), Ordering::Relaxed);
    }

    /// Nothing comes until what is wanted begins: it would only make a full queue on the path longer.
    pub fn hush(&self) {
        self.passing.store(NOTHING, Ordering::Relaxed);
    }

    /// It is what comes from the very next picture on, since nothing comes just now.
    pub fn set(&self, rung: Rung) {
        self.want(rung);
        self.passing.store(mark_of(rung), Ordering::Relaxed);
    }

    /// Whether what comes through is of this rung by now.
    pub fn is_at(&self, rung: Rung) -> bool {
        self.passing.load(Ordering::Relaxed) == mark_of(rung)
    }

    fn passes(&self, mark: u64, is_key_frame: bool) -> bool {
        if mark == self.passing.load(Ordering::Relaxed) {
            return true;
        }
        let begins = is_key_frame && mark == self.wanted.load(Ordering::Relaxed);
        if begins {
            self.passing.store(mark, Ordering::Relaxed);
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_begins_with_its_key_frame_and_the_one_before_ends_there() {
        let [full, low] = [Rung::Full, Rung::Low].map(mark_of);
        let gate = Gate::default();
        assert!(gate.passes(full, false));
        assert!(!gate.passes(low, true), "nobody wants it");
        gate.want(Rung::Low);
        assert!(gate.passes(full, false) && !gate.passes(low, false));
        assert!(gate.passes(low, true) && gate.is_at(Rung::Low));
        assert!(!gate.passes(full, true) && !gate.passes(full, false), "what comes late of the one before");
        assert!(gate.passes(low, false));
        gate.want(Rung::Full);
        gate.hush();
        assert!(!gate.passes(low, false) && !gate.passes(low, true) && !gate.passes(full, false));
        assert!(gate.passes(full, true) && gate.passes(full, false));
    }
}
