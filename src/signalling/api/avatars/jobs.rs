//! Avatars that are being made, or were a while ago: one is made at a time, the others wait.
//!
//! A job keeps its file for a while after its end, so that the avatar can be made once more with other options. In here: who
//! waits, how far each is, when it is forgotten. Not in here: HTTP (`avatars`), making one (`avatar_making`).
//! Runs on: one task a job, tracked by the listener.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::ids::AvatarId;
use crate::session::{ErrorCode, Refusal};
use crate::signalling::avatar_making::{
    AvatarApi, AvatarFault, AvatarFaultCode, AvatarMaker, AvatarOrder, MadeAvatar, NotMade, Reached,
};
use crate::signalling::listener::{Shared, spawn};
use crate::signalling::quota::Address;
use crate::signalling::uploads::{Upload, UploadLimits, Uploads};

/// Made at a time: one takes all cores, and those who watch an avatar need them too.
const AT_ONCE: usize = 1;
/// Those that wait, are made, or are kept with their files.
const MOST: usize = 8;
/// How long a job is kept after its end, with its file.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// What is left is told once this share is done: before, a guess would be wild.
const ENOUGH_TO_GUESS: f64 = 0.08;

/// Where a job is.
#[derive(Clone, Debug)]
pub(in super::super::super) enum JobState {
    /// For so many others.
    Waiting {
        ahead: usize,
    },
    Making {
        stage: &'static str,
        share: f64,
        seconds_left: Option<u64>,
    },
    Done {
        made: Arc<MadeAvatar>,
    },
    Failed {
        not_made: Arc<NotMade>,
    },
}

impl JobState {
    /// As it is on the wire.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Making { .. } => "making",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
        }
    }

    pub(super) const fn is_end(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. })
    }

    /// The picture of what was found.
    pub(super) fn found(&self) -> Option<&Vec<u8>> {
        match self {
            Self::Done { made } => made.found.as_ref(),
            Self::Failed { not_made } => not_made.found.as_ref(),
            Self::Waiting { .. } | Self::Making { .. } => None,
        }
    }
}

/// One of them. Its file is gone with the last who holds it.
pub(in super::super::super) struct Job {
    /// Not to be guessed: who knows it may stop it and see its pictures.
    pub(super) name: String,
    address: Address,
    tenant: String,
    upload: Upload,
    order: Mutex<AvatarOrder>,
    /// The id of the avatar that it has made.
    made: Mutex<Option<AvatarId>>,
    pub(super) state: watch::Sender<JobState>,
    once_more: Notify,
    /// Cancelled when it is not wanted any more, or the server ends.
    pub(super) forgotten: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    /// The id that it was last asked to make.
    pub(super) fn avatar_id(&self) -> AvatarId {
        lock(&self.order).id.clone()
    }

    /// Whether the avatar of this id is its work.
    pub(super) fn has_made(&self, id: &AvatarId) -> bool {
        lock(&self.made).as_ref() == Some(id)
    }

    pub(super) fn is_of(&self, tenant: &str) -> bool {
        self.tenant == tenant
    }

    fn is_active(&self) -> bool {
        !self.state.borrow().is_end()
    }
}

/// All of them, in the order in which they came.
pub(in super::super::super) struct AvatarJobs {
    maker: Arc<dyn AvatarMaker>,
    pub(super) uploads: Uploads,
    limits_addresses: bool,
    making: Semaphore,
    jobs: Mutex<BTreeMap<u64, Arc<Job>>>,
}

impl AvatarJobs {
    pub(in super::super::super) fn new(api: &AvatarApi, limits_addresses: bool) -> Self {
        Self {
            maker: Arc::clone(&api.maker),
            uploads: Uploads::new(api.folder.clone(), api.limits, limits_addresses),
            limits_addresses,
            making: Semaphore::new(AT_ONCE),
            jobs: Mutex::default(),
        }
    }

