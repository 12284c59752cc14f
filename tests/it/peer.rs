//! A WebRTC peer of a test's own making: what a browser is to the server, with a pipeline that the test writes.

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_sdp as gst_sdp;
use gstreamer_webrtc as gst_webrtc;
use serde_json::json;
use tokio::sync::oneshot;

use crate::llm::Client;
use crate::watchdog;

pub(crate) const H264: &str = "application/x-rtp,media=video,encoding-name=H264,payload=108,clock-rate=90000,\
    packetization-mode=(string)1,profile-level-id=(string)42e01f";
pub(crate) const OPUS: &str =
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2";

/// Ends with the test.
pub(crate) struct Peer(gst::Pipeline);

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
    watchdog::comes("webrtcbin replies", reply).await.unwrap()
}

impl Peer {
    /// The description holds a webrtcbin `webrtc`, and depayloaders for what it receives, `audio` and `video`.
    pub(crate) fn new(description: &str) -> Self {
        mouthpiece::media::init().unwrap();
        Self(gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap())
    }

    fn webrtc(&self) -> gst::Element {
        self.0.by_name("webrtc").unwrap()
    }

    /// Offers to receive what nothing is sent for.
    pub(crate) fn receives(&self, caps: &str) {
        let caps: gst::Caps = caps.parse().unwrap();
        let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
        self.webrtc().emit_by_name::<gst_webrtc::WebRTCRTPTransceiver>("add-transceiver", &[&direction, &caps]);
    }

    pub(crate) fn source(&self, name: &str) -> gst_app::AppSrc {
        self.0.by_name(name).unwrap().downcast().unwrap()
    }

    /// Gives each sample that comes to the appsink to `takes`, on GStreamer's thread.
    pub(crate) fn each(&self, appsink: &str, mut takes: impl FnMut(gst::Sample) + Send + 'static) {
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            takes(sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
            Ok(gst::FlowSuccess::Ok)
        });
        self.0.by_name(appsink).unwrap().downcast::<gst_app::AppSink>().unwrap().set_callbacks(callbacks.build());
    }

    pub(crate) async fn connect(&self, client: &mut Client) {
        let webrtc = self.webrtc();
        let weak = self.0.downgrade();
        webrtc.connect_pad_added(move |_, pad| {
            let Some(pipeline) = weak.upgrade() else { return };
            let caps = pad.current_caps().unwrap();
            let media: String = caps.structure(0).unwrap().get("media").unwrap();
            let sink = pipeline.by_name(&media).unwrap().static_pad("sink").unwrap();
            pad.link(&sink).unwrap();
        });
        self.0.set_state(gst::State::Playing).unwrap();
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
    }
}
