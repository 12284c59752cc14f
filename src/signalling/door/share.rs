//! What one address may ask for in a time, whatever number of sockets it asks over.
//!
//! In here: its rates, and sessions as somebody at this address may use them. Not in here: how many sockets it may hold
//! (`door`), what one socket may send (`limits`, `meter`). Runs on: whichever task calls it; nothing here waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::meter::Flow;
use crate::ids::{AvatarId, SessionId};
use crate::session::{
    AvatarInfo, Command, ErrorCode, IceServer, NoticeSender, Peer, PeerEvent, Refusal, Session, Sessions,
};
use crate::signalling::limits::{Taken, TokenBucket};

/// Something that an address asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
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

/// The rates of one address.
#[derive(Debug)]
pub struct Share {
    began: Instant,
    /// `None` where addresses are not held to anything.
    rates: Option<Mutex<Rates>>,
    /// The sessions that it holds, by how many of its clients.
    sessions: Mutex<BTreeMap<SessionId, usize>>,
    most_sessions: usize,
}

/// That an address holds a session; given back when dropped.
#[derive(Debug)]
struct Hold {
    share: Arc<Share>,
    session: SessionId,
}

#[derive(Debug)]
struct Rates {
    requests: TokenBucket,
    health: TokenBucket,
    joins: TokenBucket,
    offers: TokenBucket,
    turns: TokenBucket,
    frames: Flow,
    used: Instant,
}

impl Share {
    /// Generous for a school or an office behind one address, and little beside what the machine can do: a request takes
    /// some 50 µs, an offer 30 ms, a turn asks a language model.
    /// `most_sessions` may be held at a time; without that number it is not held to anything.
    pub fn new(most_sessions: Option<usize>) -> Self {
        let now = Instant::now();
        let rates = Rates {
            requests: TokenBucket::new(600.0, 150.0),
            health: TokenBucket::new(100.0, 20.0),
            joins: TokenBucket::new(100.0, 5.0),
            offers: TokenBucket::new(80.0, 2.0),
            turns: TokenBucket::new(80.0, 10.0),
            frames: Flow::of_an_address(now),
            used: now,
        };
        let rates = most_sessions.map(|_| Mutex::new(rates));
        Self { began: now, rates, sessions: Mutex::default(), most_sessions: most_sessions.unwrap_or(usize::MAX) }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, usize>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may hold a session that it does not hold yet.
    fn has_room(&self) -> bool {
        self.sessions().len() < self.most_sessions
    }

    /// One more client of its holds a session.
    fn hold(self: &Arc<Self>, session: SessionId) -> Option<Hold> {
        let mut sessions = self.sessions();
        if !sessions.contains_key(&session) && sessions.len() >= self.most_sessions {
            return None;
        }
        *sessions.entry(session).or_default() += 1;
        Some(Hold { share: Arc::clone(self), session })
    }

    fn rates(&self) -> Option<MutexGuard<'_, Rates>> {
        Some(self.rates.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is some of it left.
    pub fn take(&self, asked: Asked) -> bool {
        let Some(mut rates) = self.rates() else { return true };
        rates.used = Instant::now();
        let bucket = match asked {
            Asked::Request => &mut rates.requests,
            Asked::Health => &mut rates.health,
            Asked::Join => &mut rates.joins,
            Asked::Offer => &mut rates.offers,
            Asked::Turn => &mut rates.turns,
        };
        bucket.take(self.began.elapsed()) == Taken::Yes
    }

    /// Charges what was read from a WebSocket; the answer is when more may be read.
    pub fn charge(&self, cost: u32, now: Instant) -> Option<Instant> {
        let mut rates = self.rates()?;
        rates.used = now;
        rates.frames.charge(cost, now)
    }

    pub fn last_used(&self) -> Instant {
        self.rates().map_or(self.began, |rates| rates.used)
    }
}

/// The sessions as somebody at one address may use them.
pub struct AtAddress {
    pub sessions: Arc<dyn Sessions>,
    pub share: Arc<Share>,
}

/// A session as one of its clients may use it.
struct Shared {
    session: Arc<dyn Session>,
    share: Arc<Share>,
    /// Turns of this client. Each asks the language model and stops what is being said.
    turns: Mutex<TokenBucket>,
    began: Instant,
    _hold: Hold,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut sessions = self.share.sessions();
        if let Some(clients) = sessions.get_mut(&self.session) {
            *clients -= 1;
            if *clients == 0 {
                sessions.remove(&self.session);
            }
        }
    }
}

fn too_many(what: &str, wait: &str) -> String {
    format!("too many {what}: this one is ignored, wait {wait} and send fewer")
}

impl Sessions for AtAddress {
    fn join(
        &self,
        avatar: Option<AvatarId>,
        name: Option<String>,
        notices: NoticeSender,
    ) -> BoxFuture<'_, Result<Box<dyn Session>, Refusal>> {
        Box::pin(async move {
            if !self.share.take(Asked::Join) {
                let message = too_many("sessions are opened or joined from this address", "a second");
                return Err(Refusal { code: ErrorCode::TooManyMessages, message });
            }
            let full = || {
                let most = self.share.most_sessions;
                let message = format!("this address holds {most} sessions, which is all that one may have: close some");
                Refusal { code: ErrorCode::ServerFull, message }
            };
            // One without a name is a new one, so it is not even opened.
            if name.is_none() && !self.share.has_room() {
                return Err(full());
            }
            let session: Arc<dyn Session> = Arc::from(self.sessions.join(avatar, name, notices).await?);
            let hold = self.share.hold(session.id()).ok_or_else(full)?;
            let turns = Mutex::new(TokenBucket::new(30.0, 5.0));
            let share = Arc::clone(&self.share);
            Ok(Box::new(Shared { session, share, turns, began: Instant::now(), _hold: hold }) as Box<dyn Session>)
        })
    }