    pub(super) fn limits(&self) -> &UploadLimits {
        self.uploads.limits()
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Job>> {
        lock(&self.jobs).values().find(|job| job.name == name).cloned()
    }

    /// Whether there is room for one more, so that nobody sends a file in vain.
    pub(super) fn check_room(&self, address: Address, id: &AvatarId) -> Result<(), super::Problem> {
        self.room(&lock(&self.jobs), address, id).map(|_| ())
    }

    /// Which one has to go for one more to come.
    fn room(
        &self,
        jobs: &BTreeMap<u64, Arc<Job>>,
        address: Address,
        id: &AvatarId,
    ) -> Result<Option<u64>, super::Problem> {
        check_id(jobs, id)?;
        let oldest_ended = |of: Option<Address>| {
            let ended = |(_, job): &(&u64, &Arc<Job>)| of.is_none_or(|of| job.address == of) && !job.is_active();
            jobs.iter().find(ended).map(|(number, _)| *number)
        };
        let of_address = jobs.values().filter(|job| job.address == address).count();
        if self.limits_addresses && of_address >= MOST.div_ceil(2) {
            let message = "too many avatars are made from this address already: wait until one is done".to_owned();
            let full = || Refusal::new(ErrorCode::TooManyMessages, message).into();
            return oldest_ended(Some(address)).map(Some).ok_or_else(full);
        }
        if jobs.len() < MOST {
            return Ok(None);
        }
        let message = "too many avatars are being made already: try again in a while";
        oldest_ended(None).map(Some).ok_or_else(|| Refusal::new(ErrorCode::ServerFull, message).into())
    }

    /// Has an avatar made of a file once its turn comes.
    pub(super) fn begin(
        &self,
        shared: &Arc<Shared>,
        (address, tenant): (Address, &str),
        order: AvatarOrder,
        upload: Upload,
    ) -> Result<Arc<Job>, super::Problem> {
        let (state, _) = watch::channel(JobState::Waiting { ahead: 0 });
        let job = Arc::new(Job {
            name: format!("{:032x}", rand::random::<u128>()),
            address,
            tenant: tenant.to_owned(),
            upload,
            order: Mutex::new(order),
            made: Mutex::default(),
            state,
            once_more: Notify::new(),
            forgotten: shared.shutdown.child_token(),
        });
        let number = {
            let mut jobs = lock(&self.jobs);
            if let Some(number) = self.room(&jobs, address, &job.avatar_id())? {
                let old = jobs.remove(&number);
                old.inspect(|old| old.forgotten.cancel());
            }
            let number = jobs.last_key_value().map_or(0, |(last, _)| last + 1);
            jobs.insert(number, Arc::clone(&job));
            renumber(&jobs);
            number
        };
        let (running, holder) = (Arc::clone(&job), Arc::clone(shared));
        spawn(shared, async move {
            let jobs = &holder.avatar_jobs;
            jobs.run(&running).await;
            let mut all = lock(&jobs.jobs);
            // Another one may have its number by now.
            if all.get(&number).is_some_and(|job| Arc::ptr_eq(job, &running)) {
                all.remove(&number);
            }
        });
        Ok(job)
    }

    /// Has a job that has ended do its work once more.
    pub(super) fn again(&self, job: &Arc<Job>, order: AvatarOrder) -> Result<(), super::Problem> {
        let jobs = lock(&self.jobs);
        if job.is_active() {
            let status = axum::http::StatusCode::CONFLICT;
            return Err(super::Problem::new(status, "job_running", "it is being made: wait for its end, or delete it"));
        }
        check_id(&jobs, &order.id)?;
        *lock(&job.order) = order;
        job.state.send_replace(JobState::Waiting { ahead: 0 });
        renumber(&jobs);
        job.once_more.notify_one();
        Ok(())
    }

    /// Stops a job, and lets go of its file; false if there is none of this name.
    pub(super) fn forget(&self, name: &str) -> bool {
        let mut jobs = lock(&self.jobs);
        let number = jobs.iter().find(|(_, job)| job.name == name).map(|(number, _)| *number);
        let Some(job) = number.and_then(|number| jobs.remove(&number)) else { return false };
        job.forgotten.cancel();
        renumber(&jobs);
        true
    }

    /// Makes an avatar, and again when that is asked for, until the job is forgotten.
    async fn run(&self, job: &Job) {
        loop {
            self.make(job).await;
            renumber(&lock(&self.jobs));
            tokio::select! {
                () = job.forgotten.cancelled() => return,
                () = sleep(KEPT_FOR) => return,
                () = job.once_more.notified() => {}
            }
        }
    }

    async fn make(&self, job: &Job) {
        let turn = job.forgotten.run_until_cancelled(self.making.acquire()).await;
        let Some(Ok(_turn)) = turn else {
            let fault = AvatarFault::new(AvatarFaultCode::Stopped, "stopped");
            let not_made = Arc::new(NotMade { fault, found: None });
            return drop(job.state.send_replace(JobState::Failed { not_made }));
        };
        let order = lock(&job.order).clone();
        let id = order.id.clone();
        let (state, began) = (job.state.clone(), Instant::now());
        state.send_replace(JobState::Making { stage: "beginning", share: 0.0, seconds_left: None });
        renumber(&lock(&self.jobs));
        let reached = move |Reached { stage, share }: Reached| {
            let seconds_left = seconds_left(began.elapsed(), share);
            state.send_replace(JobState::Making { stage, share, seconds_left });
        };
        // Waited for to its end also when it is stopped: the next one must not begin beside it.
        let made = self.maker.make(job.upload.path(), order, Box::new(reached), job.forgotten.clone()).await;
        job.state.send_replace(match made {
            Ok(made) => {
                *lock(&job.made) = Some(id);
                JobState::Done { made: Arc::new(made) }
            }
            Err(not_made) => JobState::Failed { not_made: Arc::new(not_made) },
        });
    }
}

/// Tells those who wait how many are before them.
fn renumber(jobs: &BTreeMap<u64, Arc<Job>>) {
    for (before, job) in jobs.values().filter(|job| job.is_active()).enumerate() {
        job.state.send_if_modified(|state| match state {
            JobState::Waiting { ahead } if *ahead != before => {
                *ahead = before;
                true
            }
            _ => false,
        });
    }
}

/// Two at a time cannot be written.
fn check_id(jobs: &BTreeMap<u64, Arc<Job>>, id: &AvatarId) -> Result<(), super::Problem> {
    if jobs.values().any(|job| job.is_active() && job.avatar_id() == *id) {
        let message = format!("avatar \"{id}\" is being made just now: wait for that, or choose another id");
        return Err(AvatarFault::new(AvatarFaultCode::AvatarBusy, message).into());
    }
    Ok(())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of seconds, and saturates")]
fn seconds_left(so_far: Duration, share: f64) -> Option<u64> {
    let guess = so_far.as_secs_f64() * (1.0 - share) / share;
    (share >= ENOUGH_TO_GUESS).then_some(guess.clamp(0.0, 86_400.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_once_it_can_be_guessed() {
        assert_eq!(seconds_left(Duration::from_secs(3), 0.01), None);
        assert_eq!(seconds_left(Duration::from_secs(3), 0.25), Some(9));
        assert_eq!(seconds_left(Duration::from_secs(3), 1.0), Some(0));
    }
}
