//! A voice service for all avatars: the real server, and the service in a process of its own that fails in every way that
//! one can fail, over HTTP and over a WebSocket. The avatar's own voice, espeak-ng, takes over.

use std::path::Path;

use futures_util::StreamExt;
use mouthpiece::speech::tts::hibari::{self, Hibari};
use mouthpiece::speech::{Tts, Voice};
use serde_json::{Value, json};

use crate::llm::{Client, KEY, Served, Service};

fn start() -> (Service, Served) {
    let service = Service::start("tts_server.py", &[]);
    let place = format!("url = \"http://127.0.0.1:{}/v1\"\nmodel = \"a-model\"", service.port);
    let served = serve(&place);
    (service, served)
}

fn start_socket() -> (Service, Served) {
    let service = Service::start("tts_socket.py", &[]);
    let served = serve(&format!("url = \"ws://127.0.0.1:{}/speak\"", service.port));
    (service, served)
}

/// Waits for a voice for as long as one takes on a machine that is busy with something else, and no longer than that: some
/// of them never speak.
fn serve(place: &str) -> Served {
    let settings = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "[tts]\n{place}\nvoice = \"a-voice\"\nconnect_s = 60.0\nfirst_audio_s = 4.0\nnext_audio_s = 60.0\nrest_s = 0.01\n"
    );
    std::fs::write(settings.path(), text).unwrap();
    let path = settings.path().display().to_string();
    Served::start_with(&["--config", &path, "--tts-voice", "typed-voice"], settings)
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
    // It is asked for raw samples; what it sends all the same is played, whatever it calls that.
    for text in ["Mpeg is what it sends.", "Opus too.", "Flac as well."] {
        let ended = says(&mut client, text).await;
        assert!((440..640).contains(&ended["spoken_ms"].as_i64().unwrap()), "{ended}");
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
    falls_back_and_returns(
        &served,
        &[
            ("Unauthorized", "answers 401 Unauthorized: It is a 401 for ***."),
            ("Limited", "is asked more than it allows (429 Too Many Requests)"),
            ("Broken", "answers 500 Internal Server Error"),
            ("Json", "answers in application/json: 16-bit PCM or WAV is wanted"),
            ("Rate", "answers at 96000 Hz"),
            ("Html", "answers in text/html: 16-bit PCM or WAV is wanted"),
            ("Nan", "sends what has a sample of NaN"),
            ("Empty", "answered without a sound"),
            ("Hang", "gave no sound within 4 s"),
            ("Stall", "does not speak as fast as it is heard"),
            ("Drop", "broke off"),
            ("Odd", "in the middle of a sample"),
        ],
    )
    .await;
}

async fn falls_back_and_returns(served: &Served, faults: &[(&str, &str)]) {
    let mut client = served.client().await;
    let mut expected = 0;
    for (fault, words) in faults {
        let text = format!("{fault} is what happens now.");
        let ended = says(&mut client, &text).await;
        expected += 1;
        assert_eq!((&ended["text_spoken"], fallbacks(served).await), (&json!(text), expected), "{fault}");
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

#[tokio::test]
async fn a_voice_behind_a_websocket_speaks() {
    let (service, served) = start_socket();
    let mut client = served.client().await;
    for text in ["Hello, my friend.", "Cut anywhere, over a connection of its own."] {
        let ended = says(&mut client, text).await;
        assert_eq!((&ended["interrupted"], &ended["text_spoken"]), (&json!(false), &json!(text)));
        let expected = text.chars().count() as i64 * 60;
        assert!((ended["spoken_ms"].as_i64().unwrap() - expected).abs() < 160, "{ended}");
    }
    let ended = says(&mut client, "Mpeg is what it sends.").await;
    assert!((440..640).contains(&ended["spoken_ms"].as_i64().unwrap()), "{ended}");
    let asked = &service.requests().await[0];
    assert_eq!(asked["authorization"], format!("Bearer {KEY}"));
    let first = json!({"text": "Hello, my friend.", "voice": "typed-voice", "sample_rate": 24_000, "speed": 1.02});
    assert_eq!(asked["asked"], first);
    assert_eq!(fallbacks(&served).await, 0);
    assert!(!served.log().contains(KEY), "the key is in the log");
}

#[tokio::test]
async fn every_fault_of_a_websocket_leaves_the_sentence_to_the_avatars_own_voice() {
    let (_service, served) = start_socket();
    let faults = [
        ("Hang", "gave no sound within 4 s"),
        ("Garbage", "sent a text that is none of sample_rate, done and error"),
        ("Error", "broke off: all lines are busy, ***"),
        ("Rate", "answers at 96000 Hz"),
        ("Unannounced", "sent sound before its sample_rate"),
        ("Large", "at most 2097152 are taken"),
        ("Empty", "answered without a sound"),
        ("Odd", "broke off in the middle of a sample"),
        ("Close", "closed the connection before done"),
        ("Drop", "broke off: "),
        ("Stall", "does not speak as fast as it is heard"),
    ];
    falls_back_and_returns(&served, &faults).await;
}

#[tokio::test]
async fn a_websocket_that_is_not_there_or_refuses_is_no_reason_to_be_silent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Service::start("tts_socket.py", &[]);
    for (url, words) in [
        (format!("ws://127.0.0.1:{free}/speak"), "cannot be reached: "),
        (format!("ws://127.0.0.1:{}/elsewhere", service.port), "answers 401 Unauthorized: Who are you?"),
    ] {
        let served = serve(&format!("url = \"{url}\""));
        let ended = says(&mut served.client().await, "Somebody says this.").await;
        assert_eq!((&ended["text_spoken"], fallbacks(&served).await), (&json!("Somebody says this."), 1));
        assert!(served.log().contains(words), "{}", served.log());
    }
}

#[tokio::test]
async fn an_interruption_closes_the_websocket() {
    let (service, served) = start_socket();
    let mut client = served.client().await;
    client.send(json!({"type": "speak", "content": "Flood is what this voice does."})).await;
    client.until_type("speech_started").await;
    client.send(json!({"type": "interrupt"})).await;
    assert_eq!(client.until_type("speech_ended").await.last().unwrap()["interrupted"], true);
    service.wait_for(|request| !request["closed_at"].is_null()).await;
}

#[tokio::test]
async fn captions_have_each_word_when_the_avatars_own_voice_says_it() {
    const TEXT: &str = "Stop, go, take, pick.";
    let served = Served::start_with(&[], tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    client.send(json!({"type": "speak", "content": TEXT})).await;
    let seen = client.until_type("speech_ended").await;
    let captions: Vec<&Value> = seen.iter().filter(|message| message["type"] == "caption").collect();
    // As the demo avatar's manifest has it.
    let voice = Voice { engine: "hibari".into(), language: "en-us".into(), name: String::new(), rate: 168, pitch: 50 };
    let hibari = Hibari::start(&hibari::folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))).unwrap();
    let told = hibari.speak(TEXT, &voice).unwrap().next().await.unwrap().unwrap().words;
    assert_eq!(told.len(), 4);
    assert!(!captions.is_empty());
    for caption in captions {
        let starts: Vec<u64> =
            caption["words"].as_array().unwrap().iter().map(|word| word["start_ms"].as_u64().unwrap()).collect();
        assert_eq!((starts[0], starts[1..].to_vec()), (0, told[1..].iter().map(|ms| u64::from(*ms)).collect()));
    }
}
