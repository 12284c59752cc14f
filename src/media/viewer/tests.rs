//! Viewers against a webrtcbin that takes a browser's part, over loopback.

use std::sync::Weak;

use tokio::sync::watch;
use tokio::time::Instant;

use super::reports::{CONNECT_TIMEOUT, RECONNECT_TIME, with_candidates};
use super::*;
use crate::media::pipeline::BusReport;
use crate::media::testing::{Browser, FORMAT, PATIENCE, Stage, encoders, join, loopback, pair, until_connected, watch};
use crate::media::{Codec, VideoFormat};
use crate::playout::PairSink;

const CHROMIUM: &str = include_str!("../../../tests/fixtures/sdp/chromium-156.sdp");
const FIREFOX: &str = include_str!("../../../tests/fixtures/sdp/firefox-like.sdp");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_and_hears_the_session() {
    for (encoder, codec) in [("x264enc", "H264"), ("openh264enc", "H264"), ("vp8enc", "VP8")] {
        let stage = Stage::open(&[encoder]);
        let (mut browser, viewer, mut told) = watch(&stage, codec).await;
        until_connected(&mut told).await;
        browser.decoded("audio", 10).await;
        browser.decoded("video", 10).await;
        assert_eq!(stage.own().viewer_count(), 1);
        let stats = viewer.stats().await.unwrap();
        assert!(stats.pushed >= 20, "{encoder}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_with_a_microphone_is_heard_and_sees_and_hears_all_the_same() {
    let stage = Stage::open(&["vp8enc"]);
    let (microphone, mut heard) = mpsc::channel(64);
    let (mut browser, viewer, mut told) = join(&stage, Browser::with_microphone("VP8"), Some(microphone)).await;
    assert_eq!(viewer.answer().matches("a=sendrecv").count(), 1, "{}", viewer.answer());
    until_connected(&mut told).await;
    browser.decoded("video", 10).await;
    browser.decoded("audio", 10).await;
    let mut samples: Vec<i16> = Vec::new();
    let mut times = Vec::new();
    while samples.len() < 48_000 {
        let sound = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
        times.push((sound.at, samples.len()));
        samples.extend(sound.samples);
    }
    // 440 Hz crosses zero 880 times a second; the decoder needs a moment.
    let crossings = samples[40_000..].windows(2).filter(|pair| (pair[0] < 0) != (pair[1] < 0)).count();
    assert!((420..=460).contains(&crossings), "{crossings} crossings in half a second");
    // Not piece by piece: after a machine has stood still for a moment, packets come in a burst and are dated so.
    let (first, last) = (times[0], times[times.len() - 1]);
    let (passed, sounded) = ((last.0 - first.0).as_secs_f64(), (last.1 - first.1) as f64 / 16_000.0);
    assert!((0.5 * sounded..1.5 * sounded).contains(&passed), "{sounded} s of sound are dated over {passed} s");
    drop(viewer);
    let rest = async { while heard.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the microphone ends with its viewer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_microphone_that_nobody_listens_to_disturbs_nothing() {
    let stage = Stage::open(&["vp8enc"]);
    let (mut browser, _viewer, mut told) = join(&stage, Browser::with_microphone("VP8"), None).await;
    until_connected(&mut told).await;
    browser.decoded("video", 50).await;
    assert!(told.try_recv().is_err_and(|error| error == mpsc::error::TryRecvError::Empty));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_holds_our_candidates_and_retransmission() {
    let stage = Stage::open(&["vp8enc"]);
    let (events, _told) = mpsc::channel(64);
    let viewer = stage.broadcast.open_viewer(CHROMIUM.to_owned(), events, &loopback(), None).await.unwrap();
    let answer = viewer.answer();
    assert!(answer.contains(" 127.0.0.1 "), "{answer}");
    assert!(answer.contains("a=end-of-candidates\r\n"), "{answer}");
    assert!(answer.lines().any(|line| line == "a=rtcp-fb:96 nack"), "{answer}");
    assert_eq!(answer.matches("a=sendonly").count(), 2, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_offers_are_answered_by_webrtcbin() {
    for (encoder, payload_types) in [("x264enc", ["108", "126"]), ("vp8enc", ["96", "120"])] {
        let stage = Stage::open(&[encoder]);
        for (offer, video) in [CHROMIUM, FIREFOX].into_iter().zip(payload_types) {
            let (events, _told) = mpsc::channel(64);
            let viewer = stage.broadcast.open_viewer(offer.to_owned(), events, &loopback(), None).await.unwrap();
            let expected = format!("m=video 9 UDP/TLS/RTP/SAVPF {video}");
            assert!(viewer.answer().contains(&expected), "{}", viewer.answer());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_offer_leaves_no_viewer() {
    let stage = Stage::open(&["x264enc"]);
    let (events, _told) = mpsc::channel(64);
    for (offer, code) in [
        (CHROMIUM.replace("H264", "H265"), ErrorCode::NoCommonCodec),
        (CHROMIUM.replace("a=recvonly", "a=sendonly"), ErrorCode::OfferNotReceivable),
        (CHROMIUM[..CHROMIUM.len() / 2].to_owned(), ErrorCode::BadSdp),
    ] {
        let error = stage.broadcast.open_viewer(offer, events.clone(), &loopback(), None).await.unwrap_err();
        assert_eq!(error.code, code);
    }
    assert_eq!(stage.broadcast.running(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewer_pipeline_is_freed_when_dropped_while_connected() {
    let stage = Stage::open(&["x264enc"]);
    let (mut browser, viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    browser.decoded("video", 3).await;
    let pipeline = viewer.pipeline().downgrade();
    drop(viewer);
    // The pump task lets go of its sender when it is really gone.
    while told.recv().await.is_some() {}
    let teardown = stage.broadcast.teardown();
    tokio::task::spawn_blocking(move || teardown.wait()).await.unwrap();
    assert!(pipeline.upgrade().is_none());
    assert_eq!(stage.broadcast.running(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publisher_pipeline_is_freed_when_dropped() {
    let stage = Stage::open(&["x264enc"]);
    let pipeline = stage.own().gst_pipeline().downgrade();
    let teardown = stage.broadcast.teardown();
    stage.playout.abort();
    let _ = (&mut { stage }.playout).await;
    tokio::task::spawn_blocking(move || teardown.wait()).await.unwrap();
    assert!(pipeline.upgrade().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_viewer_costs_no_second_encode_and_one_key_frame_at_most() {
    let stage = Stage::open(&["x264enc"]);
    let (mut first, _first_viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let (mut second, _second_viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    first.decoded("video", 10).await;
    second.decoded("video", 10).await;
    let counters = stage.own().counters();
    assert!(counters.encoded <= counters.pushed, "{counters:?}");
    assert!(counters.key_frames <= 3, "one at the start, one per join: {counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_key_frame_requests_costs_one_key_frame() {
    let stage = Stage::open(&["x264enc"]);
    let (mut browser, viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    browser.decoded("video", 25).await;
    let before = stage.own().counters();
    for _ in 0..50 {
        stage.own().request_key_frame();
    }
    browser.decoded("video", 10).await;
    let after = stage.own().counters();
    assert_eq!(after.key_frames - before.key_frames, 1, "{before:?} {after:?}");
    assert!(after.key_frame_requests - before.key_frame_requests >= 50);
    drop(viewer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_stands_still_does_not_delay_others() {
    let stage = Stage::open(&["x264enc"]);
    let (mut healthy, _viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let (_browser, stalled, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let source = stalled.connection.video.static_pad("src").unwrap();
    source.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Ok);
    while healthy.decoded.try_recv().is_ok() {}
    healthy.decoded("video", 30).await;
    assert_eq!(stage.own().counters().dropped, 0);
    assert!(stalled.connection.video.current_level_buffers() <= WAITING_FRAMES);
    assert!(stalled.stats().await.unwrap().dropped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_is_presented_by_its_index_alone() {
    let (events, _failures) = mpsc::channel(4);
    let (broadcast, mut sink) = Broadcast::start(encoders(&["x264enc"]), FORMAT, events);
    let publisher = broadcast.publisher(Codec::H264).unwrap();
    let (times, mut presented) = mpsc::channel(16);
    let pad = publisher.video.appsink().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let _ = times.try_send(info.buffer().and_then(|buffer| buffer.pts()).map(gst::ClockTime::mseconds));
        gst::PadProbeReturn::Ok
    });
    // All at once and with a gap: what arrives early or late is still presented in its place.
    for index in [7, 8, 10] {
        sink.push(pair(index));
    }
    let mut got = Vec::new();
    while got.len() < 3 {
        got.push(tokio::time::timeout(PATIENCE, presented.recv()).await.unwrap().unwrap().unwrap());
    }
    assert_eq!((got[1] - got[0], got[2] - got[0]), (40, 120));
}

#[tokio::test]
async fn a_frame_of_another_size_is_dropped_and_counted() {
    let (events, _failures) = mpsc::channel(4);
    let format = VideoFormat { width: FORMAT.width * 2, ..FORMAT };
    let (broadcast, mut sink) = Broadcast::start(encoders(&["vp8enc"]), format, events);
    let publisher = broadcast.publisher(Codec::Vp8).unwrap();
    sink.push(pair(0));
    assert_eq!((publisher.counters().pushed, publisher.counters().dropped), (0, 1));
}

#[tokio::test]
async fn an_error_of_a_viewer_closes_that_viewer_but_not_one_of_its_data_channel() {
    let (reports, inbox) = reports();
    let (events, mut told) = mpsc::channel(4);
    let pump = tokio::spawn(inbox.run(ViewerId::next(), Weak::new(), watch::channel(None).1, events));
    let error = |element: &str| BusReport::Error { element: element.to_owned(), message: "gone".to_owned() };
    reports.bus(error("/p/webrtc/sctpenc0"));
    reports.bus(error("/p/video"));
    assert_eq!(told.recv().await, Some(PeerEvent::Closed { reason: "/p/video: gone".to_owned() }));
    pump.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_connects_is_let_go() {
    let (_reports, inbox) = reports();
    let (events, mut told) = mpsc::channel(4);
    let before = Instant::now();
    tokio::spawn(inbox.run(ViewerId::next(), Weak::new(), watch::channel(None).1, events));
    let Some(PeerEvent::Closed { reason }) = told.recv().await else { panic!("not closed") };
    assert!(reason.contains("never connected"), "{reason}");
    assert!(before.elapsed() >= CONNECT_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_may_come_back_for_a_while() {
    use gst_webrtc::WebRTCPeerConnectionState as State;
    let (reports, inbox) = reports();
    let (events, mut told) = mpsc::channel(4);
    let before = Instant::now();
    tokio::spawn(inbox.run(ViewerId::next(), Weak::new(), watch::channel(None).1, events));
    reports.state.send_replace(State::Disconnected);
    let Some(PeerEvent::Closed { reason }) = told.recv().await else { panic!("not closed") };
    assert!(reason.contains("lost"), "{reason}");
    assert!((RECONNECT_TIME..CONNECT_TIMEOUT).contains(&before.elapsed()));
}

#[tokio::test]
async fn whoever_waits_for_the_end_of_a_connection_is_told_why() {
    use gst_webrtc::WebRTCPeerConnectionState as State;
    let (reports, mut inbox) = reports();
    reports.state.send_replace(State::Disconnected);
    assert!(tokio::time::timeout(Duration::ZERO, inbox.ended()).await.is_err(), "it may come back");
    reports.state.send_replace(State::Failed);
    assert!(inbox.ended().await.contains("ICE or DTLS failed"));
    reports.bus(BusReport::Error { element: "/p/webrtc".to_owned(), message: "gone".to_owned() });
    reports.state.send_replace(State::Connected);
    assert_eq!(inbox.ended().await, "/p/webrtc: gone");
}

#[test]
fn candidates_go_to_the_end_of_their_own_m_section() {
    let answer = "v=0\r\ns=-\r\nm=video 9 X 96\r\na=mid:0\r\nm=audio 9 X 111\r\na=mid:1\r\n";
    let found = [
        (1, "candidate:2 1 UDP 1 10.0.0.1 5 typ host".to_owned()),
        (0, "candidate:1 1 UDP 1 10.0.0.1 4 typ host".to_owned()),
        (0, "candidate:3 1 TCP 1 10.0.0.1 9 typ host tcptype active".to_owned()),
        (7, "candidate:4 1 UDP 1 10.0.0.1 6 typ host".to_owned()),
    ];
    let expected = "v=0\r\ns=-\r\nm=video 9 X 96\r\na=mid:0\r\na=candidate:1 1 UDP 1 10.0.0.1 4 typ host\r\n\
                    a=end-of-candidates\r\nm=audio 9 X 111\r\na=mid:1\r\na=candidate:2 1 UDP 1 10.0.0.1 5 typ host\r\n";
    assert_eq!(with_candidates(answer, &found, true), expected);
    assert_eq!(with_candidates(answer, &[], false), answer);
}

#[test]
fn only_candidates_with_an_address_reach_webrtcbin() {
    assert!(is_candidate("candidate:1 1 udp 2113937151 192.0.2.1 51000 typ host generation 0"));
    assert!(is_candidate("candidate:1 1 udp 2113937151 fd00::2 51000 typ host"));
    assert!(!is_candidate("candidate:1 1 udp 2113937151 4a1f8e0e-0000.local 51000 typ host"));
    let long = format!("candidate:1 1 udp 1 192.0.2.1 1 typ host {}", "x".repeat(MAX_CANDIDATE_BYTES));
    for bad in [
        "",
        "candidate:",
        "candidate:1 1 udp 1 evil.example 1 typ host",
        "192.0.2.1",
        "candidate:1 1 udp 1 1.1.1.1 1\r\na=x",
        &long,
    ] {
        assert!(!is_candidate(bad), "{bad:?}");
    }
}
