//! Another avatar in a live session: for viewers in the connection that they have, while a sentence goes on.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::kit::peer::{H264, OPUS, Peer};
use crate::llm::Served;
use crate::peer::connect;
use crate::tall_avatar;
use crate::watchdog;

/// Looks at packets of sound as they come, and decodes pictures.
const VIEWER: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=0 \
    identity name=audio ! appsink name=heard sync=false async=false \
    rtph264depay name=video ! h264parse ! openh264dec ! video/x-raw,format=I420 \
    ! appsink name=seen sync=false async=false";

/// What a viewer has received.
#[derive(Clone, Default)]
struct Received {
    /// RTP timestamps of the sound, at 48 kHz.
    sound: Arc<Mutex<Vec<u32>>>,
    /// Sizes of pictures, each time that it is another one, and whether the last rows were red then.
    pictures: Arc<Mutex<Vec<(i32, i32, bool)>>>,
}

fn viewer() -> (Peer, Received) {
    let (peer, received) = (Peer::new(VIEWER), Received::default());
    let Received { sound, pictures } = received.clone();
    peer.each("heard", move |sample| {
        let packet = sample.buffer().unwrap().map_readable().unwrap();
        sound.lock().unwrap().push(u32::from_be_bytes(packet[4..8].try_into().unwrap()));
    });
    peer.each("seen", move |sample| {
        let structure = sample.caps().unwrap().structure(0).unwrap();
        let (width, height): (i32, i32) = (structure.get("width").unwrap(), structure.get("height").unwrap());
        let frame = sample.buffer().unwrap().map_readable().unwrap();
        // Red has a Cr far above the middle; it is the last of the three planes, of half the size.
        let (across, down) = (width as usize / 2, height as usize / 2);
        let last_rows = &frame[frame.size() - across * (down / 10)..];
        let is_red = last_rows.iter().filter(|cr| **cr > 180).count() > last_rows.len() * 9 / 10;
        let mut pictures = pictures.lock().unwrap();
        if pictures.last() != Some(&(width, height, is_red)) {
            pictures.push((width, height, is_red));
        }
    });
    peer.receives(H264);
    peer.receives(OPUS);
    (peer, received)
}

#[tokio::test]
async fn another_avatar_takes_over_in_the_middle_of_a_sentence_for_all_who_watch() {
    let home = tall_avatar::home();
    let folder = home.path().to_str().unwrap();
    let served =
        Served::start_with(&["--home", folder, "--encoder", "x264enc"], tempfile::NamedTempFile::new().unwrap());
    let (mut viewer_client, mut other) = (served.client_of("room").await, served.client_of("room").await);
    let opened = viewer_client.until_type("session").await.pop().unwrap();
    assert_eq!((&opened["avatar"]["id"], &opened["avatar"]["gestures"]), (&json!("demo"), &json!([])));
    let (peer, received) = viewer();
    connect(&peer, &mut viewer_client).await;
    let pictures = received.pictures.clone();
    watchdog::until("the demo avatar is seen", async || !pictures.lock().unwrap().is_empty()).await;

    // Four seconds of a voice of its own, of which every frame is heard.
    viewer_client.send(json!({"type": "audio_start", "sample_rate": 16_000, "id": "mine"})).await;
    viewer_client.sends_sound(16_000 * 2).await;
    viewer_client.sends_sound(16_000 * 2).await;
    viewer_client.send(json!({"type": "audio_end"})).await;
    viewer_client.until_type("speech_started").await;
    other.send(json!({"type": "avatar", "id": "tall"})).await;
    let told = other.until_type("avatar").await.pop().unwrap();
    let expected = json!({
        "type": "avatar", "id": "tall", "name": "Tall", "width": 512, "height": 640, "fps": 25, "gestures": ["wave"]
    });
    assert_eq!(told, expected);
    let seen = viewer_client.until_type("speech_ended").await;
    assert!(seen.contains(&expected), "it was told while the sentence was heard: {seen:#?}");
    let ended = seen.last().unwrap();
    assert_eq!(
        (&ended["id"], &ended["interrupted"], &ended["spoken_ms"]),
        (&json!("mine"), &json!(false), &json!(4000))
    );
    watchdog::until("the other avatar is seen", async || pictures.lock().unwrap().last() == Some(&(512, 640, true)))
        .await;
    assert_eq!(*pictures.lock().unwrap(), [(512, 512, false), (512, 640, true)], "one and then the other");
    let sound = received.sound.lock().unwrap().clone();
    let gaps = sound.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) != 960).count();
    assert!(gaps == 0 && sound.len() > 200, "{gaps} gaps in {} packets of 20 ms", sound.len());

    refused_in_words(&mut other).await;
    over_http(&served).await;
}

/// What cannot be is told once, to whoever asked, and the avatar stays.
async fn refused_in_words(client: &mut crate::llm::Client) {
    for (message, code, words) in [
        (json!({"type": "avatar", "id": "nobody"}), "unknown_avatar", "GET /api/avatars"),
        (json!({"type": "avatar", "id": "../demo"}), "unknown_avatar", "../demo"),
        (json!({"type": "gesture", "name": "dance"}), "unknown_gesture", "it has: wave"),
    ] {
        client.send(message).await;
        let error = client.until_type("error").await.pop().unwrap();
        assert_eq!((&error["code"], &error["fatal"]), (&json!(code), &json!(false)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    client.send(json!({"type": "gesture", "name": "wave"})).await;
    // The one that is there takes over from itself at once.
    client.send(json!({"type": "avatar", "id": "tall"})).await;
    let told = client.until_type("avatar").await;
    assert!(told.iter().all(|message| message["type"] != "error"), "{told:#?}");
}

async fn over_http(served: &Served) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |method: reqwest::Method, path: &str, body: Value| -> (u16, Value) {
        let url = format!("http://{}/api/{path}", served.address);
        let request = client.request(method, url).header("content-type", "application/json").body(body.to_string());
        let reply = request.send().await.unwrap();
        (reply.status().as_u16(), serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
    };
    let (status, listed) = ask(reqwest::Method::GET, "avatars", json!({})).await;
    let tall = &listed["avatars"][1];
    assert_eq!((status, &tall["id"], &tall["usable"]), (200, &json!("tall"), &json!(true)), "{listed}");
    let post = async |path: &str, body: Value| ask(reqwest::Method::POST, path, body).await;
    post("sessions", json!({"session": "mine"})).await;
    let (status, swapped) = post("sessions/mine/avatar", json!({"id": "tall"})).await;
    assert_eq!((status, &swapped["id"], &swapped["gestures"]), (200, &json!("tall"), &json!(["wave"])));
    let (_, shown) = ask(reqwest::Method::GET, "sessions/mine", json!({})).await;
    assert_eq!((&shown["avatar"]["id"], &shown["websocket"]), (&json!("tall"), &json!("/ws?session=mine")));
    assert_eq!(post("sessions/mine/gesture", json!({"name": "wave"})).await.0, 202);
    for (path, body, code) in [
        ("sessions/mine/avatar", json!({"id": "nobody"}), "unknown_avatar"),
        ("sessions/mine/gesture", json!({"name": "dance"}), "unknown_gesture"),
    ] {
        let (status, problem) = post(path, body).await;
        assert_eq!((status, &problem["code"]), (422, &json!(code)), "{problem}");
    }
}
