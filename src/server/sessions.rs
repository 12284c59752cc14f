//! Sessions as connections see them: opened on the first viewer, shared by name, closed after the last.
//!
//! In here: opening, finding and building them. `core` is what the clients of one session share, `client` one
//! client's hold on it, `viewer` one of its viewers, `casting` who performs in it, `outputs` its ways out besides
//! viewers, `pushes` those to media servers, `supervisor` closes it in order once nobody holds it. Not in here:
//! whether there may be one more (`admission`), turns (`conversation`).
//! Runs on: the tasks of connections; one task a session is its supervisor.

mod casting;
mod client;
mod core;
mod outputs;
mod pushes;
mod supervisor;
mod viewer;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::casting::Casting;
use self::client::ClientSession;
use self::core::{SessionCore, Shown};
use self::outputs::SessionOutputs;
use self::pushes::SessionPushes;
use self::supervisor::Supervisor;
use super::admission::{Admission, Full, SessionSlot};
use super::avatar_cache::{AvatarCache, InstalledAvatars, LoadedAvatar, Reading, take_in};
use super::workers::Workers;
use crate::animation::Animator;
use crate::avatar::Manifest;
use crate::compose::Composer;
use crate::config::ServeConfig;
use crate::conversation::{Conversation, ConversationParts};
use crate::dialogue::Dialogues;
use crate::hearing::{Listeners, ReferenceTap};
use crate::ids::{AvatarId, SessionId};
use crate::lipsync::device_pool::DevicePool;
use crate::media::one_port::OnePort;
use crate::media::{self, Broadcast, LivePipelines};
use crate::playout::Playout;
use crate::session::{ErrorCode, Notice, NoticeBroadcast, NoticeSender, Pushes, Refusal, Session, Sessions};
use crate::speech::tts::{OnMissing, Voices};

/// Events of one session's playout waiting to be told: three an utterance, and utterances last seconds.
const PLAYOUT_EVENTS: usize = 64;
/// Reports of one session's pipeline: one an utterance, and faults.
const MEDIA_EVENTS: usize = 16;

/// Who answers, speaks and listens in all sessions.
pub(super) struct Services {
    pub(super) dialogues: Dialogues,
    pub(super) voices: Voices,
    /// `None` where nobody listens to microphones.
    pub(super) listeners: Option<Listeners>,
}

/// Opens and finds sessions.
pub(super) struct SessionStore {
    config: ServeConfig,
    casting: Arc<Casting>,
    admission: Arc<Admission>,
    devices: DevicePool,
    composer: Composer,
    playout: Playout,
    pipelines: Arc<LivePipelines>,
    one_port: Option<OnePort>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// Those that can be joined.
    named: Mutex<Named>,
}

type Named = HashMap<(AvatarId, String), Weak<SessionCore>>;

impl SessionStore {
    pub(super) fn new(
        config: ServeConfig,
        workers: &Workers,
        services: Services,
        admission: Admission,
        pipelines: Arc<LivePipelines>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (devices, folders) = (workers.devices.clone(), config.folders.clone());
        let source = Arc::new(InstalledAvatars { devices, folders: folders.clone() });
        let avatars = Arc::new(AvatarCache::new(source, config.avatar.clone(), tracker.clone(), stop.clone()));
        let (frame_makers, services) = (workers.frame_makers.clone(), Arc::new(services));
        Self {
            casting: Arc::new(Casting { avatars, frame_makers, services }),
            admission: Arc::new(admission),
            devices: workers.devices.clone(),
            composer: workers.composer.clone().marking(config.mark_speech),
            config,
            playout: workers.playout.clone(),
            pipelines,
            one_port: None,
            tracker,
            stop,
            named: Mutex::default(),
        }
    }

    /// Viewers come by this port.
    pub(super) fn reached_by(self, one_port: Option<OnePort>) -> Self {
        Self { one_port, ..self }
    }

