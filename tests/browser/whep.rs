//! Chromium as a player that knows WHEP and nothing of ours: plain `fetch`, from a page of another origin than the server's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::chromium::Chromium;
use super::server::Server;

/// What a player does: offer, post, take the answer, send its candidates by PATCH.
const PLAYER: &str = "(async (endpoint) => {
  const peer = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const stream = new MediaStream();
  const video = document.body.appendChild(document.createElement('video'));
  Object.assign(video, {autoplay: true, muted: false, srcObject: stream});
  peer.ontrack = (event) => stream.addTrack(event.track);
  for (const kind of ['audio', 'video']) peer.addTransceiver(kind, {direction: 'recvonly'});
  const candidates = [];
  const gathered = new Promise((done) => {
    peer.onicecandidate = ({candidate}) => (candidate?.candidate ? candidates.push(candidate) : done());
  });
  await peer.setLocalDescription();
  const headers = {'Content-Type': 'application/sdp'};
  const created = await fetch(endpoint, {method: 'POST', headers, body: peer.localDescription.sdp});
  if (created.status !== 201) throw new Error(`${created.status} ${await created.text()}`);
  const place = new URL(created.headers.get('Location'), endpoint).href;
  const tag = created.headers.get('ETag');
  await peer.setRemoteDescription({type: 'answer', sdp: await created.text()});
  await gathered;
  const ufrag = peer.localDescription.sdp.match(/a=ice-ufrag:(.*)/)[1];
  const password = peer.localDescription.sdp.match(/a=ice-pwd:(.*)/)[1];
  const fragment = [`a=ice-ufrag:${ufrag}`, `a=ice-pwd:${password}`, 'm=audio 9 UDP/TLS/RTP/SAVPF 0', 'a=mid:0',
    ...candidates.map(({candidate}) => `a=${candidate}`), 'a=end-of-candidates', ''].join('\\r\\n');
  const trickled = await fetch(place, {
    method: 'PATCH', headers: {'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': tag}, body: fragment,
  });
  globalThis.player = {peer, video, place};
  return [tag !== null, trickled.status];
})";

/// Frames decoded, and the energy of the sound (W3C webrtc-stats).
const RECEIVED: &str = "(async () => {
  const found = {frames: 0, energy: 0};
  for (const report of (await player.peer.getStats()).values()) {
    if (report.type !== 'inbound-rtp') continue;
    if (report.kind === 'video') found.frames = report.framesDecoded;
    else found.energy = report.totalAudioEnergy;
  }
  return found.frames > 25 && found.energy > 1e-6 && player.video.videoWidth === 512;
})()";

/// Another origin, whose pages are empty.
async fn empty_pages() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n")
                && let Ok(byte) = stream.read_u8().await
            {
                request.push(byte);
            }
            let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<!DOCTYPE html>";
            let _ = stream.write_all(page.as_bytes()).await;
        }
    });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_sees_and_hears_the_avatar_by_plain_fetch() {
    let chromium = Chromium::launch().await;
    let origin = empty_pages().await;
    let server = Server::start_with_settings(&format!("allowed_origins = [\"{origin}\"]\n")).await;
    let speaker = chromium.page(&server.url("?session=room")).await;
    speaker.wait_until_live().await;
    let player = chromium.page(&format!("{origin}/")).await;
    let told = player.evaluate(&format!("{PLAYER}('{}')", server.url("whep/room"))).await;
    assert_eq!(told, serde_json::json!([true, 204]));
    let (spoken, _) = tokio::join!(
        speaker.speak_to_the_end("People believe what they can see, and they hear what they want to hear."),
        player.wait_for(RECEIVED)
    );
    assert!(spoken.fps() > 22.0, "{spoken}");
    let ended = "fetch(player.place, {method: 'DELETE'}).then((ended) => ended.status)";
    assert_eq!(player.evaluate(ended).await, 200);
    player.wait_for("player.peer.connectionState !== 'connected'").await;
    player.close().await;
    speaker.close().await;
}
