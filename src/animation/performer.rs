//! Who performs in a session: one avatar at a time, and another one while the session goes on.
//!
//! In here: which avatar is animated now, what it attends to, handing over to another. Not in here: at which tick that is seen
//! (`playout::schedule`), where avatars come from (`server`).
//! Runs on: whoever asks; locked for a look or a change at a time, never across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::avatar::OwnFrames;
use crate::avatar::own_frames::UnknownGesture;
use crate::lipsync::AvatarHandle;
use crate::playout::{AvatarNumber, Command, PlayoutEnded};
use crate::still::Attention;

/// The avatar of a session. Cheap to clone.
#[derive(Clone)]
pub struct Performer(Arc<Shared>);

struct Shared {
    commands: mpsc::Sender<Command>,
    state: Mutex<State>,
}

struct State {
    now: Performing,
    attention: Attention,
}

/// An avatar as frames are announced and drawn for it.
#[derive(Clone)]
pub(super) struct Performing {
    pub own: OwnFrames,
    pub handle: AvatarHandle,
    pub number: AvatarNumber,
}

impl Performer {
    /// An avatar whose session has this way into playout.
    pub(crate) fn new(own: OwnFrames, handle: AvatarHandle, commands: mpsc::Sender<Command>) -> Self {
        let now = Performing { own, handle, number: AvatarNumber::default() };
        let state = Mutex::new(State { now, attention: Attention::default() });
        Self(Arc::new(Shared { commands, state }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For which avatar something is announced or drawn now.
    pub(super) fn now(&self) -> Performing {
        self.state().now.clone()
    }

    /// Whose frames are announced now.
    pub(super) fn number(&self) -> AvatarNumber {
        self.state().now.number
    }

    /// Whoever performs attends to this from now on.
    pub(crate) fn attend(&self, attention: Attention) {
        let mut state = self.state();
        state.attention = attention;
        state.now.own.attend(attention);
    }

    #[cfg(test)]
    pub(crate) fn attention(&self) -> Attention {
        self.state().attention
    }

    /// Has the avatar play one of its gestures; an error names those that it has.
    pub(crate) fn gesture(&self, name: &str) -> Result<(), UnknownGesture> {
        self.state().now.own.gesture(name)
    }

    /// Another avatar takes over: what is drawn from now on is drawn for it, and it is shown at the next tick at which it can
    /// be. Resolves when its first picture has left. Before that, no other may be asked for.
    pub(crate) async fn swap(&self, own: OwnFrames, handle: AvatarHandle) -> Result<(), PlayoutEnded> {
        let room = self.0.commands.reserve().await.map_err(|_| PlayoutEnded)?;
        let (shown, seen) = oneshot::channel();
        {
            let mut state = self.state();
            own.attend(state.attention);
            let avatar = AvatarNumber(state.now.number.0.saturating_add(1));
            state.now = Performing { own: own.clone(), handle, number: avatar };
            // Under the lock: nothing is announced for the new avatar before playout knows of it.
            room.send(Command::Swap { own, avatar, shown });
        }
        seen.await.map_err(|_| PlayoutEnded)
    }
}
