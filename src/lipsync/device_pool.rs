//! The engines of all devices, and which of them draws for a session.
//!
//! In here: a lease for each session of the freest device, and of another one if that device ends. Not in here: the engine
//! of one device (`engine`). Runs on: tokio tasks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::engine::{DrawnRun, Engine, EngineError, Urgency};
use super::{AvatarAssets, AvatarHandle, LipSyncError, MouthRun};

/// All devices. Cheap to clone.
#[derive(Clone)]
pub struct DevicePool {
    devices: Arc<[Device]>,
    avatars: Arc<Mutex<Avatars>>,
    /// How many leases there have been.
    leased: Arc<AtomicU64>,
}

#[derive(Default)]
struct Avatars {
    /// What each avatar is called at each device; `None` where it is not known.
    handles: BTreeMap<usize, Vec<Option<AvatarHandle>>>,
    /// How many there have been.
    added: usize,
}

struct Device {
    name: String,
    engine: Engine,
    leases: AtomicUsize,
}

/// A session's share of one of the devices.
pub struct DeviceLease {
    /// What tells the runs of one session from another's.
    session: u64,
    pool: DevicePool,
    at: AtomicUsize,
}

impl DevicePool {
    /// Of named engines, at least one.
    pub fn new(engines: impl IntoIterator<Item = (String, Engine)>) -> Self {
        let device = |(name, engine)| Device { name, engine, leases: AtomicUsize::new(0) };
        Self { devices: engines.into_iter().map(device).collect(), avatars: Arc::default(), leased: Arc::default() }
    }

    /// Loads an avatar at every device that lives and does not leave it to another; one that refuses it is an error.
    pub async fn add_avatar(&self, assets: AvatarAssets) -> Result<AvatarHandle, EngineError> {
        let adding = self.devices.iter().map(|device| device.engine.add_avatar(assets.clone()));
        let (mut handles, mut problem) = (Vec::with_capacity(self.devices.len()), None);
        for added in join_all(adding).await {
            handles.push(match added {
                Ok(handle) => Some(handle),
                Err(EngineError::Ended | EngineError::LipSync(LipSyncError::LeftToAnother(_))) => None,
                Err(error) => {
                    problem = Some(error);
                    None
                }
            });
        }
        if problem.is_none() && handles.iter().all(Option::is_none) {
            problem = Some(EngineError::Ended);
        }
        if let Some(problem) = problem {
            self.remove_from_each(&handles).await;
            return Err(problem);
        }
        let mut avatars = self.avatars();
        let number = avatars.added;
        avatars.added += 1;
        avatars.handles.insert(number, handles);
        Ok(AvatarHandle(number))
    }

    fn avatars(&self) -> MutexGuard<'_, Avatars> {
        self.avatars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every device let go of an avatar that nobody draws any more.
    pub async fn remove_avatar(&self, avatar: AvatarHandle) {
        let removed = self.avatars().handles.remove(&avatar.0);
        if let Some(handles) = removed {
            self.remove_from_each(&handles).await;
        }
    }

    async fn remove_from_each(&self, handles: &[Option<AvatarHandle>]) {
        for (device, handle) in self.devices.iter().zip(handles) {
            if let Some(handle) = handle {
                device.engine.remove_avatar(*handle).await;
            }
        }
    }

