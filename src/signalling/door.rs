//! Who comes in: how many connections there are of each kind, how many of one address, and who goes when there are too many.
//!
//! Every connection is let in, since only then it can be told why it is not served. While there is no place for one more,
//! the one that has been idle for longest goes: of the same address if that has all that one address may have, else of the
//! address that has most. If none is idle for a moment already, the new one is kept apart: it may ask how the server is, so that
//! whoever looks after it always gets an answer, and is told that the server is full if it asks for anything else.
//!
//! In here: places and their holders. Not in here: rates (`share`), stalled and flooding streams (`meter`), HTTP (`listener`).
//! Runs on: whichever task calls it; nothing here waits.

pub mod address;
pub(super) mod meter;
pub(super) mod share;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use address::Address;
use share::Share;

/// Connections that are kept apart, at most; they are there for as long as it takes to answer.
pub const APART: usize = 32;

/// Who has just come has had no time to ask, so it does not make room for another yet.
const GRACE: Duration = Duration::from_millis(250);

/// Addresses whose rates are remembered, and for how long after their last request.
const REMEMBERED: usize = 16 * 1024;
const REMEMBERED_FOR: Duration = Duration::from_secs(120);

/// Places for each kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// HTTP connections, idle ones and those that are being answered.
    pub requests: usize,
    /// Listeners of server-sent events, which stay for hours.
    pub event_streams: usize,
    pub web_sockets: usize,
    /// Sessions, which are no connections; whoever holds one holds it over one.
    pub sessions: usize,
}

impl Room {
    fn of(self, kind: Kind) -> usize {
        match kind {
            Kind::Request => self.requests,
            Kind::EventStream => self.event_streams,
            Kind::WebSocket => self.web_sockets,
            Kind::Apart => APART,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    EventStream,
    WebSocket,
    /// There was no place, so it may only ask how the server is.
    Apart,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error("all {0} connections of this server are taken: try again in a while")]
    Server(usize),
    #[error("{0} connections come from this address, which is all that one address may have: close some")]
    Address(usize),
}

#[derive(Debug)]
struct Guest {
    address: Address,
    kind: Kind,
    /// Since when nothing is asked or answered; `None` while something is.
    idle_since: Option<Instant>,
    leave: CancellationToken,
}

#[derive(Debug, Default)]
struct Guests {
    all: BTreeMap<u64, Guest>,
    came: u64,
    shares: HashMap<Address, Arc<Share>>,
}

/// The places and who holds them.
#[derive(Debug)]
pub struct Door {
    room: Room,
    /// Whether one address is held to a part of the places, and to rates.
    limits_addresses: bool,
    pub proxies: Vec<IpNet>,
    guests: Mutex<Guests>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    door: Arc<Door>,
    number: u64,
    /// Cancelled when the place is needed for another.
    pub leave: CancellationToken,
}

impl Door {
    pub fn new(room: Room, limits_addresses: bool, proxies: Vec<IpNet>) -> Self {
        Self { room, limits_addresses, proxies, guests: Mutex::default() }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Half of the places: whoever takes all of them leaves the other half to everybody else.
    fn most_of_an_address(&self, kind: Kind) -> usize {
        let room = self.room.of(kind);
        if self.limits_addresses { room.div_ceil(2) } else { room }
    }

    /// Lets a connection in. A proxy's are not counted as one address's.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> (Place, Kind) {
        let address = Address::of(peer);
        let mut guests = self.guests();
        let of_proxy = address::is_trusted(peer, &self.proxies);
        let most = if of_proxy { self.room.requests } else { self.most_of_an_address(Kind::Request) };
        let kind = if guests.make_room(Kind::Request, address, self.room.requests, most) {
            Kind::Request
        } else {
            guests.make_room(Kind::Apart, address, APART, APART);
            Kind::Apart
        };
        (self.place(&mut guests, address, kind), kind)
    }

    /// A place for a WebSocket, which nobody loses again to another.
    pub fn enter_web_socket(self: &Arc<Self>, address: Address) -> Result<Place, Full> {
        let mut guests = self.guests();
        self.check(&guests, address, Kind::WebSocket)?;
        Ok(self.place(&mut guests, address, Kind::WebSocket))
    }

    fn check(&self, guests: &Guests, address: Address, kind: Kind) -> Result<(), Full> {
        let (all, most) = (self.room.of(kind), self.most_of_an_address(kind));
        if guests.count(kind, None) >= all {
            Err(Full::Server(all))
        } else if guests.count(kind, Some(address)) >= most {
            Err(Full::Address(most))
        } else {
            Ok(())
        }
    }

