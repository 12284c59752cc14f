//! The pushes of one session: starting and stopping them, and what is told of each.
//!
//! Not in here: what a push does (`media::whip`), HTTP (`signalling`). Runs on: one task a push, tracked with the session's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::super::admission::Admission;
use super::is_full;
use crate::audience::Audience;
use crate::endpoint::whip::WhipEndpoint;
use crate::ids::PushId;
use crate::lipsync::device_pool::DevicePool;
use crate::media::whip::{PushEvent, publish};
use crate::media::{Broadcast, IceConfig};
use crate::session::{ErrorCode, PushInfo, PushOrder, PushState, Pushes, Refusal};

/// Of one session at a time. Each costs what a viewer costs.
const MOST: usize = 4;

/// What the pushes of a session are made with, and those there are.
pub(super) struct SessionPushes {
    pub(super) broadcast: Broadcast,
    pub(super) audience: Audience,
    pub(super) admission: Arc<Admission>,
    pub(super) devices: DevicePool,
    pub(super) ice: IceConfig,
    pub(super) tracker: TaskTracker,
    /// Cancelled when the session ends.
    pub(super) ended: CancellationToken,
    /// Whether whoever may use the API may start and stop some.
    pub(super) allowed: bool,
    pub(super) running: Mutex<Vec<Running>>,
}

/// One of them.
pub(super) struct Running {
    id: PushId,
    target: String,
    told: Arc<Mutex<Told>>,
    stop: CancellationToken,
    /// Cancelled by its task's end.
    over: CancellationToken,
}

#[derive(Clone, Debug, Default)]
struct Told {
    state: PushState,
    message: Option<String>,
    reconnects: u64,
    was_live: bool,
}

impl Told {
    fn tell(&mut self, event: PushEvent) {
        (self.state, self.message) = match event {
            PushEvent::Live => {
                self.reconnects += u64::from(std::mem::replace(&mut self.was_live, true));
                (PushState::Live, None)
            }
            PushEvent::Retrying { reason } => (PushState::Retrying, Some(reason)),
            PushEvent::Failed { reason } => (PushState::Error, Some(reason)),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    fn info(&self) -> PushInfo {
        let Told { state, message, reconnects, .. } = lock(&self.told).clone();
        PushInfo { id: self.id, target: self.target.clone(), state, message, reconnects }
    }
}

impl Pushes for SessionPushes {
    fn allowed(&self) -> bool {
        self.allowed
    }

    fn start(&self, order: PushOrder) -> Result<PushInfo, Refusal> {
        let endpoint = WhipEndpoint::new(&order.url, order.token)
            .map_err(|problem| Refusal::new(ErrorCode::BadMessage, format!("url: {problem}")))?;
        let mut running = lock(&self.running);
        if self.ended.is_cancelled() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the session is closing"));
        }
        running.retain(|push| !(push.over.is_cancelled() && lock(&push.told).state == PushState::Error));
        if running.len() >= MOST {
            let message = format!("{MOST} pushes of the session run: stop one");
            return Err(Refusal::new(ErrorCode::ServerFull, message));
        }
        let slot = self.admission.admit_viewer(&self.audience, self.devices.frames_per_second()).map_err(is_full)?;
        let push = Running {
            id: PushId::next(),
            target: endpoint.shown(),
            told: Arc::default(),
            stop: self.ended.child_token(),
            over: CancellationToken::new(),
        };
        let (broadcast, ice, told, stop) =
            (self.broadcast.clone(), self.ice.clone(), Arc::clone(&push.told), push.stop.clone());
        let over = push.over.clone().drop_guard();
        let span = tracing::info_span!("push", push = %push.id);
        let work = async move {
            let (_over, _slot) = (over, slot);
            publish(&broadcast, &endpoint, &ice, &stop, |event| lock(&told).tell(event)).await;
        };
        self.tracker.spawn(work.instrument(span));
        let info = push.info();
        running.push(push);
        Ok(info)
    }

    fn list(&self) -> Vec<PushInfo> {
        lock(&self.running).iter().map(Running::info).collect()
    }

    fn stop(&self, id: &str) -> BoxFuture<'static, bool> {
        let mut running = lock(&self.running);
        let found = running.iter().position(|push| push.id.to_string() == id);
        let push = found.map(|at| running.remove(at));
        drop(running);
        Box::pin(async move {
            let Some(push) = push else { return false };
            push.stop.cancel();
            push.over.cancelled().await;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_push_is_how_it_is_now() {
        let mut told = Told::default();
        told.tell(PushEvent::Retrying { reason: "gone".into() });
        assert_eq!((told.state, told.message.as_deref(), told.reconnects), (PushState::Retrying, Some("gone"), 0));
        told.tell(PushEvent::Live);
        assert_eq!((told.state, told.message.as_deref(), told.reconnects), (PushState::Live, None, 0));
        told.tell(PushEvent::Retrying { reason: "gone".into() });
        told.tell(PushEvent::Live);
        assert_eq!(told.reconnects, 1);
        told.tell(PushEvent::Failed { reason: "no".into() });
        assert_eq!(told.state, PushState::Error);
    }
}
