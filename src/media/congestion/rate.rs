//! The rate that a path is thought to carry: cut when a queue grows or packets are lost, raised while neither is so.
//!
//! Pure.

use std::time::Duration;

use super::delay::Usage;

/// Less than this is no picture any more.
const LEAST: f64 = 60_000.0;
/// Of what arrives: the rest empties the queue.
const BACK_OFF: f64 = 0.85;
/// The same while the queue is long.
const BACK_OFF_FULL: f64 = 0.65;
/// One cut has to show before the next.
const BETWEEN_CUTS: Duration = Duration::from_millis(300);
const BETWEEN_CUTS_OF_A_STANDING_QUEUE: Duration = Duration::from_secs(1);
/// How the rate grows in a second: near where the path was full, and elsewhere.
const GROWTH_NEAR: f64 = 1.12;
const GROWTH_FAR: f64 = 1.5;
const GROWTH_LOSSY: f64 = 1.12;
/// Up to here losses are the path's own and no sign of too much; retransmissions make up for them.
const LOSS_OF_THE_PATH: f64 = 0.02;
const LOSS_THAT_HOLDS: f64 = 0.06;
const LOSS_THAT_CUTS: f64 = 0.10;
/// With so much lost what arrives is what the path carries.
const LOSS_OF_A_FULL_PATH: f64 = 0.25;
/// It grows so far beyond what is sent, and so far beyond what is of use.
const BEYOND_GIVEN: f64 = 1.5;
const BEYOND_MOST: f64 = 1.3;
/// After a cut the queue empties first.
const HOLD: Duration = Duration::from_millis(500);

/// One report lets the rate grow for so long at most: those of RTCP itself come every second or less often.
const LONGEST_GROWTH: Duration = Duration::from_secs(1);

/// What reports tell, all rates in bits a second.
#[derive(Clone, Copy, Debug)]
pub struct Signals {
    pub usage: Usage,
    /// Of the packets, from 0 to 1, if there were enough.
    pub loss: Option<f64>,
    /// What of that is no chance.
    pub sure_loss: f64,
    /// What arrived lately.
    pub acknowledged: f64,
    /// What was sent in the same time.
    pub sent: f64,
    /// Packets stand in a long queue.
    pub is_full: bool,
}

#[derive(Debug)]
pub struct RateControl {
    rate: f64,
    most: f64,
    given: f64,
    /// What the path carried when it was full last.
    capacity: Option<f64>,
    cut: Option<Duration>,
    decided: Option<Duration>,
}

impl RateControl {
    pub fn new(most: f64) -> Self {
        Self { rate: most * BEYOND_MOST, most, given: most, capacity: None, cut: None, decided: None }
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub fn given(&mut self, rate: f64) {
        self.given = rate;
    }

    pub fn limit(&mut self, most: f64) {
        if (most - self.most).abs() < 1.0 {
            return;
        }
        // Where nothing was ever full, what is of use now is as likely as what was of use before.
        if self.capacity.is_none() {
            self.rate = most * BEYOND_MOST;
        }
        self.most = most;
        self.rate = self.rate.min(most * BEYOND_MOST);
    }

    /// Whether the rate was cut.
    pub fn decide(&mut self, now: Duration, signals: &Signals) -> bool {
        let elapsed = self.decided.replace(now).map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let since_cut = self.cut.map(|cut| now.saturating_sub(cut));
        let loss = signals.loss.unwrap_or(0.0);
        let sure = signals.sure_loss;
        let is_over = signals.usage == Usage::Over || sure > LOSS_THAT_CUTS || signals.is_full;
        if is_over {
            // A queue that stands without growing may be somebody else's.
            let stands = signals.usage != Usage::Over && sure <= LOSS_THAT_CUTS;
            let between = if stands { BETWEEN_CUTS_OF_A_STANDING_QUEUE } else { BETWEEN_CUTS };
            let may_cut = since_cut.is_none_or(|since| since >= between);
            // A long queue that shrinks already is left to.
            let shrinks = signals.usage == Usage::Under && sure <= LOSS_THAT_CUTS;
            if may_cut && !shrinks {
                self.cut(now, signals, loss);
            }
            return may_cut && !shrinks;
        }
        let holds = signals.usage == Usage::Under || since_cut.is_some_and(|since| since < HOLD);
        if !holds && sure <= LOSS_THAT_HOLDS {
            self.grow(elapsed.min(LONGEST_GROWTH), loss);
        }
        false
    }

    fn cut(&mut self, now: Duration, signals: &Signals, loss: f64) {
        let carried = signals.acknowledged;
        // Where all that is sent arrives, the path may carry more than we have to send.
        let is_saturated = carried < 0.9 * signals.sent || loss > LOSS_OF_A_FULL_PATH;
        let back_off = if signals.is_full { BACK_OFF_FULL } else { BACK_OFF };
        let next = if signals.usage == Usage::Over || signals.is_full {
            let of_what_arrives = back_off * carried;
            let of_before = BACK_OFF * self.rate.min(self.given.max(carried));
            if is_saturated { of_what_arrives.min(of_before) } else { of_before.max(of_what_arrives) }
        } else if is_saturated {
            self.rate.min(self.given.max(carried)).min(carried) * 0.9
        } else {
            self.rate.min(self.given.max(carried)) * (1.0 - 0.5 * loss)
        };
        if is_saturated {
            self.capacity = Some(carried.max(LEAST));
        }
        self.rate = next.min(self.rate).max(LEAST);
        self.cut = Some(now);
    }

    fn grow(&mut self, elapsed: Duration, loss: f64) {
        let is_near = self.capacity.is_some_and(|capacity| (0.7 * capacity..1.1 * capacity).contains(&self.rate));
        let a_second = match (loss > LOSS_OF_THE_PATH, is_near) {
            (true, _) => GROWTH_LOSSY,
            (false, true) => GROWTH_NEAR,
            (false, false) => GROWTH_FAR,
        };
        let most = (BEYOND_GIVEN * self.given).min(BEYOND_MOST * self.most);
        let grown = (self.rate * f64::powf(a_second, elapsed.as_secs_f64())).min(most);
        self.rate = self.rate.max(grown);
    }
}
