//! What goes to one viewer and what its receiver reports of it: transport-wide numbers on our packets, and the rate that
//! follows from the reports.
//!
//! In here: the header extension, put into each packet of the video before it is encrypted, so that retransmissions have a
//! number of their own. webrtcbin knows nothing of it: its rtpsession (1.22) would read the reports in C and remember every
//! packet until one comes. Not in here: what is thought of the reports (`congestion`), what is done then (`adaptation`).
//! Runs on: GStreamer's threads, in pad probes, holding the lock for microseconds.

#[cfg(test)]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use tokio::sync::Notify;

use super::key_frames::KeyFrames;
use super::redundancy::Redundancy;
use super::retransmissions::Retransmissions;
use crate::media::congestion::feedback::{TransportFeedback, report_blocks};
use crate::media::congestion::{Congestion, Estimate};
use crate::media::inbound::Inbound;
use crate::media::offer::Track;
use crate::media::packets::{Kept, keep};

/// What SRTP, UDP and IP add to a packet.
const OVERHEAD: usize = 10 + 8 + 20;

/// What is older is of no use to a viewer when it comes.
const SENT_AGAIN_MS: u32 = 1000;

/// The path to one viewer.
#[derive(Debug)]
pub struct Transport {
    started: Instant,
    control: Mutex<Congestion>,
    video_ssrc: u32,
    /// Payload types that get a number, and the extension's own; absent if the viewer does not report.
    stamped: Option<(u8, Option<u8>, u8)>,
    retransmissions: Mutex<Retransmissions>,
    /// Of the sound, if the viewer takes copies.
    redundancy: Option<Mutex<Redundancy>>,
    key_frames: Mutex<KeyFrames>,
    /// What is known now is worse than what was looked at last.
    worse: Notify,
    was_congested: AtomicBool,
    /// Milliseconds that are supposed to have passed besides.
    #[cfg(test)]
    skipped: AtomicU64,
}

impl Transport {
    /// `most`: bits a second that are ever of use.
    pub fn new(video: Option<&Track>, audio: Option<&Track>, video_ssrc: u32, most: u32) -> Arc<Self> {
        let stamped = video.and_then(|track| Some((track.payload_type, track.rtx, track.transport_extension?)));
        let control = Mutex::new(Congestion::new(most));
        Arc::new(Self {
            started: Instant::now(),
            control,
            video_ssrc,
            stamped,
            retransmissions: Mutex::default(),
            redundancy: audio.and_then(|track| Some(Mutex::new(Redundancy::new(track.payload_type, track.red?)))),
            key_frames: Mutex::default(),
            worse: Notify::new(),
            was_congested: AtomicBool::new(false),
            #[cfg(test)]
            skipped: AtomicU64::new(0),
        })
    }

    /// Numbers what leaves a pipeline, and reads what its guard lets in.
    pub fn watch(self: &Arc<Self>, pipeline: &gst::Pipeline, inbound: &Inbound) {
        let transport = Arc::clone(self);
        inbound.report_to(Box::new(move |report| transport.reported(report)));
        if self.stamped.is_none() && self.redundancy.is_none() {
            return;
        }
        let transport = Arc::clone(self);
        pipeline.connect_deep_element_added(move |_, _, element| {
            let factory = element.factory();
            if factory.as_ref().is_some_and(|factory| factory.name() == "rtprtxsend") {
                // Large pictures are hundreds of packets a second, of which it keeps a hundred by itself.
                element.set_property("max-size-packets", 0u32);
                element.set_property("max-size-time", SENT_AGAIN_MS);
            }
            if factory.is_some_and(|factory| factory.name() == "srtpenc") {
                let number = |transport: &Arc<Self>, pad: &gst::Pad| {
                    if pad.name().starts_with("rtp_sink") {
                        let transport = Arc::clone(transport);
                        keep(pad, move |packet| transport.leaves(packet));
                    }
                };
                for pad in element.sink_pads() {
                    number(&transport, &pad);
                }
                let transport = Arc::clone(&transport);
                element.connect_pad_added(move |_, pad| number(&transport, pad));
            }
        });
    }

    pub fn estimate(&self) -> Estimate {
        self.control().estimate()
    }

    /// Of the pictures that there are now so many bits a second may be of use.
    pub fn limit(&self, most: u32) {
        self.control().limit(most);
    }

    /// The video that is sent by now has so many bits a second.
    pub fn given(&self, rate: u32) {
        let now = self.now();
        let mut control = self.control();
        control.given(rate);
        if control.is_unheard(now) {
            control.unheard(now);
        }
        let estimate = control.estimate();
        drop(control);
        if let Some(sound) = &self.redundancy {
            locked(sound).follow(now, &estimate, rate);
        }
    }

    /// On the clock that everything here is told by.
    pub fn now(&self) -> Duration {
        #[cfg(test)]
        let skipped = Duration::from_millis(self.skipped.load(Ordering::Relaxed));
        #[cfg(not(test))]
        let skipped = Duration::ZERO;
        self.started.elapsed() + skipped
    }

    /// As if so many reports had come, a quarter of a second apart, each of so many of 256 packets lost.
    #[cfg(test)]
    pub fn suppose(&self, lost: u8, reports: u32) {
        for _ in 0..reports {
            self.skipped.fetch_add(250, Ordering::Relaxed);
            self.control().receiver_report(self.now(), lost);
        }
    }

