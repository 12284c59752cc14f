//! What a viewer's webrtcbin reports, from its callbacks to the viewer's owner.
//!
//! In here: the senders that callbacks hold, the candidates in an answer, and the task that passes events on and joins
//! the stream when the connection stands. Not in here: the pipeline.
//! Runs on: callbacks on GStreamer's threads, which never wait; the task on tokio.

use std::sync::Weak;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_webrtc as gst_webrtc;
use gstreamer_webrtc::WebRTCPeerConnectionState as State;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Connection;
use crate::ids::ViewerId;
use crate::media::pipeline::BusReport;
use crate::signalling::{IceCandidate, PeerEvent};

/// How long the answer waits for our host candidates; they are there in a few milliseconds, those from STUN trickle.
const GATHERING_TIME: Duration = Duration::from_millis(150);
/// A peer that takes our answer and then never connects is not held for longer than this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// ICE may find another path after a network change; then the viewer goes on.
pub const RECONNECT_TIME: Duration = Duration::from_secs(6);
/// Candidates waiting to be sent; a machine with many addresses has a few dozen, and one lost of so many is no loss.
const CANDIDATES: usize = 64;

/// What webrtcbin's and the bus's callbacks hold.
#[derive(Clone, Debug)]
pub struct Reports {
    candidates: mpsc::Sender<(u32, String)>,
    pub(super) state: watch::Sender<State>,
    gathered: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
}

/// The other ends.
#[derive(Debug)]
pub struct Inbox {
    candidates: mpsc::Receiver<(u32, String)>,
    state: watch::Receiver<State>,
    gathered: watch::Receiver<bool>,
    failure: watch::Receiver<Option<String>>,
}

pub fn reports() -> (Reports, Inbox) {
    let (candidates, candidate_inbox) = mpsc::channel(CANDIDATES);
    let (state, state_inbox) = watch::channel(State::New);
    let (gathered, gathered_inbox) = watch::channel(false);
    let (failure, failure_inbox) = watch::channel(None);
    (
        Reports { candidates, state, gathered, failure },
        Inbox { candidates: candidate_inbox, state: state_inbox, gathered: gathered_inbox, failure: failure_inbox },
    )
}

impl Reports {
    pub fn connect(&self, webrtc: &gst::Element) {
        let candidates = self.candidates.clone();
        webrtc.connect("on-ice-candidate", false, move |values| {
            if let (Some(Ok(m_line)), Some(Ok(text))) =
                (values.get(1).map(|value| value.get::<u32>()), values.get(2).map(|value| value.get::<String>()))
            {
                let _ = candidates.try_send((m_line, text));
            }
            None
        });
        let gathered = self.gathered.clone();
        webrtc.connect_notify(Some("ice-gathering-state"), move |webrtc, _| {
            let state = webrtc.property::<gst_webrtc::WebRTCICEGatheringState>("ice-gathering-state");
            if state == gst_webrtc::WebRTCICEGatheringState::Complete {
                gathered.send_replace(true);
            }
        });
        let state = self.state.clone();
        webrtc.connect_notify(Some("connection-state"), move |webrtc, _| {
            state.send_replace(webrtc.property("connection-state"));
        });
    }

    pub fn bus(&self, report: BusReport) {
        match report {
            // A browser that closes with a data channel open ends its SCTP association with an error. Nothing is lost.
            BusReport::Error { element, .. } if element.contains("sctp") => {}
            BusReport::Error { element, message } => {
                self.failure.send_replace(Some(format!("{element}: {message}")));
            }
            BusReport::EndOfStream => {
                self.failure.send_replace(Some("the session's stream ended".to_owned()));
            }
        }
    }
}

impl Inbox {
    /// Puts the candidates found in a short time into the answer, for clients that take none later.
    pub async fn gather(&mut self, answer: &mut String) {
        let complete = tokio::time::timeout(GATHERING_TIME, until_true(&mut self.gathered)).await;
        let complete = matches!(complete, Ok(Ok(())));
        let mut found = Vec::new();
        while let Ok(candidate) = self.candidates.try_recv() {
            found.push(candidate);
        }
        *answer = with_candidates(answer, &found, complete);
    }

    /// Waits until the connection is over, and says why.
    pub async fn ended(&mut self) -> String {
        tokio::select! {
            Some(reason) = until_told(&mut self.failure) => reason,
            Some(reason) = until_over(&mut self.state) => reason.to_owned(),
            else => "webrtcbin is gone".to_owned(),
        }
    }

