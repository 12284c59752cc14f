//! The worker threads (engines, compose, playout) and the ways to them: what `serve`, `render` and `bench` share.
//!
//! In here: starting them, noticing one that ends, joining them. Not in here: what runs on them (`lipsync`, `compose`,
//! `playout`).
//! Runs on: the caller's task; joining on a thread that may block.

use std::path::Path;

use anyhow::Context;
use futures_util::future::join_all;

use crate::avatar::{FrameMakers, FrameThreads, PORTRAIT_MODEL};
use crate::compose::{ComposeThreads, Composer};
use crate::config::Folders;
use crate::lipsync::device_pool::DevicePool;
use crate::lipsync::engine::{Engine, EngineThread};
use crate::lipsync::networks::Networks;
use crate::lipsync::{LipSync, LipSyncError};
use crate::musetalk::device::{DeviceChoices, ENGINE_THREADS};
use crate::musetalk::{DeviceChoice, MuseTalk, find_device};
use crate::playout::{Playout, PlayoutThread};
use crate::portrait::Portrait;

/// The threads that do the work and the ways to them. Dropping it ends and joins the threads, so that no way out leaves
/// one behind.
pub(crate) struct Workers {
    /// The engines, one a device.
    pub(crate) devices: DevicePool,
    /// Pastes mouths into frames.
    pub(crate) composer: Composer,
    /// Sends pairs of frame and sound, 25 a second to each session.
    pub(crate) playout: Playout,
    /// Makes avatars' own frames ahead that are not in memory.
    pub(crate) frame_makers: FrameMakers,
    /// Declared last: they end once the ways to them are gone.
    pub(super) threads: Threads,
}

pub(super) struct Threads {
    pub(super) engines: Vec<EngineThread>,
    pub(super) compose: ComposeThreads,
    pub(super) playout: PlayoutThread,
    pub(super) frames: FrameThreads,
}

/// The largest weights that every core's engine has a copy of. Models beyond are MuseTalk's own, which are not live on a CPU.
const MOST_WEIGHTS_A_CORE: u64 = 256 << 20;

/// How many bytes of weights a model's folder holds.
fn weights(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "safetensors"));
    weights.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// The network of a model's folder: of portraits, or MuseTalk's.
pub(crate) fn load_network(folder: &Path, on: DeviceChoice, threads: i32) -> Result<Box<dyn LipSync>, LipSyncError> {
    let device = find_device(on)?;
    Ok(if folder.file_name().is_some_and(|name| name == PORTRAIT_MODEL) {
        Box::new(Portrait::load(folder, device, threads)?)
    } else {
        Box::new(MuseTalk::load(folder, device, threads)?)
    })
}

impl Workers {
    /// Loads a model on each device, on all of them together, and starts the threads. Other models are loaded when
    /// their first avatar is. Named several times, the CPU has an engine for each, the first of which alone has large
    /// models. Of devices that nobody named, one that does not work is left out while there is another.
    pub(crate) async fn start(folders: &Folders, model: &str, devices: &DeviceChoices) -> anyhow::Result<Self> {
        let spawn = |(at, choice): (usize, DeviceChoice)| {
            let (models, first) = (folders.models.clone(), model.to_owned());
            let is_another_core = choice == DeviceChoice::Cpu && devices.iter().take(at).any(|other| other == choice);
            let build = move || {
                let load = move |model: &str| {
                    let folder = models.join(model);
                    if is_another_core && weights(&folder) > MOST_WEIGHTS_A_CORE {
                        return Err(LipSyncError::LeftToAnother(model.to_owned()));
                    }
                    load_network(&folder, choice, ENGINE_THREADS)
                };
                let mut networks = Networks::new(Box::new(load));
                match networks.preload(&first) {
                    Ok(_) | Err(LipSyncError::LeftToAnother(_)) => Ok(Box::new(networks) as Box<dyn LipSync>),
                    Err(error) => Err(error),
                }
            };
            async move { (choice, Engine::spawn(build).await) }
        };
        let spawned = join_all(devices.iter().enumerate().map(spawn)).await;
        let works = spawned.iter().any(|(_, engine)| engine.is_ok());
        let (mut engines, mut threads) = (Vec::new(), Vec::new());
        for (choice, engine) in spawned {
            match engine {
                Ok((engine, thread)) => {
                    engines.push((choice.to_string(), engine));
                    threads.push(thread);
                }
                Err(error) if works && devices.may_be_fewer() => {
                    tracing::warn!(device = %choice, %error, "a device is left out");
                }
                Err(error) => return Err(error).with_context(|| format!("model {model}")),
            }
        }
        let (composer, compose) = Composer::spawn().context("compose thread")?;
        let (playout, playout_thread) = Playout::spawn().context("playout thread")?;
        let (frame_makers, frames) = FrameMakers::spawn().context("frames thread")?;
        let threads = Threads { engines: threads, compose, playout: playout_thread, frames };
        Ok(Self { devices: DevicePool::new(engines), composer, playout, frame_makers, threads })
    }

