//! Fair queueing: the work of many sessions for few workers, shared out by session.
//!
//! In here: `FairQueue`, which picks the next job, pure; and `FairSemaphore`, a number of permits that are given out in that
//! order. Not in here: the work (`hibari`, `espeak`). The queue is locked for a moment by whoever adds or takes; for a permit
//! tokio tasks wait.
//!
//! Each session has a lane. Its jobs are done in order, one at a time. The lane that has had least goes first,
//! and one whose listener hears nothing yet a little sooner than one whose sentence goes on: that is ahead of its listener
//! already. So one session with much to say delays another by the part of a job that is in hand, and no more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Jobs that wait, of all lanes: two sentences of each of 512 sessions.
const WAITING: usize = 1_024;
/// How much more a lane that begins may have had and still go first, in the unit of costs: three parts of a sentence.
const HEAD_START: u64 = 600;

/// A session's place in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LaneId(u64);

impl LaneId {
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<J>,
    /// What it has had so far, not less than what was had by who was served last when it began to wait.
    had: u64,
    /// Whether one of its jobs is being done.
    in_hand: bool,
    /// Whether its first job has been begun.
    goes_on: bool,
    /// When it began to wait for this turn; of lanes that had the same the longest waiting is first.
    since: u64,
}

#[derive(Debug)]
pub(super) struct FairQueue<J> {
    lanes: HashMap<LaneId, Lane<J>>,
    waiting: usize,
    /// What the lane that was served last had had.
    level: u64,
    count: u64,
}

impl<J> FairQueue<J> {
    pub fn new() -> Self {
        Self { lanes: HashMap::new(), waiting: 0, level: 0, count: 0 }
    }

    /// Gives the job back if too many wait.
    pub fn add(&mut self, id: LaneId, job: J) -> Result<(), J> {
        if self.waiting == WAITING {
            return Err(job);
        }
        self.waiting += 1;
        self.count += 1;
        let (level, since) = (self.level, self.count);
        let idle = || Lane { jobs: VecDeque::new(), had: level, in_hand: false, goes_on: false, since };
        let lane = self.lanes.entry(id).or_insert_with(idle);
        if lane.jobs.is_empty() && !lane.in_hand {
            (lane.had, lane.since) = (lane.had.max(level), since);
        }
        lane.jobs.push_back(job);
        Ok(())
    }

    /// The next job. Its lane has no other one before [`Self::put_back`] or [`Self::done`].
    pub fn next(&mut self) -> Option<(LaneId, J)> {
        let ready = self.lanes.iter_mut().filter(|(_, lane)| !lane.in_hand && !lane.jobs.is_empty());
        let order = |lane: &Lane<J>| (lane.had + if lane.goes_on { HEAD_START } else { 0 }, lane.since);
        let (id, lane) = ready.min_by_key(|(_, lane)| order(lane))?;
        let job = lane.jobs.pop_front()?;
        lane.in_hand = true;
        self.level = self.level.max(lane.had);
        self.waiting -= 1;
        Some((*id, job))
    }

    /// A part of the job is done, which cost so much; the rest is the lane's next.
    pub fn put_back(&mut self, id: LaneId, job: J, cost: u64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        self.count += 1;
        self.waiting += 1;
        lane.jobs.push_front(job);
        (lane.had, lane.in_hand, lane.goes_on, lane.since) = (lane.had + cost, false, true, self.count);
    }

    /// The job is done.
    pub fn done(&mut self, id: LaneId, cost: u64) {
        self.count += 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            (lane.had, lane.in_hand, lane.goes_on, lane.since) = (lane.had + cost, false, false, self.count);
        }
        // What a lane had counts as long as others wait. Sessions come and go, so the others are forgotten.
        let (level, is_idle) = (self.level, self.waiting == 0);
        self.lanes.retain(|_, lane| lane.in_hand || !lane.jobs.is_empty() || (!is_idle && lane.had > level));
    }
}

/// So many permits are given out at once; clones share them.
#[derive(Clone, Debug)]
pub(super) struct FairSemaphore(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    free: usize,
    queue: FairQueue<oneshot::Sender<Permit>>,
}

/// One of the permits; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    semaphore: FairSemaphore,
    lane: LaneId,
    cost: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shared = self.semaphore.lock();
        shared.free += 1;
        shared.queue.done(self.lane, self.cost);
        drop(shared);
        self.semaphore.give();
    }
}

