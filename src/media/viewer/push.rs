//! A peer that offers: the session is published to a media server, which answers.
//!
//! In here: webrtcbin's offer with all of our candidates, the answer, and the same pipeline and events as of any viewer. Not
//! in here: both texts (`offer::own`), how they travel (`endpoint::whip`), when it is tried again.
//! Runs on: as `viewer`.

use std::sync::Arc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_sdp as gst_sdp;
use gstreamer_webrtc as gst_webrtc;
use tokio::sync::mpsc;

use super::connection::Connection;
use super::reports::{Inbox, reports};
use super::{negotiation_failed, promise};
use crate::ids::ViewerId;
use crate::media::ice::CandidateFilter;
use crate::media::offer::Plan;
use crate::media::offer::own::OwnOffer;
use crate::media::publisher::Publisher;
use crate::media::{Broadcast, IceConfig, MediaError};
use crate::session::{PeerEvent, Refusal};

/// How long the offer waits for the last of our candidates: none follows it.
const GATHERING_TIME: Duration = Duration::from_secs(2);

/// A peer whose offer is made. Dropping it closes it; its pipeline is freed on a thread of its own.
#[derive(Debug)]
pub(crate) struct Push {
    id: ViewerId,
    offer: String,
    own: OwnOffer,
    filter: CandidateFilter,
    connection: Arc<Connection>,
    pump: tokio::task::JoinHandle<()>,
}

impl Push {
    /// Of an encode, by these servers. `events` is told of the connection.
    pub(in crate::media) async fn open(
        broadcast: Broadcast,
        publisher: Arc<Publisher>,
        events: mpsc::Sender<PeerEvent>,
        ice: IceConfig,
    ) -> Result<Self, Refusal> {
        let id = ViewerId::next();
        let plan = Plan::published(publisher.codec);
        let codec = publisher.codec;
        let filter = CandidateFilter::of_server(&ice);
        let span = tracing::Span::current();
        let built = tokio::task::spawn_blocking(move || -> Result<(Connection, Inbox), MediaError> {
            let _entered = span.enter();
            let (reports, inbox) = reports();
            Ok((Connection::build((id, broadcast), publisher, &plan, &ice, reports, None)?, inbox))
        });
        let (connection, mut inbox) =
            built.await.map_err(|error| negotiation_failed(error.to_string()))?.map_err(|error| {
                tracing::error!(%error, "no pipeline to publish with");
                negotiation_failed("the server cannot build the connection; its log says why")
            })?;
        let connection = Arc::new(connection);
        let own = OwnOffer::of(&make_offer(&connection.webrtc).await?, codec)?;
        let (candidates, _) = inbox.gather(GATHERING_TIME).await;
        let offer = own.text(rand::random::<u64>() >> 2, &candidates);
        let encode_failure = connection.publisher.failure.clone();
        let pump = tokio::spawn(inbox.run(id, 0, Arc::downgrade(&connection), encode_failure, events));
        Ok(Self { id, offer, own, filter, connection, pump })
    }

    /// The offer, holding all of our candidates.
    pub(crate) fn offer(&self) -> &str {
        &self.offer
    }

    /// Takes the answer, which may hold anything at all; refused before webrtcbin sees it if it does not take the offer.
    pub(crate) async fn accept(&self, answer: &str) -> Result<(), Refusal> {
        let accepted = self.own.accept(answer)?;
        tracing::debug!(viewer = %self.id, "the answer is taken");
        let answer = gst_sdp::SDPMessage::parse_buffer(accepted.canonical.as_bytes())
            .map_err(|error| negotiation_failed(error.to_string()))?;
        let answer = gst_webrtc::WebRTCSessionDescription::new(gst_webrtc::WebRTCSDPType::Answer, answer);
        promise(|promise| {
            self.connection.webrtc.emit_by_name::<()>("set-remote-description", &[&answer, &promise]);
        })
        .await?;
        for candidate in &accepted.candidates {
            match self.filter.admit(candidate) {
                Ok(Some(line)) => self.connection.webrtc.emit_by_name::<()>("add-ice-candidate", &[&0u32, &line]),
                Ok(None) => {}
                Err(reason) => tracing::debug!(%reason, "a candidate of the media server's is not used"),
            }
        }
        Ok(())
    }

    /// How many reports on what it receives the media server has sent so far.
    pub(crate) fn reported(&self) -> u64 {
        self.connection.inbound.reported()
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        self.pump.abort();
        self.connection.leave();
    }
}

/// webrtcbin's own offer, which is its local description by then.
async fn make_offer(webrtc: &gst::Element) -> Result<String, Refusal> {
    for pad in webrtc.sink_pads() {
        let transceiver = pad.property::<gst_webrtc::WebRTCRTPTransceiver>("transceiver");
        transceiver.set_property("direction", gst_webrtc::WebRTCRTPTransceiverDirection::Sendonly);
    }
    let reply = promise(|promise| {
        webrtc.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &promise]);
    })
    .await?;
    let offer = reply
        .and_then(|reply| reply.get::<gst_webrtc::WebRTCSessionDescription>("offer").ok())
        .ok_or_else(|| negotiation_failed("webrtcbin made no offer"))?;
    promise(|promise| webrtc.emit_by_name::<()>("set-local-description", &[&offer, &promise])).await?;
    offer.sdp().as_text().map_err(|error| negotiation_failed(error.to_string()))
}
