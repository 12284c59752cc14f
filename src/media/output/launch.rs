//! The carrier of every output that a description in `pipelines/output-*.launch` says: its pipeline, from the first state
//! to the last.
//!
//! In here: building and starting it, knowing whether its receiver takes anything, a caption track, an ordered end. Not in
//! here: the session's tracks (`feed`), when it is tried again (`output`).
//! Runs on: the thread of the output, which looks ten times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::carrier::{Attempt, Carried, Carrier};
use super::feed::Feed;
use super::{Captions, LOOK, Place};
use crate::media::description::names;
use crate::media::pipeline::{BusReport, OwnedPipeline, Teardown};
use crate::media::publisher::app_source;
use crate::media::{Description, MediaError};
use crate::timeline::MediaTime;

/// For a server to answer.
const CONNECT: Duration = Duration::from_secs(8);
/// A receiver that takes nothing for so long is given up: a connection whose other end has vanished breaks after minutes.
const STALL: Duration = Duration::from_secs(5);
/// The same of one that says so often what it has got that two seconds are not needed to miss that.
const UNACKNOWLEDGED: Duration = Duration::from_millis(1200);
/// For the last of it to be written or sent.
const FINISH: Duration = Duration::from_millis(600);
/// Servers that pass a stream on want key frames so often, for those who join it there.
const KEY_FRAMES: Duration = Duration::from_secs(2);
/// How far captions are behind the pictures, so that those are known that are told of in time.
const CAPTION_DELAY: Duration = Duration::from_millis(200);

/// A description and the place that it leads to.
pub(crate) struct LaunchCarrier {
    description: Description,
    place: Place,
    attempts: u32,
    /// What would leave goes nowhere.
    into_nothing: bool,
}

impl LaunchCarrier {
    pub(crate) fn new(description: Description, place: Place) -> Self {
        Self { description, place, attempts: 0, into_nothing: false }
    }

    /// The same with nobody who receives it: another sink takes whatever comes.
    pub(in crate::media) fn into_nothing(self) -> Self {
        Self { into_nothing: true, ..self }
    }

    /// Whether it cannot go on when the pictures have another size: FLV and MP4 tell it once, before the first.
    fn wants_one_size(&self) -> bool {
        !matches!(self.place, Place::Folder(_))
    }

    fn broken(&self, reason: &str) -> Carried {
        let reason = self.place.told(reason);
        if self.place.is_remote() { Carried::Lost { reason } } else { Carried::Failed { reason } }
    }

    fn begin(&mut self, attempt: &Attempt<'_>) -> Result<Running, Carried> {
        self.attempts += 1;
        let failed = |reason: String| Carried::Failed { reason: self.place.told(&reason) };
        let values = self.place.values(self.attempts).map_err(|error| failed(error.to_string()))?;
        let built = self.description.build(&values).map_err(|error| failed(error.to_string()))?;
        if self.into_nothing {
            lead_into_nothing(&built).map_err(|error| failed(error.to_string()))?;
        }
        let running = Running::new(built, attempt, self.wants_one_size()).map_err(|error| failed(error.to_string()))?;
        match running.pipeline.gst().set_state(gst::State::Playing) {
            Ok(_) => Ok(running),
            Err(error) => {
                let reason = running.fault().unwrap_or_else(|| error.to_string());
                running.end();
                Err(self.broken(&reason))
            }
        }
    }
}

impl Carrier for LaunchCarrier {
    fn carry(&mut self, attempt: Attempt<'_>) -> Carried {
        let mut running = match self.begin(&attempt) {
            Ok(running) => running,
            Err(carried) => return carried,
        };
        let Attempt { publisher, stop, captions, progress } = attempt;
        let asks_for_key_frames = self.place.is_remote();
        loop {
            let carried = match running.reports.recv_timeout(LOOK) {
                Ok(BusReport::Error { element, message }) => {
                    tracing::debug!(element, "an element of the output reports an error");
                    Some(self.broken(&message))
                }
                Ok(BusReport::EndOfStream) => Some(self.broken("its pipeline ended by itself")),
                Err(_) if stop.is_cancelled() => Some(Carried::Stopped),
                Err(_) if publisher.has_failed() || running.feed.has_changed() => Some(Carried::Changed),
                Err(_) => running.look().err().map(|reason| self.broken(reason)),
            };
            let (frames, dropped) = running.feed.counts();
            progress.counted(frames, dropped);
            if running.is_live() {
                progress.live();
            }
            if let Some(carried) = carried {
                let was_live = running.is_live();
                if matches!(carried, Carried::Stopped | Carried::Changed) && was_live {
                    running.finish(captions);
                } else {
                    running.end();
                }
                return carried;
            }
            running.write_captions(captions);
            if asks_for_key_frames && running.is_live() && running.key_frame_asked.elapsed() >= KEY_FRAMES {
                running.key_frame_asked = Instant::now();
                publisher.request_key_frame();
            }
        }
    }
}

