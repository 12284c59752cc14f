//! The conversation over HTTP.

use std::sync::atomic::Ordering;

use mouthpiece::session::{Command, Notice, Outputs, PushOrder, Told};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::fakes::TestServer;
use crate::watchdog;

struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn is_error(&self, status: u16, code: &str, says: &str) {
        assert_eq!((self.status, &self.body["code"]), (status, &json!(code)), "{}", self.body);
        assert!(self.body["message"].as_str().unwrap().contains(says), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/json");
    }
}

async fn send(server: &TestServer, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method, format!("http://{}/api{path}", server.address)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn ask(server: &TestServer, method: Method, path: &str, body: &str) -> Answer {
    answer(send(server, method, path, &[("content-type", "application/json")], body).await).await
}

async fn answer(response: Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status, headers, body }
}

/// Reads a stream of events until it holds this, or ends.
async fn read_until(events: &mut Response, wanted: &str) -> String {
    let mut read = String::new();
    while !read.contains(wanted) {
        match events.chunk().await.unwrap() {
            Some(bytes) => read.push_str(std::str::from_utf8(&bytes).unwrap()),
            None => break,
        }
    }
    read
}

#[tokio::test]
async fn a_program_opens_a_session_has_it_speak_hears_of_it_and_closes_it() {
    let server = TestServer::start().await;
    let opened = ask(&server, Method::POST, "/sessions", "").await;
    assert_eq!(opened.status, 201);
    let id = opened.body["session_id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 32, "a name that cannot be guessed");
    let demo = json!({"id": "demo", "name": "Mika", "width": 512, "height": 512, "fps": 25, "gestures": ["nod"]});
    assert_eq!(opened.body["avatar"], demo);
    assert_eq!(opened.body["websocket"], format!("/ws?session={id}"));
    assert_eq!(*server.ledger.joined.lock().unwrap(), [(None, Some(id.clone()))]);
    let path = format!("/sessions/{id}");
    assert_eq!(ask(&server, Method::GET, &path, "").await.body, opened.body);

    let mut events = send(&server, Method::GET, &format!("{path}/events"), &[], "").await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    assert!(read_until(&mut events, "\n\n").await.starts_with(':'));
    let said = ask(&server, Method::POST, &format!("{path}/speak"), r#"{"content":"Hello.","id":"one"}"#).await;
    assert_eq!((said.status, said.body), (202, json!({"accepted": true})));
    let told = read_until(&mut events, "speech_ended\",").await;
    for event in ["event: text\ndata: {", "event: speech_started\ndata: {", "event: speech_ended\ndata: {"] {
        assert!(told.contains(event), "{told}");
    }
    assert!(told.contains(r#""text_spoken":"Hello.""#) && told.contains(r#""id":"one""#), "{told}");
    assert_eq!(ask(&server, Method::POST, &format!("{path}/text"), r#"{"content":"Hi"}"#).await.status, 202);
    assert_eq!(ask(&server, Method::POST, &format!("{path}/interrupt"), "").await.status, 202);
    let turn = |content: &str, id: Option<&str>| (content.to_owned(), id.map(str::to_owned));
    let ((one, one_id), (hi, hi_id)) = (turn("Hello.", Some("one")), turn("Hi", None));
    let commands =
        [Command::Speak { text: one, id: one_id }, Command::Text { text: hi, id: hi_id }, Command::Interrupt];
    assert_eq!(*server.ledger.commands.lock().unwrap(), commands);

    assert_eq!(ask(&server, Method::DELETE, &path, "").await.status, 204);
    read_until(&mut events, "this never comes").await;
    server.assert_all_left().await;
    for (method, path) in
        [(Method::GET, path.clone()), (Method::DELETE, path.clone()), (Method::POST, path + "/interrupt")]
    {
        ask(&server, method, &path, "").await.is_error(404, "unknown_session", &id);
    }
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_is_one_json_error() {
    let server = TestServer::start().await;
    let open = |body: &'static str| ask(&server, Method::POST, "/sessions", body);
    assert_eq!(open(r#"{"session":"mine","avatar":"demo"}"#).await.status, 201);
    open(r#"{"session":"mine"}"#).await.is_error(409, "session_exists", "\"mine\"");
    open(r#"{"session":"not mine"}"#).await.is_error(422, "bad_session_name", "not mine");
    open(r#"{"avatar":"anna"}"#).await.is_error(404, "unknown_avatar", "there is demo");
    open(r#"{"avatar":"../etc"}"#).await.is_error(404, "unknown_avatar", "../etc");
    open(r#"{"voice":"x"}"#).await.is_error(422, "bad_message", "voice");
    open(r#"{"session":5}"#).await.is_error(422, "bad_message", "session: invalid type");
    open(r#"{"session":"#).await.is_error(400, "bad_json", "not JSON");
    open("[]").await.is_error(422, "bad_message", "JSON object");
    open(r#"{} {}"#).await.is_error(400, "bad_json", "trailing");

    let speak = async |body: String| ask(&server, Method::POST, "/sessions/mine/speak", &body).await;
    speak(r#"{"id":"one"}"#.into()).await.is_error(422, "bad_message", "content");
    speak(r#"{"content":" \n "}"#.into()).await.is_error(422, "nothing_to_say", "speak.content");
    speak(json!({"content": "a".repeat(10_001)}).to_string()).await.is_error(413, "text_too_long", "10001");
    speak(json!({"content": "a", "id": "i".repeat(129)}).to_string()).await.is_error(422, "bad_message", "speak.id");
    speak(json!({"content": "a".repeat(70_000)}).to_string()).await.is_error(413, "message_too_long", "65536");
    speak(r#"{"content":"too much"}"#.into()).await.is_error(429, "busy", "waiting");

    let plain = [("content-type", "text/plain")];
    let typed = send(&server, Method::POST, "/sessions/mine/speak", &plain, r#"{"content":"a"}"#).await;
    answer(typed).await.is_error(415, "unsupported_media_type", "application/json");
    let other = ask(&server, Method::PUT, "/sessions/mine", "").await;
    other.is_error(405, "method_not_allowed", "Allow");
    assert!(other.headers["allow"].to_str().unwrap().contains("DELETE"), "{:?}", other.headers);
    ask(&server, Method::GET, "/nothing", "").await.is_error(404, "not_found", "openapi.json");
    ask(&server, Method::GET, "/sessions/a%2fb", "").await.is_error(404, "unknown_session", "a/b");
    ask(&server, Method::GET, "/sessions/%ff", "").await.is_error(404, "unknown_session", "%ff");
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_may_not_use_it() {
    let server = TestServer::with(|options| options.allowed_origins.push("https://friend.example".into())).await;
    let json = ("content-type", "application/json");
    for (origin, status) in [
        ("https://friend.example", 201),
        ("https://evil.example", 403),
        ("null", 403),
        (&format!("http://{}", server.address), 201),
    ] {
        let sent = send(&server, Method::POST, "/sessions", &[json, ("origin", origin)], "").await;
        assert_eq!(sent.status().as_u16(), status, "{origin}");
    }
    server.stop().await;
}

/// As a picture or a script of a page would ask, of which a browser only says that it is another's.
#[tokio::test]
async fn pages_of_other_sites_open_no_stream_of_events() {
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        let sent = send(&server, Method::GET, "/sessions/mine/events", &[("sec-fetch-site", site)], "").await;
        assert_eq!(sent.status().as_u16(), status, "{site}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_is_opened_again_right_after_it_was_closed_stays() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let host = server.address;
    let body = r#"{"session":"mine"}"#;
    let pair = format!(
        "DELETE /api/sessions/mine HTTP/1.1\r\nHost: {host}\r\n\r\n\
         POST /api/sessions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let last = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all((pair.repeat(60) + &last).as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!((answers.matches(" 204 ").count(), answers.matches(" 201 ").count()), (60, 60), "{answers}");
    // Of all that were closed, whoever passed on what they told has ended.
    while server.ledger.sessions.load(std::sync::atomic::Ordering::SeqCst) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&server, Method::GET, "/sessions/mine", "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn turns_have_a_rate_over_http_and_over_a_web_socket() {
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    let began = std::time::Instant::now();
    let asking = async {
        loop {
            let said = ask(&server, Method::POST, "/sessions/mine/text", r#"{"content":"Hello."}"#).await;
            if said.status != 202 {
                return said;
            }
        }
    };
    let refused = watchdog::comes("there are too many turns", asking).await;
    refused.is_error(429, "too_many_messages", "turns");
    assert_eq!((&refused.headers["retry-after"], &refused.body["retry_after_s"]), (&"1".parse().unwrap(), &json!(1)));
    assert_eq!(
        ask(&server, Method::POST, "/sessions/mine/interrupt", "").await.status,
        202,
        "stopping is always possible"
    );
    let mut client = server.client().await;
    for _ in 0..60 {
        client.says(json!({"type": "text", "content": "Hello."})).await;
    }
    while client.next().await["code"] != "too_many_messages" {}
    let turns = server.ledger.commands.lock().unwrap().len();
    // Thirty of each, and five more a second, however long the machine takes; and the interruption.
    let most = 61 + (10.0 * began.elapsed().as_secs_f64()).ceil() as usize;
    assert!(turns <= most, "{turns} turns were taken, {most} may be");
    server.stop().await;
}

#[tokio::test]
async fn a_program_is_told_how_many_events_it_missed() {
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    let mut events = send(&server, Method::GET, "/sessions/mine/events", &[], "").await;
    read_until(&mut events, "\n\n").await;
    let notices = server.ledger.notices.lock().unwrap().pop().unwrap();
    // All at once, so that nobody can take one meanwhile.
    let tell = |number: usize| notices.tell(Notice::Transcript { content: number.to_string(), is_final: true });
    let missed = (0..1000).filter(|number| tell(*number) == Told::Missed).count();
    let wanted = format!("event: missed\ndata: {{\"type\":\"missed\",\"count\":{missed}}}\n\n");
    assert!(missed > 0 && read_until(&mut events, &wanted).await.ends_with(&wanted), "{missed} were missed");
    server.stop().await;
}

#[tokio::test]
async fn the_server_ends_while_a_program_listens() {
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    let mut events = send(&server, Method::GET, "/sessions/mine/events", &[], "").await;
    read_until(&mut events, "\n\n").await;
    let ledger = std::sync::Arc::clone(&server.ledger);
    server.stop().await;
    assert_eq!(read_until(&mut events, "this never comes").await, "");
    assert_eq!(ledger.sessions.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_description_names_every_path_that_is_served() {
    let server = TestServer::start().await;
    let described = ask(&server, Method::GET, "/openapi.json", "").await;
    assert_eq!(described.status, 200);
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    for (path, methods) in described.body["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "mine").replace("{session}", "mine");
        // A method that no path has tells which it has.
        let refused = reqwest::Client::builder().no_proxy().build().unwrap();
        let refused = refused.put(format!("http://{}{path}", server.address)).send().await.unwrap();
        let refused = answer(refused).await;
        let allowed = refused.headers["allow"].to_str().unwrap().to_lowercase();
        for method in methods.as_object().unwrap().keys() {
            assert!(allowed.contains(method.as_str()), "{method} {path}: {allowed}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_program_sees_how_pipelines_stand_and_has_changed_ones_used() {
    let server = TestServer::start().await;
    for (method, path) in [(Method::GET, "/pipelines"), (Method::POST, "/pipelines/reload")] {
        ask(&server, method, path, "").await.is_error(403, "pipelines_off", "allow_reload");
    }
    server.stop().await;
    let server = TestServer::with(|options| options.pipelines.allowed = true).await;
    let listed = ask(&server, Method::GET, "/pipelines", "").await;
    let good = |file: &str| json!({"file": file, "state": "ok", "in_use": true, "changes": 0});
    let files = json!({"watched": true, "files": [good("publish-a.launch"), good("viewer-b.launch")]});
    assert_eq!((listed.status, listed.body), (200, files));
    let reloaded = ask(&server, Method::POST, "/pipelines/reload", "").await;
    let fault = json!({"line": 3, "column": 7, "message": "it is wrong"});
    let refused = json!({"file": "viewer-b.launch", "state": "refused", "in_use": true, "changes": 0, "fault": fault});
    assert_eq!((reloaded.status, reloaded.body), (200, json!({"changed": [refused]})));
    let foreign = [("origin", "https://elsewhere.example")];
    let reply = answer(send(&server, Method::POST, "/pipelines/reload", &foreign, "").await).await;
    reply.is_error(403, "foreign_origin", "allowed_origins");
    server.stop().await;
}

#[tokio::test]
async fn a_program_starts_outputs_sees_how_they_are_and_stops_them() {
    let server = TestServer::start().await;
    let id = ask(&server, Method::POST, "/sessions", "").await.body["session_id"].as_str().unwrap().to_owned();
    let path = format!("/sessions/{id}/outputs");
    let record = r#"{"kind":"record","name":"talk"}"#;
    ask(&server, Method::POST, &path, record).await.is_error(403, "outputs_off", "allow_outputs");
    assert_eq!(ask(&server, Method::GET, &path, "").await.body, json!({"allowed": false, "outputs": []}));

    server.ledger.outputs.allowed.store(true, Ordering::SeqCst);
    let started = ask(&server, Method::POST, &path, record).await;
    let output = started.body["id"].as_str().unwrap().to_owned();
    let expected = json!({"id": output, "kind": "record", "target": "talk", "state": "live", "message": null, "frames": 25,
        "dropped": 0, "reconnects": 0});
    assert_eq!((started.status, &started.body), (201, &expected));
    let own = format!("{path}/{output}");
    assert_eq!(started.headers["location"], format!("/api{own}"));
    assert_eq!(ask(&server, Method::GET, &own, "").await.body, expected);
    assert_eq!(ask(&server, Method::GET, &path, "").await.body, json!({"allowed": true, "outputs": [expected]}));
    assert_eq!(ask(&server, Method::DELETE, &own, "").await.status, 204);
    ask(&server, Method::DELETE, &own, "").await.is_error(404, "unknown_output", &output);
    ask(&server, Method::GET, &own, "").await.is_error(404, "unknown_output", &output);

    let refused = r#"{"kind":"rtmp","url":"rtmp://refused/a/b"}"#;
    ask(&server, Method::POST, &path, refused).await.is_error(422, "bad_output", "url");
    for (body, says) in [
        ("{}", "kind"),
        (r#"{"kind":"fax"}"#, "kind"),
        (r#"{"kind":"rtmp","location":"x"}"#, "location"),
        (r#"{"kind":"srt","url":7}"#, "url"),
    ] {
        ask(&server, Method::POST, &path, body).await.is_error(422, "bad_message", says);
    }
    ask(&server, Method::POST, "/sessions/nobody/outputs", record).await.is_error(404, "unknown_session", "nobody");
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_told_of_outputs_and_has_them_start_and_stop_where_the_server_allows_it() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.says(json!({"type": "output_start", "kind": "record"})).await;
    client.next_error("outputs_off").await;
    server.ledger.outputs.allowed.store(true, Ordering::SeqCst);
    let mut client = server.client().await;
    assert_eq!(client.next().await, json!({"type": "outputs", "outputs": []}));
    client.says(json!({"type": "output_start", "kind": "rtmp", "url": "rtmp://refused/a/b"})).await;
    client.next_error("bad_output").await;
    client.says(json!({"type": "output_start", "kind": "record", "name": "talk"})).await;
    let told = client.next_of("outputs").await;
    let id = told["outputs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&told["outputs"][0]["kind"], &told["outputs"][0]["state"]), (&json!("record"), &json!("live")));
    client.says(json!({"type": "output_stop", "output_id": "o-0"})).await;
    client.next_error("bad_output").await;
    client.says(json!({"type": "output_stop", "output_id": id})).await;
    assert_eq!(client.next_of("outputs").await, json!({"type": "outputs", "outputs": []}));
    assert!(server.ledger.outputs.list().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_pushed_to_media_servers_told_of_and_stopped() {
    let server = TestServer::start().await;
    ask(&server, Method::POST, "/sessions", r#"{"session":"mine"}"#).await;
    let path = "/sessions/mine/whip";
    assert_eq!(ask(&server, Method::GET, path, "").await.body, json!({"allowed": true, "pushes": []}));
    let begun = ask(&server, Method::POST, path, r#"{"url":"https://sfu.example/secret","token":" t "}"#).await;
    assert_eq!(begun.status, 201);
    let place = begun.headers["location"].to_str().unwrap().strip_prefix("/api").unwrap().to_owned();
    assert_eq!(ask(&server, Method::GET, &place, "").await.body, begun.body);
    let (target, state) = (&begun.body["target"], &begun.body["state"]);
    assert_eq!((target, state), (&json!("https://sfu.example"), &json!("connecting")));
    let token = Some(mouthpiece::endpoint::Key::new("t"));
    let order = PushOrder { url: "https://sfu.example/secret".to_owned(), token };
    assert_eq!(server.ledger.pushes.lock().unwrap()[0].1, order);
    for (body, code, says) in [
        (r#"{"url":"rtmp://h"}"#, "bad_message", "url"),
        (r#"{}"#, "bad_message", "url"),
        (r#"{"url":"https://h","token":"a b"}"#, "bad_message", "token"),
        (r#"{"url":"https://h","name":"x"}"#, "bad_message", "name"),
    ] {
        ask(&server, Method::POST, path, body).await.is_error(422, code, says);
    }
    assert_eq!(ask(&server, Method::DELETE, &place, "").await.status, 204);
    for method in [Method::DELETE, Method::GET] {
        ask(&server, method, &place, "").await.is_error(404, "unknown_push", "no push");
    }
    ask(&server, Method::POST, "/sessions/other/whip", "{}").await.is_error(404, "unknown_session", "other");
    // The fake allows nobody then.
    *server.ledger.full.lock().unwrap() = Some("full".to_owned());
    ask(&server, Method::POST, path, r#"{"url":"https://h"}"#).await.is_error(403, "pushes_off", "allow = true");
    server.stop().await;
}
