//! A server whose sessions speak at once and in silence, and a client for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use mouthpiece::ids::{AvatarId, OutputId, PushId, SessionId, UtteranceId, ViewerId};
use mouthpiece::media::{DescriptionFault, FileState, PipelineFile};
use mouthpiece::picture::matte::MattePlace;
use mouthpiece::session::{
    AvatarInfo, Command, ErrorCode, IceCandidate, IceServer, Notice, NoticeSender, OutputInfo, OutputOrder,
    OutputState, Outputs, Peer, PeerEvent, PushInfo, PushOrder, PushState, Pushes, Refusal, Session, Sessions,
};
use mouthpiece::signalling::listener::{ListenerOptions, Readiness, SignallingError, serve};
use mouthpiece::signalling::pipelines::{PipelineApi, PipelineEditor};
use mouthpiece::signalling::quota::ConnectionLimits;
use mouthpiece::signalling::whep::WhepOptions;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::watchdog;

/// What the sessions have been asked for, and how many of what they gave are still held.
#[derive(Default)]
pub struct Ledger {
    pub joined: Mutex<Vec<(Option<AvatarId>, Option<String>)>>,
    pub commands: Mutex<Vec<Command>>,
    pub candidates: Mutex<Vec<IceCandidate>>,
    pub pushes: Mutex<Vec<(PushInfo, PushOrder)>>,
    pub offers: AtomicUsize,
    /// Clients whose microphones nobody hears.
    pub muted: AtomicUsize,
    pub sessions: AtomicUsize,
    pub peers: AtomicUsize,
    /// Of all sessions.
    pub outputs: Arc<FakeOutputs>,
    /// The way to every client that is there.
    pub notices: Mutex<Vec<NoticeSender>>,
    /// The way from every peer that was opened.
    pub events: Mutex<Vec<mpsc::Sender<PeerEvent>>>,
    /// Where the matte of the avatar is.
    pub matte: Mutex<Option<MattePlace>>,
    /// Why no session can be opened.
    pub full: Mutex<Option<String>>,
}

/// Knows the avatar `demo`, and `slow`, which is never loaded.
#[derive(Default)]
pub struct FakeSessions(pub Arc<Ledger>);

struct FakeSession {
    id: SessionId,
    notices: NoticeSender,
    ledger: Arc<Ledger>,
}

struct FakePushes(Arc<Ledger>);

struct FakePeer {
    id: ViewerId,
    answer: String,
    ledger: Arc<Ledger>,
}

impl Sessions for FakeSessions {
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>> {
        let ledger = Arc::clone(&self.0);
        Box::pin(async move {
            match avatar.as_ref().map(AvatarId::as_str) {
                Some("slow") => std::future::pending().await,
                None | Some("demo") => {}
                Some(other) => {
                    let message = format!("there is no avatar {other:?}: there is demo");
                    return Err(Refusal { code: ErrorCode::UnknownAvatar, message });
                }
            }
            ledger.joined.lock().unwrap().push((avatar, name));
            ledger.sessions.fetch_add(1, Ordering::SeqCst);
            ledger.notices.lock().unwrap().push(notices.clone());
            ledger.outputs.clients.lock().unwrap().push(notices.clone());
            Ok(Box::new(FakeSession { id: SessionId::next(), notices, ledger }) as Box<dyn Session>)
        })
    }

    /// Open are those that somebody has joined by their name, for ever.
    fn watch(
        &self,
        avatar: Option<AvatarId>,
        name: String,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Refusal>> {
        Box::pin(async move {
            let key = (avatar.clone(), Some(name.clone()));
            let is_open = self.0.joined.lock().unwrap().contains(&key);
            if is_open { self.join(avatar, Some(name), notices).await.map(Some) } else { Ok(None) }
        })
    }

    fn full(&self) -> Option<String> {
        self.0.full.lock().unwrap().clone()
    }
}

fn info(id: AvatarId) -> AvatarInfo {
    AvatarInfo {
        id,
        name: "Mika".to_owned(),
        width: 512,
        height: 512,
        fps: 25,
        matte: None,
        gestures: vec!["nod".to_owned()],
    }
}

impl Session for FakeSession {
    fn id(&self) -> SessionId {
        self.id
    }

    fn avatar(&self) -> AvatarInfo {
        AvatarInfo { matte: *self.ledger.matte.lock().unwrap(), ..info("demo".parse().unwrap()) }
    }

