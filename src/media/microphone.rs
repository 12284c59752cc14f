//! A viewer's microphone: from webrtcbin to whoever listens.
//!
//! In here: linking what webrtcbin receives, and the sound that comes out of the description's `heard`. Not in here: what
//! is done with it (`hearing`).
//! Runs on: GStreamer's threads, which hold a sender and never wait.

use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use tokio::sync::mpsc;

use super::description::names;
use crate::hearing::MicrophoneChunk;

/// How often the two clocks are read; a reading takes some microseconds.
const READINGS: usize = 3;

/// Links whatever the peer sends, from its first packet on: the first stream of Opus to the listener, if there is one, all
/// else to nowhere. A pad that is linked to nothing would end the viewer's pipeline.
pub fn connect(pipeline: &gst::Pipeline, webrtc: &gst::Element, heard: Option<mpsc::Sender<MicrophoneChunk>>) {
    let listener = heard.and_then(|heard| {
        let appsink = pipeline.by_name(names::HEARD)?.downcast::<gst_app::AppSink>().ok()?;
        listen(&appsink, heard);
        pipeline.by_name(names::MICROPHONE)?.static_pad("sink").map(|pad| pad.downgrade())
    });
    let pipeline = pipeline.downgrade();
    webrtc.connect_pad_added(move |_, pad| {
        if pad.direction() != gst::PadDirection::Src {
            return;
        }
        let free = listener.as_ref().and_then(gst::glib::WeakRef::upgrade).filter(|listener| !listener.is_linked());
        if free.is_some_and(|listener| is_opus(pad) && pad.link(&listener).is_ok()) {
            tracing::debug!("the viewer's microphone is heard");
            return;
        }
        let Some(pipeline) = pipeline.upgrade() else { return };
        if let Err(error) = discard(&pipeline, pad) {
            tracing::warn!(%error, "what a viewer sends cannot be thrown away");
        }
    });
}

fn is_opus(pad: &gst::Pad) -> bool {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    caps.structure(0).is_some_and(|caps| caps.get::<&str>("encoding-name") == Ok("OPUS"))
}

fn discard(pipeline: &gst::Pipeline, pad: &gst::Pad) -> Result<(), gst::glib::BoolError> {
    let nowhere = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()?;
    pipeline.add(&nowhere)?;
    nowhere.sync_state_with_parent()?;
    let into = nowhere.static_pad("sink").ok_or_else(|| gst::glib::bool_error!("fakesink has no pad"))?;
    pad.link(&into).map(drop).map_err(|error| gst::glib::bool_error!("{error:?}"))
}

fn listen(appsink: &gst_app::AppSink, heard: mpsc::Sender<MicrophoneChunk>) {
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |appsink| {
        let sample = appsink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(sound) = sample.buffer().and_then(|buffer| sound(appsink, buffer)) {
            // Nobody has listened for a second: what is late is of no use.
            let _ = heard.try_send(sound);
        }
        Ok(gst::FlowSuccess::Ok)
    });
    appsink.set_callbacks(callbacks.build());
}

fn sound(appsink: &gst_app::AppSink, buffer: &gst::BufferRef) -> Option<MicrophoneChunk> {
    let bytes = buffer.map_readable().ok()?;
    let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let (running, now) = moment(appsink);
    // The jitter buffer's time, not that of this moment, which jitters.
    let age = match (running, buffer.pts()) {
        (Some(running), Some(pts)) => Duration::from_nanos(running.saturating_sub(pts).nseconds()),
        _ => Duration::ZERO,
    };
    Some(MicrophoneChunk { at: now.checked_sub(age).unwrap_or(now), samples })
}

/// The same moment on both clocks. A thread that is put aside between reading one and the other is as wrong as it was long,
/// so it reads again.
fn moment(appsink: &gst_app::AppSink) -> (Option<gst::ClockTime>, Instant) {
    let read = || {
        let before = Instant::now();
        let running = appsink.current_running_time();
        (before.elapsed(), running, before)
    };
    let quickest = (0..READINGS).map(|_| read()).min_by_key(|(took, ..)| *took);
    quickest.map_or_else(|| (None, Instant::now()), |(_, running, now)| (running, now))
}
