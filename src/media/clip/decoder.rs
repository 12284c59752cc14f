//! A clip's video stream, decoded by GStreamer.
//!
//! In here: one pipeline `filesrc ! demuxer ! parser ! decoder ! deinterlace ! appsink`, of elements of our own choice
//! (`codecs`), and what may go wrong in it. Not in here: which pictures are used (`sampling`), pixels (`render`).
//! Runs on: the caller's thread, which waits for pictures; GStreamer's threads run closures that hold senders and atomics
//! and, to plug the decoder, the pipeline's own elements. A picture is decoded only when the one before it was taken, two
//! are held ahead.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::codecs::{Codec, Container, codec_of, package};
use super::error::{MOST_CLIP_PIXELS, SourceFault};
use super::guard;
use super::sampling::Timed;
use crate::media::pipeline::{BusReport, OwnedPipeline, Teardown};

/// How long neither a byte may be decoded nor a picture come.
const STALL: Duration = Duration::from_secs(20);
/// How often it is asked whether something went wrong; pictures wake the caller at once.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of Matroska in which its general information is looked for.
const MATROSKA_HEAD: u64 = 4096;
/// Pictures decoded ahead, beside the two that `sampling` holds.
const AHEAD: u32 = 1;
/// Of a decoder: as many as there are cores on the smallest machine, but each holds pictures of its own, which are large from
/// some size on, in pixels.
const DECODER_THREADS: i32 = 2;
const LARGE: i64 = 1920 * 1088;

/// What streaming threads report; the caller hears it when pictures stop to come.
#[derive(Debug)]
pub(super) enum Report {
    Bus(BusReport),
    NoVideo,
    Codec(String),
    Missing { element: String, package: &'static str },
    TooManyPixels { width: u32, height: u32 },
    Plugging(String),
}

/// A stream of pictures.
#[derive(Debug)]
pub(super) struct Decoder {
    sink: gst_app::AppSink,
    reports: Receiver<Report>,
    shared: Arc<Shared>,
    /// Of the first picture, in the stream's own time.
    origin: Option<gst::ClockTime>,
    /// Of the last picture, from the first.
    at: Duration,
    failure: Option<SourceFault>,
    /// Of the file.
    bytes: u64,
    container: Container,
    knows_duration: bool,
    deinterlace: gst::Element,
    /// Freed before the thread that frees it is waited for.
    pipeline: OwnedPipeline,
    _teardown: Teardown,
}

/// What streaming threads write.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Whether a video stream was found already; there may be several.
    found: AtomicBool,
    /// Whether there is sound beside it.
    pub sound: AtomicBool,
    /// Compressed frames that went into the decoder.
    pub steps: AtomicU64,
    /// Bytes of the file up to the last that was read.
    pub read: AtomicU64,
    /// The name of the format.
    pub codec: std::sync::OnceLock<&'static str>,
    /// How it must be turned, as GStreamer names it, of the first tag that says so.
    pub orientation: std::sync::OnceLock<String>,
}

impl Decoder {
    /// Opens a file of this kind, with the alpha channel of its pictures or without; nothing is decoded before the first
    /// picture is asked for.
    pub fn open(path: &Path, container: Container, alpha: bool) -> Result<Self, SourceFault> {
        let bytes = std::fs::metadata(path)?.len();
        let pipeline = gst::Pipeline::new();
        let source = make("filesrc")?;
        source.set_property("location", path);
        let demuxer = make(container.demuxer())?;
        let deinterlace = make("deinterlace")?;
        // One picture for both fields; those of a progressive stream pass as they are.
        deinterlace.set_property_from_str("fields", "top");
        let sink = gst_app::AppSink::builder()
            .caps(&gst::Caps::new_empty_simple("video/x-raw"))
            .sync(false)
            .max_buffers(AHEAD)
            .enable_last_sample(false)
            .build();
        let failed = |error: gst::glib::BoolError| SourceFault::Start(error.to_string());
        pipeline.add_many([&source, &demuxer, &deinterlace, sink.upcast_ref()]).map_err(failed)?;
        source.link(&demuxer).map_err(failed)?;
        deinterlace.link(&sink).map_err(failed)?;

        let (sender, reports) = mpsc::sync_channel(8);
        let shared = Arc::new(Shared::default());
        if let Some(pad) = source.static_pad("src") {
            guard::watch_reading(&pad, &shared);
        }
        plug_when_found(&demuxer, &deinterlace, &sender, &shared, alpha);
        let teardown = Teardown::default();
        let pipeline = OwnedPipeline::new(pipeline, teardown.clone());
        pipeline.watch(move |report| {
            let _ = sender.try_send(Report::Bus(report));
        });
        // Its own words come over the bus.
        let _ = pipeline.gst().set_state(gst::State::Playing);
        Ok(Self {
            sink,
            reports,
            shared,
            origin: None,
            at: Duration::ZERO,
            failure: None,
            bytes,
            container,
            knows_duration: container != Container::Matroska || has_duration(path),
            deinterlace,
            pipeline,
            _teardown: teardown,
        })
    }

