//! Viewers against a webrtcbin that takes a browser's part, over loopback.

use std::sync::Weak;

use gstreamer_webrtc as gst_webrtc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::WAITING_FRAMES;
use super::reports::RECONNECT_TIME;
use super::*;
use crate::media::pipeline::BusReport;
use crate::media::rungs::Rung;
use crate::media::testing::sdp::{APPLICATION, CHROMIUM, FIREFOX, Parts, high_only};
use crate::media::testing::{Browser, FORMAT, PATIENCE, Stage, join, live, loopback, pair, until_connected, watch};
use crate::media::{Codec, VideoFormat};
use crate::playout::PairSink;

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
    let began = Instant::now();
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
    // While it stood still, time passed all the same.
    let most = (1.5 * sounded).max(began.elapsed().as_secs_f64());
    assert!((0.5 * sounded..most).contains(&passed), "{sounded} s of sound are dated over {passed} s");
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
    let rest = std::iter::from_fn(|| Some(told.try_recv())).find(|told| !matches!(told, Ok(PeerEvent::Network(_))));
    assert!(matches!(rest, Some(Err(mpsc::error::TryRecvError::Empty))), "{rest:?}");
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
    assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n"), "{answer}");
    assert!(answer.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"), "copies of the sound: {answer}");
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

/// The kinds of an answer's m-lines and whether they are served, or the code of the error.
async fn answered(stage: &Stage, offer: &str, listens: bool) -> Result<String, Refusal> {
    let (events, _told) = mpsc::channel(64);
    let microphone = listens.then(|| mpsc::channel(4).0);
    let viewer = stage.broadcast.open_viewer(offer.to_owned(), events, &loopback(), microphone).await;
    let viewer = viewer?;
    let served = viewer.answer().split("\nm=").skip(1).map(|section| {
        let words: Vec<&str> = section.lines().next().unwrap().split(' ').collect();
        match words[1] {
            "0" => format!("no {}", words[0]),
            _ if section.contains("a=inactive") => format!("unused {}", words[0]),
            _ => format!("{} {}", words[0], words[3]),
        }
    });
    Ok(served.collect::<Vec<_>>().join(", "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtcbin_answers_every_kind_of_offer_as_planned() {
    let stage = Stage::open(&["x264enc", "vp8enc"]);
    let parts = Parts::of(CHROMIUM);
    let (video, audio) = (&parts.video, &parts.audio);
    let camera = video.replace("a=mid:0", "a=mid:cam").replace("a=recvonly", "a=sendonly");
    let bare = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:bare\r\n";
    let microphone = audio.replace("a=mid:1", "a=mid:mic").replace("a=recvonly", "a=sendonly");
    for (offer, expected) in [
        (CHROMIUM.replace("a=recvonly\r\n", ""), "video 108, audio 111"),
        (CHROMIUM.replace("a=recvonly", "a=sendrecv"), "video 108, audio 111"),
        (high_only(), "video 108, audio 111"),
        (parts.join(&[video], &["0"]), "video 108"),
        (parts.join(&[audio], &[]), "audio 111"),
        (parts.join(&[&camera, video, audio], &["cam", "0", "1"]), "unused video, video 108, audio 111"),
        (
            parts.join(&[audio, bare, video, APPLICATION], &["0", "1", "data"]),
            "audio 111, no video, video 108, no application",
        ),
        (parts.join(&[&microphone, audio, video], &["mic", "1", "0"]), "audio 111, audio 111, video 108"),
        (parts.join(&[&microphone, video], &["mic", "0"]), "audio 111, video 108"),
    ] {
        assert_eq!(answered(&stage, &offer, true).await, Ok(expected.to_owned()), "{offer}");
        let unheard = answered(&stage, &offer, false).await.unwrap();
        assert_eq!(unheard.matches("unused audio").count(), offer.matches("a=mid:mic").count(), "{unheard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_without_video_hears_and_one_without_sound_sees() {
    let stage = Stage::open(&["vp8enc"]);
    for (browser, wanted) in
        [(Browser::receiving("VP8", false, true), "audio"), (Browser::receiving("VP8", true, false), "video")]
    {
        let (mut browser, viewer, mut told) = join(&stage, browser, None).await;
        assert_eq!(viewer.answer().matches("m=").count(), 1);
        until_connected(&mut told).await;
        browser.decoded(wanted, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_offers_again_is_answered_without_a_break_and_may_pause() {
    let stage = Stage::open(&["vp8enc"]);
    let mut browser = Browser::new("VP8");
    let offer = browser.offer().await;
    let (events, mut told) = mpsc::channel(64);
    let viewer = stage.broadcast.open_viewer(offer.clone(), events, &loopback(), None).await.unwrap();
    browser.connect(&viewer).await;
    until_connected(&mut told).await;
    browser.decoded("video", 5).await;
    assert!(viewer.renegotiate(&offer).unwrap().unwrap().contains("o=- 1 2 IN"));
    let refused = viewer.renegotiate("v=0\r\n").unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::BadSdp);
    browser.decoded("video", 5).await;
    let paused = offer.replacen("a=recvonly", "a=inactive", 1);
    assert!(viewer.renegotiate(&paused).unwrap().unwrap().contains("a=inactive"));
    let source = viewer.connection.video_source();
    let pushed = source.current_level_buffers();
    browser.decoded("audio", 25).await;
    assert!(source.current_level_buffers() <= pushed);
    while browser.decoded.try_recv().is_ok() {}
    assert!(viewer.renegotiate(&offer).unwrap().is_ok());
    browser.decoded("video", 5).await;
    let mid = offer.lines().find_map(|line| line.strip_prefix("a=mid:")).unwrap();
    let stopped = offer.replacen("m=video 9", "m=video 0", 1).replacen(&format!(" {mid}"), "", 1);
    let refused = viewer.renegotiate(&stopped).unwrap().unwrap_err();
    assert!(refused.message.contains("was stopped"), "{refused}");
    browser.decoded("video", 5).await;
    let restart = offer.replace("a=ice-ufrag:", "a=ice-ufrag:x");
    let refused = viewer.renegotiate(&restart).unwrap().unwrap_err();
    assert!(refused.message.contains("ICE restart"), "{refused}");
    let origin = offer.lines().find(|line| line.starts_with("o=")).unwrap();
    let another = restart.replace(origin, "o=- 77 1 IN IP4 127.0.0.1");
    assert!(viewer.renegotiate(&another).is_none(), "of another connection");
    browser.decoded("video", 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_are_taken_by_the_same_gate_wherever_they_come_from() {
    let stage = Stage::open(&["vp8enc"]);
    let (events, _told) = mpsc::channel(64);
    let line =
        |kind: &str, address: &str| format!("candidate:1 1 {kind} 2113937151 {address} 5000 typ host tcptype passive");
    let inside: String = ["a1b2.local", "127.0.0.9", "169.254.169.254"]
        .map(|address| format!("a={}\r\n", line("udp", address)))
        .concat();
    let offer = format!("{CHROMIUM}{inside}a={}\r\n", line("tcp", "10.0.0.1"));
    let viewer = stage.broadcast.open_viewer(offer, events, &IceConfig::default(), None).await.unwrap();
    let trickle = |line: String, m_line: u32, ufrag: Option<&str>| {
        viewer.add_candidate(&IceCandidate {
            candidate: line,
            sdp_mid: None,
            sdp_m_line_index: Some(m_line),
            username_fragment: ufrag.map(str::to_owned),
        });
        viewer.candidates.filter.taken()
    };
    assert_eq!(viewer.candidates.filter.taken(), 0);
    assert_eq!(trickle(line("udp", "x.local"), 0, None), 0);
    assert_eq!(trickle(line("udp", "10.0.0.1"), 7, None), 0, "no such line");
    assert_eq!(trickle(line("udp", "10.0.0.1"), 0, Some("before")), 0, "of before an ICE restart");
    assert_eq!(trickle(line("udp", "10.0.0.1"), 1, None), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_offer_leaves_no_viewer() {
    let stage = Stage::open(&["x264enc"]);
    let (events, _told) = mpsc::channel(64);
    for (offer, code) in [
        (CHROMIUM.replace("H264", "H265"), ErrorCode::NoCommonCodec),
        (CHROMIUM.replace("a=recvonly", "a=sendonly"), ErrorCode::OfferNotReceivable),
        (APPLICATION.to_owned(), ErrorCode::BadSdp),
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
    let source = stalled.connection.video_source().static_pad("src").unwrap();
    source.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Ok);
    while healthy.decoded.try_recv().is_ok() {}
    healthy.decoded("video", 30).await;
    assert_eq!(stage.own().counters().dropped, 0);
    assert!(stalled.connection.video_source().current_level_buffers() <= WAITING_FRAMES);
    assert!(stalled.stats().await.unwrap().dropped > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_is_presented_by_its_index_alone() {
    let (events, _failures) = mpsc::channel(4);
    let (broadcast, mut sink) = Broadcast::start(&live(&["x264enc"]), FORMAT, events);
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
async fn an_error_of_a_viewer_closes_that_viewer_but_not_one_of_its_data_channel() {
    let (reports, inbox) = reports();
    let (events, mut told) = mpsc::channel(4);
    let pump = tokio::spawn(inbox.run(ViewerId::next(), 0, Weak::new(), watch::channel(None).1, events));
    let error = |element: &str| BusReport::Error { element: element.to_owned(), message: "gone".to_owned() };
    reports.bus(error("/p/webrtc/sctpenc0"));
    reports.bus(error("/p/video"));
    assert_eq!(told.recv().await, Some(PeerEvent::Closed { reason: "/p/video: gone".to_owned() }));
    pump.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_may_come_back_for_a_while() {
    use gst_webrtc::WebRTCPeerConnectionState as State;
    let (reports, inbox) = reports();
    let (events, mut told) = mpsc::channel(4);
    let before = Instant::now();
    tokio::spawn(inbox.run(ViewerId::next(), 0, Weak::new(), watch::channel(None).1, events));
    reports.state.send_replace(State::Disconnected);
    let Some(PeerEvent::Closed { reason }) = told.recv().await else { panic!("not closed") };
    assert!(reason.contains("lost"), "{reason}");
    assert_eq!(before.elapsed(), RECONNECT_TIME);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_goes_down_the_rungs_and_up_again_and_never_stops_to_see() {
    let stage = Stage::open(&["x264enc"]);
    stage.format.send_replace(VideoFormat { width: 512, height: 512 });
    let (mut browser, viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let (mut other, _other_viewer, mut other_told) = watch(&stage, "H264").await;
    until_connected(&mut other_told).await;
    let (gate, transport) = (&viewer.connection.gate, &viewer.connection.transport);
    browser.decoded("video", 10).await;
    assert_eq!(stage.broadcast.running().len(), 1, "one encode while nobody needs another");

    transport.suppose(200, 40);
    while !gate.is_at(Rung::Low) {
        browser.decoded("video", 1).await;
    }
    let small = VideoFormat { width: 256, height: 256 };
    while tokio::time::timeout(PATIENCE, browser.formats.recv()).await.unwrap().unwrap() != small {}
    browser.decoded("video", 10).await;
    browser.decoded("audio", 10).await;
    other.decoded("video", 10).await;
    assert_eq!(stage.broadcast.running().len(), 2, "its own, and the first, which somebody watches");
    let key_frames = stage.own().counters().key_frames;

    while !gate.is_at(Rung::Full) {
        transport.suppose(0, 4);
        browser.decoded("video", 1).await;
    }
    let large = VideoFormat { width: 512, height: 512 };
    while tokio::time::timeout(PATIENCE, browser.formats.recv()).await.unwrap().unwrap() != large {}
    while stage.broadcast.running().len() > 1 {
        browser.decoded("video", 1).await;
    }
    browser.decoded("video", 10).await;
    assert!(stage.own().counters().key_frames - key_frames <= 3, "its return costs the other little");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rung_that_nobody_sees_is_not_encoded_though_its_sound_goes_on() {
    let stage = Stage::open(&["x264enc"]);
    stage.format.send_replace(VideoFormat { width: 512, height: 512 });
    let (mut browser, viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let gate = &viewer.connection.gate;
    viewer.connection.transport.suppose(200, 40);
    while !gate.is_at(Rung::Low) || stage.own().audience.away.load(Ordering::Relaxed) == 0 {
        browser.decoded("video", 1).await;
    }
    browser.decoded("video", 5).await;
    let before = stage.own().counters().encoded;
    browser.decoded("video", 25).await;
    browser.decoded("audio", 25).await;
    assert_eq!(stage.own().counters().encoded, before);
    drop(viewer);
    while told.recv().await.is_some() {}
    let teardown = stage.broadcast.teardown();
    tokio::task::spawn_blocking(move || teardown.wait()).await.unwrap();
    assert_eq!(stage.broadcast.running(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_viewer_does_not_take_is_counted_after_a_change_of_rung_too() {
    let stage = Stage::open(&["x264enc"]);
    stage.format.send_replace(VideoFormat { width: 512, height: 512 });
    let (mut browser, viewer, mut told) = watch(&stage, "H264").await;
    until_connected(&mut told).await;
    let (mut healthy, _other, mut other_told) = watch(&stage, "H264").await;
    until_connected(&mut other_told).await;
    viewer.connection.transport.suppose(200, 40);
    while !viewer.connection.gate.is_at(Rung::Low) || stage.own().audience.away.load(Ordering::Relaxed) == 0 {
        browser.decoded("video", 1).await;
    }
    let before = viewer.stats().await.unwrap().dropped;
    let source = viewer.connection.video_source().static_pad("src").unwrap();
    source.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Ok);
    while healthy.decoded.try_recv().is_ok() {}
    healthy.decoded("video", 40).await;
    assert!(viewer.stats().await.unwrap().dropped > before);
    assert!(viewer.connection.gate.is_hushed(), "the next picture that it takes is a key frame");
}
