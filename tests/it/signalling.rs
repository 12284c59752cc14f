//! Signalling over real sockets: turns, peers, and everything a client may do wrong.

mod access;
mod api;
mod crowds;
pub(crate) mod fakes;
mod http;
mod logs;
mod slow_clients;
mod tls;
mod whep;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fakes::{TestServer, candidate, candidate_message};
use mouthpiece::session::{Command, ErrorCode, Notice, PeerEvent, Told};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn the_first_message_is_the_session() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let session = client.next().await;
    assert!(session["session_id"].as_str().unwrap().starts_with("s-"));
    assert_eq!(session["protocol"], 1);
    let demo = json!({"id": "demo", "name": "Mika", "width": 512, "height": 512, "fps": 25, "gestures": ["nod"]});
    assert_eq!(session["avatar"], demo);
    assert_eq!(session["ice_servers"], json!([{"urls": ["stun:stun.example.org"]}]));
    server.stop().await;
}

#[tokio::test]
async fn an_offer_is_answered_before_any_candidate_and_candidates_reach_the_peer() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.says(candidate_message(1)).await;
    client.says(json!({"type": "webrtc_offer", "sdp": "m=video"})).await;
    client.says(candidate_message(2)).await;
    client.says(json!({"type": "webrtc_ice_candidate", "candidate": null})).await;
    assert_eq!(client.next().await, json!({"type": "webrtc_answer", "sdp": "answer to m=video"}));
    assert_eq!(client.next().await, candidate_message(7));
    client.assert_served().await;
    assert_eq!(*server.ledger.candidates.lock().unwrap(), [candidate(1), candidate(2)]);
    server.stop().await;
}

#[tokio::test]
async fn an_avatar_that_is_asked_for_before_the_last_one_is_there_takes_its_place() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.says(json!({"type": "avatar", "id": "slow"})).await;
    client.assert_served().await;
    client.says(json!({"type": "avatar", "id": "anna"})).await;
    let told = client.next().await;
    assert_eq!((&told["type"], &told["id"], &told["gestures"]), (&json!("avatar"), &json!("anna"), &json!(["nod"])));
    client.says(json!({"type": "avatar", "id": "nobody"})).await;
    let error = client.next().await;
    assert_eq!((&error["code"], &error["fatal"]), (&json!("unknown_avatar"), &json!(false)), "{error}");
    client.says(json!({"type": "avatar", "id": "slow"})).await;
    client.assert_served().await;
    server.stop().await;
}

#[tokio::test]
async fn a_turn_is_spoken_and_told_from_start_to_end() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.says(json!({"type": "text", "content": "你好 😀", "id": "turn-1"})).await;
    let text = client.next().await;
    let utterance = text["utterance_id"].clone();
    assert_eq!(
        text,
        json!({"type": "text", "content": "你好 😀", "utterance_id": utterance, "final": true, "id": "turn-1"})
    );
    assert_eq!(client.next().await, json!({"type": "speech_started", "utterance_id": utterance, "id": "turn-1"}));
    assert_eq!(client.next().await["utterance_id"], utterance);
    client.says(json!({"type": "interrupt"})).await;
    client.says(json!({"type": "ping", "n": [1, {"a": null}]})).await;
    assert_eq!(client.next().await, json!({"type": "pong", "n": [1, {"a": null}]}));
    assert_eq!(server.ledger.commands.lock().unwrap()[1], Command::Interrupt);
    server.stop().await;
}

#[tokio::test]
async fn the_clients_own_audio_reaches_the_session() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.says(json!({"type": "audio_start", "sample_rate": 16000})).await;
    client.send(Message::binary(vec![1, 0, 0xff, 0xff])).await;
    client.says(json!({"type": "audio_end"})).await;
    client.assert_served().await;
    let expected =
        [Command::AudioStart { sample_rate: 16_000, id: None }, Command::Audio(vec![1, -1]), Command::AudioEnd];
    assert_eq!(server.ledger.commands.lock().unwrap()[..3], expected);
    server.stop().await;
}

