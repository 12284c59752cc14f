//! Sessions as connections see them: opened on the first viewer, shared by name, closed after the last.
//!
//! Each session has a supervisor task that owns what must be closed in order; it ends when every handle of the
//! session is gone or the server stops.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::admission::{Admission, Place};
use super::{LoadedAvatar, Works};
use crate::audience::{Audience, Seat};
use crate::avatar::{AvatarError, Manifest};
use crate::compose::Composer;
use crate::config::ServeConfig;
use crate::conversation::{Conversation, Notices, OwnVoice, Parts, Turns};
use crate::dialogue::Dialogues;
use crate::hearing::{Ear, Ears, Floor, Overheard, Spoken};
use crate::ids::{AvatarId, SessionId, ViewerId};
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::devices::Devices;
use crate::lipsync::driver::Driver;
use crate::media::{self, Broadcast, Encoders};
use crate::playout::Playout;
use crate::signalling::{
    AvatarInfo, BoxFuture, Command, ErrorCode, IceCandidate, IceServer, JoinError, Notice, NoticeSender, OpenPeerError,
    Peer, PeerEvent, Session, Sessions, SubmitError,
};
use crate::speech::tts::{OnMissing, Voices};

/// Events of one session's playout waiting to be told: three an utterance, and utterances last seconds.
const PLAYOUT_EVENTS: usize = 64;
/// Reports of one session's pipeline: one an utterance, and faults.
const MEDIA_EVENTS: usize = 16;

/// Opens and finds sessions.
pub(super) struct SessionStore {
    config: ServeConfig,
    dialogues: Dialogues,
    voices: Voices,
    ears: Option<Ears>,
    admission: Arc<Admission>,
    devices: Devices,
    composer: Composer,
    playout: Playout,
    encoders: Arc<Encoders>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The model that the engine runs; avatars of another cannot be served by this process.
    model: std::sync::OnceLock<String>,
    avatars: Mutex<HashMap<AvatarId, Arc<LoadedAvatar>>>,
    /// Those that can be joined.
    named: Mutex<HashMap<(AvatarId, String), Weak<Core>>>,
}

/// What the handles of one session share. The supervisor holds none of it, so it goes with the last handle.
struct Core {
    id: SessionId,
    avatar: AvatarInfo,
    conversation: Conversation,
    notices: Notices,
    broadcast: Broadcast,
    /// What the avatar says, for ears, and how to listen.
    voice: broadcast::Sender<Spoken>,
    ears: Option<Ears>,
    tracker: TaskTracker,
    audience: Audience,
    admission: Arc<Admission>,
    devices: Devices,
    ice: crate::config::Ice,
    _place: Place,
    /// Dropped with the core: tells the supervisor that nobody is left.
    _alive: mpsc::Sender<()>,
}

/// One viewer's hold on a session, and its own voice.
struct Handle(Arc<Core>, OwnVoice);

/// A viewer in its seat.
struct Seated {
    viewer: media::Viewer,
    /// What the button to talk acts on; the ear ends with the viewer's pipeline.
    button: Option<watch::Sender<bool>>,
    _seat: Seat,
}

/// A session as its ears see it. They do not keep it open.
struct Room(Weak<Core>);

impl Room {
    fn with(&self, act: impl FnOnce(&Core)) {
        if let Some(core) = self.0.upgrade() {
            act(&core);
        }
    }
}

impl Floor for Room {
    fn speak_lower(&self) {
        self.with(|core| core.conversation.speak_lower());
    }

    fn go_on(&self) {
        self.with(|core| core.conversation.go_on());
    }

    fn interrupt(&self) {
        self.with(|core| core.conversation.interrupt());
    }

    fn take_turn(&self, content: String, ended: Instant) -> Result<(), SubmitError> {
        let times = TurnTimes::since(ended);
        times.reach(Stage::Transcript, Instant::now());
        self.0.upgrade().map_or(Ok(()), |core| core.conversation.reply_to(content, None, times))
    }

    fn tell(&self, notice: Notice) {
        self.with(|core| core.notices.tell(&notice));
    }
}

