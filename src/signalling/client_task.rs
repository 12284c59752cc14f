//! One client: its socket, its signalling, its peer and the session it takes part in.
//!
//! In here: waiting for all of them at once and carrying out what the signalling decides.
//! Not in here: any decision (`client`), frames and time limits of the socket (`socket`), how sessions are made.
//! Runs on: one tokio task per client, spawned and awaited by the listener.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, field, info, info_span};

use super::client::{ClientState, CloseReason, Input, OfferNumber, Output, Turn};
use super::guard::PermittedSessions;
use super::guard::door::{Door, enter};
use super::handshake::JoinRequest;
use super::protocol::{PROTOCOL_VERSION, ServerMessage, clipped};
use super::socket::{Socket, SocketEvent};
use crate::access::{Grant, Permission};
use crate::metrics;
use crate::session::{
    AvatarInfo, ErrorCode, Notice, NoticeReceiver, NoticeSender, Outputs, Peer, PeerEvent, Refusal, Session, Sessions,
};

/// Notices waiting for this client: a reply streams in tens of pieces a second, and a client that reads takes them in
/// milliseconds.
const NOTICES: usize = 64;

/// Events of a peer: the candidates of a host with many networks, all at once, while the answer is being made.
const PEER_EVENTS: usize = 64;

/// Opening a session reads an avatar from disk; a client waits no longer than this.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the signalling looks at its time limits, which are seconds long.
const TICK: Duration = Duration::from_secs(1);

struct Opening {
    offer: OfferNumber,
    peer: BoxFuture<'static, Result<Box<dyn Peer>, Refusal>>,
    events: mpsc::Receiver<PeerEvent>,
}

struct Opened {
    offer: OfferNumber,
    peer: Box<dyn Peer>,
    events: mpsc::Receiver<PeerEvent>,
    span: Span,
}

struct Connection<S> {
    socket: Socket<S>,
    signalling: ClientState,
    session: Arc<dyn Session>,
    grant: Arc<Grant>,
    opened_at: Instant,
    opening: Option<Opening>,
    /// Open, while the signalling decides whether it takes the place of the peer.
    arrived: Option<Opened>,
    peer: Option<Opened>,
    /// The avatar that this client has asked for and does not see yet. Dropped, it is given up.
    swapping: Option<BoxFuture<'static, Result<AvatarInfo, Refusal>>>,
    /// The output that this client has asked to start or stop, until that is done.
    ordering: Option<BoxFuture<'static, Result<(), Refusal>>>,
    closing: Option<CloseReason>,
}

/// Serves one client until it leaves, is closed, or `shutdown` is cancelled.
pub async fn run<S>(
    stream: WebSocketStream<S>,
    sessions: Arc<dyn Sessions>,
    door: Door,
    request: Result<JoinRequest, Refusal>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let span = info_span!("client", session = field::Empty);
    Box::pin(serve(Socket::new(stream), sessions, door, request, shutdown)).instrument(span).await;
}

async fn serve<S>(
    mut socket: Socket<S>,
    sessions: Arc<dyn Sessions>,
    door: Door,
    request: Result<JoinRequest, Refusal>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (notice_sender, notices) = crate::session::notice_queue(NOTICES);
    let entering = async {
        let grant = enter(&mut socket, door).await?;
        let sessions = PermittedSessions { sessions, grant: Arc::clone(&grant) };
        let session = join(&sessions, request, notice_sender).await?;
        Ok((session, grant))
    };
    let joined = match shutdown.run_until_cancelled(entering).await {
        Some(joined) => joined,
        None => Err(Refusal { code: ErrorCode::ShuttingDown, message: "the server is shutting down".to_owned() }),
    };
    let (session, grant) = match joined {
        Ok((session, grant)) => (Arc::<dyn Session>::from(session), grant),
        Err(error) => {
            info!(code = %error.code, "client refused");
            send(&mut socket, &ServerMessage::fatal(error.code, error.message));
            let reason = match error.code {
                ErrorCode::ShuttingDown => CloseReason::GoingAway,
                _ => CloseReason::Policy,
            };
            return socket.close(reason.status(), "refused").await;
        }
    };
    Span::current().record("session", field::display(session.id()));
    info!("client joined");
    send(
        &mut socket,
        &ServerMessage::Session {
            session_id: session.id().to_string(),
            protocol: PROTOCOL_VERSION,
            avatar: session.avatar().into(),
            ice_servers: session.ice_servers(),
            ice_transport_policy: session.relay_only().then(|| "relay".to_owned()),
            listens: session.listens(),
        },
    );
    let outputs = session.outputs();
    if outputs.allowed() {
        send(&mut socket, &Notice::Outputs(outputs.list()).into());
    }
    let connection = Connection {
        socket,
        signalling: ClientState::default(),
        session,
        grant,
        opened_at: Instant::now(),
        opening: None,
        arrived: None,
        peer: None,
        swapping: None,
        ordering: None,
        closing: None,
    };
    connection.run(notices, shutdown).await;
}