    fn full(&self) -> Option<String> {
        self.sessions.full()
    }
}

impl Session for Shared {
    fn id(&self) -> SessionId {
        self.session.id()
    }

    fn avatar(&self) -> AvatarInfo {
        self.session.avatar()
    }

    fn ice_servers(&self) -> Vec<IceServer> {
        self.session.ice_servers()
    }

    fn listens(&self) -> bool {
        self.session.listens()
    }

    fn open_peer(
        &self,
        offer: String,
        events: mpsc::Sender<PeerEvent>,
    ) -> BoxFuture<'_, Result<Box<dyn Peer>, Refusal>> {
        if self.share.take(Asked::Offer) {
            return self.session.open_peer(offer, events);
        }
        let message = format!("webrtc_offer: {}", too_many("offers come from this address", "a second"));
        Box::pin(async { Err(Refusal { code: ErrorCode::TooManyMessages, message }) })
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        if matches!(command, Command::Text { .. } | Command::Speak { .. }) {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            if turns.take(self.began.elapsed()) != Taken::Yes || !self.share.take(Asked::Turn) {
                let message = too_many("turns", "a second");
                return Err(Refusal { code: ErrorCode::TooManyMessages, message });
            }
        }
        self.session.submit(command)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_rate_of_each_thing_and_health_is_one_of_its_own() {
        let share = Share::new(Some(4));
        let taken = |asked| (0..10_000).filter(|_| share.take(asked)).count();
        assert_eq!((taken(Asked::Request), taken(Asked::Turn)), (600, 80));
        assert!(share.take(Asked::Health), "requests do not use it up");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((taken(Asked::Request), taken(Asked::Turn)), (150, 10));
        let unlimited = Share::new(None);
        assert_eq!((0..10_000).filter(|_| unlimited.take(Asked::Offer)).count(), 10_000);
        assert_eq!(unlimited.charge(u32::MAX, Instant::now()), None);
    }

    #[tokio::test]
    async fn an_address_holds_some_sessions_each_with_any_number_of_its_clients() {
        let share = Arc::new(Share::new(Some(2)));
        let [first, second, third] = [(); 3].map(|()| SessionId::next());
        let held = [first, first, first, second, second].map(|session| share.hold(session).unwrap());
        assert!(!share.has_room() && share.hold(third).is_none());
        drop(held);
        assert!(share.has_room() && share.hold(third).is_some());
    }
}