impl SessionStore {
    pub(super) fn new(
        config: ServeConfig,
        works: &Works,
        (dialogues, voices, ears): (Dialogues, Voices, Option<Ears>),
        encoders: Arc<Encoders>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            devices: works.devices.clone(),
            composer: works.composer.clone().marking(config.mark_speech),
            dialogues,
            voices,
            ears,
            admission: Arc::new(Admission::new(&config)),
            config,
            playout: works.playout.clone(),
            encoders,
            tracker,
            stop,
            model: std::sync::OnceLock::new(),
            avatars: Mutex::default(),
            named: Mutex::default(),
        }
    }

    /// Loads the avatar that the server was launched with, and its voice, so that a fault shows at once.
    pub(super) async fn preload(&self) -> anyhow::Result<()> {
        let avatar = self.avatar(&self.config.avatar).await?;
        self.voices.of(&avatar.avatar.manifest.voice)?;
        Ok(())
    }

    async fn avatar(&self, id: &AvatarId) -> anyhow::Result<Arc<LoadedAvatar>> {
        let mut avatars = self.avatars.lock().await;
        if let Some(known) = avatars.get(id) {
            return Ok(Arc::clone(known));
        }
        let manifest = crate::avatar::AvatarStore::new(&self.config.folders.avatars).manifest(id)?;
        let model = self.model.get_or_init(|| manifest.model.clone());
        if *model != manifest.model {
            let problem = format!("needs model {}, this server runs {model}", manifest.model);
            return Err(AvatarError::BadFile { path: format!("{id}/avatar.toml"), problem }.into());
        }
        let loaded = Arc::new(self.load(id).await?);
        avatars.insert(id.clone(), Arc::clone(&loaded));
        Ok(loaded)
    }

    async fn load(&self, id: &AvatarId) -> anyhow::Result<LoadedAvatar> {
        super::load_avatar(&self.devices, &self.config.folders, id).await
    }

    async fn open_or_join(&self, avatar: Option<AvatarId>, name: Option<String>) -> Result<Arc<Core>, JoinError> {
        let id = avatar.unwrap_or_else(|| self.config.avatar.clone());
        let loaded = self.avatar(&id).await.map_err(|error| join_error(ErrorCode::UnknownAvatar, &error))?;
        let mut named = self.named.lock().await;
        if self.stop.is_cancelled() {
            return Err(JoinError { code: ErrorCode::ShuttingDown, message: "the server is shutting down".into() });
        }
        let key = name.map(|name| (id.clone(), name));
        if let Some(core) = key.as_ref().and_then(|key| named.get(key)).and_then(Weak::upgrade) {
            return Ok(core);
        }
        named.retain(|_, session| session.strong_count() > 0);
        let place = self.admission.open(self.devices.frames_per_second());
        let place = place.map_err(|full| JoinError { code: ErrorCode::ServerFull, message: full.to_string() })?;
        let core =
            Arc::new(self.start(&loaded, place).await.map_err(|error| join_error(ErrorCode::PeerFailed, &error))?);
        if let Some(key) = key {
            named.insert(key, Arc::downgrade(&core));
        }
        drop(named);
        Ok(core)
    }

    /// Builds a session and its supervisor.
    async fn start(&self, loaded: &LoadedAvatar, place: Place) -> anyhow::Result<Core> {
        let id = SessionId::next();
        let span = tracing::info_span!("session", %id);
        self.build(id, loaded, place).instrument(span).await
    }

    async fn build(&self, id: SessionId, loaded: &LoadedAvatar, place: Place) -> anyhow::Result<Core> {
        let span = tracing::Span::current();
        let manifest: &Manifest = &loaded.avatar.manifest;
        let notices = Notices::default();
        let tts = self.voices.telling(&manifest.voice, missing_voice(&notices))?;
        let format = media::VideoFormat { width: manifest.width, height: manifest.height };
        let (media_events, media_queue) = mpsc::channel(MEDIA_EVENTS);
        let (broadcast, sink) = Broadcast::start(Arc::clone(&self.encoders), format, media_events);
        let (events, playout_events) = mpsc::channel(PLAYOUT_EVENTS);
        let (sink, voice) = Overheard::new(Box::new(sink));
        let session = self.playout.add(id, Arc::clone(&loaded.avatar), Box::new(sink), events).await?;
        let audience = self.admission.audience();
        let (desk, composer, avatar) = (self.devices.desk(), self.composer.clone(), Arc::clone(&loaded.avatar));
        let driver = Driver::new(desk, composer, avatar, loaded.handle, session, audience.clone());
        let ended = self.stop.child_token();
        let (responder, history) = self.dialogues.of(&manifest.name, &manifest.dialogue, &manifest.voice.language);
        let parts = Parts {
            driver,
            tts,
            voice: manifest.voice.clone(),
            responder,
            history,
            notices: notices.clone(),
            playout_events,
            audio_clock: Arc::new(broadcast.audio_clock()),
            video_clock: Arc::new(broadcast.video_clock()),
        };
        let conversation = Conversation::start(parts, &self.tracker, &ended);
        let (alive, gone) = mpsc::channel(1);
        let supervisor = Supervisor {
            id,
            ended,
            gone,
            playout: self.playout.clone(),
            broadcast: broadcast.clone(),
            media: media_queue,
            turns: conversation.turns(),
        };
        self.tracker.spawn(supervisor.run().instrument(span.clone()));
        crate::metrics::session_opened();
        tracing::info!(avatar = %manifest.id, "session opened");
        let avatar = AvatarInfo {
            id: manifest.id.clone(),
            name: manifest.name.clone(),
            width: manifest.width,
            height: manifest.height,
            fps: manifest.fps,
        };
        Ok(Core {
            id,
            avatar,
            conversation,
            notices,
            broadcast,
            voice,
            ears: self.ears.clone(),
            tracker: self.tracker.clone(),
            audience,
            admission: Arc::clone(&self.admission),
            devices: self.devices.clone(),
            ice: self.config.ice.clone(),
            _place: place,
            _alive: alive,
        })
    }
}

