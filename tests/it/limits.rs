//! The real server where the system allows it little: it refuses in words, lives, and gives back what it took.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::cli::http;
use crate::watchdog;

const OFFER: &str = include_str!("../fixtures/sdp/chromium-156.sdp");
/// What the libraries keep for the next viewer once they have served one: unused threads and their wake-ups.
const KEPT: usize = 12;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server in a process of its own; ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Under a limit of descriptors, both the one that it may raise and the one that it may not. However little the machine
    /// draws just now, that is not what there is too little of.
    fn start(descriptors: usize, settings: &str) -> Self {
        let settings = format!("max_load = 1.0\nspeaking_share = 0.001\n{settings}");
        Self::start_in(Path::new(env!("CARGO_MANIFEST_DIR")), descriptors, &settings)
    }

    pub(crate) fn start_in(home: &Path, descriptors: usize, settings: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings).unwrap();
        let script = format!("ulimit -n {descriptors}; exec \"$0\" serve --listen 127.0.0.1:0 --config \"$1\"");
        let mut child = Command::new("sh")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("RUST_LOG", "warn")
            .env("MOUTHPIECE_HOME", home)
            .args(["-c", &script, env!("CARGO_BIN_EXE_mouthpiece")])
            .arg(file.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").expect("it serves").1.to_owned();
        Self { child, address }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    fn count(&self, what: &str) -> usize {
        std::fs::read_dir(Path::new("/proc").join(self.child.id().to_string()).join(what)).unwrap().count()
    }

    /// Descriptors and threads.
    fn held(&self) -> (usize, usize) {
        (self.count("fd"), self.count("task"))
    }

    /// A client of the one session, or none if there is no place for its connection, which it is told.
    async fn join(&self) -> Option<Socket> {
        match connect_async(format!("ws://{}/ws?session=crowd", self.address)).await {
            Ok((socket, _)) => Some(socket),
            Err(Error::Http(refused)) if refused.status() == 503 => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// A client of the one session, as soon as there is a place for its connection.
    async fn joins(&self) -> Socket {
        let joined = async {
            loop {
                if let Some(socket) = self.join().await {
                    return socket;
                }
            }
        };
        watchdog::comes("there is a place", joined).await
    }

    async fn returns_to(&self, before: (usize, usize)) {
        let back = watchdog::looking(async || {
            let now = self.held();
            now.0 <= before.0 + KEPT && now.1 <= before.1 + KEPT
        });
        let waited = watchdog::guarded(back).await;
        waited.unwrap_or_else(|_| panic!("{:?} descriptors and threads are held, {before:?} before", self.held()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an offer comes to: the answer, or the error.
async fn offer(socket: &mut Socket) -> Value {
    socket.send(Message::text(json!({"type": "webrtc_offer", "sdp": OFFER}).to_string())).await.unwrap();
    outcome(socket).await
}

async fn outcome(socket: &mut Socket) -> Value {
    let said = async {
        loop {
            let frame = socket.next().await.expect("the socket is open").unwrap();
            let Message::Text(text) = frame else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if ["webrtc_answer", "error"].iter().any(|kind| message["type"] == *kind) {
                return message;
            }
        }
    };
    watchdog::comes("the offer is answered or refused", said).await
}

/// Sixty come at once. Some are served, and the others are told why not.
async fn is_crowded(server: &Server, scarce: &str) {
    {
        // What is there from the first viewer on for all others.
        let mut first = server.joins().await;
        assert_eq!(offer(&mut first).await["type"], "webrtc_answer");
    }
    let before = server.held();
    let mut sockets = join_all((0..60).map(|_| server.join())).await;
    let outcomes = join_all(sockets.iter_mut().flatten().map(offer)).await;
    assert!(outcomes.iter().any(|message| message["type"] == "error"), "nobody is refused");
    let served = outcomes.iter().filter(|message| message["type"] == "webrtc_answer").count();
    assert!((2..60).contains(&served), "{served} of 60 are served");
    for refused in outcomes.iter().filter(|message| message["type"] == "error") {
        assert_eq!((&refused["code"], &refused["fatal"]), (&json!("server_full"), &json!(false)), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(scarce), "{refused}");
        assert_eq!(refused["retry_after_s"], 5);
    }
    let ready = http(&server.address, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(scarce), "{ready}");
    assert!(http(&server.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    drop(sockets);
    server.returns_to(before).await;
    let mut again = server.joins().await;
    assert_eq!(offer(&mut again).await["type"], "webrtc_answer");
}

#[tokio::test]
async fn with_few_descriptors_viewers_are_refused_and_idle_sockets_take_none_from_them() {
    let server = Server::start(512, "");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(&server.address).await.unwrap());
    }
    assert!(http(&server.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    is_crowded(&server, "file descriptors").await;
}

#[tokio::test]
async fn with_few_threads_viewers_are_refused() {
    let server = Server::start(4096, "max_threads = 140\n");
    is_crowded(&server, "threads").await;
}

#[test]
fn a_server_that_could_not_serve_one_viewer_does_not_start_and_says_why() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "max_threads = 20\n").unwrap();
    let output = crate::cli::program()
        .args(["serve", "--listen", "127.0.0.1:0", "--config", file.path().to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("threads") && told.contains("max_threads"), "{told}");
}