    fn listens(&self) -> bool {
        false
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        vec![IceServer { urls: vec!["stun:stun.example.org".to_owned()], username: None, credential: None }]
    }

    fn mute(&self) {
        self.ledger.muted.fetch_add(1, Ordering::SeqCst);
    }

    /// Answers an offer `X` with `answer to X`; one with `never` in it is not answered, one without `m=` refused. One with
    /// `gathers` in it is told after that when there are no more candidates.
    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        Box::pin(async move {
            self.ledger.offers.fetch_add(1, Ordering::SeqCst);
            if offer.contains("never") {
                return std::future::pending().await;
            }
            if offer.contains("malformed") {
                return Err(Refusal { code: ErrorCode::BadSdp, message: "the SDP was cut off".to_owned() });
            }
            if !offer.contains("m=") {
                let message = "the offer has no m= line: add recvonly transceivers".to_owned();
                return Err(Refusal { code: ErrorCode::OfferWithoutMedia, message });
            }
            // Before the answer, as a real peer gathers; it must not reach the client before the answer does.
            events.try_send(PeerEvent::Candidate(Some(candidate(7)))).unwrap();
            if offer.contains("gathers") {
                events.try_send(PeerEvent::Candidate(None)).unwrap();
            }
            self.ledger.events.lock().unwrap().push(events);
            self.ledger.peers.fetch_add(1, Ordering::SeqCst);
            let answer = format!("answer to {offer}");
            Ok(Box::new(FakePeer { id: ViewerId::next(), answer, ledger: Arc::clone(&self.ledger) }) as Box<dyn Peer>)
        })
    }

    /// There are "demo" and "anna"; "slow" is never loaded.
    fn swap_avatar(&self, id: AvatarId) -> BoxFuture<'static, Result<AvatarInfo, Refusal>> {
        let notices = self.notices.clone();
        Box::pin(async move {
            match id.as_str() {
                "demo" | "anna" => {
                    let _ = notices.tell(Notice::Avatar(info(id.clone())));
                    Ok(info(id))
                }
                "slow" => std::future::pending().await,
                _ => Err(Refusal::new(ErrorCode::UnknownAvatar, format!("avatar \"{id}\" does not exist"))),
            }
        })
    }

    fn outputs(&self) -> Arc<dyn Outputs> {
        Arc::clone(&self.ledger.outputs) as _
    }

    fn pushes(&self) -> Arc<dyn Pushes> {
        Arc::new(FakePushes(Arc::clone(&self.ledger)))
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        self.ledger.commands.lock().unwrap().push(command.clone());
        if let Command::Speak { text, id } | Command::Text { text, id } = command {
            if text == "too much" {
                return Err(Refusal { code: ErrorCode::Busy, message: "three turns are waiting".to_owned() });
            }
            let utterance = UtteranceId::next();
            let text_spoken = text.clone();
            for notice in [
                Notice::Text { delta: text, utterance, id: id.clone(), is_final: true },
                Notice::SpeechStarted { utterance, id: id.clone() },
                Notice::SpeechEnded { utterance, id, interrupted: false, spoken_ms: 40, text_spoken },
            ] {
                self.notices.tell(notice);
            }
        }
        Ok(())
    }
}

/// Outputs that are live at once and send nothing.
#[derive(Default)]
pub struct FakeOutputs {
    /// Whether whoever uses the API may start some.
    pub allowed: AtomicBool,
    pub running: Mutex<Vec<OutputInfo>>,
    /// The way to every client.
    clients: Mutex<Vec<NoticeSender>>,
}

impl FakeOutputs {
    fn tell(&self) {
        for client in &*self.clients.lock().unwrap() {
            client.tell(Notice::Outputs(self.list()));
        }
    }
}

impl Outputs for FakeOutputs {
    fn allowed(&self) -> bool {
        self.allowed.load(Ordering::SeqCst)
    }

