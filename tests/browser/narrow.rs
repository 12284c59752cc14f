//! A real browser whose network becomes narrow and wide again, and one that loses packets on a long path.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::chromium::{Chromium, Page};
use super::kit::relay::{Path, Relay};
use super::playing::LONG;
use super::server::Server;

/// Holds the answer back until it leads to a relay, and looks at when each picture was shown.
const RELAYED: &str = "(() => {
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
    globalThis.answer = description.sdp;
    const sdp = await new Promise((resolve) => { globalThis.relayed = resolve; });
    return set.call(this, { type: description.type, sdp });
  };
  RTCPeerConnection.prototype.addIceCandidate = async () => {};
})()";

const JOIN: &str = "(async () => {
  const { AvatarWebRTCClient } = await import('/client.js');
  const video = document.body.appendChild(document.createElement('video'));
  globalThis.mouthpiece = new AvatarWebRTCClient(null, video);
  globalThis.gaps = { last: null, longest: 0 };
  const shown = (now, { presentedFrames }) => {
    if (gaps.last !== null) gaps.longest = Math.max(gaps.longest, now - gaps.last);
    gaps.last = now;
    gaps.frames = presentedFrames;
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  mouthpiece.connect(`ws://${location.host}/ws`, video);
  return true;
})()";

async fn join(chromium: &Chromium, server: &Server, path: Path) -> (Page, Relay) {
    let page = chromium.page(&server.url("style.css")).await;
    page.evaluate(RELAYED).await;
    page.evaluate(JOIN).await;
    page.wait_for("globalThis.relayed").await;
    let answer = page.evaluate("answer").await.as_str().unwrap().to_owned();
    assert!(answer.contains("transport-cc") && answer.contains("transport-wide-cc"), "{answer}");
    let (relay, answer) = Relay::of(&answer, path);
    page.evaluate(&format!("relayed({})", serde_json::Value::from(answer))).await;
    page.wait_until_connected().await;
    (page, relay)
}

/// The longest time between two pictures since the last look, in milliseconds, after so many pictures more.
async fn longest(page: &Page, more: u32) -> f64 {
    page.evaluate("gaps.longest = 0").await;
    page.sees(more).await;
    page.evaluate("gaps.longest").await.as_f64().unwrap()
}

