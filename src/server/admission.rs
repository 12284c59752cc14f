//! Whom the device has frames for: sessions are watched only as long as what that promises can be drawn.
//!
//! In here: the rule, its check when a session is opened and when its first viewer comes. Not in here: what the device can
//! draw (`lipsync::capacity` learns it), what happens if it can draw less later (`lipsync::scheduler` leaves out mouths), what
//! descriptors and threads there are (`budget`).
//! Runs on: tokio tasks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::{Budget, CLIENT, Held, SESSION, Short};
use crate::audience::{Audience, Seat};
use crate::config::ServeConfig;
use crate::media::{PEER_COST as VIEWER, SESSION_COST as ENCODE};
use crate::timeline::FPS;

pub(super) struct Admission {
    max_sessions: usize,
    max_load: f64,
    speaking_share: f64,
    open: Arc<AtomicUsize>,
    /// Knows how many sessions are watched.
    house: Audience,
    /// Held while a place is looked for and taken.
    door: Mutex<()>,
    budget: Arc<Budget>,
}

/// That a session is open; given back when dropped.
pub(super) struct Place {
    open: Arc<AtomicUsize>,
    _held: Held,
}

/// A viewer in its session, and what it takes of the process; given back when dropped.
#[derive(Debug)]
pub(super) struct Entered {
    _seat: Seat,
    _held: Held,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("all {0} sessions are in use: try again in a few seconds")]
    Sessions(usize),
    #[error("this server can draw {0} sessions and all are watched: try again in a few seconds")]
    Capacity(usize),
    #[error(transparent)]
    Short(#[from] Short),
}

impl Admission {
    pub(super) fn new(config: &ServeConfig, budget: Arc<Budget>) -> Self {
        Self {
            max_sessions: config.max_sessions,
            max_load: config.max_load,
            speaking_share: config.speaking_share,
            open: Arc::default(),
            house: Audience::default(),
            door: Mutex::default(),
            budget,
        }
    }

    /// What a client holds for as long as it holds a session.
    pub(super) fn client(&self) -> Result<Held, Full> {
        Ok(self.budget.take(CLIENT)?)
    }

    /// For a new session.
    pub(super) fn audience(&self) -> Audience {
        self.house.of_another_session()
    }

    /// Whether one more session may be opened, of which the viewers are about to come. `rate` is the frames a second that
    /// the device draws, where that is known.
    pub(super) fn room(&self, rate: Option<f64>) -> Result<(), Full> {
        if self.open.load(Ordering::Relaxed) >= self.max_sessions {
            return Err(Full::Sessions(self.max_sessions));
        }
        let most = self.most_watched(rate);
        if self.house.watched_sessions() >= most {
            return Err(Full::Capacity(most));
        }
        Ok(self.budget.room(CLIENT + SESSION + ENCODE + VIEWER)?)
    }

    /// Takes a place for a new session.
    pub(super) fn open(&self, rate: Option<f64>) -> Result<Place, Full> {
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        self.room(rate)?;
        let held = self.budget.take(SESSION)?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Place { open: Arc::clone(&self.open), _held: held })
    }

    /// Lets a viewer in: always into a session that is watched already.
    pub(super) fn enter(&self, audience: &Audience, rate: Option<f64>) -> Result<Entered, Full> {
        let _alone = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.most_watched(rate);
        if audience.is_empty() && self.house.watched_sessions() >= most {
            return Err(Full::Capacity(most));
        }
        // The first one has the encode begin.
        let held = self.budget.take(if audience.is_empty() { VIEWER + ENCODE } else { VIEWER })?;
        Ok(Entered { _seat: audience.enter(), _held: held })
    }

    /// However slow the device is, one session is served as well as it can.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    fn most_watched(&self, rate: Option<f64>) -> usize {
        let promised = f64::from(FPS) * self.speaking_share;
        rate.map_or(usize::MAX, |rate| ((rate * self.max_load / promised) as usize).max(1))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Cost;

    fn admission() -> Admission {
        Admission {
            max_sessions: 2,
            max_load: 0.8,
            speaking_share: 0.5,
            open: Arc::default(),
            house: Audience::default(),
            door: Mutex::default(),
            budget: Budget::of(Cost { descriptors: 1000, threads: 1000 }),
        }
    }

    #[test]
    fn sessions_are_watched_up_to_what_the_device_draws_in_its_share() {
        let admission = admission();
        let (first, second, third) = (admission.audience(), admission.audience(), admission.audience());
        // 40 frames a second, 32 of them promised, 12.5 to each session.
        let rate = Some(40.0);
        let _one = admission.enter(&first, rate).unwrap();
        assert_eq!(admission.room(rate), Ok(()));
        let two = admission.enter(&second, rate).unwrap();
        assert_eq!(admission.enter(&third, rate).unwrap_err(), Full::Capacity(2));
        assert_eq!(admission.room(rate), Err(Full::Capacity(2)));
        assert!(admission.enter(&first, rate).is_ok(), "it is watched already");
        drop(two);
        assert!(admission.enter(&third, rate).is_ok(), "one has left");
    }

    #[test]
    fn a_device_that_is_too_slow_for_one_or_not_yet_known_takes_one_and_sessions_have_their_own_limit() {
        let admission = admission();
        let _one = admission.enter(&admission.audience(), Some(1.0)).unwrap();
        assert_eq!(admission.room(Some(1.0)), Err(Full::Capacity(1)));
        let _first = admission.open(None).unwrap();
        let second = admission.open(None).unwrap();
        assert_eq!(admission.open(None).err(), Some(Full::Sessions(2)));
        drop(second);
        assert!(admission.open(None).is_ok(), "one has closed");
    }
}