    /// One to "rtmp://refused/a/b" is refused.
    fn start(&self, order: OutputOrder) -> BoxFuture<'static, Result<OutputInfo, Refusal>> {
        let is_refused = order.url.as_deref() == Some("rtmp://refused/a/b");
        let (id, target, message) = (OutputId::next(), order.name.unwrap_or_default(), None);
        let (state, frames, dropped, reconnects) = (OutputState::Live, 25, 0, 0);
        let output = OutputInfo { id, kind: order.kind, target, state, message, frames, dropped, reconnects };
        if !is_refused {
            self.running.lock().unwrap().push(output.clone());
            self.tell();
        }
        let refusal = Refusal::new(ErrorCode::BadOutput, "url: it is refused");
        Box::pin(async move { if is_refused { Err(refusal) } else { Ok(output) } })
    }

    fn list(&self) -> Vec<OutputInfo> {
        self.running.lock().unwrap().clone()
    }

    fn stop(&self, id: &str) -> BoxFuture<'static, bool> {
        let mut running = self.running.lock().unwrap();
        let before = running.len();
        running.retain(|output| output.id.to_string() != id);
        let was_there = running.len() < before;
        drop(running);
        if was_there {
            self.tell();
        }
        Box::pin(async move { was_there })
    }
}

impl Pushes for FakePushes {
    fn allowed(&self) -> bool {
        self.0.full.lock().unwrap().is_none()
    }

    /// To `https://` only.
    fn start(&self, order: PushOrder) -> Result<PushInfo, Refusal> {
        if !order.url.starts_with("https://") {
            return Err(Refusal::new(ErrorCode::BadMessage, "url: not of the web"));
        }
        let target = "https://sfu.example".to_owned();
        let info = PushInfo { id: PushId::next(), target, state: PushState::Connecting, message: None, reconnects: 0 };
        self.0.pushes.lock().unwrap().push((info.clone(), order));
        Ok(info)
    }

    fn list(&self) -> Vec<PushInfo> {
        self.0.pushes.lock().unwrap().iter().map(|(info, _)| info.clone()).collect()
    }

    fn stop(&self, id: &str) -> BoxFuture<'static, bool> {
        let mut pushes = self.0.pushes.lock().unwrap();
        let before = pushes.len();
        pushes.retain(|(info, _)| info.id.to_string() != id);
        let is_less = pushes.len() < before;
        Box::pin(async move { is_less })
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.ledger.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Peer for FakePeer {
    fn id(&self) -> ViewerId {
        self.id
    }

    fn answer(&self) -> &str {
        &self.answer
    }

    /// Every offer but one with `again` in it is of another connection.
    fn renegotiate(&self, offer: &str) -> Option<Result<String, Refusal>> {
        offer.contains("again").then(|| Ok(format!("answer again to {offer}")))
    }

    fn add_candidate(&self, candidate: &IceCandidate) {
        self.ledger.candidates.lock().unwrap().push(candidate.clone());
    }

    fn push_to_talk(&self, _: bool) {}
}

impl Drop for FakePeer {
    fn drop(&mut self) {
        self.ledger.peers.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn candidate(number: u32) -> IceCandidate {
    IceCandidate {
        candidate: format!("candidate:{number} 1 UDP 2122 10.0.0.1 5000 typ host"),
        sdp_mid: Some("0".to_owned()),
        sdp_m_line_index: Some(0),
        username_fragment: None,
    }
}

pub fn candidate_message(number: u32) -> Value {
    json!({"type": "webrtc_ice_candidate", "candidate": {
        "candidate": candidate(number).candidate, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": null
    }})
}

pub struct TestServer {
    pub address: std::net::SocketAddr,
    pub ledger: Arc<Ledger>,
    pub readiness: watch::Sender<Readiness>,
    pub shutdown: CancellationToken,
    serving: JoinHandle<Result<(), SignallingError>>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut ListenerOptions)) -> Self {
        Self::at("127.0.0.1:0", change).await
    }

    /// Bound to some address, and asked at a loopback one.
    pub async fn at(address: &str, change: impl FnOnce(&mut ListenerOptions)) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = (std::net::Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()).into();
        let (readiness, receiver) = watch::channel(Readiness::Ready);
        let mut options = ListenerOptions {
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            // More than any test has, as the server notices only after a while that a client has gone.
            connections: ConnectionLimits { requests: 128, event_streams: 4, web_sockets: 64, sessions: 64 },
            // Every test comes from one address.
            limits_addresses: false,
            avatars: crate::avatar_api::api(),
            whep: WhepOptions::default(),
            pipelines: PipelineApi { editor: Arc::new(FakePipelines), allowed: false },
            access: None,
            tls: None,
            readiness: receiver,
            metrics: Some(Arc::new(|| "# the metrics\n".to_owned())),
            // Most tests stop the server while a client is there that no longer reads.
            shutdown_grace: Duration::from_millis(50),
        };
        change(&mut options);
        let shutdown = CancellationToken::new();
        let sessions = FakeSessions::default();
        let ledger = Arc::clone(&sessions.0);
        let serving = tokio::spawn(serve(listener, Arc::new(sessions), options, shutdown.clone()));
        Self { address, ledger, readiness, shutdown, serving }
    }

