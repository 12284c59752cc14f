//! Offers, candidates and the peers they lead to.

use super::*;
use crate::signalling::limits::{ANSWER_TIMEOUT, CANDIDATES_PER_OFFER, CONNECT_TIMEOUT, HELD_CANDIDATES};

#[test]
fn an_offer_is_answered_and_candidates_flow_both_ways() {
    let mut client = Client::default();
    assert_eq!(client.offers(), [open(1)]);
    assert_eq!(client.is_answered(1), [Output::TakePeer, answer()]);
    assert_eq!(client.sends_candidate(1), [Output::AddCandidate(candidate(1))]);
    let sent = |candidate| [Output::Send(ServerMessage::WebrtcIceCandidate { candidate })];
    assert_eq!(client.peer_says(1, PeerEvent::Candidate(Some(candidate(2)))), sent(Some(candidate(2).into())));
    assert_eq!(client.peer_says(1, PeerEvent::Candidate(None)), sent(None));
    assert_eq!(client.peer_says(1, PeerEvent::Connected), []);
}

#[test]
fn candidates_before_the_answer_are_held_until_the_peer_exists() {
    let mut client = Client::default();
    client.offers();
    assert_eq!(client.sends_candidate(1), []);
    assert_eq!(client.sends_candidate(2), []);
    let expected = [Output::TakePeer, answer(), Output::AddCandidate(candidate(1)), Output::AddCandidate(candidate(2))];
    assert_eq!(client.is_answered(1), expected);
}

#[test]
fn candidates_before_the_offer_are_held_for_it() {
    let mut client = Client::default();
    assert_eq!(client.sends_candidate(1), []);
    assert_eq!(client.offers(), [open(1)]);
    assert_eq!(client.is_answered(1), [Output::TakePeer, answer(), Output::AddCandidate(candidate(1))]);
}

#[test]
fn no_more_than_64_candidates_are_held() {
    let mut client = Client::default();
    for number in 0..HELD_CANDIDATES {
        assert_eq!(client.sends_candidate(number), []);
    }
    assert_eq!(the_error(&client.sends_candidate(64)).0, ErrorCode::TooManyCandidates);
    client.offers();
    assert_eq!(client.is_answered(1).len(), 2 + HELD_CANDIDATES);
    client.assert_served();
}

#[test]
fn ten_thousand_candidates_are_one_error_and_the_socket_stays() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    let out: Vec<Output> = (0..10_000).flat_map(|number| client.sends_candidate(number)).collect();
    let added = out.iter().filter(|output| matches!(output, Output::AddCandidate(_))).count();
    assert_eq!(added, CANDIDATES_PER_OFFER);
    let errors: Vec<&Output> = out.iter().filter(|output| matches!(output, Output::Send(_))).collect();
    assert!(
        matches!(
            errors[..],
            [Output::Send(ServerMessage::Error { code: ErrorCode::TooManyCandidates, fatal: false, .. })]
        ),
        "{errors:?}"
    );
    client.assert_served();
    assert_eq!(client.offers(), [open(2)], "a new offer starts afresh");
    client.is_answered(2);
    assert_eq!(client.sends_candidate(1), [Output::AddCandidate(candidate(1))]);
}

#[test]
fn a_client_that_floods_on_is_closed_with_a_fatal_error() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    let out: Vec<Output> = (0..30_000).flat_map(|number| client.sends_candidate(number)).collect();
    let end = &out[out.len() - 3..];
    assert!(
        matches!(
            end,
            [
                Output::Send(ServerMessage::Error { code: ErrorCode::TooManyMessages, fatal: true, .. }),
                Output::ClosePeer,
                Output::Close(CloseReason::Policy)
            ]
        ),
        "{end:?}"
    );
    assert_eq!(client.speaks("Hello?"), [], "nothing is done for a closed socket");
}

#[test]
fn the_last_candidate_adds_nothing() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    assert_eq!(client.says(json!({"type": "webrtc_ice_candidate", "candidate": null})), []);
    assert_eq!(client.says(json!({"type": "webrtc_ice_candidate", "candidate": {"candidate": "", "sdpMid": "0"}})), []);
}

#[test]
fn what_cannot_be_a_candidate_never_reaches_the_peer() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    for bad in [
        json!({"candidate": "candidate:1 1 UDP"}),
        json!({"candidate": "hello", "sdpMid": "0"}),
        json!({"candidate": "candidate:1\r\na=setup:active", "sdpMid": "0"}),
        json!({"candidate": format!("candidate:{}", "1".repeat(5000)), "sdpMid": "0"}),
    ] {
        let out = client.says(json!({"type": "webrtc_ice_candidate", "candidate": bad}));
        assert_eq!(the_error(&out).0, ErrorCode::BadCandidate, "{bad}");
    }
}

#[test]
fn a_second_offer_replaces_the_peer_when_it_is_answered_and_not_before() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    client.peer_says(1, PeerEvent::Connected);
    assert_eq!(client.offers(), [open(2)]);
    let sent = [Output::Send(ServerMessage::WebrtcIceCandidate { candidate: None })];
    assert_eq!(client.peer_says(1, PeerEvent::Candidate(None)), sent, "the old peer goes on meanwhile");
    assert_eq!(client.is_answered(2), [Output::TakePeer, answer()]);
    assert_eq!(client.peer_says(1, PeerEvent::Candidate(None)), [], "what the old one says now is late");
    assert_eq!(client.peer_says(2, PeerEvent::Candidate(None)), sent);
}