    fn place(self: &Arc<Self>, guests: &mut Guests, address: Address, kind: Kind) -> Place {
        let leave = CancellationToken::new();
        let number = guests.came;
        guests.came += 1;
        guests.all.insert(number, Guest { address, kind, idle_since: Some(Instant::now()), leave: leave.clone() });
        Place { door: Arc::clone(self), number, leave }
    }

    /// What an address may still ask for.
    pub fn share(&self, address: Address) -> Arc<Share> {
        let mut guests = self.guests();
        if guests.shares.len() >= REMEMBERED && !guests.shares.contains_key(&address) {
            guests
                .shares
                .retain(|_, share| Arc::strong_count(share) > 1 || share.last_used().elapsed() < REMEMBERED_FOR);
            if guests.shares.len() >= REMEMBERED {
                // More addresses than any audience has: they are held to one rate together.
                let nobody = Address::of(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
                return Arc::clone(guests.shares.entry(nobody).or_insert_with(|| self.new_share()));
            }
        }
        Arc::clone(guests.shares.entry(address).or_insert_with(|| self.new_share()))
    }

    fn new_share(&self) -> Arc<Share> {
        Arc::new(Share::new(self.limits_addresses.then_some(self.room.sessions.div_ceil(2))))
    }

    /// Has the connection go that has been idle for longest, as when no descriptor is left for a new one.
    pub fn dismiss_the_idlest(&self) -> bool {
        let mut guests = self.guests();
        [Kind::Apart, Kind::Request].into_iter().any(|kind| guests.dismiss_the_idlest(kind, None))
    }
}

impl Guests {
    fn count(&self, kind: Kind, address: Option<Address>) -> usize {
        let counts = |guest: &&Guest| guest.kind == kind && address.is_none_or(|address| guest.address == address);
        self.all.values().filter(counts).count()
    }

    /// Whether there is a place of a kind, after an idle connection went if need be.
    fn make_room(&mut self, kind: Kind, address: Address, all: usize, most: usize) -> bool {
        if self.count(kind, Some(address)) >= most {
            return self.dismiss_the_idlest(kind, Some(address));
        }
        if self.count(kind, None) < all {
            return true;
        }
        let mut addresses: HashMap<Address, usize> = HashMap::new();
        for guest in self.all.values().filter(|guest| guest.kind == kind && guest.idle_since.is_some()) {
            *addresses.entry(guest.address).or_default() += 1;
        }
        let crowd = addresses.into_iter().max_by_key(|(address, idle)| (*idle, *address)).map(|(address, _)| address);
        crowd.is_some_and(|crowd| self.dismiss_the_idlest(kind, Some(crowd)))
    }

    fn dismiss_the_idlest(&mut self, kind: Kind, address: Option<Address>) -> bool {
        let fits = |guest: &Guest| guest.kind == kind && address.is_none_or(|address| guest.address == address);
        let idle = self.all.iter().filter(|(_, guest)| fits(guest));
        let grace = if kind == Kind::Apart { Duration::ZERO } else { GRACE };
        let long = idle.filter_map(|(number, guest)| Some((guest.idle_since?, *number)));
        let idlest = long.filter(|(since, _)| since.elapsed() >= grace).min();
        let Some(guest) = idlest.and_then(|(_, number)| self.all.remove(&number)) else { return false };
        guest.leave.cancel();
        true
    }
}

impl Place {
    fn change<T>(&self, change: impl FnOnce(&mut Guest) -> T) -> Option<T> {
        self.door.guests().all.get_mut(&self.number).map(change)
    }

    /// Something is asked: the place is not taken away before it is answered.
    pub fn is_busy(&self) {
        self.change(|guest| guest.idle_since = None);
    }

    pub fn is_idle(&self) {
        self.change(|guest| guest.idle_since = Some(Instant::now()));
    }

    /// Makes an HTTP connection one that listens to events for an address, until [`Place::listens_no_more`].
    pub fn listens(&self, address: Address) -> Result<(), Full> {
        let mut guests = self.door.guests();
        self.door.check(&guests, address, Kind::EventStream)?;
        if let Some(guest) = guests.all.get_mut(&self.number) {
            (guest.kind, guest.address) = (Kind::EventStream, address);
        }
        Ok(())
    }