async fn network(page: &Page) -> String {
    page.evaluate("mouthpiece.stats().then((s) => JSON.stringify([s.network, s.freezes, s.freeze_ms, s.concealed_ms, s.nacks, s.plis, s.width, s.packets_lost]))")
        .await
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_network_is_followed_and_the_full_picture_comes_back() {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--encoder", "x264enc"]).await;
    let (page, relay) = join(&chromium, &server, Path::new(3000, 20)).await;
    page.sees(100).await;
    let before = network(&page).await;
    relay.path.rate.store(400_000, Ordering::Relaxed);
    let going_down = longest(&page, 75).await;
    let narrow = longest(&page, 75).await;
    page.wait_for("mouthpiece.stats().then((s) => s.network && s.network.rung !== 'full')").await;
    let down = network(&page).await;
    relay.path.rate.store(3_000_000, Ordering::Relaxed);
    let widened = std::time::Instant::now();
    page.wait_for("mouthpiece.stats().then((s) => s.network.rung === 'full')").await;
    let (back, up) = (widened.elapsed(), longest(&page, 25).await);
    eprintln!(
        "{going_down:.0} ms without a picture going down, {narrow:.0} while it is narrow, {up:.0} after; the full picture \
         after {back:?}; {before} {down} {} {:?}",
        network(&page).await,
        relay.counts()
    );
    assert!(going_down <= 500.0 && narrow <= 300.0, "{going_down} {narrow}");
    assert!(back <= Duration::from_secs(12), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_on_a_long_path_freeze_nothing_and_leave_no_gaps_in_speech() {
    let lossy = lossy(50, 10).await;
    assert!(lossy.longest <= 300.0, "{lossy:?}");
    assert!(lossy.concealed <= 0.02, "{lossy:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure"]
async fn a_minute_of_speech_with_a_twentieth_lost() {
    let lossy = lossy(50, 60).await;
    assert!(lossy.longest <= 200.0 && lossy.concealed < 0.01 && lossy.overhead <= 0.25, "{lossy:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure"]
async fn three_minutes_of_speech_with_a_tenth_lost() {
    let lossy = lossy(100, 180).await;
    assert!(lossy.longest <= 200.0 && lossy.concealed < 0.01, "{lossy:?}");
}

/// The server's processor time with a viewer more on each rung.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure"]
async fn a_further_rung_costs_little() {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--encoder", "x264enc"]).await;
    let (_first, _wide) = join(&chromium, &server, Path::new(5000, 20)).await;
    let (page, relay) = join(&chromium, &server, Path::new(5000, 20)).await;
    let mut shares = Vec::new();
    for (kbps, rung) in [(5000, "full"), (600, "middle"), (180, "low")] {
        relay.path.rate.store(kbps * 1000, Ordering::Relaxed);
        page.wait_for(&format!("mouthpiece.stats().then((s) => s.network && s.network.rung === '{rung}')")).await;
        page.sees(100).await;
        let (began, before) = (std::time::Instant::now(), server.cpu_time());
        page.sees(375).await;
        let share = (server.cpu_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
        let holding = server.holding();
        shares.push((rung, share, holding.thread_count(), holding.descriptors, network(&page).await));
    }
    eprintln!("{shares:?}");
    let [full, middle, low] = [0, 1, 2].map(|at| shares[at].1);
    assert!(middle - full <= 0.12 && low - full <= 0.12);
}

/// What is seen and heard on a path that loses packets.
#[derive(Debug)]
struct Lossy {
    /// Milliseconds without a picture, at most.
    longest: f64,
    /// Share of the sound that was made up.
    concealed: f64,
    /// What was sent for protection, of the rest.
    overhead: f64,
}

/// Speech for so many seconds while so many of 1000 packets are lost, 100 ms there and back.
async fn lossy(permille: u64, seconds: u32) -> Lossy {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--encoder", "x264enc"]).await;
    let (page, relay) = join(&chromium, &server, Path::new(5000, 50)).await;
    page.sees(25).await;
    let wide = received(&page).await;
    assert_eq!(wide.again, 0.0, "nothing is sent twice while nothing is lost");
    relay.path.loss.store(permille, Ordering::Relaxed);
    page.wait_for("mouthpiece.stats().then((s) => s.network && s.network.lost > 0.012)").await;
    // The browser has taken in how long it is to wait.
    page.sees(50).await;
    let sentences = serde_json::Value::from(LONG);
    let (before, mut longest, mut left) = (received(&page).await, 0f64, seconds);
    while left > 0 {
        let part = left.min(48);
        // No more turns than may wait.
        for _ in 0..part.div_ceil(12) {
            page.evaluate(&format!("mouthpiece.speak({sentences})")).await;
        }
        page.wait_for("mouthpiece.speaking").await;
        longest = longest.max(self::longest(&page, 25 * part).await);
        left -= part;
    }
    let after = received(&page).await;
    let of = |share: fn(&Received) -> f64| share(&after) - share(&before);
    let concealed = of(|received| received.concealed) / of(|received| received.samples);
    // Every packet of sound is as large as every other, but for copies.
    let plain = wide.sound / wide.packets;
    let protection =
        of(|received| received.again) + of(|received| received.sound) - plain * of(|received| received.packets);
    let overhead = protection / (of(|received| received.bytes) - protection);
    let lossy = Lossy { longest, concealed, overhead };
    eprintln!("{lossy:?} {} {:?} {:?}", network(&page).await, relay.counts(), after);
    lossy
}

/// Totals of a browser.
#[derive(Debug, serde::Deserialize)]
struct Received {
    concealed: f64,
    samples: f64,
    bytes: f64,
    /// Of those what was sent again.
    again: f64,
    /// And those of the sound, in so many packets.
    sound: f64,
    packets: f64,
}

async fn received(page: &Page) -> Received {
    let read = "(async () => {
      const all = [...(await mouthpiece.peerConnection.getStats()).values()];
      const [video, audio] = ['video', 'audio'].map((kind) => all.find((r) => r.type === 'inbound-rtp' && r.kind === kind));
      return {
        concealed: audio.concealedSamples,
        samples: audio.totalSamplesReceived,
        bytes: video.bytesReceived + audio.bytesReceived,
        again: video.retransmittedBytesReceived ?? 0,
        sound: audio.bytesReceived,
        packets: audio.packetsReceived,
      };
    })()";
    serde_json::from_value(page.evaluate(read).await).unwrap()
}