    /// Draws an avatar's first mouths at every device that lives.
    pub async fn warm_up(&self, avatar: AvatarHandle) -> Result<(), EngineError> {
        let known = self.living().filter_map(|(at, device)| Some((device, self.handle(avatar, at)?)));
        for warmed in join_all(known.map(|(device, avatar)| device.engine.warm_up(avatar))).await {
            match warmed {
                Ok(()) | Err(EngineError::Ended) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A share of the freest device.
    pub fn lease(&self) -> DeviceLease {
        let at = self.freest(|_| true).unwrap_or(0);
        self.count(at).fetch_add(1, Ordering::Relaxed);
        let session = self.leased.fetch_add(1, Ordering::Relaxed);
        DeviceLease { session, pool: self.clone(), at: AtomicUsize::new(at) }
    }

    /// Frames a second that all living devices draw if they do nothing else; `None` before anything was drawn.
    pub fn frames_per_second(&self) -> Option<f64> {
        let rates = self.living().filter_map(|(_, device)| device.engine.frames_per_second());
        rates.reduce(|sum, rate| sum + rate)
    }

    /// Resolves when the last device has ended, which while the server runs is a fault.
    pub async fn ended(&self) {
        join_all(self.devices.iter().map(|device| device.engine.ended())).await;
    }

    fn living(&self) -> impl Iterator<Item = (usize, &Device)> {
        self.devices.iter().enumerate().filter(|(_, device)| !device.engine.has_ended())
    }

    /// Where one more session is the least share of what can be drawn, of those devices that will do.
    fn freest(&self, will_do: impl Fn(usize) -> bool) -> Option<usize> {
        let rate = |device: &Device| device.engine.frames_per_second().unwrap_or(1.0);
        let load = |device: &Device| {
            let leases = u32::try_from(device.leases.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
            // The cores of a CPU are equal, whichever of them was disturbed last.
            let same = self.living().filter(|(_, other)| other.name == device.name).map(|(_, other)| rate(other));
            (f64::from(leases) + 1.0) / same.fold(rate(device), f64::max)
        };
        let those = self.living().filter(|(at, _)| will_do(*at));
        let freest = those.min_by(|(_, one), (_, other)| load(one).total_cmp(&load(other)));
        freest.map(|(at, _)| at)
    }

    fn handle(&self, avatar: AvatarHandle, at: usize) -> Option<AvatarHandle> {
        *self.avatars().handles.get(&avatar.0)?.get(at)?
    }

    fn count(&self, at: usize) -> &AtomicUsize {
        &self.devices[at].leases
    }
}

impl DeviceLease {
    /// As [`super::LipSync::context_samples`], of whichever device the session may move to.
    pub fn context_samples(&self) -> usize {
        self.pool.devices.iter().map(|device| device.engine.context_samples()).max().unwrap_or(0)
    }

    /// Queues a run, waiting for room, and returns where its mouths will arrive. Dropping the receiver or cancelling the token
    /// withdraws it. A device that has ended, or has not the avatar, is left for another one; an error if there is none.
    pub async fn draw(
        &self,
        run: MouthRun,
        urgency: Urgency,
        cancelled: CancellationToken,
    ) -> Result<oneshot::Receiver<Result<DrawnRun, LipSyncError>>, EngineError> {
        loop {
            let at = self.at.load(Ordering::Relaxed);
            let device = &self.pool.devices[at];
            if let Some(avatar) = self.pool.handle(run.avatar, at) {
                let run = MouthRun { avatar, ..run.clone() };
                match device.engine.draw(self.session, run, urgency, cancelled.clone()).await {
                    Err(EngineError::Ended) => {}
                    drawn => return drawn,
                }
            }
            let knows = |other| other != at && self.pool.handle(run.avatar, other).is_some();
            let other = self.pool.freest(knows).ok_or(EngineError::Ended)?;
            let (from, to) = (&device.name, &self.pool.devices[other].name);
            if device.engine.has_ended() {
                tracing::warn!(from, to, "a session moves to another device");
            } else {
                tracing::debug!(from, to, "a session moves to the device that has its avatar");
            }
            self.pool.count(at).fetch_sub(1, Ordering::Relaxed);
            self.pool.count(other).fetch_add(1, Ordering::Relaxed);
            self.at.store(other, Ordering::Relaxed);
        }
    }

    /// Whether any device can still draw.
    pub fn can_draw(&self) -> bool {
        self.pool.living().next().is_some()
    }
}

impl Drop for DeviceLease {
    fn drop(&mut self) {
        self.pool.count(self.at.load(Ordering::Relaxed)).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{self, network::FakeNetwork};
    use crate::lipsync::engine::EngineThread;
    use crate::lipsync::networks::Networks;
    use crate::lipsync::{LipSync, Mouth};

    /// Draws a pixel that says which device it is; ends at pose 13.
    fn named(name: u8) -> FakeNetwork {
        let handle = AvatarHandle(usize::from(name));
        let draw = move |runs: &[MouthRun]| {
            assert!(runs.iter().all(|run| run.avatar == handle), "another device's handle");
            if runs.iter().any(|run| run.poses.contains(&13)) {
                return Err(kit::network::libtorch_error("CUDA error: an illegal memory access"));
            }
            Ok(runs.iter().map(|run| vec![kit::network::pixel([name; 3]); run.poses.len()]).collect())
        };
        FakeNetwork::of_batches(draw).adding(move |_| handle)
    }

    async fn two() -> (DevicePool, [EngineThread; 2]) {
        let ((one, first), (other, second)) = (named(1).spawn().await, named(2).spawn().await);
        (DevicePool::new([("one".into(), one), ("other".into(), other)]), [first, second])
    }

    async fn draw(lease: &DeviceLease, avatar: AvatarHandle, pose: usize) -> Option<u8> {
        let run = MouthRun { avatar, poses: vec![pose], audio: Arc::from([]), first_frame_at: 0 };
        let urgency = Urgency { deadline: None, awaited: true };
        let mouths = lease.draw(run, urgency, CancellationToken::new()).await.unwrap().await.ok()?;
        mouths.unwrap()[0].as_ref().map(|mouth| match mouth {
            Mouth::Crop(crop) => crop.rgb[0],
            Mouth::Pasted(_) => unreachable!("nobody pastes here"),
        })
    }

    #[tokio::test]
    async fn an_avatar_that_was_let_go_is_drawn_nowhere_and_the_others_still_are() {
        let (pool, threads) = two().await;
        let (first, second) =
            (pool.add_avatar(kit::avatar::assets()).await, pool.add_avatar(kit::avatar::assets()).await);
        let (first, second) = (first.unwrap(), second.unwrap());
        pool.warm_up(first).await.unwrap();
        pool.remove_avatar(first).await;
        let lease = pool.lease();
        let run = MouthRun { avatar: first, poses: vec![0], audio: Arc::from([]), first_frame_at: 0 };
        let urgency = Urgency { deadline: None, awaited: true };
        assert!(lease.draw(run, urgency, CancellationToken::new()).await.is_err());
        assert!(draw(&lease, second, 0).await.is_some());
        assert_ne!(pool.add_avatar(kit::avatar::assets()).await.unwrap(), first, "no handle is given twice");
        drop((lease, pool));
        tokio::task::spawn_blocking(|| assert!(threads.into_iter().all(EngineThread::join))).await.unwrap();
    }

    #[tokio::test]
    async fn sessions_are_spread_and_move_when_their_device_ends() {
        let (pool, threads) = two().await;
        let avatar = pool.add_avatar(kit::avatar::assets()).await.unwrap();
        let leases = [pool.lease(), pool.lease()];
        let mut names = [draw(&leases[0], avatar, 0).await.unwrap(), draw(&leases[1], avatar, 0).await.unwrap()];
        let other = names[1];
        names.sort_unstable();
        assert_eq!(names, [1, 2], "each has a device of its own");
        assert_eq!(draw(&leases[0], avatar, 13).await, None, "what was drawn when the device ended is lost");
        assert_eq!(draw(&leases[0], avatar, 0).await, Some(other));
        assert_eq!(draw(&pool.lease(), avatar, 0).await, Some(other), "new sessions go to the one that lives");
        assert!(leases[0].can_draw());
        assert_eq!(draw(&leases[1], avatar, 13).await, None);
        assert!(!leases[0].can_draw());
        pool.ended().await;
        drop((leases, pool));
        tokio::task::spawn_blocking(|| assert!(threads.into_iter().all(EngineThread::join))).await.unwrap();
    }

    #[tokio::test]
    async fn an_avatar_that_an_engine_leaves_to_another_is_drawn_there() {
        let leaves = || {
            let load = |model: &str| Err(LipSyncError::LeftToAnother(model.to_owned()));
            Ok(Box::new(Networks::new(Box::new(load))) as Box<dyn LipSync>)
        };
        let ((one, first), (other, second)) = (Engine::spawn(leaves).await.unwrap(), named(2).spawn().await);
        let pool = DevicePool::new([("one".into(), one), ("other".into(), other)]);
        let avatar = pool.add_avatar(kit::avatar::assets()).await.unwrap();
        pool.warm_up(avatar).await.unwrap();
        let leases = [pool.lease(), pool.lease()];
        for lease in &leases {
            assert_eq!(draw(lease, avatar, 0).await, Some(2));
        }
        drop((leases, pool));
        tokio::task::spawn_blocking(|| assert!([first, second].into_iter().all(EngineThread::join))).await.unwrap();
    }
}
