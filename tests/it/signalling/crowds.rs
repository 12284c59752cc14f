//! More connections than there is room for: who is served, who goes, and that whoever looks after the server always gets an
//! answer.

use mouthpiece::signalling::quota::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fakes::TestServer;
use crate::watchdog;

async fn full_of(requests: usize, limits_addresses: bool) -> TestServer {
    TestServer::with(|options| {
        options.connections = ConnectionLimits { requests, event_streams: 2, web_sockets: 4, sessions: 8 };
        options.limits_addresses = limits_addresses;
    })
    .await
}

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// Sends a request and reads all of the answer; the connection is closed after it.
async fn ask(server: &TestServer, stream: &mut TcpStream, request: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    watchdog::comes("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

async fn get(server: &TestServer, path: &str) -> String {
    ask(server, &mut connect(server).await, &format!("GET {path}")).await
}

/// As soon as there is a place.
async fn served(server: &TestServer, path: &str) -> String {
    let served = async {
        loop {
            let answer = get(server, path).await;
            if !is(&answer, 503) {
                return answer;
            }
        }
    };
    watchdog::comes("it is served", served).await
}

fn is(answer: &str, status: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
}

/// A connection that is being answered for as long as its body does not come.
async fn busy(server: &TestServer) -> TcpStream {
    let mut stream = connect(server).await;
    let head = format!(
        "POST /api/sessions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // It is asked for the body, so it is at it.
    let mut go_on = [0; 25];
    watchdog::comes("it is asked for the body", stream.read_exact(&mut go_on)).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    stream
}

#[tokio::test]
async fn idle_connections_never_close_the_port() {
    let server = full_of(8, true).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&server).await);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(is(&get(&server, path).await, 200), "{path}");
    }
    // As soon as they had time to ask for something.
    for path in ["/", "/api/openapi.json"] {
        assert!(is(&served(&server, path).await, 200), "{path}");
    }
    // Those that went were closed, not forgotten.
    let mut byte = [0];
    assert_eq!(watchdog::comes("it is closed", idle[0].read(&mut byte)).await.unwrap_or(0), 0);
    server.stop().await;
}

#[tokio::test]
async fn where_every_place_is_busy_health_is_told_and_everything_else_refused() {
    let server = full_of(4, false).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(busy(&server).await);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert!(is(&get(&server, path).await, 200), "{path}");
    }
    for path in ["/", "/api/openapi.json"] {
        let refused = get(&server, path).await;
        assert!(is(&refused, 503) && refused.contains("retry-after: 5"), "{refused}");
    }
    assert!(get(&server, "/api/openapi.json").await.contains("\"server_full\""));
    // Nobody who is being answered went for it.
    for mut stream in all {
        stream.write_all(br#"{"x": 1} "#).await.unwrap();
        let mut answer = [0; 12];
        watchdog::comes("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 422");
    }
    server.stop().await;
}

#[tokio::test]
async fn listeners_of_events_have_a_share_of_their_own() {
    let server = full_of(4, false).await;
    let mut named = connect(&server).await;
    let body = r#"{"session":"mine"}"#;
    let length = body.len();
    let head = format!("Content-Type: application/json\r\nContent-Length: {length}");
    let request = format!("POST /api/sessions HTTP/1.1\r\nHost: {}\r\n{head}\r\n\r\n{body}", server.address);
    named.write_all(request.as_bytes()).await.unwrap();
    let mut created = [0; 12];
    named.read_exact(&mut created).await.unwrap();
    let listen = async || {
        let mut stream = connect(&server).await;
        let request = format!("GET /api/sessions/mine/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        watchdog::comes("an answer", stream.read_exact(&mut status)).await.unwrap();
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let (first, second, third) = (listen().await, listen().await, listen().await);
    assert_eq!([&first.1, &second.1, &third.1], ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 503"]);
    // They take no place from anybody else, and lose none to idle ones.
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(connect(&server).await);
    }
    assert!(is(&served(&server, "/").await, 200));
    let (mut first, mut rest) = (first.0, String::new());
    let closing =
        async { while !is(&ask(&server, &mut connect(&server).await, "DELETE /api/sessions/mine").await, 204) {} };
    watchdog::comes("it is closed", closing).await;
    drop(second);
    first.shutdown().await.unwrap();
    watchdog::comes("the stream ends", first.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("text/event-stream"), "it was there until the session was closed: {rest}");
    server.stop().await;
}

#[tokio::test]
async fn requests_of_one_address_over_its_rate_are_refused_in_words_and_health_is_still_told() {
    let server = full_of(64, true).await;
    let mut stream = connect(&server).await;
    let many = format!("GET /nothing HTTP/1.1\r\nHost: {}\r\n\r\n", server.address).repeat(100);
    let began = Instant::now();
    let reading = async {
        let (mut reader, mut writer) = stream.split();
        // As many as are taken: it is closed after the refusal, with requests unread.
        let sending = async { while writer.write_all(many.as_bytes()).await.is_ok() {} };
        let mut answers = Vec::new();
        let (_, read) = tokio::join!(sending, reader.read_to_end(&mut answers));
        drop(read);
        String::from_utf8_lossy(&answers).into_owned()
    };
    let answers = watchdog::comes("the connection is closed", reading).await;
    let (served, refused) = (answers.matches("HTTP/1.1 404 ").count(), answers.matches("HTTP/1.1 429 ").count());
    // A store for bursts and what comes in by the second, however long the machine takes for as many.
    let most = 600 + (150.0 * began.elapsed().as_secs_f64()).ceil() as usize;
    assert!((600..=most).contains(&served) && refused <= 1, "{served} were served, {refused} refused");
    assert!(is(&get(&server, "/healthz").await, 200));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_let_go() {
    let server = full_of(8, false).await;
    let mut stream = connect(&server).await;
    let one = format!("GET /app.js HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let flood = one.repeat(500);
    // The server reads no more once nothing of its answers is read.
    let flooding = tokio::spawn(async move { while stream.write_all(flood.as_bytes()).await.is_ok() {} });
    // Its place is wanted by one who stays after another.
    let wanted = async {
        let mut idle = Vec::new();
        while !flooding.is_finished() {
            assert!(is(&served(&server, "/").await, 200));
            idle.push(connect(&server).await);
        }
    };
    watchdog::comes("it is let go", wanted).await;
    assert!(is(&served(&server, "/").await, 200));
    server.stop().await;
}

#[tokio::test]
async fn addresses_behind_a_trusted_proxy_are_held_to_limits_one_by_one() {
    let server = TestServer::with(|options| {
        options.connections = ConnectionLimits { requests: 8, event_streams: 2, web_sockets: 4, sessions: 8 };
        options.limits_addresses = true;
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let upgrade = async |client: &str| {
        let mut stream = connect(&server).await;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: {client}\r\n\r\n",
            server.address
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        watchdog::comes("an answer", stream.read_exact(&mut status)).await.unwrap();
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let mut sockets = Vec::new();
    for (client, status) in [
        ("198.51.100.1", "HTTP/1.1 101"),
        ("198.51.100.1", "HTTP/1.1 101"),
        ("198.51.100.1", "HTTP/1.1 503"),
        ("203.0.113.9, 198.51.100.1", "HTTP/1.1 503"),
        ("198.51.100.2", "HTTP/1.1 101"),
    ] {
        let (stream, answered) = upgrade(client).await;
        assert_eq!(answered, status, "{client}");
        sockets.push(stream);
    }
    drop(sockets);
    server.stop().await;
}
