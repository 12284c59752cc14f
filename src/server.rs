//! The composition root: builds every part, wires their queues, opens and closes sessions, and ends it all in order.
//!
//! In here: who owns what. Not in here: how any part works. Only this file knows everyone.
//!
//! Shutdown: stop accepting, end connections, end sessions (conversation, playout, pipeline), then let go of the
//! engine, compose and playout threads and join them, since libtorch crashes in its destructors under a running
//! thread.

mod admission;
mod avatars;
pub mod budget;
#[cfg(test)]
mod isolation;
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
use crate::dialogue::Dialogues;
use crate::hearing::Ears;
use crate::hearing::asr::Recogniser;
use crate::ids::AvatarId;
use crate::lipsync::devices::Devices;
use crate::lipsync::engine::{Engine, EngineThread, Equipment};
use crate::lipsync::{AvatarHandle, LipSync};
use crate::media;
use crate::musetalk::{DeviceChoices, ENGINE_THREADS, MuseTalk, find_device};
use crate::playout::{Playout, PlayoutThread};
use crate::signalling::listener::{self, ListenerOptions, Readiness};
use crate::speech::tts::Voices;
use admission::Admission;
use budget::Budget;
use budget::system::System;
use sessions::SessionStore;

/// How long everything may take to end. A sentence in the air is cut.
const GRACE: Duration = Duration::from_millis(1500);

/// WebSockets allowed for each allowed session: a shared one has many viewers.
const VIEWERS_PER_SESSION: usize = 16;

/// The threads that do the work and the ways to them; what `serve`, `render` and `bench` share. Dropping it ends and joins
/// the threads, so that no way out leaves one behind.
pub struct Works {
    pub devices: Devices,
    pub composer: Composer,
    pub playout: Playout,
    threads: Threads,
}

struct Threads {
    engines: Vec<EngineThread>,
    compose: ComposeThread,
    playout: PlayoutThread,
}

/// An avatar in memory with its latents at the engines.
pub struct LoadedAvatar {
    pub avatar: Arc<crate::avatar::Avatar>,
    pub handle: AvatarHandle,
}

impl Works {
    /// Loads a model on each device and starts the threads.
    pub async fn start(folders: &Folders, model: &str, devices: &DeviceChoices) -> anyhow::Result<Self> {
        let (mut engines, mut threads) = (Vec::new(), Vec::new());
        for choice in devices.iter() {
            let folder = folders.models.join(model);
            let build = move || {
                Ok(Box::new(MuseTalk::load(&folder, find_device(choice)?, ENGINE_THREADS)?) as Box<dyn LipSync>)
            };
            let (engine, thread) = Engine::spawn(build).await.with_context(|| format!("model {model}"))?;
            engines.push((choice.to_string(), engine));
            threads.push(thread);
        }
        let (composer, compose) = Composer::spawn().context("compose thread")?;
        let (playout, playout_thread) = Playout::spawn().context("playout thread")?;
        let threads = Threads { engines: threads, compose, playout: playout_thread };
        Ok(Self { devices: Devices::new(engines), composer, playout, threads })
    }

    /// Resolves to the name of the first thread that ends, which while they are needed is a fault.
    pub async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.devices.ended() => "engine",
            () = self.composer.ended() => "compose",
            () = self.playout.ended() => "playout",
        }
    }

    /// Ends the threads, waits for them without blocking the runtime, and tells if one has panicked.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { devices, composer, playout, threads } = self;
        drop((devices, composer, playout));
        let joined = tokio::task::spawn_blocking(move || {
            let joined = [
                ("playout", threads.playout.join()),
                ("compose", threads.compose.join()),
                // All of them, whatever the first says.
                ("engine", threads.engines.into_iter().map(EngineThread::join).filter(|sound| !sound).count() == 0),
            ];
            joined.iter().filter(|(_, sound)| !sound).map(|(name, _)| *name).collect::<Vec<_>>()
        });
        let panicked = joined.await?;
        anyhow::ensure!(panicked.is_empty(), "worker threads panicked: {}", panicked.join(", "));
        Ok(())
    }
}

