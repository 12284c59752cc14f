//! Where a stream leaves an encode for all who take it: one that stays while the pipelines behind it are replaced.
//!
//! In here: an appsink of no pipeline, into which goes what the relay lets through, on one time line whichever encoder it is
//! of; requests for key frames, on their way back to the encoder that passes. Not in here: when one takes over (`relay`).
//! Runs on: the streaming threads of the encodes, one at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_utils::StreamProducer;

use super::relay::{Encoded, Generation, Relay, Stage};
use crate::media::MediaError;
use crate::timeline::MediaTime;

/// Samples of one stream, from the encode that passes to all consumers.
pub(super) struct Outlet {
    producer: StreamProducer,
    state: Mutex<State>,
    /// That of the relay, for whoever must not wait for it.
    passing: AtomicU64,
    /// The end of the pipeline that passes.
    upstream: Arc<Mutex<Option<gst::Pad>>>,
}

struct State {
    relay: Relay<gst::Sample>,
    /// The ends of pipelines that may pass, the next one's last.
    ends: Vec<(Generation, gst::Pad)>,
    feed: Feed,
}

/// The way into the appsink.
struct Feed {
    pad: gst::Pad,
    caps: Option<gst::Caps>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
}

impl Outlet {
    pub fn new(most_held: usize) -> Result<Arc<Self>, MediaError> {
        let failed = |reason: String| MediaError::Start { file: "appsink".to_owned(), reason };
        // What comes has its time behind it, and nobody else keeps the last of it.
        let sink = gst_app::AppSink::builder().sync(false).async_(false).enable_last_sample(false).build();
        let producer = StreamProducer::from(&sink);
        // Which has just been set, as a producer usually needs it.
        sink.set_sync(false);
        let upstream = Arc::new(Mutex::new(None::<gst::Pad>));
        let asked = Arc::clone(&upstream);
        let pad = gst::Pad::builder(gst::PadDirection::Src)
            .event_function(move |_, _, event| {
                let end = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
                end.is_some_and(|end| end.push_event(event))
            })
            .build();
        let into = sink.static_pad("sink").ok_or_else(|| failed("it has no pad".to_owned()))?;
        pad.link(&into).map_err(|error| failed(error.to_string()))?;
        sink.set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        pad.set_active(true).map_err(|error| failed(error.to_string()))?;
        pad.push_event(gst::event::StreamStart::new("encode"));
        let feed = Feed { pad, caps: None, segment: None };
        let state = Mutex::new(State { relay: Relay::new(most_held), ends: Vec::new(), feed });
        Ok(Arc::new(Self { producer, state, passing: AtomicU64::new(0), upstream }))
    }

    pub fn producer(&self) -> &StreamProducer {
        &self.producer
    }

    pub fn passing(&self) -> Generation {
        self.passing.load(Ordering::Relaxed)
    }

    pub fn stage(&self) -> Stage {
        self.state().relay.stage()
    }

    /// Takes what comes to the end of a pipeline, with the `sync` that its description gave it.
    pub fn take_from(self: &Arc<Self>, end: &gst_app::AppSink, generation: Generation) {
        if let Some(pad) = end.static_pad("sink") {
            if generation == self.passing() {
                self.ask_at(&pad);
            }
            self.state().ends.push((generation, pad));
        }
        let outlet = Arc::clone(self);
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |end| {
            outlet.arrives(generation, end.pull_sample().map_err(|_| gst::FlowError::Eos)?);
            Ok(gst::FlowSuccess::Ok)
        });
        end.set_callbacks(callbacks.build());
    }

    pub fn rehearse(&self, generation: Generation) {
        self.state().relay.rehearse(generation);
    }

    pub fn enter(&self, at: MediaTime) {
        self.state().relay.enter(at);
    }

    /// The one that passes goes on.
    pub fn forget(&self, generation: Generation) {
        let mut state = self.state();
        let State { relay, feed, ends } = &mut *state;
        relay.forget(|sample| feed.push(sample));
        ends.retain(|(other, _)| *other != generation);
    }

    fn arrives(&self, generation: Generation, sample: gst::Sample) {
        let Some(encoded) = encoded(generation, sample) else { return };
        let mut state = self.state();
        let State { relay, feed, ends } = &mut *state;
        relay.arrives(encoded, |sample| feed.push(sample));
        let passing = relay.passing();
        if self.passing.swap(passing, Ordering::Relaxed) != passing {
            ends.retain(|(other, _)| *other >= passing);
            if let Some((_, end)) = ends.first() {
                self.ask_at(end);
            }
        }
    }

    fn ask_at(&self, end: &gst::Pad) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(end.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        let _ = self.producer.appsink().set_state(gst::State::Null);
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outlet").field("passing", &self.passing()).finish_non_exhaustive()
    }
}

/// `None` of what has no time, which no encoder makes.
fn encoded(generation: Generation, sample: gst::Sample) -> Option<Encoded<gst::Sample>> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let at = MediaTime::from_nanos(segment.to_running_time(buffer.pts()?)?.nseconds());
    let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
    Some(Encoded { generation, at, is_key, item: sample })
}

impl Feed {
    fn push(&mut self, sample: gst::Sample) {
        let Some(mut buffer) = sample.buffer_owned() else { return };
        let caps = sample.caps_owned();
        if let Some(caps) = caps.filter(|caps| self.caps.as_ref() != Some(caps)) {
            self.pad.push_event(gst::event::Caps::new(&caps));
            self.caps = Some(caps);
        }
        let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
        if let (Some(segment), Some(first)) = (segment, &self.segment) {
            // Encoders count from where they like, and consumers from where the first one did.
            let moved =
                |time: Option<gst::ClockTime>| first.position_from_running_time(segment.to_running_time(time?)?);
            let (pts, dts) = (moved(buffer.pts()), moved(buffer.dts()));
            if pts != buffer.pts() {
                let buffer = buffer.make_mut();
                buffer.set_pts(pts);
                buffer.set_dts(dts);
            }
        } else if let Some(segment) = segment {
            self.pad.push_event(gst::event::Segment::new(segment));
            self.segment = Some(segment.clone());
        }
        // Refused only by what has ended.
        let _ = self.pad.push(buffer);
    }
}
