//! The viewers that came by WHEP, until they leave: there is no socket by whose end their leaving would show.
//!
//! In here: opening, finding and ending them, our candidates, how long one may take to connect. Not in here: HTTP (`whep`),
//! peers (`media`). Runs on: one task a viewer, tracked by the listener, which holds the viewer's session and its place among
//! the server's connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

use super::description::{Fragment, IceSession, is_complete, with_candidates, with_exclusive_mux};
use crate::access::Grant;
use crate::ids::AvatarId;
use crate::session::{
    AvatarInfo, ErrorCode, IceServer, Notice, NoticeReceiver, Peer, PeerEvent, Refusal, Session, Sessions, notice_queue,
};
use crate::signalling::guard::PermittedSessions;
use crate::signalling::limits::{ANSWER_TIMEOUT, CANDIDATES_PER_OFFER, CONNECT_TIMEOUT};
use crate::signalling::listener::{Shared, spawn};
use crate::signalling::quota::ConnectionSlot;

/// How long the answer waits for the last of our candidates. Those of a STUN or TURN server that answers come in two round
/// trips; one that does not is waited for in vain by every viewer.
const GATHERING_TIME: Duration = Duration::from_secs(2);
/// Events of a peer: the candidates of a host with many networks, all at once.
const PEER_EVENTS: usize = 64;
/// Of what a session tells, only its end is of use to somebody who cannot be told anything.
const NOTICES: usize = 1;

#[derive(Default)]
pub struct WhepViewers(Mutex<HashMap<String, Arc<WhepViewer>>>);

/// One of them, as its URL knows it.
pub struct WhepViewer {
    /// Not to be guessed: whoever knows it may end the viewer.
    id: String,
    /// What the server calls its session.
    session: String,
    etag: String,
    ice: IceSession,
    taken: Mutex<Taken>,
    ended: CancellationToken,
}

struct Taken {
    /// `None` once the viewer has ended.
    peer: Option<Box<dyn Peer>>,
    candidates: usize,
}

/// What a player is told of the viewer that it has become.
pub struct Watching {
    pub path: String,
    pub etag: String,
    pub answer: String,
    pub ice_servers: Vec<IceServer>,
    /// Whom it sees first.
    pub avatar: AvatarInfo,
}

/// Why somebody does not become a viewer.
#[derive(Debug)]
pub enum Unwatched {
    /// No session of this name is open.
    NotLive,
    Refused(Refusal),
}

impl From<Refusal> for Unwatched {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers an offer for a session that is open. `slot` is held for as long as the viewer is there.
pub async fn open(
    shared: &Arc<Shared>,
    sessions: PermittedSessions,
    (avatar, session): (Option<AvatarId>, String),
    offer: String,
    slot: ConnectionSlot,
) -> Result<Watching, Unwatched> {
    let (answered, answer) = oneshot::channel();
    let holder = Arc::clone(shared);
    let span = info_span!("whep", session = tracing::field::Empty, viewer = tracing::field::Empty);
    // On a task of its own: whoever asked may be gone before it is answered, and a peer is not let go on a worker.
    let work = async move {
        let _slot = slot;
        match Viewing::begin(sessions, avatar, session, &offer).await {
            Ok((viewing, watching)) => viewing.run(&holder, answered, watching).await,
            // Nobody waits for it any more, if it cannot be told.
            Err(unwatched) => drop(answered.send(Err(unwatched))),
        }
    };
    spawn(shared, work.instrument(span));
    answer.await.unwrap_or_else(|_| Err(shutting_down().into()))
}

fn shutting_down() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "the server is shutting down")
}

/// A viewer and what its task holds.
struct Viewing {
    viewer: Arc<WhepViewer>,
    session: Box<dyn Session>,
    notices: NoticeReceiver,
    events: mpsc::Receiver<PeerEvent>,
    grant: Arc<Grant>,
}

impl Viewing {
    async fn begin(
        sessions: PermittedSessions,
        avatar: Option<AvatarId>,
        name: String,
        offer: &str,
    ) -> Result<(Self, Watching), Unwatched> {
        let (sender, notices) = notice_queue(NOTICES);
        let session = sessions.watch(avatar, name.clone(), sender).await?.ok_or(Unwatched::NotLive)?;
        let (sender, mut events) = mpsc::channel(PEER_EVENTS);
        let peer = timeout(ANSWER_TIMEOUT, session.open_peer(offer.to_owned(), sender)).await.map_err(|_| {
            let message = format!("no answer within {} s: offer again", ANSWER_TIMEOUT.as_secs());
            Refusal::new(ErrorCode::Busy, message)
        })??;
        let answer = whole_answer(peer.answer(), &mut events).await;
        let answer = with_exclusive_mux(&answer, offer);
        tracing::Span::current().record("session", tracing::field::display(session.id()));
        tracing::Span::current().record("viewer", tracing::field::display(peer.id()));
        let id = format!("{:032x}", rand::random::<u128>());
        let watching = Watching {
            path: format!("/whep/{name}/{id}"),
            etag: format!("\"{:016x}\"", rand::random::<u64>()),
            answer,
            ice_servers: session.ice_servers(),
            avatar: session.avatar(),
        };
        let viewer = Arc::new(WhepViewer {
            id,
            session: sessions.grant.inner_name(&name),
            etag: watching.etag.clone(),
            ice: IceSession::of(offer),
            taken: Mutex::new(Taken { peer: Some(peer), candidates: 0 }),
            ended: CancellationToken::new(),
        });
        Ok((Self { viewer, session, notices, events, grant: sessions.grant }, watching))
    }

