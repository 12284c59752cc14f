//! Tokens on every route: who is let in, who is not, and what a tenant cannot find out of another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mouthpiece::access::Permission::{self, Administer, Avatars, Converse, Microphone, Speak, View};
use mouthpiece::access::{Access, Claims, Settings, sign};
use mouthpiece::endpoint::Key;
use mouthpiece::ids::UtteranceId;
use mouthpiece::session::{Command, Notice};
use mouthpiece::signalling::guard::needs::{self, Need};
use mouthpiece::signalling::listener::ListenerOptions;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::fakes::{Client, TestServer};
use crate::{avatar_api, watchdog};

const SECRET: &str = "a secret of the tests, thirty-two+";
const NOTHING: &[Permission] = &[];
const SAYS: &[Permission] = &[Speak, Converse];

/// Every method of every route as it is asked, as the router knows it, and what each takes a token for: one of these.
const ROUTES: &[(&str, &str, &str, &[Permission])] = &[
    ("GET", "/healthz", "/healthz", NOTHING),
    ("GET", "/readyz", "/readyz", NOTHING),
    ("GET", "/metrics", "/metrics", &[Administer]),
    ("GET", "/api/openapi.json", "/api/openapi.json", NOTHING),
    ("POST", "/api/sessions", "/api/sessions", SAYS),
    ("GET", "/api/sessions/room", "/api/sessions/{id}", &[View]),
    ("POST", "/api/sessions/room/speak", "/api/sessions/{id}/speak", &[Speak]),
    ("POST", "/api/sessions/room/text", "/api/sessions/{id}/text", &[Converse]),
    ("POST", "/api/sessions/room/interrupt", "/api/sessions/{id}/interrupt", SAYS),
    ("POST", "/api/sessions/room/avatar", "/api/sessions/{id}/avatar", SAYS),
    ("POST", "/api/sessions/room/gesture", "/api/sessions/{id}/gesture", SAYS),
    ("GET", "/api/sessions/room/events", "/api/sessions/{id}/events", &[View]),
    ("GET", "/api/sessions/room/outputs", "/api/sessions/{id}/outputs", &[Administer]),
    ("POST", "/api/sessions/room/outputs", "/api/sessions/{id}/outputs", &[Administer]),
    ("GET", "/api/sessions/room/outputs/o-1", "/api/sessions/{id}/outputs/{output}", &[Administer]),
    ("DELETE", "/api/sessions/room/outputs/o-1", "/api/sessions/{id}/outputs/{output}", &[Administer]),
    ("GET", "/api/sessions/room/whip", "/api/sessions/{id}/whip", &[Administer]),
    ("POST", "/api/sessions/room/whip", "/api/sessions/{id}/whip", &[Administer]),
    ("GET", "/api/sessions/room/whip/p-1", "/api/sessions/{id}/whip/{push}", &[Administer]),
    ("DELETE", "/api/sessions/room/whip/p-1", "/api/sessions/{id}/whip/{push}", &[Administer]),
    ("GET", "/api/avatars", "/api/avatars", &[Avatars]),
    ("POST", "/api/avatars", "/api/avatars", &[Avatars]),
    ("DELETE", "/api/avatars/anna", "/api/avatars/{id}", &[Administer]),
    ("GET", "/api/avatars/anna/preview.png", "/api/avatars/{id}/preview.png", &[Avatars]),
    ("GET", "/api/avatars/jobs/1", "/api/avatars/jobs/{id}", &[Avatars]),
    ("DELETE", "/api/avatars/jobs/1", "/api/avatars/jobs/{id}", &[Avatars]),
    ("POST", "/api/avatars/jobs/1/again", "/api/avatars/jobs/{id}/again", &[Avatars]),
    ("GET", "/api/avatars/jobs/1/events", "/api/avatars/jobs/{id}/events", &[Avatars]),
    ("GET", "/api/avatars/jobs/1/found.png", "/api/avatars/jobs/{id}/found.png", &[Avatars]),
    ("GET", "/api/pipelines", "/api/pipelines", &[Administer]),
    ("POST", "/api/pipelines/reload", "/api/pipelines/reload", &[Administer]),
    ("GET", "/whep/room", "/whep/{session}", &[View]),
    ("POST", "/whep/room", "/whep/{session}", &[View]),
    ("GET", "/whep/room/1", "/whep/{session}/{viewer}", &[View]),
    ("PATCH", "/whep/room/1", "/whep/{session}/{viewer}", &[View]),
    ("DELETE", "/whep/room/1", "/whep/{session}/{viewer}", &[View]),
    // Last, since the session is gone then.
    ("DELETE", "/api/sessions/room", "/api/sessions/{id}", SAYS),
];

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(tenant: &str, may: &[Permission]) -> Claims {
    let (sub, may, exp) = (tenant.to_owned(), may.to_vec(), now() + 600);
    Claims { sub, may, session: None, avatar: None, exp, nbf: None, aud: None, limits: None }
}

