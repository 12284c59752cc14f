//! Descriptions tried before a session depends on them: run with a test picture and test sound, in nobody's sight.
//!
//! In here: what comes out of a publish description, of each of its rungs. `consumer` tries those of viewers and outputs with
//! a stream of such an encode. Not in here: what a description must hold (`description`), which encoder works here at all
//! (`encoder`).
//! Runs on: a thread that may block, for some tenths of a second, or `PATIENCE` for each pipeline.

mod consumer;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::buffers::{audio_buffers, video_buffer};
use super::description::{names, publish_values};
use super::pipeline::{BusReport, OwnedPipeline, Teardown};
use super::publisher::{app_sink, app_source};
use super::rungs::Rung;
use super::{Codec, Description, MediaError, Selected};
use crate::picture::I420Frame;
use crate::timeline::{FPS, FrameIndex, MediaTime, Timeline};

pub(super) use consumer::{output, viewer};

/// Of the test pictures.
const SIZE: u32 = 256;
const PICTURES: u64 = 16;
/// Of this one a key frame is asked for.
const ASKED: u64 = 8;
/// An encoder that looks ahead may give the key frame of a picture a little later.
const LATE: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(3);

/// Encodes with a publish description, each of its rungs, and says which H.264 profile came of it.
pub(super) fn publish(publish: &Description, codec: Codec) -> Result<Option<String>, MediaError> {
    let mut profile = None;
    for rung in publish.rungs() {
        let found = encode(&publish.rung(rung), rung, codec)?;
        if rung == Rung::Full {
            profile = found;
        }
    }
    Ok(profile)
}

/// A picture that moves, so that there is something to encode.
fn picture(index: u64, (width, height): (u32, u32)) -> Arc<I420Frame> {
    let step = u32::try_from(index % 64).unwrap_or(0) * 4;
    let luma = (0..width * height).map(|at| u8::try_from((at % width + at / width + step) % 256).unwrap_or(0));
    let data = luma.chain(std::iter::repeat_n(128, (width * height / 2) as usize)).collect();
    Arc::new(I420Frame { width, height, data })
}

fn encode(description: &Description, rung: Rung, codec: Codec) -> Result<Option<String>, MediaError> {
    let name = |name: &str| description.name(name);
    let refused = |element: &str, reason: String| MediaError::Description(description.fault_at(element, &reason));
    let teardown = Teardown::default();
    let built = description.build(&publish_values(SIZE, SIZE, FPS, rung))?;
    let pipeline = OwnedPipeline::new(built, teardown);
    let (reports, report) = mpsc::sync_channel(1);
    pipeline.watch(move |message| {
        if let BusReport::Error { .. } = message {
            // The first one counts.
            let _ = reports.try_send(message);
        }
    });
    let out = name(names::VIDEO_OUT);
    let (video, pictures) = (app_source(&pipeline, &name(names::VIDEO))?, app_sink(&pipeline, &out)?);
    let sound = match rung {
        Rung::Full => Some((app_source(&pipeline, names::AUDIO)?, app_sink(&pipeline, names::AUDIO_OUT)?)),
        _ => None,
    };
    // Nothing here is real time: all goes in as fast as it is taken.
    video.set_max_buffers(0);
    pictures.set_sync(false);
    if let Some((source, sink)) = &sound {
        source.set_max_buffers(0);
        source.set_max_time(gst::ClockTime::ZERO);
        sink.set_sync(false);
    }
    let failed = |reason: String| match report.try_recv() {
        Ok(BusReport::Error { element, message }) => {
            let element = element.rsplit([':', '/']).next().unwrap_or(&element).to_owned();
            refused(&element, format!("{element}: {message}"))
        }
        _ => refused(&name(names::VIDEO_ENCODER), reason),
    };
    pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
    let timeline = Timeline::playout(MediaTime::default());
    let until = Instant::now() + PATIENCE;
    let push = |numbers: std::ops::Range<u64>| {
        for at in numbers.map(FrameIndex) {
            // A refused buffer shows as one that does not come out.
            let _ = video.push_buffer(video_buffer(&picture(at.0, (SIZE, SIZE)), at, &timeline));
            if let Some((source, _)) = &sound {
                for buffer in audio_buffers(None, at, &timeline) {
                    let _ = source.push_buffer(buffer);
                }
            }
        }
    };
    push(0..ASKED);
    // Before it has given one, x264enc of GStreamer 1.22 takes a request for one of its first picture.
    let mut samples: Vec<gst::Sample> = pictures.try_pull_sample(left(until)).into_iter().collect();
    ask_for_key_frame(&pictures, timeline.video_pts(FrameIndex(ASKED)));
    push(ASKED..PICTURES);
    let _ = video.end_of_stream();
    samples.extend(all_of(&pictures, until));
    let seen: Vec<Seen> = samples.iter().filter_map(seen).collect();
    judge(&seen).map_err(|reason| failed(reason.to_owned()))?;
    let caps = samples.first().and_then(|sample| sample.caps_owned());
    let profile = suits(caps.as_ref(), codec).map_err(|reason| refused(&out, reason))?;
    if let Some((source, sink)) = &sound {
        let _ = source.end_of_stream();
        let packets = all_of(sink, until);
        let caps = packets.first().and_then(|packet| packet.caps_owned());
        let is_opus =
            caps.as_ref().and_then(|caps| caps.structure(0)).is_some_and(|caps| caps.name() == "audio/x-opus");
        if !is_opus {
            let found = caps.map_or_else(|| "nothing".to_owned(), |caps| caps.to_string());
            return Err(refused(names::AUDIO_OUT, format!("{found} comes here: it takes Opus, audio/x-opus")));
        }
    }
    match report.try_recv() {
        Ok(BusReport::Error { element, message }) => {
            let element = element.rsplit([':', '/']).next().unwrap_or(&element);
            Err(refused(element, format!("{element}: {message}")))
        }
        _ => Ok(profile),
    }
}

