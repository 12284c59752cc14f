//! A viewer whose network becomes narrow and wide again: the real server, a real peer that receives, and a path of the
//! test's own between the two. Not in here: how long a person sees nothing, since this peer waits for lost packets longer
//! than a browser does (`tests/browser/narrow.rs`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::kit::peer::{OPUS, Peer};
use crate::kit::relay::{Path, Relay};
use crate::llm::{Client, Served};
use crate::watchdog;

/// Waits for what is sent again, as browsers do, and decodes.
const VIEWER: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=250 \
    rtpopusdepay name=audio ! fakesink sync=false async=false \
    rtph264depay name=video ! h264parse ! openh264dec ! appsink name=seen sync=false async=false";

/// As a browser offers it: it reports when each packet came, and asks for lost ones.
const H264: &str = "application/x-rtp,media=video,encoding-name=H264,payload=108,clock-rate=90000,\
    packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack=(boolean)true,\
    rtcp-fb-nack-pli=(boolean)true,rtcp-fb-transport-cc=(boolean)true,\
    extmap-4=(string)http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

struct Viewer {
    client: Client,
    relay: Relay,
    /// When a picture was decoded.
    seen: mpsc::Receiver<Instant>,
    _peer: Peer,
}

impl Viewer {
    async fn join(served: &Served, path: Path) -> Self {
        let mut client = served.client().await;
        let peer = Peer::new(VIEWER);
        let (sender, seen) = mpsc::channel(2000);
        peer.each("seen", move |_| {
            let _ = sender.try_send(Instant::now());
        });
        peer.receives_again(H264);
        peer.receives(OPUS);
        crate::peer::link(&peer);
        peer.play();
        client.send(json!({"type": "webrtc_offer", "sdp": peer.offer().await})).await;
        let answer = client.until_type("webrtc_answer").await.pop().unwrap();
        let answer = answer["sdp"].as_str().unwrap();
        assert!(answer.contains("a=rtcp-fb:108 transport-cc\r\n") && answer.contains("a=extmap:4 "), "{answer}");
        let (relay, answer) = Relay::of(answer, path);
        peer.take_answer(&answer).await;
        Self { client, relay, seen, _peer: peer }
    }

    /// So many pictures; the longest time between two of them.
    async fn pictures(&mut self, count: usize, last: &mut Option<Instant>) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..count {
            let at = watchdog::comes("a picture", self.seen.recv()).await.unwrap();
            if let Some(before) = last.replace(at) {
                longest = longest.max(at - before);
            }
        }
        longest
    }

    async fn until_rung(&mut self, fits: impl Fn(&str) -> bool) -> Value {
        let told = |message: &Value| message["network"]["rung"].as_str().is_some_and(&fits);
        self.client.until(told).await.pop().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_becomes_narrow_and_wide_again_is_followed() {
    let served = Served::start_with(&["--encoder", "x264enc"], tempfile::NamedTempFile::new().unwrap());
    let mut viewer = Viewer::join(&served, Path::new(3000, 20)).await;
    let mut last = None;
    viewer.pictures(75, &mut last).await;
    let wide = viewer.relay.counts();
    viewer.pictures(25, &mut last).await;
    let second = viewer.relay.counts();
    viewer.relay.path.rate.store(400_000, Ordering::Relaxed);
    let narrowed = Instant::now();
    let mut freeze = viewer.pictures(10, &mut last).await;
    while narrowed.elapsed() < Duration::from_secs(2) {
        freeze = freeze.max(viewer.pictures(1, &mut last).await);
    }
    let settled = viewer.relay.counts();
    let mut waits = 0;
    for _ in 0..75 {
        freeze = freeze.max(viewer.pictures(1, &mut last).await);
        waits = waits.max(viewer.relay.counts().waits_ms);
    }
    let narrow = viewer.relay.counts();
    let lower = viewer.until_rung(|rung| rung != "full").await;
    viewer.relay.path.rate.store(3_000_000, Ordering::Relaxed);
    let widened = Instant::now();
    viewer.until_rung(|rung| rung == "full").await;
    let back = widened.elapsed();
    freeze = freeze.max(viewer.pictures(25, &mut last).await);
    eprintln!(
        "{} kbit/s wide; {freeze:?} without a picture at most; {} packets dropped in 2 s, {} in the 3 s after, in which \
         {waits} ms were waited; back after {back:?}; {lower}",
        (second.bytes - wide.bytes) / 125,
        settled.dropped - second.dropped,
        narrow.dropped - settled.dropped
    );
    assert!(narrow.dropped - settled.dropped <= 3 && waits < 400, "it has not settled");
    assert!(back <= Duration::from_secs(12), "{back:?} until the full picture was told of again");
}
