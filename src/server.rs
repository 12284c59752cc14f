//! The composition root: builds every part, wires their queues, opens and closes sessions, and ends it all in order.
//!
//! In here: who owns what. `workers` has the threads, `sessions` opens, finds and closes sessions, `admission` says whether
//! there may be one more, `pipelines` looks for descriptions that change, `avatar_cache` keeps avatars in memory, `avatar_making` makes them of what
//! is sent. Not in here: how any part works. Only this module knows
//! everyone.
//!
//! Shutdown: stop accepting, end connections, end sessions (conversation, playout, pipeline), then let go of the
//! engine, compose and playout threads and join them, since libtorch crashes in its destructors under a running
//! thread.

mod admission;
mod avatar_cache;
mod avatar_making;
pub(crate) mod budget;
#[cfg(test)]
mod isolation;
mod pipelines;
mod sessions;
mod workers;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::avatar::AvatarStore;
use crate::config::ServeConfig;
use crate::dialogue::Dialogues;
use crate::hearing::Listeners;
use crate::hearing::asr::Recogniser;
use crate::media;
use crate::media::one_port::{OnePort, PENDING_RESOURCES};
use crate::signalling::avatar_making::AvatarApi;
use crate::signalling::listener::{self, ListenerOptions, Readiness};
use crate::signalling::metrics_listener::{self, Metrics};
use crate::signalling::pipelines::PipelineApi;
use crate::signalling::tls::Tls;
use crate::signalling::uploads::UploadLimits;
use crate::speech::tts::Voices;
use admission::Admission;
use avatar_making::AvatarMaking;
use budget::ResourceBudget;
use budget::limits::ProcessLimits;
use pipelines::PipelineEditing;
use sessions::{Services, SessionStore};

pub(crate) use avatar_cache::load_avatar;
pub(crate) use workers::{Workers, load_network};

/// How long everything may take to end. A sentence in the air is cut.
const GRACE: Duration = Duration::from_millis(1500);

/// WebSockets allowed for each allowed session: a shared one has many viewers.
const VIEWERS_PER_SESSION: usize = 16;