/// Reads an avatar's folder and hands its latents to the engines.
pub async fn load_avatar(devices: &Devices, folders: &Folders, id: &AvatarId) -> anyhow::Result<LoadedAvatar> {
    let store = AvatarStore::new(&folders.avatars);
    let id = id.clone();
    let avatar = tokio::task::spawn_blocking(move || store.load(&id)).await??;
    let handle = devices.add_avatar(avatar.latents.clone(), avatar.manifest.decode_rows).await?;
    let avatar = Arc::new(avatar);
    let decoder = avatar.manifest.decoder_folder(&folders.avatars, &folders.models);
    let getting_ready = async {
        devices.equip(handle, Equipment { avatar: Arc::clone(&avatar), decoder }).await?;
        devices.warm_up(handle).await
    };
    if let Err(error) = getting_ready.await {
        devices.remove_avatar(handle).await;
        return Err(error.into());
    }
    Ok(LoadedAvatar { avatar, handle })
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
    let dialogues = Dialogues::new(config.llm.clone())?;
    let voices = Voices::new(config.tts.clone(), &config.folders.models)?;
    let recogniser = config.asr.clone().map(Recogniser::new).transpose().map_err(anyhow::Error::msg)?;
    let ears = recogniser.map(|recogniser| Ears::new(Arc::new(recogniser)));
    let works = Works::start(&config.folders, &manifest.model, &config.device).await?;
    let encoders = Arc::new(encoders.await??);
    let tracker = TaskTracker::new();
    // By now everything runs that runs without viewers.
    let system = System::look(config.max_threads);
    let (budget, room) = Budget::new(system, config.max_sessions, config.max_sessions * VIEWERS_PER_SESSION)?;
    tracing::info!(viewers = budget.viewers(), web_sockets = room.web_sockets, requests = room.requests, "room");
    let admission = Admission::new(&config, Arc::new(budget));
    let options = ListenerOptions {
        allowed_origins: config.allowed_origins.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        room,
        limits_addresses: config.limit_addresses,
        metrics: Arc::new(metrics),
        readiness,
        shutdown_grace: GRACE / 2,
    };
    let services = (dialogues, voices.clone(), ears);
    let store = SessionStore::new(config, &works, services, admission, encoders, tracker.clone(), stop.clone());
    store.preload().await?;
    let store = Arc::new(store);
    let serving = tokio::spawn(listener::serve(listener, Arc::clone(&store) as _, options, stop.clone()));
    // Nobody asks if the listener is gone already, which is noticed below.
    let _ = ready.send(Readiness::Ready);
    announce();

    let mut serving = std::pin::pin!(serving);
    let mut ended_thread = None;
    let outcome = tokio::select! {
        () = shutdown => { tracing::info!("shutting down"); None }
        ended = &mut serving => Some(ended),
        thread = works.ended() => {
            tracing::error!(thread, "a worker thread has ended, so the server ends too");
            ended_thread = Some(thread);
            None
        }
    };
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
    voices.stop().await;
    works.stop().await?;
    ended??;
    match ended_thread {
        Some(thread) => anyhow::bail!("the {thread} thread ended while it was needed"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avatar::fixture;
    use crate::ids::SessionId;
    use crate::lipsync::{LipSyncError, Mouth, MouthRun};
    use crate::picture::MouthFrame;
    use crate::playout::{Pair, PairSink};

    /// A network that draws nothing, and one that panics when it is asked to.
    struct Network {
        panics: bool,
    }

    impl LipSync for Network {
        fn add_avatar(&mut self, _: &std::path::Path, _: Option<[i64; 2]>) -> Result<AvatarHandle, LipSyncError> {
            assert!(!self.panics, "the network is told to panic");
            Ok(AvatarHandle(0))
        }

        fn add_canvas(&mut self, _: AvatarHandle, _: &crate::avatar::Avatar) -> Result<(), LipSyncError> {
            Ok(())
        }

        fn remove_avatar(&mut self, _: AvatarHandle) {}

        fn infer_all(&mut self, _: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError> {
            Ok(Vec::new())
        }
    }

    struct PanickingSink;

    impl PairSink for PanickingSink {
        fn push(&mut self, _: Pair) {
            panic!("the sink panics");
        }
    }

    async fn works(panics: bool) -> Works {
        let build = move || Ok(Box::new(Network { panics }) as Box<dyn LipSync>);
        let (engine, engine_thread) = Engine::spawn(build).await.unwrap();
        let (composer, compose) = Composer::spawn().unwrap();
        let (playout, playout_thread) = Playout::spawn().unwrap();
        Works {
            devices: Devices::new([("fake".to_owned(), engine)]),
            composer,
            playout,
            threads: Threads { engines: vec![engine_thread], compose, playout: playout_thread },
        }
    }

    async fn assert_told(works: Works, thread: &str) {
        assert_eq!(works.ended().await, thread);
        assert_eq!(works.stop().await.unwrap_err().to_string(), format!("worker threads panicked: {thread}"));
    }

    /// As when `serve` or `render` fails in the middle: sessions and films still hold ways to the threads.
    #[tokio::test]
    async fn whichever_way_works_go_their_threads_have_ended() {
        let works = works(false).await;
        let (devices, composer, playout) = (works.devices.clone(), works.composer.clone(), works.playout.clone());
        drop(works);
        let all_ended = async { tokio::join!(devices.ended(), composer.ended(), playout.ended()) };
        assert!(futures_util::FutureExt::now_or_never(all_ended).is_some());
    }

    #[tokio::test]
    async fn a_worker_thread_that_ends_is_named() {
        let engine = works(true).await;
        engine.devices.add_avatar("latents".into(), None).await.unwrap_err();
        assert_told(engine, "engine").await;

        let compose = works(false).await;
        let too_small = Arc::new(Mouth::Crop(MouthFrame { width: 32, height: 32, rgb: Vec::new() }));
        compose.composer.paste(Arc::new(fixture::avatar()), 0, too_small).await.unwrap_err();
        assert_told(compose, "compose").await;

        let playout = works(false).await;
        let (events, _told) = tokio::sync::mpsc::channel(1);
        let avatar = Arc::new(fixture::avatar());
        let _session = playout.playout.add(SessionId::next(), avatar, Box::new(PanickingSink), events).await.unwrap();
        assert_told(playout, "playout").await;
    }
}
