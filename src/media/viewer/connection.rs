//! The pipeline of a viewer and its ties to the publisher.
//!
//! In here: building it, negotiating by webrtcbin's promises, which of the session's tracks are pushed into it, its counts.
//! Not in here: what is negotiated (`offer`), what webrtcbin reports (`reports`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_sdp as gst_sdp;
use gstreamer_utils::{ConsumptionLink, StreamProducer};
use gstreamer_webrtc as gst_webrtc;
use tokio::sync::mpsc;

use super::adaptation::Adaptation;
use super::gate::Gate;
use super::pacer::Pacer;
use super::reports::Reports;
use super::transport::Transport;
use super::{ViewerStats, negotiation_failed, promise};
use crate::hearing::MicrophoneChunk;
use crate::ids::ViewerId;
use crate::media::description::{Parts, names, viewer_values};
use crate::media::inbound::Inbound;
use crate::media::offer::Plan;
use crate::media::pipeline::OwnedPipeline;
use crate::media::publisher::{Publisher, app_source};
use crate::media::rungs::Rung;
use crate::media::{Broadcast, IceConfig, MediaError, microphone};
use crate::session::{ErrorCode, Refusal};

/// Encoded frames and Opus packets, 320 ms of each, that may wait in front of a viewer that does not send: then it drops
/// to the next key frame, alone. Counted in buffers, which appsrc 1.22 keeps to exactly; with `max-time` it holds more.
pub(super) const WAITING_FRAMES: u64 = 8;
const WAITING_PACKETS: u64 = 16;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Mutex<Stream>,
    /// What the metrics were told last.
    sampled: Mutex<ViewerStats>,
    pub id: ViewerId,
    /// Of which further rungs are had.
    pub broadcast: Broadcast,
    pub webrtc: gst::Element,
    pub inbound: Arc<Inbound>,
    pub transport: Arc<Transport>,
    pub gate: Arc<Gate>,
    pub(super) pacer: Arc<Pacer>,
    pub(super) adaptation: Mutex<Adaptation>,
    /// Only to be dropped: it ends the pipeline.
    pub _pipeline: OwnedPipeline,
    pub publisher: Arc<Publisher>,
}

/// The viewer's part in the session's stream.
#[derive(Debug, Default)]
struct Stream {
    /// While the connection stands.
    is_joined: bool,
    video: Option<Feed>,
    audio: Option<Feed>,
}

/// One track of the session on its way into the pipeline.
#[derive(Debug)]
struct Feed {
    source: gstreamer_app::AppSrc,
    most: u64,
    /// The viewer may pause it.
    is_wanted: bool,
    /// Present while it flows.
    link: Option<ConsumptionLink>,
    /// Of another rung, besides it while that is waited for.
    next: Option<ConsumptionLink>,
    /// Of links that are no more.
    pushed: u64,
    dropped: u64,
}

impl Feed {
    fn new(source: gstreamer_app::AppSrc, most: u64) -> Self {
        // Live and leaky before it starts; joining does the same again.
        StreamProducer::configure_consumer(&source);
        Self { source, most, is_wanted: true, link: None, next: None, pushed: 0, dropped: 0 }
    }

    /// Starts or stops it; says whether it has started.
    fn flow(&mut self, producer: &StreamProducer, is_joined: bool) -> bool {
        match (is_joined && self.is_wanted, self.link.take()) {
            (true, None) => {
                self.link = self.link_to(producer);
                true
            }
            (true, flowing) => {
                self.link = flowing;
                false
            }
            (false, link) => {
                let next = self.next.take();
                self.ended(link);
                self.ended(next);
                false
            }
        }
    }

    fn link_to(&self, producer: &StreamProducer) -> Option<ConsumptionLink> {
        let link = producer.add_consumer(&self.source);
        self.source.set_max_buffers(self.most);
        self.source.set_max_time(gst::ClockTime::ZERO);
        link.inspect_err(|error| tracing::error!(%error, "a viewer joined the stream twice")).ok()
    }

    fn ended(&mut self, link: Option<ConsumptionLink>) {
        if let Some(link) = link {
            self.pushed += link.pushed();
            self.dropped += link.dropped();
        }
    }

    /// Letting go of one of two links has gstreamer-utils forget the callback by which the other learns that its viewer does
    /// not take its pictures in time, counts them, and waits for a key frame. From then on that is the gate's.
    fn watch_overflow(&self, gate: &Arc<Gate>) {
        let gate = Arc::clone(gate);
        let callbacks = gstreamer_app::AppSrcCallbacks::builder().enough_data(move |_| gate.overflows()).build();
        self.source.set_callbacks(callbacks);
    }

    fn counts(&self) -> (u64, u64) {
        let now = self.link.as_ref().map_or((0, 0), |link| (link.pushed(), link.dropped()));
        (self.pushed + now.0, self.dropped + now.1)
    }
}