#[tokio::test]
async fn a_second_offer_replaces_the_peer() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.offer("m=first").await;
    client.offer("m=second").await;
    assert_eq!(server.ledger.peers.load(Ordering::SeqCst), 1, "the first peer is still held");
    assert!(server.ledger.events.lock().unwrap()[0].is_closed(), "nobody listens to it any more");
    client.says(json!({"type": "webrtc_offer", "sdp": "m=never answered"})).await;
    client.offer("m=fourth").await;
    assert_eq!(server.ledger.offers.load(Ordering::SeqCst), 4);
    client.assert_served().await;
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_fails_is_dropped_and_the_next_offer_is_served() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.offer("m=video").await;
    assert_eq!(client.next().await, candidate_message(7));
    let events = server.ledger.events.lock().unwrap().pop().unwrap();
    events.try_send(PeerEvent::Closed { reason: "ICE failed".to_owned() }).unwrap();
    assert!(client.next_error("peer_failed").await["message"].as_str().unwrap().contains("ICE failed"));
    assert_eq!(server.ledger.peers.load(Ordering::SeqCst), 0);
    client.offer("m=video").await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let server = TestServer::start().await;
    for turn in 0..20 {
        let mut client = server.client().await;
        client.offer("m=video").await;
        client.says(json!({"type": "audio_start", "sample_rate": 16000})).await;
        client.assert_served().await;
        match turn % 2 {
            0 => client.stream.close(None).await.unwrap(),
            _ => drop(client),
        }
    }
    server.assert_all_left().await;
    let commands = std::mem::take(&mut *server.ledger.commands.lock().unwrap());
    assert_eq!(commands.iter().filter(|command| **command == Command::AudioEnd).count(), 20, "audio is ended");
    server.stop().await;
}

#[tokio::test]
async fn names_in_the_url_reach_the_sessions() {
    let server = TestServer::start().await;
    let mut client = server.connect_to("/ws?session=Room_1&avatar=demo").await;
    client.assert_served().await;
    let joined = server.ledger.joined.lock().unwrap().clone();
    assert_eq!(joined, [(Some("demo".parse().unwrap()), Some("Room_1".to_owned()))]);
    server.stop().await;
}

#[tokio::test]
async fn a_name_that_cannot_be_is_told_and_the_socket_closed() {
    let server = TestServer::start().await;
    for (target, code) in [
        ("/ws?avatar=../../etc/passwd", "unknown_avatar"),
        ("/ws?avatar=..%2F..%2Fetc", "unknown_avatar"),
        ("/ws?avatar=nobody", "unknown_avatar"),
        ("/ws?session=a%20b", "bad_session_name"),
        ("/ws?session=", "bad_session_name"),
    ] {
        let mut client = server.connect_to(target).await;
        assert_eq!(client.next_error(code).await["fatal"], true, "{target}");
        client.assert_closed(1008).await;
    }
    server.assert_serves().await;
    server.stop().await;
}

