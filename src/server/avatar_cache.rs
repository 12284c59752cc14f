//! The avatars in memory: loaded when somebody first asks for one, once for all who ask meanwhile, and let go when nobody has
//! used one for longest.
//!
//! Nobody waits for an avatar but those who asked for it. One that cannot be loaded is not tried again at once by whoever
//! asks next: it rests, longer after each failure. In here: the cache, and loading one avatar for all engines. Not in here: an avatar's files (`avatar`), who joins
//! (`sessions`). Runs on: tokio tasks; one, tracked by the server, for each avatar that is being loaded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::avatar::{Avatar, AvatarError, AvatarStore};
use crate::config::Folders;
use crate::ids::AvatarId;
use crate::lipsync::device_pool::DevicePool;
use crate::lipsync::{AvatarAssets, AvatarHandle};
use crate::session::{ErrorCode, Refusal};

/// Avatars that nobody uses and that are kept for whoever asks next, besides the server's own. One takes up to half a
/// gigabyte.
const KEPT: usize = 2;
/// Loaded at a time: each takes a core for a second.
const LOADING: usize = 2;
/// A disk that takes longer has failed.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Rest after the first failure; it doubles with each further one.
const REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// An avatar in memory with its latents at the engines.
pub(crate) struct LoadedAvatar {
    /// Its frames, masks and manifest.
    pub(crate) avatar: Arc<Avatar>,
    /// As the engines know it.
    pub(crate) handle: AvatarHandle,
}

/// Where avatars come from.
pub(super) trait AvatarSource: Send + Sync {
    /// Whether there is such an avatar, and the model that draws it.
    fn knows(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Reads it and gives it to the engines.
    fn load(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<LoadedAvatar>>;
    /// Takes it from the engines.
    fn let_go(&self, avatar: Arc<LoadedAvatar>) -> BoxFuture<'_, ()>;
}

/// The folder of avatars, and the engines that hold their latents.
pub(super) struct InstalledAvatars {
    pub devices: DevicePool,
    pub folders: Folders,
}

impl InstalledAvatars {
    /// Whether there is such an avatar, and the model that draws it.
    pub fn check(folders: &Folders, id: &AvatarId) -> Result<(), AvatarError> {
        let model = AvatarStore::new(&folders.avatars).manifest(id)?.model;
        if folders.models.join(&model).join("config.json").is_file() {
            return Ok(());
        }
        Err(AvatarError::NoModel { id: id.to_string(), model, folder: folders.models.display().to_string() })
    }
}

impl AvatarSource for InstalledAvatars {
    fn knows(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            let folders = self.folders.clone();
            Ok(tokio::task::spawn_blocking(move || Self::check(&folders, &id)).await??)
        })
    }

    fn load(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<LoadedAvatar>> {
        Box::pin(async move { load_avatar(&self.devices, &self.folders, &id).await })
    }

    fn let_go(&self, avatar: Arc<LoadedAvatar>) -> BoxFuture<'_, ()> {
        Box::pin(self.devices.remove_avatar(avatar.handle))
    }
}

/// An avatar that is being read, which needs no engine.
pub(super) type Reading = tokio::task::JoinHandle<Result<Avatar, AvatarError>>;

/// Begins to read an avatar's folder.
pub(super) fn read_avatar(folders: &Folders, id: &AvatarId) -> Reading {
    let (store, id) = (AvatarStore::new(&folders.avatars), id.clone());
    tokio::task::spawn_blocking(move || store.load(&id))
}

/// Hands the latents of an avatar that is being read to the engines, and has them get ready to draw it.
pub(super) async fn take_in(devices: &DevicePool, folders: &Folders, reading: Reading) -> anyhow::Result<LoadedAvatar> {
    let avatar = Arc::new(reading.await??);
    let decoder = avatar.manifest.decoder_folder(&folders.avatars, &folders.models);
    let handle = devices.add_avatar(AvatarAssets { avatar: Arc::clone(&avatar), decoder }).await?;
    if let Err(error) = devices.warm_up(handle).await {
        devices.remove_avatar(handle).await;
        return Err(error.into());
    }
    Ok(LoadedAvatar { avatar, handle })
}

