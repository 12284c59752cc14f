//! Viewers that come, have the avatar speak, and leave: nothing of them stays in the server.

use super::chromium::{Chromium, Page};
use super::server::{Holding, Server};

const CYCLES: usize = 50;
/// Cycles before anything is counted: what a library makes once for the process is made in them.
const WARM_UP: usize = 8;

/// One viewer with a session of its own, from the socket to the last of it, in a page that shows nothing else.
const VISIT: &str = "(async () => {
  const { AvatarWebRTCClient } = await import('/client.js');
  const video = document.createElement('video');
  const client = new AvatarWebRTCClient(null, video);
  const happens = (name) => new Promise((resolve, reject) => {
    client.addEventListener(name, ({ detail }) => resolve(detail), { once: true });
    client.addEventListener('error', ({ detail }) => reject(new Error(detail.message)), { once: true });
  });
  const seen = happens('first_frame');
  const spoken = happens('speech_started');
  await client.connect(`ws://${location.host}/ws`, video);
  await seen;
  client.speak('Hello and goodbye.');
  await spoken;
  client.close();
  return true;
})()";

/// One viewer after the other: two sessions at once hold more than one, so that memory would tell how often they met.
async fn visits(server: &Server, page: &Page, count: usize) {
    for _ in 0..count {
        assert_eq!(page.evaluate(VISIT).await, true);
        server.wait_for_metric("mouthpiece_sessions", 0.0).await;
    }
}

/// What the server holds once the last viewer's session is closed and no pipeline streams any more.
async fn settled(server: &Server) -> Holding {
    for gauge in ["mouthpiece_connections", "mouthpiece_sessions"] {
        server.wait_for_metric(gauge, 0.0).await;
    }
    // GStreamer names a thread after the pad it pushes from.
    let streaming = |now: &Holding| now.threads.keys().any(|name| name.ends_with(":src"));
    let now = server.holding_when(|now| !streaming(now)).await;
    assert!(!streaming(&now), "{now:#?}");
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_viewers_come_and_go_without_a_trace() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    // Any file of the server is a page of its origin; this one runs nothing by itself.
    let page = chromium.page(&server.url("style.css")).await;
    visits(&server, &page, WARM_UP).await;
    let before = settled(&server).await;
    visits(&server, &page, CYCLES).await;
    settled(&server).await;
    let back = |now: &Holding| now.thread_count() <= before.thread_count() && now.descriptors <= before.descriptors;
    // Tokio ends a thread that has nothing to block on after ten seconds.
    let after = server.holding_when(back).await;
    eprintln!("{CYCLES} viewers\nbefore {before:?}\nafter {after:?}");
    assert!(back(&after), "before {before:#?}\nafter {after:#?}");
    // Allocators give back late; what a session holds is fifty MiB, a viewer some MiB.
    assert!(after.resident_kib * 100 <= before.resident_kib * 105, "before {before:?}\nafter {after:?}");
    server.stop().await;
}
