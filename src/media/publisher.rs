//! One encode of a session: pairs of frame and sound in, one encoded stream for all its viewers out.
//!
//! In here: the publish pipeline, what goes into it and what comes out, key frames on demand. Not in here: when a pair is
//! presented (`session_time`), how many bits an encoder is given (`bitrate`), pairs as buffers (`buffers`), which encodes a session has (`broadcast`), when a pair is due
//! (`playout`), a viewer's own pipeline (`viewer`).
//! Runs on: `PublisherSink::push` on the playout thread, never blocking; the rest on whoever calls. Encoding is on
//! GStreamer's threads. Dropping a `Publisher` does not wait: its pipeline ends on a teardown thread, which whoever
//! holds the `Teardown` joins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_utils::StreamProducer;
use gstreamer_video as gst_video;
use tokio::sync::{mpsc, watch};

use super::bitrate::{EncoderRate, bitrate};
use super::buffers::{audio_buffers, video_buffer};
use super::description::{half, names, publish_values};
use super::pipeline::{BusReport, OwnedPipeline, Teardown};
use super::rungs::{Ladder, Rung};
use super::session_time::SessionTime;
use super::{Codec, Description, MediaError, MediaEvent, Selected};
use crate::ids::{UtteranceId, ViewerId};
use crate::picture::I420Frame;
use crate::playout::Pair;
use crate::timeline::{FPS, MediaTime};

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
    pub(super) viewer: Description,
    pub(super) codec: Codec,
    pub(super) rung: Rung,
    /// Those that its description has.
    pub(super) ladder: Ladder,
    pub(super) audience: Arc<Audience>,
    format: CurrentFormat,
    rate: Arc<EncoderRate>,
    /// What each of its viewers takes, in bits a second.
    demands: Mutex<HashMap<ViewerId, u32>>,
    pub(super) time: SessionTime,
    pub(super) teardown: Teardown,
    /// Why the pipeline stopped by itself, once it has.
    pub(super) failure: watch::Receiver<Option<String>>,
    #[cfg(test)]
    counters: Arc<Counters>,
    /// Only to be dropped: it ends the pipeline. Declared after the producers, so that they let go of the appsinks first.
    _pipeline: OwnedPipeline,
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
    /// A key frame is wanted of the next picture.
    key_frame_wanted: AtomicBool,
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
        let Common { format: current, events, time, teardown } = common.clone();
        let format = current.get();
        let codec = selected.codec;
        let description = selected.publish.rung(rung);
        let name = |name: &str| description.name(name);
        let built = description.build(&publish_values(format.width, format.height, FPS, rung))?;
        let pipeline = OwnedPipeline::new(built, teardown.clone());
        let counters = Arc::new(Counters::default());
        let (failed, failure) = watch::channel(None);
        let bus_events = events.clone();
        pipeline.watch(move |report| {
            let BusReport::Error { element, message } = report else { return };
            failed.send_replace(Some(format!("the encode of the session failed: {message}")));
            // Only to be told of: with the owner's queue full it has heard enough.
            let _ = bus_events.try_send(MediaEvent::PublisherFailed { codec, element, message });
        });

        time.set(pipeline.gst());
        // Nothing here waits for anything but its presentation time, so no sink may add what an encoder claims to need.
        pipeline.gst().set_latency(gst::ClockTime::ZERO);
        let encoder = element(&pipeline, &name(names::VIDEO_ENCODER))?;
        limit_key_frames(&encoder, &counters);
        let video_source = app_source(&pipeline, &name(names::VIDEO))?;
        let size = (format.width, format.height);
        let rate = EncoderRate::follow(&encoder, video_source.upcast_ref(), &description, size, rung);
        let video_out = app_sink(&pipeline, &name(names::VIDEO_OUT))?;
        let (marks, marked) = blocking::sync_channel(MARKS);
        watch_encoded(&video_out, &counters, marked, events.clone(), rung);
        let video = produce(&video_out);
        let (audio, audio_source) = match rung {
            Rung::Full => {
                let out = app_sink(&pipeline, names::AUDIO_OUT)?;
                (Some(produce(&out)), Some(app_source(&pipeline, names::AUDIO)?))
            }
            _ => (None, None),
        };
        let scaled = pipeline.gst().by_name(&name(names::VIDEO_SIZE));
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| MediaError::Start {
            file: selected.publish.file().to_owned(),
            reason: error.to_string(),
        })?;
        crate::metrics::encode_started(codec.as_str());
        let audience = Arc::new(Audience::default());
        let publisher = Arc::new(Self {
            video,
            audio,
            viewer: selected.viewer.clone(),
            codec,
            rung,
            ladder: selected.ladder(),
            audience: Arc::clone(&audience),
            format: current,
            rate,
            demands: Mutex::default(),
            time: time.clone(),
            teardown,
            failure,
            #[cfg(test)]
            counters: Arc::clone(&counters),
            _pipeline: pipeline,
        });
        let holder = Arc::downgrade(&publisher);
        let sink = PublisherSink {
            video: video_source,
            audio: audio_source,
            scaled,
            publisher: holder,
            audience,
            counters,
            format,
            time,
            marks,
            utterance: None,
            standing: Standing::default(),
        };
        Ok((publisher, sink))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    /// Bits a second of the full picture as it is now.
    pub(super) fn full_rate(&self) -> u32 {
        let VideoFormat { width, height } = self.format.get();
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
        self.rate.want(demands.values().copied().min().unwrap_or(u32::MAX));
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
    pub(super) fn gst_pipeline(&self) -> &gst::Pipeline {
        self._pipeline.gst()
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

/// Where the pairs of a session go into one encode.
#[derive(Debug)]
pub(super) struct PublisherSink {
    video: gst_app::AppSrc,
    audio: Option<gst_app::AppSrc>,
    /// Of a rung with smaller pictures: where their size is written.
    scaled: Option<gst::Element>,
    /// Only counted: a reference that this thread holds might turn out to be the last and end the pipeline here.
    publisher: Weak<Publisher>,
    audience: Arc<Audience>,
    counters: Arc<Counters>,
    format: VideoFormat,
    time: SessionTime,
    /// Where an utterance's first frame is announced to whoever watches the encoder's output.
    marks: blocking::SyncSender<Mark>,
    /// The last one that began.
    utterance: Option<UtteranceId>,
    standing: Standing,
}

/// The picture that was encoded last, and how many frames it has stood for since.
#[derive(Debug, Default)]
struct Standing(Option<(Arc<I420Frame>, u32)>);

impl Standing {
    /// Whether a picture is what viewers see anyway, so that encoding it would change nothing: an avatar at rest, or a mouth that
    /// stands because there is no time to draw the next, when encoding would take more of that time.
    fn is_unchanged(&mut self, frame: &Arc<I420Frame>, wanted: bool) -> bool {
        match &mut self.0 {
            Some((shown, times)) if !wanted && *times < LONGEST_UNCHANGED && Arc::ptr_eq(shown, frame) => {
                *times += 1;
                true
            }
            shown => {
                *shown = Some((Arc::clone(frame), 0));
                false
            }
        }
    }
}

/// The first frame of an utterance, on its way through the encoder.
#[derive(Debug)]
struct Mark {
    pts: MediaTime,
    utterance: UtteranceId,
}

/// What is known of an encoder's output between two frames.
#[derive(Debug)]
struct Output {
    marks: blocking::Receiver<Mark>,
    awaited: Option<Mark>,
    /// When the last frame left it.
    last: Option<Instant>,
}

/// Utterances whose first frame is in the encoder: one, or two if one was interrupted at once. More are not measured.
const MARKS: usize = 4;

impl PublisherSink {
    /// Whether anybody still holds the publisher.
    pub fn is_needed(&self) -> bool {
        self.publisher.strong_count() > 0
    }

    pub fn push(&mut self, pair: Pair) {
        self.announce_format(VideoFormat::of(&pair));
        let Some((timeline, at)) = self.time.place(pair.index) else {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Some(audio) = &self.audio {
            for buffer in audio_buffers(pair.audio.as_deref(), at, &timeline) {
                // It refuses only while the pipeline stops, and then its end is reported on the bus.
                let _ = audio.push_buffer(buffer);
            }
        }
        if self.audience.is_away() {
            return;
        }
        // appsrc drops the oldest silently when it is full.
        if self.video.current_level_buffers() >= self.video.max_buffers() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // An utterance may pause between its sentences; it begins only once.
        let begun = pair.utterance.filter(|utterance| self.utterance != Some(*utterance));
        if let Some(utterance) = begun {
            self.utterance = Some(utterance);
            // Full only if nothing leaves the encoder, and then there is no packet to report.
            let _ = self.marks.try_send(Mark { pts: timeline.video_pts(at), utterance });
        }
        self.counters.pushed.fetch_add(1, Ordering::Relaxed);
        let wanted = self.counters.key_frame_wanted.swap(false, Ordering::Relaxed) || begun.is_some();
        if !self.standing.is_unchanged(&pair.frame, wanted) {
            let _ = self.video.push_buffer(video_buffer(&pair.frame, at, &timeline));
        }
    }

    /// Tells the encoder that frames of another size come from now on; it begins anew with a key frame. One that cannot ends
    /// its pipeline with an error, and viewers, who offer again, get another one of the new size.
    fn announce_format(&mut self, format: VideoFormat) {
        if format == self.format {
            return;
        }
        self.format = format;
        let VideoFormat { width, height } = format;
        let (Ok(across), Ok(down), Some(mut caps)) = (i32::try_from(width), i32::try_from(height), self.video.caps())
        else {
            tracing::error!(width, height, "no encoder takes frames of this size");
            return;
        };
        tracing::info!(width, height, "frames of another size from now on");
        for structure in caps.make_mut().iter_mut() {
            structure.set("width", across);
            structure.set("height", down);
        }
        self.video.set_caps(Some(&caps));
        if let (Some(scaled), Ok(across), Ok(down)) =
            (&self.scaled, i32::try_from(half(width)), i32::try_from(half(height)))
        {
            let caps = gst::Caps::builder("video/x-raw").field("width", across).field("height", down);
            let caps = caps.field("pixel-aspect-ratio", gst::Fraction::new(1, 1)).build();
            scaled.set_property("caps", caps);
        }
    }
}

/// Lets at most one key frame request through to the encoder per `KEY_FRAME_INTERVAL`.
///
/// A browser that joins asks too, so every join would otherwise cost everybody two. Whoever still waits asks again.
fn limit_key_frames(encoder: &gst::Element, counters: &Arc<Counters>) {
    let Some(pad) = encoder.static_pad("src") else { return };
    let counters = Arc::clone(counters);
    let started = Instant::now();
    // Milliseconds after `started`, plus one; zero is never.
    let last = AtomicU64::new(0);
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        let Some(event) = info.event() else { return gst::PadProbeReturn::Ok };
        if gst_video::UpstreamForceKeyUnitEvent::parse(event).is_err() {
            return gst::PadProbeReturn::Ok;
        }
        counters.key_frame_requests.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let interval = u64::try_from(KEY_FRAME_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= interval).then_some(now);
        match last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due) {
            Ok(_) => {
                counters.key_frame_wanted.store(true, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            }
            // Not `Drop`: GStreamer 1.22 then frees the event a second time, as a null pointer, and warns.
            Err(_) => gst::PadProbeReturn::Handled,
        }
    });
}

/// Counts and times what comes out of the encoder and reports the first packet of each utterance.
fn watch_encoded(
    sink: &gst_app::AppSink,
    counters: &Arc<Counters>,
    marks: blocking::Receiver<Mark>,
    events: mpsc::Sender<MediaEvent>,
    rung: Rung,
) {
    let Some(pad) = sink.static_pad("sink") else { return };
    let counters = Arc::clone(counters);
    let started = Instant::now();
    // Only this pad's streaming thread takes the lock.
    let state = Mutex::new(Output { marks, awaited: None, last: None });
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer_mut() {
            // By this the gate of each viewer knows it from those of other rungs.
            buffer.make_mut().set_offset_end(mark_of(rung));
        }
        if let Some(buffer) = info.buffer() {
            counters.encoded.fetch_add(1, Ordering::Relaxed);
            counters.encoded_bytes.fetch_add(buffer.size() as u64, Ordering::Relaxed);
            if !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
                counters.key_frames.fetch_add(1, Ordering::Relaxed);
            }
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let Output { marks, awaited, last } = &mut *state;
            let now = Instant::now();
            match last.replace(now) {
                Some(last) => crate::metrics::frame_encoded(now - last),
                None => crate::metrics::encode_began(now - started),
            }
            *awaited = awaited.take().or_else(|| marks.try_recv().ok());
            let reached = |mark: &mut Mark| running_time(pad, buffer).is_some_and(|time| time >= mark.pts);
            if let Some(Mark { utterance, .. }) = awaited.take_if(reached) {
                // The owner measures; with its queue full this one goes unmeasured.
                let _ = events.try_send(MediaEvent::FirstPacket { utterance, at: now });
            }
        }
        gst::PadProbeReturn::Ok
    });
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

/// Makes an appsink the source of viewers, keeping the `sync` that the description gave it.
fn produce(sink: &gst_app::AppSink) -> StreamProducer {
    let sync = sink.property::<bool>("sync");
    let producer = StreamProducer::from(sink);
    sink.set_property("sync", sync);
    producer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_stands_is_encoded_every_fourth_time_and_when_a_key_frame_is_wanted() {
        let picture = || Arc::new(I420Frame { width: 2, height: 2, data: vec![0; 6] });
        let (first, second, mut standing) = (picture(), picture(), Standing::default());
        let mut encoded = |frame, wanted| !standing.is_unchanged(frame, wanted);
        let stands = [(); 9].map(|()| encoded(&first, false));
        assert_eq!(stands.map(u8::from), [1, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(encoded(&first, true) && !encoded(&first, false), "a viewer joins");
        assert!(encoded(&second, false) && encoded(&first, false), "what looks alike may still be another");
    }
}
