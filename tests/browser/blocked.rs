//! Browsers behind a symmetric address translator and behind firewalls that let no UDP through, or one port of it: real
//! networks, in namespaces, with coturn as the TURN server.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use super::chromium::Chromium;
use super::namespaces::{Lab, SERVER, in_the_viewers};
use super::server::Server;
use super::watchdog;

/// What anybody may be made to wait.
const SOON: Duration = Duration::from_secs(2);
const SECRET: &str = "north";

/// Joins, waits until the connection stands, and says how long that took and by which path.
const JOIN: &str = "(async () => {
  const { AvatarWebRTCClient } = await import('/client.js');
  const video = document.body.appendChild(document.createElement('video'));
  globalThis.mouthpiece = new AvatarWebRTCClient(null, video);
  const began = performance.now();
  mouthpiece.connect(`ws://${location.host}/ws`, video);
  while (mouthpiece.peerConnection?.connectionState !== 'connected') {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  globalThis.took = performance.now() - began;
  const reports = await mouthpiece.peerConnection.getStats();
  const transport = [...reports.values()].find(({ type }) => type === 'transport');
  const pair = reports.get(transport.selectedCandidatePairId);
  const [local, remote] = [reports.get(pair.localCandidateId), reports.get(pair.remoteCandidateId)];
  globalThis.path = [local.candidateType, local.relayProtocol ?? remote.protocol, remote.port].join(' ');
  return true;
})()";

/// How the browser reached the server.
async fn path(chromium: &Chromium, server: &Server, what: &str) -> String {
    let page = chromium.page(&server.url("style.css")).await;
    page.evaluate(JOIN).await;
    page.sees(10).await;
    let took = Duration::from_secs_f64(page.evaluate("took").await.as_f64().unwrap() / 1000.0);
    let path = page.evaluate("path").await.as_str().unwrap().to_owned();
    eprintln!("{what}: connected after {took:?} by {path}");
    assert!(took < SOON, "{what}: {took:?}");
    page.close().await;
    path
}

/// A TURN server beside the mouthpiece.
struct Turn(Child);

impl Turn {
    async fn start(lab: &Lab) -> Self {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &lab.servers(),
            "turnserver",
            "-n",
            "--log-file",
            "stdout",
            "--no-tls",
            "--no-dtls",
        ]);
        command.args(["--no-cli", "--realm", "example.org", "--use-auth-secret", "--static-auth-secret", SECRET]);
        command.args(["--listening-ip", SERVER, "--relay-ip", SERVER, "--pidfile", "/dev/null"]);
        let turn = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let address = format!("{SERVER}:3478");
        watchdog::until("coturn listens", async || TcpStream::connect(&address).await.is_ok()).await;
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn through_every_firewall(lab: Lab) {
    let chromium = Chromium::launch().await;
    let start = async |lines: &str, arguments: &[&str]| {
        Server::start_in(&lab.servers(), &format!("{SERVER}:0"), lines, arguments).await
    };

    let server = start("", &[]).await;
    assert!(path(&chromium, &server, "a symmetric translator").await.contains(" udp "));
    server.stop().await;

    let server = start("", &["--media-port", "443"]).await;
    lab.only_udp_ports(&[443]);
    assert!(path(&chromium, &server, "UDP by port 443 alone").await.ends_with(" udp 443"));
    lab.only_udp_ports(&[]);
    assert!(path(&chromium, &server, "no UDP, one port").await.ends_with(" tcp 443"));
    server.stop().await;

    let _turn = Turn::start(&lab).await;
    let turn = format!("turn = \"turn:{SERVER}:3478\"\nturn_secret = \"{SECRET}\"\n");
    let over_tcp = format!("turn_urls = [\"turn:{SERVER}:3478?transport=tcp\"]\n");
    let server = start(&format!("{turn}{over_tcp}"), &[]).await;
    assert!(path(&chromium, &server, "no UDP, TURN over TCP").await.starts_with("relay tcp "));
    server.stop().await;

    lab.everything();
    let server = start(&format!("{turn}relay_only = true\n"), &[]).await;
    assert!(path(&chromium, &server, "relay only").await.starts_with("relay udp "));
    server.stop().await;
}

#[test]
fn a_browser_connects_within_two_seconds_through_every_firewall() {
    in_the_viewers("blocked::a_browser_connects_within_two_seconds_through_every_firewall", through_every_firewall);
}
