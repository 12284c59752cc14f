//! A viewer's WebRTC peer, as whoever carries its offer and candidates sees it.
//!
//! Not in here: what the peer is made of (`media::viewer`), and how its words travel (`signalling`).

use super::Refusal;
use crate::ids::ViewerId;

/// Longest line of a candidate, in bytes; real ones are under 200.
pub const CANDIDATE_BYTES: usize = 1024;

/// Longest offer, in bytes; those of browsers have 3 to 10 kB.
pub const OFFER_BYTES: usize = 64 * 1024;

/// A trickled ICE candidate, as RTCIceCandidateInit of the W3C's WebRTC API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceCandidate {
    /// The line itself, `candidate:...`, of at most [`CANDIDATE_BYTES`].
    pub candidate: String,
    /// Of the media that it is for.
    pub sdp_mid: Option<String>,
    /// Of the media that it is for, by its place in the SDP, from 0.
    pub sdp_m_line_index: Option<u32>,
    /// Of the ICE session that it is for.
    pub username_fragment: Option<String>,
}

/// What a viewer's peer connection reports; sent with `try_send` from callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A candidate of ours for the browser; `None` after the last one.
    Candidate(Option<IceCandidate>),
    /// Media can flow.
    Connected,
    /// What the network to the peer carries by now, told when it changed.
    Network(NetworkFigures),
    /// ICE or DTLS failed or the peer went away; the viewer is to be dropped.
    Closed {
        /// What happened, for the log.
        reason: String,
    },
}

/// What the network to a viewer carries, as its receiver reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFigures {
    /// Thousand bits a second that its picture has.
    pub rate_kbps: u32,
    /// Of a thousand packets sent lately, how many were lost.
    pub lost_permille: u32,
    /// There and back, in milliseconds, if it reports when packets come.
    pub round_trip_ms: Option<u32>,
    /// Which encode of the picture it gets: `full`, `middle` or `low`.
    pub rung: &'static str,
}

impl NetworkFigures {
    /// Whether somebody who was told `before` should be told these.
    pub fn are_news_to(&self, before: &Self) -> bool {
        let differs = |now: u32, before: u32, least: u32| now.abs_diff(before) > least.max(before / 10);
        self.rung != before.rung
            || differs(self.rate_kbps, before.rate_kbps, 10)
            || differs(self.lost_permille, before.lost_permille, 10)
            || differs(self.round_trip_ms.unwrap_or(0), before.round_trip_ms.unwrap_or(0), 20)
    }
}

/// One WebRTC peer as a connection sees it. Dropping it closes the peer and frees what it held.
pub trait Peer: Send {
    /// For logs and for telling viewers apart.
    fn id(&self) -> ViewerId;
    /// Our answer, holding the host candidates already.
    fn answer(&self) -> &str;
    /// The answer to another offer of the same RTCPeerConnection, or why there is none; the peer goes on in either case.
    /// `None` if the offer is of another connection: then another peer has to answer.
    fn renegotiate(&self, offer: &str) -> Option<Result<String, Refusal>>;
    /// A candidate of the browser's. One that cannot be used is left out.
    fn add_candidate(&self, candidate: &IceCandidate);
    /// The button to talk went down or up; nothing to a peer whose microphone nobody hears.
    fn push_to_talk(&self, is_pressed: bool);
}

/// A STUN or TURN server, as RTCIceServer of the W3C's WebRTC API.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:`, all of the one server.
    pub urls: Vec<String>,
    /// TURN only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub username: Option<String>,
    /// TURN only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub credential: Option<String>,
}