    /// Resolves to the name of the first thread that ends, which while they are needed is a fault.
    pub(crate) async fn ended(&self) -> &'static str {
        tokio::select! {
            () = self.devices.ended() => "engine",
            () = self.composer.ended() => "compose",
            () = self.playout.ended() => "playout",
            () = self.frame_makers.ended() => "frames",
        }
    }

    /// Ends the threads, waits for them without blocking the runtime, and tells if one has panicked.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { devices, composer, playout, frame_makers, threads } = self;
        drop((devices, composer, playout, frame_makers));
        let joined = tokio::task::spawn_blocking(move || {
            let joined = [
                ("playout", threads.playout.join()),
                ("compose", threads.compose.join()),
                ("frames", threads.frames.join()),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::avatar::OwnFrames;
    use crate::ids::SessionId;
    use crate::kit;
    use crate::kit::network::FakeNetwork;
    use crate::lipsync::{AvatarHandle, Mouth};
    use crate::picture::MouthFrame;
    use crate::playout::{Pair, PairSink};

    struct PanickingSink;

    impl PairSink for PanickingSink {
        fn push(&mut self, _: Pair) {
            panic!("the sink panics");
        }
    }

    async fn workers(panics: bool) -> Workers {
        let network = FakeNetwork::unwatched().adding(move |number| {
            assert!(!panics, "the network is told to panic");
            AvatarHandle(number)
        });
        let (engine, engine_thread) = network.spawn().await;
        let (composer, compose) = Composer::spawn().unwrap();
        let (playout, playout_thread) = Playout::spawn().unwrap();
        let (frame_makers, frames) = FrameMakers::spawn().unwrap();
        Workers {
            devices: DevicePool::new([("fake".to_owned(), engine)]),
            composer,
            playout,
            frame_makers,
            threads: Threads { engines: vec![engine_thread], compose, playout: playout_thread, frames },
        }
    }

    async fn assert_told(workers: Workers, thread: &str) {
        assert_eq!(workers.ended().await, thread);
        assert_eq!(workers.stop().await.unwrap_err().to_string(), format!("worker threads panicked: {thread}"));
    }

    /// As when `serve` or `render` fails in the middle: sessions and films still hold ways to the threads.
    #[tokio::test]
    async fn whichever_way_works_go_their_threads_have_ended() {
        let workers = workers(false).await;
        let (devices, composer, playout) = (workers.devices.clone(), workers.composer.clone(), workers.playout.clone());
        drop(workers);
        let all_ended = async { tokio::join!(devices.ended(), composer.ended(), playout.ended()) };
        assert!(futures_util::FutureExt::now_or_never(all_ended).is_some());
    }

    #[tokio::test]
    async fn a_worker_thread_that_ends_is_named() {
        let engine = workers(true).await;
        engine.devices.add_avatar(kit::avatar::assets()).await.unwrap_err();
        assert_told(engine, "engine").await;

        let compose = workers(false).await;
        let too_small = Arc::new(Mouth::Crop(MouthFrame { width: 32, height: 32, rgb: Vec::new() }));
        compose.composer.paste(OwnFrames::of(Arc::new(kit::avatar::tiny())), 0, Some(too_small)).await.unwrap_err();
        assert_told(compose, "compose").await;

        let playout = workers(false).await;
        let (events, _told) = tokio::sync::mpsc::channel(1);
        let own = OwnFrames::of(Arc::new(kit::avatar::tiny()));
        let _session = playout.playout.add(SessionId::next(), own, Box::new(PanickingSink), events).await.unwrap();
        assert_told(playout, "playout").await;
    }
}