impl FairSemaphore {
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Shared { free: count, queue: FairQueue::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the permits when the lane's turn comes; an error if too many wait already. There at once if one is free.
    pub fn acquire(&self, lane: LaneId) -> Result<oneshot::Receiver<Permit>, TooMany> {
        let (sender, permit) = oneshot::channel();
        self.lock().queue.add(lane, sender).map_err(|_| TooMany)?;
        self.give();
        Ok(permit)
    }

    /// Gives free permits to those whose turn it is.
    fn give(&self) {
        loop {
            let mut shared = self.lock();
            if shared.free == 0 {
                return;
            }
            let Some((lane, waiting)) = shared.queue.next() else { return };
            shared.free -= 1;
            drop(shared);
            if waiting.is_closed() {
                // Nobody waits any more; the permit goes to the next.
                let mut shared = self.lock();
                shared.free += 1;
                shared.queue.done(lane, 0);
                continue;
            }
            let permit = Permit { semaphore: self.clone(), lane, cost: 1 };
            // If it is closed just now, the permit comes back and is dropped, which gives it on.
            drop(waiting.send(permit));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

#[cfg(test)]
mod tests {
    use super::*;

    const COST: u64 = 100;

    /// Does what is asked of the queue, part by part, and writes down whose part it was: a name and how many parts are
    /// left of its sentence.
    fn work(queue: &mut FairQueue<(char, u32)>, parts: usize) -> String {
        let mut order = String::new();
        for _ in 0..parts {
            let Some((id, (name, left))) = queue.next() else { break };
            order.push(name);
            match left {
                0 | 1 => queue.done(id, COST),
                _ => queue.put_back(id, (name, left - 1), COST),
            }
        }
        order
    }

    #[test]
    fn who_begins_waits_for_one_piece_of_a_session_that_has_much_to_say() {
        let mut queue = FairQueue::new();
        let [flooder, other] = [LaneId::next(), LaneId::next()];
        for _ in 0..50 {
            queue.add(flooder, ('f', 10)).unwrap();
        }
        assert_eq!(work(&mut queue, 25), "f".repeat(25));
        queue.add(other, ('o', 3)).unwrap();
        let order = work(&mut queue, 6);
        assert!(order.starts_with('o'), "{order}");
        assert_eq!(order.matches('o').count(), 3, "{order}");
    }

    #[test]
    fn sessions_take_turns() {
        let mut queue = FairQueue::new();
        for name in ['a', 'b', 'c'] {
            queue.add(LaneId::next(), (name, 3)).unwrap();
        }
        assert_eq!(work(&mut queue, 9), "abcabcabc");
    }

    #[test]
    fn a_first_piece_goes_before_what_goes_on_of_others() {
        let mut queue = FairQueue::new();
        let lanes = [(); 4].map(|()| LaneId::next());
        for (lane, name) in lanes.into_iter().zip(['a', 'b', 'c']) {
            queue.add(lane, (name, 4)).unwrap();
        }
        work(&mut queue, 4);
        queue.add(lanes[3], ('n', 2)).unwrap();
        assert!(work(&mut queue, 3).starts_with('n'));
    }

    #[test]
    fn who_begins_again_and_again_does_not_silence_those_who_go_on() {
        let mut queue = FairQueue::new();
        let [flooder, other] = [LaneId::next(), LaneId::next()];
        queue.add(other, ('o', 20)).unwrap();
        let mut order = String::new();
        for _ in 0..40 {
            // Interrupts itself and begins anew.
            queue.add(flooder, ('f', 1)).unwrap();
            order += &work(&mut queue, 1);
        }
        assert!(order[8..].matches('o').count() >= 14, "{order}");
    }

    #[test]
    fn so_many_wait_and_no_more_and_who_has_gone_is_forgotten() {
        let mut queue = FairQueue::new();
        let lane = LaneId::next();
        for number in 0..WAITING {
            queue.add(LaneId::next(), number).unwrap();
        }
        assert_eq!(queue.add(lane, 0), Err(0));
        while let Some((id, _)) = queue.next() {
            queue.done(id, 1);
        }
        assert!(queue.lanes.is_empty());
    }

    #[test]
    fn permits_go_to_each_session_in_turn_and_past_those_who_wait_no_more() {
        let semaphore = FairSemaphore::new(2);
        let [one, other] = [LaneId::next(), LaneId::next()];
        let mut first = semaphore.acquire(one).unwrap();
        let mut second = semaphore.acquire(one).unwrap();
        let mut third = semaphore.acquire(one).unwrap();
        let mut others = semaphore.acquire(other).unwrap();
        let permit = first.try_recv().unwrap();
        assert!(second.try_recv().is_err(), "one at a time of a session");
        let held = others.try_recv().unwrap();
        second.close();
        drop(permit);
        third.try_recv().expect("the permit went past the one that waits no more");
        drop(held);
        assert_eq!(semaphore.lock().free, 2);
    }
}
