//! What is looked at in front of a decoder: how large its pictures are to be, before it takes memory for them, and how they
//! are to be turned.
//!
//! Runs on: GStreamer's streaming threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use gstreamer as gst;
use gstreamer::prelude::*;

use super::decoder::{Report, Shared};
use super::error::MOST_CLIP_PIXELS;

/// Counts what goes into a decoder, and lets nothing in once it says to be larger than is read here.
pub(super) fn watch(input: &gst::Pad, reports: &SyncSender<Report>, shared: &Arc<Shared>) {
    let (reports, shared) = (reports.clone(), Arc::clone(shared));
    let is_refused = AtomicBool::new(false);
    let is_vp8 = AtomicBool::new(false);
    input.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        let size = match &info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Caps(caps) => {
                    let structure = caps.caps().structure(0);
                    is_vp8.store(structure.is_some_and(|it| it.name() == "video/x-vp8"), Ordering::Relaxed);
                    structure.and_then(size_of)
                }
                _ => None,
            },
            Some(gst::PadProbeData::Buffer(buffer)) => {
                shared.steps.fetch_add(1, Ordering::Relaxed);
                if is_vp8.load(Ordering::Relaxed) { vp8_size(buffer) } else { None }
            }
            _ => None,
        };
        if let Some((width, height)) = size.filter(|(width, height)| is_too_large(*width, *height))
            && !is_refused.swap(true, Ordering::Relaxed)
        {
            let _ = reports.try_send(Report::TooManyPixels { width, height });
        }
        if !is_refused.load(Ordering::Relaxed) {
            return gst::PadProbeReturn::Ok;
        }
        match info.data.take() {
            Some(gst::PadProbeData::Buffer(_)) => info.flow_res = Err(gst::FlowError::Eos),
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Caps => {}
            other => {
                info.data = other;
                return gst::PadProbeReturn::Ok;
            }
        }
        gst::PadProbeReturn::Handled
    });
}

/// Notes how far the file was read, by a demuxer that pulls or one that is pushed to.
pub(super) fn watch_reading(output: &gst::Pad, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    output.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::PULL, move |_, info| {
        if let Some(buffer) = info.buffer() {
            shared.read.store(buffer.offset() + buffer.size() as u64, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Notes the first tag that says how pictures must be turned.
pub(super) fn watch_tags(output: &gst::Pad, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    let note = move |event: &gst::EventRef| {
        let gst::EventView::Tag(tag) = event.view() else { return };
        if let Some(orientation) = tag.tag().get::<gst::tags::ImageOrientation>() {
            let _ = shared.orientation.set(orientation.get().to_owned());
        }
    };
    // Those that came before there was anything to watch them.
    output.sticky_events_foreach(|event| {
        note(event);
        std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
    });
    output.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(event) = info.event() {
            note(event);
        }
        gst::PadProbeReturn::Ok
    });
}

fn is_too_large(width: u32, height: u32) -> bool {
    u64::from(width) * u64::from(height) > MOST_CLIP_PIXELS
}

fn size_of(caps: &gst::StructureRef) -> Option<(u32, u32)> {
    let side = |name| caps.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    side("width").zip(side("height"))
}

/// There is no parser of VP8: the size stands in the head of each key frame (RFC 6386, 9.1).
fn vp8_size(frame: &gst::BufferRef) -> Option<(u32, u32)> {
    let mut head = [0; 10];
    frame.copy_to_slice(0, &mut head).ok()?;
    key_frame_size(head)
}

fn key_frame_size(head: [u8; 10]) -> Option<(u32, u32)> {
    let [tag, _, _, 0x9d, 0x01, 0x2a, sizes @ ..] = head else { return None };
    let [width_low, width_high, height_low, height_high] = sizes;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    (tag & 1 == 0).then(|| (side(width_low, width_high), side(height_low, height_high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_vp8_is_read_from_its_key_frames() {
        let key = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0xe0, 0x01];
        assert_eq!(key_frame_size(key), Some((0x280, 0x1e0)));
        assert_eq!(key_frame_size([0x11, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0, 0, 0, 0]), None);
        assert_eq!(key_frame_size([0; 10]), None);
    }

    #[test]
    fn what_phones_make_is_not_too_large_either_way_up() {
        assert!(!is_too_large(3840, 2160) && !is_too_large(2160, 3840));
        assert!(is_too_large(7680, 4320) && is_too_large(16_384, 16_384) && is_too_large(u32::MAX, u32::MAX));
    }
}
