//! What a viewer's webrtcbin reports, from its callbacks to the viewer's owner.
//!
//! In here: the senders that callbacks hold, the candidates in an answer, and the task that passes events on and joins
//! the stream when the connection stands. Not in here: the pipeline.
//! Runs on: callbacks on GStreamer's threads, which never wait; the task on tokio.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_webrtc as gst_webrtc;
use gstreamer_webrtc::WebRTCPeerConnectionState as State;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connection::Connection;
use super::transport::Transport;
use crate::ids::ViewerId;
use crate::media::encryption_check::describe;
use crate::media::ice::told::Told;
use crate::media::pipeline::BusReport;
use crate::session::{IceCandidate, NetworkFigures, PeerEvent};

/// How long the answer waits for our host candidates; they are there in a few milliseconds, those from STUN trickle.
pub const GATHERING_TIME: Duration = Duration::from_millis(150);
/// ICE may find another path after a network change; then the viewer goes on.
pub const RECONNECT_TIME: Duration = Duration::from_secs(6);
/// Candidates waiting to be sent; a machine with many addresses has a few dozen, and one lost of so many is no loss.
const CANDIDATES: usize = 64;
/// How often a viewer's counts and RTCP reports go into the metrics.
const SAMPLED: Duration = Duration::from_secs(10);
/// How often what its network carries is looked at, and how often it may be told.
const LOOKED_AT: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(2);

/// What webrtcbin's and the bus's callbacks hold.
#[derive(Clone, Debug)]
pub struct Reports {
    candidates: mpsc::Sender<String>,
    pub(super) state: watch::Sender<State>,
    gathered: watch::Sender<bool>,
    failure: watch::Sender<Option<String>>,
}

/// The other ends.
#[derive(Debug)]
pub struct Inbox {
    /// What of the candidates is passed on.
    pub(super) told: Told,
    candidates: mpsc::Receiver<String>,
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
        Inbox {
            told: Told::All,
            candidates: candidate_inbox,
            state: state_inbox,
            gathered: gathered_inbox,
            failure: failure_inbox,
        },
    )
}

impl Reports {
    pub fn connect(&self, webrtc: &gst::Element) {
        let candidates = self.candidates.clone();
        webrtc.connect("on-ice-candidate", false, move |values| {
            // Not the m-line: one transport carries all, and webrtcbin numbers other lines than the client does.
            if let Some(Ok(text)) = values.get(2).map(|value| value.get::<String>()) {
                let _ = candidates.try_send(text);
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
            BusReport::Error { element, message } => self.fail(describe(&element, &message)),
            BusReport::EndOfStream => self.fail("the session's stream ended".to_owned()),
        }
    }

    /// The first failure is the reason; those after it are what it stopped.
    fn fail(&self, reason: String) {
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert(reason);
            is_first
        });
    }
}

impl Inbox {
    /// Candidates found in this time, to be put into a description for clients that take none later, and whether they
    /// are all.
    pub async fn gather(&mut self, time: Duration) -> (Vec<String>, bool) {
        let complete = tokio::time::timeout(time, until_true(&mut self.gathered)).await;
        let complete = matches!(complete, Ok(Ok(())));
        let mut found = Vec::new();
        while let Ok(candidate) = self.candidates.try_recv() {
            found.extend(self.told.lines(candidate));
        }
        (found, complete)
    }

    /// Waits for libnice's socket on loopback; `None` if it will have none.
    pub(super) async fn on_loopback(&mut self) -> Option<SocketAddr> {
        loop {
            let candidate = self.candidates.recv().await?;
            let mut words = candidate.split(' ').skip(2);
            let (transport, _, address, port) = (words.next(), words.next(), words.next(), words.next());
            let at = address
                .zip(port)
                .and_then(|(address, port)| Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?)));
            if let Some(at) = at.filter(|at| at.ip().is_loopback() && transport == Some("UDP")) {
                return Some(at);
            }
        }
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
    /// `m_line` is the client's line that our candidates are for.
    pub(super) async fn run(
        mut self,
        id: ViewerId,
        m_line: u32,
        connection: Weak<Connection>,
        mut encode_failure: watch::Receiver<Option<String>>,
        events: mpsc::Sender<PeerEvent>,
    ) {
        // How long a peer may take to connect is the signalling's to say.
        let mut lost: Option<Instant> = None;
        let (mut told_gathered, mut told_connected) = (false, false);
        let mut samples = tokio::time::interval_at(Instant::now() + SAMPLED, SAMPLED);
        samples.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = tokio::time::interval_at(Instant::now() + LOOKED_AT, LOOKED_AT);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut told_network, mut may_tell) = (None::<NetworkFigures>, Instant::now() + TOLD);
        let transport = connection.upgrade().map(|connection| Arc::clone(&connection.transport));
        let reason = loop {
            let at = lost.unwrap_or_else(|| Instant::now() + RECONNECT_TIME);
            tokio::select! {
                biased;
                Some(candidate) = self.candidates.recv() => {
                    for candidate in self.told.lines(candidate) {
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
                            lost = None;
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
                            lost = Some(Instant::now() + RECONNECT_TIME);
                        }
                        _ => {
                            if let Some(reason) = end(state) {
                                break reason.to_owned();
                            }
                        }
                    }
                }
                _ = samples.tick(), if told_connected => {
                    if let Some(connection) = connection.upgrade() {
                        connection.sample().await;
                    }
                }
                _ = looks.tick(), if told_connected && lost.is_none() => {
                    let Some(connection) = connection.upgrade() else { return };
                    connection.adapt();
                    let now = Instant::now();
                    if now >= may_tell {
                        let figures = connection.figures();
                        if told_network.as_ref().is_none_or(|before| figures.are_news_to(before)) {
                            // One that finds no room is followed by others.
                            let _ = events.try_send(PeerEvent::Network(figures.clone()));
                            told_network = Some(figures);
                        }
                        may_tell = now + TOLD;
                    }
                }
                () = until_worse(transport.as_deref()), if told_connected && lost.is_none() => {
                    let Some(connection) = connection.upgrade() else { return };
                    connection.adapt();
                }
                () = tokio::time::sleep_until(at), if lost.is_some() => break "the connection was lost".to_owned(),
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

/// Never, without a path.
async fn until_worse(transport: Option<&Transport>) {
    match transport {
        Some(transport) => transport.worse().await,
        None => std::future::pending().await,
    }
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
