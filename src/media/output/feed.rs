//! The session's stream on its way into an output's pipeline.
//!
//! In here: both tracks, joined to the encode, in step, and no further behind than their queues are long; the sound's part
//! that an encoder of the pipeline adds to it. Not in here: the rest of that pipeline (`launch`).
//! Runs on: the thread of the output; its probes on the pipeline's own threads, where they hold atomics and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_utils::{ConsumptionLink, StreamProducer};

use crate::media::description::names;
use crate::media::pipeline::OwnedPipeline;
use crate::media::publisher::{Audience, Publisher, app_source, running_time};
use crate::media::{MediaError, VideoFormat};
use crate::timeline::{FRAME_DURATION, MediaTime};

/// Encoded pictures that may wait for a receiver, of 40 ms each: two seconds, in which a disk or a server is busy for once.
const WAITING_FRAMES: u64 = 50;
/// Opus packets of the same time.
const WAITING_PACKETS: u64 = 100;
/// What comes until the next look at the queues, with room to spare.
const MARGIN: u64 = 8;
/// No picture has come yet.
const NEVER: u64 = u64::MAX;

/// By how much encoders are late, in samples at 48 kHz: what they put before the first. Measured with clicks, through MP4,
/// FLV and MPEG-TS, in which GStreamer 1.22 tells players nothing of it.
const DELAYS: &[(&str, i64)] = &[("voaacenc", 1600), ("avenc_aac", 1024)];

/// Both tracks of the session as an output takes them.
pub(super) struct Feed {
    _seat: Seat,
    video: Track,
    audio: Track,
    /// Whether the receiver is there.
    is_open: bool,
    /// Since when it is too slow.
    behind_since: Option<Instant>,
    /// Pictures that were left out since it was too slow.
    left_out: u64,
    watched: Arc<Watched>,
}

/// A place among those who see the first rung, whichever the session's viewers are on.
struct Seat(Arc<Audience>);

impl Seat {
    fn take(audience: &Arc<Audience>) -> Self {
        audience.viewers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(audience))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Track {
    source: gst_app::AppSrc,
    link: ConsumptionLink,
    most: u64,
}

/// What the probes have seen.
#[derive(Debug)]
struct Watched {
    /// When the first picture is presented, in nanoseconds.
    first: AtomicU64,
    /// Width and height of the pictures; 0 before the first.
    size: AtomicU64,
    /// Whether pictures of another size have come, which are held back.
    has_changed: AtomicBool,
}

impl Feed {
    /// Joins the encode. Nothing flows before `open`. Where `one_size`, pictures of another size than the first are held back.
    pub fn join(pipeline: &OwnedPipeline, publisher: &Publisher, one_size: bool) -> Result<Self, MediaError> {
        let sources = [app_source(pipeline, names::VIDEO)?, app_source(pipeline, names::AUDIO)?];
        let watched = Arc::new(Watched {
            first: AtomicU64::new(NEVER),
            size: AtomicU64::new(0),
            has_changed: AtomicBool::new(false),
        });
        watch(&sources, &watched, one_size);
        if let Some(encoder) = pipeline.gst().by_name(names::AUDIO_ENCODER) {
            take_delay_off(&encoder);
        }
        let [video, audio] = sources;
        let with_sound = publisher.audio.as_ref().ok_or_else(|| MediaError::Start {
            file: publisher.viewer().file().to_owned(),
            reason: "the encode has no sound".to_owned(),
        })?;
        let video = Track::join(&publisher.video, video, WAITING_FRAMES)?;
        let audio = Track::join(with_sound, audio, WAITING_PACKETS)?;
        Ok(Self {
            _seat: Seat::take(&publisher.audience),
            video,
            audio,
            is_open: false,
            behind_since: None,
            left_out: 0,
            watched,
        })
    }

    /// Lets it flow, from the next key frame on, which it asks for.
    pub fn open(&mut self) {
        self.is_open = true;
        self.set_flowing(true);
    }

    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Stops what flows where the queues are full and starts it again once they are nearly empty. appsrc and its producer
    /// would do so too, but then ask for one key frame after the other, which all viewers pay for.
    pub fn keep_up(&mut self) {
        if !self.is_open {
            return;
        }
        let now = Instant::now();
        match self.behind_since {
            None if self.video.is_full() || self.audio.is_full() => {
                tracing::debug!("the receiver is too slow: pictures are left out");
                self.behind_since = Some(now);
                self.set_flowing(false);
            }
            Some(since) if self.video.is_low() && self.audio.is_low() => {
                self.behind_since = None;
                self.left_out += frames_of(now - since);
                self.set_flowing(true);
            }
            _ => {}
        }
    }

