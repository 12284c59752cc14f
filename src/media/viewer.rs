//! One WebRTC peer: its own small pipeline from the session's encoded stream to webrtcbin.
//!
//! In here: offer to answer, candidates both ways, joining and leaving the stream. Not in here: whether an offer may be
//! served (`offer`), the encodes (`broadcast`, `publisher`), the socket (`signalling`).
//! Runs on: tokio for negotiation, with building and tearing down on threads that may block. webrtcbin's callbacks hold
//! senders only. A pipeline of its own means that a viewer's error, stall or end touches nobody else.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_sdp as gst_sdp;
use gstreamer_utils::{ConsumptionLink, StreamProducer};
use gstreamer_webrtc as gst_webrtc;
use tokio::sync::{mpsc, oneshot};

use super::description::{names, viewer_values};
use super::offer::{self, Plan};
use super::pipeline::OwnedPipeline;
use super::publisher::{Publisher, app_source};
use super::{Broadcast, MediaError, microphone};
use crate::hearing::Sound;
use crate::ids::ViewerId;
use crate::signalling::{ErrorCode, IceCandidate, OpenPeerError, Peer, PeerEvent};

pub(super) mod reports;

use reports::{Inbox, Reports, reports};

/// webrtcbin answers a promise in milliseconds, or in a second while it makes the process's first certificate.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(5);
/// Encoded frames and Opus packets, 320 ms of each, that may wait in front of a viewer that does not send: then it drops
/// to the next key frame, alone. Counted in buffers, which appsrc 1.22 keeps to exactly; with `max-time` it holds more.
const WAITING_FRAMES: u64 = 8;
const WAITING_PACKETS: u64 = 16;
/// RFC 8839 candidates are a line; more is no candidate.
const MAX_CANDIDATE_BYTES: usize = 512;

/// How viewers find a network path to us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IceConfig {
    /// `stun://host:port`
    pub stun: Option<String>,
    /// `turn://user:password@host:port`, also `turns:`
    pub turn: Option<String>,
    /// Gather on these addresses only; empty means all but loopback.
    pub local_addresses: Vec<IpAddr>,
}

/// A viewer that has its answer. Dropping it closes the peer; its pipeline is freed on a thread of its own.
#[derive(Debug)]
pub struct Viewer {
    id: ViewerId,
    answer: String,
    mids: Vec<Option<String>>,
    connection: Arc<Connection>,
    pump: tokio::task::JoinHandle<()>,
}

/// Totals of one viewer and what its RTCP reports say.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ViewerStats {
    /// Encoded frames and packets given to the viewer's pipeline.
    pub pushed: u64,
    /// Those it lost because it did not take them in time, or before its first key frame.
    pub dropped: u64,
    pub packets_lost: i64,
    pub round_trip_ms: Option<f64>,
}

impl Broadcast {
    /// Answers an offer, with the first of our codecs that it has. Nothing reaches webrtcbin unless the offer can be
    /// served. `microphone` gets what the viewer says, if it has one; what finds it full is lost.
    pub async fn open_viewer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
        ice: &IceConfig,
        microphone: Option<mpsc::Sender<Sound>>,
    ) -> Result<Viewer, OpenPeerError> {
        Viewer::open(self.clone(), offer, events, ice.clone(), microphone).await
    }
}

impl Viewer {
    async fn open(
        broadcast: Broadcast,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
        ice: IceConfig,
        microphone: Option<mpsc::Sender<Sound>>,
    ) -> Result<Self, OpenPeerError> {
        let id = ViewerId::next();
        let plan = offer::plan(&offer, broadcast.codecs())?;
        let build_plan = plan.clone();
        // Building loads elements and starts threads, and the first viewer of a codec its encode.
        let span = tracing::Span::current();
        let built = tokio::task::spawn_blocking(move || -> Result<(Connection, Inbox), MediaError> {
            let _entered = span.enter();
            let publisher = broadcast.publisher(build_plan.codec)?;
            let (reports, inbox) = reports();
            Ok((Connection::build(publisher, &build_plan, &ice, reports, microphone)?, inbox))
        });
        let (connection, mut inbox) =
            built.await.map_err(|error| negotiation_failed(error.to_string()))?.map_err(|error| {
                // It names files of this machine, which are no business of a client's.
                tracing::error!(%error, "no pipeline for a viewer");
                negotiation_failed("the server cannot build the connection; its log says why")
            })?;
        let connection = Arc::new(connection);
        let mut answer = connection.negotiate(&offer).await?;
        inbox.gather(&mut answer).await;
        tracing::debug!(viewer = %id, ?plan, "viewer answered");
        let encode_failure = connection.publisher.failure.clone();
        let pump = tokio::spawn(inbox.run(id, Arc::downgrade(&connection), encode_failure, events));
        Ok(Self { id, answer, mids: plan.mids, connection, pump })
    }

