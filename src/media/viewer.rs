//! One WebRTC peer: its own small pipeline from the session's encoded stream to webrtcbin.
//!
//! In here: offer to answer, candidates both ways, joining and leaving the stream. Not in here: whether an offer may be
//! served (`offer`), the encodes (`broadcast`, `publisher`), the socket (`signalling`).
//! Runs on: tokio for negotiation, with building and tearing down on threads that may block. webrtcbin's callbacks hold
//! senders only. A pipeline of its own means that a viewer's error, stall or end touches nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::ice::CandidateFilter;
use super::offer::answer::Negotiated;
use super::offer::{self, Plan};
use super::one_port::Entry;
use super::{Broadcast, Codec, IceConfig, MediaError};
use crate::hearing::MicrophoneChunk;
use crate::ids::ViewerId;
use crate::session::{ErrorCode, IceCandidate, Peer, PeerEvent, Refusal};

mod adaptation;
mod connection;
mod gate;
mod key_frames;
mod pacer;
pub(super) mod push;
mod redundancy;
pub(super) mod reports;
mod retransmissions;
mod transport;
mod way;

use connection::Connection;
pub(super) use connection::only_udp;
use reports::{Inbox, reports};
use way::Way;

/// webrtcbin answers a promise in milliseconds, or in a second while it makes the process's first certificate.
const PROMISE_TIMEOUT: Duration = Duration::from_secs(5);

/// A viewer that has its answer. Dropping it closes the peer; its pipeline is freed on a thread of its own.
#[derive(Debug)]
pub struct Viewer {
    id: ViewerId,
    answer: String,
    negotiated: Negotiated,
    codec: Codec,
    listens: bool,
    /// Of the answers so far.
    version: AtomicU64,
    candidates: Candidates,
    connection: Arc<Connection>,
    /// Behind the one port, if clients come by that.
    _entry: Option<Entry>,
    pump: tokio::task::JoinHandle<()>,
}

/// Where a client's candidates go through, whether they trickle or come within an offer.
#[derive(Debug)]
struct Candidates {
    filter: CandidateFilter,
    ufrag: String,
    /// By m-line: its `a=mid`, and whether its candidates are those of the one transport there is.
    lines: Vec<(Option<String>, bool)>,
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
        microphone: Option<mpsc::Sender<MicrophoneChunk>>,
    ) -> Result<Viewer, Refusal> {
        Viewer::open(self.clone(), offer, events, ice.clone(), microphone).await
    }
}

impl Viewer {
    async fn open(
        broadcast: Broadcast,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
        ice: IceConfig,
        microphone: Option<mpsc::Sender<MicrophoneChunk>>,
    ) -> Result<Self, Refusal> {
        let id = ViewerId::next();
        let listens = microphone.is_some();
        let plan = offer::plan(&offer, broadcast.codecs(), listens)?;
        let candidates = Candidates::new(&plan, &ice);
        let (build_plan, reached) = (plan.clone(), ice.clone());
        // Building loads elements and starts threads, and the first viewer of a codec its encode.
        let span = tracing::Span::current();
        let built = tokio::task::spawn_blocking(move || -> Result<(Connection, Inbox), MediaError> {
            let _entered = span.enter();
            let publisher = broadcast.publisher(build_plan.codec)?;
            let (reports, inbox) = reports();
            Ok((Connection::build((id, broadcast), publisher, &build_plan, &ice, reports, microphone)?, inbox))
        });
        let (connection, mut inbox) =
            built.await.map_err(|error| negotiation_failed(error.to_string()))?.map_err(|error| {
                // It names files of this machine, which are no business of a client's.
                tracing::error!(%error, "no pipeline for a viewer");
                negotiation_failed("the server cannot build the connection; its log says why")
            })?;
        let connection = Arc::new(connection);
        let made = connection.negotiate(&plan.canonical(listens)).await?;
        tracing::debug!(viewer = %id, ?plan, "viewer answered");
        let (m_line, codec) = (plan.transport.m_line, plan.codec);
        candidates.add_all(&plan.candidates, &connection);
        let mut negotiated = Negotiated::check(plan, &made)?;
        let way = Way::find(&reached, &negotiated, &mut inbox).await?;
        negotiated.gathered(way.candidates, way.complete);
        let answer = negotiated.answer();
        let encode_failure = connection.publisher.failure.clone();
        let m_line = u32::try_from(m_line).unwrap_or(0);
        let pump = tokio::spawn(inbox.run(id, m_line, Arc::downgrade(&connection), encode_failure, events));
        let version = AtomicU64::new(1);
        let _entry = way.entry;
        Ok(Self { id, answer, negotiated, codec, listens, version, candidates, connection, _entry, pump })
    }

