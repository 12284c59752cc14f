//! Packets that pass a pad, looked at one by one.
//!
//! Not in here: what is looked for (`inbound`, `viewer::transport`).
//! Runs on: the pad's streaming thread.

use gstreamer as gst;
use gstreamer::prelude::*;

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Whole,
    /// This instead of it.
    Part(Vec<u8>),
    Nothing,
}

/// Lets through a pad what `judge` keeps of each packet.
pub(super) fn keep(pad: &gst::Pad, judge: impl Fn(&[u8]) -> Kept + Send + Sync + 'static) {
    let kept = move |buffer: gst::Buffer| -> Option<gst::Buffer> {
        let judged = buffer.map_readable().map_or(Kept::Nothing, |packet| judge(&packet));
        match judged {
            Kept::Whole => Some(buffer),
            Kept::Nothing => None,
            Kept::Part(part) => {
                let mut other = gst::Buffer::from_mut_slice(part);
                let flags = gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META | gst::BufferCopyFlags::FLAGS;
                // Only of what describes the packet; that cannot fail without memory to copy.
                let _ = buffer.copy_into(other.make_mut(), flags, ..);
                Some(other)
            }
        }
    };
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
        let left = match info.data.take() {
            Some(gst::PadProbeData::Buffer(buffer)) => kept(buffer).map(gst::PadProbeData::Buffer),
            Some(gst::PadProbeData::BufferList(list)) => {
                let mut left = gst::BufferList::new_sized(list.len());
                list.iter_owned().filter_map(&kept).for_each(|packet| left.make_mut().add(packet));
                (!left.is_empty()).then_some(gst::PadProbeData::BufferList(left))
            }
            other => other,
        };
        info.data = left;
        if info.data.is_some() { gst::PadProbeReturn::Ok } else { gst::PadProbeReturn::Handled }
    });
}
