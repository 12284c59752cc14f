//! A WebRTC peer that receives a session and throws it away: for a measurement, what a browser is to the server.
//!
//! In here: a webrtcbin that offers to receive, and counts of what came. Not in here: decoding, the socket over which
//! offer and answer travel.
//! Runs on: the caller's task for negotiation; counting on GStreamer's threads, in atomics. Dropping it joins those.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_sdp as gst_sdp;
use gstreamer_webrtc as gst_webrtc;

use super::MediaError;
use super::pipeline::{OwnedPipeline, Teardown};
use super::viewer::reports::{GATHERING_TIME, Inbox, reports};
use super::viewer::{negotiation_failed, only_udp, promise};
use crate::session::Refusal;

/// What is offered, as browsers do: both video codecs that a server may have, and Opus.
const VIDEO: &str = "application/x-rtp,media=video,encoding-name=H264,payload=108,clock-rate=90000,\
                     packetization-mode=(string)1,profile-level-id=(string)42e01f;\
                     application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000";
const AUDIO: &str = "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,\
                     encoding-params=(string)2";

/// A receiving peer.
#[derive(Debug)]
pub struct Receiver {
    webrtc: gst::Element,
    inbox: Inbox,
    counters: Arc<Counters>,
    /// Only to be dropped: it ends the pipeline.
    _pipeline: OwnedPipeline,
}

#[derive(Debug, Default)]
struct Counters {
    video_frames: AtomicU64,
    audio_packets: AtomicU64,
}

/// Totals since the peer connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Received {
    pub video_frames: u64,
    pub audio_packets: u64,
}

impl Receiver {
    pub fn new() -> Result<Self, MediaError> {
        let failed = |reason: String| MediaError::Start { file: "webrtcbin".to_owned(), reason };
        let webrtc = gst::ElementFactory::make("webrtcbin")
            .property_from_str("bundle-policy", "max-bundle")
            .property("latency", 0u32)
            .build()
            .map_err(|error| failed(format!("{error}: install gstreamer1.0-plugins-bad")))?;
        let pipeline = OwnedPipeline::new(gst::Pipeline::new(), Teardown::default());
        pipeline.gst().add(&webrtc).map_err(|error| failed(error.to_string()))?;
        only_udp(&webrtc.property("ice-agent"));
        for text in [VIDEO, AUDIO] {
            let caps: gst::Caps = text.parse().map_err(|error| failed(format!("{text}: {error}")))?;
            let direction = gst_webrtc::WebRTCRTPTransceiverDirection::Recvonly;
            let transceiver: gst_webrtc::WebRTCRTPTransceiver =
                webrtc.emit_by_name("add-transceiver", &[&direction, &caps]);
            // Browsers ask for it, and it costs the sender.
            transceiver.set_property("do-nack", text == VIDEO);
        }
        let counters = Arc::new(Counters::default());
        let counting = Arc::clone(&counters);
        webrtc.connect_pad_added(move |_, pad| count(pad, &counting));
        let (reports, inbox) = reports();
        reports.connect(&webrtc);
        pipeline.watch(move |report| reports.bus(report));
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        Ok(Self { webrtc, inbox, counters, _pipeline: pipeline })
    }

    /// Is reached on this machine alone.
    pub(super) fn only_here(&self) {
        let agent = self.webrtc.property::<gst::glib::Object>("ice-agent");
        agent.emit_by_name::<bool>("add-local-ip-address", &[&"127.0.0.1"]);
    }

    /// An offer that already holds our candidates.
    pub async fn offer(&mut self) -> Result<String, Refusal> {
        let reply = promise(|promise| {
            self.webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
        })
        .await?;
        let offer = reply
            .and_then(|reply| reply.get::<gst_webrtc::WebRTCSessionDescription>("offer").ok())
            .ok_or_else(|| negotiation_failed("webrtcbin made no offer"))?;
        promise(|promise| self.webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise])).await?;
        let mut text = offer.sdp().as_text().map_err(|error| negotiation_failed(error.to_string()))?;
        let (candidates, complete) = self.inbox.gather(GATHERING_TIME).await;
        // The first m-line speaks for the bundle, and attributes of a last line may follow its others.
        let mut lines: Vec<String> = candidates.into_iter().map(|line| format!("a={line}")).collect();
        lines.extend(complete.then(|| "a=end-of-candidates".to_owned()));
        let second = text.match_indices("\r\nm=").nth(1).map_or(text.len(), |(at, _)| at + 2);
        text.insert_str(second, &lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        Ok(text)
    }

    /// Takes the answer, with the server's candidates in it.
    pub async fn accept(&self, answer: &str) -> Result<(), Refusal> {
        let answer = gst_sdp::SDPMessage::parse_buffer(answer.as_bytes())
            .map_err(|error| negotiation_failed(format!("the answer is no SDP: {error}")))?;
        let answer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Answer, answer);
        promise(|promise| self.webrtc.emit_by_name::<()>("set-remote-description", &[&answer, &promise])).await?;
        Ok(())
    }

    /// Waits until the connection is over, and says why.
    pub async fn ended(&mut self) -> String {
        self.inbox.ended().await
    }

    pub fn received(&self) -> Received {
        Received {
            video_frames: self.counters.video_frames.load(Ordering::Relaxed),
            audio_packets: self.counters.audio_packets.load(Ordering::Relaxed),
        }
    }
}

/// Counts what a pad carries and drops it there, so that no sink is needed.
fn count(pad: &gst::Pad, counters: &Arc<Counters>) {
    let caps = pad.current_caps();
    let media = caps.as_ref().and_then(|caps| caps.structure(0)).and_then(|caps| caps.get::<&str>("media").ok());
    let is_video = media == Some("video");
    let counters = Arc::clone(counters);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if !is_video {
            counters.audio_packets.fetch_add(1, Ordering::Relaxed);
        } else if info.buffer().is_some_and(|packet| ends_a_frame(packet)) {
            counters.video_frames.fetch_add(1, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Drop
    });
}

/// The marker bit of RTP's second byte (RFC 3550): set on the last packet of a frame.
fn ends_a_frame(packet: &gst::BufferRef) -> bool {
    let mut head = [0; 2];
    packet.copy_to_slice(0, &mut head).is_ok() && head[1] & 0x80 != 0
}
