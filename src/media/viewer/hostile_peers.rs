//! What hostile clients' offers and connected peers can make the process hold, under a small limit of descriptors: nothing that
//! stays. Runs in a process of its own, since it counts what the process has, and ends it at the first of GLib's criticals.

use super::*;
use crate::media::rungs::Rung;
use crate::media::testing::held::{LOOK_AGAIN, allowed, alone, held, is_within, let_go, settles};
use crate::media::testing::sdp::{APPLICATION, CHROMIUM, Parts};
use crate::media::testing::{Browser, PATIENCE, Stage, join, until_connected};
use crate::media::{ENCODE_RESOURCES, Resources, VIEWER_RESOURCES};

const OFFERS: usize = 200;
const SOURCES: u32 = 300;
const CHANNELS: usize = 200;
const AT_ONCE: usize = 60;

/// Each kind of candidate, on every line, for the session, and in attributes that are like them.
fn with_every_kind_of_candidate(number: usize) -> String {
    let mut lines = String::new();
    for (component, transport, at) in [
        (1, "udp", format!("{number:08x}-0000-4000-8000-000000000000.local 5000")),
        (1, "udp", format!("host{number}.internal.example 5000")),
        (1, "udp", "127.0.0.1 5000".to_owned()),
        (1, "udp", "169.254.169.254 5000".to_owned()),
        (1, "udp", "224.0.0.1 5000".to_owned()),
        (1, "udp", "192.0.2.77 5000".to_owned()),
        (1, "udp", "fe80::1 5000".to_owned()),
        (1, "tcp", "192.0.2.77 9".to_owned()),
        (1, "tcp", "127.0.0.1 22".to_owned()),
        (0, "udp", "192.0.2.77 5001".to_owned()),
        (2, "udp", "192.0.2.77 5002".to_owned()),
        (99999, "udp", "192.0.2.77 5003".to_owned()),
        (1, "udp", "192.0.2.77 0".to_owned()),
        (1, "udp", "192.0.2.77 99999".to_owned()),
        (1, "", String::new()),
    ] {
        lines += &format!("a=candidate:1 {component} {transport} 2113937151 {at} typ host tcptype active\r\n");
    }
    lines += "a=remote-candidates:1 evil.local 5000\r\na=candidate\r\na=candidate:\r\na=end-of-candidates\r\na=ice-lite\r\n\
              a=ice-options:ice2 \u{1F600}\r\na=extmap:0 x\r\na=extmap:99999 y\r\na=ssrc:x\r\na=ssrc-group:FID\r\n\
              a=rid:1 send\r\na=simulcast:send 1\r\na=fmtp:111\r\na=rtcp-fb:*\r\na=rtpmap:111\r\na=msid:\r\n\
              a=sctp-port:x\r\na=rtcp:x\r\na=crypto:1 X inline:x\r\n";
    let parts = Parts::of(CHROMIUM);
    let camera = parts.video.replace("a=mid:0", "a=mid:cam").replace("a=recvonly", "a=sendonly");
    let data = format!("{APPLICATION}{lines}")
        .replace("m=application 9", if number.is_multiple_of(2) { "m=application 9" } else { "m=application 0" });
    let sections = [&camera, &parts.video, &lines, &parts.audio, &lines, &data];
    let sections: Vec<&str> = sections.into_iter().map(String::as_str).collect();
    let offer = parts.join(&sections, &["cam", "0", "1", "data"]);
    offer.replacen("t=0 0\r\n", &format!("t=0 0\r\n{lines}"), 1)
}

async fn opens(stage: &Stage, offer: String) -> Result<Viewer, Refusal> {
    let (events, _told) = mpsc::channel(64);
    stage.broadcast.open_viewer(offer, events, &IceConfig::default(), Some(mpsc::channel(4).0)).await
}

async fn hostile_peers() {
    let stage = Stage::open(&["vp8enc"]);
    // What is loaded and started once is there after the first viewer of each kind.
    let (microphone, _heard) = mpsc::channel(64);
    let (mut browser, viewer, mut told) = join(&stage, Browser::with_microphone("VP8"), Some(microphone)).await;
    until_connected(&mut told).await;
    browser.decoded("video", 5).await;
    let_go(&stage, (browser, viewer)).await;
    let base = held();
    eprintln!("at first: {base:?}");

    let publisher = stage.own();
    let rungs = [Rung::Middle, Rung::Low].map(|rung| stage.broadcast.rung(Codec::Vp8, rung).unwrap());
    let encoding = held();
    eprintln!("with an encode of all rungs: {encoding:?}");
    assert!(is_within(
        encoding,
        allowed(Resources {
            descriptors: base.descriptors + ENCODE_RESOURCES.descriptors,
            threads: base.threads + ENCODE_RESOURCES.threads
        })
    ));
    let mut viewers = Vec::new();
    for _ in 0..AT_ONCE {
        viewers.push(opens(&stage, CHROMIUM.to_owned()).await.unwrap());
    }
    let many = held();
    let each = Resources {
        descriptors: (many.descriptors - encoding.descriptors).div_ceil(AT_ONCE),
        threads: (many.threads - encoding.threads).div_ceil(AT_ONCE),
    };
    eprintln!("{AT_ONCE} viewers: {many:?}, each {each:?}");
    assert!(is_within(each, VIEWER_RESOURCES), "{each:?}");
    let_go(&stage, (viewers, publisher, rungs)).await;
    settles(allowed(base), "viewers at once").await;

    let (mut served, mut refused) = (0, 0);
    for number in 0..OFFERS {
        match opens(&stage, with_every_kind_of_candidate(number)).await {
            Ok(viewer) => {
                served += 1;
                drop(viewer);
            }
            Err(error) => {
                assert!(!error.message.is_empty());
                refused += 1;
            }
        }
        assert!(opens(&stage, format!("{CHROMIUM}{}", APPLICATION.repeat(CHANNELS))).await.is_err());
    }
    eprintln!("{served} offers served, {refused} refused");
    assert_eq!(served, OFFERS);
    let_go(&stage, ()).await;
    settles(allowed(base), "offers").await;

    let browser = Browser::with_data_channels("VP8", CHANNELS);
    let (mut browser, viewer, mut told) = join(&stage, browser, None).await;
    assert!(viewer.answer().contains("m=application 0 "), "{}", viewer.answer());
    until_connected(&mut told).await;
    browser.decoded("video", 5).await;
    let_go(&stage, (browser, viewer)).await;
    settles(allowed(base), "data channels").await;

    let (microphone, _heard) = mpsc::channel(64);
    let (mut browser, viewer, mut told) = join(&stage, Browser::with_sources("VP8", SOURCES), Some(microphone)).await;
    until_connected(&mut told).await;
    browser.decoded("video", 5).await;
    let one = held();
    let all_sent = async {
        while viewer.connection.inbound.refused() < u64::from(SOURCES) - 10 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_sent).await.expect("the sources are sent");
    let after = held();
    eprintln!("one source: {one:?}, {SOURCES} sources: {after:?}");
    assert!(is_within(after, allowed(one)), "{one:?} {after:?}");
    let_go(&stage, (browser, viewer)).await;
    settles(allowed(base), "sources").await;
}

#[test]
fn hostile_peers_leave_nothing_behind_under_a_small_limit_of_descriptors() {
    alone(
        "media::viewer::hostile_peers::hostile_peers_leave_nothing_behind_under_a_small_limit_of_descriptors",
        hostile_peers,
    );
}