#[test]
fn a_second_offer_that_is_refused_or_never_answered_leaves_the_peer_alone() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    client.peer_says(1, PeerEvent::Connected);
    client.offers();
    assert_eq!(client.sends_candidate(1), [], "held for the new one");
    assert_eq!(the_error(&client.is_refused(2)).0, ErrorCode::BadSdp);
    assert_eq!(client.sends_candidate(2), [Output::AddCandidate(candidate(2))]);
    client.offers();
    client.now += ANSWER_TIMEOUT;
    let out = client.give(Input::Tick);
    assert_eq!(out[0], Output::GiveUpOffer);
    assert_eq!(the_error(&out[1..]).0, ErrorCode::NegotiationFailed);
    client.now += Duration::from_secs(3600);
    assert_eq!(client.give(Input::Tick), []);
    assert_eq!(client.sends_candidate(3), [Output::AddCandidate(candidate(3))]);
    assert_eq!(client.give(Input::Disconnected), [Output::ClosePeer]);
}

#[test]
fn an_offer_of_the_same_connection_is_answered_by_the_peer_that_is_there() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    client.peer_says(1, PeerEvent::Connected);
    client.offers();
    client.sends_candidate(1);
    assert_eq!(client.renegotiates(2, Ok(())), [answer(), Output::AddCandidate(candidate(1))]);
    assert_eq!(client.offers(), [open(3)]);
    let error = Refusal { code: ErrorCode::NegotiationFailed, message: "no".to_owned() };
    assert_eq!(the_error(&client.renegotiates(3, Err(error))).0, ErrorCode::NegotiationFailed);
    let out = client.peer_says(1, PeerEvent::Closed { reason: "gone".to_owned() });
    assert_eq!(out[0], Output::ClosePeer, "events of the peer are still heeded");
}

#[test]
fn a_peer_that_ends_while_another_offer_is_in_hand_is_no_error() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    client.offers();
    assert_eq!(client.peer_says(1, PeerEvent::Closed { reason: "gone".to_owned() }), [Output::ClosePeer]);
    assert_eq!(client.is_answered(2), [Output::TakePeer, answer()]);
}

#[test]
fn a_late_answer_to_a_replaced_offer_is_ignored() {
    let mut client = Client::default();
    client.offers();
    client.sends_candidate(1);
    assert_eq!(client.offers(), [open(2)]);
    assert_eq!(client.is_answered(1), []);
    assert_eq!(client.peer_says(1, PeerEvent::Candidate(Some(candidate(9)))), []);
    let error = Refusal { code: ErrorCode::BadSdp, message: "late".to_owned() };
    assert_eq!(client.give(Input::PeerOpened { offer: OfferNumber(1), answer: Err(error) }), []);
    assert_eq!(client.is_answered(2), [Output::TakePeer, answer()], "and its candidates are not for the new peer");
    let closed = PeerEvent::Closed { reason: "late".to_owned() };
    assert_eq!(client.peer_says(1, closed), []);
}

#[test]
fn an_offer_that_is_refused_is_an_error_and_the_next_one_is_served() {
    let mut client = Client::default();
    client.offers();
    let error = Refusal { code: ErrorCode::OfferWithoutMedia, message: "no m= line".to_owned() };
    let out = client.give(Input::PeerOpened { offer: OfferNumber(1), answer: Err(error) });
    assert_eq!(the_error(&out), (ErrorCode::OfferWithoutMedia, "no m= line"));
    assert_eq!(client.offers(), [open(2)], "there is no peer to close");
}

#[test]
fn offers_in_a_loop_are_refused_until_the_client_rests() {
    let mut client = Client::default();
    let is_open = |out: &[Output]| matches!(out, [Output::OpenPeer { .. }]);
    let opened = (0..50).filter(|_| is_open(&client.offers())).count();
    assert!(opened < 10, "{opened} peers were opened");
    assert_eq!(the_error(&client.offers()).0, ErrorCode::TooManyMessages);
    client.now += Duration::from_secs(3);
    assert!(is_open(&client.offers()));
}

#[test]
fn a_peer_that_fails_is_dropped_and_the_client_is_told() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    let out = client.peer_says(1, PeerEvent::Closed { reason: "ICE failed".to_owned() });
    assert_eq!(out[0], Output::ClosePeer);
    let (code, message) = the_error(&out[1..]);
    assert_eq!(code, ErrorCode::PeerFailed);
    assert!(message.contains("ICE failed"));
    client.assert_served();
}

#[test]
fn a_negotiation_that_leads_nowhere_ends() {
    let mut client = Client::default();
    client.offers();
    client.now += ANSWER_TIMEOUT - Duration::from_millis(1);
    assert_eq!(client.give(Input::Tick), []);
    client.now += Duration::from_millis(1);
    let out = client.give(Input::Tick);
    assert_eq!(out[0], Output::GiveUpOffer);
    assert_eq!(the_error(&out[1..]).0, ErrorCode::NegotiationFailed);
    assert_eq!(client.give(Input::Tick), []);

    assert_eq!(client.offers(), [open(2)]);
    client.is_answered(2);
    client.now += CONNECT_TIMEOUT;
    let out = client.give(Input::Tick);
    assert_eq!(out[0], Output::ClosePeer);
    let (code, message) = the_error(&out[1..]);
    assert!(code == ErrorCode::NegotiationFailed && message.contains("TURN"), "{code} {message}");
}

#[test]
fn a_peer_that_is_connected_stays_for_hours() {
    let mut client = Client::default();
    client.offers();
    client.is_answered(1);
    client.peer_says(1, PeerEvent::Connected);
    client.now += Duration::from_secs(36_000);
    assert_eq!(client.give(Input::Tick), []);
}