/// Another element in the place of the sink, under its name.
fn lead_into_nothing(pipeline: &gst::Pipeline) -> Result<(), gst::glib::BoolError> {
    let Some(sink) = pipeline.by_name(names::SINK) else { return Ok(()) };
    let pads = sink.sink_pads();
    let peers: Vec<gst::Pad> = pads.iter().filter_map(gst::Pad::peer).collect();
    for (peer, pad) in peers.iter().zip(&pads) {
        peer.unlink(pad)?;
    }
    pipeline.remove(&sink)?;
    for (number, peer) in peers.iter().enumerate() {
        let nothing = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false);
        let nothing = if number == 0 { nothing.name(names::SINK) } else { nothing }.build()?;
        pipeline.add(&nothing)?;
        let into = nothing.static_pad("sink").ok_or_else(|| gst::glib::bool_error!("fakesink has no pad"))?;
        peer.link(&into).map_err(|error| gst::glib::bool_error!("{error}"))?;
    }
    Ok(())
}

/// One pipeline of an output.
struct Running {
    feed: Feed,
    captions: Option<CaptionTrack>,
    sink: gst::Element,
    /// Buffers that have come to the sink.
    arrived: Arc<AtomicU64>,
    /// Those of the last look, and when there was one more.
    taken: (u64, Instant),
    /// The same of what a receiver has acknowledged, where that is known.
    acknowledged: (u64, Instant),
    key_frame_asked: Instant,
    began: Instant,
    time: crate::media::session_time::SessionTime,
    reports: mpsc::Receiver<BusReport>,
    pipeline: OwnedPipeline,
    teardown: Teardown,
}

impl Running {
    fn new(built: gst::Pipeline, attempt: &Attempt<'_>, one_size: bool) -> Result<Self, MediaError> {
        let teardown = Teardown::default();
        let pipeline = OwnedPipeline::new(built, teardown.clone());
        let (sender, reports) = mpsc::sync_channel(4);
        pipeline.watch(move |report| {
            // The first one counts.
            let _ = sender.try_send(report);
        });
        let sink = pipeline.gst().by_name(names::SINK).ok_or_else(|| MediaError::Start {
            file: names::SINK.to_owned(),
            reason: "no element has this name".to_owned(),
        })?;
        let arrived = Arc::new(AtomicU64::new(0));
        for pad in sink.sink_pads() {
            let arrived = Arc::clone(&arrived);
            pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
                arrived.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
        let time = attempt.publisher.time.clone();
        time.set(pipeline.gst());
        let feed = Feed::join(&pipeline, attempt.publisher, one_size)?;
        let captions = match pipeline.gst().by_name(names::CAPTIONS) {
            Some(_) => Some(CaptionTrack::new(app_source(&pipeline, names::CAPTIONS)?)),
            None => None,
        };
        let now = Instant::now();
        let (taken, acknowledged) = ((0, now), (0, now));
        let (key_frame_asked, began) = (now, now);
        Ok(Self {
            feed,
            captions,
            sink,
            arrived,
            taken,
            acknowledged,
            key_frame_asked,
            began,
            time,
            reports,
            pipeline,
            teardown,
        })
    }

    /// Whether the receiver has taken something: a second buffer comes once the first is gone.
    fn is_live(&self) -> bool {
        self.feed.is_open() && self.taken.0 > 1
    }

    /// Lets the stream flow once somebody is there for it, and keeps it in bounds; or says why it is lost.
    fn look(&mut self) -> Result<(), &'static str> {
        let now = Instant::now();
        if !self.feed.is_open() {
            if Connection::of(&self.sink).is_some_and(|connection| !connection.is_there()) {
                return if now - self.began > CONNECT { Err("the server does not answer") } else { Ok(()) };
            }
            self.feed.open();
            self.taken.1 = now;
            self.acknowledged.1 = now;
        }
        self.feed.keep_up();
        let arrived = self.arrived.load(Ordering::Relaxed);
        if arrived != self.taken.0 {
            self.taken = (arrived, now);
        }
        if now - self.taken.1 > STALL {
            return Err("the receiver takes nothing any more");
        }
        if let Some(count) = Connection::of(&self.sink).and_then(|connection| connection.acknowledged) {
            if count != self.acknowledged.0 || count == 0 {
                self.acknowledged = (count, now);
            }
            if now - self.acknowledged.1 > UNACKNOWLEDGED {
                return Err("the receiver says nothing any more");
            }
        }
        Ok(())
    }

