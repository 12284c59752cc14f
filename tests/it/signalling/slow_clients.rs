//! Clients that do not read, do not answer or do not go, on a clock that runs by itself when everything waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use mouthpiece::access::{Access, Grant, Settings};
use mouthpiece::endpoint::Key;
use mouthpiece::ids::UtteranceId;
use mouthpiece::session::{Notice, Told};
use mouthpiece::signalling::guard::door::Door;
use mouthpiece::signalling::handshake::JoinRequest;
use mouthpiece::signalling::{client_task, socket};
use serde_json::json;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::fakes::{FakeSessions, Ledger};

/// A connection over a pipe.
struct Piped {
    far: DuplexStream,
    task: JoinHandle<()>,
    ledger: Arc<Ledger>,
    shutdown: CancellationToken,
}

/// `bytes`: what the pipe holds.
async fn connect(bytes: usize) -> Piped {
    let piped = come_by(Door::Open(Arc::new(Grant::everything())), bytes).await;
    while piped.ledger.sessions.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    piped
}

async fn come_by(door: Door, bytes: usize) -> Piped {
    let (near, far) = duplex(bytes);
    let stream = WebSocketStream::from_raw_socket(near, Role::Server, Some(socket::config())).await;
    let sessions = FakeSessions::default();
    let ledger = Arc::clone(&sessions.0);
    let shutdown = CancellationToken::new();
    let request = Ok(JoinRequest::default());
    let task = tokio::spawn(client_task::run(stream, Arc::new(sessions), door, request, shutdown.clone()));
    Piped { far, task, ledger, shutdown }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shows_no_token_is_told_so_after_a_while_and_has_no_session() {
    let settings = Settings { secret: Some(Key::new("a secret of the tests, thirty-two+")), ..Settings::default() };
    let access = Access::open(settings).await.unwrap();
    let Piped { far, task, ledger, .. } = come_by(Door::Asks(Arc::new(access)), 64 * 1024).await;
    let began = Instant::now();
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    let Some(Ok(Message::Text(told))) = client.next().await else { panic!("nothing is told") };
    assert!(told.contains("\"unauthorized\"") && told.contains("\"fatal\":true"), "{told}");
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    let Some(Ok(Message::Close(Some(frame)))) = client.next().await else { panic!("it is not closed") };
    assert_eq!(u16::from(frame.code), 1008);
    drop(client);
    task.await.unwrap();
    assert!(ledger.joined.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped_and_its_session_never_waits() {
    let Piped { far: _far, task, ledger, .. } = connect(512).await;
    let started = Instant::now();
    let notices = ledger.notices.lock().unwrap().pop().unwrap();
    let mut taken = 0;
    let utterance = UtteranceId::next();
    // Offers a notice at a time until the connection is gone; a full channel is the session's cue to drop.
    while !notices.is_closed() {
        match notices.tell(Notice::SpeechStarted { utterance, id: None }) {
            Told::Yes => taken += 1,
            Told::Missed | Told::Gone => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    task.await.unwrap();
    assert!(taken < 300, "{taken} notices were kept for a client that reads nothing");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_late_is_told_how_much_it_missed_and_where() {
    let Piped { far, ledger, .. } = connect(512).await;
    let notices = ledger.notices.lock().unwrap().pop().unwrap();
    const TOLD: usize = 1000;
    for number in 0..TOLD {
        notices.tell(Notice::Transcript { content: number.to_string(), is_final: true });
        tokio::task::yield_now().await;
    }
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    let (mut next, mut gaps) = (0, 0);
    while next < TOLD {
        let Message::Text(text) = client.next().await.unwrap().unwrap() else { continue };
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str().unwrap() {
            "transcript" => {
                assert_eq!(message["content"], next.to_string());
                next += 1;
            }
            "missed" => {
                next += usize::try_from(message["count"].as_u64().unwrap()).unwrap();
                gaps += 1;
            }
            _ => {}
        }
    }
    assert_eq!((next, gaps), (TOLD, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_stays_and_one_that_does_not_is_dropped() {
    let Piped { far, task, .. } = connect(64 * 1024).await;
    let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
    let started = Instant::now();
    let mut pings = 0;
    // Reading answers pings.
    while started.elapsed() < Duration::from_secs(600) {
        if let Message::Ping(_) = client.next().await.unwrap().unwrap() {
            pings += 1;
        }
    }
    assert!(!task.is_finished());
    assert!(pings >= 29, "{pings} pings in ten minutes");
    client.send(Message::text(json!({"type": "ping"}).to_string())).await.unwrap();
    while !client.next().await.unwrap().unwrap().is_text() {}

    let mut far = client.into_inner();
    let silent_since = Instant::now();
    let mut scratch = [0; 1024];
    while far.read(&mut scratch).await.unwrap() > 0 {}
    task.await.unwrap();
    assert!(silent_since.elapsed() < Duration::from_secs(90), "it took {:?}", silent_since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_close_when_told_is_dropped() {
    let Piped { mut far, task, ledger, shutdown } = connect(64 * 1024).await;
    let started = Instant::now();
    shutdown.cancel();
    let mut told = Vec::new();
    far.read_to_end(&mut told).await.unwrap();
    task.await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("shutting_down"));
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    assert_eq!(ledger.sessions.load(Ordering::SeqCst), 0);
}
