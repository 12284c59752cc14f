//! A WebRTC peer: what a browser is to the server, with a pipeline that the test writes.
//!
//! Not in here: how its offer reaches the server, by WebSocket (`tests/it/peer.rs`) or by a call (`media`'s unit tests).

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_sdp as gst_sdp;
use gstreamer_webrtc as gst_webrtc;
use tokio::sync::oneshot;

/// H.264 as browsers offer it first.
pub const H264: &str = "application/x-rtp,media=video,encoding-name=H264,payload=108,clock-rate=90000,\
    packetization-mode=(string)1,profile-level-id=(string)42e01f";
/// VP8 in place of it.
pub const VP8: &str = "application/x-rtp,media=video,encoding-name=VP8,payload=108,clock-rate=90000";
/// Opus, in stereo as all offer it.
pub const OPUS: &str =
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,encoding-params=(string)2";

/// Ends with the test.
pub struct Peer {
    pipeline: gst::Pipeline,
    webrtc: gst::Element,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl Peer {
    /// The description holds a webrtcbin `webrtc`.
    pub fn new(description: &str) -> Self {
        mouthpiece::media::init().unwrap();
        let launched = gst::parse::launch(description).unwrap();
        // A single element comes without a pipeline.
        let pipeline = launched.downcast::<gst::Pipeline>().unwrap_or_else(|element| {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element).unwrap();
            pipeline
        });
        let webrtc = pipeline.by_name("webrtc").unwrap();
        Self { pipeline, webrtc }
    }

    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    pub fn webrtc(&self) -> &gst::Element {
        &self.webrtc
    }

    /// Offers to receive what nothing is sent for.
    pub fn receives(&self, caps: &str) {
        let caps: gst::Caps = caps.parse().unwrap();
        let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
        self.webrtc.emit_by_name::<gst_webrtc::WebRTCRTPTransceiver>("add-transceiver", &[&direction, &caps]);
    }

    /// The same, and asks for lost packets again.
    pub fn receives_again(&self, caps: &str) {
        let caps: gst::Caps = caps.parse().unwrap();
        let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
        let transceiver: gst_webrtc::WebRTCRTPTransceiver =
            self.webrtc.emit_by_name("add-transceiver", &[&direction, &caps]);
        transceiver.set_property("do-nack", true);
    }

    pub fn source(&self, name: &str) -> gst_app::AppSrc {
        self.pipeline.by_name(name).unwrap().downcast().unwrap()
    }

    /// Gives each sample that comes to the appsink to `takes`, on GStreamer's thread.
    pub fn each(&self, appsink: &str, takes: impl FnMut(gst::Sample) + Send + 'static) {
        each_of(self.pipeline.upcast_ref(), appsink, takes);
    }

    /// Gives each pad that webrtcbin receives to `takes`, on GStreamer's thread.
    pub fn each_pad(&self, takes: impl Fn(&gst::Pipeline, &gst::Pad) + Send + Sync + 'static) {
        let weak = self.pipeline.downgrade();
        self.webrtc.connect_pad_added(move |_, pad| {
            if let Some(pipeline) = weak.upgrade() {
                takes(&pipeline, pad);
            }
        });
    }

    pub fn play(&self) {
        self.pipeline.set_state(gst::State::Playing).unwrap();
    }

    /// Its offer, which is its local description by then.
    pub async fn offer(&self) -> String {
        let reply = self.ask("create-offer", |promise| {
            self.webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
        });
        let offer = reply.await.unwrap().get::<gst_webrtc::WebRTCSessionDescription>("offer").unwrap();
        self.ask("set-local-description", |promise| {
            self.webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise]);
        })
        .await;
        offer.sdp().as_text().unwrap()
    }

    pub async fn take_answer(&self, sdp: &str) {
        let answer = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).unwrap();
        let answer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Answer, answer);
        self.ask("set-remote-description", |promise| {
            self.webrtc.emit_by_name::<()>("set-remote-description", &[&answer, &promise]);
        })
        .await;
    }

    /// Its answer to an offer, which is its local description by then.
    pub async fn answer(&self, offer: &str) -> String {
        let offer = gst_sdp::SDPMessage::parse_buffer(offer.as_bytes()).unwrap();
        let offer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Offer, offer);
        self.ask("set-remote-description", |promise| {
            self.webrtc.emit_by_name::<()>("set-remote-description", &[&offer, &promise]);
        })
        .await;
        let reply = self.ask("create-answer", |promise| {
            self.webrtc.emit_by_name::<()>("create-answer", &[&None::<gst::Structure>, &promise]);
        });
        let answer = reply.await.unwrap().get::<gst_webrtc::WebRTCSessionDescription>("answer").unwrap();
        self.ask("set-local-description", |promise| {
            self.webrtc.emit_by_name::<()>("set-local-description", &[&answer, &promise]);
        })
        .await;
        answer.sdp().as_text().unwrap()
    }

    async fn ask(&self, what: &str, action: impl FnOnce(gst::Promise)) -> Option<gst::Structure> {
        let (sender, reply) = oneshot::channel();
        action(gst::Promise::with_change_func(move |reply| {
            let _ = sender.send(reply.unwrap().map(gst::StructureRef::to_owned));
        }));
        let reply = reply.await.unwrap();
        let error = reply.as_ref().and_then(|reply| reply.get::<gst::glib::Error>("error").ok());
        assert!(error.is_none(), "{what}: {error:?}");
        reply
    }
}

/// Gives each sample that comes to an appsink of a bin to `takes`, on GStreamer's thread.
pub fn each_of(bin: &gst::Bin, appsink: &str, mut takes: impl FnMut(gst::Sample) + Send + 'static) {
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        takes(sink.pull_sample().map_err(|_| gst::FlowError::Eos)?);
        Ok(gst::FlowSuccess::Ok)
    });
    bin.by_name(appsink).unwrap().downcast::<gst_app::AppSink>().unwrap().set_callbacks(callbacks.build());
}
