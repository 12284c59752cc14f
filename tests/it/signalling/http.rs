//! The plain HTTP side of the port.

use std::sync::Arc;

use mouthpiece::signalling::listener::Readiness;
use mouthpiece::signalling::metrics_listener::{self, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use super::fakes::TestServer;
use crate::watchdog;

/// Status, head and body of the response to a request; `lines` are sent as they are.
async fn request(server: &TestServer, lines: &str) -> (u16, String, String) {
    request_to(server, &server.address.to_string(), lines).await
}

/// The same, with another `Host` than the server's address.
async fn request_to(server: &TestServer, host: &str, lines: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{lines}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

async fn get(server: &TestServer, path: &str) -> (u16, String, String) {
    request(server, &format!("GET {path} HTTP/1.1")).await
}

#[tokio::test]
async fn the_page_and_its_files_come_with_their_types_and_a_strict_policy() {
    let server = TestServer::start().await;
    for (path, content_type, content) in [
        ("/", "text/html; charset=utf-8", include_str!("../../../web/index.html")),
        ("/client.js", "text/javascript; charset=utf-8", include_str!("../../../web/client.js")),
        ("/client/audio.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/audio.js")),
        ("/client/figures.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/figures.js")),
        ("/client/latency.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/latency.js")),
        ("/client/liveness.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/liveness.js")),
        ("/client/microphone.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/microphone.js")),
        ("/voice.js", "text/javascript; charset=utf-8", include_str!("../../../web/voice.js")),
        ("/client/peer.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/peer.js")),
        ("/client/screen.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/screen.js")),
        ("/client/socket.js", "text/javascript; charset=utf-8", include_str!("../../../web/client/socket.js")),
        ("/app.js", "text/javascript; charset=utf-8", include_str!("../../../web/app.js")),
        ("/style.css", "text/css; charset=utf-8", include_str!("../../../web/style.css")),
    ] {
        let (status, head, body) = get(&server, path).await;
        assert_eq!((status, body.as_str()), (200, content), "{path}");
        assert!(head.contains(&format!("content-type: {content_type}\r\n")), "{head}");
        assert!(head.contains("content-security-policy: default-src 'self';"), "{head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        assert!(head.contains("referrer-policy: no-referrer"), "{head}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let server = TestServer::start().await;
    assert_eq!(get(&server, "/healthz").await.0, 200);
    assert_eq!(get(&server, "/readyz").await.0, 200);
    *server.ledger.full.lock().unwrap() = Some("all are watched".to_owned());
    let (status, head, body) = get(&server, "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "all are watched\n"));
    assert!(head.contains("retry-after: 5"), "{head}");
    server.readiness.send(Readiness::NotReady { reason: "the model is loading".to_owned() }).unwrap();
    let (status, _, body) = get(&server, "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "the model is loading\n"));
    let (status, head, body) = get(&server, "/metrics").await;
    assert_eq!((status, body.as_str()), (200, "# the metrics\n"));
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    for path in ["/nothing", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "/ws/x"] {
        assert_eq!(get(&server, path).await.0, 404, "{path}");
    }
    assert_eq!(request(&server, "POST / HTTP/1.1\r\nContent-Length: 0").await.0, 405);
    assert_eq!(request(&server, "GARBAGE").await.0, 400);
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn a_plain_request_for_the_socket_is_told_to_upgrade() {
    let server = TestServer::start().await;
    let (status, head, body) = get(&server, "/ws").await;
    assert_eq!(status, 426);
    assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-version: 13"), "{head}");
    assert!(body.contains("ws://"), "{body}");
    server.stop().await;
}

/// The status that a WebSocket from a page of this origin gets.
async fn status_for_origin(server: &TestServer, origin: &str) -> u16 {
    let mut request = format!("ws://{}/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", origin.parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn pages_of_other_origins_get_no_socket_unless_they_are_allowed() {
    let server = TestServer::start().await;
    assert_eq!(status_for_origin(&server, &format!("http://{}", server.address)).await, 101);
    assert_eq!(status_for_origin(&server, "https://evil.example").await, 403);
    server.stop().await;
    let server = TestServer::with(|options| options.allowed_origins = vec!["https://friend.example".to_owned()]).await;
    assert_eq!(status_for_origin(&server, "https://friend.example").await, 101);
    assert_eq!(status_for_origin(&server, "https://evil.example").await, 403);
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_turns_away_and_takes_again_when_one_leaves() {
    let server = TestServer::with(|options| options.connections.web_sockets = 1).await;
    let client = server.client().await;
    let own = format!("http://{}", server.address);
    assert_eq!(status_for_origin(&server, &own).await, 503);
    assert_eq!(get(&server, "/healthz").await.0, 200, "the page is still served");
    drop(client);
    server.assert_all_left().await;
    while status_for_origin(&server, &own).await != 101 {}
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_was_made_to_point_here_gets_neither_page_nor_socket() {
    let server = TestServer::start().await;
    let port = server.address.port();
    let upgrade = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let rebound = format!("evil.example:{port}");
    let of_its_page = format!("{upgrade}\r\nOrigin: http://{rebound}");
    for lines in ["GET / HTTP/1.1", "GET /metrics HTTP/1.1", "GET /api/openapi.json HTTP/1.1", &of_its_page, upgrade] {
        let (status, head, body) = request_to(&server, &rebound, lines).await;
        assert_eq!(status, 403, "{lines}");
        assert!(body.contains(&rebound) && body.contains("localhost") && body.contains("--allowed-host"), "{body}");
        assert!(head.contains("content-security-policy"), "{head}");
    }
    assert_eq!(request_to(&server, "mouthpiece", "GET /healthz HTTP/1.1").await.0, 200, "for whoever looks after it");
    for own in [format!("localhost:{port}"), format!("[::1]:{port}"), "127.0.0.1".to_owned(), "192.0.2.1".to_owned()] {
        assert_eq!(request_to(&server, &own, "GET / HTTP/1.1").await.0, 200, "{own}");
    }
    server.stop().await;
    let server = TestServer::with(|options| {
        options.allowed_origins = vec!["https://friend.example".to_owned()];
        options.allowed_hosts = vec!["proxy.example".to_owned()];
    });
    let server = server.await;
    for (host, status) in [("friend.example", 200), ("proxy.example", 200), ("evil.example", 403)] {
        assert_eq!(request_to(&server, host, "GET / HTTP/1.1").await.0, status, "{host}");
    }
    server.stop().await;
}

/// Whatever address it is bound to: others can reach it, and so can their browsers.
#[tokio::test]
async fn a_server_for_the_whole_network_answers_to_no_foreign_name_either() {
    let server = TestServer::at("0.0.0.0:0", |_| {}).await;
    for (host, status) in [("evil.example", 403), ("192.0.2.1:8080", 200), ("localhost", 200)] {
        assert_eq!(request_to(&server, host, "GET / HTTP/1.1").await.0, status, "{host}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_import_the_client_and_use_the_api() {
    let server = TestServer::with(|options| options.allowed_origins = vec!["https://friend.example".to_owned()]).await;
    let from = async |origin: &str, lines: &str| request(&server, &format!("{lines}\r\nOrigin: {origin}")).await;
    let preflight = "OPTIONS /api/sessions HTTP/1.1\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: content-type";
    let allowed = "access-control-allow-origin: https://friend.example";
    for lines in
        ["GET /client.js HTTP/1.1", "GET /client/peer.js HTTP/1.1", "GET /api/openapi.json HTTP/1.1", preflight]
    {
        let (status, head, _) = from("https://friend.example", lines).await;
        assert!(status == 200 && head.contains(allowed) && head.contains("vary: origin"), "{lines}: {status} {head}");
        let (_, head, _) = from("https://evil.example", lines).await;
        assert!(!head.contains("access-control-allow-origin"), "{lines}: {head}");
    }
    let (_, head, _) = from("https://friend.example", preflight).await;
    assert!(head.contains("access-control-allow-methods: get,post,delete"), "{head}");
    assert!(head.contains("access-control-allow-headers: authorization,content-type"), "{head}");
    let resource_policy = async |path: &str| {
        let (_, head, _) = get(&server, path).await;
        head.lines().find_map(|line| line.strip_prefix("cross-origin-resource-policy: ")).unwrap().to_owned()
    };
    assert_eq!(resource_policy("/client.js").await, "cross-origin");
    assert_eq!(resource_policy("/metrics").await, "same-origin");
    server.stop().await;
    let server = TestServer::start().await;
    let (_, head, _) = get(&server, "/client.js").await;
    assert!(head.contains("cross-origin-resource-policy: same-origin"), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn metrics_with_an_address_of_their_own_are_nowhere_else_and_nothing_else_is_there() {
    let server = TestServer::with(|options| options.metrics = None).await;
    assert_eq!(get(&server, "/metrics").await.0, 404);
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let metrics: Metrics = Arc::new(|| "# the metrics\n".to_owned());
    let serving = tokio::spawn(metrics_listener::serve(socket, metrics, Vec::new(), shutdown.clone()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    // As many as there are places say nothing; they do not keep them.
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let told = watchdog::comes("the metrics", client.get(format!("http://{address}/metrics")).send()).await.unwrap();
    assert_eq!(told.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(told.text().await.unwrap(), "# the metrics\n");
    for path in ["/", "/ws", "/api/avatars", "/healthz"] {
        assert_eq!(client.get(format!("http://{address}{path}")).send().await.unwrap().status(), 404, "{path}");
    }
    let rebound = client.get(format!("http://{address}/metrics")).header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    shutdown.cancel();
    watchdog::comes("it ends", serving).await.unwrap();
    server.stop().await;
}
