//! What one address may ask for in a time, whatever number of sockets it asks over.
//!
//! In here: its rates, and which sessions it holds. Not in here: sessions that are held to them (`limited_sessions`), how many
//! sockets it may hold (`quota`), what one socket may send (`limits`, `throttle`).
//! Runs on: whichever task calls it; nothing here waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::throttle::DebtBucket;
use crate::ids::SessionId;
use crate::signalling::limits::{Taken, TokenBucket};

/// Something that an address asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Operation {
    /// Any request over HTTP.
    Request,
    /// One for health or readiness, which are for those who look after the server, so that no other request uses them up.
    Health,
    /// To open or join a session.
    Join,
    Offer,
    /// A turn of text, over a WebSocket or HTTP.
    Turn,
}

/// What one address may ask for, and what it holds.
#[derive(Debug)]
pub(in super::super) struct AddressQuota {
    began: Instant,
    /// `None` where addresses are not held to anything.
    rates: Option<Mutex<Rates>>,
    /// The sessions that it holds, by how many of its clients.
    sessions: Mutex<BTreeMap<SessionId, usize>>,
    pub(super) most_sessions: usize,
}

/// That an address holds a session; given back when dropped.
#[derive(Debug)]
pub(super) struct SessionHold {
    quota: Arc<AddressQuota>,
    session: SessionId,
}

#[derive(Debug)]
struct Rates {
    requests: TokenBucket,
    health: TokenBucket,
    joins: TokenBucket,
    offers: TokenBucket,
    turns: TokenBucket,
    frames: DebtBucket,
    used: Instant,
}

impl AddressQuota {
    /// Generous for a school or an office behind one address, and little beside what the machine can do: a request takes
    /// some 50 µs, an offer 30 ms, a turn asks a language model.
    /// `most_sessions` may be held at a time; without that number it is not held to anything.
    pub(super) fn new(most_sessions: Option<usize>) -> Self {
        let now = Instant::now();
        let rates = Rates {
            requests: TokenBucket::new(600.0, 150.0),
            health: TokenBucket::new(100.0, 20.0),
            joins: TokenBucket::new(100.0, 5.0),
            offers: TokenBucket::new(80.0, 2.0),
            turns: TokenBucket::new(80.0, 10.0),
            frames: DebtBucket::of_an_address(now),
            used: now,
        };
        let rates = most_sessions.map(|_| Mutex::new(rates));
        Self { began: now, rates, sessions: Mutex::default(), most_sessions: most_sessions.unwrap_or(usize::MAX) }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, usize>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may hold a session that it does not hold yet.
    pub(super) fn has_room(&self) -> bool {
        self.sessions().len() < self.most_sessions
    }

    /// One more client of its holds a session.
    pub(super) fn hold(self: &Arc<Self>, session: SessionId) -> Option<SessionHold> {
        let mut sessions = self.sessions();
        if !sessions.contains_key(&session) && sessions.len() >= self.most_sessions {
            return None;
        }
        *sessions.entry(session).or_default() += 1;
        Some(SessionHold { quota: Arc::clone(self), session })
    }

    fn rates(&self) -> Option<MutexGuard<'_, Rates>> {
        Some(self.rates.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is some of it left.
    pub(in super::super) fn take(&self, operation: Operation) -> bool {
        let Some(mut rates) = self.rates() else { return true };
        rates.used = Instant::now();
        let bucket = match operation {
            Operation::Request => &mut rates.requests,
            Operation::Health => &mut rates.health,
            Operation::Join => &mut rates.joins,
            Operation::Offer => &mut rates.offers,
            Operation::Turn => &mut rates.turns,
        };
        bucket.take(self.began.elapsed()) == Taken::Yes
    }

    /// Charges what was read from a WebSocket; the answer is when more may be read.
    pub(super) fn charge(&self, cost: u32, now: Instant) -> Option<Instant> {
        let mut rates = self.rates()?;
        rates.used = now;
        rates.frames.charge(cost, now)
    }

    pub(super) fn last_used(&self) -> Instant {
        self.rates().map_or(self.began, |rates| rates.used)
    }
}

impl Drop for SessionHold {
    fn drop(&mut self) {
        let mut sessions = self.quota.sessions();
        if let Some(clients) = sessions.get_mut(&self.session) {
            *clients -= 1;
            if *clients == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_rate_of_each_thing_and_health_is_one_of_its_own() {
        let quota = AddressQuota::new(Some(4));
        let taken = |operation| (0..10_000).filter(|_| quota.take(operation)).count();
        assert_eq!((taken(Operation::Request), taken(Operation::Turn)), (600, 80));
        assert!(quota.take(Operation::Health), "requests do not use it up");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((taken(Operation::Request), taken(Operation::Turn)), (150, 10));
        let unlimited = AddressQuota::new(None);
        assert_eq!((0..10_000).filter(|_| unlimited.take(Operation::Offer)).count(), 10_000);
        assert_eq!(unlimited.charge(u32::MAX, Instant::now()), None);
    }

    #[tokio::test]
    async fn an_address_holds_some_sessions_each_with_any_number_of_its_clients() {
        let quota = Arc::new(AddressQuota::new(Some(2)));
        let [first, second, third] = [(); 3].map(|()| SessionId::next());
        let held = [first, first, first, second, second].map(|session| quota.hold(session).unwrap());
        assert!(!quota.has_room() && quota.hold(third).is_none());
        drop(held);
        assert!(quota.has_room() && quota.hold(third).is_some());
    }
}