    /// Reads the RTCP reports; `None` once the peer is gone.
    pub async fn stats(&self) -> Option<ViewerStats> {
        let mut stats = self.connection.counters();
        let reply = promise(|promise| {
            self.connection.webrtc.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
        })
        .await
        .ok()??;
        for (_, value) in reply.iter() {
            let Ok(report) = value.get::<gst::Structure>() else { continue };
            if report.get::<gst_webrtc::WebRTCStatsType>("type") != Ok(gst_webrtc::WebRTCStatsType::RemoteInboundRtp) {
                continue;
            }
            stats.packets_lost += report.get::<i32>("packets-lost").map_or(0, i64::from);
            if let Ok(seconds) = report.get::<f64>("round-trip-time") {
                stats.round_trip_ms = Some(stats.round_trip_ms.unwrap_or(0.0).max(seconds * 1000.0));
            }
        }
        Some(stats)
    }

    #[cfg(test)]
    pub(super) fn pipeline(&self) -> &gst::Pipeline {
        self.connection._pipeline.gst()
    }
}

impl Peer for Viewer {
    fn id(&self) -> ViewerId {
        self.id
    }

    fn answer(&self) -> &str {
        &self.answer
    }

    fn add_candidate(&self, candidate: &IceCandidate) {
        let by_mid = || self.mids.iter().position(|mid| mid.is_some() && *mid == candidate.sdp_mid);
        let m_line = match candidate.sdp_m_line_index {
            Some(index) => Some(index).filter(|index| (*index as usize) < self.mids.len()),
            None => by_mid().and_then(|index| u32::try_from(index).ok()),
        };
        // Empty means that no more will come, which webrtcbin need not know.
        let Some(m_line) = m_line.filter(|_| is_candidate(&candidate.candidate)) else { return };
        self.connection.webrtc.emit_by_name::<()>("add-ice-candidate", &[&m_line, &candidate.candidate]);
    }

    /// What the microphone hears goes out as it comes; whoever listens to it has the button.
    fn push_to_talk(&self, is_pressed: bool) {
        tracing::debug!(viewer = %self.id, is_pressed, "a button to talk without anybody who listens");
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.pump.abort();
        self.connection.leave();
    }
}

/// One line that libnice can be given: printable, a candidate, with an address instead of a name to look up.
///
/// Not even the `.local` names behind which browsers hide their addresses: each look-up that finds nothing keeps
/// webrtcbin's ICE thread and its descriptors for ever (GStreamer 1.22). The browser's own checks reach our addresses,
/// and the pair forms from where they come.
fn is_candidate(text: &str) -> bool {
    let is_sane = text.len() <= MAX_CANDIDATE_BYTES && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let address = text.split(' ').nth(4).unwrap_or_default();
    is_sane && text.starts_with("candidate:") && address.parse::<IpAddr>().is_ok()
}

pub(super) fn negotiation_failed(message: impl Into<String>) -> OpenPeerError {
    OpenPeerError { code: ErrorCode::NegotiationFailed, message: message.into() }
}

/// The pipeline of a viewer and its ties to the publisher.
#[derive(Debug)]
struct Connection {
    /// Present while the viewer takes part in the stream.
    links: Mutex<Option<Links>>,
    webrtc: gst::Element,
    video: gstreamer_app::AppSrc,
    audio: gstreamer_app::AppSrc,
    /// Only to be dropped: it ends the pipeline.
    _pipeline: OwnedPipeline,
    publisher: Arc<Publisher>,
}

#[derive(Debug)]
struct Links {
    video: ConsumptionLink,
    audio: ConsumptionLink,
}

impl Connection {
    /// Blocks for some milliseconds.
    fn build(
        publisher: Arc<Publisher>,
        plan: &Plan,
        ice: &IceConfig,
        reports: Reports,
        heard: Option<mpsc::Sender<Sound>>,
    ) -> Result<Self, MediaError> {
        let (video_ssrc, audio_ssrc) = (rand::random::<u32>() | 1, rand::random::<u32>() & !1);
        let values = viewer_values(plan.video.payload_type, video_ssrc, plan.audio.payload_type, audio_ssrc);
        let built = publisher.viewer.build(&values)?;
        let pipeline = OwnedPipeline::new(built, publisher.teardown.clone());
        let failed = |reason: String| MediaError::Start { file: publisher.viewer.file().to_owned(), reason };
        let webrtc = pipeline.gst().by_name(names::WEBRTC).ok_or_else(|| failed("no webrtcbin".to_owned()))?;
        let (video, audio) = (app_source(&pipeline, names::VIDEO)?, app_source(&pipeline, names::AUDIO)?);
        for source in [&video, &audio] {
            // Live and leaky before it starts; joining does the same again.
            StreamProducer::configure_consumer(source);
        }
        if let Some(stun) = &ice.stun {
            webrtc.set_property("stun-server", stun);
        }
        if let Some(turn) = &ice.turn
            && !webrtc.emit_by_name::<bool>("add-turn-server", &[turn])
        {
            return Err(failed("webrtcbin does not accept the TURN server's address".to_owned()));
        }
        let agent = webrtc.property::<gst::glib::Object>("ice-agent");
        without_upnp(&agent);
        for address in &ice.local_addresses {
            agent.emit_by_name::<bool>("add-local-ip-address", &[&address.to_string()]);
        }
        retransmit_video(&webrtc);
        reports.connect(&webrtc);
        microphone::connect(pipeline.gst(), &webrtc, heard);
        pipeline.watch(move |report| reports.bus(report));
        publisher.time.set(pipeline.gst());
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        publisher.viewers.fetch_add(1, Ordering::Relaxed);
        Ok(Self { links: Mutex::new(None), webrtc, video, audio, _pipeline: pipeline, publisher })
    }

