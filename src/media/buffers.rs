//! Pairs of frame and sound as GStreamer's buffers, with their presentation times.
//!
//! Runs on: any thread; nothing here waits.

use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::picture::I420Frame;
use crate::timeline::{FRAME_DURATION, FrameIndex, MediaTime, PLAYOUT_SAMPLES_PER_FRAME, Samples, Timeline};

/// Opus packets carry 20 ms, so each frame's sound goes in as two buffers: browsers buffer less than with 40 ms.
pub(super) const AUDIO_BUFFERS_PER_FRAME: usize = 2;
const SAMPLES_PER_BUFFER: usize = PLAYOUT_SAMPLES_PER_FRAME / AUDIO_BUFFERS_PER_FRAME;
const BYTES_PER_BUFFER: usize = SAMPLES_PER_BUFFER * 2;

/// A frame as the encoder takes it, sharing the pixels instead of copying them.
pub(super) fn video_buffer(frame: &Arc<I420Frame>, at: FrameIndex, timeline: &Timeline) -> gst::Buffer {
    struct Pixels(Arc<I420Frame>);
    impl AsRef<[u8]> for Pixels {
        fn as_ref(&self) -> &[u8] {
            &self.0.data
        }
    }

    let (width, height) = (frame.width, frame.height);
    let mut buffer = gst::Buffer::from_slice(Pixels(Arc::clone(frame)));
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(clock_time(timeline.video_pts(at)));
        buffer.set_duration(clock_time(MediaTime::from_nanos(duration_nanos(FRAME_DURATION))));
        let (luma, chroma) = (width as usize * height as usize, (width / 2) as usize * (height / 2) as usize);
        let (stride, chroma_stride) = (i32::try_from(width).unwrap_or(0), i32::try_from(width / 2).unwrap_or(0));
        // GStreamer pads rows to a multiple of four unless it is told that these are not.
        let described = gst_video::VideoMeta::add_full(
            buffer,
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::I420,
            width,
            height,
            &[0, luma, luma + chroma],
            &[stride, chroma_stride, chroma_stride],
        );
        if let Err(error) = described {
            tracing::error!(%error, width, height, "frame layout");
        }
    }
    buffer
}

/// The sound of a frame, in the pieces that Opus packs; `None` is silence.
pub(super) fn audio_buffers(
    audio: Option<&[i16; PLAYOUT_SAMPLES_PER_FRAME]>,
    at: FrameIndex,
    timeline: &Timeline,
) -> [gst::Buffer; AUDIO_BUFFERS_PER_FRAME] {
    const SILENCE: &[u8] = &[0; BYTES_PER_BUFFER];
    let first = timeline.first_sample(at).0;
    std::array::from_fn(|piece| {
        let start = piece * SAMPLES_PER_BUFFER;
        let mut buffer = match audio {
            None => gst::Buffer::from_slice(SILENCE),
            Some(samples) => {
                let piece = &samples[start..start + SAMPLES_PER_BUFFER];
                gst::Buffer::from_slice(piece.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())
            }
        };
        if let Some(buffer) = buffer.get_mut() {
            let begin = timeline.audio_pts(Samples(first + start as u64));
            let end = timeline.audio_pts(Samples(first + (start + SAMPLES_PER_BUFFER) as u64));
            buffer.set_pts(clock_time(begin));
            buffer.set_duration(clock_time(MediaTime::from_nanos(duration_nanos(end.since(begin)))));
        }
        buffer
    })
}

fn clock_time(time: MediaTime) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(time.nanos())
}

fn duration_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