    /// What is known of the stream once its first picture came.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// How long the file says it lasts.
    pub fn duration(&self) -> Option<Duration> {
        let duration = || self.pipeline.gst().query_duration::<gst::ClockTime>().map(Duration::from);
        self.knows_duration.then(duration).flatten()
    }

    /// What broke it off, once it ended; pictures that came before are good.
    pub fn take_failure(&mut self) -> Option<SourceFault> {
        self.failure.take()
    }

    /// How much of the file was read, from 0 to 1.
    pub fn share_read(&self) -> f64 {
        self.shared.read.load(Ordering::Relaxed) as f64 / self.bytes.max(1) as f64
    }

    /// Whether its pictures are of two fields each.
    pub fn is_interlaced(&self) -> bool {
        let caps = self.deinterlace.static_pad("sink").and_then(|pad| pad.current_caps());
        let mode = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<&str>("interlace-mode").ok());
        mode.is_some_and(|mode| mode != "progressive")
    }

    /// Whether `seek` is worth while: there is an index, and it is known that the time is in it.
    pub fn seeks_exactly(&self) -> bool {
        self.container.seeks_exactly() && self.knows_duration
    }

    /// Goes to a time, from the first picture on, which has come. The next picture is the first one from then on.
    ///
    /// `false` if the file cannot be sought in; then it goes on as it was.
    pub fn seek(&self, to: Duration) -> bool {
        let Ok(offset) = gst::ClockTime::try_from(to) else { return false };
        let target = self.origin.unwrap_or_default() + offset;
        self.pipeline.gst().seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, target).is_ok()
    }

    /// The next picture, `None` after the last; then `failure` says whether the file was at its end. Blocks.
    pub fn next(&mut self) -> Result<Option<Timed<gst::Sample>>, SourceFault> {
        let mut waiting_since = Instant::now();
        let mut steps = self.shared.steps.load(Ordering::Relaxed);
        loop {
            if let Some(sample) = self.sink.try_pull_sample(gst::ClockTime::try_from(LOOK).unwrap_or_default()) {
                return Ok(Some(self.timed(sample)));
            }
            let is_over = self.sink.is_eos();
            self.hear()?;
            if is_over || self.failure.is_some() {
                return Ok(None);
            }
            let now = self.shared.steps.load(Ordering::Relaxed);
            if now != steps {
                (steps, waiting_since) = (now, Instant::now());
            } else if waiting_since.elapsed() >= STALL {
                return Err(SourceFault::Stalled { at: self.at, waited: STALL });
            }
        }
    }

    /// Reports of what forbids the whole file are errors, those of damage are kept for whoever asks.
    fn hear(&mut self) -> Result<(), SourceFault> {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::Bus(BusReport::EndOfStream) => {}
                Report::Bus(BusReport::Error { message, .. }) => {
                    let damage = SourceFault::Damaged { at: self.at, reason: message };
                    self.failure.get_or_insert(damage);
                }
                Report::NoVideo if self.shared.sound.load(Ordering::Relaxed) => return Err(SourceFault::NoVideo),
                Report::NoVideo => {
                    let reason = "there is no stream in it, it may be cut off".to_owned();
                    return Err(SourceFault::Damaged { at: self.at, reason });
                }
                Report::Codec(codec) => return Err(SourceFault::Codec { codec }),
                Report::Missing { element, package } => return Err(SourceFault::Missing { element, package }),
                Report::TooManyPixels { width, height } => {
                    return Err(SourceFault::TooManyPixels { width, height, most: MOST_CLIP_PIXELS });
                }
                Report::Plugging(reason) => return Err(SourceFault::Start(reason)),
            }
        }
        Ok(())
    }

    fn timed(&mut self, sample: gst::Sample) -> Timed<gst::Sample> {
        let shown = sample.buffer().and_then(|buffer| {
            let pts = buffer.pts()?;
            let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
            segment.to_stream_time(pts).or_else(|| segment.to_running_time(pts))
        });
        if let Some(shown) = shown {
            let origin = *self.origin.get_or_insert(shown);
            // Time does not run backwards on a screen, whatever a damaged file says.
            self.at = self.at.max(Duration::from(shown.saturating_sub(origin)));
        }
        let lasts = sample.buffer().and_then(|buffer| buffer.duration()).map(Duration::from);
        Timed { at: self.at, lasts, picture: sample }
    }
}

