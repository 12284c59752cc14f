//! One pipeline taking the place of another, judged by what a consumer of the stream gets.

use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;

use super::*;
use crate::kit::peer::each_of;
use crate::media::testing::{FORMAT, PATIENCE, encoders, pair};
use crate::media::{Broadcast, Description, LivePipelines};
use crate::playout::PairSink;
use crate::timeline::FRAME_DURATION;

/// A session's stream as whoever takes it gets it.
struct Taken {
    /// Of each encoded picture: when it is presented in ms, and whether it is a key frame.
    pictures: Arc<Mutex<Vec<(u64, bool)>>>,
    /// When each packet of sound is presented, in ms.
    packets: Arc<Mutex<Vec<u64>>>,
    /// What each decoded picture shows: the number of its pair.
    shown: Arc<Mutex<Vec<u64>>>,
    came: blocking::Receiver<()>,
    /// The same for whoever plays.
    pace: Option<blocking::Receiver<()>>,
    _links: Vec<gstreamer_utils::ConsumptionLink>,
    pipeline: gst::Pipeline,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn ms(time: Option<MediaTime>) -> u64 {
    (time.unwrap().nanos() + 500_000) / 1_000_000
}

impl Taken {
    fn of(publisher: &Publisher) -> Self {
        let decoder = if publisher.codec == Codec::H264 { "h264parse ! openh264dec" } else { "vp8dec" };
        let text = format!("appsrc name=source ! {decoder} ! video/x-raw,format=I420 ! appsink name=shown sync=false");
        let pipeline = gst::parse::launch(&text).unwrap().downcast::<gst::Pipeline>().unwrap();
        let (pictures, packets, shown) = <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>)>::default();
        let numbers = Arc::clone(&shown);
        each_of(pipeline.upcast_ref(), "shown", move |sample| {
            let picture = sample.buffer().unwrap().map_readable().unwrap();
            // The middle of it, which is all of one grey.
            numbers.lock().unwrap().push(u64::from(picture[picture.len() / 3]));
        });
        let taken = Arc::clone(&pictures);
        let (comes, came) = blocking::sync_channel(1000);
        let (paces, pace) = blocking::sync_channel(1000);
        watch(&publisher.video, move |at, is_key| {
            taken.lock().unwrap().push((at, is_key));
            let _ = (comes.try_send(()), paces.try_send(()));
        });
        let heard = Arc::clone(&packets);
        if let Some(audio) = &publisher.audio {
            watch(audio, move |at, _| heard.lock().unwrap().push(at));
        }
        let source = pipeline.by_name("source").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        // Which makes it a live source, before it starts.
        let _links = vec![publisher.video.add_consumer(&source).unwrap()];
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pictures, packets, shown, came, pace: Some(pace), _links, pipeline }
    }

    /// Waits for so many pictures from now on.
    fn more(&self, pictures: usize) {
        self.came.try_iter().for_each(drop);
        for _ in 0..pictures {
            self.came.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn assert_whole(&self, encoder: &str, key_frames: usize) {
        let pictures = self.pictures.lock().unwrap().clone();
        let steps: Vec<u64> = pictures.windows(2).map(|two| two[1].0 - two[0].0).collect();
        assert!(pictures.len() > 10 && steps.iter().all(|step| *step == 40), "{encoder}: {pictures:?}");
        let keys = pictures.iter().filter(|(_, is_key)| *is_key).count();
        assert_eq!(keys, key_frames, "{encoder}: {pictures:?}");
        let packets = self.packets.lock().unwrap().clone();
        // The first one of all is shorter, as Opus' encoder looks ahead. Only the first rung has sound.
        let is_next = |two: &[u64]| two[1] - two[0] == 20;
        assert!(
            packets.is_empty() || packets.len() > 20 && packets[1..].windows(2).all(is_next),
            "{encoder}: {packets:?}"
        );
        let shown = self.shown.lock().unwrap().clone();
        let is_next = |two: &[u64]| two[1] > two[0] && two[1] <= two[0] + 3;
        assert!(shown.len() > 10 && shown.windows(2).all(is_next), "{encoder}: {shown:?}");
    }
}

fn watch(stream: &gstreamer_utils::StreamProducer, seen: impl Fn(u64, bool) + Send + Sync + 'static) {
    let pad = stream.appsink().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        seen(ms(running_time(pad, buffer)), !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT));
        gst::PadProbeReturn::Ok
    });
}