impl Connection {
    /// Blocks for some milliseconds.
    pub fn build(
        (id, broadcast): (ViewerId, Broadcast),
        publisher: Arc<Publisher>,
        plan: &Plan,
        ice: &IceConfig,
        reports: Reports,
        heard: Option<mpsc::Sender<MicrophoneChunk>>,
    ) -> Result<Self, MediaError> {
        let (video_ssrc, audio_ssrc) = (rand::random::<u32>() | 1, rand::random::<u32>() & !1);
        let payload_type =
            |track: &Option<_>| track.as_ref().map_or(0, |track: &crate::media::offer::Track| track.payload_type);
        let values = viewer_values(payload_type(&plan.video), video_ssrc, payload_type(&plan.audio), audio_ssrc);
        let parts = Parts { video: plan.video.is_some(), audio: plan.audio.is_some(), microphone: heard.is_some() };
        let built = publisher.viewer().with(parts).build(&values)?;
        let pipeline = OwnedPipeline::new(built, publisher.teardown.clone());
        let failed = |reason: String| MediaError::Start { file: publisher.viewer().file().to_owned(), reason };
        let webrtc = pipeline.gst().by_name(names::WEBRTC).ok_or_else(|| failed("no webrtcbin".to_owned()))?;
        let feed = |has: bool, name, most| match has {
            true => app_source(&pipeline, name).map(|source| Some(Feed::new(source, most))),
            false => Ok(None),
        };
        let video = feed(parts.video, names::VIDEO, WAITING_FRAMES)?;
        let audio = feed(parts.audio, names::AUDIO, WAITING_PACKETS)?;
        let asks_servers = ice.one_port.is_none();
        if let Some(stun) = ice.stun.as_ref().filter(|_| asks_servers) {
            webrtc.set_property("stun-server", stun);
        }
        if let Some(turn) = ice.turn.as_ref().filter(|_| asks_servers)
            && !webrtc.emit_by_name::<bool>("add-turn-server", &[turn])
        {
            return Err(failed("webrtcbin does not accept the TURN server's address".to_owned()));
        }
        let agent = webrtc.property::<gst::glib::Object>("ice-agent");
        only_udp(&agent);
        for address in ice.gathered_on() {
            agent.emit_by_name::<bool>("add-local-ip-address", &[&address.to_string()]);
        }
        retransmit_video(&webrtc);
        reports.connect(&webrtc);
        let inbound = Inbound::new(plan.microphone.as_ref().map(|track| track.payload_type));
        let full = publisher.full_rate();
        let transport = Transport::new(plan.video.as_ref(), plan.audio.as_ref(), video_ssrc, full);
        transport.watch(pipeline.gst(), &inbound);
        inbound.guard(pipeline.gst());
        let gate = Arc::new(Gate::default());
        if let Some(video) = &video {
            gate.guard(video.source.upcast_ref());
        }
        let pacer = Pacer::new(full);
        if let Some(payloader) = pipeline.gst().by_name(names::VIDEO_PAY) {
            pacer.guard(&payloader, &gate, &transport);
        }
        microphone::connect(pipeline.gst(), &webrtc, heard);
        pipeline.watch(move |report| reports.bus(report));
        publisher.time.set(pipeline.gst());
        pipeline.gst().set_state(gst::State::Playing).map_err(|error| failed(error.to_string()))?;
        publisher.audience.viewers.fetch_add(1, Ordering::Relaxed);
        crate::metrics::viewer_came(Rung::Full.as_str());
        let adaptation = Mutex::new(Adaptation::new(publisher.ladder(), full));
        Ok(Self {
            stream: Mutex::new(Stream { is_joined: false, video, audio }),
            sampled: Mutex::default(),
            id,
            broadcast,
            webrtc,
            inbound,
            transport,
            gate,
            pacer,
            adaptation,
            _pipeline: pipeline,
            publisher,
        })
    }

