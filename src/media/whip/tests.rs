//! Into a media server of the tests' own: HTTP by hand, and a webrtcbin that answers, decodes and counts.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::endpoint::Key;
use crate::media::testing::{Browser, PATIENCE, Stage, loopback};

/// What the server says to an offer that it does not take; it is told how many requests came before.
type Judge = fn(&str, usize) -> Option<&'static str>;

/// A media server; ends with the test.
struct Server {
    url: String,
    /// Heads of the requests.
    asked: Arc<Mutex<Vec<String>>>,
    /// The receiving peer of each offer that it took.
    peers: mpsc::Receiver<Browser>,
}

impl Server {
    async fn start(judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/whip", listener.local_addr().unwrap());
        let (asked, (sender, peers)) = (Arc::new(Mutex::new(Vec::new())), mpsc::channel(4));
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &heard, judge, &sender).await;
            }
        });
        Self { url, asked, peers }
    }

    fn endpoint(&self) -> WhipEndpoint {
        WhipEndpoint::new(&self.url, Some(Key::new("secret"))).unwrap()
    }

    async fn peer(&mut self) -> Browser {
        timeout(PATIENCE, self.peers.recv()).await.unwrap().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, asked: &Mutex<Vec<String>>, judge: Judge, peers: &mpsc::Sender<Browser>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let offer = String::from_utf8(body).unwrap();
    let before = asked.lock().unwrap().len();
    asked.lock().unwrap().push(head.clone());
    let (status, answer) = if head.starts_with("delete") {
        ("200 OK", String::new())
    } else if let Some(status) = judge(&offer, before) {
        (status, "not this one".to_owned())
    } else {
        let mut browser = Browser::receiving("", false, false);
        let answer = browser.answer(&offer).await;
        peers.try_send(browser).ok().unwrap();
        ("201 Created", answer)
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nLocation: /session/1\r\nLink: <stun:127.0.0.1:1>; rel=\"ice-server\"\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// A session that is pushed, and what is told of it.
struct Pushed {
    told: mpsc::Receiver<PushEvent>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn push(stage: &Stage, server: &Server) -> Pushed {
    let (sender, told) = mpsc::channel(64);
    let (broadcast, endpoint, stop) = (stage.broadcast.clone(), server.endpoint(), CancellationToken::new());
    let stopping = stop.clone();
    let task = tokio::spawn(async move {
        publish(&broadcast, &endpoint, &loopback(), &stopping, |event| drop(sender.try_send(event))).await;
    });
    Pushed { told, stop, task }
}

impl Pushed {
    async fn next(&mut self) -> PushEvent {
        timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_seen_and_heard_at_a_media_server_that_was_not_there_at_first_and_deleted_in_the_end() {
    let stage = Stage::open(&["x264enc"]);
    let mut server = Server::start(|_, before| (before == 0).then_some("503 Service Unavailable")).await;
    let mut pushed = push(&stage, &server);
    assert!(matches!(pushed.next().await, PushEvent::Retrying { .. }));
    let mut peer = server.peer().await;
    assert_eq!(pushed.next().await, PushEvent::Live);
    peer.decoded("video", 10).await;
    peer.decoded("audio", 10).await;
    pushed.stop.cancel();
    pushed.task.await.unwrap();
    let post = "post /whip http/1.1";
    assert_eq!(server.asked(), [post, post, "delete /session/1 http/1.1"]);
    assert!(server.asked.lock().unwrap().iter().all(|head| head.contains("authorization: bearer secret")));
}

#[tokio::test(start_paused = true)]
async fn a_media_server_that_stops_reporting_is_gone_and_one_that_never_has_may_be_there() {
    let (events, mut inbox) = mpsc::channel(4);
    let never = over(&mut inbox, || 0);
    assert!(timeout(Duration::from_secs(200), never).await.is_err());
    // As often as webrtcbin reports and as often as media servers do, for a minute each.
    for (every, silence) in [(5, 15), (1, 4)] {
        let began = Instant::now();
        let reported = || began.elapsed().as_secs().min(60) / every + 1;
        let reason = over(&mut inbox, reported).await;
        assert!(reason.contains(&format!("nothing for {silence} s")), "{reason}");
        assert_eq!(began.elapsed(), Duration::from_secs(60 + silence));
    }
    events.try_send(PeerEvent::Closed { reason: "gone".to_owned() }).unwrap();
    assert_eq!(over(&mut inbox, || 1).await, "gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_codec_is_offered_where_the_first_is_not_taken() {
    let stage = Stage::open(&["x264enc", "vp8enc"]);
    let mut server = Server::start(|offer, _| offer.contains("H264").then_some("422 Unprocessable Content")).await;
    let mut pushed = push(&stage, &server);
    let PushEvent::Retrying { reason } = pushed.next().await else { panic!("H.264 was taken") };
    assert!(reason.contains("422") && reason.contains("not this one"), "{reason}");
    let mut peer = server.peer().await;
    assert_eq!(pushed.next().await, PushEvent::Live);
    peer.decoded("video", 5).await;
    pushed.stop.cancel();
    pushed.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_nothing_helps_fails_and_one_that_something_may_help_goes_on() {
    let stage = Stage::open(&["x264enc"]);
    for (judge, says) in [
        ((|_, _| Some("401 Unauthorized")) as Judge, "401"),
        (|_, _| Some("415 Unsupported Media Type"), "415"),
        (|_, _| Some("400 Bad Request"), "400"),
    ] {
        let server = Server::start(judge).await;
        let mut pushed = push(&stage, &server);
        let PushEvent::Failed { reason } = pushed.next().await else { panic!("{says} goes on") };
        assert!(reason.contains(says) && !reason.contains("secret"), "{reason}");
        pushed.task.await.unwrap();
        assert_eq!(server.asked().len(), 1);
    }
    let server = Server::start(|_, _| Some("503 Service Unavailable")).await;
    let mut pushed = push(&stage, &server);
    for _ in 0..2 {
        assert!(matches!(pushed.next().await, PushEvent::Retrying { .. }));
    }
    pushed.stop.cancel();
    pushed.task.await.unwrap();
}