    fn set_flowing(&self, flows: bool) {
        self.video.link.set_discard(!flows);
        self.audio.link.set_discard(!flows);
    }

    /// Pictures that were taken, and those that were left out since the receiver was too slow.
    pub fn counts(&self) -> (u64, u64) {
        let now = self.behind_since.map_or(0, |since| frames_of(since.elapsed()));
        (self.video.link.pushed(), self.left_out + now)
    }

    /// Whether pictures of another size have come.
    pub fn has_changed(&self) -> bool {
        self.watched.has_changed.load(Ordering::Relaxed)
    }

    /// When the first picture is presented, once it has gone in.
    pub fn began(&self) -> Option<MediaTime> {
        Some(self.watched.first.load(Ordering::Relaxed)).filter(|first| *first != NEVER).map(MediaTime::from_nanos)
    }

    /// Leaves the encode and tells the pipeline that no more comes.
    pub fn finish(self) {
        for Track { source, link, .. } in [self.video, self.audio] {
            drop(link);
            // It refuses only when it has stopped already.
            let _ = source.end_of_stream();
        }
    }
}

impl Track {
    fn join(producer: &StreamProducer, source: gst_app::AppSrc, most: u64) -> Result<Self, MediaError> {
        let link = producer
            .add_consumer(&source)
            .map_err(|error| MediaError::Start { file: source.name().to_string(), reason: error.to_string() })?;
        link.set_discard(true);
        // Muxers wait for both tracks instead of for a time that is over when a packet has gone through an encoder.
        source.set_is_live(false);
        // What is in the queue can be decoded up to its end, so what comes too late is left out and nothing before it.
        source.set_leaky_type(gst_app::AppLeakyType::Upstream);
        source.set_block(false);
        source.set_max_buffers(most);
        source.set_max_time(gst::ClockTime::ZERO);
        Ok(Self { source, link, most })
    }

    fn is_full(&self) -> bool {
        self.source.current_level_buffers() + MARGIN >= self.most
    }

    fn is_low(&self) -> bool {
        self.source.current_level_buffers() <= self.most / 4
    }
}

fn frames_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / FRAME_DURATION.as_nanos()).unwrap_or(u64::MAX)
}

/// Has the sound begin with the first picture, and notices the size of the pictures.
fn watch([video, audio]: &[gst_app::AppSrc; 2], watched: &Arc<Watched>, one_size: bool) {
    let (Some(video), Some(audio)) = (video.static_pad("src"), audio.static_pad("src")) else { return };
    let seen = Arc::clone(watched);
    video.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(VideoFormat { width, height }) = size_of(caps.caps())
        {
            let size = u64::from(width) << 32 | u64::from(height);
            let before = seen.size.swap(size, Ordering::Relaxed);
            if one_size && before != 0 && before != size {
                seen.has_changed.store(true, Ordering::Relaxed);
            }
        }
        if seen.has_changed.load(Ordering::Relaxed) {
            // Not `Drop`, after which GStreamer 1.22 frees it a second time, as a null pointer, and warns.
            return gst::PadProbeReturn::Handled;
        }
        if let Some(buffer) = info.buffer()
            && seen.first.load(Ordering::Relaxed) == NEVER
            && let Some(time) = running_time(pad, buffer)
        {
            seen.first.store(time.nanos(), Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
    let seen = Arc::clone(watched);
    audio.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let time = info.buffer().and_then(|buffer| running_time(pad, buffer)).map_or(0, MediaTime::nanos);
        // Before any picture, everything is too early.
        if time < seen.first.load(Ordering::Relaxed) || seen.has_changed.load(Ordering::Relaxed) {
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

fn size_of(caps: &gst::CapsRef) -> Option<VideoFormat> {
    let structure = caps.structure(0)?;
    let length = |name| structure.get::<i32>(name).ok().and_then(|length| u32::try_from(length).ok());
    Some(VideoFormat { width: length("width")?, height: length("height")? })
}

fn take_delay_off(encoder: &gst::Element) {
    let name = encoder.factory().map(|factory| factory.name());
    let delay = DELAYS.iter().find(|(known, _)| name.as_deref() == Some(*known));
    if let (Some((_, samples)), Some(pad)) = (delay, encoder.static_pad("src")) {
        pad.set_offset(-(samples * 1_000_000_000 / 48_000));
    }
}