async fn join(
    sessions: &dyn Sessions,
    request: Result<JoinRequest, Refusal>,
    notices: NoticeSender,
) -> Result<Box<dyn Session>, Refusal> {
    let JoinRequest { avatar, name } = request?;
    match timeout(JOIN_TIMEOUT, sessions.join(avatar, name, notices)).await {
        Ok(joined) => joined,
        Err(_) => Err(Refusal {
            code: ErrorCode::Busy,
            message: format!("no session within {} s: connect again in a while", JOIN_TIMEOUT.as_secs()),
        }),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    async fn run(mut self, mut notices: NoticeReceiver, shutdown: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.closing.is_none() {
            let room = self.socket.has_room();
            tokio::select! {
                () = shutdown.cancelled() => self.give(Input::Shutdown).await,
                event = self.socket.next() => match event {
                    SocketEvent::Text(text) => self.give(Input::Text(&text)).await,
                    SocketEvent::Binary(bytes) => self.give(Input::Binary(&bytes)).await,
                    SocketEvent::Unreadable(unreadable) => self.give(Input::Unreadable(unreadable)).await,
                    SocketEvent::Closed { reason } => {
                        info!(reason, "client left");
                        break;
                    }
                },
                () = self.grant.ended() => {
                    let message = "the token has ended: connect again with another one".to_owned();
                    self.give(Input::Notice(Notice::Error { code: ErrorCode::TokenEnded, message, fatal: true })).await;
                }
                notice = notices.recv(), if room => match notice {
                    Some(Notice::Outputs(_)) if !self.grant.may(Permission::Administer) => {}
                    Some(notice) => self.give(Input::Notice(notice)).await,
                    None => self.give(Input::SessionEnded).await,
                },
                (offer, events, peer) = opened(&mut self.opening) => self.peer_opened(offer, events, peer).await,
                (offer, event) = next_event(&mut self.peer), if room => {
                    self.give(Input::PeerEvent { offer, event }).await;
                }
                swapped = done(&mut self.swapping) => self.heed(swapped.map(drop)).await,
                ordered = done(&mut self.ordering) => self.heed(ordered).await,
                _ = ticks.tick() => self.give(Input::Tick).await,
            }
        }
        self.give(Input::Disconnected).await;
        let Self { socket, session, swapping, ordering, closing, .. } = self;
        // Leaving may stop pipelines, and that waits for their threads.
        let leaving = spawn_blocking(move || drop((swapping, ordering, session)));
        if let Some(reason) = closing {
            info!(status = reason.status(), "client closed");
            socket.close(reason.status(), "see the error message before").await;
        }
        let _ = leaving.await;
    }

    async fn peer_opened(
        &mut self,
        offer: OfferNumber,
        events: mpsc::Receiver<PeerEvent>,
        peer: Result<Box<dyn Peer>, Refusal>,
    ) {
        let answer = peer.map(|peer| {
            let answer = peer.answer().to_owned();
            let span = info_span!("viewer", viewer = %peer.id());
            span.in_scope(|| info!("peer opened"));
            self.arrived = Some(Opened { offer, peer, events, span });
            answer
        });
        self.give(Input::PeerOpened { offer, answer }).await;
        drop_peer(self.arrived.take()).await;
    }

    /// Of what is done, all clients of the session are told.
    async fn heed(&mut self, outcome: Result<(), Refusal>) {
        if let Err(refusal) = outcome {
            self.give(Input::Refused { turn: Turn::Text, id: None, refusal }).await;
        }
    }

    /// Has the signalling decide on an input and carries out what it decides.
    async fn give(&mut self, input: Input<'_>) {
        if let (Input::PeerEvent { event, .. }, Some(peer)) = (&input, &self.peer) {
            peer.span.in_scope(|| match event {
                PeerEvent::Candidate(_) => debug!("local candidate"),
                PeerEvent::Connected => info!("peer connected"),
                PeerEvent::Network(figures) => debug!(?figures, "the network to the peer"),
                PeerEvent::Closed { reason } => info!(reason, "peer closed"),
            });
        }
        let now = self.opened_at.elapsed();
        let mut decided = Vec::new();
        self.signalling.handle(now, input, &mut decided);
        if let Some(kind) = self.signalling.take_received() {
            metrics::message_received(kind);
        }
        let mut outputs = VecDeque::from(decided);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Send(message) => send(&mut self.socket, &message),
                Output::OpenPeer { offer, sdp } => {
                    if let Some(answer) = self.open_peer(offer, sdp) {
                        let mut more = Vec::new();
                        self.signalling.handle(now, Input::Renegotiated { offer, answer }, &mut more);
                        outputs.extend(more);
                    }
                }
                Output::GiveUpOffer => self.opening = None,
                Output::TakePeer => {
                    let before = std::mem::replace(&mut self.peer, self.arrived.take());
                    drop_peer(before).await;
                }
                Output::ClosePeer => drop_peer(self.peer.take()).await,
                Output::AddCandidate(candidate) => {
                    if let Some(opened) = &self.peer {
                        opened.peer.add_candidate(&candidate);
                    }
                }
                Output::PushToTalk { is_pressed } => {
                    if let Some(opened) = &self.peer {
                        opened.peer.push_to_talk(is_pressed);
                    }
                }
                Output::SwapAvatar(id) => self.swapping = Some(self.session.swap_avatar(id)),
                Output::StartOutput(order) => {
                    let work = |of: Arc<dyn Outputs>| async move { of.start(order).await.map(drop) };
                    outputs.extend(self.order(now, work));
                }
                Output::StopOutput(id) => {
                    let work = |of: Arc<dyn Outputs>| async move {
                        let unknown =
                            || format!("output_stop.output_id: the session has no output {:?}", clipped(&id, 80));
                        let is_stopped = of.stop(&id).await;
                        is_stopped.then_some(()).ok_or_else(|| Refusal::new(ErrorCode::BadOutput, unknown()))
                    };
                    outputs.extend(self.order(now, work));
                }
                Output::Submit(turn, command) => {
                    let id = command.id().map(str::to_owned);
                    if let Err(refusal) = self.session.submit(command) {
                        let mut more = Vec::new();
                        self.signalling.handle(now, Input::Refused { turn, id, refusal }, &mut more);
                        outputs.extend(more);
                    }
                }
                Output::Close(reason) => self.closing = Some(reason),
            }
        }
    }

    /// Has an output started or stopped, unless the server does not allow it or another is in hand.
    fn order<W>(&mut self, now: Duration, work: impl FnOnce(Arc<dyn Outputs>) -> W) -> Vec<Output>
    where
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let outputs = self.session.outputs();
        let refusal = if !outputs.allowed() {
            let message = "this client may not start or stop outputs: the server's settings may allow it (allow_outputs = true), and \
                           so must a token, where there are tokens (administer)";
            Refusal::new(ErrorCode::OutputsOff, message)
        } else if self.ordering.is_some() {
            Refusal::new(ErrorCode::Busy, "an output is being started or stopped already: wait for that")
        } else {
            self.ordering = Some(Box::pin(work(outputs)));
            return Vec::new();
        };
        let mut more = Vec::new();
        self.signalling.handle(now, Input::Refused { turn: Turn::Text, id: None, refusal }, &mut more);
        more
    }

    /// Has the peer that is there answer, if the offer is of the same connection; else a new one is opened.
    fn open_peer(&mut self, offer: OfferNumber, sdp: String) -> Option<Result<String, Refusal>> {
        self.opening = None;
        let answer = self.peer.as_ref().and_then(|opened| opened.span.in_scope(|| opened.peer.renegotiate(&sdp)));
        if answer.is_none() {
            let (sender, events) = mpsc::channel(PEER_EVENTS);
            let session = Arc::clone(&self.session);
            let peer = Box::pin(async move { session.open_peer(sdp, sender).await });
            self.opening = Some(Opening { offer, peer, events });
        }
        answer
    }
}