    /// webrtcbin's answer to an offer of ours.
    pub async fn negotiate(&self, canonical: &str) -> Result<String, Refusal> {
        let offer = gst_sdp::SDPMessage::parse_buffer(canonical.as_bytes())
            .map_err(|error| Refusal { code: ErrorCode::BadSdp, message: error.to_string() })?;
        let offer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Offer, offer);
        promise(|promise| self.webrtc.emit_by_name::<()>("set-remote-description", &[&offer, &promise]))
            .await
            // What the check of the offer let through and webrtcbin does not take is still the offer's fault.
            .map_err(|error| Refusal { code: ErrorCode::BadSdp, ..error })?;
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
        self.flow(|stream| stream.is_joined = true);
    }

    /// Leaves the stream at once, whoever else still holds the connection for a moment.
    pub fn leave(&self) {
        self.flow(|stream| stream.is_joined = false);
    }

    /// Sends what a later offer of the viewer's wants, and no more.
    pub fn want(&self, video: bool, audio: bool) {
        self.flow(|stream| {
            for (feed, wanted) in [(&mut stream.video, video), (&mut stream.audio, audio)] {
                if let Some(feed) = feed {
                    feed.is_wanted = wanted;
                }
            }
        });
    }

    fn flow(&self, change: impl FnOnce(&mut Stream)) {
        let publisher = Arc::clone(self.adaptation().publisher(&self.publisher));
        let mut stream = self.stream();
        change(&mut stream);
        let Stream { is_joined, video, audio } = &mut *stream;
        if let (Some(audio), Some(producer)) = (audio, &self.publisher.audio) {
            audio.flow(producer, *is_joined);
        }
        let video_begins = video.as_mut().is_some_and(|video| video.flow(&publisher.video, *is_joined));
        drop(stream);
        if video_begins {
            publisher.request_key_frame();
        }
    }

    /// Gives the viewer the pictures of another rung as well; whether anything comes to it just now.
    pub(super) fn add_video(&self, publisher: &Publisher) -> bool {
        let mut stream = self.stream();
        let Some(video) = stream.video.as_mut().filter(|video| video.link.is_some()) else { return false };
        video.next = video.link_to(&publisher.video);
        true
    }

    /// The other rung is the only one from now on.
    pub(super) fn take_video(&self, publisher: &Publisher) {
        let mut stream = self.stream();
        if let Some(video) = &mut stream.video
            && let Some(before) = video.link.take()
        {
            video.ended(Some(before));
            // It may have left and come back meanwhile.
            video.link = video.next.take().or_else(|| video.link_to(&publisher.video));
            video.watch_overflow(&self.gate);
        }
    }

    /// Whether another rung comes besides.
    pub(super) fn has_further_video(&self) -> bool {
        self.stream().video.as_ref().is_some_and(|video| video.next.is_some())
    }

    /// The other rung is not waited for any more.
    pub(super) fn drop_video(&self) {
        let mut stream = self.stream();
        if let Some(video) = &mut stream.video {
            let next = video.next.take();
            video.ended(next);
            video.watch_overflow(&self.gate);
        }
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counters(&self) -> ViewerStats {
        let stream = self.stream();
        let counts = [&stream.video, &stream.audio].map(|feed| feed.as_ref().map_or((0, 0), Feed::counts));
        drop(stream);
        let [video, audio] = counts;
        let dropped = video.1 + audio.1 + self.gate.left_out();
        ViewerStats { pushed: video.0 + audio.0, dropped, ..ViewerStats::default() }
    }

    /// Reads the counts and the RTCP reports; `None` once the peer is gone.
    pub async fn stats(&self) -> Option<ViewerStats> {
        let mut stats = self.counters();
        let reply = promise(|promise| {
            self.webrtc.emit_by_name::<()>("get-stats", &[&None::<gst::Pad>, &promise]);
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

    /// Tells the metrics what has come since the last time.
    pub async fn sample(&self) {
        if let Some(stats) = self.stats().await {
            if let Some(ms) = stats.round_trip_ms {
                crate::metrics::viewer_round_trip(std::time::Duration::from_secs_f64(ms.max(0.0) / 1000.0));
            }
            self.count(stats);
            let estimate = self.transport.estimate();
            let (rate, rung) = self.adaptation().sampled();
            crate::metrics::viewer_network(rate, estimate.loss, rung);
        }
    }

    fn count(&self, stats: ViewerStats) {
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = u64::try_from(stats.packets_lost - sampled.packets_lost).unwrap_or(0);
        crate::metrics::viewer_sent(stats.pushed - sampled.pushed, stats.dropped - sampled.dropped, lost);
        *sampled = ViewerStats { packets_lost: stats.packets_lost.max(sampled.packets_lost), ..stats };
    }

    #[cfg(test)]
    pub fn video_source(&self) -> gstreamer_app::AppSrc {
        self.stream().video.as_ref().unwrap().source.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without the reports of a pipeline that may be gone.
        let packets_lost = self.sampled.lock().unwrap_or_else(PoisonError::into_inner).packets_lost;
        self.count(ViewerStats { packets_lost, ..self.counters() });
        self.end_adaptation();
        self.publisher.audience.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// libnice otherwise listens and connects over TCP, connects to whatever address a candidate names, and asks the local
/// router for a port, for which it holds back the end of gathering for 200 ms.
pub(crate) fn only_udp(agent: &gst::glib::Object) {
    if agent.has_property_with_type("agent", gst::glib::Object::static_type())
        && let Some(nice) = agent.property::<Option<gst::glib::Object>>("agent")
    {
        for property in ["upnp", "ice-tcp"] {
            if nice.has_property_with_type(property, bool::static_type()) {
                nice.set_property(property, false);
            }
        }
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
