//! Browsers that do not have the codec of the session they watch.

use super::chromium::{Chromium, Page};
use super::server::{Holding, Server};

const SENTENCE: &str = "People believe what they can see, and they hear what they want to hear.";
const VP8: &str = "mouthpiece_encodes{codec=\"vp8\"}";
const H264: &str = "mouthpiece_encodes{codec=\"h264\"}";

/// Makes the page a browser that receives one video codec only, as some builds without licensed codecs are.
fn receive_only(codec: &str) -> String {
    format!(
        "(() => {{
          const addTransceiver = RTCPeerConnection.prototype.addTransceiver;
          RTCPeerConnection.prototype.addTransceiver = function (kind, init) {{
            const transceiver = addTransceiver.call(this, kind, init);
            if (kind === 'video') {{
              const all = RTCRtpReceiver.getCapabilities('video').codecs;
              transceiver.setCodecPreferences(all.filter((codec) => codec.mimeType === 'video/{codec}'));
            }}
            return transceiver;
          }};
        }})()"
    )
}

/// Joins a session with the shipped client, in a page that shows nothing else. `mouthpiece` is the client, as on ours.
fn join(session: &str) -> String {
    format!(
        "(async () => {{
          const {{ AvatarWebRTCClient }} = await import('/client.js');
          const video = document.body.appendChild(document.createElement('video'));
          globalThis.mouthpiece = new AvatarWebRTCClient(null, video);
          return mouthpiece.connect(`ws://${{location.host}}/ws?session={session}`, video).then(() => true);
        }})()"
    )
}

/// A page of the server that receives one codec only and runs nothing by itself.
async fn page_receiving_only(chromium: &Chromium, server: &Server, codec: &str) -> Page {
    let page = chromium.page(&server.url("style.css")).await;
    page.evaluate(&receive_only(codec)).await;
    page
}

/// GStreamer names a thread after the pad it pushes from.
fn streaming(server: &Holding) -> usize {
    server.threads.iter().filter(|(name, _)| name.ends_with(":src")).map(|(_, count)| count).sum()
}

async fn codec_of(page: &Page) -> String {
    page.evaluate("mouthpiece.stats().then((stats) => stats.codec)").await.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_the_sessions_codec_watches_beside_one_that_has_it() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let first = chromium.page(&server.url("?session=shared")).await;
    first.wait_until_live().await;
    first.wait_for("!mouthpiece.speaking").await;
    assert_eq!((server.metric(H264).await, server.metric(VP8).await), (Some(1.0), None));
    let before = server.holding();

    let second = page_receiving_only(&chromium, &server, "VP8").await;
    assert_eq!(second.evaluate(&join("shared")).await, true);
    second.wait_until_connected().await;
    assert_eq!((codec_of(&first).await, codec_of(&second).await), ("H264".to_owned(), "VP8".to_owned()));
    assert_eq!((server.metric(H264).await, server.metric(VP8).await), (Some(1.0), Some(1.0)));
    second.expect_speech().await;
    let (spoken, watched) = tokio::join!(first.speak_to_the_end(SENTENCE), second.hear_to_the_end());
    eprintln!("first {spoken}\nsecond {watched}");
    assert!(spoken.fps() > 22.0 && spoken.power > 1e-3, "{spoken}");
    assert!(watched.fps() > 22.0 && watched.power > 1e-3, "{watched}");
    assert_eq!(second.count().await.width, 512.0);

    second.close().await;
    server.wait_for_metric(VP8, 0.0).await;
    server.wait_for_metric("mouthpiece_connections", 1.0).await;
    let after = server.holding_when(|now| streaming(now) <= streaming(&before)).await;
    assert_eq!(streaming(&after), streaming(&before), "before {before:#?}\nafter {after:#?}");
    // Who stays goes on watching.
    first.sees(25).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_named_encoder_a_browser_without_its_codec_is_told_so() {
    let chromium = Chromium::launch().await;
    for (encoder, ours, theirs) in [("x264enc", "H264", "VP8"), ("vp8enc", "VP8", "H264")] {
        let server = Server::start_with(&["--encoder", encoder]).await;
        let page = page_receiving_only(&chromium, &server, theirs).await;
        let refused = page.try_evaluate(&join("shared")).await.unwrap_err();
        let told = format!("this session's video is {ours}, and the offer receives only {theirs}");
        assert!(refused.contains(&told), "{refused}");
        page.wait_for("mouthpiece.state === 'failed'").await;
        server.stop().await;
    }
}