    async fn negotiate(&self, offer: &str) -> Result<String, OpenPeerError> {
        let offer = gst_sdp::SDPMessage::parse_buffer(offer.as_bytes())
            .map_err(|error| OpenPeerError { code: ErrorCode::BadSdp, message: error.to_string() })?;
        let offer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Offer, offer);
        promise(|promise| self.webrtc.emit_by_name::<()>("set-remote-description", &[&offer, &promise]))
            .await
            // What the check of the offer let through and webrtcbin does not take is still the offer's fault.
            .map_err(|error| OpenPeerError { code: ErrorCode::BadSdp, ..error })?;
        let reply = promise(|promise| {
            self.webrtc.emit_by_name::<()>("create-answer", &[&None::<gst::Structure>, &promise]);
        })
        .await?;
        let answer = reply
            .and_then(|reply| reply.get::<gst_webrtc::WebRTCSessionDescription>("answer").ok())
            .ok_or_else(|| negotiation_failed("webrtcbin made no answer"))?;
        promise(|promise| self.webrtc.emit_by_name::<()>("set-local-description", &[&answer, &promise])).await?;
        answer.sdp().as_text().map_err(|error| negotiation_failed(error.to_string()))
    }

    /// Joins the stream. Only now: what is queued before the connection stands would come as a burst and stay as delay.
    pub fn join(&self) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.is_some() {
            return;
        }
        let video = self.publisher.video.add_consumer(&self.video);
        let audio = self.publisher.audio.add_consumer(&self.audio);
        for (source, most) in [(&self.video, WAITING_FRAMES), (&self.audio, WAITING_PACKETS)] {
            source.set_max_buffers(most);
            source.set_max_time(gst::ClockTime::ZERO);
        }
        match (video, audio) {
            (Ok(video), Ok(audio)) => *links = Some(Links { video, audio }),
            _ => tracing::error!("a viewer joined the stream twice"),
        }
        drop(links);
        self.publisher.request_key_frame();
    }

    /// Leaves the stream at once, whoever else still holds the connection for a moment.
    pub fn leave(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn counters(&self) -> ViewerStats {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |count: fn(&ConsumptionLink) -> u64| {
            links.as_ref().map_or(0, |links| count(&links.video) + count(&links.audio))
        };
        ViewerStats {
            pushed: sum(ConsumptionLink::pushed),
            dropped: sum(ConsumptionLink::dropped),
            ..ViewerStats::default()
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.publisher.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// libnice otherwise asks the local router for a port and holds back the end of gathering for 200 ms meanwhile.
pub(super) fn without_upnp(agent: &gst::glib::Object) {
    if agent.has_property_with_type("agent", gst::glib::Object::static_type())
        && let Some(nice) = agent.property::<Option<gst::glib::Object>>("agent")
        && nice.has_property_with_type("upnp", bool::static_type())
    {
        nice.set_property("upnp", false);
    }
}

/// webrtcbin leaves retransmission off; it has to be on before the answer is made.
fn retransmit_video(webrtc: &gst::Element) {
    for pad in webrtc.sink_pads() {
        let caps = pad.peer().map(|peer| peer.query_caps(None));
        let media = caps.as_ref().and_then(|caps| caps.structure(0)).and_then(|caps| caps.get::<&str>("media").ok());
        if media == Some("video") {
            pad.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver").set_property("do-nack", true);
        }
    }
}

/// Runs one of webrtcbin's asynchronous actions.
pub(super) async fn promise(action: impl FnOnce(gst::Promise)) -> Result<Option<gst::Structure>, OpenPeerError> {
    let (sender, receiver) = oneshot::channel();
    action(gst::Promise::with_change_func(move |reply| {
        let _ = sender.send(reply.map(|reply| reply.map(gst::StructureRef::to_owned)));
    }));
    let reply = tokio::time::timeout(PROMISE_TIMEOUT, receiver)
        .await
        .map_err(|_| negotiation_failed(format!("webrtcbin did not answer within {} s", PROMISE_TIMEOUT.as_secs())))?
        .map_err(|_| negotiation_failed("webrtcbin stopped while it negotiated"))?
        .map_err(|error| negotiation_failed(format!("webrtcbin: {error:?}")))?;
    match reply.as_ref().and_then(|reply| reply.get::<gst::glib::Error>("error").ok()) {
        Some(error) => Err(negotiation_failed(format!("webrtcbin: {error}"))),
        None => Ok(reply),
    }
}

#[cfg(test)]
mod tests;
