//! One publish pipeline: what a description says, started, its ends connected to the publisher's outlets.
//!
//! In here: building and starting it, what goes into it, its counts, its key frames on demand. Not in here: which of two
//! passes (`relay`), the publisher whose encode it is.
//! Runs on: building, on a thread that may block; an inlet, on the playout thread, never blocking. Encoding is on GStreamer's
//! threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use tokio::sync::mpsc;

use super::outlet::Outlet;
use super::relay::Generation;
use super::{
    Common, Counters, KEY_FRAME_INTERVAL, LONGEST_UNCHANGED, VideoFormat, app_sink, app_source, element, mark_of,
    running_time,
};
use crate::ids::UtteranceId;
use crate::media::bitrate::EncoderRate;
use crate::media::buffers::{AUDIO_BUFFERS_PER_FRAME, video_buffer};
use crate::media::description::{half, names, publish_values};
use crate::media::pipeline::{BusReport, OwnedPipeline};
use crate::media::rungs::Rung;
use crate::media::{MediaError, MediaEvent, Selected};
use crate::picture::I420Frame;
use crate::playout::Pair;
use crate::timeline::{FPS, FrameIndex, MediaTime, Timeline};

/// Utterances whose first frame is in the encoder: one, or two if one was interrupted at once. More are not measured.
const MARKS: usize = 4;

/// Pictures of the one that wait for the next one's key frame, which an encoder on a GPU gives some frames later.
const HELD_PICTURES: usize = 3;
/// Packets of sound: as long as the longest that Opus makes, in the shortest that browsers are sent.
const HELD_PACKETS: usize = 6;

/// Where an encode's pictures and its sound leave it.
#[derive(Clone, Debug)]
pub(super) struct Outlets {
    pub video: Arc<Outlet>,
    /// The first rung has the sound.
    pub audio: Option<Arc<Outlet>>,
}

impl Outlets {
    pub fn new(rung: Rung) -> Result<Self, MediaError> {
        let audio = (rung == Rung::Full).then(|| Outlet::new(HELD_PACKETS)).transpose()?;
        Ok(Self { video: Outlet::new(HELD_PICTURES)?, audio })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Outlet>> {
        std::iter::once(&self.video).chain(&self.audio)
    }
}

/// A running pipeline. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Encode {
    pub selected: Selected,
    pub rate: Arc<EncoderRate>,
    /// Only to be dropped: it ends the pipeline.
    pub _pipeline: OwnedPipeline,
}

impl Encode {
    /// Takes a few milliseconds; no frame is encoded before the first push. Errors are given to `report` on the thread where
    /// they come about.
    pub fn start(
        selected: &Selected,
        rung: Rung,
        common: &Common,
        (outlets, generation): (&Outlets, Generation),
        counters: &Arc<Counters>,
        report: impl Fn(BusReport) + Send + Sync + 'static,
    ) -> Result<(Self, Inlet), MediaError> {
        let Common { format: current, events, time, teardown } = common.clone();
        let format = current.get();
        let description = selected.publish.rung(rung);
        let name = |name: &str| description.name(name);
        let built = description.build(&publish_values(format.width, format.height, FPS, rung))?;
        let pipeline = OwnedPipeline::new(built, teardown);
        pipeline.watch(report);
        time.set(pipeline.gst());
        // Nothing here waits for anything but its presentation time, so no sink may add what an encoder claims to need.
        pipeline.gst().set_latency(gst::ClockTime::ZERO);
        let encoder = element(&pipeline, &name(names::VIDEO_ENCODER))?;
        let key_frame_wanted = limit_key_frames(&encoder, counters);
        let video = app_source(&pipeline, &name(names::VIDEO))?;
        let size = (format.width, format.height);
        let rate = EncoderRate::follow(&encoder, video.upcast_ref(), &description, size, rung);
        let end = app_sink(&pipeline, &name(names::VIDEO_OUT))?;
        let (marks, marked) = blocking::sync_channel(MARKS);
        watch_encoded(&end, counters, marked, events, rung);
        outlets.video.take_from(&end, generation);
        let audio = match &outlets.audio {
            Some(outlet) => {
                outlet.take_from(&app_sink(&pipeline, names::AUDIO_OUT)?, generation);
                Some(app_source(&pipeline, names::AUDIO)?)
            }
            None => None,
        };
        let scaled = pipeline.gst().by_name(&name(names::VIDEO_SIZE));
        let inlet = Inlet {
            generation,
            video,
            audio,
            scaled,
            end: end.static_pad("sink"),
            key_frame_wanted,
            format,
            marks,
            standing: Standing::default(),
        };
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| MediaError::Start {
            file: selected.publish.file().to_owned(),
            reason: error.to_string(),
        })?;
        Ok((Self { selected: selected.clone(), rate, _pipeline: pipeline }, inlet))
    }
}

