//! The composition root: builds every part, wires their queues, opens and closes sessions, and ends it all in order.
//!
//! In here: who owns what. Not in here: how any part works. Only this file knows everyone.
//!
//! Shutdown: stop accepting, end connections, end sessions (conversation, playout, pipeline), then let go of the
//! engine, compose and playout threads and join them, since libtorch crashes in its destructors under a running
//! thread.

mod sessions;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::avatar::AvatarStore;
use crate::compose::{ComposeThread, Composer};
use crate::config::{Folders, ServeConfig};
use crate::ids::AvatarId;
use crate::lipsync::engine::{Engine, EngineThread};
use crate::lipsync::musetalk::{DeviceChoice, MuseTalk, find_device};
use crate::lipsync::{AvatarHandle, LipSync};
use crate::media;
use crate::playout::{Playout, PlayoutThread};
use crate::signalling::listener::{self, ListenerOptions, Readiness};
use sessions::SessionStore;

/// How long everything may take to end. A sentence in the air is cut.
const GRACE: Duration = Duration::from_millis(1500);

/// libtorch's threads. A second one costs 15 to 33 points of a core more and draws no faster at this size.
const ENGINE_THREADS: i32 = 1;
/// WebSockets allowed for each allowed session: a shared one has many viewers.
const VIEWERS_PER_SESSION: usize = 16;

/// The threads that do the work and the ways to them; what `serve`, `render` and `bench` share.
pub struct Works {
    pub engine: Engine,
    pub composer: Composer,
    pub playout: Playout,
    threads: Threads,
}

struct Threads {
    engine: EngineThread,
    compose: ComposeThread,
    playout: PlayoutThread,
}

/// An avatar in memory with its latents at the engine.
pub struct LoadedAvatar {
    pub avatar: Arc<crate::avatar::Avatar>,
    pub handle: AvatarHandle,
}

impl Works {
    /// Loads a model and starts the threads.
    pub async fn start(folders: &Folders, model: &str, device: DeviceChoice) -> anyhow::Result<Self> {
        let folder = folders.models.join(model);
        let build =
            move || Ok(Box::new(MuseTalk::load(&folder, find_device(device)?, ENGINE_THREADS)?) as Box<dyn LipSync>);
        let (engine, engine_thread) = Engine::spawn(build).await.with_context(|| format!("model {model}"))?;
        let (composer, compose) = Composer::spawn().context("compose thread")?;
        let (playout, playout_thread) = Playout::spawn().context("playout thread")?;
        let threads = Threads { engine: engine_thread, compose, playout: playout_thread };
        Ok(Self { engine, composer, playout, threads })
    }

    /// Ends the threads and waits for them. Every clone of the ways in must be gone, else this waits for ever.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { engine, composer, playout, threads } = self;
        drop((engine, composer, playout));
        let sound = tokio::task::spawn_blocking(move || {
            [threads.playout.join(), threads.compose.join(), threads.engine.join()].iter().all(|sound| *sound)
        });
        anyhow::ensure!(sound.await?, "a worker thread panicked");
        Ok(())
    }
}

/// Reads an avatar's folder and hands its latents to the engine.
pub async fn load_avatar(engine: &Engine, folders: &Folders, id: &AvatarId) -> anyhow::Result<LoadedAvatar> {
    let store = AvatarStore::new(&folders.avatars);
    let id = id.clone();
    let avatar = tokio::task::spawn_blocking(move || store.load(&id)).await??;
    let handle = engine.add_avatar(avatar.latents.clone(), avatar.manifest.decode_rows).await?;
    Ok(LoadedAvatar { avatar: Arc::new(avatar), handle })
}

/// Serves until `shutdown` resolves. The listener is bound already, so that a taken port is an error before anything
/// is loaded; `announce` is called once everything is ready.
pub async fn serve(
    config: ServeConfig,
    listener: TcpListener,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    announce: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let (ready, readiness) = watch::channel(Readiness::NotReady { reason: "starting".into() });
    let manifest = AvatarStore::new(&config.folders.avatars).manifest(&config.avatar)?;
    let choice = config.encoder.clone();
    let pipelines = config.folders.pipelines.clone();
    // Both block: the first certificate takes up to a second, an encoder is tried by running it.
    let encoders = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        media::warm_up()?;
        Ok(media::Encoders::select(&choice, &media::PipelineDir::find(&pipelines))?)
    });
    let works = Works::start(&config.folders, &manifest.model, config.device).await?;
    let encoders = Arc::new(encoders.await??);
    let tracker = TaskTracker::new();
    let options = ListenerOptions {
        allowed_origins: config.allowed_origins.clone(),
        max_connections: config.max_sessions * VIEWERS_PER_SESSION,
        metrics: Arc::new(metrics),
        readiness,
        shutdown_grace: GRACE / 2,
    };
    let store = SessionStore::new(config, &works, encoders, tracker.clone(), stop.clone());
    store.preload().await?;
    let store = Arc::new(store);
    let serving = tokio::spawn(listener::serve(listener, Arc::clone(&store) as _, options, stop.clone()));
    // Nobody asks if the listener is gone already, which is noticed below.
    let _ = ready.send(Readiness::Ready);
    announce();

    let engine = works.engine.clone();
    let mut serving = std::pin::pin!(serving);
    let outcome = tokio::select! {
        () = shutdown => { tracing::info!("shutting down"); None }
        ended = &mut serving => Some(ended),
        () = engine.ended() => None,
    };
    let engine_died = engine.has_ended();
    drop(engine);
    let _ = ready.send(Readiness::NotReady { reason: "shutting down".into() });
    stop.cancel();
    let ended = match outcome {
        Some(ended) => ended,
        None => serving.await,
    };
    drop(store);
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!(left = tracker.len(), "some sessions did not end in time");
        anyhow::bail!("sessions did not end within {GRACE:?}");
    }
    works.stop().await?;
    ended??;
    anyhow::ensure!(!engine_died, "the engine thread ended");
    Ok(())
}