    /// Until the viewer has left, however it does.
    async fn run(
        mut self,
        shared: &Shared,
        answered: oneshot::Sender<Result<Watching, Unwatched>>,
        watching: Watching,
    ) {
        let connect_by = Instant::now() + CONNECT_TIMEOUT;
        shared.whep.lock().insert(self.viewer.id.clone(), Arc::clone(&self.viewer));
        let reason = if answered.send(Ok(watching)).is_err() {
            "who asked did not wait for the answer".to_owned()
        } else {
            info!("a viewer came by WHEP");
            tokio::select! {
                () = self.viewer.ended.cancelled() => "ended by its player".to_owned(),
                () = shared.shutdown.cancelled() => "the server ends".to_owned(),
                () = self.grant.ended() => "its token has ended".to_owned(),
                reason = over(&mut self.events, &mut self.notices, connect_by) => reason,
            }
        };
        info!(reason, "the viewer is gone");
        shared.whep.lock().remove(&self.viewer.id);
        let peer = self.viewer.taken().peer.take();
        let session = self.session;
        // Stopping a pipeline waits for its threads; a worker of the runtime must not.
        let _ = spawn_blocking(move || drop((peer, session))).await;
    }
}

/// Our answer once all of our candidates are in it, or the time for them is over.
async fn whole_answer(answer: &str, events: &mut mpsc::Receiver<PeerEvent>) -> String {
    if is_complete(answer) {
        return answer.to_owned();
    }
    let by = Instant::now() + GATHERING_TIME;
    let (mut candidates, mut m_line, mut has_all) = (Vec::new(), 0, false);
    while let Ok(Some(event)) = timeout_at(by, events.recv()).await {
        match event {
            PeerEvent::Candidate(Some(candidate)) => {
                m_line = candidate.sdp_m_line_index.unwrap_or(0);
                // We connect to nobody over TCP.
                if !candidate.candidate.contains("tcptype active") {
                    candidates.push(candidate.candidate);
                }
            }
            PeerEvent::Candidate(None) => {
                has_all = true;
                break;
            }
            // A peer without an answer is no connection yet, and one that has closed closes its channel.
            PeerEvent::Connected | PeerEvent::Network(_) | PeerEvent::Closed { .. } => {}
        }
    }
    with_candidates(answer, usize::try_from(m_line).unwrap_or(0), &candidates, has_all)
}

/// Waits until the peer is over, and says why.
async fn over(events: &mut mpsc::Receiver<PeerEvent>, notices: &mut NoticeReceiver, connect_by: Instant) -> String {
    let mut is_connected = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(PeerEvent::Connected) => is_connected = true,
                Some(PeerEvent::Candidate(_) | PeerEvent::Network(_)) => {}
                Some(PeerEvent::Closed { reason }) => return reason,
                None => return "its pipeline has ended".to_owned(),
            },
            notice = notices.recv() => match notice {
                Some(Notice::Error { message, fatal: true, .. }) => return message,
                Some(_) => {}
                None => return "the session has ended".to_owned(),
            },
            () = sleep_until(connect_by), if !is_connected => {
                return format!("it did not connect within {} s", CONNECT_TIMEOUT.as_secs());
            }
        }
    }
}

impl WhepViewers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<WhepViewer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn find(&self, session: &str, id: &str) -> Option<Arc<WhepViewer>> {
        self.lock().get(id).filter(|viewer| viewer.session == session).cloned()
    }

    /// False if there is none of this name.
    pub fn end(&self, session: &str, id: &str) -> bool {
        let mut all = self.lock();
        let is_there = all.get(id).is_some_and(|viewer| viewer.session == session);
        let viewer = if is_there { all.remove(id) } else { None };
        drop(all);
        viewer.inspect(|viewer| viewer.ended.cancel()).is_some()
    }
}

impl WhepViewer {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of its ICE session, in double quotes.
    pub fn etag(&self) -> &str {
        &self.etag
    }

    /// Takes candidates of the player's, as many as one may have. False if they are of another ICE session.
    pub(super) fn add(&self, fragment: &Fragment) -> bool {
        let Some(candidates) = self.ice.candidates(fragment) else { return false };
        let mut taken = self.taken();
        let room = CANDIDATES_PER_OFFER.saturating_sub(taken.candidates);
        for candidate in candidates.iter().take(room) {
            taken.candidates += 1;
            if let Some(peer) = &taken.peer {
                peer.add_candidate(candidate);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
