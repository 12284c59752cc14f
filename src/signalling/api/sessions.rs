//! The sessions that programs have opened over HTTP, until they close them or forget them.
//!
//! In here: opening, finding, closing, what they tell and who listens. Not in here: HTTP (`api`), sessions themselves
//! (`server`). Runs on: one task a session, tracked by the listener, which passes on what the session tells and ends a
//! session that nobody has used for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::access::Grant;
use crate::session::{ErrorCode, Notice, NoticeReceiver, Refusal, Session, Sessions, notice_queue};
use crate::signalling::handshake::JoinRequest;
use crate::signalling::listener::{Shared, spawn};

/// Sessions opened over HTTP at a time, beyond what the server admits anyway.
const MOST: usize = 64;
/// A session that nobody asks anything of, nobody listens to and no media server gets is closed after that; its viewers and its
/// outputs keep it.
const IDLE: Duration = Duration::from_secs(600);
/// Notices between the session and this side, and those that a slow listener may be behind.
const NOTICES: usize = 64;
const BEHIND: usize = 256;

#[derive(Default)]
pub struct ApiSessions(Mutex<HashMap<String, Arc<ApiSession>>>);

/// One of them. The session ends with the last of its holders.
pub struct ApiSession {
    /// Under which its tenant's viewers join it; not to be guessed unless the program chose it.
    pub name: String,
    /// What the server calls it, whoever's it is.
    inner_name: String,
    pub session: Box<dyn Session>,
    /// Where viewers join it: by the avatar that it was opened with, whoever is seen by now.
    pub websocket: String,
    told: broadcast::Sender<Notice>,
    used: Mutex<Instant>,
    /// Cancelled when it is closed or the server ends.
    ended: CancellationToken,
}

/// Who hears what a session tells.
pub struct Subscriber {
    told: broadcast::Receiver<Notice>,
    ended: CancellationToken,
}

impl Subscriber {
    /// The next notice; [`RecvError::Closed`] once the session is closed.
    pub async fn next(&mut self) -> Result<Notice, RecvError> {
        tokio::select! {
            biased;
            notice = self.told.recv() => notice,
            () = self.ended.cancelled() => Err(RecvError::Closed),
        }
    }
}

impl ApiSession {
    pub fn subscribe(&self) -> Subscriber {
        Subscriber { told: self.told.subscribe(), ended: self.ended.clone() }
    }

    /// Whether it is recorded or pushed somewhere just now, which nobody has to watch.
    fn has_outputs(&self) -> bool {
        self.session.outputs().list().iter().any(|output| !output.state.is_end())
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle_until(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) + IDLE
    }

    /// Passes on what the session tells until it is closed or forgotten.
    async fn run(&self, mut notices: NoticeReceiver) {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                notice = notices.recv() => match notice {
                    // Nobody listens just now.
                    Some(notice) => drop(self.told.send(notice)),
                    None => return,
                },
                () = sleep_until(self.idle_until()) => {
                    let is_pushed = || !self.session.pushes().list().is_empty();
                    if self.told.receiver_count() > 0 || self.has_outputs() || is_pushed() {
                        self.touch();
                    } else if self.idle_until() <= Instant::now() {
                        tracing::info!(session = %self.session.id(), "a session opened over HTTP is not used any more");
                        return;
                    }
                }
            }
        }
    }
}

impl ApiSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<ApiSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session, under the name that is asked for or one that cannot be guessed.
    pub async fn create(
        &self,
        shared: &Arc<Shared>,
        sessions: &dyn Sessions,
        grant: &Grant,
        join: JoinRequest,
    ) -> Result<Arc<ApiSession>, Refusal> {
        let name = join.name.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let inner_name = grant.inner_name(&name);
        check(&self.lock(), &inner_name, &name)?;
        let (sender, notices) = notice_queue(NOTICES);
        let avatar = join.avatar.as_ref().map(|avatar| format!("avatar={avatar}&")).unwrap_or_default();
        let websocket = format!("/ws?{avatar}session={name}");
        let session = sessions.join(join.avatar, Some(inner_name.clone()), sender).await?;
        let (told, _) = broadcast::channel(BEHIND);
        let ended = shared.shutdown.child_token();
        let session = Arc::new(ApiSession {
            name: name.clone(),
            inner_name: inner_name.clone(),
            session,
            websocket,
            told,
            used: Mutex::new(Instant::now()),
            ended,
        });
        {
            let mut all = self.lock();
            // Another request may have been quicker.
            check(&all, &inner_name, &name)?;
            all.insert(inner_name, Arc::clone(&session));
        }
        let (running, holder) = (Arc::clone(&session), Arc::clone(shared));
        spawn(shared, async move {
            running.run(notices).await;
            holder.api.forget(&running);
        });
        Ok(session)
    }

    /// By what the server calls it.
    pub fn find(&self, inner_name: &str) -> Option<Arc<ApiSession>> {
        let session = self.lock().get(inner_name).cloned()?;
        session.touch();
        Some(session)
    }

    /// Lets go of a session that has ended. Another one may have its name by now.
    fn forget(&self, ended: &Arc<ApiSession>) -> bool {
        let mut all = self.lock();
        let is_there = all.get(&ended.inner_name).is_some_and(|session| Arc::ptr_eq(session, ended));
        is_there && all.remove(&ended.inner_name).is_some()
    }

    /// False if it is closed already.
    pub fn close(&self, session: &Arc<ApiSession>) -> bool {
        session.ended.cancel();
        self.forget(session)
    }
}

fn check(all: &HashMap<String, Arc<ApiSession>>, inner_name: &str, name: &str) -> Result<(), Refusal> {
    if all.contains_key(inner_name) {
        let message = format!("session {name:?} was opened over HTTP already: use it, or choose another name");
        return Err(Refusal { code: ErrorCode::SessionExists, message });
    }
    if all.len() >= MOST {
        let message = format!("{MOST} sessions are open over HTTP already: close some");
        return Err(Refusal { code: ErrorCode::ServerFull, message });
    }
    Ok(())
}
