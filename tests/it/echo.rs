//! An open microphone that hears the avatar: a peer that sends back what it receives, later and lower, over the whole way
//! through both codecs and jitter buffers. The avatar must not take it for somebody.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use serde_json::json;

use crate::kit::peer::{H264, Peer};
use crate::llm::{Served, Service};
use crate::peer::connect;

/// -12 dB, and a quarter of a second later than a jitter buffer gives it that hardly ever has to make sound up, which nobody
/// would know again.
///
/// In two parts, which a callback joins: GStreamer does not take a pipeline whose elements go round in a circle.
const BACK: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=400 \
    rtpopusdepay name=audio ! opusdec plc=true ! audioconvert ! audioresample \
    ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! appsink name=heard sync=false async=false \
    appsrc name=said is-live=true format=time caps=audio/x-raw,format=S16LE,rate=48000,channels=1,\
      layout=interleaved \
    ! queue min-threshold-time=250000000 max-size-time=2000000000 max-size-buffers=0 max-size-bytes=0 ! volume volume=0.25 \
    ! audioconvert ! audioresample ! opusenc bitrate=32000 ! rtpopuspay pt=111 \
    ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2 ! webrtc. \
    rtph264depay name=video ! fakesink async=false";
/// What the log says of the ear.
fn hearing(served: &Served) -> String {
    let log = served.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("mouthpiece::hearing")).collect();
    lines.join("\n")
}

fn began(served: &Served) -> bool {
    hearing(served).contains("Began")
}

/// Has the avatar speak for so long, and tells what came of it.
async fn speaks_into_its_own_ear(time: Duration) {
    let recogniser = Service::start("asr_server.py", &["0", "Stop."]);
    let url = format!("http://127.0.0.1:{}/v1", recogniser.port);
    let arguments = ["--asr-url", &url, "--asr-model", "whisper"];
    let served = Served::start_with(&arguments, tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    let peer = Peer::new(BACK);
    peer.receives(H264);
    let said = peer.source("said");
    let mut next = None;
    peer.each("heard", move |sample| {
        let mut buffer = sample.buffer_owned().unwrap();
        // Dated anew on its way back: one sample after the other, however late they come where the machine stood still.
        let length = gst::ClockTime::from_nseconds(buffer.size() as u64 / 2 * 1_000_000 / 48);
        let at = next.or_else(|| said.current_running_time()).unwrap_or_default();
        next = Some(at + length);
        buffer.make_mut().set_pts(at);
        // Refused once the test has ended.
        let _ = said.push_buffer(buffer);
    });
    connect(&peer, &mut client).await;
    let sentences: Vec<&str> =
        include_str!("../../scripts/corpus_sentences.txt").lines().filter(|line| !line.is_empty()).collect();
    let mut spoken = Duration::ZERO;
    for chapter in sentences.chunks(8).cycle() {
        client.send(json!({"type": "speak", "content": chapter.join(" ")})).await;
        let seen = client.until_type("speech_ended").await;
        let told: Vec<_> = seen.iter().filter(|message| message["type"] == "transcript").collect();
        let ended = seen.last().unwrap();
        let is_undisturbed = told.is_empty() && ended["interrupted"] == false && !began(&served);
        assert!(is_undisturbed, "after {spoken:?} the avatar heard itself: {told:?}\n{}", hearing(&served));
        spoken += Duration::from_millis(ended["spoken_ms"].as_u64().unwrap());
        if spoken >= time {
            break;
        }
    }
    assert!(served.log().contains("the viewer's microphone is heard"), "nothing came back");
    assert!(served.log().contains("the avatar's voice comes back"), "the echo was not found");
    assert_eq!(recogniser.requests().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_microphone_that_hears_the_avatar_interrupts_nothing() {
    speaks_into_its_own_ear(Duration::from_secs(15)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes ten minutes"]
async fn ten_minutes_into_an_open_microphone_interrupt_nothing() {
    speaks_into_its_own_ear(Duration::from_secs(600)).await;
}