/// Reads an avatar's folder and gives it to the engines.
pub(crate) async fn load_avatar(
    devices: &DevicePool,
    folders: &Folders,
    id: &AvatarId,
) -> anyhow::Result<LoadedAvatar> {
    take_in(devices, folders, read_avatar(folders, id)).await
}

type Loaded = Result<Arc<LoadedAvatar>, Refusal>;

enum Entry {
    Loading(watch::Receiver<Option<Loaded>>),
    Ready { avatar: Arc<LoadedAvatar>, used: Instant },
    Failed { refusal: Refusal, until: Instant, failures: u32 },
}

/// The avatars in memory, and those that are being loaded or could not be.
pub(super) struct AvatarCache {
    source: Arc<dyn AvatarSource>,
    own: AvatarId,
    cache: Mutex<HashMap<AvatarId, Entry>>,
    /// Those that are not on the disk any more as they were loaded, as long as somebody uses them.
    outdated: Mutex<Vec<(AvatarId, Arc<LoadedAvatar>)>>,
    loading: Semaphore,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl AvatarCache {
    /// `own` is the server's, which stays.
    pub(super) fn new(
        source: Arc<dyn AvatarSource>,
        own: AvatarId,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let outdated = Mutex::default();
        Self { source, own, cache: Mutex::default(), outdated, loading: Semaphore::new(LOADING), tracker, stop }
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<AvatarId, Entry>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the server's own, which is being loaded, or says in full why that cannot be.
    pub(super) async fn preload(
        &self,
        loading: impl Future<Output = anyhow::Result<LoadedAvatar>>,
    ) -> anyhow::Result<Arc<LoadedAvatar>> {
        self.source.knows(self.own.clone()).await?;
        let avatar = Arc::new(loading.await?);
        self.cache().insert(self.own.clone(), Entry::Ready { avatar: Arc::clone(&avatar), used: Instant::now() });
        Ok(avatar)
    }

    /// An avatar, loaded first if it is not there. Whoever gives up waiting leaves the loading to go on.
    pub(super) async fn get(self: &Arc<Self>, id: &AvatarId) -> Loaded {
        let mut result = {
            let mut cache = self.cache();
            let mut failures_before = 0;
            let mut waiting = None;
            match cache.get_mut(id) {
                Some(Entry::Ready { avatar, used }) => {
                    *used = Instant::now();
                    return Ok(Arc::clone(avatar));
                }
                Some(Entry::Failed { refusal, until, .. }) if Instant::now() < *until => return Err(refusal.clone()),
                Some(Entry::Failed { failures, .. }) => failures_before = *failures,
                // One whose task is gone without a result is begun anew.
                Some(Entry::Loading(result)) => {
                    waiting = Some(result.clone()).filter(|result| result.has_changed().is_ok())
                }
                None => {}
            }
            waiting.unwrap_or_else(|| {
                let (told, result) = watch::channel(None);
                cache.insert(id.clone(), Entry::Loading(result.clone()));
                self.tracker.spawn(Arc::clone(self).load(id.clone(), failures_before, told));
                result
            })
        };
        match result.wait_for(Option::is_some).await.map(|result| result.clone()) {
            Ok(Some(loaded)) => loaded,
            _ => Err(unavailable(id)),
        }
    }

    async fn load(self: Arc<Self>, id: AvatarId, failures: u32, told: watch::Sender<Option<Loaded>>) {
        let loaded = match self.stop.run_until_cancelled(self.try_load(&id)).await {
            Some(Ok(avatar)) => Ok(Arc::new(avatar)),
            Some(Err(error)) => {
                tracing::warn!(avatar = %id, error = format!("{error:#}"), "an avatar cannot be loaded");
                Err(refusal(&id, &error))
            }
            None => Err(unavailable(&id)),
        };
        match &loaded {
            // It was replaced or deleted while it was loaded.
            Ok(avatar) if !self.is_awaited(&id, &told) => self.outdated().push((id, Arc::clone(avatar))),
            Ok(avatar) => {
                drop(self.cache().insert(id, Entry::Ready { avatar: Arc::clone(avatar), used: Instant::now() }))
            }
            // There are more wrong names than could be remembered, and finding out is quick.
            Err(refusal) if refusal.code == ErrorCode::UnknownAvatar => drop(self.cache().remove(&id)),
            Err(refusal) => {
                let rest = REST.saturating_mul(1 << failures.min(5)).min(LONGEST_REST);
                let (refusal, until, failures) = (refusal.clone(), Instant::now() + rest, failures + 1);
                self.cache().insert(id, Entry::Failed { refusal, until, failures });
            }
        }
        // Nobody is left who waits for it.
        let _ = told.send(Some(loaded));
        drop(told);
        self.tidy_up().await;
    }

    fn outdated(&self) -> MutexGuard<'_, Vec<(AvatarId, Arc<LoadedAvatar>)>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is being loaded is still what the next one who asks would wait for.
    fn is_awaited(&self, id: &AvatarId, told: &watch::Sender<Option<Loaded>>) -> bool {
        let own = told.subscribe();
        matches!(self.cache().get(id), Some(Entry::Loading(result)) if result.same_channel(&own))
    }

    /// An avatar was replaced or deleted on the disk: whoever asks next gets it as it is there. Who uses it goes on.
    pub(super) async fn forget(&self, id: &AvatarId) {
        let old = self.cache().remove(id);
        if let Some(Entry::Ready { avatar, .. }) = old {
            self.outdated().push((id.clone(), avatar));
        }
        self.tidy_up().await;
    }

    async fn try_load(&self, id: &AvatarId) -> anyhow::Result<LoadedAvatar> {
        self.source.knows(id.clone()).await?;
        let _permit = self.loading.acquire().await?;
        tracing::info!(avatar = %id, "an avatar is loaded");
        match timeout(LOAD_TIMEOUT, self.source.load(id.clone())).await {
            Ok(loaded) => loaded,
            Err(_) => anyhow::bail!("it took more than {} s", LOAD_TIMEOUT.as_secs()),
        }
    }

    /// Lets go of avatars that nobody uses, but for those that were used last.
    pub(super) async fn tidy_up(&self) {
        let unwanted: Vec<(AvatarId, Arc<LoadedAvatar>)> = {
            let mut cache = self.cache();
            let unused = cache.iter().filter_map(|(id, entry)| match entry {
                Entry::Ready { avatar, used } if *id != self.own && is_unused(avatar) => Some((*used, id.clone())),
                _ => None,
            });
            let mut unused: Vec<(Instant, AvatarId)> = unused.collect();
            unused.sort();
            unused.truncate(unused.len().saturating_sub(KEPT));
            let taken = unused.into_iter().filter_map(|(_, id)| match cache.remove(&id) {
                Some(Entry::Ready { avatar, .. }) => Some((id, avatar)),
                _ => None,
            });
            let mut taken: Vec<_> = taken.collect();
            taken.extend(self.outdated().extract_if(.., |(_, avatar)| is_unused(avatar)));
            taken
        };
        for (id, avatar) in unwanted {
            tracing::info!(avatar = %id, "an avatar that nobody uses is let go");
            self.source.let_go(avatar).await;
        }
    }
}

/// Whether nothing holds it but the cache, nor its frames, which whatever still draws it holds.
fn is_unused(avatar: &Arc<LoadedAvatar>) -> bool {
    Arc::strong_count(avatar) == 1 && Arc::strong_count(&avatar.avatar) == 1
}

/// What a client may know: never where files lie on this machine, which the log tells.
fn refusal(id: &AvatarId, error: &anyhow::Error) -> Refusal {
    match error.downcast_ref::<AvatarError>() {
        // Which there are is for those who may see the list.
        Some(AvatarError::Unknown { id, .. }) => Refusal::new(
            ErrorCode::UnknownAvatar,
            format!("avatar {id:?} does not exist on this server: GET /api/avatars lists those that do"),
        ),
        Some(AvatarError::NoModel { id, model, .. }) => Refusal::new(
            ErrorCode::UnknownAvatar,
            format!("avatar {id:?} needs model {model}, which this server does not have"),
        ),
        _ => unavailable(id),
    }
}

fn unavailable(id: &AvatarId) -> Refusal {
    Refusal::new(
        ErrorCode::AvatarUnavailable,
        format!("avatar \"{id}\" cannot be loaded just now; the server's log says why: try again in a few seconds"),
    )
}

#[cfg(test)]
mod tests;
