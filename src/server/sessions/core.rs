//! What the clients of one session share, and the session as its listeners see it.
//!
//! Not in here: closing it (`supervisor`), which begins when the last client lets go of this.

use std::sync::{Arc, Weak};
use std::time::Instant;

use tokio::sync::{broadcast, mpsc};
use tokio_util::task::TaskTracker;

use super::super::admission::{Admission, SessionSlot};
use super::super::avatar_cache::LoadedAvatar;
use crate::audience::Audience;
use crate::config::Ice;
use crate::conversation::Conversation;
use crate::hearing::{Listeners, ReferenceFrame, TurnTaking};
use crate::ids::SessionId;
use crate::latency::{Stage, TurnTimes};
use crate::lipsync::device_pool::DevicePool;
use crate::media::Broadcast;
use crate::session::{AvatarInfo, Notice, NoticeBroadcast, Refusal};

/// One session. The supervisor holds none of it, so it goes with the last client.
pub(super) struct SessionCore {
    pub(super) id: SessionId,
    pub(super) avatar: AvatarInfo,
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
    /// An avatar that is used is not let go.
    pub(super) _loaded: Arc<LoadedAvatar>,
    pub(super) _slot: SessionSlot,
    /// Dropped with the core: tells the supervisor that nobody is left.
    pub(super) _alive: mpsc::Sender<()>,
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
