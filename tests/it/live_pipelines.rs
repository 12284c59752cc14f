//! Descriptions of pipelines edited while the server runs and somebody watches.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gstreamer as gst;
use gstreamer::prelude::*;
use serde_json::{Value, json};

use crate::kit::peer::{H264, OPUS, Peer};
use crate::llm::Served;
use crate::peer::connect;
use crate::watchdog;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const FILE: &str = "publish-x264enc.launch";

/// Looks at packets as they come, and decodes pictures.
const VIEWER: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=0 \
    identity name=audio ! fakesink sync=false async=false \
    rtph264depay name=video ! h264parse ! video/x-h264,alignment=au ! appsink name=encoded sync=false async=false";

/// The project's avatars, and pipelines of its own.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(Path::new(PROJECT).join("models"), home.path().join("models")).unwrap();
    let pipelines = home.path().join("pipelines");
    std::fs::create_dir(&pipelines).unwrap();
    for entry in std::fs::read_dir(Path::new(PROJECT).join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, pipelines.join(path.file_name().unwrap())).unwrap();
    }
    home
}

/// Edits the file as editors do: another one takes its name.
fn edit(home: &Path, from: &str, to: &str) {
    let path = home.join("pipelines").join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    let beside = path.with_extension("new");
    std::fs::write(&beside, text.replace(from, to)).unwrap();
    std::fs::rename(&beside, &path).unwrap();
}

/// What a viewer has received.
#[derive(Clone, Default)]
struct Received {
    /// Sequence number and RTP timestamp of each packet.
    video: Arc<Mutex<Vec<(u16, u32)>>>,
    audio: Arc<Mutex<Vec<(u16, u32)>>>,
    /// Whether each picture is a key frame.
    pictures: Arc<Mutex<Vec<bool>>>,
}

impl Received {
    fn by(peer: &Peer) -> Self {
        let received = Self::default();
        for (name, packets) in [("video", &received.video), ("audio", &received.audio)] {
            let pad = peer.pipeline().by_name(name).unwrap().static_pad("sink").unwrap();
            let packets = Arc::clone(packets);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let packet = info.buffer().unwrap().map_readable().unwrap();
                let number = u16::from_be_bytes(packet[2..4].try_into().unwrap());
                packets.lock().unwrap().push((number, u32::from_be_bytes(packet[4..8].try_into().unwrap())));
                gst::PadProbeReturn::Ok
            });
        }
        let pictures = Arc::clone(&received.pictures);
        peer.each("encoded", move |sample| {
            let is_key = !sample.buffer().unwrap().flags().contains(gst::BufferFlags::DELTA_UNIT);
            pictures.lock().unwrap().push(is_key);
        });
        received
    }

    async fn pictures(&self, more: usize) -> Vec<bool> {
        let from = self.pictures.lock().unwrap().len();
        watchdog::until("pictures", async || self.pictures.lock().unwrap().len() >= from + more).await;
        self.pictures.lock().unwrap()[from..].to_vec()
    }

    /// No packet is missing, no sound is, and no picture beyond those that the session leaves out since nothing moves.
    fn assert_whole(&self) {
        let [video, audio] = [&self.video, &self.audio].map(|packets| packets.lock().unwrap().clone());
        for (media, packets) in [("video", &video), ("audio", &audio)] {
            let gaps = packets.windows(2).filter(|two| two[1].0.wrapping_sub(two[0].0) != 1).count();
            assert!(packets.len() > 50 && gaps == 0, "{media}: {gaps} gaps in {} packets", packets.len());
        }
        let steps = |packets: &[(u16, u32)]| -> Vec<u32> {
            packets.windows(2).map(|two| two[1].1.wrapping_sub(two[0].1)).filter(|step| *step != 0).collect()
        };
        assert!(steps(&audio).iter().all(|step| *step == 960), "{:?}", steps(&audio));
        // Four frames of 3600 at most where a picture stands; a fifth is the one that may be missing.
        let pictures = steps(&video);
        assert!(pictures.iter().all(|step| *step % 3600 == 0 && *step <= 5 * 3600), "{pictures:?}");
    }
}

async fn ask(served: &Served, method: reqwest::Method, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let reply = client.request(method, format!("http://{}{path}", served.address)).send().await.unwrap();
    (reply.status().as_u16(), reply.text().await.unwrap())
}

async fn standing(served: &Served) -> Value {
    let (status, body) = ask(served, reqwest::Method::GET, "/api/pipelines").await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["watched"], json!(true));
    body["files"].as_array().unwrap().iter().find(|file| file["file"] == FILE).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_pipeline_is_used_under_a_viewer_and_a_bad_one_leaves_the_one_before() {
    let home = home();
    let folder = home.path().to_str().unwrap();
    let served =
        Served::start_with(&["--home", folder, "--encoder", "x264enc"], tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    let peer = Peer::new(VIEWER);
    let received = Received::by(&peer);
    peer.receives(H264);
    peer.receives(OPUS);
    connect(&peer, &mut client).await;
    received.pictures(10).await;
    assert_eq!(standing(&served).await, json!({"file": FILE, "state": "ok", "in_use": true, "changes": 0}));

    // Nobody asks: it is noticed. Every fourth picture is a key frame from then on.
    edit(home.path(), "key-int-max=500", "key-int-max=4");
    watchdog::until("the change is used", async || standing(&served).await["changes"] == 1).await;
    let keys = received.pictures(24).await.iter().filter(|is_key| **is_key).count();
    assert!(keys >= 5, "{keys} key frames of 24");
    received.assert_whole();

    // Somebody asks; the watch may have been faster, or at it.
    edit(home.path(), "bitrate={bitrate_kbps}", "bit-rate={bitrate_kbps}");
    let (status, body) = ask(&served, reqwest::Method::POST, "/api/pipelines/reload").await;
    assert!(status == 200 || status == 429, "{body}");
    watchdog::until("it is refused", async || standing(&served).await["state"] == "refused").await;
    let told = standing(&served).await;
    assert_eq!((&told["in_use"], &told["changes"]), (&json!(true), &json!(1)), "{told}");
    assert_eq!((&told["fault"]["line"], &told["fault"]["column"]), (&json!(10), &json!(7)), "{told}");
    assert!(told["fault"]["message"].as_str().unwrap().contains("no property \"bit-rate\""), "{told}");
    assert!(served.log().contains("line 10, column 7"), "the log tells it too");
    let keys = received.pictures(12).await.iter().filter(|is_key| **is_key).count();
    assert!(keys >= 2, "the one before goes on: {keys} key frames of 12");
    received.assert_whole();
    let (_, metrics) = ask(&served, reqwest::Method::GET, "/metrics").await;
    assert!(metrics.contains("mouthpiece_pipeline_changes_total{outcome=\"used\"} 1"), "{metrics}");
    assert!(metrics.contains("mouthpiece_pipeline_changes_total{outcome=\"refused\"} 1"), "{metrics}");
}