    /// Reads the RTCP reports; `None` once the peer is gone.
    #[cfg(test)]
    pub(super) async fn stats(&self) -> Option<ViewerStats> {
        self.connection.stats().await
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

    /// webrtcbin takes no part in it: what it negotiated is written into the lines of the new offer.
    fn renegotiate(&self, offer: &str) -> Option<Result<String, Refusal>> {
        let plan = match offer::plan(offer, &[self.codec], self.listens) {
            Ok(plan) => plan,
            Err(error) => return Some(Err(error)),
        };
        if self.negotiated.is_restarted_by(&plan) {
            let message = "an ICE restart is not served: open another RTCPeerConnection and offer from that, the old one \
                           goes on until that is answered";
            return Some(Err(Refusal { code: ErrorCode::NegotiationFailed, message: message.to_owned() }));
        }
        if !self.negotiated.is_of_the_same_transport(&plan) {
            return None;
        }
        if !self.negotiated.keeps_its_speaker(&plan) {
            let message = "the line that the connection went by was stopped, for which browsers begin another connection within \
                           this one, which is not served: set the transceiver's direction to 'inactive' instead, or open \
                           another RTCPeerConnection, the old one goes on until that is answered";
            return Some(Err(Refusal { code: ErrorCode::NegotiationFailed, message: message.to_owned() }));
        }
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(answer) = self.negotiated.answer_again(&plan, version) else {
            let message = "this connection cannot be given tracks that its first offer did not have: open another \
                           RTCPeerConnection and offer all of them, the old one goes on until that is answered";
            return Some(Err(Refusal { code: ErrorCode::NegotiationFailed, message: message.to_owned() }));
        };
        self.connection.inbound.open(plan.microphone.as_ref().map(|track| track.payload_type));
        self.connection.want(plan.video.is_some(), plan.audio.is_some());
        self.candidates.add_all(&plan.candidates, &self.connection);
        Some(Ok(answer))
    }

    fn add_candidate(&self, candidate: &IceCandidate) {
        if self.candidates.are_of(candidate) {
            self.candidates.add(&candidate.candidate, &self.connection);
        }
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

impl Candidates {
    fn new(plan: &Plan, ice: &IceConfig) -> Self {
        let lines = plan.lines.iter().map(|line| (line.mid.clone(), line.is_bundled)).collect();
        Self { filter: CandidateFilter::new(ice), ufrag: plan.transport.ufrag.clone(), lines }
    }

    /// Whether a trickled candidate is for the transport that is used, and not one of before an ICE restart.
    fn are_of(&self, candidate: &IceCandidate) -> bool {
        let by_mid = |mid: &String| self.lines.iter().find(|(known, _)| known.as_ref() == Some(mid));
        let line = match (candidate.sdp_m_line_index, &candidate.sdp_mid) {
            (Some(index), _) => usize::try_from(index).ok().and_then(|index| self.lines.get(index)),
            (None, Some(mid)) => by_mid(mid),
            (None, None) => None,
        };
        let is_current = candidate.username_fragment.as_ref().is_none_or(|ufrag| *ufrag == self.ufrag);
        is_current && line.is_some_and(|(_, is_bundled)| *is_bundled)
    }

    fn add_all(&self, candidates: &[String], connection: &Connection) {
        candidates.iter().for_each(|candidate| self.add(candidate, connection));
    }

    /// Empty means that no more will come, which webrtcbin need not know.
    fn add(&self, candidate: &str, connection: &Connection) {
        match self.filter.admit(candidate) {
            // The canonical offer has its transport in its first line.
            Ok(Some(line)) => connection.webrtc.emit_by_name::<()>("add-ice-candidate", &[&0u32, &line]),
            Ok(None) => {}
            Err(reason) => tracing::debug!(%reason, "a candidate of the viewer's is not used"),
        }
    }
}

pub(super) fn negotiation_failed(message: impl Into<String>) -> Refusal {
    Refusal { code: ErrorCode::NegotiationFailed, message: message.into() }
}

/// Runs one of webrtcbin's asynchronous actions.
pub(super) async fn promise(action: impl FnOnce(gst::Promise)) -> Result<Option<gst::Structure>, Refusal> {
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

#[cfg(test)]
mod coming_and_going;

#[cfg(test)]
mod hostile_offers;

#[cfg(test)]
mod hostile_peers;

#[cfg(test)]
mod one_port_tests;
