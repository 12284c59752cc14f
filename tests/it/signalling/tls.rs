//! The one port with TLS of its own, by a certificate that the test makes.

use std::path::Path;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use mouthpiece::signalling::tls::{Tls, TlsFiles};
use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::fakes::TestServer;
use crate::watchdog;

/// Writes a new certificate and its key, and returns the certificate.
fn certify(folder: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

fn files(folder: &Path) -> TlsFiles {
    TlsFiles { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") }
}

/// A client that trusts this certificate and no other, and asks anew each time.
fn trusting(pem: &str) -> Client {
    let builder = Client::builder().no_proxy().tls_built_in_root_certs(false).pool_max_idle_per_host(0);
    builder.add_root_certificate(Certificate::from_pem(pem.as_bytes()).unwrap()).build().unwrap()
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Value {
    let message = watchdog::comes("a message", socket.next()).await.unwrap().unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn pages_web_sockets_and_players_come_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pem = certify(folder.path());
    let tls = Arc::new(Tls::open(files(folder.path())).await.unwrap());
    let server = TestServer::with(|options| options.tls = Some(tls)).await;
    let client = trusting(&pem);
    let page = client.get(format!("https://{}/", server.address)).send().await.unwrap();
    assert!(page.status().is_success() && page.text().await.unwrap().contains("<html"));
    let opened = client.post(format!("https://{}/api/sessions", server.address));
    let opened = opened.header("content-type", "application/json").body(r#"{"session":"room"}"#).send().await.unwrap();
    assert_eq!(opened.status(), 201);
    let watching =
        client.post(format!("https://{}/whep/room", server.address)).header("content-type", "application/sdp");
    let watching = watching.body("v=0\r\nm=video 9 X 96\r\ngathers").send().await.unwrap();
    assert_eq!(watching.status(), 201);

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let url = format!("wss://localhost:{}/ws", server.address.port());
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    assert_eq!(next(&mut socket).await["type"], "session");
    socket.send(Message::text(json!({"type": "ping", "n": 1}).to_string())).await.unwrap();
    assert_eq!(next(&mut socket).await, json!({"type": "pong", "n": 1}));

    // Who speaks no TLS learns nothing, and is let go.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut told = Vec::new();
    let _ = watchdog::comes("it is let go", plain.read_to_end(&mut told)).await;
    assert!(!String::from_utf8_lossy(&told).contains("HTTP"), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn another_certificate_is_used_once_both_of_its_files_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let old = certify(folder.path());
    let tls = Arc::new(Tls::open(files(folder.path())).await.unwrap());
    let server = TestServer::with(|options| options.tls = Some(Arc::clone(&tls))).await;
    let url = format!("https://{}/healthz", server.address);
    let is_trusted = async |pem: &str| trusting(pem).get(&url).send().await.is_ok();
    assert!(is_trusted(&old).await);
    let new = {
        let key = std::fs::read(folder.path().join("key.pem")).unwrap();
        let new = certify(folder.path());
        let new_key = std::fs::read(folder.path().join("key.pem")).unwrap();
        // Half of it is written.
        std::fs::write(folder.path().join("key.pem"), key).unwrap();
        assert!(tls.read_again().await.unwrap_err().to_string().contains("tls_key"));
        assert!(is_trusted(&old).await && !is_trusted(&new).await);
        std::fs::write(folder.path().join("key.pem"), new_key).unwrap();
        new
    };
    tls.read_again().await.unwrap();
    assert!(is_trusted(&new).await && !is_trusted(&old).await);
    for (file, field) in [("certificate.pem", "tls_certificate"), ("key.pem", "tls_key")] {
        let kept = std::fs::read(folder.path().join(file)).unwrap();
        std::fs::write(folder.path().join(file), "no PEM of secret-words").unwrap();
        let error = tls.read_again().await.unwrap_err().to_string();
        assert!(error.contains(field) && !error.contains("secret-words"), "{error}");
        std::fs::write(folder.path().join(file), kept).unwrap();
    }
    assert!(is_trusted(&new).await);
    let missing = TlsFiles { certificate: "/nowhere".into(), key: "/nowhere".into() };
    assert!(Tls::open(missing).await.err().unwrap().to_string().contains("tls_certificate /nowhere"));
    server.stop().await;
}
