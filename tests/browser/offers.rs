//! What a browser offers after its first offer, with an RTCPeerConnection of the test's own.

use super::chromium::Chromium;
use super::server::Server;

/// A viewer that can offer again. `negotiate` gives the answer or throws the error; `plays` waits for new frames.
const VIEWER: &str = "(() => {
  const pc = new RTCPeerConnection();
  const socket = new WebSocket(`ws://${location.host}/ws`);
  const waiting = [];
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === 'session') waiting.shift()?.(message);
    if (message.type === 'webrtc_answer' || message.type === 'error') waiting.shift()?.(message);
    if (message.type === 'webrtc_ice_candidate') pc.addIceCandidate(message.candidate ?? undefined).catch(() => {});
  };
  const next = () => new Promise((resolve) => waiting.push(resolve));
  const joined = next();
  pc.onicecandidate = ({ candidate }) => socket.send(JSON.stringify({ type: 'webrtc_ice_candidate', candidate }));
  const video = document.body.appendChild(document.createElement('video'));
  video.muted = true;
  video.autoplay = true;
  video.srcObject = new MediaStream();
  pc.ontrack = ({ track }) => video.srcObject.addTrack(track);
  const frames = async () => {
    let found = 0;
    (await pc.getStats()).forEach((report) => {
      if (report.type === 'inbound-rtp' && report.kind === 'video') found += report.framesDecoded ?? 0;
    });
    return found;
  };
  globalThis.viewer = {
    pc, joined, frames,
    async negotiate() {
      await joined;
      await pc.setLocalDescription(await pc.createOffer());
      socket.send(JSON.stringify({ type: 'webrtc_offer', sdp: pc.localDescription.sdp }));
      const answer = await next();
      if (answer.type === 'error') throw new Error(answer.code);
      await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
      return answer.sdp;
    },
    async refused(sdp) {
      socket.send(JSON.stringify({ type: 'webrtc_offer', sdp }));
      return (await next()).code;
    },
    async plays(more) {
      const before = await frames();
      while (pc.connectionState !== 'connected' || await frames() < before + more) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return true;
    },
  };
})()";

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_offers_again_goes_on_watching_whatever_becomes_of_it() {
    let chromium = Chromium::launch().await;
    let server = Server::start().await;
    let page = chromium.page(&server.url("style.css")).await;
    page.evaluate(VIEWER).await;
    let first = "(async () => {
      viewer.pc.addTransceiver('video', { direction: 'recvonly' });
      viewer.pc.addTransceiver('audio', { direction: 'recvonly' });
      await viewer.negotiate();
      return viewer.plays(20);
    })()";
    assert_eq!(page.evaluate(first).await, true);

    let refused = page
        .evaluate("viewer.refused('v=0\\r\\n').then((code) => viewer.plays(20).then((plays) => [code, plays]))")
        .await;
    assert_eq!(refused, serde_json::json!(["bad_sdp", true]));

    let again = "(async () => {
      viewer.pc.createDataChannel('x');
      const answer = await viewer.negotiate();
      return [answer.includes('m=application 0 '), await viewer.plays(20)];
    })()";
    assert_eq!(page.evaluate(again).await, serde_json::json!([true, true]));

    let paused = "(async () => {
      const [video] = viewer.pc.getTransceivers();
      video.direction = 'inactive';
      await viewer.negotiate();
      video.direction = 'recvonly';
      await viewer.negotiate();
      return viewer.plays(20);
    })()";
    assert_eq!(page.evaluate(paused).await, true);

    let restarted = "(async () => {
      viewer.pc.restartIce();
      const code = await viewer.negotiate().then(() => 'answered', (error) => error.message);
      await viewer.pc.setLocalDescription({ type: 'rollback' });
      return [code, await viewer.plays(20)];
    })()";
    assert_eq!(page.evaluate(restarted).await, serde_json::json!(["negotiation_failed", true]));

    page.close().await;
    server.stop().await;
}
