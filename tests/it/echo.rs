//! An open microphone that hears the avatar: a peer that sends back what it receives, later and lower, over the whole way
//! through both codecs and jitter buffers. The avatar must not take it for somebody.

use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_sdp as gst_sdp;
use gstreamer_webrtc as gst_webrtc;
use serde_json::json;
use tokio::sync::oneshot;

use crate::llm::{Client, Served, Service};

/// -12 dB, a quarter of a second later.
///
/// In two parts, which a callback joins: GStreamer does not take a pipeline whose elements go round in a circle.
const BACK: &str = "webrtcbin name=webrtc bundle-policy=max-bundle latency=40 \
    rtpopusdepay name=avatar ! opusdec plc=true ! audioconvert ! audioresample \
    ! audio/x-raw,format=S16LE,rate=48000,channels=1 ! appsink name=heard sync=false async=false \
    appsrc name=said is-live=true do-timestamp=true format=time caps=audio/x-raw,format=S16LE,rate=48000,channels=1,\
      layout=interleaved \
    ! queue min-threshold-time=250000000 max-size-time=2000000000 max-size-buffers=0 max-size-bytes=0 ! volume volume=0.25 \
    ! audioconvert ! audioresample ! opusenc bitrate=32000 ! rtpopuspay pt=111 \
    ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2 ! webrtc.";
const VIDEO: &str = "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000;\
    application/x-rtp,media=video,encoding-name=H264,payload=108,clock-rate=90000,packetization-mode=(string)1,\
    profile-level-id=(string)42e01f";

/// Only ends a test that would fail anyway.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the test.
struct Peer(gst::Pipeline);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

async fn promise(webrtc: &gst::Element, action: impl FnOnce(&gst::Element, gst::Promise)) -> Option<gst::Structure> {
    let (sender, reply) = oneshot::channel();
    let promise = gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.unwrap().map(gst::StructureRef::to_owned));
    });
    action(webrtc, promise);
    tokio::time::timeout(PATIENCE, reply).await.unwrap().unwrap()
}

impl Peer {
    async fn connect(client: &mut Client) -> Self {
        mouthpiece::media::init().unwrap();
        let pipeline = gst::parse::launch(BACK).unwrap().downcast::<gst::Pipeline>().unwrap();
        let webrtc = pipeline.by_name("webrtc").unwrap();
        let caps: gst::Caps = VIDEO.parse().unwrap();
        let receives = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
        webrtc.emit_by_name::<gst_webrtc::WebRTCRTPTransceiver>("add-transceiver", &[&receives, &caps]);
        let said = pipeline.by_name("said").unwrap().downcast::<gst_app::AppSrc>().unwrap();
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |heard| {
            let sample = heard.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let mut buffer = sample.buffer_owned().unwrap();
            // Dated anew on its way back.
            buffer.make_mut().set_pts(gst::ClockTime::NONE);
            said.push_buffer(buffer)
        });
        let heard = pipeline.by_name("heard").unwrap().downcast::<gst_app::AppSink>().unwrap();
        heard.set_callbacks(callbacks.build());
        let weak = pipeline.downgrade();
        webrtc.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap();
            let sink = if caps.structure(0).unwrap().get::<&str>("media") == Ok("audio") {
                pipeline.by_name("avatar").unwrap()
            } else {
                let nowhere = gst::ElementFactory::make("fakesink").property("async", false).build().unwrap();
                pipeline.add(&nowhere).unwrap();
                nowhere.sync_state_with_parent().unwrap();
                nowhere
            };
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        let peer = Self(pipeline);
        peer.0.set_state(gst::State::Playing).unwrap();
        let made = promise(&webrtc, |webrtc, promise| {
            webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
        });
        let offer = made.await.unwrap().get::<gst_webrtc::WebRTCSessionDescription>("offer").unwrap();
        promise(&webrtc, |webrtc, promise| {
            webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise]);
        })
        .await;
        client.send(json!({"type": "webrtc_offer", "sdp": offer.sdp().as_text().unwrap()})).await;
        // The server's candidates are in its answer, and it finds us by where our checks come from.
        let answered = client.until_type("webrtc_answer").await;
        let sdp = answered.last().unwrap()["sdp"].as_str().unwrap().to_owned();
        let answer = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).unwrap();
        let answer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Answer, answer);
        promise(&webrtc, |webrtc, promise| {
            webrtc.emit_by_name::<()>("set-remote-description", &[&answer, &promise]);
        })
        .await;
        peer
    }
}

/// Has the avatar speak for so long, and tells what came of it.
async fn speaks_into_its_own_ear(time: Duration) {
    let recogniser = Service::start("asr_server.py", &["0", "Stop."]);
    let url = format!("http://127.0.0.1:{}/v1", recogniser.port);
    let arguments = ["--asr-url", &url, "--asr-model", "whisper"];
    let served = Served::start_with(&arguments, tempfile::NamedTempFile::new().unwrap());
    let mut client = served.client().await;
    let _peer = Peer::connect(&mut client).await;
    let sentences: Vec<&str> =
        include_str!("../../scripts/corpus_sentences.txt").lines().filter(|line| !line.is_empty()).collect();
    let mut spoken = Duration::ZERO;
    for chapter in sentences.chunks(8).cycle() {
        client.send(json!({"type": "speak", "content": chapter.join(" ")})).await;
        let seen = client.until_type("speech_ended").await;
        let told: Vec<_> = seen.iter().filter(|message| message["type"] == "transcript").collect();
        assert!(told.is_empty(), "after {spoken:?} the avatar heard itself: {told:?}");
        let ended = seen.last().unwrap();
        assert_eq!(ended["interrupted"], false, "after {spoken:?}");
        spoken += Duration::from_millis(ended["spoken_ms"].as_u64().unwrap());
        if spoken >= time {
            break;
        }
    }
    assert!(served.log().contains("the viewer's microphone is heard"), "nothing came back");
    assert!(served.log().contains("the avatar's voice comes back"), "the echo was not found");
    assert_eq!(recogniser.requests().await.len(), 0);
    assert!(!served.log().contains("change=Began"), "{}", served.log());
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
