//! What one address may take: how many connections there are of each kind, how many of one address, and who goes when there
//! are too many.
//!
//! Every connection is let in, since only then it can be told why it is not served. While there is no slot for one more,
//! the one that has been idle for longest goes: of the same address if that has all that one address may have, else of the
//! address that has most. If none is idle for a moment already, the new one is overflow: it may ask how the server is, so that
//! whoever looks after it always gets an answer, and is told that the server is full if it asks for anything else.
//!
//! In here: slots and their holders. `address` says whom a connection counts for, `address_quota` has the rates of one address,
//! `limited_sessions` holds sessions to them, `throttle` reads a flooding stream more slowly, `write_timeout` lets go of a
//! stalled one. Not in here: HTTP (`listener`, `http_connection`).
//! Runs on: whichever task calls it; nothing here waits.

pub(crate) mod address;
mod address_quota;
mod limited_sessions;
mod throttle;
mod write_timeout;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use address::Address;
pub(super) use address_quota::{AddressQuota, Operation};
pub(super) use limited_sessions::LimitedSessions;
pub(super) use throttle::ThrottledStream;
pub(super) use write_timeout::WriteTimeout;

/// Overflow connections, at most; they are there for as long as it takes to answer.
pub(crate) const OVERFLOW_CONNECTIONS: usize = 32;

/// Who has just come has had no time to ask, so it does not make room for another yet.
const GRACE: Duration = Duration::from_millis(250);

/// Addresses whose rates are remembered, and for how long after their last request.
const REMEMBERED: usize = 16 * 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(120);

/// Slots for each kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// HTTP connections, idle ones and those that are being answered.
    pub requests: usize,
    /// Listeners of server-sent events, which stay for hours.
    pub event_streams: usize,
    /// Viewers and whoever else opens `/ws`.
    pub web_sockets: usize,
    /// Sessions, which are no connections; whoever holds one holds it over one.
    pub sessions: usize,
}

impl ConnectionLimits {
    fn of(self, kind: ConnectionKind) -> usize {
        match kind {
            ConnectionKind::Request => self.requests,
            ConnectionKind::EventStream => self.event_streams,
            ConnectionKind::WebSocket => self.web_sockets,
            ConnectionKind::Overflow => OVERFLOW_CONNECTIONS,
        }
    }
}

/// What a connection is for, and so which limit holds for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    /// HTTP, idle or being answered.
    Request,
    /// Server-sent events.
    EventStream,
    WebSocket,
    /// There was no slot, so it may only ask how the server is.
    Overflow,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuotaExceeded {
    #[error("all {0} connections of this server are taken: try again in a while")]
    Server(usize),
    #[error("{0} connections come from this address, which is all that one address may have: close some")]
    Address(usize),
}

#[derive(Debug)]
struct Connection {
    address: Address,
    kind: ConnectionKind,
    /// Since when nothing is asked or answered; `None` while something is.
    idle_since: Option<Instant>,
    leave: CancellationToken,
}

#[derive(Debug, Default)]
struct Connections {
    all: BTreeMap<u64, Connection>,
    came: u64,
    addresses: HashMap<Address, Arc<AddressQuota>>,
}

/// The slots and who holds them.
#[derive(Debug)]
pub(super) struct ConnectionQuota {
    limits: ConnectionLimits,
    /// Whether one address is held to a part of the slots, and to rates.
    limits_addresses: bool,
    /// Whose word on who asks is believed.
    pub(super) proxies: Vec<IpNet>,
    connections: Mutex<Connections>,
}

/// One connection's slot; given back when dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    quota: Arc<ConnectionQuota>,
    number: u64,
    /// Cancelled when the slot is needed for another.
    pub(super) leave: CancellationToken,
}

