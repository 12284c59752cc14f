//! A voice service for all avatars: the real server, and the service in a process of its own that fails in every way that
//! one can fail. The avatar's own voice, espeak-ng, takes over.

use serde_json::{Value, json};

use crate::llm::{Client, KEY, Served, Service};

fn start() -> (Service, Served) {
    let service = Service::start("tts_server.py", &[]);
    let settings = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[tts]\nurl = \"http://127.0.0.1:{}/v1\"\nmodel = \"a-model\"\nvoice = \"a-voice\"\nfirst_audio_s = 1.0\n\
         next_audio_s = 3.0\nrest_s = 0.01\n",
        service.port
    );
    std::fs::write(settings.path(), text).unwrap();
    let path = settings.path().display().to_string();
    let served = Served::start_with(&["--config", &path, "--tts-voice", "typed-voice"], settings);
    (service, served)
}

async fn says(client: &mut Client, content: &str) -> Value {
    client.send(json!({"type": "speak", "content": content, "id": content})).await;
    let seen = client.until_type("speech_ended").await;
    assert!(seen.iter().all(|message| message["type"] != "error"), "{seen:#?}");
    seen.last().unwrap().clone()
}

async fn fallbacks(served: &Served) -> u64 {
    let url = format!("http://{}/metrics", served.address);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(url).send().await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| line.starts_with("mouthpiece_tts_fallbacks_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn the_service_speaks_in_pcm_or_wav() {
    let (service, served) = start();
    let mut client = served.client().await;
    for text in ["Hello, my friend.", "Wav is another form."] {
        let ended = says(&mut client, text).await;
        assert_eq!((&ended["interrupted"], &ended["text_spoken"]), (&json!(false), &json!(text)));
        // 60 ms a character, which is not espeak-ng's pace.
        let expected = text.chars().count() as i64 * 60;
        assert!((ended["spoken_ms"].as_i64().unwrap() - expected).abs() < 120, "{ended}");
    }
    let asked = &service.requests().await[0];
    assert_eq!(asked["path"], "/v1/audio/speech");
    assert_eq!(asked["authorization"], format!("Bearer {KEY}"));
    // The avatar speaks 168 words a minute, where 165 are usual.
    let body = json!({
        "model": "a-model", "input": "Hello, my friend.", "voice": "typed-voice", "response_format": "pcm", "speed": 1.02,
    });
    assert_eq!(asked["asked"], body);
    assert_eq!(fallbacks(&served).await, 0);
    assert!(!served.log().contains(KEY), "the key is in the log");
}

/// Each is in the log and counted, the sentence is said all the same, and the next one is the service's again.
#[tokio::test]
async fn every_fault_of_the_service_leaves_the_sentence_to_the_avatars_own_voice() {
    let (_service, served) = start();
    let mut client = served.client().await;
    let mut expected = 0;
    for (fault, words) in [
        ("Unauthorized", "answers 401 Unauthorized: It is a 401 for ***."),
        ("Limited", "is asked more than it allows (429 Too Many Requests)"),
        ("Broken", "answers 500 Internal Server Error"),
        ("Json", "answers in application/json: 16-bit PCM or WAV is wanted"),
        ("Rate", "answers at 96000 Hz"),
        ("Nan", "sent no usable WAV: it is format 3"),
        ("Empty", "answered without a sound"),
        ("Hang", "gave no sound within 1 s"),
        ("Stall", "does not speak as fast as it is heard"),
        ("Drop", "broke off"),
        ("Odd", "in the middle of a sample"),
    ] {
        let text = format!("{fault} is what happens now.");
        let ended = says(&mut client, &text).await;
        expected += 1;
        assert_eq!((&ended["text_spoken"], fallbacks(&served).await), (&json!(text), expected), "{fault}");
        assert!(served.log().contains(words), "{fault}: {}", served.log());
    }
    let ended = says(&mut client, "All is well.").await;
    assert!((ended["spoken_ms"].as_i64().unwrap() - 720).abs() < 120, "{ended}");
    assert!(!served.log().contains(KEY), "the key is in the log");
}

#[tokio::test]
async fn an_interruption_closes_the_connection_to_the_service() {
    let (service, served) = start();
    let mut client = served.client().await;
    client.send(json!({"type": "speak", "content": "Flood is what this voice does."})).await;
    client.until_type("speech_started").await;
    client.send(json!({"type": "interrupt"})).await;
    assert_eq!(client.until_type("speech_ended").await.last().unwrap()["interrupted"], true);
    service.wait_for(|request| !request["closed_at"].is_null()).await;
}
