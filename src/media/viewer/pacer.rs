//! How fast the packets of a viewer's pictures leave.
//!
//! In here: a bucket behind the payloader. What an encoder makes of an ordinary picture leaves at once, which costs one call
//! of the system; a key frame is many times as large, and its rest is spread, so that it does not overflow the queue of a
//! narrow path or stand in front of the sound. While a queue is full packets leave no faster than they come out of it, so
//! that each finds room. GStreamer 1.22 has nothing of this: `rtpbin` sends what it gets, and `rtpgccbwe` paces in a thread of
//! its own for each viewer. Not in here: retransmissions, which are few, and the rate itself (`adaptation`).
//! Runs on: the streaming thread of the viewer's own `appsrc`, which sleeps for up to `MOST_BEHIND`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::gate::Gate;
use super::transport::Transport;
use crate::timeline::FRAME_DURATION;

/// Beyond its ordinary pictures a viewer is sent its rate so many times over.
const OF_RATE: f64 = 2.5;
/// What leaves at once, in pictures of the rate.
const AT_ONCE: f64 = 1.5;
/// Of what comes out of a full queue: what is sent next must find room.
const OF_CARRIED: f64 = 0.8;
/// What leaves at once then, as time.
const AT_ONCE_FULL: Duration = Duration::from_millis(5);
/// Longer than so nothing waits here: pictures would pile up in front.
const MOST_BEHIND: Duration = Duration::from_millis(160);

/// The pace of one viewer's pictures.
#[derive(Debug)]
pub(super) struct Pacer {
    /// Bits a second that the pictures have.
    rate: AtomicU32,
    /// Bits a second that come out of a full queue; 0 while there is none.
    carried: AtomicU32,
}

/// How far what was sent reaches.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it is empty.
    empty: Instant,
}

impl Pacer {
    pub fn new(rate: u32) -> Arc<Self> {
        Arc::new(Self { rate: AtomicU32::new(rate), carried: AtomicU32::new(0) })
    }

    /// The pictures have so many bits a second from now on; `carried` come out of a queue that is full.
    pub fn set(&self, rate: u32, carried: Option<u32>) {
        self.rate.store(rate, Ordering::Relaxed);
        self.carried.store(carried.unwrap_or(0), Ordering::Relaxed);
    }

    /// Stands behind a payloader, and tells the transport where another rung begins.
    pub fn guard(self: &Arc<Self>, payloader: &gst::Element, gate: &Arc<Gate>, transport: &Arc<Transport>) {
        let Some(pad) = payloader.static_pad("src") else { return };
        let (pacer, gate, transport) = (Arc::clone(self), Arc::clone(gate), Arc::clone(transport));
        // Only this pad's streaming thread takes the lock, and never while it pushes.
        let bucket = Mutex::new(Bucket { empty: Instant::now() });
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |pad, info| {
            let (first, bytes) = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => (Some(buffer.as_ref()), buffer.size()),
                Some(gst::PadProbeData::BufferList(list)) => (list.get(0), list.iter().map(gst::BufferRef::size).sum()),
                _ => return gst::PadProbeReturn::Ok,
            };
            if let Some(first) = first
                && gate.begins()
                && let Some(number) = sequence_number(first)
            {
                transport.begins_at(number);
            }
            let bucket = || bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if pacer.fits(&mut bucket(), Instant::now(), bytes) {
                return gst::PadProbeReturn::Ok;
            }
            match info.data.take() {
                Some(gst::PadProbeData::BufferList(list)) if list.len() > 1 => {
                    // One after the other, each through here.
                    for packet in list.iter_owned() {
                        if let Err(error) = pad.push(packet) {
                            info.flow_res = Err(error);
                            break;
                        }
                    }
                    return gst::PadProbeReturn::Handled;
                }
                data => info.data = data,
            }
            let waits = pacer.waits(&mut bucket(), Instant::now(), bytes);
            if !waits.is_zero() {
                // Nobody unparks a streaming thread, and a packet that leaves early does no harm.
                std::thread::park_timeout(waits);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Bits a second, and how much leaves at once, as time.
    fn pace(&self) -> (f64, Duration) {
        let (rate, carried) = (self.rate.load(Ordering::Relaxed), self.carried.load(Ordering::Relaxed));
        match carried {
            0 => (OF_RATE * f64::from(rate), FRAME_DURATION.mul_f64(AT_ONCE / OF_RATE)),
            carried => (OF_CARRIED * f64::from(carried), AT_ONCE_FULL),
        }
    }

    /// Whether all of it leaves at once, as one list; then it has left.
    fn fits(&self, bucket: &mut Bucket, now: Instant, bytes: usize) -> bool {
        let (pace, at_once) = self.pace();
        let empty = bucket.empty.max(now) + takes(bytes, pace);
        let fits = empty <= now + at_once;
        if fits {
            bucket.empty = empty;
        }
        fits
    }

    /// How long a packet waits that is to leave now.
    fn waits(&self, bucket: &mut Bucket, now: Instant, bytes: usize) -> Duration {
        let (pace, at_once) = self.pace();
        // A packet leaves when there is room for its first bit.
        let waits = bucket.empty.saturating_duration_since(now + at_once).min(MOST_BEHIND);
        bucket.empty = bucket.empty.clamp(now, now + at_once + MOST_BEHIND) + takes(bytes, pace);
        waits
    }
}

fn takes(bytes: usize, pace: f64) -> Duration {
    let bits = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) * 8.0;
    Duration::from_secs_f64(bits / pace.max(1.0)).min(MOST_BEHIND)
}

/// Of an RTP packet.
fn sequence_number(packet: &gst::BufferRef) -> Option<u16> {
    let mut number = [0; 2];
    packet.copy_to_slice(2, &mut number).ok()?;
    Some(u16::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each packet of a picture leaves after the first.
    fn leaves(pacer: &Pacer, bytes: usize) -> Vec<Duration> {
        let began = Instant::now();
        let (mut now, mut bucket) = (began, Bucket { empty: began });
        let packets = std::iter::repeat_n(1200, bytes / 1200);
        packets
            .map(|size| {
                now += pacer.waits(&mut bucket, now, size);
                now - began
            })
            .collect()
    }

    #[test]
    fn an_ordinary_picture_leaves_at_once_and_a_key_frame_within_some_pictures() {
        let pacer = Pacer::new(1_500_000);
        assert_eq!(leaves(&pacer, 8400).last(), Some(&Duration::ZERO));
        let now = Instant::now();
        let mut bucket = Bucket { empty: now };
        assert!(pacer.fits(&mut bucket, now, 8400) && !pacer.fits(&mut bucket, now, 8400));
        assert!(pacer.fits(&mut bucket, now + FRAME_DURATION, 8400), "every 40 ms");
        let key_frame = leaves(&pacer, 36_000);
        let took = key_frame.last().unwrap().as_millis();
        assert!((40..60).contains(&took) && key_frame.is_sorted(), "{key_frame:?}");
    }

    #[test]
    fn while_a_queue_is_full_packets_leave_as_they_come_out_of_it() {
        let pacer = Pacer::new(200_000);
        pacer.set(200_000, Some(400_000));
        let took = leaves(&pacer, 4800).last().unwrap().as_millis();
        assert!((75..95).contains(&took), "three packets before the last, 30 ms each: {took} ms");
        let longest = leaves(&pacer, 60_000).windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= MOST_BEHIND);
    }
}
