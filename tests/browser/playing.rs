//! The avatar is seen and heard, interrupted, reloaded and shared.

use std::time::Duration;

use super::chromium::Chromium;
use super::page::SILENT;
use super::server::Server;

/// Some twelve seconds of speech.
pub const LONG: &str = "Good morning. My name is on the door, and my face is on your screen. \
    I can tell you about the weather, about the people in this house, or about the book that I have just begun. \
    Perhaps you would rather hear what happened this morning, when four brave boys jumped over the pond.";
const SHORT: &str = "People believe what they can see.";

/// Speech has a power of some hundredths.
const HEARD: f64 = 1e-3;

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_sentence_is_seen_and_heard() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let idle = page.watch(Duration::from_secs(2)).await;
    let spoken = page.speak_to_the_end(LONG).await;
    let idle_again = page.watch(Duration::from_secs(2)).await;
    eprintln!("idle {idle}\nspoken {spoken}\nidle again {idle_again}");
    assert!(spoken.seconds >= 10.0, "{spoken}");
    // All pictures, but for where counting begins and ends. How evenly they come is a figure of a quiet machine.
    assert!((24.0..=25.5).contains(&spoken.fps()) && spoken.power > HEARD, "{spoken}");
    assert!(idle.power < SILENT && idle_again.power < SILENT, "{idle} {idle_again}");
    assert_eq!(page.turns("user").await, [format!("Say: {LONG}")]);
    assert_eq!(page.turns("avatar").await, [LONG]);
    assert_eq!(page.evaluate("mouthpiece.stats().then((stats) => stats.codec)").await, "H264");
    assert_eq!(
        page.evaluate("[document.title, document.getElementById('name').textContent].join()").await,
        "Mika,Mika"
    );
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vp8_plays_too() {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--encoder", "vp8enc"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let spoken = page.speak_to_the_end(SHORT).await;
    eprintln!("spoken {spoken}");
    assert_eq!(page.evaluate("mouthpiece.stats().then((stats) => stats.codec)").await, "VP8");
    assert_eq!(page.count().await.width, 512.0);
    assert!(spoken.fps() > 22.0 && spoken.power > HEARD, "{spoken}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_sentence_falls_silent() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.ask_to_say(LONG).await;
    page.wait_until_speaking().await;
    while page.watch(Duration::from_millis(300)).await.power < HEARD {}
    page.click("#stop").await;
    page.wait_until_silent().await;
    let silent = page.watch(Duration::from_secs(2)).await;
    assert!(silent.power < SILENT, "{silent}");
    // The avatar stays to be seen.
    page.sees(50).await;
    let unspoken = page.evaluate("document.querySelector('#history .unspoken').textContent").await;
    assert!(LONG.ends_with(unspoken.as_str().unwrap()) && unspoken != "", "{unspoken}");
    let again = page.speak_to_the_end(SHORT).await;
    assert!(again.power > HEARD, "the next one is heard: {again}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloading_the_page_plays_again() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.ask_to_say(LONG).await;
    page.wait_until_speaking().await;
    page.navigate(&server.url("")).await;
    page.wait_until_live().await;
    assert_eq!(page.evaluate("mouthpiece.speaking").await, false, "a new conversation");
    let spoken = page.speak_to_the_end(SHORT).await;
    eprintln!("spoken {spoken}");
    assert!(spoken.fps() > 22.0 && spoken.power > HEARD, "{spoken}");
    server.wait_for_metric("mouthpiece_sessions", 1.0).await;
    page.close().await;
    server.wait_for_metric("mouthpiece_sessions", 0.0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_socket_is_opened_again_and_plays() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    let lose = "new Promise((resolve) => {
      const states = [];
      mouthpiece.addEventListener('state', ({ detail }) => {
        states.push(detail.state);
        if (detail.state === 'connected') resolve(states.join());
      });
      mouthpiece.websocket.close();
    })";
    assert_eq!(page.evaluate(lose).await, "reconnecting,connected");
    page.wait_until_connected().await;
    let spoken = page.speak_to_the_end(SHORT).await;
    assert!(spoken.fps() > 22.0 && spoken.power > HEARD, "{spoken}");
    server.wait_for_metric("mouthpiece_sessions", 1.0).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tab_watches_the_same_session() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let first = chromium.page(&server.url("?session=shared")).await;
    first.wait_until_live().await;
    let second = chromium.page(&server.url("?session=shared")).await;
    second.wait_until_live().await;
    assert_eq!(server.metric("mouthpiece_sessions").await, Some(1.0));
    assert_eq!(server.metric("mouthpiece_connections").await, Some(2.0));
    // GStreamer names a thread after the pad it pushes from: the one publish pipeline and each viewer's have a `video`.
    assert_eq!(server.holding().named("video:src"), 1 + 2, "{:?}", server.holding());
    second.wait_for("!mouthpiece.speaking").await;
    second.expect_speech().await;
    let (spoken, watched) = tokio::join!(first.speak_to_the_end(SHORT), second.hear_to_the_end());
    eprintln!("first {spoken}\nsecond {watched}");
    assert!(spoken.fps() > 22.0 && spoken.power > HEARD, "{spoken}");
    assert!(watched.fps() > 22.0 && watched.power > HEARD, "{watched}");
    assert_eq!(second.turns("avatar").await, [SHORT], "the reply is told to both");
    first.close().await;
    // Who stays goes on watching.
    second.sees(25).await;
    assert_eq!(server.metric("mouthpiece_sessions").await, Some(1.0));
    server.stop().await;
}

/// `getStats` gives, for each inbound stream, the sender's clock at what is being played just now
/// (`estimatedPlayoutTimestamp`: from the RTP time of the last sample or frame played, through the sender reports, and
/// carried on to the moment of asking). One clock stamps both streams, so the difference is what a viewer sees: how
/// much older the voice is than the picture beside it.
#[tokio::test(flavor = "multi_thread")]
async fn audio_and_video_stay_together() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.ask_to_say(&[LONG; 9].join(" ")).await;
    page.wait_until_speaking().await;
    // Until then the buffers of the browser find their size.
    page.sees(125).await;
    let skew = page.skew_where_it_plays(40).await;
    eprintln!("voice late: {skew}");
    // Where people begin to notice (ITU-R BT.1359). On a machine of its own it is 45 ms both ways, see `figures`.
    assert!(skew.p5 >= -45.0 && skew.p95 <= 125.0, "{skew}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_one_thing_and_keeps_the_servers_words_for_whoever_asks() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_connected().await;
    for _ in 0..2 {
        page.send("\u{1f642}").await;
        page.wait_for("document.querySelector('#history .notice summary')").await;
    }
    let shown = page.evaluate("[...document.querySelectorAll('#history .notice')].map((box) => box.innerText)").await;
    assert_eq!(shown[0], "There is nothing in that message that can be spoken.");
    page.click("#history .notice summary").await;
    let words = page.evaluate("document.querySelector('#history .notice').innerText.split('\\n').at(-1)").await;
    assert!(words.as_str().unwrap().contains("nothing that can be spoken: send words"), "{words}");
    server.stop().await;
}