/// A pair every 40 ms until it is dropped, and none before the last one has come, so that a machine with no time for either is
/// no reason for an encoder to leave pictures out.
struct Played {
    stop: Option<blocking::SyncSender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Played {
    fn start(mut sink: impl PairSink + 'static, taken: &mut Taken) -> Self {
        let (stop, stopped) = blocking::sync_channel(0);
        let pace = taken.pace.take().unwrap();
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            // Each a grey of its own, by which it is told from the one before.
            for index in 20.. {
                sink.push(pair(index));
                let _ = pace.recv_timeout(FRAME_DURATION * 5);
                due = Instant::now().max(due + FRAME_DURATION);
                let left = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(left) == Err(blocking::RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The same with something else in its publish description.
fn edited(selected: &Selected, changes: &[(&str, &str)]) -> Selected {
    let mut text = selected.publish.text().to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let publish = Description::new(selected.publish.file(), text).unwrap();
    Selected { publish, ..selected.clone() }
}

const OPENH264: &[(&str, &str)] = &[
    ("x264enc", "openh264enc"),
    (
        "tune=zerolatency speed-preset=superfast threads=1 sliced-threads=false\n      bitrate={bitrate_kbps} vbv-buf-capacity=400 key-int-max=500 bframes=0 ref=1 aud=false",
        "bitrate={bitrate} gop-size=500 enable-frame-skip=false",
    ),
];

#[test]
fn another_pipeline_takes_over_at_a_key_frame_and_no_picture_or_sound_is_missing_or_comes_twice() {
    let bits = &[("bitrate={bitrate_kbps}", "bitrate=400")][..];
    let vp8 =
        &[("keyframe-max-dist=500", "keyframe-max-dist=400"), ("frame-size=20", "frame-size=20 bitrate-type=cbr")];
    for (encoder, rung, changes, property) in [
        ("x264enc", Rung::Full, bits, "bitrate"),
        // Another encoder counts its time from elsewhere.
        ("x264enc", Rung::Full, OPENH264, "gop-size"),
        ("x264enc", Rung::Low, bits, "bitrate"),
        ("vp8enc", Rung::Full, &vp8[..], "target-bitrate"),
    ] {
        let (events, _told) = mpsc::channel(4);
        let encoders = encoders(&[encoder]);
        let (broadcast, sink) = Broadcast::start(&LivePipelines::of((*encoders).clone()), FORMAT, events);
        let publisher = broadcast.rung(encoders.preferred.codec, rung).unwrap();
        let mut taken = Taken::of(&publisher);
        let played = Played::start(sink, &mut taken);
        taken.more(4);
        let before = publisher.gst_pipeline();
        let selected = edited(&encoders.preferred, changes);
        assert!(!publisher.is_of(&selected));
        publisher.replace(&selected).unwrap();
        assert!(publisher.is_of(&selected) && publisher.gst_pipeline() != before);
        taken.more(6);
        drop(played);
        taken.assert_whole(encoder, 2);
        let found = publisher.gst_pipeline().by_name(&format!("video_encoder{}", rung.suffix())).unwrap();
        assert!(found.find_property(property).is_some(), "{encoder}");
        // The one before is gone, threads and all.
        let weak = before.downgrade();
        drop(before);
        broadcast.teardown().wait();
        assert!(weak.upgrade().is_none(), "{encoder}");
        drop(taken);
    }
}

#[test]
fn a_pipeline_that_never_gives_a_key_frame_is_given_up_and_the_one_before_goes_on() {
    let (events, _told) = mpsc::channel(4);
    let encoders = encoders(&["x264enc"]);
    let (broadcast, sink) = Broadcast::start(&LivePipelines::of((*encoders).clone()), FORMAT, events);
    let publisher = broadcast.publisher(Codec::H264).unwrap();
    let mut taken = Taken::of(&publisher);
    let played = Played::start(sink, &mut taken);
    taken.more(4);
    let out = "! appsink name=video_out sync";
    for (inserted, patience, says) in [
        ("! identity error-after=1", PATIENCE, "publish-x264enc.launch"),
        ("! valve drop=true", FRAME_DURATION * 8, "within 320ms"),
    ] {
        let broken = edited(&encoders.preferred, &[(out, &format!("{inserted} {out}"))]);
        let error = publisher.replace_within(&broken, patience).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!publisher.has_failed() && !publisher.is_of(&broken));
    }
    publisher.request_key_frame();
    taken.more(6);
    drop(played);
    taken.assert_whole("x264enc", 2);
}
