//! Programs as users: the whole server, driven over HTTP, without a viewer and with one.

use serde_json::{Value, json};

use crate::llm::Served;

#[tokio::test]
async fn a_session_opened_over_http_speaks_and_a_viewer_who_joins_it_hears_of_the_same() {
    let served = Served::start_with(&[], tempfile::NamedTempFile::new().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", served.address);
    let post = |path: String, body: Value| {
        let request = client.post(url(&path)).header("content-type", "application/json").body(body.to_string());
        async move { request.send().await.unwrap() }
    };
    let opened = post("/api/sessions".into(), json!({"session": "mine"})).await;
    assert_eq!(opened.status(), 201);
    let opened: Value = serde_json::from_slice(&opened.bytes().await.unwrap()).unwrap();
    assert_eq!(opened["avatar"]["id"], "demo");
    let mut events = client.get(url("/api/sessions/mine/events")).send().await.unwrap();
    let mut viewer = served.client_of("mine").await;
    let said = post("/api/sessions/mine/speak".into(), json!({"content": "Good morning.", "id": "one"})).await;
    assert_eq!(said.status(), 202);
    let seen = viewer.until_type("speech_ended").await;
    let mut told = String::new();
    while !told.contains("speech_ended") {
        told.push_str(std::str::from_utf8(&events.chunk().await.unwrap().expect("more events")).unwrap());
    }
    let ended = seen.last().unwrap();
    assert_eq!((&ended["id"], &ended["text_spoken"]), (&json!("one"), &json!("Good morning.")));
    let heard: Vec<Value> = told
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert_eq!(heard.last(), Some(ended));
    assert!(heard.iter().any(|message| message["type"] == "caption"), "{told}");
}