    /// Passes on what webrtcbin reports until the peer is gone or `encode_failure`, of what it watches, tells a reason.
    pub(super) async fn run(
        mut self,
        id: ViewerId,
        connection: Weak<Connection>,
        mut encode_failure: watch::Receiver<Option<String>>,
        events: mpsc::Sender<PeerEvent>,
    ) {
        let mut deadline = Some((Instant::now() + CONNECT_TIMEOUT, "the peer took the answer and never connected"));
        let (mut told_gathered, mut told_connected) = (false, false);
        let reason = loop {
            let at = deadline.map_or_else(|| Instant::now() + CONNECT_TIMEOUT, |(at, _)| at);
            tokio::select! {
                biased;
                Some((m_line, candidate)) = self.candidates.recv() => {
                    let candidate = IceCandidate {
                        candidate,
                        sdp_mid: None,
                        sdp_m_line_index: Some(m_line),
                        username_fragment: None,
                    };
                    if events.send(PeerEvent::Candidate(Some(candidate))).await.is_err() {
                        return;
                    }
                }
                Ok(()) = until_true(&mut self.gathered), if !told_gathered => {
                    told_gathered = true;
                    if events.send(PeerEvent::Candidate(None)).await.is_err() {
                        return;
                    }
                }
                Some(reason) = until_told(&mut self.failure) => break reason,
                Some(reason) = until_told(&mut encode_failure) => break reason,
                Ok(()) = self.state.changed() => {
                    let state = *self.state.borrow_and_update();
                    tracing::debug!(viewer = %id, ?state, "peer connection");
                    match state {
                        State::Connected => {
                            deadline = None;
                            let Some(connection) = connection.upgrade() else { return };
                            connection.join();
                            drop(connection);
                            let again = std::mem::replace(&mut told_connected, true);
                            if !again && events.send(PeerEvent::Connected).await.is_err() {
                                return;
                            }
                        }
                        State::Disconnected => {
                            // Somebody who receives nothing must not make everybody's key frames.
                            if let Some(connection) = connection.upgrade() {
                                connection.leave();
                            }
                            deadline = Some((Instant::now() + RECONNECT_TIME, "the connection was lost"));
                        }
                        _ => {
                            if let Some(reason) = end(state) {
                                break reason.to_owned();
                            }
                        }
                    }
                }
                () = tokio::time::sleep_until(at) => {
                    if let Some((_, reason)) = deadline {
                        break reason.to_owned();
                    }
                }
                else => return,
            }
        };
        if let Some(connection) = connection.upgrade() {
            connection.leave();
        }
        // The receiver is gone when the connection that owns this viewer is.
        let _ = events.send(PeerEvent::Closed { reason }).await;
    }
}

async fn until_true(flag: &mut watch::Receiver<bool>) -> Result<(), watch::error::RecvError> {
    flag.wait_for(|is_true| *is_true).await.map(|_| ())
}

/// Why a peer in this state is not coming back, if it is not.
fn end(state: State) -> Option<&'static str> {
    match state {
        State::Failed => Some("no network path to the peer: ICE or DTLS failed"),
        State::Closed => Some("the peer closed the connection"),
        _ => None,
    }
}

async fn until_over(state: &mut watch::Receiver<State>) -> Option<&'static str> {
    end(*state.wait_for(|state| end(*state).is_some()).await.ok()?)
}

/// `None` if nobody is left to tell.
async fn until_told(failure: &mut watch::Receiver<Option<String>>) -> Option<String> {
    failure.wait_for(Option::is_some).await.ok()?.clone()
}

/// The answer with `a=candidate` lines at the end of their m-sections.
pub fn with_candidates(answer: &str, candidates: &[(u32, String)], complete: bool) -> String {
    let mut sections: Vec<String> = Vec::new();
    for line in answer.lines() {
        if line.starts_with("m=") || sections.is_empty() {
            sections.push(String::new());
        }
        if let Some(section) = sections.last_mut() {
            section.push_str(line);
            section.push_str("\r\n");
        }
    }
    for (m_line, candidate) in candidates {
        // Browsers connect to us; a candidate that would connect to them is no use to them.
        if candidate.contains("tcptype active") {
            continue;
        }
        // Section 0 is the session's own.
        if let Some(section) = sections.get_mut(*m_line as usize + 1) {
            section.push_str("a=");
            section.push_str(candidate.trim_start_matches("a="));
            section.push_str("\r\n");
        }
    }
    if let Some(section) = sections.get_mut(1).filter(|_| complete) {
        section.push_str("a=end-of-candidates\r\n");
    }
    sections.concat()
}
