//! Whom the device has frames for: sessions are watched only as long as what that promises can be drawn.
//!
//! In here: the rule, its check when a session is opened and when its first viewer comes. Not in here: what the device can
//! draw (`lipsync::capacity` learns it), what happens if it can draw less later (`lipsync::scheduler` leaves out mouths), what
//! descriptors and threads there are (`budget`).
//! Runs on: tokio tasks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::{CLIENT, OutOfResources, Reservation, ResourceBudget, SESSION};
use crate::audience::{Audience, ViewerGuard};
use crate::config::ServeConfig;
use crate::media::{ENCODE_RESOURCES as ENCODE, OUTPUT_RESOURCES as OUTPUT, Resources, VIEWER_RESOURCES as VIEWER};
use crate::timeline::FPS;

pub(super) struct Admission {
    max_sessions: usize,
    max_load: f64,
    speaking_share: f64,
    open: Arc<AtomicUsize>,
    /// Knows how many sessions are watched.
    watched: Audience,
    /// Reservation while a place is looked for and taken.
    deciding: Mutex<()>,
    budget: Arc<ResourceBudget>,
}

/// That a session is open; given back when dropped.
pub(super) struct SessionSlot {
    open: Arc<AtomicUsize>,
    _reservation: Reservation,
}

/// A viewer in its session, and what it takes of the process; given back when dropped.
#[derive(Debug)]
pub(super) struct ViewerSlot {
    _watching: ViewerGuard,
    _reservation: Reservation,
}

/// Why there is no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("all {0} sessions are in use: try again in a few seconds")]
    Sessions(usize),
    #[error("this server can draw {0} sessions and all are watched: try again in a few seconds")]
    Capacity(usize),
    #[error(transparent)]
    OutOfResources(#[from] OutOfResources),
}

impl Admission {
    pub(super) fn new(config: &ServeConfig, budget: Arc<ResourceBudget>) -> Self {
        Self {
            max_sessions: config.max_sessions,
            max_load: config.max_load,
            speaking_share: config.speaking_share,
            open: Arc::default(),
            watched: Audience::default(),
            deciding: Mutex::default(),
            budget,
        }
    }

    /// What a client holds for as long as it holds a session.
    pub(super) fn admit_client(&self) -> Result<Reservation, Full> {
        Ok(self.budget.take(CLIENT)?)
    }

    /// For a new session.
    pub(super) fn audience(&self) -> Audience {
        self.watched.of_another_session()
    }

    /// Whether one more session may be opened, of which the viewers are about to come. `rate` is the frames a second that
    /// the device draws, where that is known.
    pub(super) fn check_capacity(&self, rate: Option<f64>) -> Result<(), Full> {
        if self.open.load(Ordering::Relaxed) >= self.max_sessions {
            return Err(Full::Sessions(self.max_sessions));
        }
        let most = self.most_watched(rate);
        if self.watched.watched_sessions() >= most {
            return Err(Full::Capacity(most));
        }
        Ok(self.budget.check(CLIENT + SESSION + ENCODE + VIEWER)?)
    }

    /// Takes a slot for a new session.
    pub(super) fn admit_session(&self, rate: Option<f64>) -> Result<SessionSlot, Full> {
        let _alone = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_capacity(rate)?;
        let reservation = self.budget.take(SESSION)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(SessionSlot { open: Arc::clone(&self.open), _reservation: reservation })
    }

    /// Lets a viewer in: always into a session that is watched already.
    pub(super) fn admit_viewer(&self, audience: &Audience, rate: Option<f64>) -> Result<ViewerSlot, Full> {
        self.admit(VIEWER, audience, rate)
    }

    /// The same for an output, which watches as viewers do.
    pub(super) fn admit_output(&self, audience: &Audience, rate: Option<f64>) -> Result<ViewerSlot, Full> {
        self.admit(OUTPUT, audience, rate)
    }

    fn admit(&self, cost: Resources, audience: &Audience, rate: Option<f64>) -> Result<ViewerSlot, Full> {
        let _alone = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.most_watched(rate);
        if audience.is_empty() && self.watched.watched_sessions() >= most {
            return Err(Full::Capacity(most));
        }
        // The first one has the encode begin.
        let reservation = self.budget.take(if audience.is_empty() { cost + ENCODE } else { cost })?;
        Ok(ViewerSlot { _watching: audience.enter(), _reservation: reservation })
    }

    /// However slow the device is, one session is served as well as it can.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    fn most_watched(&self, rate: Option<f64>) -> usize {
        let promised = f64::from(FPS) * self.speaking_share;
        rate.map_or(usize::MAX, |rate| ((rate * self.max_load / promised) as usize).max(1))
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission {
            max_sessions: 2,
            max_load: 0.8,
            speaking_share: 0.5,
            open: Arc::default(),
            watched: Audience::default(),
            deciding: Mutex::default(),
            budget: ResourceBudget::of(Resources { descriptors: 1000, threads: 1000 }),
        }
    }

    #[test]
    fn sessions_are_watched_up_to_what_the_device_draws_in_its_share() {
        let admission = admission();
        let (first, second, third) = (admission.audience(), admission.audience(), admission.audience());
        // 40 frames a second, 32 of them promised, 12.5 to each session.
        let rate = Some(40.0);
        let _one = admission.admit_viewer(&first, rate).unwrap();
        assert_eq!(admission.check_capacity(rate), Ok(()));
        let two = admission.admit_viewer(&second, rate).unwrap();
        assert_eq!(admission.admit_viewer(&third, rate).unwrap_err(), Full::Capacity(2));
        assert_eq!(admission.check_capacity(rate), Err(Full::Capacity(2)));
        assert!(admission.admit_viewer(&first, rate).is_ok(), "it is watched already");
        drop(two);
        assert!(admission.admit_viewer(&third, rate).is_ok(), "one has left");
    }

    #[test]
    fn a_device_that_is_too_slow_for_one_or_not_yet_known_takes_one_and_sessions_have_their_own_limit() {
        let admission = admission();
        let _one = admission.admit_viewer(&admission.audience(), Some(1.0)).unwrap();
        assert_eq!(admission.check_capacity(Some(1.0)), Err(Full::Capacity(1)));
        let _first = admission.admit_session(None).unwrap();
        let second = admission.admit_session(None).unwrap();
        assert_eq!(admission.admit_session(None).err(), Some(Full::Sessions(2)));
        drop(second);
        assert!(admission.admit_session(None).is_ok(), "one has closed");
    }
}
