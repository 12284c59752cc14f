//! What the log says about clients, and what it must not say.

use std::io::{Result, Write};
use std::sync::{Arc, Mutex};

use mouthpiece::access::Permission;
use serde_json::json;
use tracing::Level;

use super::access;
use super::fakes::TestServer;
use crate::alone::alone;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What other tests do at the same time decides for all threads of a process which spans there are.
#[test]
fn the_log_names_sessions_and_viewers_and_never_what_people_say() {
    alone("signalling::logs::the_log_names_sessions_and_viewers_and_never_what_people_say", || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(talk());
    });
}

async fn talk() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false);
    // The runtime of this test has one thread, so the server's tasks log to the same place.
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let session = client.next().await["session_id"].as_str().unwrap().to_owned();
    client.offer("m=secret-words").await;
    client.says(json!({"type": "text", "content": "secret-words"})).await;
    client.next_of("speech_ended").await;
    for wrong in [
        json!({"type": "secret-words"}),
        json!({"type": "text", "content": ["secret-words"]}),
        json!({"type": "text", "content": "a", "id": 1, "secret-words": 1}),
        json!("secret-words"),
    ] {
        client.says(wrong).await;
        assert_eq!(client.next().await["type"], "error");
    }
    drop(client);
    server.assert_all_left().await;
    server.stop().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!log.contains("secret"), "{log}");
    assert!(log.contains(&format!("client{{session={session}}}: ")), "{log}");
    assert!(log.contains("viewer{viewer=v-") && log.contains("peer opened"), "{log}");
    assert!(log.contains("code=bad_message"), "{log}");
}

#[test]
fn the_log_never_holds_a_token_however_it_comes() {
    alone("signalling::logs::the_log_never_holds_a_token_however_it_comes", || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(bring_tokens());
    });
}

async fn bring_tokens() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false);
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let server = access::guarded().await;
    let good = access::token("acme", &[Permission::View, Permission::Speak]);
    let mut tokens: Vec<String> = access::wrong_tokens().into_iter().map(|(_, token)| token).collect();
    tokens.retain(|token| !token.is_empty());
    tokens.push(good);
    for token in &tokens {
        for (method, path, body) in
            [("GET", "/metrics", ""), ("POST", "/api/sessions", "{}"), ("POST", "/whep/x", "m=")]
        {
            access::ask(&server, method, path, Some(token), body).await;
        }
        let (header, offered) = (format!("Bearer {token}"), format!("mouthpiece, bearer.{token}"));
        for headers in [("authorization", header.as_str()), ("sec-websocket-protocol", offered.as_str())] {
            access::connect(&server, "/ws", &[headers]).await.0.next().await;
        }
        for message in [json!({"type": "token", "token": token}), json!({"type": "token", "token": [token]})] {
            let mut client = server.connect().await;
            client.says(message).await;
            client.next().await;
        }
    }
    server.stop().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("client refused") && log.contains("client joined"), "{log}");
    for token in tokens {
        for part in token.split('.').filter(|part| part.len() > 6) {
            assert!(!log.contains(part), "{part} is in the log");
        }
    }
}
