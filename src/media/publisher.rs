//! One encode of a session: pairs of frame and sound in, one encoded stream for all its viewers out.
//!
//! In here: the stream and who holds it, key frames on demand. `encode` is one publish pipeline of it, `sink` where pairs go
//! in, `outlet` where the stream comes out, which stays while pipelines take each other's place: `replace` has one do so,
//! `relay` decides what passes meanwhile. Not in here: when a pair is
//! presented (`session_time`), how many bits an encoder is given (`bitrate`), pairs as buffers (`buffers`), which encodes a session has (`broadcast`), when a pair is due
//! (`playout`), a viewer's own pipeline (`viewer`).
//! Runs on: `PublisherSink::push` on the playout thread, never blocking; the rest on whoever calls. Encoding is on
//! GStreamer's threads. Dropping a `Publisher` does not wait: its pipeline ends on a teardown thread, which whoever
//! holds the `Teardown` joins.

mod encode;
mod outlet;
mod relay;
mod replace;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_utils::StreamProducer;
use gstreamer_video as gst_video;
use tokio::sync::{mpsc, watch};

use super::bitrate::bitrate;
use super::description::Description;
use super::pipeline::{BusReport, OwnedPipeline, Teardown};
use super::rungs::{Ladder, Rung};
use super::session_time::SessionTime;
use super::{Codec, MediaError, MediaEvent, Selected};
use crate::ids::ViewerId;
use crate::playout::Pair;
use crate::timeline::MediaTime;
use encode::{Encode, Outlets};
use relay::Generation;
use sink::Newcomer;
pub(super) use sink::PublisherSink;

/// A key frame is many times a delta frame, and all viewers pay for one that a single viewer asks for.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// How many frames in a row an unchanged picture is left out of the encode. After that it is encoded again, so that the encoder
/// refines it and a receiver that lost the last one asks. Browsers count 190 ms without a picture as a freeze
/// (`freezeCount` of WebRTC's statistics), and this makes 160.
const LONGEST_UNCHANGED: u32 = 3;

/// Size of the frames of a session just now, in pixels, both even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoFormat {
    /// Of every frame.
    pub width: u32,
    /// Of every frame.
    pub height: u32,
}

/// The format that a session's frames have by now. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct CurrentFormat(Arc<Mutex<VideoFormat>>);

impl CurrentFormat {
    pub fn new(format: VideoFormat) -> Self {
        Self(Arc::new(Mutex::new(format)))
    }

    pub fn get(&self) -> VideoFormat {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, format: VideoFormat) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = format;
    }
}

impl VideoFormat {
    pub(super) fn of(pair: &Pair) -> Self {
        Self { width: pair.frame.width, height: pair.frame.height }
    }
}

/// What all encodes of a session have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub format: CurrentFormat,
    pub events: mpsc::Sender<MediaEvent>,
    pub time: SessionTime,
    pub teardown: Teardown,
}

/// A running publish pipeline, held by its viewers. Dropped, it ends.
#[derive(Debug)]
pub struct Publisher {
    pub(super) video: StreamProducer,
    /// The first rung has the sound, for viewers of all.
    pub(super) audio: Option<StreamProducer>,
    pub(super) codec: Codec,
    pub(super) rung: Rung,
    pub(super) audience: Arc<Audience>,
    common: Common,
    outlets: Outlets,
    /// For one pipeline that takes the place of another.
    newcomers: blocking::SyncSender<Newcomer>,
    /// Held while one does.
    replacing: Mutex<Generation>,
    /// What each of its viewers takes, in bits a second.
    demands: Mutex<HashMap<ViewerId, u32>>,
    pub(super) time: SessionTime,
    pub(super) teardown: Teardown,
    /// Why the pipeline stopped by itself, once it has.
    pub(super) failure: watch::Receiver<Option<String>>,
    failed: watch::Sender<Option<String>>,
    counters: Arc<Counters>,
    /// The pipeline that passes.
    encode: Mutex<Encode>,
}

/// Who holds an encode.
#[derive(Debug, Default)]
pub(super) struct Audience {
    pub viewers: AtomicUsize,
    /// Those of them that watch another rung, and hold the first for its sound.
    pub away: AtomicUsize,
}

impl Audience {
    /// Nobody would see its pictures.
    fn is_away(&self) -> bool {
        let away = self.away.load(Ordering::Relaxed);
        away > 0 && away >= self.viewers.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counters {
    pushed: AtomicU64,
    dropped: AtomicU64,
    encoded: AtomicU64,
    encoded_bytes: AtomicU64,
    key_frames: AtomicU64,
    key_frame_requests: AtomicU64,
}

/// Totals since the publisher started.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct PublisherCounters {
    /// Pairs handed to the encoder.
    pub pushed: u64,
    /// Pairs, or frames of pairs, that the encoder was too slow for.
    pub dropped: u64,
    pub encoded: u64,
    pub encoded_bytes: u64,
    pub key_frames: u64,
    /// Key frames that viewers asked for; most requests come in bursts and are answered by one.
    pub key_frame_requests: u64,
}

impl Publisher {
    /// Starts a pipeline. Takes a few milliseconds; no frame is encoded before the first push.
    pub(super) fn start(
        selected: &Selected,
        rung: Rung,
        common: &Common,
    ) -> Result<(Arc<Self>, PublisherSink), MediaError> {
        let outlets = Outlets::new(rung)?;
        let counters = Arc::new(Counters::default());
        let (failed, failure) = watch::channel(None);
        let first: Generation = 0;
        let report = on_failure(selected.codec, (&outlets, first), &failed, common, |_| {});
        let (encode, inlet) = Encode::start(selected, rung, common, (&outlets, first), &counters, report)?;
        crate::metrics::encode_started(selected.codec.as_str());
        let (newcomers, coming) = blocking::sync_channel(1);
        let audience = Arc::new(Audience::default());
        let publisher = Arc::new(Self {
            video: outlets.video.producer().clone(),
            audio: outlets.audio.as_ref().map(|audio| audio.producer().clone()),
            codec: selected.codec,
            rung,
            audience: Arc::clone(&audience),
            common: common.clone(),
            outlets: outlets.clone(),
            newcomers,
            replacing: Mutex::new(first),
            demands: Mutex::default(),
            time: common.time.clone(),
            teardown: common.teardown.clone(),
            failure,
            failed,
            counters: Arc::clone(&counters),
            encode: Mutex::new(encode),
        });
        let sink = PublisherSink {
            inlet,
            next: None,
            newcomers: coming,
            outlets,
            publisher: Arc::downgrade(&publisher),
            audience,
            counters,
            time: common.time.clone(),
            utterance: None,
        };
        Ok((publisher, sink))
    }