    fn write_captions(&mut self, captions: &mut Captions) {
        captions.take_in(&self.time);
        if let (Some(track), Some(began)) = (&mut self.captions, self.feed.began()) {
            let until = self.time.now().nanos().saturating_sub(u64::try_from(CAPTION_DELAY.as_nanos()).unwrap_or(0));
            track.write(captions, began, MediaTime::from_nanos(until));
        }
    }

    /// GStreamer's words for why it does not start.
    fn fault(&self) -> Option<String> {
        self.reports.try_iter().find_map(|report| match report {
            BusReport::Error { message, .. } => Some(message),
            BusReport::EndOfStream => None,
        })
    }

    /// Writes the last of it and closes it.
    fn finish(mut self, captions: &mut Captions) {
        self.write_captions(captions);
        let Self { feed, captions, reports, pipeline, teardown, .. } = self;
        feed.finish();
        if let Some(CaptionTrack { source, .. }) = captions {
            let _ = source.end_of_stream();
        }
        match reports.recv_timeout(FINISH) {
            Ok(BusReport::EndOfStream) => {}
            Ok(BusReport::Error { message, .. }) => tracing::warn!(message, "the end of an output was not written"),
            Err(_) => tracing::warn!("the end of an output was not taken in time"),
        }
        drop(pipeline);
        teardown.wait();
    }

    fn end(self) {
        let Self { feed, pipeline, teardown, .. } = self;
        drop(feed);
        drop(pipeline);
        teardown.wait();
    }
}

/// What a sink says of its connection.
struct Connection {
    /// Of rtmp2sink: bytes that came from the server, which answers at length.
    received: Option<u64>,
    /// Of srtsink: how often the listener has said what it has got.
    acknowledged: Option<u64>,
}

impl Connection {
    /// `None` where the sink has no statistics of this kind.
    fn of(sink: &gst::Element) -> Option<Self> {
        sink.find_property("stats").filter(|property| property.value_type() == gst::Structure::static_type())?;
        let stats = sink.property::<Option<gst::Structure>>("stats")?;
        let number = |name| {
            let value = stats.value(name).ok()?;
            let signed = value.get::<i64>().ok().or_else(|| value.get::<i32>().ok().map(i64::from));
            signed.and_then(|value| u64::try_from(value).ok()).or_else(|| value.get::<u64>().ok())
        };
        let received = number("in-bytes-total");
        Some(Self { received, acknowledged: number("packet-ack-received") })
    }

    fn is_there(&self) -> bool {
        self.received.is_none_or(|bytes| bytes > 0)
    }
}

/// The caption track of a pipeline. A muxer goes on only as far as it knows each track, so there is no time without a text
/// on it, be that an empty one. (GStreamer 1.22's mp4mux takes gap events for a reason to wait for no other track.)
struct CaptionTrack {
    source: gst_app::AppSrc,
    /// Up to when it is known.
    until: Option<MediaTime>,
}

impl CaptionTrack {
    fn new(source: gst_app::AppSrc) -> Self {
        source.set_caps(Some(&gst::Caps::builder("text/x-raw").field("format", "utf8").build()));
        source.set_format(gst::Format::Time);
        source.set_is_live(false);
        source.set_block(false);
        source.set_max_bytes(0);
        source.set_max_buffers(0);
        source.set_max_time(gst::ClockTime::ZERO);
        Self { source, until: None }
    }

    fn write(&mut self, captions: &mut Captions, began: MediaTime, until: MediaTime) {
        let mut at = self.until.unwrap_or(began);
        while let Some(cue) = captions.next(until) {
            let (from, to) = (cue.from.max(at), cue.to);
            // It is over, or was before the recording began.
            if to <= from {
                continue;
            }
            self.text("", at, from);
            self.text(&cue.text, from, to);
            // What comes after a text has to be there for the muxer to go on beyond the beginning of it.
            at = MediaTime::from_nanos(to.nanos().saturating_add(u64::try_from(LOOK.as_nanos()).unwrap_or(0)));
            self.text("", to, at);
        }
        self.text("", at, until);
        self.until = Some(at.max(until));
    }

    /// Nothing where there is no time for it.
    fn text(&self, text: &str, from: MediaTime, to: MediaTime) {
        if from >= to {
            return;
        }
        let mut buffer = gst::Buffer::from_slice(text.to_owned().into_bytes());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::from_nseconds(from.nanos()));
            buffer.set_duration(span(from, to));
        }
        // It refuses only when it has stopped.
        let _ = self.source.push_buffer(buffer);
    }
}

fn span(from: MediaTime, to: MediaTime) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(to.nanos().saturating_sub(from.nanos()))
}
