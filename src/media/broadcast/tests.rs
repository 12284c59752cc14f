//! Encodes that come and go with their viewers.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::media::description::names;
use crate::media::publisher::running_time;
use crate::media::testing::{Browser, FORMAT, PATIENCE, Stage, live, loopback, pair, until_connected, watch};
use crate::session::{ErrorCode, PeerEvent};
use crate::timeline::MediaTime;

impl Broadcast {
    /// Codecs that are being encoded now.
    pub(in crate::media) fn running(&self) -> Vec<Codec> {
        let running = self.shared.running.lock().unwrap();
        running.iter().filter_map(Weak::upgrade).map(|publisher| publisher.codec).collect()
    }
}

/// Waits until every pipeline that was let go is in NULL.
async fn torn_down(broadcast: &Broadcast) {
    let teardown = broadcast.teardown();
    tokio::task::spawn_blocking(move || teardown.wait()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_codec_has_one_encode_that_ends_with_its_last_viewer() {
    for (encoders, own, other, codec) in
        [(["x264enc", "vp8enc"], "H264", "VP8", Codec::Vp8), (["vp8enc", "x264enc"], "VP8", "H264", Codec::H264)]
    {
        let stage = Stage::open(&encoders);
        assert_eq!(stage.broadcast.running(), [], "nobody watches");
        let (mut first, _first_viewer, mut told) = watch(&stage, own).await;
        until_connected(&mut told).await;
        first.decoded("video", 5).await;
        let only_own = stage.broadcast.running();
        assert_eq!(only_own.len(), 1);
        let asked = stage.own().counters().key_frame_requests;

        let (mut second, second_viewer, mut told_second) = watch(&stage, other).await;
        until_connected(&mut told_second).await;
        second.decoded("video", 10).await;
        second.decoded("audio", 10).await;
        let (mut third, third_viewer, mut told_third) = watch(&stage, other).await;
        until_connected(&mut told_third).await;
        third.decoded("video", 5).await;
        assert_eq!(stage.broadcast.running(), [only_own[0], codec], "one encode for both");
        let publisher = stage.broadcast.publisher(codec).unwrap();
        assert_eq!((publisher.viewer_count(), stage.own().viewer_count()), (2, 1));
        assert!(publisher.counters().key_frame_requests >= 2, "each join asks the encode that it watches");
        assert_eq!(stage.own().counters().key_frame_requests, asked, "and no other");
        let pipeline = publisher.gst_pipeline().downgrade();
        drop(publisher);

        drop(second_viewer);
        third.decoded("video", 5).await;
        assert_eq!(stage.broadcast.running().len(), 2, "somebody still watches it");
        drop(third_viewer);
        // Their tasks let go of their senders when they are really gone.
        while told_second.recv().await.is_some() {}
        while told_third.recv().await.is_some() {}
        assert_eq!(stage.broadcast.running(), only_own);
        torn_down(&stage.broadcast).await;
        assert!(pipeline.upgrade().is_none());
        while first.decoded.try_recv().is_ok() {}
        first.decoded("video", 10).await;
        assert_eq!(stage.own().counters().dropped, 0, "the other encode did not notice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_has_the_sessions_codec_starts_no_other() {
    let stage = Stage::open(&["x264enc", "vp8enc"]);
    let (events, _told) = mpsc::channel(64);
    let chromium = include_str!("../../../tests/fixtures/sdp/chromium-156.sdp").to_owned();
    let _viewer = stage.broadcast.open_viewer(chromium, events, &loopback(), None).await.unwrap();
    assert_eq!(stage.broadcast.running(), [Codec::H264]);
}

#[tokio::test]
async fn without_a_second_codec_the_refusal_names_what_both_sides_have() {
    let stage = Stage::open(&["x264enc"]);
    let (events, _told) = mpsc::channel(64);
    let offer = Browser::new("VP8").offer().await;
    let error = stage.broadcast.open_viewer(offer, events, &loopback(), None).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NoCommonCodec);
    assert!(error.message.contains("is H264, ") && error.message.ends_with("only VP8"), "{}", error.message);
    assert_eq!(stage.broadcast.running(), []);
}

/// When the next pictures of an encode are presented, in running time of the session.
fn presented(publisher: &Publisher) -> mpsc::Receiver<MediaTime> {
    let (times, presented) = mpsc::channel(16);
    let pad = publisher.video.appsink().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let _ = times.try_send(info.buffer().and_then(|buffer| running_time(pad, buffer)).unwrap());
        gst::PadProbeReturn::Ok
    });
    presented
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_is_presented_at_one_moment_by_every_encode() {
    let (events, _failures) = mpsc::channel(4);
    let (broadcast, mut sink) = Broadcast::start(&live(&["x264enc", "vp8enc"]), FORMAT, events);
    let next = async |times: &mut mpsc::Receiver<MediaTime>| {
        tokio::time::timeout(PATIENCE, times.recv()).await.unwrap().unwrap()
    };
    let h264 = broadcast.publisher(Codec::H264).unwrap();
    let mut own = presented(&h264);
    sink.push(pair(0));
    let first = next(&mut own).await;
    // The other encode begins later, and not with the pair that is due.
    let other = broadcast.publisher(Codec::Vp8).unwrap();
    let mut late = presented(&other);
    for index in [7, 8, 10] {
        sink.push(pair(index));
        let at = next(&mut own).await;
        assert_eq!(next(&mut late).await, at);
        assert_eq!(at.since(first), Duration::from_millis(40 * index));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encode_that_fails_closes_its_own_viewers_and_the_next_offer_starts_another() {
    let mut stage = Stage::open(&["x264enc", "vp8enc"]);
    for (codec, other) in [(Codec::H264, Codec::Vp8), (Codec::Vp8, Codec::H264)] {
        let (_browser, _viewer, mut told) = watch(&stage, codec.encoding_name()).await;
        let (mut unhurt, _unhurt_viewer, mut unhurt_told) = watch(&stage, other.encoding_name()).await;
        until_connected(&mut unhurt_told).await;
        let failing = stage.broadcast.publisher(codec).unwrap();
        let encoder = failing.gst_pipeline().by_name(names::VIDEO_ENCODER).unwrap();
        gst::element_error!(encoder, gst::StreamError::Encode, ("out of memory"));
        let reason = loop {
            match tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap() {
                PeerEvent::Closed { reason } => break reason,
                PeerEvent::Candidate(_) | PeerEvent::Connected | PeerEvent::Network(_) => {}
            }
        };
        assert!(reason.contains("out of memory"), "{reason}");
        let told = loop {
            match stage.events.recv().await.unwrap() {
                MediaEvent::PublisherFailed { codec, element, message } => break (codec, element, message),
                MediaEvent::FirstPacket { .. } => {}
            }
        };
        assert!(told.0 == codec && told.1.ends_with("video_encoder") && told.2 == "out of memory", "{told:?}");
        while unhurt.decoded.try_recv().is_ok() {}
        unhurt.decoded("video", 5).await;

        let (mut again, _again_viewer, mut told) = watch(&stage, codec.encoding_name()).await;
        until_connected(&mut told).await;
        again.decoded("video", 5).await;
        assert!(!Arc::ptr_eq(&failing, &stage.broadcast.publisher(codec).unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_another_size_come_to_the_same_viewer_from_a_key_frame_on() {
    let large = VideoFormat { width: 480, height: 640 };
    for (encoder, codec, property, bitrates) in [
        ("x264enc", "H264", "bitrate", ["1689", "200"]),
        ("openh264enc", "H264", "bitrate", ["1689000", "200000"]),
        ("vp8enc", "VP8", "target-bitrate", ["1689000", "200000"]),
    ] {
        let mut stage = Stage::open(&[encoder]);
        let (mut browser, _viewer, mut told) = watch(&stage, codec).await;
        until_connected(&mut told).await;
        let publisher = stage.own();
        let next = async |browser: &mut Browser| {
            let format = tokio::time::timeout(PATIENCE, browser.formats.recv());
            format.await.unwrap_or_else(|_| panic!("{encoder}: {:?}", publisher.counters())).unwrap()
        };
        assert_eq!(next(&mut browser).await, FORMAT);
        for (format, bitrate) in [large, FORMAT].into_iter().zip(bitrates) {
            let before = publisher.counters();
            stage.format.send_replace(format);
            assert_eq!(next(&mut browser).await, format, "{encoder}");
            browser.decoded("video", 5).await;
            assert!(publisher.counters().key_frames > before.key_frames, "{encoder}");
            let given = publisher.gst_pipeline().by_name(names::VIDEO_ENCODER).unwrap().property_value(property);
            assert_eq!(given.serialize().unwrap(), bitrate, "{encoder}");
        }
        assert!(Arc::ptr_eq(&publisher, &stage.own()), "{encoder}: no other encode was started");
        assert!(stage.events.try_recv().is_err(), "{encoder}: nothing failed");

        // Whoever comes later has an encode of the size that there is by then.
        stage.format.send_replace(large);
        assert_eq!(next(&mut browser).await, large, "{encoder}");
        drop((publisher, _viewer));
        while told.recv().await.is_some() {}
        torn_down(&stage.broadcast).await;
        let (mut late, _late_viewer, _told) = watch(&stage, codec).await;
        assert_eq!(late.formats.recv().await, Some(large), "{encoder}");
    }
}

#[tokio::test]
async fn a_session_that_ends_starts_no_encode() {
    let (events, _failures) = mpsc::channel(4);
    let (broadcast, sink) = Broadcast::start(&live(&["x264enc", "vp8enc"]), FORMAT, events);
    drop(sink);
    assert!(matches!(broadcast.publisher(Codec::Vp8), Err(MediaError::SessionEnds)));
    assert_eq!(broadcast.running(), []);
}
