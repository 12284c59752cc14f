//! The notices on their way from a session to one client: bounded, and what a slow client misses is counted for it.
//!
//! In here: both ends of that queue. A notice that finds no room is not waited for; in its place the client is told how
//! many it has missed. Not in here: what is told (`Notice`), to whom (`notice_broadcast`).
//! Runs on: whoever tells, and the task of the client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::Notice;

/// A queue to one client for so many notices, at least one.
pub fn notice_queue(room: usize) -> (NoticeSender, NoticeReceiver) {
    // The last place is for the word that some were missed.
    let (queue, told) = mpsc::channel(room.max(1) + 1);
    let missed = Missed::default();
    (NoticeSender { queue, missed: missed.clone() }, NoticeReceiver { told, missed })
}

/// The session's end of the queue to one client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NoticeSender {
    queue: mpsc::Sender<Option<Notice>>,
    missed: Missed,
}

/// The client's end of its queue.
#[derive(Debug)]
pub struct NoticeReceiver {
    /// `None` stands where notices were missed.
    told: mpsc::Receiver<Option<Notice>>,
    missed: Missed,
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It waits for the client.
    Yes,
    /// There was no room; the client will be told that it missed one.
    Missed,
    /// The client is gone.
    Gone,
}

#[derive(Clone, Debug, Default)]
struct Missed(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    /// How many were missed at each gap in the queue.
    gaps: VecDeque<u64>,
    /// Nothing came into the queue since the last gap.
    goes_on: bool,
}

impl Missed {
    /// Held for a `try_send` at most.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NoticeSender {
    /// Never waits.
    pub fn tell(&self, notice: Notice) -> Told {
        let mut counts = self.missed.lock();
        if self.queue.is_closed() {
            return Told::Gone;
        }
        let free = self.queue.capacity();
        if free > 1 && self.queue.try_send(Some(notice)).is_ok() {
            counts.goes_on = false;
            return Told::Yes;
        }
        if !counts.goes_on && self.queue.try_send(None).is_ok() {
            counts.goes_on = true;
            counts.gaps.push_back(0);
        }
        if let Some(missed) = counts.gaps.back_mut() {
            *missed += 1;
        }
        Told::Missed
    }

    /// Whether the client is gone.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl NoticeReceiver {
    /// The next notice; `None` once nobody can tell any more. May be dropped while it waits without loss.
    pub async fn recv(&mut self) -> Option<Notice> {
        let told = self.told.recv().await?;
        Some(self.notice_of(told))
    }

    /// The next notice that is there already.
    pub fn try_recv(&mut self) -> Option<Notice> {
        let told = self.told.try_recv().ok()?;
        Some(self.notice_of(told))
    }

    fn notice_of(&self, told: Option<Notice>) -> Notice {
        told.unwrap_or_else(|| {
            let mut counts = self.missed.lock();
            let count = counts.gaps.pop_front().unwrap_or(0);
            counts.goes_on &= !counts.gaps.is_empty();
            Notice::Missed { count }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize) -> Notice {
        Notice::Transcript { content: number.to_string(), is_final: true }
    }

    /// Everything that waits.
    async fn read(receiver: &mut NoticeReceiver, count: usize) -> Vec<Notice> {
        let mut read = Vec::new();
        for _ in 0..count {
            read.push(receiver.recv().await.unwrap());
        }
        read
    }

    #[tokio::test]
    async fn what_a_slow_client_misses_is_counted_where_it_is_missing() {
        let (sender, mut receiver) = notice_queue(2);
        let told: Vec<Told> = (0..5).map(|number| sender.tell(notice(number))).collect();
        assert_eq!(told, [Told::Yes, Told::Yes, Told::Missed, Told::Missed, Told::Missed]);
        assert_eq!(read(&mut receiver, 2).await, [notice(0), notice(1)]);
        assert_eq!(sender.tell(notice(5)), Told::Yes);
        assert_eq!(sender.tell(notice(6)), Told::Missed, "one place holds the word of the first gap");
        assert_eq!(read(&mut receiver, 3).await, [Notice::Missed { count: 3 }, notice(5), Notice::Missed { count: 1 }]);
        assert_eq!(sender.tell(notice(7)), Told::Yes);
        drop(sender);
        assert_eq!(receiver.recv().await, Some(notice(7)));
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn the_last_ones_are_counted_even_if_nothing_follows() {
        let (sender, mut receiver) = notice_queue(1);
        for number in 0..1000 {
            sender.tell(notice(number));
        }
        assert_eq!(read(&mut receiver, 2).await, [notice(0), Notice::Missed { count: 999 }]);
        drop(receiver);
        assert_eq!(sender.tell(notice(0)), Told::Gone);
    }

    proptest::proptest! {
        /// Whoever tells and reads in whatever order: all that was told is read in order or counted in its place, and the
        /// queue never holds more than its room and one word for a gap.
        #[test]
        fn nothing_is_lost_without_a_word(steps in proptest::collection::vec(proptest::bool::ANY, 0..200), room in 1..5usize) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (sender, mut receiver) = notice_queue(room);
                let (mut next, mut expected) = (0, 0);
                let check = |read: Option<Notice>, expected: &mut usize| match read {
                    Some(Notice::Missed { count }) => *expected += usize::try_from(count).unwrap(),
                    Some(other) => {
                        assert_eq!(other, notice(*expected));
                        *expected += 1;
                    }
                    None => panic!("closed"),
                };
                for tells in steps {
                    if tells {
                        sender.tell(notice(next));
                        next += 1;
                    } else if !receiver.told.is_empty() {
                        check(receiver.recv().await, &mut expected);
                    }
                    assert!(receiver.told.len() <= room + 1);
                }
                while !receiver.told.is_empty() {
                    check(receiver.recv().await, &mut expected);
                }
                assert_eq!(expected, next);
            });
        }
    }
}
