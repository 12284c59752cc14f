//! Avatars that are made, listed and deleted over HTTP.
//!
//! In here: what `preparation` and the folder of avatars do, as the API asks for it, and errors without the paths of this
//! machine, which the log has. Not in here: what is sent, who waits (`signalling::api`), how an avatar is made (`preparation`).
//! Runs on: tokio tasks; the work on a thread of its own of low priority, so that live sessions come first. Every thread is
//! waited for when the server ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::avatar_cache::AvatarCache;
use crate::avatar::manifest::Kind;
use crate::avatar::store::StoreError;
use crate::avatar::{AvatarError, AvatarStore, Manifest, PORTRAIT_MODEL, files};
use crate::config::ServeConfig;
use crate::face::FaceError;
use crate::ids::AvatarId;
use crate::media::ClipOptions;
use crate::picture::{RgbPicture, png};
use crate::preparation::{self, PreparationError, Progress, Request};
use crate::signalling::avatar_making::{
    AvatarFault, AvatarFaultCode, AvatarMaker, AvatarOrder, AvatarSummary, MadeAvatar, NotMade, Reached,
};
use crate::speech::Voice;

mod found;

/// What a step of the work may take, at the end of which it is seen that it is to stop.
const LONGEST_STEP: Duration = Duration::from_secs(20);
/// Of the thread that makes an avatar, added to the process's (nice(2)).
const PRIORITY: i32 = 10;
/// The longest picture of a list, in bytes.
const LONGEST_PREVIEW: u64 = 8 << 20;

/// Makes, lists and deletes the avatars of this installation.
pub(super) struct AvatarMaking {
    store: AvatarStore,
    models: PathBuf,
    /// The server's, which stays.
    own: AvatarId,
    cache: Arc<AvatarCache>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl AvatarMaking {
    pub(super) fn new(config: &ServeConfig, cache: Arc<AvatarCache>) -> Self {
        Self {
            store: AvatarStore::new(&config.folders.avatars),
            models: config.folders.models.clone(),
            own: config.avatar.clone(),
            cache,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Stops what is being made and waits for it.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tracker.close();
        let ended = timeout(LONGEST_STEP, self.tracker.wait()).await;
        ended.map_err(|_| anyhow::anyhow!("an avatar that was being made did not end within {LONGEST_STEP:?}"))
    }

    /// Runs something that waits for the disk, and is waited for.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AvatarStore) -> Result<T, AvatarFault> + Send + 'static,
    ) -> Result<T, AvatarFault> {
        let store = self.store.clone();
        self.tracker.spawn_blocking(move || work(&store)).await.unwrap_or_else(|error| Err(server_fault(&error)))
    }
}

impl AvatarMaker for AvatarMaking {
    fn list(&self) -> BoxFuture<'_, Vec<AvatarSummary>> {
        let (own, models) = (self.own.clone(), self.models.clone());
        Box::pin(async move {
            let list = move |store: &AvatarStore| {
                let summaries = store.list().into_iter().filter_map(|id| match summary(store, &models, &id, &own) {
                    Ok(summary) => Some(summary),
                    Err(error) => {
                        tracing::debug!(avatar = %id, %error, "an avatar cannot be listed");
                        None
                    }
                });
                Ok(summaries.collect())
            };
            self.blocking(list).await.unwrap_or_default()
        })
    }