impl ConnectionQuota {
    /// With no connections yet. `proxies` stand for many addresses each.
    pub(super) fn new(limits: ConnectionLimits, limits_addresses: bool, proxies: Vec<IpNet>) -> Self {
        Self { limits, limits_addresses, proxies, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Half of the slots: whoever takes all of them leaves the other half to everybody else.
    fn address_limit(&self, kind: ConnectionKind) -> usize {
        let all = self.limits.of(kind);
        if self.limits_addresses { all.div_ceil(2) } else { all }
    }

    /// Lets a connection in. A proxy's are not counted as one address's.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> (ConnectionSlot, ConnectionKind) {
        let address = Address::of(peer);
        let mut connections = self.connections();
        let of_proxy = address::is_trusted(peer, &self.proxies);
        let most = if of_proxy { self.limits.requests } else { self.address_limit(ConnectionKind::Request) };
        let kind = if connections.make_room(ConnectionKind::Request, address, self.limits.requests, most) {
            ConnectionKind::Request
        } else {
            connections.make_room(ConnectionKind::Overflow, address, OVERFLOW_CONNECTIONS, OVERFLOW_CONNECTIONS);
            ConnectionKind::Overflow
        };
        (self.slot(&mut connections, address, kind), kind)
    }

    /// A slot for a WebSocket, which nobody loses again to another.
    pub(super) fn admit_web_socket(self: &Arc<Self>, address: Address) -> Result<ConnectionSlot, QuotaExceeded> {
        let mut connections = self.connections();
        self.check(&connections, address, ConnectionKind::WebSocket)?;
        Ok(self.slot(&mut connections, address, ConnectionKind::WebSocket))
    }

    fn check(&self, connections: &Connections, address: Address, kind: ConnectionKind) -> Result<(), QuotaExceeded> {
        let (all, most) = (self.limits.of(kind), self.address_limit(kind));
        if connections.count(kind, None) >= all {
            Err(QuotaExceeded::Server(all))
        } else if connections.count(kind, Some(address)) >= most {
            Err(QuotaExceeded::Address(most))
        } else {
            Ok(())
        }
    }

    fn slot(self: &Arc<Self>, connections: &mut Connections, address: Address, kind: ConnectionKind) -> ConnectionSlot {
        let leave = CancellationToken::new();
        let number = connections.came;
        connections.came += 1;
        connections
            .all
            .insert(number, Connection { address, kind, idle_since: Some(Instant::now()), leave: leave.clone() });
        ConnectionSlot { quota: Arc::clone(self), number, leave }
    }

    /// What an address may still ask for.
    pub(super) fn address_quota(&self, address: Address) -> Arc<AddressQuota> {
        let mut connections = self.connections();
        if connections.addresses.len() >= REMEMBERED && !connections.addresses.contains_key(&address) {
            connections
                .addresses
                .retain(|_, quota| Arc::strong_count(quota) > 1 || quota.last_used().elapsed() < REMEMBERED_FOR);
            if connections.addresses.len() >= REMEMBERED {
                // More addresses than any audience has: they are held to one rate together.
                let nobody = Address::of(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
                return Arc::clone(connections.addresses.entry(nobody).or_insert_with(|| self.new_address_quota()));
            }
        }
        Arc::clone(connections.addresses.entry(address).or_insert_with(|| self.new_address_quota()))
    }

    fn new_address_quota(&self) -> Arc<AddressQuota> {
        Arc::new(AddressQuota::new(self.limits_addresses.then_some(self.limits.sessions.div_ceil(2))))
    }

    /// Has the connection go that has been idle for longest, as when no descriptor is left for a new one.
    pub(super) fn evict_idlest(&self) -> bool {
        let mut connections = self.connections();
        [ConnectionKind::Overflow, ConnectionKind::Request].into_iter().any(|kind| connections.evict_idlest(kind, None))
    }
}

impl Connections {
    fn count(&self, kind: ConnectionKind, address: Option<Address>) -> usize {
        let counts = |connection: &&Connection| {
            connection.kind == kind && address.is_none_or(|address| connection.address == address)
        };
        self.all.values().filter(counts).count()
    }

    /// Whether there is a slot of a kind, after an idle connection went if need be.
    fn make_room(&mut self, kind: ConnectionKind, address: Address, all: usize, most: usize) -> bool {
        if self.count(kind, Some(address)) >= most {
            return self.evict_idlest(kind, Some(address));
        }
        if self.count(kind, None) < all {
            return true;
        }
        let mut addresses: HashMap<Address, usize> = HashMap::new();
        for connection in
            self.all.values().filter(|connection| connection.kind == kind && connection.idle_since.is_some())
        {
            *addresses.entry(connection.address).or_default() += 1;
        }
        let crowd = addresses.into_iter().max_by_key(|(address, idle)| (*idle, *address)).map(|(address, _)| address);
        crowd.is_some_and(|crowd| self.evict_idlest(kind, Some(crowd)))
    }

    fn evict_idlest(&mut self, kind: ConnectionKind, address: Option<Address>) -> bool {
        let fits = |connection: &Connection| {
            connection.kind == kind && address.is_none_or(|address| connection.address == address)
        };
        let idle = self.all.iter().filter(|(_, connection)| fits(connection));
        let grace = if kind == ConnectionKind::Overflow { Duration::ZERO } else { GRACE };
        let long = idle.filter_map(|(number, connection)| Some((connection.idle_since?, *number)));
        let idlest = long.filter(|(since, _)| since.elapsed() >= grace).min();
        let Some(connection) = idlest.and_then(|(_, number)| self.all.remove(&number)) else { return false };
        connection.leave.cancel();
        true
    }
}

impl ConnectionSlot {
    fn change<T>(&self, change: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        self.quota.connections().all.get_mut(&self.number).map(change)
    }

    /// Something is asked: the slot is not taken away before it is answered.
    pub(super) fn is_busy(&self) {
        self.change(|connection| connection.idle_since = None);
    }

    /// It is answered, and waits for the next one.
    pub(super) fn is_idle(&self) {
        self.change(|connection| connection.idle_since = Some(Instant::now()));
    }

    /// Makes an HTTP connection one that listens to events for an address, until [`ConnectionSlot::ends_event_stream`].
    pub(super) fn becomes_event_stream(&self, address: Address) -> Result<(), QuotaExceeded> {
        let mut connections = self.quota.connections();
        self.quota.check(&connections, address, ConnectionKind::EventStream)?;
        if let Some(connection) = connections.all.get_mut(&self.number) {
            (connection.kind, connection.address) = (ConnectionKind::EventStream, address);
        }
        Ok(())
    }

    /// It is an HTTP connection again.
    pub(super) fn ends_event_stream(&self) {
        self.change(|connection| {
            connection.kind = ConnectionKind::Request;
            connection.idle_since = Some(Instant::now());
        });
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.quota.connections().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { requests: 8, event_streams: 2, web_sockets: 4, sessions: 4 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn quota(limits_addresses: bool) -> Arc<ConnectionQuota> {
        Arc::new(ConnectionQuota::new(LIMITS, limits_addresses, vec![ip(200).into()]))
    }

    /// Comes in, a while after whoever came before.
    async fn admit(quota: &Arc<ConnectionQuota>, last: u8) -> (ConnectionSlot, ConnectionKind) {
        tokio::time::advance(GRACE).await;
        quota.admit(ip(last))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_has_its_part_loses_its_own_idlest_connection_and_others_none() {
        let quota = quota(true);
        let (other, _) = admit(&quota, 1).await;
        let mut crowd = Vec::new();
        for _ in 0..20 {
            let (slot, kind) = admit(&quota, 2).await;
            assert_eq!(kind, ConnectionKind::Request);
            crowd.push(slot);
        }
        let left: Vec<bool> = crowd.iter().map(|slot| slot.leave.is_cancelled()).collect();
        assert_eq!(left, [vec![true; 16], vec![false; 4]].concat());
        assert!(!other.leave.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_that_comes_all_at_once_nobody_is_sent_away_before_it_could_ask() {
        let quota = quota(true);
        let crowd: Vec<_> = (0..4 + OVERFLOW_CONNECTIONS).map(|_| quota.admit(ip(1))).collect();
        assert!(crowd.iter().all(|(slot, _)| !slot.leave.is_cancelled()));
        assert_eq!(crowd.iter().filter(|(_, kind)| *kind == ConnectionKind::Request).count(), 4);
        assert_eq!(admit(&quota, 1).await.1, ConnectionKind::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_lets_the_idlest_of_the_largest_crowd_go() {
        let quota = quota(true);
        let mut connections = Vec::new();
        for last in [1, 2, 2, 2, 3, 3, 4, 5] {
            connections.push(admit(&quota, last).await);
        }
        assert_eq!(admit(&quota, 6).await.1, ConnectionKind::Request);
        let left: Vec<usize> = (0..8).filter(|at| connections[*at].0.leave.is_cancelled()).collect();
        assert_eq!(left, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_stays_and_who_comes_then_is_kept_apart_until_one_is_not() {
        let quota = quota(true);
        let mut busy = Vec::new();
        for _ in 0..4 {
            let (slot, _) = admit(&quota, 1).await;
            slot.is_busy();
            busy.push(slot);
        }
        let mut apart = Vec::new();
        for _ in 0..OVERFLOW_CONNECTIONS + 3 {
            let (slot, kind) = admit(&quota, 1).await;
            assert_eq!(kind, ConnectionKind::Overflow);
            apart.push(slot);
        }
        assert!(apart[..3].iter().all(|slot| slot.leave.is_cancelled()));
        assert!(!apart[3].leave.is_cancelled() && busy.iter().all(|slot| !slot.leave.is_cancelled()));
        assert_eq!(admit(&quota, 2).await.1, ConnectionKind::Request, "another address has its own part");
        busy[2].is_idle();
        assert_eq!(admit(&quota, 1).await.1, ConnectionKind::Request);
        assert!(busy[2].leave.is_cancelled());
        drop(busy);
        assert_eq!(admit(&quota, 1).await.1, ConnectionKind::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_and_web_sockets_have_places_of_their_own_and_never_lose_them() {
        let quota = quota(true);
        let (listener, _) = admit(&quota, 1).await;
        listener.becomes_event_stream(Address::of(ip(1))).unwrap();
        let (second, _) = admit(&quota, 1).await;
        assert_eq!(second.becomes_event_stream(Address::of(ip(1))), Err(QuotaExceeded::Address(1)));
        let (other, _) = admit(&quota, 2).await;
        other.becomes_event_stream(Address::of(ip(2))).unwrap();
        let (third, _) = admit(&quota, 3).await;
        assert_eq!(third.becomes_event_stream(Address::of(ip(3))), Err(QuotaExceeded::Server(2)));
        let sockets: Vec<_> = (0..2).map(|_| quota.admit_web_socket(Address::of(ip(1))).unwrap()).collect();
        assert_eq!(quota.admit_web_socket(Address::of(ip(1))).unwrap_err(), QuotaExceeded::Address(2));
        for _ in 0..20 {
            drop(admit(&quota, 1).await);
        }
        assert!(sockets.iter().chain([&listener, &other]).all(|slot| !slot.leave.is_cancelled()));
        listener.ends_event_stream();
        second.becomes_event_stream(Address::of(ip(1))).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_stands_for_many_and_addresses_may_be_left_unlimited() {
        let quota = quota(true);
        let mut connections = Vec::new();
        for _ in 0..8 {
            let (slot, kind) = admit(&quota, 200).await;
            assert_eq!(kind, ConnectionKind::Request);
            connections.push(slot);
        }
        assert!(connections.iter().all(|slot| !slot.leave.is_cancelled()));
        let open = super::tests::quota(false);
        let all: Vec<_> = (0..4).map(|_| open.admit_web_socket(Address::of(ip(1))).unwrap()).collect();
        assert_eq!(open.admit_web_socket(Address::of(ip(1))).unwrap_err(), QuotaExceeded::Server(4));
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let quota = quota(true);
        for number in 0..u32::try_from(REMEMBERED).unwrap() + 100 {
            quota.address_quota(Address::of(IpAddr::V4(number.into())));
        }
        assert!(quota.connections().addresses.len() <= REMEMBERED + 1);
        tokio::time::advance(REMEMBERED_FOR).await;
        quota.address_quota(Address::of(ip(1)));
        assert!(quota.connections().addresses.len() < 100, "who has not come again is forgotten");
    }
}