/// Where pairs go into one pipeline.
#[derive(Debug)]
pub(super) struct Inlet {
    pub generation: Generation,
    video: gst_app::AppSrc,
    audio: Option<gst_app::AppSrc>,
    /// Of a rung with smaller pictures: where their size is written.
    scaled: Option<gst::Element>,
    /// Where its pictures leave it.
    end: Option<gst::Pad>,
    /// A key frame is wanted of the next picture.
    key_frame_wanted: Arc<AtomicBool>,
    format: VideoFormat,
    /// Where an utterance's first frame is announced to whoever watches the encoder's output.
    marks: blocking::SyncSender<Mark>,
    standing: Standing,
}

impl Inlet {
    pub fn push_sound(&self, sound: &[gst::Buffer; AUDIO_BUFFERS_PER_FRAME]) {
        if let Some(audio) = &self.audio {
            for buffer in sound {
                // It refuses only while the pipeline stops, and then its end is reported on the bus.
                let _ = audio.push_buffer(buffer.clone());
            }
        }
    }

    /// Whether the picture found room; appsrc drops the oldest silently when it is full.
    pub fn push_picture(&mut self, frame: &Arc<I420Frame>, at: FrameIndex, timeline: &Timeline, wanted: bool) -> bool {
        let has_room = self.video.current_level_buffers() < self.video.max_buffers();
        let wanted = self.key_frame_wanted.swap(false, Ordering::Relaxed) || wanted;
        if !self.standing.is_unchanged(frame, wanted) {
            let _ = self.video.push_buffer(video_buffer(frame, at, timeline));
        }
        has_room
    }

    /// Announces the first frame of an utterance.
    pub fn mark(&self, pts: MediaTime, utterance: UtteranceId) {
        // Full only if nothing leaves the encoder, and then there is no packet to report.
        let _ = self.marks.try_send(Mark { pts, utterance });
    }

    /// Asks for a key frame of the picture that is presented then, or the next one.
    pub fn request_key_frame(&self, at: MediaTime) {
        if let Some(end) = &self.end {
            let at = gst::ClockTime::from_nseconds(at.nanos());
            let event = gst_video::UpstreamForceKeyUnitEvent::builder().running_time(at).all_headers(true);
            end.push_event(event.build());
        }
    }

    /// Tells the encoder that frames of another size come from now on; it begins anew with a key frame. One that cannot ends
    /// its pipeline with an error, and viewers, who offer again, get another one of the new size.
    pub fn announce_format(&mut self, pair: &Pair) {
        let format = VideoFormat::of(pair);
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

/// Lets at most one key frame request through to the encoder per `KEY_FRAME_INTERVAL`.
///
/// A browser that joins asks too, so every join would otherwise cost everybody two. Whoever still waits asks again. What is
/// given back is set whenever one is let through.
fn limit_key_frames(encoder: &gst::Element, counters: &Arc<Counters>) -> Arc<AtomicBool> {
    let wanted = Arc::new(AtomicBool::new(false));
    let Some(pad) = encoder.static_pad("src") else { return wanted };
    let told = Arc::clone(&wanted);
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
                told.store(true, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            }
            // Not `Drop`: GStreamer 1.22 then frees the event a second time, as a null pointer, and warns.
            Err(_) => gst::PadProbeReturn::Handled,
        }
    });
    wanted
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