    /// Takes in the avatar that the server was launched with, and its voice, so that a fault shows at once.
    pub(super) async fn preload(&self, reading: Reading) -> anyhow::Result<()> {
        let loading = take_in(&self.devices, &self.config.folders, reading);
        let avatar = self.casting.avatars.preload(loading).await?;
        self.casting.services.voices.of(&avatar.avatar.manifest.voice)?;
        Ok(())
    }

    /// Where avatars are kept that were loaded.
    pub(super) fn avatars(&self) -> Arc<AvatarCache> {
        Arc::clone(&self.casting.avatars)
    }

    async fn open_or_join(&self, avatar: Option<AvatarId>, name: Option<String>) -> Result<Arc<SessionCore>, Refusal> {
        let id = avatar.unwrap_or_else(|| self.config.avatar.clone());
        let key = name.map(|name| (id.clone(), name));
        let open = |named: &Named| key.as_ref().and_then(|key| named.get(key)).and_then(Weak::upgrade);
        let known = open(&*self.named.lock().await);
        if let Some(core) = known {
            return Ok(core);
        }
        // Before anything is loaded for it.
        self.admission.check_capacity(self.devices.frames_per_second()).map_err(is_full)?;
        let loaded = self.casting.avatars.get(&id).await?;
        let mut named = self.named.lock().await;
        if self.stop.is_cancelled() {
            return Err(Refusal { code: ErrorCode::ShuttingDown, message: "the server is shutting down".into() });
        }
        if let Some(core) = open(&named) {
            return Ok(core);
        }
        named.retain(|_, session| session.strong_count() > 0);
        let slot = self.admission.admit_session(self.devices.frames_per_second()).map_err(is_full)?;
        let core = Arc::new(self.start(loaded, slot).await.map_err(|error| no_session(&error))?);
        if let Some(key) = key {
            self.push_always(&key.1, &core);
            named.insert(key, Arc::downgrade(&core));
        }
        drop(named);
        Ok(core)
    }

    /// Begins the push that the settings want of a session of this name. Without it the session goes on all the same.
    fn push_always(&self, name: &str, core: &SessionCore) {
        let wanted = self.config.whip.always.as_ref().filter(|(session, _)| session == name);
        if let Some((_, order)) = wanted
            && let Err(refusal) = core.pushes.start(order.clone())
        {
            tracing::error!(reason = %refusal, "the session is not pushed");
        }
    }

    /// A session of this name that is open; without an avatar, that with the server's own, else the only one.
    async fn find(&self, avatar: Option<AvatarId>, name: String) -> Option<Arc<SessionCore>> {
        let named = self.named.lock().await;
        let open = |avatar: AvatarId| named.get(&(avatar, name.clone())).and_then(Weak::upgrade);
        if let Some(avatar) = avatar {
            return open(avatar);
        }
        open(self.config.avatar.clone()).or_else(|| {
            let mut of_this_name = named.iter().filter(|((_, other), _)| *other == name);
            let found = of_this_name.by_ref().find_map(|(_, session)| session.upgrade())?;
            of_this_name.all(|(_, session)| session.strong_count() == 0).then_some(found)
        })
    }

    /// Builds a session and its supervisor.
    async fn start(&self, loaded: Arc<LoadedAvatar>, slot: SessionSlot) -> anyhow::Result<SessionCore> {
        let id = SessionId::next();
        let span = tracing::info_span!("session", %id);
        self.build(id, loaded, slot).instrument(span).await
    }