/// Each of these is one error, after which the same socket and a new one are served.
#[tokio::test]
async fn bad_messages_are_errors_and_the_socket_stays() {
    let server = TestServer::start().await;
    let text = |content: &str| json!({"type": "text", "content": content}).to_string();
    let nested = format!(r#"{{"type":"ping","deep":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    let cases: Vec<(Message, &str)> = vec![
        (Message::text("hello"), "bad_json"),
        (Message::text(""), "bad_json"),
        (Message::text(nested), "bad_json"),
        (Message::text(r#"["text"]"#), "bad_message"),
        (Message::text(r#"{"type":"dance"}"#), "unknown_type"),
        (Message::text(r#"{"type":"text","content":5}"#), "bad_message"),
        (Message::text(r#"{"type":"webrtc_offer"}"#), "bad_message"),
        (Message::text(r#"{"type":"webrtc_offer","sdp":"v=0"}"#), "offer_without_media"),
        (Message::text(r#"{"type":"webrtc_ice_candidate","candidate":{"candidate":"x"}}"#), "bad_candidate"),
        (Message::text(text("")), "nothing_to_say"),
        (Message::text(text(" \n\u{0}\u{7}")), "nothing_to_say"),
        (Message::text(text(&"a".repeat(10_001))), "text_too_long"),
        (Message::text(text(&"a".repeat(100_000))), "message_too_long"),
        (Message::text(text("too much")), "busy"),
        (Message::text(r#"{"type":"audio_start","sample_rate":96000}"#), "bad_audio"),
        (Message::text(r#"{"type":"audio_end"}"#), "audio_not_started"),
        (Message::binary((0..=255).collect::<Vec<u8>>()), "audio_not_started"),
        (Message::binary(vec![0; 200_000]), "message_too_long"),
    ];
    for (message, code) in cases {
        let mut client = server.client().await;
        client.send(message).await;
        let error = client.next_error(code).await;
        assert_eq!(error["fatal"], false, "{error}");
        assert!(error["message"].as_str().is_some_and(|message| (10..500).contains(&message.len())), "{error}");
        client.assert_served().await;
    }
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn emoji_and_control_characters_beside_words_are_passed_on_as_they_are() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for content in ["😀😀", "a\u{0}\u{202e}b", "👩‍👩‍👧\u{fe0f}"] {
        client.says(json!({"type": "speak", "content": content})).await;
        assert_eq!(client.next_of("speech_ended").await["text_spoken"], content);
    }
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_candidates_are_one_error() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.offer("m=video").await;
    assert_eq!(client.next().await, candidate_message(7));
    for number in 0..10_000 {
        client.says(candidate_message(number)).await;
    }
    assert_eq!(client.next_error("too_many_candidates").await["fatal"], false);
    client.assert_served().await;
    assert_eq!(server.ledger.candidates.lock().unwrap().len(), 256);
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn candidates_before_any_offer_are_held_up_to_a_limit() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for number in 0..100 {
        client.says(candidate_message(number)).await;
    }
    client.next_error("too_many_candidates").await;
    client.offer("m=video").await;
    client.assert_served().await;
    assert_eq!(server.ledger.candidates.lock().unwrap().len(), 64);
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_messages_is_told_and_others_are_served() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for _ in 0..1_000 {
        client.send(Message::text("nonsense")).await;
    }
    let mut codes = Vec::new();
    while codes.last() != Some(&json!("too_many_messages")) {
        codes.push(client.next().await["code"].clone());
    }
    assert!(codes.len() > 50, "{codes:?}");
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_of_ten_megabytes_is_told_and_the_socket_closed() {
    let server = TestServer::start().await;
    for message in [Message::text("a".repeat(10_000_000)), Message::binary(vec![0; 10_000_000])] {
        let mut client = server.client().await;
        client.send(message).await;
        let error = client.next_error("message_too_long").await;
        assert_eq!(error["fatal"], true);
        assert!(error["message"].as_str().unwrap().contains("10000000"), "{error}");
        client.assert_closed(1009).await;
        server.assert_serves().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn ten_megabytes_in_small_fragments_are_refused_too() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for index in 0..100 {
        let opcode = OpCode::Data(if index == 0 { Data::Text } else { Data::Continue });
        let frame = Frame::message(vec![b'a'; 100_000], opcode, false);
        client.send(Message::Frame(frame)).await;
    }
    client.next_error("message_too_long").await;
    client.assert_closed(1009).await;
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn text_that_is_not_utf8_is_told_and_the_socket_closed() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let frame = Frame::message(vec![b'{', 0xc3, 0x28], OpCode::Data(Data::Text), true);
    client.send(Message::Frame(frame)).await;
    client.next_error("bad_json").await;
    client.assert_closed(1007).await;
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_frames_are_told_and_the_socket_closed() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let MaybeTlsStream::Plain(stream) = client.stream.get_mut() else { panic!("no TLS here") };
    stream.write_all(&[0xff; 64]).await.unwrap();
    client.next_error("bad_message").await;
    client.assert_closed(1002).await;

    let mut client = server.client().await;
    let MaybeTlsStream::Plain(stream) = client.stream.get_mut() else { panic!("no TLS here") };
    // A text frame without the mask that clients have to use.
    stream.write_all(b"\x81\x02hi").await.unwrap();
    client.next_error("bad_message").await;
    client.assert_closed(1002).await;
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_fails_or_ends_is_told_and_the_socket_closed() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let notices = server.ledger.notices.lock().unwrap().pop().unwrap();
    let (code, message) = (ErrorCode::LipSyncFailed, "the engine has ended".to_owned());
    assert_eq!(notices.tell(Notice::Error { code, message, fatal: true }), Told::Yes);
    assert_eq!(client.next_error("lip_sync_failed").await["fatal"], Value::Bool(true));
    client.assert_closed(1011).await;
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_is_told_to_every_client_and_everything_is_let_go() {
    let server = TestServer::with(|options| options.shutdown_grace = Duration::from_secs(30)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.client().await;
        client.offer("m=video").await;
        assert_eq!(client.next().await, candidate_message(7));
        clients.push(client);
    }
    let mut waiting = server.connect_to("/ws?avatar=slow").await;
    let ledger = std::sync::Arc::clone(&server.ledger);
    let told = async {
        for mut client in clients {
            assert_eq!(client.next_error("shutting_down").await["fatal"], true);
            client.assert_closed(1001).await;
        }
        waiting.next_error("shutting_down").await;
        waiting.assert_closed(1001).await;
    };
    tokio::join!(server.stop(), told);
    assert_eq!(ledger.sessions.load(Ordering::SeqCst), 0);
    assert_eq!(ledger.peers.load(Ordering::SeqCst), 0);
}
