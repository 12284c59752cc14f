//! What the clients of one session share, and the session as its listeners see it.
//!
//! Not in here: closing it (`supervisor`), which begins when the last client lets go of this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{broadcast, mpsc};
use tokio_util::task::TaskTracker;

use super::super::admission::{Admission, SessionSlot};
use super::super::avatar_cache::LoadedAvatar;
use super::casting::Casting;
use super::outputs::SessionOutputs;
use super::pushes::SessionPushes;
use crate::audience::Audience;
use crate::config::Ice;
use crate::conversation::Conversation;
use crate::hearing::{Listeners, ReferenceFrame, TurnTaking};
use crate::ids::SessionId;
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::device_pool::DevicePool;
use crate::media::Broadcast;
use crate::media::one_port::OnePort;
use crate::session::{AvatarInfo, Notice, NoticeBroadcast, Refusal};

/// One session. The supervisor holds none of it, so it goes with the last client.
pub(super) struct SessionCore {
    pub(super) id: SessionId,
    pub(super) shown: Mutex<Shown>,
    /// Held while one avatar takes over from another, so that what is told of it is in order.
    pub(super) swapping: tokio::sync::Mutex<()>,
    pub(super) casting: Arc<Casting>,
    pub(super) conversation: Conversation,
    pub(super) notices: NoticeBroadcast,
    pub(super) broadcast: Broadcast,
    /// What the avatar says, for listeners to tell its echo by.
    pub(super) reference: broadcast::Sender<ReferenceFrame>,
    /// `None` where nobody listens to microphones.
    pub(super) listeners: Option<Listeners>,
    pub(super) tracker: TaskTracker,
    pub(super) audience: Audience,
    pub(super) admission: Arc<Admission>,
    pub(super) devices: DevicePool,
    pub(super) ice: Ice,
    pub(super) one_port: Option<OnePort>,
    pub(super) outputs: Arc<SessionOutputs>,
    pub(super) pushes: Arc<SessionPushes>,
    pub(super) _slot: SessionSlot,
    /// Dropped with the core: tells the supervisor that nobody is left.
    pub(super) _alive: mpsc::Sender<()>,
}

/// The avatar that is seen.
pub(super) struct Shown {
    pub(super) info: AvatarInfo,
    /// An avatar that is used is not let go.
    pub(super) _loaded: Arc<LoadedAvatar>,
}

impl SessionCore {
    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another avatar is seen from now on.
    pub(super) fn show(&self, info: AvatarInfo, loaded: Arc<LoadedAvatar>) {
        *self.shown() = Shown { info, _loaded: loaded };
    }
}

/// A session as its listeners see it. They do not keep it open.
pub(super) struct WeakSession(Weak<SessionCore>);

impl WeakSession {
    pub(super) fn of(core: &Arc<SessionCore>) -> Self {
        Self(Arc::downgrade(core))
    }

    fn with(&self, act: impl FnOnce(&SessionCore)) {
        if let Some(core) = self.0.upgrade() {
            act(&core);
        }
    }
}

impl TurnTaking for WeakSession {
    fn hears(&self, speech: bool) {
        self.with(|core| core.conversation.hears(speech));
    }

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