    async fn build(&self, id: SessionId, loaded: Arc<LoadedAvatar>, slot: SessionSlot) -> anyhow::Result<SessionCore> {
        let span = tracing::Span::current();
        let avatar = Arc::clone(&loaded.avatar);
        let manifest: &Manifest = &avatar.manifest;
        let notices = NoticeBroadcast::default();
        let (character, history) = self.casting.character(manifest, &notices)?;
        let (width, height) = manifest.frame_size();
        let format = media::VideoFormat { width, height };
        let (media_events, media_queue) = mpsc::channel(MEDIA_EVENTS);
        let (broadcast, sink) = Broadcast::start(&self.pipelines, format, media_events);
        let (events, playout_events) = mpsc::channel(PLAYOUT_EVENTS);
        let (sink, reference) = ReferenceTap::new(Box::new(sink));
        let audience = self.admission.audience();
        let own = self.casting.own_frames(&loaded, &audience);
        let info = casting::info(&own);
        let session = self.playout.add(id, own.clone(), Box::new(sink), events).await?;
        let (lease, composer) = (self.devices.lease(), self.composer.clone());
        let animator = Animator::new(lease, composer, own, loaded.handle, session, audience.clone());
        let ended = self.stop.child_token();
        let parts = ConversationParts {
            animator,
            character,
            history,
            notices: notices.clone(),
            playout_events,
            audio_clock: Arc::new(broadcast.audio_clock()),
            video_clock: Arc::new(broadcast.video_clock()),
        };
        let conversation = Conversation::start(parts, &self.tracker, &ended);
        let outputs = Arc::new(SessionOutputs {
            session: id,
            avatar: manifest.id.clone(),
            settings: self.config.outputs.clone(),
            pipelines: Arc::clone(&self.pipelines),
            broadcast: broadcast.clone(),
            notices: notices.clone(),
            audience: audience.clone(),
            admission: Arc::clone(&self.admission),
            devices: self.devices.clone(),
            running: std::sync::Mutex::default(),
        });
        let pushes = Arc::new(SessionPushes {
            broadcast: broadcast.clone(),
            audience: audience.clone(),
            admission: Arc::clone(&self.admission),
            devices: self.devices.clone(),
            ice: self.config.ice.for_webrtcbin(),
            tracker: self.tracker.clone(),
            ended: ended.clone(),
            allowed: self.config.whip.allowed,
            running: std::sync::Mutex::default(),
        });
        let (alive, gone) = mpsc::channel(1);
        let supervisor = Supervisor {
            id,
            ended,
            gone,
            playout: self.playout.clone(),
            broadcast: broadcast.clone(),
            media: media_queue,
            turns: conversation.turns(),
            avatars: Arc::clone(&self.casting.avatars),
            outputs: Arc::clone(&outputs),
        };
        self.tracker.spawn(supervisor.run().instrument(span.clone()));
        crate::metrics::session_opened();
        tracing::info!(avatar = %manifest.id, "session opened");
        if !self.config.outputs.always.is_empty() {
            let (outputs, span) = (Arc::clone(&outputs), span.clone());
            self.tracker.spawn_blocking(move || span.in_scope(|| outputs.begin()));
        }
        Ok(SessionCore {
            id,
            shown: std::sync::Mutex::new(Shown { info, _loaded: loaded }),
            swapping: Mutex::default(),
            casting: Arc::clone(&self.casting),
            conversation,
            notices,
            broadcast,
            reference,
            listeners: self.casting.services.listeners.clone(),
            tracker: self.tracker.clone(),
            audience,
            admission: Arc::clone(&self.admission),
            devices: self.devices.clone(),
            ice: self.config.ice.clone(),
            one_port: self.one_port.clone(),
            outputs,
            pushes,
            _slot: slot,
            _alive: alive,
        })
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
            let reservation = self.admission.admit_client().map_err(is_full)?;
            let core = self.open_or_join(avatar, name).await?;
            core.notices.add(notices);
            Ok(Box::new(ClientSession::new(core, reservation)) as Box<dyn Session>)
        })
    }

    fn watch(
        &self,
        avatar: Option<AvatarId>,
        name: String,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Session>>, Refusal>> {
        Box::pin(async move {
            let Some(core) = self.find(avatar, name).await else { return Ok(None) };
            let reservation = self.admission.admit_client().map_err(is_full)?;
            core.notices.add(notices);
            Ok(Some(Box::new(ClientSession::who_watches(core, reservation)) as Box<dyn Session>))
        })
    }

    fn full(&self) -> Option<String> {
        self.admission.check_capacity(self.devices.frames_per_second()).err().map(|full| full.to_string())
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
fn missing_voice(notices: &NoticeBroadcast) -> OnMissing {
    let notices = notices.clone();
    Arc::new(move |message| notices.tell(&Notice::Error { code: ErrorCode::NoVoice, message, fatal: false }))
}