/// Whether Matroska's head has an element `Duration`; what a browser records has none, and GStreamer's guess grows as it reads.
fn has_duration(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MATROSKA_HEAD).read_to_end(&mut head));
    read.is_ok() && head.windows(3).any(|bytes| matches!(bytes, [0x44, 0x89, 0x84 | 0x88]))
}

fn make(element: &str) -> Result<gst::Element, SourceFault> {
    gst::ElementFactory::make(element)
        .build()
        .map_err(|_| SourceFault::Missing { element: element.to_owned(), package: package(element) })
}

/// Plugs a decoder to the first video stream that the demuxer finds.
fn plug_when_found(
    demuxer: &gst::Element,
    deinterlace: &gst::Element,
    reports: &SyncSender<Report>,
    shared: &Arc<Shared>,
    alpha: bool,
) {
    let next = deinterlace.downgrade();
    let (sender, state) = (reports.clone(), Arc::clone(shared));
    demuxer.connect_pad_added(move |demuxer, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let name = caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default();
        if name.starts_with("audio/") {
            state.sound.store(true, Ordering::Relaxed);
        }
        if pad.direction() != gst::PadDirection::Src || !is_video(&name) || state.found.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(codec) = codec_of(&caps, alpha) else {
            let _ = sender.try_send(Report::Codec(name));
            return;
        };
        let _ = state.codec.set(codec.name);
        let Some((bin, next)) = demuxer.parent().and_downcast::<gst::Bin>().zip(next.upgrade()) else { return };
        if let Err(report) = plug(codec, &bin, pad, &next, &sender, &state) {
            let _ = sender.try_send(report);
        }
    });
    let (sender, state) = (reports.clone(), Arc::clone(shared));
    demuxer.connect_no_more_pads(move |_| {
        if !state.found.load(Ordering::Relaxed) {
            let _ = sender.try_send(Report::NoVideo);
        }
    });
}

/// Encrypted streams too, so that they are named.
fn is_video(caps_name: &str) -> bool {
    caps_name.starts_with("video/") || caps_name.starts_with("image/") || caps_name.starts_with("application/x-c")
}

/// By the container's word, which is enough to be sparing.
fn is_large(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps();
    let side = |name| caps.as_ref().and_then(|caps| caps.structure(0)?.get::<i32>(name).ok()).map_or(0, i64::from);
    side("width") * side("height") > LARGE
}

