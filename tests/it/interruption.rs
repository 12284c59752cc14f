//! How soon everything stops: a language model that writes for minutes, a voice service, mouths for a viewer that watches,
//! and an interruption in the midst of it.

use std::time::{SystemTime, UNIX_EPOCH};

use mouthpiece::media::Receiver;
use serde_json::{Value, json};

use crate::llm::{Client, Model, Served, Service};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A viewer, so that mouths are drawn and encoded.
async fn watch(client: &mut Client) -> Receiver {
    mouthpiece::media::init().unwrap();
    let mut receiver = Receiver::new().unwrap();
    let sdp = receiver.offer().await.unwrap();
    client.send(json!({"type": "webrtc_offer", "sdp": sdp})).await;
    let answered = client.until_type("webrtc_answer").await;
    receiver.accept(answered.last().unwrap()["sdp"].as_str().unwrap()).await.unwrap();
    receiver
}

struct Stopped {
    /// Milliseconds from the interruption until the connection was closed; of the voice's only where one was open.
    model: Vec<f64>,
    voice: Vec<f64>,
    /// Milliseconds until the client heard that nothing is spoken any more.
    told: Vec<f64>,
    metrics: String,
}

/// Interrupts so many turns, each at another moment of its course.
async fn interrupt(turns: usize) -> Stopped {
    let (model, voice) = (Model::start(0, &["50", "50"]), Service::start("tts_server.py", &[]));
    let place = |port: u16| format!("http://127.0.0.1:{port}/v1");
    let (mind, mouth) = (place(model.port), place(voice.port));
    let arguments = ["--llm-url", &mind, "--llm-model", "a-model", "--tts-url", &mouth, "--tts-model", "a-model"];
    let served = Served::start_with(&arguments, tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    let receiver = watch(&mut client).await;
    let mut asked = Vec::new();
    let mut told = Vec::new();
    for turn in 0..turns {
        client.send(json!({"type": "text", "content": "count", "id": turn.to_string()})).await;
        client.until_type("speech_started").await;
        // Sentences later, in which the model and the voice are at other places each time.
        let number = format!(" {}", 3 + turn % 5);
        client.until(|message| message["content"].as_str().is_some_and(|text| text.contains(&number))).await;
        let at = now();
        client.send(json!({"type": "interrupt"})).await;
        let seen = client.until_type("speech_ended").await;
        assert_eq!(seen.last().unwrap()["interrupted"], true);
        told.push((now() - at) * 1000.0);
        asked.push(at);
    }
    assert!(receiver.received().video_frames > 0, "the viewer saw nothing");
    // The last connection is closed when the next request is there.
    client.send(json!({"type": "text", "content": "hello"})).await;
    client.until_type("speech_started").await;
    let closings = |requests: Vec<Value>| -> Vec<f64> {
        let closed = requests.iter().filter_map(|request| request["closed_at"].as_f64()).collect::<Vec<_>>();
        let after = |at: &f64| {
            closed.iter().find(|closed| (*at..at + 2.0).contains(closed)).map(|closed| (closed - at) * 1000.0)
        };
        asked.iter().filter_map(after).collect()
    };
    let url = format!("http://{}/metrics", served.address);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics = http.get(url).send().await.unwrap().text().await.unwrap();
    Stopped { model: closings(model.requests().await), voice: closings(voice.requests().await), told, metrics }
}

#[tokio::test]
async fn an_interruption_closes_the_model_each_time_and_ends_what_a_viewer_sees() {
    let stopped = interrupt(5).await;
    assert_eq!((stopped.model.len(), stopped.told.len()), (5, 5));
    assert!(stopped.metrics.contains("mouthpiece_interrupt_to_idle_seconds_count 5"), "{}", stopped.metrics);
}

#[tokio::test]
#[ignore = "a figure: takes five minutes of a quiet machine"]
async fn how_soon_an_interruption_stops_everything() {
    let Stopped { model, voice, told, metrics } = interrupt(100).await;
    for (what, mut times) in [("model closed", model), ("voice closed", voice), ("client told", told)] {
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        eprintln!("{what}: {} times, p50 {:.0?} ms, p99 {:.0?} ms", times.len(), at(50), at(99));
    }
    for line in metrics.lines().filter(|line| line.starts_with("mouthpiece_interrupt_to_idle_seconds")) {
        eprintln!("{line}");
    }
}