    fn preview(&self, id: AvatarId) -> BoxFuture<'_, Result<Vec<u8>, AvatarFault>> {
        Box::pin(self.blocking(move |store| {
            let folder = store.folder(&id).map_err(|error| of_avatar(&id, error))?;
            let path = preview_path(&folder).ok_or_else(|| unknown(&format!("avatar \"{id}\" has no picture")))?;
            std::fs::read(path).map_err(|error| server_fault(&error))
        }))
    }

    fn check(&self, id: AvatarId, replace: bool) -> BoxFuture<'_, Result<(), AvatarFault>> {
        let own = self.own.clone();
        Box::pin(self.blocking(move |store| {
            let Ok(manifest) = store.manifest(&id) else { return Ok(()) };
            match replace {
                true => check_replaceable(&manifest, &own),
                false => Err(of_store(&id, StoreError::Exists { id: id.clone() })),
            }
        }))
    }

    fn make(
        &self,
        source: PathBuf,
        order: AvatarOrder,
        reached: Box<dyn FnMut(Reached) + Send>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<MadeAvatar, NotMade>> {
        Box::pin(async move {
            self.check(order.id.clone(), order.replace).await.map_err(|fault| NotMade { fault, found: None })?;
            // Stopped by whoever asks, by the server's end, and if nobody waits for it any more.
            let asked = self.stop.child_token();
            let _abandoned = asked.clone().drop_guard();
            let (id, own) = (order.id.clone(), self.own.clone());
            let (store, models, told) = (self.store.clone(), self.models.clone(), asked.clone());
            let work = move || make(&store, &models, &own, &request(source, order), reached, &told);
            let mut working = self.tracker.spawn_blocking(move || on_thread(work));
            let ended = tokio::select! {
                ended = &mut working => ended,
                () = stop.cancelled() => {
                    asked.cancel();
                    working.await
                }
            };
            let made = ended.unwrap_or_else(|error| Err(NotMade { fault: server_fault(&error), found: None }));
            match &made {
                Ok(_) => self.cache.forget(&id).await,
                Err(NotMade { fault, .. }) => {
                    tracing::info!(avatar = %id, code = fault.code.as_str(), problem = fault.message, "an avatar is not made");
                }
            }
            made
        })
    }

    fn delete(&self, id: AvatarId) -> BoxFuture<'_, Result<(), AvatarFault>> {
        let own = self.own.clone();
        Box::pin(async move {
            let gone = id.clone();
            let delete = move |store: &AvatarStore| {
                let manifest = store.manifest(&id).map_err(|error| of_avatar(&id, error))?;
                check_replaceable(&manifest, &own)?;
                store.delete(&id).map_err(|error| of_store(&id, error))
            };
            self.blocking(delete).await?;
            tracing::info!(avatar = %gone, "an avatar is deleted over HTTP");
            self.cache.forget(&gone).await;
            Ok(())
        })
    }
}

/// Runs work on a thread that gives way to others; it and what it starts end with it.
fn on_thread(work: impl FnOnce() -> Result<MadeAvatar, NotMade> + Send + 'static) -> Result<MadeAvatar, NotMade> {
    let failed = |fault: AvatarFault| NotMade { fault, found: None };
    let thread = std::thread::Builder::new().name("making".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::nice(PRIORITY) {
            tracing::debug!(%error, "an avatar is made at the priority of everything else");
        }
        work()
    });
    let thread = thread.map_err(|error| failed(server_fault(&error)))?;
    thread.join().unwrap_or_else(|_| Err(failed(server_fault(&"it panicked"))))
}

fn make(
    store: &AvatarStore,
    models: &Path,
    own: &AvatarId,
    request: &Request,
    mut reached: Box<dyn FnMut(Reached) + Send>,
    stop: &CancellationToken,
) -> Result<MadeAvatar, NotMade> {
    let mut progress = |Progress { stage, share }: Progress| reached(Reached { stage: stage.as_str(), share });
    let folder =
        preparation::create(store, models, request, &mut progress, stop).map_err(|error| not_made(request, error))?;
    tracing::info!(avatar = %request.id, "an avatar is made over HTTP");
    let avatar = summary(store, models, &request.id, own)
        .map_err(|error| NotMade { fault: of_avatar(&request.id, error), found: None })?;
    // An avatar without it is as good.
    let found =
        found::picture(&folder, models).map_err(|problem| tracing::warn!(problem, "what was found is not shown"));
    Ok(MadeAvatar { avatar, found: found.ok().as_ref().and_then(png_of) })
}

fn request(source: PathBuf, order: AvatarOrder) -> Request {
    // As on the command line: the neural voice speaks English only.
    let engine = if order.language == "en-us" { "hibari" } else { "espeak-ng" };
    Request {
        source,
        file_name: order.file_name,
        id: order.id,
        name: order.name,
        model: PORTRAIT_MODEL.to_owned(),
        voice: Voice { engine: engine.to_owned(), ..Voice::plain(&order.language) },
        licence: order.licence,
        consent: order.consent,
        face: order.face,
        still: order.still,
        closed: order.closed,
        alpha: order.alpha,
        whole: order.whole,
        side: order.side,
        clip: ClipOptions { trim: order.trim, mirror: order.mirror, ..ClipOptions::default() },
        bbox_shift: 0,
        mask: None,
        parsing_mode: None,
        replace: order.replace,
    }
}