fn plug(
    codec: Codec,
    bin: &gst::Bin,
    pad: &gst::Pad,
    next: &gst::Element,
    reports: &SyncSender<Report>,
    shared: &Arc<Shared>,
) -> Result<(), Report> {
    let failed = |error: gst::glib::BoolError| Report::Plugging(error.to_string());
    let missing = |elements: &[&str]| Report::Missing {
        element: elements.join(" or "),
        package: elements.first().copied().map_or("", package),
    };
    let find = |element: &str| gst::ElementFactory::make(element).build().ok();
    let decoder = codec.decoders.iter().find_map(|name| find(name)).ok_or_else(|| missing(codec.decoders))?;
    if decoder.has_property("max-threads") {
        decoder.set_property("max-threads", if is_large(pad) { 1 } else { DECODER_THREADS });
    }
    if decoder.has_property("output-corrupt") {
        decoder.set_property("output-corrupt", false);
    }
    let input = decoder.static_pad("sink").ok_or_else(|| Report::Plugging("a decoder without input".to_owned()))?;
    guard::watch(&input, reports, shared);
    bin.add(&decoder).map_err(failed)?;
    decoder.link(next).map_err(failed)?;
    let mut first = decoder.clone();
    if let Some(name) = codec.parser {
        let parser = find(name).ok_or_else(|| missing(&[name]))?;
        bin.add(&parser).map_err(failed)?;
        parser.link(&decoder).map_err(failed)?;
        first = parser;
    }
    let entry = first.static_pad("sink").ok_or_else(|| Report::Plugging("a parser without input".to_owned()))?;
    guard::watch_tags(pad, shared);
    pad.link(&entry).map_err(|error| Report::Plugging(error.to_string()))?;
    decoder.sync_state_with_parent().map_err(failed)?;
    first.sync_state_with_parent().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A film of this many pictures, written by GStreamer itself.
    fn film(pictures: u32) -> tempfile::NamedTempFile {
        crate::media::init().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "videotestsrc num-buffers={pictures} ! video/x-raw,width=64,height=48,framerate=25/1 ! vp8enc deadline=1 \
             ! webmmux ! filesink location=\"{}\"",
            file.path().display()
        );
        let writer = gst::parse::launch(&text).unwrap();
        writer.set_state(gst::State::Playing).unwrap();
        let end = writer.bus().unwrap().timed_pop_filtered(None, &[gst::MessageType::Eos, gst::MessageType::Error]);
        writer.set_state(gst::State::Null).unwrap();
        assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
        file
    }

    #[test]
    fn pictures_come_with_their_times_and_an_end() {
        let film = film(10);
        let mut decoder = Decoder::open(film.path(), Container::Matroska, false).unwrap();
        let mut times = Vec::new();
        while let Some(picture) = decoder.next().unwrap() {
            times.push(picture.at.as_millis());
        }
        assert_eq!(times, (0..10).map(|index| index * 40).collect::<Vec<u128>>());
        assert!(decoder.take_failure().is_none());
        assert!((decoder.share_read() - 1.0).abs() < 0.01, "{}", decoder.share_read());
        assert_eq!(decoder.shared().codec.get(), Some(&"VP8"));
    }

    #[test]
    fn a_decoder_that_is_let_go_at_any_time_frees_its_pipeline() {
        let film = film(50);
        for pictures in [0, 1, 50] {
            let mut decoder = Decoder::open(film.path(), Container::Matroska, false).unwrap();
            for _ in 0..pictures {
                decoder.next().unwrap();
            }
            let pipeline = decoder.pipeline.gst().downgrade();
            drop(decoder);
            assert!(pipeline.upgrade().is_none(), "after {pictures} pictures");
        }
    }

    /// Whatever a file says, nothing is plugged that opens another file or an address.
    #[test]
    fn a_pipeline_is_made_of_listed_elements_alone() {
        let film = film(3);
        let mut decoder = Decoder::open(film.path(), Container::Matroska, false).unwrap();
        decoder.next().unwrap();
        let elements = decoder.pipeline.gst().iterate_recurse().into_iter().map(Result::unwrap);
        let names = elements.filter_map(|it| Some(it.factory()?.name().to_string()));
        // The sink is made without a factory, and has one all the same once another test has loaded its plugin.
        let mut names: Vec<String> = names.filter(|name| name != "appsink").collect();
        names.sort();
        assert_eq!(names, ["deinterlace", "filesrc", "matroskademux", "vp8dec"]);
    }

    #[test]
    fn a_film_in_another_container_than_it_says_is_damaged() {
        let film = film(3);
        let mut decoder = Decoder::open(film.path(), Container::Mp4, false).unwrap();
        let failed = loop {
            match decoder.next() {
                Ok(Some(_)) => {}
                Ok(None) => break decoder.take_failure().unwrap(),
                Err(fault) => break fault,
            }
        };
        assert!(matches!(failed, SourceFault::Damaged { .. }), "{failed}");
    }
}
