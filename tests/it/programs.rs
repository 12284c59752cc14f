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

#[tokio::test]
async fn a_session_that_nobody_watches_is_recorded_and_pushed_and_a_killed_server_leaves_a_film_and_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--record-dir", folder.path().to_str().unwrap()];
    let served = Served::start_with(&arguments, tempfile::NamedTempFile::new().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("http://{}{path}", served.address);
    let post = |path: &str, body: Value| {
        let request = client.post(url(path)).header("content-type", "application/json").body(body.to_string());
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
        }
    };
    assert_eq!(post("/api/sessions", json!({"session": "taped"})).await.0, 201);
    let mut watcher = served.client_of("taped").await;
    let path = "/api/sessions/taped/outputs";
    assert_eq!(post(path, json!({"kind": "record", "name": "talk"})).await.0, 201);
    assert_eq!(post(path, json!({"kind": "record", "name": "talk"})).await.1["code"], "output_exists");
    assert_eq!(post(path, json!({"kind": "record", "name": "../talk"})).await.1["code"], "bad_output");
    assert_eq!(post(path, json!({"kind": "v4l2"})).await.0, 403, "the settings name no camera");
    // Nobody listens there.
    let pushed = post(path, json!({"kind": "rtmp", "url": "rtmp://127.0.0.1:1/live/sk-stream"})).await;
    assert_eq!((pushed.0, &pushed.1["target"]), (201, &json!("rtmp://127.0.0.1:1")));
    let both = |message: &Value| {
        let states = message["outputs"].as_array().map(|all| all.iter().map(|one| one["state"].clone()).collect());
        states == Some(vec![json!("live"), json!("retrying")])
    };
    watcher.until(both).await;
    // By the end of the second, the first is on the disk with its caption.
    for content in ["Good morning.", "This is said after that, and takes a while."] {
        assert_eq!(post("/api/sessions/taped/speak", json!({"content": content})).await.0, 202);
        watcher.until_type("speech_ended").await;
    }
    let metrics = client.get(url("/metrics")).send().await.unwrap().bytes().await.unwrap();
    let (metrics, log) = (String::from_utf8(metrics.to_vec()).unwrap(), served.log());
    assert!(metrics.contains("mouthpiece_outputs{kind=\"record\"} 1"), "{metrics}");
    for told in [&metrics, &log] {
        assert!(!told.contains("sk-stream"));
    }
    // SIGKILL.
    drop(served);
    let film = std::fs::read(folder.path().join("talk.mp4")).unwrap();
    let count = |wanted: &[u8]| film.windows(wanted.len()).filter(|bytes| *bytes == wanted).count();
    assert!(count(b"moov") == 1 && count(b"moof") >= 3 && count(b"tx3g") >= 1, "{} fragments", count(b"moof"));
    assert_eq!(count(b"Good morning."), 1);
}
