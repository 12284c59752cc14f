//! WHEP by HTTP alone: every status of the draft, and what stands in the headers.

use std::sync::atomic::Ordering;

use mouthpiece::picture::matte::MattePlace;
use mouthpiece::session::PeerEvent;
use mouthpiece::signalling::whep::WhepOptions;
use reqwest::{Method, Response};
use serde_json::Value;

use super::fakes::{TestServer, candidate};

const OFFER: &str = "v=0\r\na=group:BUNDLE 0\r\nm=video gathers\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:secret\r\n";
const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

async fn send(server: &TestServer, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method, format!("http://{}{path}", server.address)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn status(server: &TestServer, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    send(server, method, path, headers, body).await.status().as_u16()
}

/// A server on which the session `room` is open.
async fn open() -> TestServer {
    with(WhepOptions::default()).await
}

async fn with(whep: WhepOptions) -> TestServer {
    let server = TestServer::with(|options| options.whep = whep).await;
    let json = [("content-type", "application/json")];
    assert_eq!(status(&server, Method::POST, "/api/sessions", &json, r#"{"session":"room"}"#).await, 201);
    server
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// A viewer that came: where it is and the tag of its ICE session.
async fn watch(server: &TestServer) -> (String, String) {
    let created = send(server, Method::POST, "/whep/room", &[SDP], OFFER).await;
    assert_eq!(created.status(), 201);
    (header(&created, "location").to_owned(), header(&created, "etag").to_owned())
}

/// Players that know no messages of ours learn it so.
#[tokio::test]
async fn an_answer_says_where_the_matte_is_of_an_avatar_that_is_cut_out() {
    let server = open().await;
    let opaque = send(&server, Method::POST, "/whep/room", &[SDP], OFFER).await;
    assert_eq!((opaque.status().as_u16(), opaque.headers().get("mouthpiece-matte")), (201, None));
    *server.ledger.matte.lock().unwrap() = Some(MattePlace::Below);
    let cut_out = send(&server, Method::POST, "/whep/room", &[SDP], OFFER).await;
    assert_eq!(header(&cut_out, "mouthpiece-matte"), "below");
    let session = send(&server, Method::GET, "/api/sessions/room", &[], "").await.text().await.unwrap();
    let session: Value = serde_json::from_str(&session).unwrap();
    assert_eq!(session["avatar"]["matte"], "below", "{session}");
}

#[tokio::test]
async fn an_offer_is_answered_with_all_that_a_player_needs() {
    let server = open().await;
    let created = send(&server, Method::POST, "/whep/room", &[SDP], OFFER).await;
    assert_eq!(created.status(), 201);
    assert_eq!(header(&created, "content-type"), "application/sdp");
    assert_eq!(header(&created, "link"), "<stun:stun.example.org>; rel=\"ice-server\"");
    let etag = header(&created, "etag").to_owned();
    assert!(etag.len() > 4 && etag.starts_with('"') && etag.ends_with('"'), "{etag} is no strong entity-tag");
    let place = header(&created, "location").to_owned();
    let id = place.strip_prefix("/whep/room/").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id} can be guessed");
    let answer = created.text().await.unwrap();
    assert!(answer.starts_with("answer to v=0"), "{answer}");
    assert!(answer.contains("a=candidate:7 ") && answer.contains("a=end-of-candidates\r\n"), "{answer}");
    assert_ne!(watch(&server).await.0, place);
    server.stop().await;
}

/// Method, path, headers and body of a request, and the status that it gets.
type Case<'a> = (Method, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16);

#[tokio::test]
async fn every_refused_request_has_the_status_of_the_draft_and_says_why() {
    let server = open().await;
    let (place, etag) = watch(&server).await;
    let tag = ("if-match", etag.as_str());
    let long = format!("{OFFER}{}", "a=x\r\n".repeat(20_000));
    let restart = "a=ice-ufrag:ysXw\r\na=ice-pwd:another\r\n";
    let here = "/whep/room";
    let cases: Vec<Case<'_>> = vec![
        (Method::POST, here, vec![], OFFER, 415),
        (Method::POST, here, vec![("content-type", "text/plain")], OFFER, 415),
        (Method::POST, here, vec![SDP], &long, 413),
        (Method::POST, here, vec![SDP], "malformed", 400),
        (Method::POST, here, vec![SDP], "nothing to watch", 422),
        (Method::POST, "/whep/other", vec![SDP], OFFER, 409),
        (Method::POST, "/whep/room?avatar=anna", vec![SDP], OFFER, 409),
        (Method::POST, "/whep/room?avatar=..", vec![SDP], OFFER, 404),
        (Method::POST, "/whep/a.b", vec![SDP], OFFER, 404),
        (Method::POST, "/whep/", vec![SDP], OFFER, 404),
        (Method::GET, "/whep/a.b", vec![], "", 404),
        (Method::PUT, here, vec![SDP], OFFER, 405),
        (Method::PATCH, here, vec![FRAGMENT, tag], restart, 405),
        (Method::DELETE, here, vec![], "", 405),
        (Method::POST, &place, vec![SDP], OFFER, 405),
        (Method::PATCH, &place, vec![tag], restart, 415),
        (Method::PATCH, &place, vec![SDP, tag], restart, 415),
        (Method::PATCH, &place, vec![FRAGMENT], restart, 428),
        (Method::PATCH, &place, vec![FRAGMENT, ("if-match", "\"xyzzy\"")], restart, 412),
        (Method::PATCH, &place, vec![FRAGMENT, ("if-match", "*")], restart, 422),
        (Method::PATCH, &place, vec![FRAGMENT, tag], restart, 422),
        (Method::PATCH, &place, vec![FRAGMENT, tag], "hello", 400),
        (Method::PATCH, &place, vec![FRAGMENT, tag], "", 400),
        (Method::PATCH, &place, vec![FRAGMENT, tag], &long, 413),
        (Method::PATCH, "/whep/other/0123", vec![FRAGMENT, tag], restart, 404),
        (Method::DELETE, "/whep/room/0123", vec![], "", 404),
        (Method::GET, "/whep/room/0123", vec![], "", 404),
        (Method::DELETE, "/whep/other/0123", vec![], "", 404),
    ];
    for (method, path, headers, body, expected) in cases {
        let what = format!("{method} {path} {headers:?}");
        let response = send(&server, method, path, &headers, body).await;
        assert_eq!(response.status().as_u16(), expected, "{what}");
        let text = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        match expected {
            405 => assert!(text("allow").is_some(), "{what}"),
            409 => assert_eq!(text("retry-after").as_deref(), Some("2"), "{what}"),
            415 => {
                assert_eq!(text("accept-post").as_deref(), Some("application/sdp"));
                assert_eq!(text("accept-patch").as_deref(), Some("application/trickle-ice-sdpfrag"));
            }
            _ => {}
        }
        if path != "/whep/" {
            let problem: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            assert!(problem["code"].is_string() && problem["message"].as_str().unwrap().len() > 10, "{what} {problem}");
        }
    }
    assert_eq!(status(&server, Method::GET, &place, &[], "").await, 204, "all that has not harmed the viewer");
    assert!(server.ledger.candidates.lock().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn candidates_trickle_and_what_cannot_be_one_is_left_out() {
    let server = open().await;
    let (place, etag) = watch(&server).await;
    let tag = ("if-match", etag.as_str());
    let candidates = [1, 2].map(|number| format!("a={}\r\n", candidate(number).candidate)).concat();
    let fragment = format!("m=video 9 X 96\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:secret\r\n{candidates}");
    for (tag, body) in [(tag, fragment.as_str()), (("if-match", "*"), "a=end-of-candidates\r\n")] {
        let taken = send(&server, Method::PATCH, &place, &[FRAGMENT, tag], body).await;
        assert_eq!(taken.status(), 204);
        assert!(!taken.headers().contains_key("etag"));
    }
    let taken = std::mem::take(&mut *server.ledger.candidates.lock().unwrap());
    let lines: Vec<_> = taken.iter().map(|taken| taken.candidate.clone()).collect();
    assert_eq!(lines, [1, 2].map(|number| candidate(number).candidate));
    assert!(taken.iter().all(|taken| taken.sdp_mid.as_deref() == Some("0")), "{taken:?}");
    for _ in 0..4 {
        assert_eq!(status(&server, Method::PATCH, &place, &[FRAGMENT, tag], &candidates.repeat(100)).await, 204);
    }
    assert_eq!(server.ledger.candidates.lock().unwrap().len(), 254, "256 in all");
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_that_is_ended_or_whose_peer_ends_leaves_nothing_behind() {
    let server = open().await;
    let (place, _) = watch(&server).await;
    assert_eq!(status(&server, Method::HEAD, &place, &[], "").await, 204);
    let ended = send(&server, Method::DELETE, &place, &[("if-match", "\"of another\"")], "").await;
    assert_eq!((ended.status().as_u16(), ended.text().await.unwrap()), (200, String::new()));
    for method in [Method::DELETE, Method::GET, Method::PATCH] {
        assert_eq!(status(&server, method, &place, &[FRAGMENT], "").await, 404);
    }
    let (place, _) = watch(&server).await;
    let events = server.ledger.events.lock().unwrap().pop().unwrap();
    events.try_send(PeerEvent::Closed { reason: "ICE failed".to_owned() }).unwrap();
    events.closed().await;
    while status(&server, Method::GET, &place, &[], "").await != 404 {}
    assert_eq!(status(&server, Method::DELETE, "/api/sessions/room", &[], "").await, 204);
    server.assert_all_left().await;
    server.stop().await;
}

#[tokio::test]
async fn a_player_that_does_not_wait_for_its_answer_leaves_nothing_behind() {
    let server = open().await;
    let peers = || server.ledger.offers.load(Ordering::SeqCst);
    let impatient = send(&server, Method::POST, "/whep/room", &[SDP], "v=0 m=video never");
    tokio::select! {
        _ = impatient => panic!("it was answered"),
        () = async { while peers() == 0 { tokio::task::yield_now().await } } => {}
    }
    // What it held goes when the time for an answer is over, or the server ends.
    let ledger = std::sync::Arc::clone(&server.ledger);
    server.stop().await;
    assert_eq!(ledger.sessions.load(Ordering::SeqCst) + ledger.peers.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn players_find_out_that_they_may_post_here() {
    let server = open().await;
    let head = send(&server, Method::HEAD, "/whep/other", &[], "").await;
    assert_eq!((head.status().as_u16(), header(&head, "content-type")), (200, "application/sdp"));
    let got = send(&server, Method::GET, "/whep/other", &[], "").await;
    assert_eq!((got.status().as_u16(), got.text().await.unwrap()), (200, String::new()));
    let options = send(&server, Method::OPTIONS, "/whep/room", &[], "").await;
    assert_eq!((options.status().as_u16(), header(&options, "accept-post")), (200, "application/sdp"));
    server.stop().await;
    let without = TestServer::with(|options| options.whep.enabled = false).await;
    assert_eq!(status(&without, Method::HEAD, "/whep/room", &[], "").await, 404);
    without.stop().await;
}

fn preflight(origin: &str) -> [(&str, &str); 3] {
    [
        ("origin", origin),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,content-type,if-match"),
    ]
}

#[tokio::test]
async fn pages_of_allowed_origins_may_watch_and_read_what_they_need() {
    let server = TestServer::with(|options| options.allowed_origins = vec!["https://friend.example".to_owned()]).await;
    let allowed = send(&server, Method::OPTIONS, "/whep/room", &preflight("https://friend.example"), "").await;
    assert_eq!(header(&allowed, "access-control-allow-origin"), "https://friend.example");
    for method in ["GET", "HEAD", "POST", "PATCH", "DELETE"] {
        assert!(header(&allowed, "access-control-allow-methods").contains(method), "{method}");
    }
    for name in ["authorization", "content-type", "if-match"] {
        assert!(header(&allowed, "access-control-allow-headers").contains(name), "{name}");
    }
    let foreign = send(&server, Method::OPTIONS, "/whep/room", &preflight("https://evil.example"), "").await;
    assert!(!foreign.headers().contains_key("access-control-allow-origin"));
    let foreign = [SDP, ("origin", "https://evil.example")];
    assert_eq!(status(&server, Method::POST, "/whep/room", &foreign, OFFER).await, 403);
    let friend = [SDP, ("origin", "https://friend.example")];
    let told = send(&server, Method::POST, "/whep/room", &friend, OFFER).await;
    assert_eq!(told.status(), 409, "nobody has opened it");
    for name in ["location", "link", "etag", "retry-after"] {
        assert!(header(&told, "access-control-expose-headers").contains(name), "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn where_a_token_is_asked_for_everybody_needs_it_and_pages_of_any_origin_may_bring_it() {
    let token = Some(mouthpiece::endpoint::Key::new("let-me-in"));
    let server = with(WhepOptions { enabled: true, token }).await;
    let right = ("authorization", "bearer let-me-in");
    let page = ("origin", "https://anywhere.example");
    for (headers, expected, challenge) in [
        (vec![SDP], 401, Some("Bearer")),
        (vec![SDP, ("authorization", "Basic bGV0LW1lLWlu")], 401, Some("Bearer")),
        (vec![SDP, ("authorization", "Bearer let-me-out")], 401, Some("Bearer error=\"invalid_token\"")),
        (vec![SDP, ("authorization", "Bearer")], 401, Some("Bearer")),
        (vec![SDP, page], 401, Some("Bearer")),
        (vec![SDP, right], 201, None),
        (vec![SDP, right, page], 201, None),
    ] {
        let told = send(&server, Method::POST, "/whep/room", &headers, OFFER).await;
        let says = told.headers().get("www-authenticate").map(|value| value.to_str().unwrap());
        assert_eq!((told.status().as_u16(), says), (expected, challenge), "{headers:?}");
    }
    let place = header(&send(&server, Method::POST, "/whep/room", &[SDP, right], OFFER).await, "location").to_owned();
    for (method, path) in [(Method::HEAD, "/whep/room"), (Method::PATCH, &place), (Method::DELETE, &place)] {
        assert_eq!(status(&server, method, path, &[FRAGMENT], "").await, 401);
    }
    let asked = send(&server, Method::OPTIONS, "/whep/room", &preflight("https://anywhere.example"), "").await;
    assert_eq!(header(&asked, "access-control-allow-origin"), "https://anywhere.example");
    assert_eq!(status(&server, Method::DELETE, &place, &[right], "").await, 200);
    server.stop().await;
}

#[tokio::test]
async fn viewers_have_places_as_web_sockets_have_and_give_them_back() {
    let server = TestServer::with(|options| {
        options.connections.web_sockets = 2;
    })
    .await;
    let json = [("content-type", "application/json")];
    assert_eq!(status(&server, Method::POST, "/api/sessions", &json, r#"{"session":"room"}"#).await, 201);
    let (first, _) = watch(&server).await;
    watch(&server).await;
    let full = send(&server, Method::POST, "/whep/room", &[SDP], OFFER).await;
    assert_eq!((full.status().as_u16(), header(&full, "retry-after")), (503, "5"));
    assert_eq!(status(&server, Method::DELETE, &first, &[], "").await, 200);
    while status(&server, Method::POST, "/whep/room", &[SDP], OFFER).await != 201 {}
    server.stop().await;
}

#[tokio::test]
async fn offers_of_one_address_have_a_rate() {
    let server = TestServer::with(|options| options.limits_addresses = true).await;
    let json = [("content-type", "application/json")];
    assert_eq!(status(&server, Method::POST, "/api/sessions", &json, r#"{"session":"room"}"#).await, 201);
    let refused = loop {
        let told = send(&server, Method::POST, "/whep/room", &[SDP], OFFER).await;
        match told.status().as_u16() {
            201 => drop(send(&server, Method::DELETE, header(&told, "location"), &[], "").await),
            503 => {}
            _ => break told,
        }
    };
    assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (429, "1"));
    server.stop().await;
}