/// Stopping a pipeline waits for its threads; a worker of the runtime must not.
async fn drop_peer(opened: Option<Opened>) {
    if let Some(Opened { peer, span, .. }) = opened {
        let _ = spawn_blocking(move || span.in_scope(|| drop(peer))).await;
    }
}

/// The outcome of the offer in hand; waits for ever while there is none.
async fn opened(
    opening: &mut Option<Opening>,
) -> (OfferNumber, mpsc::Receiver<PeerEvent>, Result<Box<dyn Peer>, Refusal>) {
    let Some(waiting) = opening else {
        return std::future::pending().await;
    };
    let peer = waiting.peer.as_mut().await;
    match opening.take() {
        Some(Opening { offer, events, .. }) => (offer, events, peer),
        None => std::future::pending().await,
    }
}

/// The outcome of what is in hand; waits for ever while that is nothing.
async fn done<T>(in_hand: &mut Option<BoxFuture<'static, Result<T, Refusal>>>) -> Result<T, Refusal> {
    let Some(work) = in_hand else { return std::future::pending().await };
    let outcome = work.await;
    *in_hand = None;
    outcome
}

/// The next event of the peer; waits for ever while there is none. Events that come before the answer wait in their
/// channel until then.
async fn next_event(peer: &mut Option<Opened>) -> (OfferNumber, PeerEvent) {
    let Some(Opened { offer, events, .. }) = peer else {
        return std::future::pending().await;
    };
    let event = events.recv().await;
    (*offer, event.unwrap_or_else(|| PeerEvent::Closed { reason: "its pipeline has ended".to_owned() }))
}

fn send<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>, message: &ServerMessage) {
    metrics::message_sent(message.kind());
    if let ServerMessage::Error { code, fatal, .. } = message {
        // Not the message: it may quote what the client wrote.
        debug!(%code, fatal, "error told to the client");
        metrics::error_told(code.to_string());
    }
    socket.send(message.to_json());
}
