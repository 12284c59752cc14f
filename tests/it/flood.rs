//! Figures: what a speaking session and the server's health lose while strangers flood the port from one address, and while
//! others join with avatars that are not loaded yet. Not run by default:
//!
//!     cargo test --release --test it -- --ignored figures_ --nocapture --test-threads=1

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{client_async, connect_async};
use tokio_util::sync::CancellationToken;

use crate::cli::{Watching, http, next};
use crate::limits::Server;

const SECONDS: u64 = 15;
const TEXT: &str = "This is a sentence that goes on for a while so that there is always a mouth to draw for somebody. ";

/// Mouths that were drawn in time and that were not, so far.
async fn mouths(address: &str) -> [f64; 2] {
    let metrics = http(address, "/metrics").await;
    ["fresh", "repeated"].map(|kind| {
        let name = format!("mouthpiece_mouth_frames_total{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |count| count.parse().unwrap())
    })
}

/// Seconds of processor time that this process and the server's have used.
fn spent(server: &Server) -> f64 {
    let of = |process: u32| -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
    };
    of(std::process::id()) + of(server.process())
}

/// A connection from the strangers' own address.
async fn connect(address: &str) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("127.0.0.2:0".parse().unwrap())?;
    socket.connect(address.parse().unwrap()).await
}

/// A session that speaks and is watched.
struct Speaking {
    _viewer: Watching,
    speaker: tokio::task::JoinHandle<()>,
}

impl Speaking {
    async fn start(address: &str) -> Self {
        let url = format!("ws://{address}/ws?session=speaking");
        let viewer = Watching::start(&url);
        let (mut socket, _) = connect_async(url).await.unwrap();
        let speaker = tokio::spawn(async move {
            loop {
                let speak = json!({"type": "speak", "content": TEXT.repeat(3)}).to_string();
                socket.send(Message::text(speak)).await.unwrap();
                while next(&mut socket).await.is_some_and(|message| message["type"] != "speech_ended") {}
            }
        });
        Self { _viewer: viewer, speaker }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.speaker.abort();
    }
}