fn summary(store: &AvatarStore, models: &Path, id: &AvatarId, own: &AvatarId) -> Result<AvatarSummary, AvatarError> {
    let manifest = store.manifest(id)?;
    let frames = match manifest.frames {
        Some(frames) => frames,
        // Of an older format, which has to be counted.
        None => store.summary(id)?.frames,
    };
    let preview = preview_path(&store.folder(id)?).map(|path| version(&manifest, &path));
    let usable = models.join(&manifest.model).join("config.json").is_file();
    let deletable = check_replaceable(&manifest, own).is_ok();
    let matte = manifest.matte_place();
    let Manifest { id, name, kind, model, width, height, licence, .. } = manifest;
    Ok(AvatarSummary { id, name, kind, model, width, height, matte, frames, licence, preview, usable, deletable })
}

/// The small picture of an avatar, or the first frame of one that has none.
fn preview_path(folder: &Path) -> Option<PathBuf> {
    let paths = [folder.join(files::PREVIEW), folder.join(files::picture(0))];
    paths.into_iter().find(|path| path.metadata().is_ok_and(|about| about.is_file() && about.len() <= LONGEST_PREVIEW))
}

/// Another one for other content, as the manifest has it.
fn version(manifest: &Manifest, path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let recorded = manifest.files.get(name).map(|recorded| recorded.sha256.chars().take(12).collect());
    recorded.unwrap_or_else(|| manifest.format.to_string())
}

/// The server's own avatar is shown to whoever asks for none, and what a program drew cannot be made again here.
fn check_replaceable(manifest: &Manifest, own: &AvatarId) -> Result<(), AvatarFault> {
    let id = &manifest.id;
    let message = if id == own {
        format!("avatar \"{id}\" is the one that this server shows: it may not be replaced or deleted while it does")
    } else if manifest.kind == Kind::Drawn {
        format!("avatar \"{id}\" was drawn by a program: it may be deleted on the server's machine only")
    } else {
        return Ok(());
    };
    Err(AvatarFault::new(AvatarFaultCode::AvatarProtected, message))
}

/// The system's words for a full disk, which is all that is left of some errors.
const NO_ROOM: &str = "No space left";

fn not_made(request: &Request, error: PreparationError) -> NotMade {
    let (file, id) = (&request.file_name, &request.id);
    let unusable = |message: String| AvatarFault::new(AvatarFaultCode::UnusableFile, message);
    let mut found = None;
    let fault = match error {
        PreparationError::Source(error) => unusable(format!("{file} {}", error.fault)),
        PreparationError::Face { file, problem, found: picture } => {
            found = png_of(&picture);
            AvatarFault::new(AvatarFaultCode::NoUsableFace, format!("{file}: {problem}"))
        }
        PreparationError::Clip { file, problem } => unusable(format!("{file}: {problem}")),
        PreparationError::Portrait(error) if error.is_of_the_picture() => unusable(format!("{file}: {error}")),
        PreparationError::Store(error) => of_store(id, error),
        PreparationError::Avatar(error) => of_avatar(id, error),
        PreparationError::Finder(FaceError::Meshes { problem }) if problem.contains(NO_ROOM) => disk_full(),
        PreparationError::Stopped => AvatarFault::new(AvatarFaultCode::Stopped, "stopped"),
        error => server_fault(&error),
    };
    NotMade { fault, found }
}

fn of_store(id: &AvatarId, error: StoreError) -> AvatarFault {
    match error {
        StoreError::Exists { .. } => AvatarFault::new(AvatarFaultCode::AvatarExists, error.to_string()),
        StoreError::Busy { .. } => AvatarFault::new(AvatarFaultCode::AvatarBusy, error.to_string()),
        StoreError::NoRoom { .. } => disk_full(),
        StoreError::Avatar(error) => of_avatar(id, error),
        error => server_fault(&error),
    }
}

fn of_avatar(id: &AvatarId, error: AvatarError) -> AvatarFault {
    match error {
        AvatarError::Unknown { .. } => unknown(&format!("there is no avatar \"{id}\"")),
        AvatarError::BadFile { problem, .. } if problem.contains(NO_ROOM) => disk_full(),
        error => server_fault(&error),
    }
}

fn unknown(message: &str) -> AvatarFault {
    AvatarFault::new(AvatarFaultCode::UnknownAvatar, message)
}

fn disk_full() -> AvatarFault {
    AvatarFault::new(AvatarFaultCode::DiskFull, "the server's disk has no room for the avatar")
}

fn server_fault(error: &dyn std::fmt::Display) -> AvatarFault {
    tracing::warn!(%error, "an avatar is not made, listed or deleted");
    AvatarFault::new(AvatarFaultCode::ServerFault, "the server is at fault; its log says how")
}

fn png_of(picture: &RgbPicture) -> Option<Vec<u8>> {
    png::to_bytes(picture).map_err(|error| tracing::warn!(%error, "a picture is not encoded")).ok()
}
