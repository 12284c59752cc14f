//! What descriptors and threads there are for: nothing is begun that the process has not enough of them for, since GLib
//! ends it when a pipe or a thread cannot be made.
//!
//! In here: what each thing costs, what is taken, what is left. Not in here: how much there is (`limits`), who asks
//! (`admission`, `signalling::quota`). Runs on: any thread; taking reads small files of `/proc`.

pub(crate) mod limits;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::media::{ENCODE_RESOURCES as ENCODE, Resources, VIEWER_RESOURCES as VIEWER};
use crate::signalling::quota::{ConnectionLimits, OVERFLOW_CONNECTIONS};
use limits::{ProcessLimits, Usage};

const NOTHING: Resources = Resources { descriptors: 0, threads: 0 };
/// A session: its voice's process, its connections to services.
pub(crate) const SESSION: Resources = Resources { descriptors: 6, threads: 2 };
/// A WebSocket or whatever else holds a session.
pub(crate) const CLIENT: Resources = Resources { descriptors: 1, threads: 0 };

/// Never given away: files that are read, names that are resolved, blocking work.
const SPARE: Resources = Resources { descriptors: 40, threads: 32 };

/// Places for HTTP where descriptors are plenty.
const REQUESTS: usize = 512;
const EVENT_STREAMS: usize = 256;

/// What is short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this server has no {what} left for more than it does already (the limit is {most}, {by}): try again in a few seconds"
)]
pub(crate) struct OutOfResources {
    what: &'static str,
    most: usize,
    by: String,
}

/// The process' descriptors and threads.
#[derive(Debug)]
pub(crate) struct ResourceBudget {
    limits: ProcessLimits,
    /// What was there to be given away when the server was ready.
    whole: Resources,
    taken: Mutex<Resources>,
}

/// A part of the budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<ResourceBudget>,
    cost: Resources,
}

impl ResourceBudget {
    /// Of what is left once everything else is running. Also says how many connections of each kind there may be, of those
    /// that are wanted at most.
    pub(crate) fn new(
        limits: ProcessLimits,
        sessions: usize,
        web_sockets: usize,
    ) -> Result<(Self, ConnectionLimits), OutOfResources> {
        let (descriptors, threads) = (limits.descriptors(), limits.threads());
        let left = |measured: &Usage, spare: usize| measured.left().saturating_sub(spare);
        let left =
            Resources { descriptors: left(&descriptors, SPARE.descriptors), threads: left(&threads, SPARE.threads) };
        let requests = REQUESTS.min(left.descriptors / 6);
        let event_streams = EVENT_STREAMS.min(left.descriptors / 16);
        let whole = Resources {
            descriptors: left.descriptors.saturating_sub(requests + event_streams + OVERFLOW_CONNECTIONS),
            ..left
        };
        let web_sockets = web_sockets.min(whole.descriptors / 2);
        let connections = ConnectionLimits { requests, event_streams, web_sockets, sessions };
        let budget = Self { limits, whole, taken: Mutex::new(NOTHING) };
        match budget.short_of(NOTHING, SESSION + ENCODE + VIEWER + CLIENT) {
            Some(short) => Err(short),
            None => Ok((budget, connections)),
        }
    }

    /// How many viewers there may be, of one session.
    pub(crate) fn viewers(&self) -> usize {
        let left = |whole: usize, first: usize, each: usize| whole.saturating_sub(first) / each.max(1);
        let (first, each) = (SESSION + ENCODE, VIEWER + CLIENT);
        let by_descriptors = left(self.whole.descriptors, first.descriptors, each.descriptors);
        by_descriptors.min(left(self.whole.threads, first.threads, each.threads))
    }

    fn taken(&self) -> MutexGuard<'_, Resources> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn short_of(&self, taken: Resources, cost: Resources) -> Option<OutOfResources> {
        let after = taken + cost;
        // What was counted may be less than what is really there, so that is looked at too.
        let is_short = |after: usize, whole: usize, cost: usize, measured: &Usage| {
            after > whole || (cost > 1 && measured.left() < cost + 8)
        };
        let (descriptors, threads) = (self.limits.descriptors(), self.limits.threads());
        if is_short(after.descriptors, self.whole.descriptors, cost.descriptors, &descriptors) {
            Some(OutOfResources { what: "file descriptors", most: descriptors.most, by: descriptors.by })
        } else if is_short(after.threads, self.whole.threads, cost.threads, &threads) {
            Some(OutOfResources { what: "threads", most: threads.most, by: threads.by })
        } else {
            None
        }
    }

    /// Whether so much could be taken.
    pub(crate) fn check(&self, cost: Resources) -> Result<(), OutOfResources> {
        let taken = *self.taken();
        self.short_of(taken, cost).map_or(Ok(()), Err)
    }

    pub(crate) fn take(self: &Arc<Self>, cost: Resources) -> Result<Reservation, OutOfResources> {
        let mut taken = self.taken();
        match self.short_of(*taken, cost) {
            Some(short) => Err(short),
            None => {
                *taken = *taken + cost;
                Ok(Reservation { budget: Arc::clone(self), cost })
            }
        }
    }

    #[cfg(test)]
    pub(super) fn of(whole: Resources) -> Arc<Self> {
        Arc::new(Self { limits: ProcessLimits::find(None), whole, taken: Mutex::new(NOTHING) })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.descriptors = taken.descriptors.saturating_sub(self.cost.descriptors);
        taken.threads = taken.threads.saturating_sub(self.cost.threads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_not_there_until_it_is_given_back() {
        let budget = ResourceBudget::of(Resources { descriptors: 20, threads: 100 });
        let held = budget.take(VIEWER).unwrap();
        let second = budget.take(VIEWER).unwrap();
        let short = budget.take(VIEWER).unwrap_err();
        assert!(short.to_string().contains("file descriptors") && short.to_string().contains("ulimit -n"), "{short}");
        assert_eq!(budget.check(CLIENT), Ok(()));
        drop(held);
        let third = budget.take(VIEWER).unwrap();
        drop((second, third));
        let few = ResourceBudget::of(Resources { descriptors: 1000, threads: 15 });
        let _one = few.take(VIEWER).unwrap();
        assert!(few.take(VIEWER).unwrap_err().to_string().contains("threads"));
    }

    #[test]
    fn viewers_are_as_many_as_the_scarcer_of_both_allows() {
        let viewers = |descriptors, threads| ResourceBudget::of(Resources { descriptors, threads }).viewers();
        let (first, each) = (SESSION + ENCODE, VIEWER + CLIENT);
        assert_eq!(viewers(first.descriptors + each.descriptors * 6 - 1, 10_000), 5);
        assert_eq!(viewers(10_000, first.threads + each.threads * 3), 3);
        assert_eq!(viewers(3, 3), 0);
    }

    /// Whatever the machine that runs this has.
    #[test]
    fn connections_have_their_part_of_what_this_process_has() {
        let (budget, connections) = ResourceBudget::new(ProcessLimits::find(None), 16, 256).unwrap();
        assert!(
            connections.requests > 0 && connections.event_streams > 0 && connections.web_sockets > 0,
            "{connections:?}"
        );
        assert!(connections.requests <= REQUESTS && connections.web_sockets <= 256 && budget.viewers() > 0);
        let few = ProcessLimits::find(Some(ProcessLimits::find(None).threads().used + SPARE.threads + 8));
        assert!(ResourceBudget::new(few, 16, 256).unwrap_err().to_string().contains("max_threads"));
    }
}
