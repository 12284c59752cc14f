//! Sessions as connections see them: opened on the first viewer, shared by name, closed after the last.
//!
//! Each session has a supervisor task that owns what must be closed in order; it ends when every handle of the
//! session is gone or the server stops.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::admission::{Admission, Entered, Full, Place};
use super::avatars::{Avatars, Installed};
use super::budget::Held;
use super::{LoadedAvatar, Works};
use crate::animation::Animator;
use crate::audience::Audience;
use crate::avatar::Manifest;
use crate::compose::Composer;
use crate::config::ServeConfig;
use crate::conversation::{Conversation, OwnVoice, Parts, Turns};
use crate::dialogue::Dialogues;
use crate::hearing::{Ear, Ears, Floor, Overheard, Spoken};
use crate::ids::{AvatarId, SessionId, ViewerId};
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::devices::Devices;
use crate::media::{self, Broadcast, Encoders};
use crate::playout::Playout;
use crate::session::{
    AvatarInfo, Command, ErrorCode, IceCandidate, IceServer, Notice, NoticeSender, Notices, Peer, PeerEvent, Refusal,
    Session, Sessions,
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
    avatars: Arc<Avatars>,
    /// Those that can be joined.
    named: Mutex<Named>,
}

type Named = HashMap<(AvatarId, String), Weak<Core>>;

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
    /// An avatar that is used is not let go.
    _loaded: Arc<LoadedAvatar>,
    _place: Place,
    /// Dropped with the core: tells the supervisor that nobody is left.
    _alive: mpsc::Sender<()>,
}

/// One client's hold on a session, its own voice, and what the client takes of the process.
struct Handle {
    core: Arc<Core>,
    voice: OwnVoice,
    _held: Held,
}

/// A viewer in its seat.
struct Seated {
    viewer: media::Viewer,
    /// What the button to talk acts on; the ear ends with the viewer's pipeline.
    button: Option<watch::Sender<bool>>,
    _seat: Entered,
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

    fn take_turn(&self, content: String, ended: Instant) -> Result<(), Refusal> {
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
        admission: Admission,
        encoders: Arc<Encoders>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (devices, folders) = (works.devices.clone(), config.folders.clone());
        let source = Arc::new(Installed { devices, folders, model: OnceLock::new() });
        Self {
            avatars: Arc::new(Avatars::new(source, config.avatar.clone(), tracker.clone(), stop.clone())),
            admission: Arc::new(admission),
            devices: works.devices.clone(),
            composer: works.composer.clone().marking(config.mark_speech),
            dialogues,
            voices,
            ears,
            config,
            playout: works.playout.clone(),
            encoders,
            tracker,
            stop,
            named: Mutex::default(),
        }
    }

    /// Loads the avatar that the server was launched with, and its voice, so that a fault shows at once.
    pub(super) async fn preload(&self) -> anyhow::Result<()> {
        let avatar = self.avatars.preload().await?;
        self.voices.of(&avatar.avatar.manifest.voice)?;
        Ok(())
    }

    async fn open_or_join(&self, avatar: Option<AvatarId>, name: Option<String>) -> Result<Arc<Core>, Refusal> {
        let id = avatar.unwrap_or_else(|| self.config.avatar.clone());
        let key = name.map(|name| (id.clone(), name));
        let open = |named: &Named| key.as_ref().and_then(|key| named.get(key)).and_then(Weak::upgrade);
        let known = open(&*self.named.lock().await);
        if let Some(core) = known {
            return Ok(core);
        }
        // Before anything is loaded for it.
        self.admission.room(self.devices.frames_per_second()).map_err(is_full)?;
        let loaded = self.avatars.get(&id).await?;
        let mut named = self.named.lock().await;
        if self.stop.is_cancelled() {
            return Err(Refusal { code: ErrorCode::ShuttingDown, message: "the server is shutting down".into() });
        }
        if let Some(core) = open(&named) {
            return Ok(core);
        }
        named.retain(|_, session| session.strong_count() > 0);
        let place = self.admission.open(self.devices.frames_per_second()).map_err(is_full)?;
        let core = Arc::new(self.start(loaded, place).await.map_err(|error| no_session(&error))?);
        if let Some(key) = key {
            named.insert(key, Arc::downgrade(&core));
        }
        drop(named);
        Ok(core)
    }

    /// Builds a session and its supervisor.
    async fn start(&self, loaded: Arc<LoadedAvatar>, place: Place) -> anyhow::Result<Core> {
        let id = SessionId::next();
        let span = tracing::info_span!("session", %id);
        self.build(id, loaded, place).instrument(span).await
    }

    async fn build(&self, id: SessionId, loaded: Arc<LoadedAvatar>, place: Place) -> anyhow::Result<Core> {
        let span = tracing::Span::current();
        let avatar = Arc::clone(&loaded.avatar);
        let manifest: &Manifest = &avatar.manifest;
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
        let animator = Animator::new(desk, composer, avatar, loaded.handle, session, audience.clone());
        let ended = self.stop.child_token();
        let (responder, history) = self.dialogues.of(&manifest.name, &manifest.dialogue, &manifest.voice.language);
        let parts = Parts {
            animator,
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
            avatars: Arc::clone(&self.avatars),
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
            _loaded: loaded,
            _place: place,
            _alive: alive,
        })
    }
}

fn is_full(full: Full) -> Refusal {
    Refusal { code: ErrorCode::ServerFull, message: full.to_string() }
}

/// What a client may know: never where files lie on this machine, which the log tells.
fn no_session(error: &anyhow::Error) -> Refusal {
    tracing::warn!(error = format!("{error:#}"), "a session cannot be opened");
    let message = "the session cannot be opened; the server's log says why".to_owned();
    Refusal { code: ErrorCode::PeerFailed, message }
}

/// Tells a session's clients what no voice can say.
fn missing_voice(notices: &Notices) -> OnMissing {
    let notices = notices.clone();
    Arc::new(move |message| notices.tell(&Notice::Error { code: ErrorCode::NoVoice, message, fatal: false }))
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
    avatars: Arc<Avatars>,
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
        self.avatars.tidy_up().await;
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
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>> {
        Box::pin(async move {
            let held = self.admission.client().map_err(is_full)?;
            let core = self.open_or_join(avatar, name).await?;
            core.notices.add(notices);
            Ok(Box::new(Handle { core, voice: OwnVoice::default(), _held: held }) as Box<dyn Session>)
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

    fn renegotiate(&self, offer: &str) -> Option<Result<String, Refusal>> {
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
        self.core.id
    }

    fn avatar(&self) -> AvatarInfo {
        self.core.avatar.clone()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.core.ice.servers()
    }

    fn listens(&self) -> bool {
        self.core.ears.is_some()
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        Box::pin(async move {
            let core = &self.core;
            let seat = core.admission.enter(&core.audience, core.devices.frames_per_second());
            let seat = seat.map_err(|full| Refusal { code: ErrorCode::ServerFull, message: full.to_string() })?;
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

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        self.core.conversation.submit(command, &self.voice)
    }
}
