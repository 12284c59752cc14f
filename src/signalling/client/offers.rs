//! One client's offers and the peer they lead to: which offer counts, candidates that come before their peer, and how long
//! an answer and a connection are waited for.
//!
//! In here: that part of the state machine. Not in here: what else a client sends (`client`).

use std::time::Duration;

use super::super::limits::{
    ANSWER_TIMEOUT, CANDIDATES_PER_OFFER, CONNECT_TIMEOUT, HELD_CANDIDATES, Taken, check_candidate,
};
use super::super::protocol::{CandidateInit, ServerMessage};
use super::{ClientState, OfferNumber, Output, PeerState, told};
use crate::session::{ErrorCode, PeerEvent, Refusal};

impl ClientState {
    pub(super) fn new_offer(&mut self, now: Duration, sdp: String, out: &mut Vec<Output>) {
        match self.offers.take(now) {
            Taken::Yes => {}
            Taken::Refused | Taken::RefusedAgain => {
                let message = "webrtc_offer: too many offers, this one is ignored: wait 2 s between offers";
                out.push(told(ErrorCode::TooManyMessages, message));
                return self.ignore(out);
            }
        }
        // Candidates held for an offer that is given up are of no use to this one. The peer goes on until it is answered.
        if self.opening.is_some() {
            self.held.clear();
        }
        self.offer = OfferNumber(self.offer.0 + 1);
        self.opening = Some(now);
        self.candidates = self.held.len();
        self.too_many_candidates_told = false;
        out.push(Output::OpenPeer { offer: self.offer, sdp });
    }

    pub(super) fn candidate(&mut self, candidate: Option<CandidateInit>, out: &mut Vec<Output>) {
        // Null and the empty line both say that there are no more; webrtcbin needs no telling.
        let Some(candidate) = candidate.filter(|candidate| !candidate.candidate.is_empty()) else {
            return;
        };
        let waiting = self.opening.is_some() || matches!(self.peer, PeerState::None);
        if self.candidates >= CANDIDATES_PER_OFFER || (waiting && self.held.len() >= HELD_CANDIDATES) {
            if !std::mem::replace(&mut self.too_many_candidates_told, true) {
                let message = format!(
                    "webrtc_ice_candidate: too many candidates, the rest is ignored: at most {HELD_CANDIDATES} before \
                     the answer and {CANDIDATES_PER_OFFER} for one offer are taken"
                );
                out.push(told(ErrorCode::TooManyCandidates, message));
            }
            return self.ignore(out);
        }
        self.candidates += 1;
        if let Err(refusal) = check_candidate(&candidate) {
            out.push(refusal.into());
        } else if waiting {
            self.held.push(candidate.into());
        } else {
            out.push(Output::AddCandidate(candidate.into()));
        }
    }

    pub(super) fn peer_opened(
        &mut self,
        now: Duration,
        offer: OfferNumber,
        answer: Result<String, Refusal>,
        out: &mut Vec<Output>,
    ) {
        if offer != self.offer || self.opening.take().is_none() {
            return;
        }
        match answer {
            Ok(sdp) => {
                self.peer = PeerState::Connecting { since: now };
                self.peer_offer = offer;
                out.push(Output::TakePeer);
                self.answered(sdp, out);
            }
            Err(refusal) => self.refused_offer(refusal, out),
        }
    }

    pub(super) fn renegotiated(&mut self, offer: OfferNumber, answer: Result<String, Refusal>, out: &mut Vec<Output>) {
        if offer != self.offer || self.opening.take().is_none() {
            return;
        }
        match answer {
            Ok(sdp) => self.answered(sdp, out),
            Err(refusal) => self.refused_offer(refusal, out),
        }
    }

    pub(super) fn answered(&mut self, sdp: String, out: &mut Vec<Output>) {
        out.push(Output::Send(ServerMessage::WebrtcAnswer { sdp }));
        out.extend(self.held.drain(..).map(Output::AddCandidate));
    }

    /// The peer, if there is one, goes on as if the offer had not been made.
    pub(super) fn refused_offer(&mut self, refusal: Refusal, out: &mut Vec<Output>) {
        self.no_offer();
        out.push(told(refusal.code, refusal.message));
    }

    pub(super) fn peer_event(&mut self, offer: OfferNumber, event: PeerEvent, out: &mut Vec<Output>) {
        if offer != self.peer_offer || matches!(self.peer, PeerState::None) {
            return;
        }
        match event {
            PeerEvent::Candidate(candidate) => {
                let candidate = candidate.map(CandidateInit::from);
                out.push(Output::Send(ServerMessage::WebrtcIceCandidate { candidate }));
            }
            PeerEvent::Connected => self.peer = PeerState::Connected,
            PeerEvent::Network(figures) => out.push(Output::Send(ServerMessage::of_network(&figures))),
            PeerEvent::Closed { reason } => {
                self.no_peer(out);
                // With an offer in hand the client is on its way already.
                if self.opening.is_none() {
                    let message = format!("the WebRTC peer is closed ({reason}): send another webrtc_offer to go on");
                    out.push(told(ErrorCode::PeerFailed, message));
                }
            }
        }
    }

    pub(super) fn tick(&mut self, now: Duration, out: &mut Vec<Output>) {
        if self.opening.is_some_and(|since| now.saturating_sub(since) >= ANSWER_TIMEOUT) {
            self.opening = None;
            self.no_offer();
            out.push(Output::GiveUpOffer);
            let message = format!("webrtc_offer: no answer within {} s: offer again", ANSWER_TIMEOUT.as_secs());
            out.push(told(ErrorCode::NegotiationFailed, message));
        }
        if matches!(self.peer, PeerState::Connecting { since } if now.saturating_sub(since) >= CONNECT_TIMEOUT) {
            self.no_peer(out);
            let message = format!(
                "the WebRTC peer did not connect within {} s of the answer: a firewall that lets no UDP through needs a \
                 TURN server (--turn)",
                CONNECT_TIMEOUT.as_secs()
            );
            out.push(told(ErrorCode::NegotiationFailed, message));
        }
    }

    pub(super) fn no_peer(&mut self, out: &mut Vec<Output>) {
        if !matches!(std::mem::replace(&mut self.peer, PeerState::None), PeerState::None) {
            out.push(Output::ClosePeer);
        }
        if self.opening.is_none() {
            self.no_offer();
        }
    }

    /// What was counted and held for the offer in hand is of no use to the next one.
    pub(super) fn no_offer(&mut self) {
        self.held.clear();
        self.candidates = 0;
        self.too_many_candidates_told = false;
    }
}