    fn encode(&self) -> MutexGuard<'_, Encode> {
        self.encode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a viewer of it is built.
    pub(super) fn viewer(&self) -> Description {
        self.encode().selected.viewer.clone()
    }

    /// The rungs that its description has.
    pub(super) fn ladder(&self) -> Ladder {
        self.encode().selected.ladder()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Bits a second of the full picture as it is now.
    pub(super) fn full_rate(&self) -> u32 {
        let VideoFormat { width, height } = self.common.format.get();
        bitrate(width, height, Rung::Full)
    }

    /// What a viewer takes of this rung, or that it watches it no more. The encoder has what the least of them takes, so
    /// that one who is alone is followed, and rungs keep that from costing others much.
    pub(super) fn demand(&self, viewer: ViewerId, bits: Option<u32>) {
        let mut demands = self.demands.lock().unwrap_or_else(PoisonError::into_inner);
        match bits {
            Some(bits) => demands.insert(viewer, bits),
            None => demands.remove(&viewer),
        };
        self.encode().rate.want(least(&demands));
    }

    #[cfg(test)]
    pub(super) fn viewer_count(&self) -> usize {
        self.audience.viewers.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn counters(&self) -> PublisherCounters {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PublisherCounters {
            pushed: read(&counters.pushed),
            dropped: read(&counters.dropped),
            encoded: read(&counters.encoded),
            encoded_bytes: read(&counters.encoded_bytes),
            key_frames: read(&counters.key_frames),
            key_frame_requests: read(&counters.key_frame_requests),
        }
    }

    #[cfg(test)]
    pub(super) fn gst_pipeline(&self) -> gst::Pipeline {
        self.encode()._pipeline.gst().clone()
    }

    /// Asks for a key frame for somebody who just joined.
    pub(super) fn request_key_frame(&self) {
        if let Some(pad) = self.video.appsink().static_pad("sink") {
            // Sending the event to the element would take its state lock, which may be held while it starts.
            pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        crate::metrics::encode_ended(self.codec.as_str());
    }
}

/// When a buffer is presented. Not its own time stamp: x264enc moves those by a thousand hours and says so in the
/// segment.
pub(super) fn running_time(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<MediaTime> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let time = event.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(buffer.pts()?)?;
    Some(MediaTime::from_nanos(time.nseconds()))
}

/// What stands in `offset_end` of each encoded picture of a rung.
pub(super) fn mark_of(rung: Rung) -> u64 {
    rung as u64
}

fn least(demands: &HashMap<ViewerId, u32>) -> u32 {
    demands.values().copied().min().unwrap_or(u32::MAX)
}

/// What is done with the errors of a pipeline: those of one that passes end the encode, of another `other` hears.
fn on_failure(
    codec: Codec,
    (outlets, generation): (&Outlets, Generation),
    failed: &watch::Sender<Option<String>>,
    common: &Common,
    other: impl Fn(String) + Send + Sync + 'static,
) -> impl Fn(BusReport) + Send + Sync + 'static {
    let (outlets, failed, events) = (outlets.clone(), failed.clone(), common.events.clone());
    move |report| {
        let BusReport::Error { element, message } = report else { return };
        if !outlets.iter().any(|outlet| outlet.passing() == generation) {
            return other(message);
        }
        failed.send_replace(Some(format!("the encode of the session failed: {message}")));
        // Only to be told of: with the owner's queue full it has heard enough.
        let _ = events.try_send(MediaEvent::PublisherFailed { codec, element, message });
    }
}

fn element(pipeline: &OwnedPipeline, name: &str) -> Result<gst::Element, MediaError> {
    pipeline.gst().by_name(name).ok_or_else(|| MediaError::Start {
        file: pipeline.gst().name().to_string(),
        reason: format!("no element is named {name}"),
    })
}

pub(super) fn app_source(pipeline: &OwnedPipeline, name: &str) -> Result<gst_app::AppSrc, MediaError> {
    element(pipeline, name)?.downcast().map_err(|_| wrong_kind(name, "appsrc"))
}

pub(super) fn app_sink(pipeline: &OwnedPipeline, name: &str) -> Result<gst_app::AppSink, MediaError> {
    element(pipeline, name)?.downcast().map_err(|_| wrong_kind(name, "appsink"))
}

fn wrong_kind(name: &str, wanted: &str) -> MediaError {
    MediaError::Start { file: name.to_owned(), reason: format!("it is not an {wanted}") }
}