    pub async fn connect(&self) -> Client {
        self.connect_to("/ws").await
    }

    /// A client that has not read anything yet.
    pub async fn connect_to(&self, target: &str) -> Client {
        let url = format!("ws://{}{target}", self.address);
        Client { stream: tokio_tungstenite::connect_async(url).await.unwrap().0 }
    }

    /// A client that has been welcomed.
    pub async fn client(&self) -> Client {
        let mut client = self.connect().await;
        assert_eq!(client.next().await["type"], "session");
        client
    }

    /// A new client is welcomed, connected and spoken to.
    pub async fn assert_serves(&self) {
        let mut client = self.client().await;
        client.offer("m=video").await;
        client.assert_served().await;
        client.stream.close(None).await.unwrap();
    }

    /// Ends the server and waits for it.
    pub async fn stop(self) {
        self.shutdown.cancel();
        watchdog::comes("the server ends", self.serving).await.unwrap().unwrap();
    }

    /// Waits until no client holds anything.
    pub async fn assert_all_left(&self) {
        let left = async {
            while self.ledger.sessions.load(Ordering::SeqCst) + self.ledger.peers.load(Ordering::SeqCst) > 0 {
                tokio::task::yield_now().await;
            }
        };
        watchdog::comes("sessions and peers are let go", left).await;
    }
}

pub struct Client {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn says(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    pub async fn send(&mut self, message: Message) {
        watchdog::comes("the server reads", self.stream.send(message)).await.unwrap();
    }

    /// The next message, whatever it is.
    pub async fn next(&mut self) -> Value {
        match self.next_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a message: {other:?}"),
        }
    }

    async fn next_frame(&mut self) -> Option<Message> {
        loop {
            match watchdog::comes("the server says something", self.stream.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(frame) => return Some(frame.unwrap()),
                None => return None,
            }
        }
    }

    /// The next message of a type; others before it are skipped.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
            assert_ne!(message["type"], "error", "{message}");
        }
    }

    /// The error that comes next, with its code.
    pub async fn next_error(&mut self, code: &str) -> Value {
        let error = self.next().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        error
    }

    pub async fn offer(&mut self, sdp: &str) {
        self.says(json!({"type": "webrtc_offer", "sdp": sdp})).await;
        assert_eq!(self.next_of("webrtc_answer").await["sdp"], format!("answer to {sdp}"));
    }

    /// This same socket still gets a turn spoken.
    pub async fn assert_served(&mut self) {
        self.says(json!({"type": "speak", "content": "Hello.", "id": "probe"})).await;
        let started = self.next_of("speech_started").await;
        assert_eq!(started["id"], "probe");
        assert_eq!(self.next_of("speech_ended").await["text_spoken"], "Hello.");
    }

    /// The server closes, with this status, and nothing comes before that.
    pub async fn assert_closed(mut self, status: u16) {
        match self.next_frame().await {
            Some(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), status),
            other => panic!("not a close: {other:?}"),
        }
    }
}

/// Two descriptions, of which one is refused as soon as it is read again.
pub struct FakePipelines;

fn pipeline(file: &str, state: FileState) -> PipelineFile {
    let fault = DescriptionFault { line: Some(3), column: Some(7), element: None, message: "it is wrong".to_owned() };
    let fault = (state == FileState::Refused).then_some(fault);
    PipelineFile { file: file.to_owned(), state, in_use: true, changes: 0, fault }
}

impl PipelineEditor for FakePipelines {
    fn is_watching(&self) -> bool {
        true
    }

    fn files(&self) -> BoxFuture<'_, Vec<PipelineFile>> {
        Box::pin(async { ["publish-a.launch", "viewer-b.launch"].map(|file| pipeline(file, FileState::Ok)).to_vec() })
    }

    fn reload(&self) -> BoxFuture<'_, Option<Vec<PipelineFile>>> {
        Box::pin(async { Some(vec![pipeline("viewer-b.launch", FileState::Refused)]) })
    }
}
