//! Viewers by the one port against webrtcbins that take browsers' parts, over loopback: UDP, TCP, and both at once.

use super::*;
use crate::media::one_port::OnePort;
use crate::media::testing::{Browser, PATIENCE, Stage, loopback, until_connected};

fn by(port: &OnePort) -> IceConfig {
    IceConfig { one_port: Some(port.clone()), ..loopback() }
}

/// Opens a viewer; `browser` gets the answer with these of its candidates alone.
async fn join(stage: &Stage, port: &OnePort, mut browser: Browser, transport: &str) -> (Browser, Viewer, Told) {
    let (events, told) = mpsc::channel(64);
    let viewer = stage.broadcast.open_viewer(browser.offer().await, events, &by(port), None).await.unwrap();
    let kept: String = viewer
        .answer()
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("a=candidate:") || line.contains(transport))
        .collect();
    assert_eq!(kept.matches("a=candidate:").count(), 1, "{}", viewer.answer());
    browser.connect_with(&viewer, &kept).await;
    (browser, viewer, told)
}

type Told = mpsc::Receiver<PeerEvent>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_come_by_one_port_at_once_one_of_them_without_udp_and_leave_nothing_behind() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let stage = Stage::open(&["vp8enc"]);
    let mut viewers = Vec::new();
    for transport in [" UDP ", " TCP ", " UDP "] {
        let browser = if transport == " TCP " { Browser::over_tcp("VP8") } else { Browser::new("VP8") };
        viewers.push(join(&stage, &port, browser, transport).await);
    }
    for (browser, viewer, told) in &mut viewers {
        until_connected(told).await;
        browser.decoded("video", 25).await;
        browser.decoded("audio", 25).await;
        let numbers = viewer.answer().matches(&format!(" 127.0.0.1 {} typ host", port.port())).count();
        assert_eq!(numbers, 2, "{}", viewer.answer());
        assert!(viewer.answer().contains("a=end-of-candidates"), "no candidate of libnice's follows");
    }
    let (inhabitants, sources, connections) = port.holds();
    assert!(inhabitants == 3 && sources >= 3 && connections == 1, "{:?}", port.holds());
    // One that leaves disturbs none of the others.
    drop(viewers.remove(0));
    for (browser, ..) in &mut viewers {
        browser.decoded("video", 25).await;
    }
    drop(viewers);
    let empty = async {
        while port.holds() != (0, 0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.unwrap();
    tasks.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_outside_are_told_in_the_place_of_our_own_with_and_without_the_one_port() {
    let (port, tasks) = OnePort::open(0).await.unwrap();
    let stage = Stage::open(&["vp8enc"]);
    let external = vec!["203.0.113.7".parse().unwrap(), "203.0.113.8".parse().unwrap()];
    for (ice, count) in [(by(&port), 4), (loopback(), 2)] {
        let ice = IceConfig { external: external.clone(), ..ice };
        let (events, _told) = mpsc::channel(64);
        let offer = Browser::new("VP8").offer().await;
        let viewer = stage.broadcast.open_viewer(offer, events, &ice, None).await.unwrap();
        let candidates: Vec<&str> = viewer.answer().lines().filter(|line| line.starts_with("a=candidate:")).collect();
        assert_eq!(candidates.len(), count, "{candidates:?}");
        assert!(candidates.iter().all(|line| line.contains(" 203.0.113.")), "{candidates:?}");
    }
    tasks.stop().await;
}