/// What a client may know: never where files lie on this machine, which the log tells.
/// Tells a session's clients what no voice can say.
fn missing_voice(notices: &Notices) -> OnMissing {
    let notices = notices.clone();
    Arc::new(move |message| notices.tell(&Notice::Error { code: ErrorCode::NoVoice, message, fatal: false }))
}

fn join_error(code: ErrorCode, error: &anyhow::Error) -> JoinError {
    tracing::warn!(%code, error = format!("{error:#}"), "nobody can join");
    let message = match error.downcast_ref::<AvatarError>() {
        Some(AvatarError::Unknown { id, available, .. }) => {
            format!("avatar {id:?} does not exist on this server; there is: {available}")
        }
        Some(_) => "the avatar cannot be loaded; the server's log says why".to_owned(),
        None => "the session cannot be opened; the server's log says why".to_owned(),
    };
    JoinError { code, message }
}

/// Closes a session in order once nobody holds it.
struct Supervisor {
    id: SessionId,
    ended: CancellationToken,
    gone: mpsc::Receiver<()>,
    playout: Playout,
    broadcast: Broadcast,
    media: mpsc::Receiver<media::MediaEvent>,
    turns: Turns,
}

impl Supervisor {
    async fn run(mut self) {
        loop {
            tokio::select! {
                _ = self.gone.recv() => break,
                () = self.ended.cancelled() => break,
                Some(event) = self.media.recv() => self.heed(event),
            }
        }
        self.ended.cancel();
        // From here on no pair arrives at the pipelines.
        let sink = self.playout.remove(self.id).await;
        let broadcast = self.broadcast;
        // To NULL joins GStreamer's threads, which may block.
        let closed = tokio::task::spawn_blocking(move || {
            drop(sink);
            drop(broadcast);
        });
        if closed.await.is_err() {
            tracing::error!("closing the session's pipelines panicked");
        }
        crate::metrics::session_closed();
        tracing::info!("session closed");
    }
}

impl Supervisor {
    fn heed(&self, event: media::MediaEvent) {
        match event {
            // Of several encodes, whichever is first counts.
            media::MediaEvent::FirstPacket { utterance, at } => {
                if let Some(times) = self.turns.times(utterance) {
                    times.reach(Stage::FirstPacket, at);
                }
            }
            // Its viewers hear of it from their own peers and offer again, which starts another one.
            media::MediaEvent::PublisherFailed { codec, element, message } => {
                tracing::error!(codec = codec.encoding_name(), element, message, "a pipeline of the session failed");
            }
        }
    }
}

impl Sessions for SessionStore {
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, JoinError>> {
        Box::pin(async move {
            let core = self.open_or_join(avatar, name).await?;
            core.notices.add(notices);
            Ok(Box::new(Handle(core, OwnVoice::default())) as Box<dyn Session>)
        })
    }

    fn full(&self) -> Option<String> {
        self.admission.room(self.devices.frames_per_second()).err().map(|full| full.to_string())
    }
}

impl Peer for Seated {
    fn id(&self) -> ViewerId {
        self.viewer.id()
    }

    fn answer(&self) -> &str {
        self.viewer.answer()
    }

    fn renegotiate(&self, offer: &str) -> Option<Result<String, OpenPeerError>> {
        self.viewer.renegotiate(offer)
    }

    fn add_candidate(&self, candidate: &IceCandidate) {
        self.viewer.add_candidate(candidate);
    }

    fn push_to_talk(&self, is_pressed: bool) {
        if let Some(button) = &self.button {
            button.send_replace(is_pressed);
        }
    }
}

impl Session for Handle {
    fn id(&self) -> SessionId {
        self.0.id
    }

    fn avatar(&self) -> AvatarInfo {
        self.0.avatar.clone()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.0.ice.servers()
    }

    fn listens(&self) -> bool {
        self.0.ears.is_some()
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, OpenPeerError>> {
        Box::pin(async move {
            let core = &self.0;
            let seat = core.admission.enter(&core.audience, core.devices.frames_per_second());
            let seat = seat.map_err(|full| OpenPeerError { code: ErrorCode::ServerFull, message: full.to_string() })?;
            let ear = core.ears.as_ref().map(|ears| {
                let floor = Arc::new(Room(Arc::downgrade(core)));
                let (ear, listening) = ears.listen(core.voice.clone(), floor);
                core.tracker.spawn(listening.in_current_span());
                ear
            });
            let (microphone, button) = ear.map(|Ear { microphone, button }| (microphone, button)).unzip();
            let viewer = core.broadcast.open_viewer(offer, events, &core.ice.for_webrtcbin(), microphone).await?;
            Ok(Box::new(Seated { viewer, button, _seat: seat }) as Box<dyn Peer>)
        })
    }

    fn submit(&self, command: Command) -> Result<(), SubmitError> {
        self.0.conversation.submit(command, &self.1)
    }
}
