//! Browsers that come by the server's one media port: over UDP, and over TCP where no UDP gets through.

use super::chromium::{Chromium, Page};
use super::server::Server;

/// Takes these candidates alone out of the server's answer, as if a firewall let nothing else through.
const FIREWALL: &str = "((passes) => {
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
    globalThis.candidates = sdp.split('\\r\\n').filter((line) => line.startsWith('a=candidate:'));
    const kept = sdp.split('\\r\\n').filter((line) => !line.startsWith('a=candidate:') || line.includes(passes));
    return set.call(this, { type, sdp: kept.join('\\r\\n') });
  };
})";

const JOIN: &str = "(async () => {
  const { AvatarWebRTCClient } = await import('/client.js');
  globalThis.mouthpiece = new AvatarWebRTCClient(null, document.body.appendChild(document.createElement('video')));
  mouthpiece.connect(`ws://${location.host}/ws`);
  return true;
})()";

/// The protocol and the server's port of the path in use.
const PATH: &str = "(async () => {
  const reports = await mouthpiece.peerConnection.getStats();
  const transport = [...reports.values()].find(({ type }) => type === 'transport');
  const pair = reports.get(transport.selectedCandidatePairId);
  const remote = reports.get(pair.remoteCandidateId);
  return [remote.protocol, remote.port];
})()";

async fn join(chromium: &Chromium, server: &Server, passes: &str) -> (Page, u64) {
    let page = chromium.page(&server.url("style.css")).await;
    page.evaluate(&format!("{FIREWALL}('{passes}')")).await;
    page.evaluate(JOIN).await;
    page.wait_until_connected().await;
    let told = page.evaluate("candidates").await;
    let told: Vec<&str> = told.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let ports: Vec<&str> = told.iter().map(|line| line.split(' ').nth(5).unwrap()).collect();
    assert!(ports.iter().all(|port| port == &ports[0]), "{told:?}");
    assert!(told.iter().any(|line| line.contains(" UDP ")), "{told:?}");
    assert!(told.iter().any(|line| line.ends_with("tcptype passive")), "{told:?}");
    (page, ports[0].parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_come_by_one_port_the_one_without_udp_over_tcp() {
    let chromium = Chromium::launch().await;
    let server = Server::start_with(&["--media-port", "0"]).await;
    let (by_udp, port) = join(&chromium, &server, " UDP ").await;
    let (by_tcp, same) = join(&chromium, &server, " TCP ").await;
    assert_eq!(port, same);
    for (page, protocol) in [(&by_udp, "udp"), (&by_tcp, "tcp")] {
        page.sees(50).await;
        assert_eq!(page.evaluate(PATH).await, serde_json::json!([protocol, port]));
    }
    by_udp.close().await;
    by_tcp.sees(50).await;
    by_tcp.close().await;
    server.stop().await;
}