fn signed(claims: &Claims) -> String {
    sign(&Key::new(SECRET), claims).unwrap()
}

pub(super) fn token(tenant: &str, may: &[Permission]) -> String {
    signed(&claims(tenant, may))
}

/// Tokens that let nobody in, whatever they say.
pub(super) fn wrong_tokens() -> Vec<(&'static str, String)> {
    let all = || claims("acme", &Permission::ALL);
    let good = signed(&all());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let body = message.split_once('.').unwrap().1;
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    vec![
        ("garbage", "garbage".to_owned()),
        ("empty", String::new()),
        ("of another key", sign(&Key::new("another secret of the tests, 32+ bytes"), &all()).unwrap()),
        ("of no algorithm", format!("{none}.{body}.")),
        ("of no algorithm, with a signature", format!("{none}.{body}.{signature}")),
        ("without its signature", format!("{message}.")),
        ("ended", signed(&Claims { exp: now() - 60, ..all() })),
        ("not yet valid", signed(&Claims { nbf: Some(now() + 600), ..all() })),
        ("for somebody else", signed(&Claims { aud: Some("somebody else".into()), ..all() })),
    ]
}

pub(super) async fn guarded() -> TestServer {
    guarded_with(|_| {}).await
}

async fn guarded_with(change: impl FnOnce(&mut ListenerOptions)) -> TestServer {
    let settings = Settings { secret: Some(Key::new(SECRET)), ..Settings::default() };
    let access = Arc::new(Access::open(settings).await.unwrap());
    let server = TestServer::with(|options| {
        options.access = Some(access);
        options.pipelines.allowed = true;
        change(options);
    })
    .await;
    server.ledger.outputs.allowed.store(true, Ordering::SeqCst);
    server
}

thread_local! {
    /// Of the one test that runs on a thread, which asks hundreds of times.
    static CLIENT: reqwest::Client = reqwest::Client::builder().no_proxy().build().unwrap();
}