    pub fn listens_no_more(&self) {
        self.change(|guest| {
            guest.kind = Kind::Request;
            guest.idle_since = Some(Instant::now());
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.guests().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { requests: 8, event_streams: 2, web_sockets: 4, sessions: 4 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn door(limits_addresses: bool) -> Arc<Door> {
        Arc::new(Door::new(ROOM, limits_addresses, vec![ip(200).into()]))
    }

    /// Comes in, a while after whoever came before.
    async fn enter(door: &Arc<Door>, last: u8) -> (Place, Kind) {
        tokio::time::advance(GRACE).await;
        door.enter(ip(last))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_has_its_part_loses_its_own_idlest_connection_and_others_none() {
        let door = door(true);
        let (other, _) = enter(&door, 1).await;
        let mut crowd = Vec::new();
        for _ in 0..20 {
            let (place, kind) = enter(&door, 2).await;
            assert_eq!(kind, Kind::Request);
            crowd.push(place);
        }
        let left: Vec<bool> = crowd.iter().map(|place| place.leave.is_cancelled()).collect();
        assert_eq!(left, [vec![true; 16], vec![false; 4]].concat());
        assert!(!other.leave.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_crowd_that_comes_all_at_once_nobody_is_sent_away_before_it_could_ask() {
        let door = door(true);
        let crowd: Vec<_> = (0..4 + APART).map(|_| door.enter(ip(1))).collect();
        assert!(crowd.iter().all(|(place, _)| !place.leave.is_cancelled()));
        assert_eq!(crowd.iter().filter(|(_, kind)| *kind == Kind::Request).count(), 4);
        assert_eq!(enter(&door, 1).await.1, Kind::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_house_lets_the_idlest_of_the_largest_crowd_go() {
        let door = door(true);
        let mut guests = Vec::new();
        for last in [1, 2, 2, 2, 3, 3, 4, 5] {
            guests.push(enter(&door, last).await);
        }
        assert_eq!(enter(&door, 6).await.1, Kind::Request);
        let left: Vec<usize> = (0..8).filter(|at| guests[*at].0.leave.is_cancelled()).collect();
        assert_eq!(left, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_stays_and_who_comes_then_is_kept_apart_until_one_is_not() {
        let door = door(true);
        let mut busy = Vec::new();
        for _ in 0..4 {
            let (place, _) = enter(&door, 1).await;
            place.is_busy();
            busy.push(place);
        }
        let mut apart = Vec::new();
        for _ in 0..APART + 3 {
            let (place, kind) = enter(&door, 1).await;
            assert_eq!(kind, Kind::Apart);
            apart.push(place);
        }
        assert!(apart[..3].iter().all(|place| place.leave.is_cancelled()));
        assert!(!apart[3].leave.is_cancelled() && busy.iter().all(|place| !place.leave.is_cancelled()));
        assert_eq!(enter(&door, 2).await.1, Kind::Request, "another address has its own part");
        busy[2].is_idle();
        assert_eq!(enter(&door, 1).await.1, Kind::Request);
        assert!(busy[2].leave.is_cancelled());
        drop(busy);
        assert_eq!(enter(&door, 1).await.1, Kind::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn listeners_and_web_sockets_have_places_of_their_own_and_never_lose_them() {
        let door = door(true);
        let (listener, _) = enter(&door, 1).await;
        listener.listens(Address::of(ip(1))).unwrap();
        let (second, _) = enter(&door, 1).await;
        assert_eq!(second.listens(Address::of(ip(1))), Err(Full::Address(1)));
        let (other, _) = enter(&door, 2).await;
        other.listens(Address::of(ip(2))).unwrap();
        let (third, _) = enter(&door, 3).await;
        assert_eq!(third.listens(Address::of(ip(3))), Err(Full::Server(2)));
        let sockets: Vec<_> = (0..2).map(|_| door.enter_web_socket(Address::of(ip(1))).unwrap()).collect();
        assert_eq!(door.enter_web_socket(Address::of(ip(1))).unwrap_err(), Full::Address(2));
        for _ in 0..20 {
            drop(enter(&door, 1).await);
        }
        assert!(sockets.iter().chain([&listener, &other]).all(|place| !place.leave.is_cancelled()));
        listener.listens_no_more();
        second.listens(Address::of(ip(1))).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_stands_for_many_and_addresses_may_be_left_unlimited() {
        let door = door(true);
        let mut guests = Vec::new();
        for _ in 0..8 {
            let (place, kind) = enter(&door, 200).await;
            assert_eq!(kind, Kind::Request);
            guests.push(place);
        }
        assert!(guests.iter().all(|place| !place.leave.is_cancelled()));
        let open = super::tests::door(false);
        let all: Vec<_> = (0..4).map(|_| open.enter_web_socket(Address::of(ip(1))).unwrap()).collect();
        assert_eq!(open.enter_web_socket(Address::of(ip(1))).unwrap_err(), Full::Server(4));
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_addresses_are_remembered_than_there_is_room_for() {
        let door = door(true);
        for number in 0..u32::try_from(REMEMBERED).unwrap() + 100 {
            door.share(Address::of(IpAddr::V4(number.into())));
        }
        assert!(door.guests().shares.len() <= REMEMBERED + 1);
        tokio::time::advance(REMEMBERED_FOR).await;
        door.share(Address::of(ip(1)));
        assert!(door.guests().shares.len() < 100, "who has not come again is forgotten");
    }
}