fn ask_for_key_frame(sink: &gst_app::AppSink, at: MediaTime) {
    if let Some(pad) = sink.static_pad("sink") {
        let at = gst::ClockTime::from_nseconds(at.nanos());
        pad.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().running_time(at).all_headers(true).build());
    }
}

fn all_of(sink: &gst_app::AppSink, until: Instant) -> Vec<gst::Sample> {
    std::iter::from_fn(|| sink.try_pull_sample(left(until))).collect()
}

fn left(until: Instant) -> gst::ClockTime {
    gst::ClockTime::try_from(until.saturating_duration_since(Instant::now())).unwrap_or(gst::ClockTime::ZERO)
}

/// Of an encoded picture: which one it is, and whether it is a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    number: u64,
    is_key: bool,
}

fn seen(sample: &gst::Sample) -> Option<Seen> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let at = segment.to_running_time(buffer.pts()?)?;
    let number = (at.nseconds() * u64::from(FPS) + 500_000_000) / 1_000_000_000;
    Some(Seen { number, is_key: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) })
}

fn judge(seen: &[Seen]) -> Result<(), &'static str> {
    let Some(first) = seen.first() else { return Err("no picture comes out of it within 3 s") };
    if !first.is_key {
        return Err("its first picture is no key frame, which nothing can be decoded without");
    }
    if !seen.is_sorted_by(|one, next| one.number < next.number) {
        return Err("its pictures do not come in the order in which they are shown: turn its B-frames off");
    }
    if u64::try_from(seen.len()).unwrap_or(0) <= PICTURES / 2 {
        return Err("it leaves out more than half of the pictures");
    }
    if !seen.iter().any(|seen| seen.is_key && (ASKED..ASKED + LATE).contains(&seen.number)) {
        return Err("it gives no key frame when one is asked for: whoever joins would see nothing");
    }
    Ok(())
}

/// Whether viewers can be sent it; also the H.264 profile.
fn suits(caps: Option<&gst::Caps>, codec: Codec) -> Result<Option<String>, String> {
    let found = caps.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let structure = caps.and_then(|caps| caps.structure(0));
    let field = |name| structure.and_then(|structure| structure.get::<&str>(name).ok());
    let name = structure.map_or("", |structure| structure.name().as_str());
    let is_right = match codec {
        Codec::H264 => {
            name == "video/x-h264" && field("stream-format") == Some("byte-stream") && field("alignment") == Some("au")
        }
        Codec::Vp8 => name == "video/x-vp8",
    };
    if is_right {
        return Ok(field("profile").map(str::to_owned));
    }
    let wanted = match codec {
        Codec::H264 => "video/x-h264,stream-format=byte-stream,alignment=au",
        Codec::Vp8 => "video/x-vp8",
    };
    Err(format!("{found} comes here: put {wanted} in front of it"))
}

/// Whether who has agreed on what the one makes can be given what the other makes, without another offer.
pub(super) fn can_follow(before: &Selected, after: &Selected) -> bool {
    after.profile == before.profile || after.profile.as_deref() == Some("constrained-baseline")
}

#[cfg(test)]
mod tests;
