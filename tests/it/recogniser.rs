//! The client of a speech recogniser, against one in a process of its own that fails in every way that one can fail.

use std::time::Duration;

use mouthpiece::endpoint::Key;
use mouthpiece::hearing::asr::{Recogniser, Settings, Transcribe};
use serde_json::json;

use crate::llm::{KEY, Service};
use crate::watchdog;

/// Waits for ever for an answer, but for one that never comes.
fn recogniser(port: u16, model: &str) -> Recogniser {
    let answer = if model == "hangs" { Duration::from_secs(2) } else { watchdog::LIMIT };
    Recogniser::new(Settings {
        url: format!("http://127.0.0.1:{port}/v1"),
        model: model.to_owned(),
        key: Some(Key::new(KEY)),
        language: Some("en".to_owned()),
        connect: watchdog::LIMIT,
        answer,
    })
    .unwrap()
}

#[tokio::test]
async fn speech_goes_there_as_a_wav_file_and_comes_back_as_text() {
    let service = Service::start("asr_server.py", &["0", "It is noon."]);
    let text = recogniser(service.port, "whisper-1").transcribe(vec![1000; 8_000]).await.unwrap();
    assert_eq!(text.trim(), "It is noon.");
    let asked = &service.requests().await[0];
    assert_eq!(asked["path"], "/v1/audio/transcriptions");
    assert_eq!(asked["authorization"], format!("Bearer {KEY}"));
    assert_eq!(asked["fields"], json!({"model": "whisper-1", "language": "en", "response_format": "json"}));
    let sound = json!({"rate": 16_000, "channels": 1, "bytes": 2, "seconds": 0.5, "rms": 1000.0});
    assert_eq!(asked["sound"], sound);
}

#[tokio::test]
async fn nothing_said_and_a_byte_that_is_no_text_are_answers() {
    let service = Service::start("asr_server.py", &["0"]);
    for (model, words) in [("null", ""), ("latin1", "Das Caf\u{fffd} ist zu.")] {
        assert_eq!(recogniser(service.port, model).transcribe(vec![0; 1_600]).await.unwrap(), words, "{model}");
    }
}

#[tokio::test]
async fn every_fault_is_one_error_that_names_no_key_and_no_place() {
    let service = Service::start("asr_server.py", &["0"]);
    for (model, words) in [
        ("unauthorized", "the speech recogniser answers 401 Unauthorized: It is a 401 for ***."),
        ("limited", "is asked more than it allows (429 Too Many Requests)"),
        ("broken", "answers 500 Internal Server Error"),
        ("hangs", "did not answer within 2 s"),
        ("truncated", "cannot be used: EOF while parsing"),
        ("other", "missing field `text`"),
        ("huge", "more than 262144 bytes"),
        ("drops", "breaks off"),
    ] {
        let error = recogniser(service.port, model).transcribe(vec![0; 1_600]).await.unwrap_err().to_string();
        assert!(error.contains(words), "{model}: {error}");
        assert!(!error.contains(KEY) && !error.contains("127.0.0.1"), "{model}: {error}");
        let next = recogniser(service.port, "whisper-1").transcribe(vec![0; 1_600]).await;
        assert!(next.is_ok(), "after {model}: {next:?}");
    }
    let nobody = recogniser(1, "whisper-1").transcribe(vec![0; 1_600]).await.unwrap_err().to_string();
    assert!(nobody.contains("cannot be reached"), "{nobody}");
}
