//! A viewer's way from rung to rung, as its network carries more or less.
//!
//! In here: looking several times a second at what the reports say, having an encode made that nobody needed before, asking
//! for its key frame, and telling the encoder what the viewer takes. Not in here: what the network carries (`transport`),
//! which rung follows (`rungs`), the change itself (`gate`).
//! Runs on: the viewer's task on tokio; an encode is started on a thread that may block.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;
use crate::media::publisher::Publisher;
use crate::media::rungs::{Climber, Ladder, Rung};
use crate::session::NetworkFigures;

/// Where one viewer is.
#[derive(Debug)]
pub(super) struct Adaptation {
    climber: Climber,
    ladder: Ladder,
    /// Whose pictures come; `None` is the first rung's.
    current: Option<Arc<Publisher>>,
    /// Whose key frame is waited for.
    next: Option<Arc<Publisher>>,
    /// One is being made.
    is_starting: bool,
    is_away: bool,
    rate: u32,
}

impl Adaptation {
    pub fn new(ladder: Ladder, rate: u32) -> Self {
        let climber = Climber::new();
        Self { climber, ladder, current: None, next: None, is_starting: false, is_away: false, rate }
    }

    /// The rung that comes by now.
    pub fn rung(&self) -> Rung {
        self.current.as_ref().map_or(Rung::Full, |current| current.rung)
    }

    /// Bits a second, and the rung's name.
    pub fn sampled(&self) -> (u32, &'static str) {
        (self.rate, self.rung().as_str())
    }

    /// Whose pictures come.
    pub fn publisher<'a>(&'a self, first: &'a Arc<Publisher>) -> &'a Arc<Publisher> {
        self.current.as_ref().unwrap_or(first)
    }
}

impl Connection {
    /// Looks at the reports and follows them.
    pub fn adapt(self: &Arc<Self>) {
        let (full, now) = (self.publisher.full_rate(), self.transport.now());
        // Before the estimate is looked at: larger pictures are no reason to go down.
        self.transport.limit(full);
        let estimate = self.transport.estimate();
        let mut state = self.adaptation();
        let state_ref = &mut *state;
        let choice = state_ref.climber.choose(now, &state_ref.ladder, estimate.rate, full);
        state.rate = choice.rate;
        self.transport.given(choice.rate);
        self.pacer.set(choice.rate, estimate.carried);
        if let Some(next) = state.next.clone() {
            if self.gate.is_at(next.rung) {
                self.settle(&mut state, next);
            } else if next.has_failed() {
                self.abandon(&mut state);
            } else if !self.has_further_video() {
                // It left, or paused the picture, and came back.
                self.enter(&mut state, next);
            } else {
                // The encoder may have made one just before, and then makes none for a while.
                next.request_key_frame();
            }
        } else if state.current.as_ref().is_some_and(|current| current.has_failed()) {
            tracing::warn!(viewer = %self.id, rung = state.rung().as_str(), "a rung's encode failed; the first is sent");
            state.ladder = Ladder(vec![Rung::Full]);
            self.enter(&mut state, Arc::clone(&self.publisher));
        } else if !state.is_starting && choice.rung == state.rung() && !self.gate.is_at(state.rung()) {
            // What was left out of it may have been asked for too early.
            self.goes_on(&state);
        } else if choice.rung != state.rung() && !state.is_starting {
            if choice.rung > state.rung() && estimate.is_congested {
                self.gate.want(choice.rung);
                self.gate.hush();
            }
            self.go(&mut state, choice.rung);
        }
        let (least, most) = state.ladder.range(state.rung(), full);
        let publisher = Arc::clone(state.publisher(&self.publisher));
        drop(state);
        // Who takes all that there is takes all of the next avatar's pictures, too, until something is known against it.
        publisher.demand(self.id, (choice.rate < most).then(|| choice.rate.max(least)));
    }

    pub fn figures(&self) -> NetworkFigures {
        let estimate = self.transport.estimate();
        let state = self.adaptation();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a thousand")]
        let lost_permille = (estimate.loss * 1000.0) as u32;
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        NetworkFigures {
            rate_kbps: state.rate / 1000,
            lost_permille,
            round_trip_ms: estimate.round_trip.map(ms),
            rung: state.rung().as_str(),
        }
    }

    fn go(self: &Arc<Self>, state: &mut Adaptation, rung: Rung) {
        if rung == Rung::Full {
            self.enter(state, Arc::clone(&self.publisher));
            return;
        }
        state.is_starting = true;
        let connection = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let made = connection.broadcast.rung(connection.publisher.codec, rung);
            let mut state = connection.adaptation();
            state.is_starting = false;
            match made {
                Ok(publisher) => connection.enter(&mut state, publisher),
                Err(error) => {
                    tracing::error!(%error, rung = rung.as_str(), "no further rung; viewers get the first at fewer bits");
                    state.ladder = Ladder(vec![Rung::Full]);
                    connection.goes_on(&state);
                }
            }
        });
    }

    /// Gives the viewer another rung besides its own, until a key frame of it came.
    fn enter(&self, state: &mut Adaptation, next: Arc<Publisher>) {
        if next.rung == Rung::Full && std::mem::replace(&mut state.is_away, false) {
            self.publisher.audience.away.fetch_sub(1, Ordering::Relaxed);
        }
        next.demand(self.id, Some(state.rate));
        if self.add_video(&next) {
            self.gate.want(next.rung);
            next.request_key_frame();
            state.next = Some(next);
        } else {
            // Nothing comes just now, so the other may begin when something does.
            self.gate.set(next.rung);
            self.settle(state, next);
        }
    }

    fn settle(&self, state: &mut Adaptation, next: Arc<Publisher>) {
        self.take_video(&next);
        let before = Arc::clone(state.publisher(&self.publisher));
        tracing::debug!(viewer = %self.id, rung = next.rung.as_str(), from = before.rung.as_str(), "another rung");
        crate::metrics::viewer_moved(before.rung.as_str(), next.rung.as_str());
        if before.rung != next.rung {
            before.demand(self.id, None);
        }
        if next.rung != Rung::Full && !std::mem::replace(&mut state.is_away, true) {
            self.publisher.audience.away.fetch_add(1, Ordering::Relaxed);
        }
        state.next = None;
        state.current = (next.rung != Rung::Full).then_some(next);
    }

    fn abandon(&self, state: &mut Adaptation) {
        if let Some(next) = state.next.take() {
            next.demand(self.id, None);
        }
        state.ladder = Ladder(vec![Rung::Full]);
        self.drop_video();
        self.goes_on(state);
    }

    /// What came before comes again, from its next key frame on if something of it was left out.
    fn goes_on(&self, state: &Adaptation) {
        self.gate.want(state.rung());
        state.publisher(&self.publisher).request_key_frame();
    }

    /// Takes nothing of any encode any more.
    pub(super) fn end_adaptation(&self) {
        let mut state = self.adaptation();
        let rung = state.rung();
        let others = [state.current.take(), state.next.take()];
        let was_away = std::mem::replace(&mut state.is_away, false);
        drop(state);
        for publisher in others.iter().flatten().chain([&self.publisher]) {
            publisher.demand(self.id, None);
        }
        if was_away {
            self.publisher.audience.away.fetch_sub(1, Ordering::Relaxed);
        }
        crate::metrics::viewer_left(rung.as_str());
    }

    pub(super) fn adaptation(&self) -> MutexGuard<'_, Adaptation> {
        self.adaptation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