pub(super) async fn ask(server: &TestServer, method: &str, path: &str, token: Option<&str>, body: &str) -> Response {
    let client = CLIENT.with(Clone::clone);
    let method: Method = method.parse().unwrap();
    let mut request = client.request(method, format!("http://{}{path}", server.address)).body(body.to_owned());
    if !body.is_empty() {
        request =
            request.header("content-type", if body.starts_with('{') { "application/json" } else { "application/sdp" });
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    watchdog::comes("the server answers", request.send()).await.unwrap()
}

async fn upload(server: &TestServer, path: &str, token: &str) -> Response {
    let request = CLIENT.with(Clone::clone).post(format!("http://{}{path}", server.address));
    let request = request.header("authorization", format!("Bearer {token}")).body(avatar_api::photo());
    watchdog::comes("the server answers", request.send()).await.unwrap()
}

async fn json_of(response: Response) -> (u16, HeaderMap, Value) {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

async fn open(server: &TestServer, token: &str, name: &str) {
    let body = json!({"session": name}).to_string();
    assert_eq!(ask(server, "POST", "/api/sessions", Some(token), &body).await.status(), 201);
}

#[test]
fn the_table_of_this_test_has_every_route_and_what_each_is_meant_to_need() {
    let expected: BTreeSet<_> =
        ROUTES.iter().map(|(method, _, route, may)| (*method, *route, format!("{may:?}"))).collect();
    let guarded = needs::all().filter_map(|(method, route, need)| match need {
        Need::AnyOf(may) => Some((method, route, format!("{may:?}"))),
        Need::Nothing => Some((method, route, "[]".to_owned())),
        Need::Socket => None,
    });
    let is_page =
        |route: &str| !route.starts_with("/api/") && (route == "/" || route == "/avatars" || route.contains('.'));
    let listed: BTreeSet<_> = guarded.filter(|(_, route, _)| !is_page(route)).collect();
    assert_eq!(listed, expected);
    let sockets: Vec<_> = needs::all().filter(|(.., need)| *need == Need::Socket).collect();
    assert_eq!(sockets, [("GET", "/ws", Need::Socket)]);
}

#[tokio::test]
async fn nobody_gets_by_any_route_without_a_token_that_allows_it() {
    let server = guarded().await;
    let wrong = wrong_tokens();
    for (method, path, _, may) in ROUTES {
        if may.is_empty() {
            assert_eq!(ask(&server, method, path, None, "").await.status(), 200, "{method} {path}");
            continue;
        }
        let without = json_of(ask(&server, method, path, None, "").await).await;
        let none = ("no token", without, "Bearer");
        let mut refused = vec![none];
        for (what, token) in &wrong {
            let answer = json_of(ask(&server, method, path, Some(token), "").await).await;
            // An empty one is none.
            let challenge = if token.is_empty() { "Bearer" } else { "Bearer error=\"invalid_token\"" };
            refused.push((*what, answer, challenge));
        }
        for (what, (status, headers, body), challenge) in refused {
            assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "{method} {path}, {what}: {body}");
            assert_eq!(headers["www-authenticate"], challenge, "{method} {path}, {what}");
        }
        let others: Vec<_> = Permission::ALL.into_iter().filter(|other| !may.contains(other)).collect();
        let lacking = ask(&server, method, path, Some(&token("acme", &others)), "").await;
        let (status, _, body) = json_of(lacking).await;
        assert_eq!((status, &body["code"]), (403, &json!("forbidden")), "{method} {path}: {body}");
        assert!(body["message"].as_str().unwrap().contains(may[0].as_str()), "{body}");
        // In the URL it is none, in its head neither.
        let path_with = format!("{path}?token={0}&access_token={0}", token("acme", &Permission::ALL));
        assert_eq!(ask(&server, method, &path_with, None, "").await.status(), 401, "{method} {path}");
        if *method == "GET" {
            assert_eq!(ask(&server, "HEAD", path, None, "").await.status(), 401, "{path}");
        }
        let all = token("acme", &Permission::ALL);
        let other = ask(&server, "PUT", path, Some(&all), "").await;
        assert!(other.status() == 405 && other.headers().contains_key("allow"), "{path}");
        assert_eq!(ask(&server, "PUT", path, None, "").await.status(), 401, "{path}");
    }
    assert!(server.ledger.joined.lock().unwrap().is_empty(), "none of them has opened a session");
    server.stop().await;
}

#[tokio::test]
async fn whoever_may_gets_by_every_route() {
    let server = guarded().await;
    open(&server, &token("acme", &[Speak]), "room").await;
    for (method, path, _, may) in ROUTES {
        for one in *may {
            let allowed = token("acme", &[*one]);
            let status = ask(&server, method, path, Some(&allowed), "").await.status();
            assert!(status != 401 && status != 403 && status != 405, "{method} {path} with {one}: {status}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn another_tenants_session_is_as_unknown_as_one_that_is_not_there() {
    let server = guarded().await;
    let (ours, theirs) = (token("acme", &Permission::ALL), token("rival", &Permission::ALL));
    open(&server, &ours, "room").await;
    for (method, path, route, _) in ROUTES.iter().filter(|(_, path, ..)| path.contains("/room")) {
        let nowhere = path.replace("/room", "/none");
        let there = json_of(ask(&server, method, path, Some(&theirs), "").await).await;
        let not_there = json_of(ask(&server, method, &nowhere, Some(&theirs), "").await).await;
        let named = there.2.to_string().replace("room", "none");
        assert_eq!((there.0, named), (not_there.0, not_there.2.to_string()), "{method} {route}");
        if route.starts_with("/api/") {
            assert_eq!((there.0, &there.2["code"]), (404, &json!("unknown_session")), "{method} {route}");
        }
    }
    // The name is free to them, and theirs is another session.
    open(&server, &theirs, "room").await;
    let joined: Vec<_> = server.ledger.joined.lock().unwrap().iter().map(|(_, name)| name.clone().unwrap()).collect();
    assert_eq!(joined, ["acme.room", "rival.room"]);
    assert_eq!(ask(&server, "DELETE", "/api/sessions/room", Some(&theirs), "").await.status(), 204);
    assert_eq!(ask(&server, "GET", "/api/sessions/room", Some(&ours), "").await.status(), 200);
    // A viewer of ours.
    let offer = "v=0\r\nm=video 9 X 96\r\ngathers";
    let watching = ask(&server, "POST", "/whep/room", Some(&ours), offer).await;
    assert_eq!(watching.status(), 201);
    let viewer = watching.headers()["location"].to_str().unwrap().to_owned();
    assert!(viewer.starts_with("/whep/room/"), "{viewer}");
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(&server, method, &viewer, Some(&theirs), "").await.status(), 404);
    }
    assert_eq!(ask(&server, "GET", &viewer, Some(&ours), "").await.status(), 204);
    // An avatar that is made for us, by a name that they have somehow heard of.
    let order = "/api/avatars?id=anna&licence=CC0-1.0&consent=Drawn%20by%20a%20program.";
    let making = upload(&server, order, &ours).await;
    assert_eq!(making.status(), 202);
    let job = making.headers()["location"].to_str().unwrap().to_owned();
    for (method, path) in [("GET", job.clone()), ("GET", format!("{job}/events")), ("DELETE", job.clone())] {
        assert_eq!(ask(&server, method, &path, Some(&theirs), "").await.status(), 404, "{method} {path}");
    }
    assert_eq!(ask(&server, "GET", &job, Some(&ours), "").await.status(), 200);
    let replacing = format!("{order}&replace=true");
    let maker = token("acme", &[Avatars]);
    assert_eq!(upload(&server, &replacing, &maker).await.status(), 403);
    server.stop().await;
}

#[tokio::test]
async fn a_token_for_one_session_and_avatar_is_for_no_other() {
    let server = guarded().await;
    let only = Claims {
        session: Some("room".into()),
        avatar: Some("demo".parse().unwrap()),
        ..claims("acme", &Permission::ALL)
    };
    let only = signed(&only);
    open(&server, &only, "room").await;
    assert_eq!(*server.ledger.joined.lock().unwrap(), [(Some("demo".parse().unwrap()), Some("acme.room".to_owned()))]);
    for body in [r#"{"session":"other"}"#, r#"{"avatar":"anna"}"#] {
        assert_eq!(ask(&server, "POST", "/api/sessions", Some(&only), body).await.status(), 403, "{body}");
    }
    for path in ["/api/sessions/other", "/whep/other/1"] {
        assert_eq!(ask(&server, "GET", path, Some(&only), "").await.status(), 403, "{path}");
    }
    let swap = ask(&server, "POST", "/api/sessions/room/avatar", Some(&only), r#"{"id":"anna"}"#).await;
    assert_eq!(swap.status(), 403);
    for target in ["/ws?session=other", "/ws?avatar=anna"] {
        let mut client = connect(&server, target, &[("authorization", &format!("Bearer {only}"))]).await.0;
        assert_eq!(client.next_error("forbidden").await["fatal"], true, "{target}");
        client.assert_closed(1008).await;
    }
    let mut client = connect(&server, "/ws", &[("authorization", &format!("Bearer {only}"))]).await.0;
    assert_eq!(client.next().await["type"], "session");
    assert_eq!(server.ledger.joined.lock().unwrap().last().unwrap().1.as_deref(), Some("acme.room"));
    server.stop().await;
}

/// A WebSocket whose handshake has these headers, and the subprotocol that was agreed on.
pub(super) async fn connect(
    server: &TestServer,
    target: &str,
    headers: &[(&'static str, &str)],
) -> (Client, Option<String>) {
    let mut request = format!("ws://{}{target}", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (stream, response) = tokio_tungstenite::connect_async(request).await.unwrap();
    let agreed = response.headers().get("sec-websocket-protocol").map(|agreed| agreed.to_str().unwrap().to_owned());
    (Client { stream }, agreed)
}

#[tokio::test]
async fn a_web_socket_takes_its_token_from_a_header_a_subprotocol_or_the_first_message_and_nowhere_else() {
    let server = guarded().await;
    let good = token("acme", &[Speak, View]);
    let header = format!("Bearer {good}");
    let offered = format!("mouthpiece, bearer.{good}");
    for (headers, agreed) in
        [(("authorization", header.as_str()), None), (("sec-websocket-protocol", offered.as_str()), Some("mouthpiece"))]
    {
        let (mut client, answered) = connect(&server, "/ws", &[headers]).await;
        assert_eq!(answered.as_deref(), agreed);
        assert_eq!(client.next().await["type"], "session");
        client.assert_served().await;
    }
    let mut client = server.connect().await;
    client.says(json!({"type": "token", "token": good})).await;
    assert_eq!(client.next().await["type"], "session");
    // Said again it does nothing.
    client.says(json!({"type": "token", "token": "whatever"})).await;
    client.assert_served().await;
    for first in [
        json!({"type": "speak", "content": "Let me in."}),
        json!({"type": "token"}),
        json!({"type": "token", "token": 5}),
        json!({"type": "token", "token": ""}),
        json!("token"),
    ] {
        let mut client = server.connect_to(&format!("/ws?token={good}")).await;
        client.says(first).await;
        assert_eq!(client.next_error("unauthorized").await["fatal"], true);
        client.assert_closed(1008).await;
    }
    for (what, wrong) in wrong_tokens().into_iter().filter(|(what, _)| *what != "empty") {
        let (header, offered) = (format!("Bearer {wrong}"), format!("mouthpiece, bearer.{wrong}"));
        for headers in [("authorization", header.as_str()), ("sec-websocket-protocol", offered.as_str())] {
            let (mut client, _) = connect(&server, "/ws", &[headers]).await;
            assert_eq!(client.next_error("unauthorized").await["fatal"], true, "{what}");
            client.assert_closed(1008).await;
        }
        let mut client = server.connect().await;
        client.says(json!({"type": "token", "token": wrong})).await;
        assert_eq!(client.next_error("unauthorized").await["fatal"], true, "{what}");
        client.assert_closed(1008).await;
    }
    assert_eq!(server.ledger.joined.lock().unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn where_no_token_is_asked_for_whoever_brings_one_is_served_all_the_same() {
    let server = TestServer::start().await;
    let (mut client, agreed) =
        connect(&server, "/ws", &[("sec-websocket-protocol", "mouthpiece, bearer.whatever")]).await;
    assert_eq!(agreed.as_deref(), Some("mouthpiece"));
    assert_eq!(client.next().await["type"], "session");
    client.says(json!({"type": "token", "token": "whatever"})).await;
    client.assert_served().await;
    server.stop().await;
}

#[tokio::test]
async fn who_may_only_watch_neither_opens_nor_speaks_nor_is_heard() {
    let server = guarded().await;
    let view = format!("Bearer {}", token("acme", &[View]));
    for (target, code) in [("/ws", "forbidden"), ("/ws?session=room", "not_live")] {
        let (mut client, _) = connect(&server, target, &[("authorization", &view)]).await;
        assert_eq!(client.next_error(code).await["fatal"], true);
        client.assert_closed(1008).await;
    }
    open(&server, &token("acme", &[Speak]), "room").await;
    let (mut client, _) = connect(&server, "/ws?session=room", &[("authorization", &view)]).await;
    let session = client.next().await;
    assert_eq!((&session["type"], &session["listens"]), (&json!("session"), &json!(false)));
    assert_eq!(server.ledger.muted.load(Ordering::SeqCst), 1);
    client.offer("m=video").await;
    assert_eq!(client.next().await["type"], "webrtc_ice_candidate");
    for message in [
        json!({"type": "speak", "content": "Hello."}),
        json!({"type": "text", "content": "Hello."}),
        json!({"type": "interrupt"}),
        json!({"type": "gesture", "name": "nod"}),
        json!({"type": "avatar", "id": "anna"}),
        json!({"type": "audio_start", "sample_rate": 16000}),
    ] {
        client.says(message.clone()).await;
        assert_eq!(client.next_error("forbidden").await["fatal"], false, "{message}");
    }
    client.says(json!({"type": "output_start", "kind": "record", "name": "x"})).await;
    client.next_error("outputs_off").await;
    // Neither is it told of anybody else's.
    for notices in server.ledger.notices.lock().unwrap().iter() {
        notices.tell(Notice::Outputs(Vec::new()));
    }
    client.says(json!({"type": "shown", "utterance_id": UtteranceId::next().to_string(), "ms": 5})).await;
    client.says(json!({"type": "ping"})).await;
    assert_eq!(client.next().await["type"], "pong");
    let commands = server.ledger.commands.lock().unwrap().clone();
    assert!(matches!(commands[..], [Command::Shown { .. }]), "{commands:?}");
    server.stop().await;
}

#[tokio::test]
async fn each_permission_is_for_its_own_messages_alone() {
    let server = guarded().await;
    let hello = |kind: &str| json!({"type": kind, "content": "Hello.", "id": "one"});
    for (may, allowed, refused) in [(&[Speak], "speak", "text"), (&[Converse], "text", "speak")] {
        let header = format!("Bearer {}", token("acme", may));
        let (mut client, _) = connect(&server, "/ws", &[("authorization", &header)]).await;
        let session = client.next().await;
        assert_eq!(session["ice_servers"], json!([]), "they are for those who may watch");
        client.says(hello(refused)).await;
        assert_eq!(client.next_error("forbidden").await["id"], "one");
        client.says(json!({"type": "webrtc_offer", "sdp": "m=video"})).await;
        client.next_error("forbidden").await;
        client.says(hello(allowed)).await;
        client.next_of("speech_ended").await;
    }
    assert_eq!(server.ledger.muted.load(Ordering::SeqCst), 2);
    let header = format!("Bearer {}", token("acme", &[View, Speak, Microphone, Administer]));
    let (mut client, _) = connect(&server, "/ws", &[("authorization", &header)]).await;
    client.next_of("session").await;
    client.next_of("outputs").await;
    assert_eq!(server.ledger.muted.load(Ordering::SeqCst), 2);
    let header = format!("Bearer {}", token("acme", &[Avatars, Administer, Microphone]));
    let (mut client, _) = connect(&server, "/ws", &[("authorization", &header)]).await;
    client.next_error("forbidden").await;
    server.stop().await;
}

/// In the time of the clock that tokens go by, which no test can turn.
#[tokio::test]
async fn a_token_that_ends_ends_all_that_it_has_opened_and_says_so() {
    let server = guarded().await;
    open(&server, &token("acme", &[Speak]), "room").await;
    let ending = signed(&Claims { exp: now() + 3, ..claims("acme", &[View]) });
    let header = format!("Bearer {ending}");
    let (mut client, _) = connect(&server, "/ws?session=room", &[("authorization", &header)]).await;
    assert_eq!(client.next().await["type"], "session");
    let mut events = ask(&server, "GET", "/api/sessions/room/events", Some(&ending), "").await;
    assert_eq!(events.status(), 200);
    let offer = "v=0\r\nm=video 9 X 96\r\ngathers";
    let watching = ask(&server, "POST", "/whep/room", Some(&ending), offer).await;
    let viewer = watching.headers()["location"].to_str().unwrap().to_owned();
    let error = client.next_error("token_ended").await;
    assert!(error["fatal"] == true && error["message"].as_str().unwrap().contains("another"), "{error}");
    client.assert_closed(1008).await;
    let mut told = String::new();
    while let Some(bytes) = watchdog::comes("the events end", events.chunk()).await.unwrap() {
        told.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    assert!(told.contains("event: error") && told.contains("token_ended"), "{told}");
    let other = token("acme", &[View]);
    watchdog::until("the viewer is gone", async || {
        ask(&server, "GET", &viewer, Some(&other), "").await.status() == 404
    })
    .await;
    assert_eq!(ask(&server, "GET", "/api/sessions/room", Some(&ending), "").await.status(), 401);
    server.stop().await;
}

#[tokio::test]
async fn the_token_of_whep_goes_on_letting_players_watch_the_servers_own_sessions_and_nothing_else() {
    let server = guarded_with(|options| {
        options.whep.token = Some(Key::new("for players"));
    })
    .await;
    open(&server, &token("main", &[Speak]), "own").await;
    open(&server, &token("acme", &[Speak]), "room").await;
    let player = Some("for players");
    let offer = "v=0\r\nm=video 9 X 96\r\ngathers";
    assert_eq!(ask(&server, "POST", "/whep/own", player, offer).await.status(), 201);
    assert_eq!(ask(&server, "POST", "/whep/room", player, offer).await.status(), 409);
    for path in ["/metrics", "/api/sessions/own", "/api/avatars"] {
        assert_eq!(ask(&server, "GET", path, player, "").await.status(), 401, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask_with_a_token() {
    let server = guarded_with(|options| {
        options.allowed_origins = vec!["https://friend.example".to_owned()];
    })
    .await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let preflight = client
        .request(Method::OPTIONS, format!("http://{}/api/sessions", server.address))
        .header("origin", "https://friend.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 200);
    let allowed = preflight.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("authorization"), "{allowed}");
    let refused = client.get(format!("http://{}/metrics", server.address)).header("origin", "https://friend.example");
    let refused = refused.send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("access-control-allow-origin")), (401, true));
    server.stop().await;
}