/// Tells the share of late mouths, how long health took, and how long others waited for their first words, meanwhile.
#[allow(clippy::print_stderr, reason = "it is what the test is for")]
async fn measured(what: &str, address: &str) -> f64 {
    let before = mouths(address).await;
    let began = Instant::now();
    let (mut health, mut words) = (Vec::new(), Vec::new());
    while began.elapsed() < Duration::from_secs(SECONDS) {
        let asked = Instant::now();
        assert!(http(address, "/healthz").await.starts_with("HTTP/1.1 200"), "{what}");
        health.push(asked.elapsed().as_millis());
        if let Ok((mut other, _)) = connect_async(format!("ws://{address}/ws")).await {
            let asked = Instant::now();
            let _ = other.send(Message::text(json!({"type": "speak", "content": "Hello there."}).to_string())).await;
            while let Some(message) = next(&mut other).await {
                if message["type"] == "speech_started" {
                    words.push(asked.elapsed().as_millis());
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = mouths(address).await;
    let [fresh, repeated] = [after[0] - before[0], after[1] - before[1]];
    let late = 100.0 * repeated / (fresh + repeated).max(1.0);
    words.sort_unstable();
    let p50 = words.get(words.len() / 2).copied().unwrap_or_default();
    eprintln!(
        "{what}: {late:.1} % of {:.0} mouths late, health within {} ms, first words of others {p50} ms (p50), {} ms (max), {} times",
        fresh + repeated,
        health.iter().max().unwrap(),
        words.last().copied().unwrap_or_default(),
        words.len()
    );
    late
}

/// Strangers that do all that a stranger can, until it is cancelled.
async fn flood(address: String, ended: CancellationToken) {
    let mut strangers = Vec::new();
    let mut stranger = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        strangers.push(tokio::spawn(ended.clone().run_until_cancelled_owned(work)));
    };
    for _ in 0..4 {
        let address = address.clone();
        stranger(Box::pin(async move {
            loop {
                let mut idle = Vec::new();
                for _ in 0..150 {
                    idle.extend(connect(&address).await.ok());
                }
            }
        }));
    }
    for message in [
        Message::Ping(Vec::new().into()),
        Message::text(json!({"type": "ping", "deep": "x".repeat(60_000)}).to_string()),
        Message::text(
            json!({"type": "webrtc_offer", "sdp": include_str!("../fixtures/sdp/chromium-156.sdp")}).to_string(),
        ),
        Message::text(json!({"type": "speak", "content": format!("{} ", "a".repeat(195)).repeat(20)}).to_string()),
    ] {
        for _ in 0..4 {
            let (address, message) = (address.clone(), message.clone());
            stranger(Box::pin(async move {
                loop {
                    let Ok(stream) = connect(&address).await else { continue };
                    let joined = client_async(format!("ws://{address}/ws"), stream).await;
                    let Ok((socket, _)) = joined else { continue };
                    let (mut to, mut from) = socket.split();
                    let sending = async { while to.send(message.clone()).await.is_ok() {} };
                    tokio::select! {
                        () = sending => {}
                        () = async { while matches!(from.next().await, Some(Ok(_))) {} } => {}
                    }
                }
            }));
        }
    }
    for _ in 0..8 {
        let address = address.clone();
        stranger(Box::pin(async move {
            let body = r#"{"content": "Hello there."}"#;
            let post = format!(
                "POST /api/sessions/mine/text HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            loop {
                let Ok(mut stream) = connect(&address).await else { continue };
                let mut answers = vec![0; 16 * 1024];
                while stream.write_all(post.as_bytes()).await.is_ok() {
                    if !matches!(stream.read(&mut answers).await, Ok(1..)) {
                        break;
                    }
                }
            }
        }));
    }
    for stranger in strangers {
        let _ = stranger.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, takes a minute"]
async fn figures_of_a_speaking_session_while_strangers_flood() {
    let server = Server::start_in(Path::new(env!("CARGO_MANIFEST_DIR")), 4096, "");
    let address = server.address.clone();
    let _speaking = Speaking::start(&address).await;
    let before = spent(&server);
    measured("quiet", &address).await;
    let quiet = spent(&server) - before;
    let ended = CancellationToken::new();
    let flooding = tokio::spawn(flood(address.clone(), ended.clone()));
    let before = spent(&server);
    let flooded = measured("flooded", &address).await;
    let share = (spent(&server) - before - quiet).max(0.0) / SECONDS as f64;
    ended.cancel();
    flooding.await.unwrap();
    // As much processor time as the strangers had, here and in the server, and nothing else.
    let stop = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(10).mul_f64((share / 2.0).min(1.0)) {
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(Duration::from_millis(10).saturating_sub(began.elapsed()));
                }
            })
        })
        .collect();
    let beside = measured(&format!("beside a busy loop of {:.0} % of a core", 100.0 * share), &address).await;
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    eprintln!("{:.1} points more late mouths than beside the busy loop", flooded - beside);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, takes a minute"]
async fn figures_of_a_speaking_session_while_others_join_with_avatars_of_their_own() {
    let names: Vec<String> = (0..8).map(|number| format!("other{number}")).collect();
    let home = crate::avatars::home(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let server = Server::start_in(home.path(), 4096, "limit_addresses = false\n");
    let address = server.address.clone();
    let _speaking = Speaking::start(&address).await;
    measured("alone", &address).await;
    let joining = {
        let address = address.clone();
        tokio::spawn(async move {
            for name in names {
                let asked = Instant::now();
                let (mut socket, _) = connect_async(format!("ws://{address}/ws?avatar={name}")).await.unwrap();
                assert_eq!(next(&mut socket).await.unwrap()["type"], "session");
                eprintln!("joined with {name} after {} ms", asked.elapsed().as_millis());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        })
    };
    measured("while others join with avatars of their own", &address).await;
    joining.await.unwrap();
}
