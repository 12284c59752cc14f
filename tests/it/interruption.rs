//! That everything stops, and how soon: a language model that writes for minutes, a voice service that speaks as slowly,
//! mouths for a viewer that decodes what comes, and an interruption in the midst of it.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::kit::peer::{H264, OPUS, Peer};
use crate::llm::{Model, Served, Service};
use crate::peer::connect;
use crate::watchdog;

/// Receives without a jitter buffer, so that nothing is seen later than it came.
const VIEWER: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=0 \
    rtpopusdepay name=audio ! opusdec ! audioconvert ! audio/x-raw,format=S16LE,channels=1 \
    ! appsink name=heard sync=false async=false \
    rtph264depay name=video ! h264parse ! openh264dec ! video/x-raw,format=I420 \
    ! appsink name=seen sync=false async=false";
/// Of 32768: what is louder is speech.
const AUDIBLE: u16 = 300;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// When packets of one kind came, and whether they were of speech.
#[derive(Clone, Default)]
struct Packets(Arc<Mutex<Vec<(f64, bool)>>>);

impl Packets {
    fn came(&self, is_speech: bool) {
        self.0.lock().unwrap().push((now(), is_speech));
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until one of speech came after so many.
    async fn speak(&self, after: usize) {
        let is_so = async || self.0.lock().unwrap().iter().skip(after).any(|(_, speech)| *speech);
        watchdog::until("the avatar speaks", is_so).await;
    }

    /// Waits until so many in a row came without speech.
    async fn fall_silent(&self, count: usize) {
        let is_so =
            async || self.0.lock().unwrap().iter().rev().take(count).filter(|(_, speech)| !speech).count() == count;
        watchdog::until("the avatar falls silent", is_so).await;
    }

    /// Milliseconds from a moment to the last packet of speech before another; none where none came around the first.
    fn last_speech(&self, from: f64, to: f64) -> Option<f64> {
        let packets = self.0.lock().unwrap();
        let mut speech = packets.iter().filter(|(at, is_speech)| *is_speech && (from - 0.15..to).contains(at));
        speech.next_back().map(|(at, _)| ((at - from) * 1000.0).max(0.0))
    }
}

/// Tells of a decoded frame whether its mouth is a spoken one, which `--mark-speech` marks: white beside black.
fn is_marked(sample: &gstreamer::Sample) -> bool {
    let structure = sample.caps().unwrap().structure(0).unwrap();
    let (width, height): (i32, i32) = (structure.get("width").unwrap(), structure.get("height").unwrap());
    let frame = sample.buffer().unwrap().map_readable().unwrap();
    // The first plane's rows are as far apart as its width, rounded up to four, where nothing else is said.
    let stride = (width as usize).next_multiple_of(4);
    assert!(frame.size() >= stride * height as usize);
    let luma = |x: usize| u32::from(frame[16 * stride + x]);
    luma(16) > luma(48) + 120
}

/// A viewer, so that mouths are drawn and encoded.
fn viewer() -> (Peer, Packets, Packets) {
    let peer = Peer::new(VIEWER);
    let (heard, seen) = (Packets::default(), Packets::default());
    let (hears, sees) = (heard.clone(), seen.clone());
    peer.each("heard", move |sample| {
        let sound = sample.buffer().unwrap().map_readable().unwrap();
        let loud = |bytes: &[u8]| i16::from_le_bytes([bytes[0], bytes[1]]).unsigned_abs() > AUDIBLE;
        hears.came(sound.chunks_exact(2).any(loud));
    });
    peer.each("seen", move |sample| sees.came(is_marked(&sample)));
    peer.receives(H264);
    peer.receives(OPUS);
    (peer, heard, seen)
}

#[derive(Default)]
struct Stopped {
    /// Milliseconds from each interruption until a connection that was open then was closed.
    model: Vec<f64>,
    voice: Vec<f64>,
    /// Milliseconds until the last sound and the last spoken mouth came to the viewer.
    heard: Vec<f64>,
    seen: Vec<f64>,
    /// Milliseconds until the client heard that nothing is spoken any more.
    told: Vec<f64>,
    metrics: String,
}

/// Interrupts so many turns, each at another moment of its course.
async fn interrupt(turns: usize) -> Stopped {
    let (model, voice) = (Model::start(0, &["50", "50"]), Service::start("tts_server.py", &["1.5"]));
    let place = |port: u16| format!("http://127.0.0.1:{port}/v1");
    let (mind, mouth) = (place(model.port), place(voice.port));
    let arguments =
        ["--llm-url", &mind, "--llm-model", "a-model", "--tts-url", &mouth, "--tts-model", "a-model", "--mark-speech"];
    let served = Served::start_with(&arguments, tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    let (peer, heard, seen) = viewer();
    connect(&peer, &mut client).await;
    let mut stopped = Stopped::default();
    let mut asked = Vec::new();
    for turn in 0..turns {
        let before = (heard.count(), seen.count());
        let text = json!({"type": "text", "content": "count", "id": turn.to_string()});
        client.send(text).await;
        client.until_type("speech_started").await;
        // Sentences later, in which the model and the voice are at other places each time.
        let number = format!(" {}", 3 + turn % 5);
        client.until(|message| message["content"].as_str().is_some_and(|text| text.contains(&number))).await;
        // It is in the midst of speaking, as its viewer hears and sees.
        heard.speak(before.0).await;
        seen.speak(before.1).await;
        let at = now();
        client.send(json!({"type": "interrupt"})).await;
        let ended = client.until_type("speech_ended").await;
        assert_eq!(ended.last().unwrap()["interrupted"], true);
        stopped.told.push((now() - at) * 1000.0);
        heard.fall_silent(25).await;
        seen.fall_silent(12).await;
        stopped.heard.extend(heard.last_speech(at, now()));
        stopped.seen.extend(seen.last_speech(at, now()));
        asked.push(at);
    }
    let is_closed = |request: &Value| request["closed_at"].is_f64();
    model.wait_until(|requests| requests.iter().filter(|request| is_closed(request)).count() == turns).await;
    // Whatever the voice was asked was answered to its end, or is not wanted any more.
    let is_over = |request: &Value| is_closed(request) || request["answered"] == true;
    voice.wait_until(|requests| requests.iter().all(is_over)).await;
    let closings = |requests: Vec<Value>| -> Vec<f64> {
        let closed = requests.iter().filter_map(|request| request["closed_at"].as_f64());
        let before =
            |closed: f64| asked.iter().rev().find(|asked| **asked < closed).map(|asked| (closed - asked) * 1000.0);
        closed.filter_map(before).collect()
    };
    stopped.model = closings(model.requests().await);
    stopped.voice = closings(voice.requests().await);
    let url = format!("http://{}/metrics", served.address);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    stopped.metrics = http.get(url).send().await.unwrap().text().await.unwrap();
    stopped
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_closes_the_model_and_the_voice_each_time_and_ends_what_a_viewer_hears_and_sees() {
    let Stopped { model, voice, metrics, .. } = interrupt(5).await;
    assert_eq!(model.len(), 5);
    // The voice is between two sentences now and then, or asked for the one after next already.
    assert!(voice.len() >= 4, "{voice:?}");
    assert!(metrics.contains("mouthpiece_interrupt_to_idle_seconds_count 5"), "{metrics}");
}

#[tokio::test]
async fn clients_of_one_session_speak_with_voices_of_their_own_and_every_turn_ends_once_for_all_of_them() {
    const RATE: usize = 16_000;
    let served = Served::start_with(&[], tempfile::NamedTempFile::new().unwrap());
    let (mut one, mut other) = (served.client_of("both").await, served.client_of("both").await);
    for (client, id) in [(&mut one, "one"), (&mut other, "other")] {
        client.send(json!({"type": "audio_start", "sample_rate": RATE, "id": id})).await;
        // Answered when what was sent before it is done, so that the one comes before the other.
        client.send(json!({"type": "ping"})).await;
        client.until_type("pong").await;
    }
    // The voices come at the same time; one client ends its own, the other one leaves in the middle.
    for _ in 0..10 {
        one.sends_sound(RATE / 10).await;
        other.sends_sound(RATE / 10).await;
    }
    one.send(json!({"type": "audio_end"})).await;
    other.sends_sound(RATE * 3 / 5).await;
    let mut ended = std::collections::BTreeMap::new();
    let mut ends = |seen: Vec<Value>| {
        for end in seen.into_iter().filter(|message| message["type"] == "speech_ended" || message["type"] == "error") {
            let id = end["id"].as_str().unwrap().to_owned();
            assert!(end["utterance_id"].is_string() && ended.insert(id, end).is_none(), "{ended:#?}");
        }
    };
    let of = |id: &'static str| move |message: &Value| message["type"] == "speech_ended" && message["id"] == id;
    ends(one.until(of("one")).await);
    drop(other);
    ends(one.until(of("other")).await);
    // Queued behind one that is heard, and cancelled; after that there is room at once.
    let long = "This sentence is long enough to be interrupted before it has come to its end.";
    for id in ["heard", "second", "third"] {
        one.send(json!({"type": "speak", "content": long, "id": id})).await;
    }
    one.until(|message| message["type"] == "speech_started" && message["id"] == "heard").await;
    one.send(json!({"type": "text", "content": "Say: That is all.", "id": "last"})).await;
    ends(one.until(of("last")).await);
    let told = |id: &str| (ended[id]["interrupted"].as_bool().unwrap(), ended[id]["spoken_ms"].as_u64().unwrap());
    assert_eq!((told("one"), told("other")), ((false, 1000), (false, 1600)));
    assert!(told("heard").0 && told("heard").1 > 0 && !told("last").0, "{ended:#?}");
    assert_eq!((told("second"), told("third")), ((true, 0), (true, 0)));
    assert_eq!(ended.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes five minutes of a quiet machine"]
async fn how_soon_an_interruption_stops_everything() {
    let Stopped { model, voice, heard, seen, told, metrics } = interrupt(100).await;
    let all = [
        ("model closed", model),
        ("voice closed", voice),
        ("last sound came", heard),
        ("last spoken mouth came", seen),
        ("client told", told),
    ];
    for (what, mut times) in all {
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        eprintln!("{what}: {} times, p50 {:.0?} ms, p99 {:.0?} ms", times.len(), at(50), at(99));
    }
    for line in metrics.lines().filter(|line| line.starts_with("mouthpiece_interrupt_to_idle_seconds")) {
        eprintln!("{line}");
    }
}