/// Serves until `shutdown` resolves. The listener is bound already, so that a taken port is an error before anything
/// is loaded; `announce` is called once everything is ready.
pub(crate) async fn serve(
    config: ServeConfig,
    listener: TcpListener,
    metrics: impl Fn() -> String + Send + Sync + 'static,
    announce: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let metrics: Metrics = Arc::new(metrics);
    let metrics_socket = match config.metrics_listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("cannot listen on {address}: choose another with --metrics-listen"))?)
        }
        None => None,
    };
    // Before anything runs that would have to be stopped.
    let access = match config.access.clone() {
        Some(settings) => Some(Arc::new(Access::open(settings).await?)),
        None => None,
    };
    let tls = match config.tls.clone() {
        Some(files) => Some(Arc::new(Tls::open(files).await?)),
        None => None,
    };
    let (ready, readiness) = watch::channel(Readiness::NotReady { reason: "starting".into() });
    let manifest = AvatarStore::new(&config.folders.avatars).manifest(&config.avatar)?;
    let (one_port, one_port_tasks) = match config.media_port {
        Some(port) => {
            let (port, tasks) = OnePort::open(port).await?;
            (Some(port), Some(tasks))
        }
        None => (None, None),
    };
    let choice = config.encoder.clone();
    let pipelines = config.folders.pipelines.clone();
    // Beside each other: reading the avatar, trying encoders by running them, and loading the network.
    let reading = avatar_cache::read_avatar(&config.folders, &config.avatar);
    let encoders = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let certificate = media::Certificate::find()?;
        let directory = media::PipelineDir::find(&pipelines);
        Ok((media::LivePipelines::start(media::Encoders::select(&choice, &directory)?, directory), certificate))
    });
    let dialogues = Dialogues::new(config.llm.clone())?;
    let voices = Voices::new(config.tts.clone(), &config.folders.models)?;
    let recogniser = config.asr.clone().map(Recogniser::new).transpose().map_err(anyhow::Error::msg)?;
    let listeners = recogniser.map(|recogniser| Listeners::new(Arc::new(recogniser)));
    let asked = config.device.clone();
    let devices = tokio::task::spawn_blocking(move || asked.of_this_machine()).await?;
    let workers = Workers::start(&config.folders, &manifest.model, &devices).await?;
    let (pipelines, certificate) = encoders.await??;
    let tracker = TaskTracker::new();
    if let Some(tls) = tls.clone() {
        let stop = stop.clone();
        tracker.spawn(async move { stop.run_until_cancelled(tls.keep()).await });
    }
    if let Some(access) = access.clone() {
        let stop = stop.clone();
        tracker.spawn(async move { stop.run_until_cancelled(access.keep_keys()).await });
    }
    // By now everything runs that runs without viewers.
    let limits = ProcessLimits::find(config.max_threads);
    let web_sockets = config.max_sessions * VIEWERS_PER_SESSION;
    let (budget, connections) = ResourceBudget::new(limits, config.max_sessions, web_sockets)?;
    let (web_sockets, requests) = (connections.web_sockets, connections.requests);
    tracing::info!(viewers = budget.viewers(), web_sockets, requests, "room");
    let budget = Arc::new(budget);
    let _strangers = one_port.as_ref().map(|_| budget.take(PENDING_RESOURCES)).transpose()?;
    let editing = PipelineEditing::new(Arc::clone(&pipelines), Arc::clone(&budget), config.watch_pipelines);
    let editing = Arc::new(editing);
    let admission = Admission::new(&config, budget);
    let services = Services { dialogues, voices: voices.clone(), listeners };
    let store =
        SessionStore::new(config.clone(), &workers, services, admission, pipelines, tracker.clone(), stop.clone())
            .reached_by(one_port);
    store.preload(reading).await?;
    let making = Arc::new(AvatarMaking::new(&config, store.avatars()));
    let options = ListenerOptions {
        allowed_origins: config.allowed_origins.clone(),
        allowed_hosts: config.allowed_hosts.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        connections,
        limits_addresses: config.limit_addresses,
        metrics: metrics_socket.is_none().then(|| Arc::clone(&metrics)),
        avatars: AvatarApi {
            maker: Arc::clone(&making) as _,
            uploads: config.uploads,
            limits: UploadLimits::default(),
            folder: config.folders.avatars.clone(),
        },
        whep: config.whep.clone(),
        pipelines: PipelineApi { editor: Arc::clone(&editing) as _, allowed: config.reload },
        access: access.clone(),
        tls,
        readiness,
        shutdown_grace: GRACE / 2,
    };
    let store = Arc::new(store);
    if let Some(socket) = metrics_socket {
        tracing::info!(address = %socket.local_addr()?, "the metrics are here");
        tracker.spawn(metrics_listener::serve(socket, metrics, config.allowed_hosts.clone(), stop.clone()));
    }
    let serving = tokio::spawn(listener::serve(listener, Arc::clone(&store) as _, options, stop.clone()));
    tracker.spawn(editing.watch(stop.clone()));
    // Nobody asks if the listener is gone already, which is noticed below.
    let _ = ready.send(Readiness::Ready);
    announce();
    // It takes up to a second, which is less than a first viewer takes to come. Nothing waits for it to end.
    drop(tokio::task::spawn_blocking(move || certificate.make()));

    let mut serving = std::pin::pin!(serving);
    let mut ended_thread = None;
    let outcome = tokio::select! {
        () = shutdown => { tracing::info!("shutting down"); None }
        ended = &mut serving => Some(ended),
        thread = workers.ended() => {
            tracing::error!(thread, "a worker thread has ended, so the server ends too");
            ended_thread = Some(thread);
            None
        }
    };
    let _ = ready.send(Readiness::NotReady { reason: "shutting down".into() });
    let asked = Instant::now();
    stop.cancel();
    let ended = match outcome {
        Some(ended) => ended,
        None => serving.await,
    };
    drop(store);
    tracker.close();
    // Told to stop by now.
    let made = making.stop().await;
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!(left = tracker.len(), "some sessions did not end in time");
        anyhow::bail!("sessions did not end within {GRACE:?}");
    }
    if let Some(tasks) = one_port_tasks {
        tasks.stop().await;
    }
    voices.stop().await;
    workers.stop().await?;
    made?;
    tracing::info!(took = ?asked.elapsed(), "everything has ended");
    ended??;
    match ended_thread {
        Some(thread) => anyhow::bail!("the {thread} thread ended while it was needed"),
        None => Ok(()),
    }
}
