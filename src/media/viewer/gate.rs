//! Which rung of the picture comes through to one viewer, while it is given two.
//!
//! In here: the change from one to another at a key frame, so that nothing is seen of it: the pictures before it are all of
//! the one, those from it on all of the other, and presentation times go on rising. Those are running times: each encode
//! moves its time stamps by an amount of its own (x264enc has its first picture at a thousand hours) and says so in its
//! segment. Not in here: which rung is wanted (`adaptation`).
//! Runs on: the streaming thread of the viewer's own `appsrc`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::media::publisher::{mark_of, running_time};
use crate::media::rungs::Rung;

/// By so much a key frame comes after the picture of the same moment on the other rung.
const NUDGE: gst::ClockTime = gst::ClockTime::from_mseconds(1);

/// The mark of no rung.
const NOTHING: u64 = u64::MAX;

#[derive(Debug, Default)]
pub struct Gate {
    wanted: AtomicU64,
    passing: AtomicU64,
    /// Pictures of what is wanted that did not pass because their key frame had not come.
    left_out: AtomicU64,
    /// A rung began and its first packet has not left.
    begins: AtomicBool,
}

impl Gate {
    /// Stands behind a viewer's `appsrc`.
    pub fn guard(self: &Arc<Self>, source: &gst::Element) {
        let Some(pad) = source.static_pad("src") else { return };
        let gate = Arc::clone(self);
        // Only this pad's streaming thread takes the lock.
        let last = Mutex::new(None::<gst::ClockTime>);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let Some(buffer) = info.buffer_mut() else { return gst::PadProbeReturn::Ok };
            if !gate.passes(buffer.offset_end(), !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)) {
                return gst::PadProbeReturn::Drop;
            }
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = running_time(pad, buffer) {
                let at = gst::ClockTime::from_nseconds(at.nanos());
                let rising = last.map_or(at, |last| at.max(last + NUDGE));
                if rising != at {
                    let pts = buffer.pts().map(|pts| pts + (rising - at));
                    buffer.make_mut().set_pts(pts);
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

    /// The viewer did not take a picture in time: those that follow it are of no use until a key frame.
    pub fn overflows(&self) {
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.hush();
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
        let is_wanted = mark == self.wanted.load(Ordering::Relaxed);
        if is_wanted && is_key_frame {
            self.begins.store(true, Ordering::Relaxed);
            self.passing.store(mark, Ordering::Relaxed);
        } else if is_wanted && self.is_hushed() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        is_wanted && is_key_frame
    }

    /// Whether nothing comes through just now.
    pub fn is_hushed(&self) -> bool {
        self.passing.load(Ordering::Relaxed) == NOTHING
    }

    /// Pictures of the wanted rung that were left out so far.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Whether the packet that leaves now, on the thread that the pictures come through by, is the first of a rung.
    pub fn begins(&self) -> bool {
        self.begins.swap(false, Ordering::Relaxed)
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
        assert_eq!(gate.left_out(), 1);
        assert!(gate.begins() && !gate.begins(), "the low one began");
        assert!(gate.passes(full, true) && gate.passes(full, false) && gate.begins());
    }

    /// Two encodes whose time stamps begin at a thousand hours, the second five seconds after the first.
    #[test]
    fn times_go_on_from_rung_to_rung_whatever_their_encoders_add_to_them() {
        gst::init().unwrap();
        const AN_HOUR: gst::ClockTime = gst::ClockTime::from_seconds(3600);
        let gate = Arc::new(Gate::default());
        let source = gst::ElementFactory::make("appsrc").build().unwrap();
        gate.guard(&source);
        let source = source.downcast::<gstreamer_app::AppSrc>().unwrap();
        gstreamer_utils::StreamProducer::configure_consumer(&source);
        source.set_max_time(gst::ClockTime::ZERO);
        let sink = gst::ElementFactory::make("appsink").property("sync", false).build().unwrap();
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([source.upcast_ref::<gst::Element>(), &sink]).unwrap();
        source.link(&sink).unwrap();
        let sink = sink.downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let caps = gst::Caps::new_empty_simple("video/x-h264");
        let pushed = |rung: Rung, began: u64, ms: u64| {
            let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
            segment.set_start(1000 * AN_HOUR - gst::ClockTime::from_mseconds(began));
            let mut buffer = gst::Buffer::with_size(4).unwrap();
            let buffer_ref = buffer.get_mut().unwrap();
            buffer_ref.set_pts(1000 * AN_HOUR + gst::ClockTime::from_mseconds(ms - began));
            buffer_ref.set_offset_end(mark_of(rung));
            source.push_sample(&gst::Sample::builder().buffer(&buffer).caps(&caps).segment(&segment).build()).unwrap();
        };
        gate.want(Rung::Low);
        for (rung, began, ms) in
            [(Rung::Full, 0, 4960), (Rung::Full, 0, 5000), (Rung::Low, 5000, 5000), (Rung::Low, 5000, 5040)]
        {
            pushed(rung, began, ms);
        }
        let times = [(); 4].map(|()| {
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(20)).unwrap();
            let segment = sample.segment().unwrap().downcast_ref::<gst::ClockTime>().unwrap();
            segment.to_running_time(sample.buffer().unwrap().pts().unwrap()).unwrap().mseconds()
        });
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(times, [4960, 5000, 5001, 5040]);
    }
}
