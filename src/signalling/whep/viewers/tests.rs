//! Waiting for candidates, for a connection and for the end, in a time of the tests' own.

use super::*;
use crate::session::IceCandidate;

fn found(candidate: &str) -> PeerEvent {
    PeerEvent::Candidate(Some(IceCandidate {
        candidate: candidate.to_owned(),
        sdp_mid: None,
        sdp_m_line_index: Some(0),
        username_fragment: None,
    }))
}

const ANSWER: &str = "v=0\r\nm=video 9 X 96\r\na=mid:0\r\n";

#[tokio::test(start_paused = true)]
async fn a_viewer_that_never_connects_is_given_up_and_one_that_has_connected_is_not() {
    let (_told, mut notices) = notice_queue(NOTICES);
    let (events, mut inbox) = mpsc::channel(4);
    let began = Instant::now();
    let reason = over(&mut inbox, &mut notices, began + CONNECT_TIMEOUT).await;
    assert!(reason.contains("did not connect") && began.elapsed() == CONNECT_TIMEOUT, "{reason}");
    events.try_send(PeerEvent::Connected).unwrap();
    let connected = over(&mut inbox, &mut notices, Instant::now() + CONNECT_TIMEOUT);
    assert!(timeout(CONNECT_TIMEOUT * 10, connected).await.is_err(), "it goes on");
    events.try_send(PeerEvent::Closed { reason: "gone".to_owned() }).unwrap();
    assert_eq!(over(&mut inbox, &mut notices, Instant::now() + CONNECT_TIMEOUT).await, "gone");
}

#[tokio::test(start_paused = true)]
async fn the_answer_waits_for_the_last_candidate_but_not_for_ever() {
    let (events, mut inbox) = mpsc::channel(4);
    for event in [found("candidate:1"), found("candidate:2 tcptype active"), PeerEvent::Candidate(None)] {
        events.try_send(event).unwrap();
    }
    let began = Instant::now();
    let whole = whole_answer(ANSWER, &mut inbox).await;
    assert_eq!(whole, format!("{ANSWER}a=candidate:1\r\na=end-of-candidates\r\n"));
    assert_eq!(whole_answer(&whole, &mut inbox).await, whole, "nothing is missing");
    assert_eq!(began.elapsed(), Duration::ZERO);
    events.try_send(found("candidate:1")).unwrap();
    assert_eq!(whole_answer(ANSWER, &mut inbox).await, format!("{ANSWER}a=candidate:1\r\n"));
    assert_eq!(began.elapsed(), GATHERING_TIME);
}

#[tokio::test]
async fn a_session_that_ends_ends_its_viewers() {
    let (told, mut notices) = notice_queue(NOTICES);
    let (_events, mut inbox) = mpsc::channel(4);
    told.tell(Notice::Error { code: ErrorCode::LipSyncFailed, message: "broken".to_owned(), fatal: true });
    let by = Instant::now() + CONNECT_TIMEOUT;
    assert_eq!(over(&mut inbox, &mut notices, by).await, "broken");
    drop(told);
    assert_eq!(over(&mut inbox, &mut notices, by).await, "the session has ended");
}