    fn control(&self) -> MutexGuard<'_, Congestion> {
        locked(&self.control)
    }

    fn leaves(&self, packet: &[u8]) -> Kept {
        let payload_type = packet.get(1).map_or(0, |second| second & 0x7f);
        let is_of_pictures =
            |(video, rtx, _): &(u8, Option<u8>, u8)| payload_type == *video || Some(payload_type) == *rtx;
        let Some((_, _, extension)) = self.stamped.filter(is_of_pictures) else {
            return self.redundancy.as_ref().map_or(Kept::Whole, |sound| locked(sound).leaves(packet));
        };
        let now = self.now();
        with_number(packet, extension, || self.control().sent(now, packet.len() + 8 + OVERHEAD))
            .map_or(Kept::Whole, Kept::Part)
    }

    /// What of a report goes on to rtpbin.
    fn reported(&self, report: &[u8]) -> Kept {
        let now = self.now();
        match report {
            [first, 205, ..] if first & 0x1f == 15 => {
                if let Some(feedback) = TransportFeedback::parse(report) {
                    self.control().transport_feedback(now, &feedback);
                    self.hurry();
                }
            }
            [first, 205, _, _, _, _, _, _, a, b, c, d, ..]
                if first & 0x1f == 1 && u32::from_be_bytes([*a, *b, *c, *d]) == self.video_ssrc =>
            {
                let Estimate { round_trip, queue, .. } = self.control().estimate();
                return self.retransmissions().answer(now, round_trip, queue, report);
            }
            [first, 206, ..] if matches!(first & 0x1f, 1 | 4) && !locked(&self.key_frames).admits(now) => {
                return Kept::Nothing;
            }
            [_, 200 | 201, ..] => {
                for (_, lost) in report_blocks(report).filter(|(source, _)| *source == self.video_ssrc) {
                    self.control().receiver_report(now, lost);
                }
            }
            _ => {}
        }
        Kept::Whole
    }

    /// Pictures begin anew with this packet: those before it are not sent again.
    pub fn begins_at(&self, sequence_number: u16) {
        let now = self.now();
        self.retransmissions().begins_at(now, sequence_number);
    }

    /// Waits until the path is full, or fuller than it can bear, all at once: that is no time to wait for the next look.
    pub async fn worse(&self) {
        self.worse.notified().await;
    }

    fn hurry(&self) {
        let is_congested = self.estimate().is_congested;
        if !self.was_congested.swap(is_congested, Ordering::Relaxed) && is_congested {
            self.worse.notify_one();
        }
    }

    fn retransmissions(&self) -> MutexGuard<'_, Retransmissions> {
        locked(&self.retransmissions)
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An RTP packet without extensions, with a transport-wide number in one of one byte (RFC 8285).
fn with_number(packet: &[u8], extension: u8, number: impl FnOnce() -> u16) -> Option<Vec<u8>> {
    let first = *packet.first().filter(|first| **first & 0xd0 == 0x80)?;
    let (header, payload) = packet.split_at_checked(12 + 4 * usize::from(first & 0x0f))?;
    let [high, low] = number().to_be_bytes();
    let mut numbered = Vec::with_capacity(packet.len() + 8);
    numbered.extend_from_slice(header);
    numbered.extend_from_slice(&[0xbe, 0xde, 0, 1, extension << 4 | 1, high, low, 0]);
    numbered.extend_from_slice(payload);
    if let Some(first) = numbered.first_mut() {
        *first |= 0x10;
    }
    Some(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_gets_its_number_behind_its_header_and_keeps_the_rest() {
        let packet = [0x81, 0xec, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 9, 8, 7];
        let numbered = with_number(&packet, 4, || 0x1234).unwrap();
        assert_eq!(numbered[..16], [0x91, 0xec, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(numbered[16..], [0xbe, 0xde, 0, 1, 0x41, 0x12, 0x34, 0, 9, 8, 7]);
        let extended = [0x90, 0xec, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        for other in [&extended[..], &packet[..14], &[], &[0x41]] {
            assert_eq!(with_number(other, 4, || panic!("a number is lost")), None, "{other:?}");
        }
    }

    #[test]
    fn only_video_and_its_retransmissions_are_numbered_where_the_viewer_reports() {
        let packet = |payload_type: u8| [0x80, payload_type, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 5];
        let of = |stamped| Transport {
            started: Instant::now(),
            skipped: AtomicU64::new(0),
            retransmissions: Mutex::default(),
            redundancy: None,
            key_frames: Mutex::default(),
            worse: Notify::new(),
            was_congested: AtomicBool::new(false),
            control: Mutex::new(Congestion::new(1_000_000)),
            video_ssrc: 3,
            stamped,
        };
        let transport = of(Some((108, Some(109), 4)));
        for (payload_type, is_numbered) in [(108, true), (109, true), (108 | 0x80, true), (111, false)] {
            assert_eq!(transport.leaves(&packet(payload_type)) != Kept::Whole, is_numbered, "{payload_type}");
        }
        assert_eq!(of(None).leaves(&packet(108)), Kept::Whole);
    }
}
