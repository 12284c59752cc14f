//! How much the network to one viewer carries, judged by what its receiver says of the packets that it was sent.
//!
//! In here: a controller after Google's (draft-ietf-rmcat-gcc), which knows neither clocks nor sockets: it is told when
//! what was sent and what the reports say, and tells a rate. `feedback` reads the reports, `history` remembers packets,
//! `delay` finds queues that grow, `rate` decides. Not in here: the packets themselves (`viewer::transport`), what is done
//! with the rate (`rungs`).
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

mod delay;
pub mod feedback;
mod history;
mod rate;

use delay::{DelayDetector, Usage};
use feedback::TransportFeedback;
use history::History;
use rate::{RateControl, Signals};

/// What arrives in such a time is what the path carries.
const ACKNOWLEDGED_WINDOW: Duration = Duration::from_millis(400);
/// While a queue is long, in such a time.
const PACE_WINDOW: Duration = Duration::from_millis(150);
const LEAST_PACE_MICROSECONDS: u32 = 40_000;
/// Packets that are counted for the share that is lost.
const LOSS_WINDOW: Duration = Duration::from_millis(1500);
const BETWEEN_COUNTS: Duration = Duration::from_millis(20);
/// Of fewer packets one that is lost says nothing.
const LOSS_PACKETS: u32 = 20;
const HEAVY_LOSS: f64 = 0.15;
/// Above this a queue is full of ours, however slowly it grows.
const LONG_QUEUE: Duration = Duration::from_millis(80);
/// The same of the last packet alone, where what arrives is less than this share of what is sent: the first sign of a queue.
const LONG_DELAY: Duration = Duration::from_millis(100);
const OF_SENT: f64 = 0.7;
/// Below this what grows is no queue but the path's own jitter.
const SHORT_QUEUE: Duration = Duration::from_millis(20);
/// Of so many standard deviations a share of losses may be too high by chance, or too low.
const BY_CHANCE: f64 = 2.0;

/// The controller of one viewer. Times are since any one moment, never running backwards.
#[derive(Debug)]
pub struct Congestion {
    history: History,
    delay: DelayDetector,
    rate: RateControl,
    /// Bytes that arrived, by the receiver's clock.
    acknowledged: VecDeque<(i64, u32)>,
    /// Lost packets and all, by when they were reported.
    losses: VecDeque<(Duration, u32, u32)>,
    /// From the newest packet of a report to the report, by when that came.
    round_trips: VecDeque<(Duration, Duration)>,
    /// The last of the receiver's 24-bit times, made continuous.
    reference: Option<i64>,
    /// Reports of this kind are better than those of RTCP's own.
    has_transport_feedback: bool,
    /// A queue is full of ours, by the last report.
    is_full: bool,
}

/// What is known of the path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Bits a second that video may take, retransmissions included.
    pub rate: u32,
    /// Of the packets sent lately, from 0 to 1.
    pub loss: f64,
    /// There and back, the least of the last seconds, if the receiver reports times.
    pub round_trip: Option<Duration>,
    /// How long packets stand in a queue.
    pub queue: Duration,
    /// Bits a second at which packets come out of a long queue: what the path carries.
    pub carried: Option<u32>,
    /// Packets stand in a long queue, or many are lost: what is sent now comes late.
    pub is_congested: bool,
}

impl Congestion {
    /// `most`: bits a second that are ever of use, which the estimate begins with.
    pub fn new(most: u32) -> Self {
        Self {
            history: History::default(),
            delay: DelayDetector::default(),
            rate: RateControl::new(f64::from(most)),
            acknowledged: VecDeque::new(),
            losses: VecDeque::new(),
            round_trips: VecDeque::new(),
            reference: None,
            has_transport_feedback: false,
            is_full: false,
        }
    }

    /// A packet leaves; the number is what its header extension says.
    pub fn sent(&mut self, now: Duration, bytes: usize) -> u16 {
        self.history.sent(now, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// The rate that is sent by now: the estimate grows no further than a little above what it is tried with.
    pub fn given(&mut self, rate: u32) {
        self.rate.given(f64::from(rate));
    }

    /// Of other pictures, more or less may be of use.
    pub fn limit(&mut self, most: u32) {
        self.rate.limit(f64::from(most));
    }

    /// A transport-wide report arrived.
    pub fn transport_feedback(&mut self, now: Duration, report: &TransportFeedback) {
        self.has_transport_feedback = true;
        let reference = feedback::unwrap(report.reference, self.reference);
        self.reference = Some(reference);
        let (mut lost, mut all, mut last) = (0, 0, None);
        let mut at = reference * feedback::REFERENCE_MICROSECONDS;
        for (number, delta) in report.packets() {
            if let Some(delta) = delta {
                at += delta;
            }
            let Some(packet) = self.history.reported(number, delta.is_some()) else { continue };
            if packet.is_news {
                all += 1;
            }
            match (delta, packet.was_lost) {
                (None, false) => lost += 1,
                (Some(_), _) => {
                    self.acknowledged.push_back((at, packet.bytes));
                    self.delay.arrived(packet.sent, at);
                    last = last.max(Some(packet.sent));
                }
                (None, true) => {}
            }
        }
        self.count(now, lost, all);
        if let Some(sent) = last {
            self.round_trips.push_back((now, now.saturating_sub(sent)));
            self.round_trips.retain(|(at, _)| now.saturating_sub(*at) <= ROUND_TRIP_WINDOW);
        }
        let newest = self.acknowledged.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let window = i64::try_from(ACKNOWLEDGED_WINDOW.as_micros()).unwrap_or(i64::MAX);
        self.acknowledged.retain(|(at, _)| newest - at <= window);
        self.decide(now);
    }

    /// A receiver's own RTCP report: `lost` of 256 packets since the one before. Of use where there is nothing better.
    pub fn receiver_report(&mut self, now: Duration, lost: u8) {
        if !self.has_transport_feedback {
            // As of a window that is large enough to count.
            self.losses.clear();
            self.count(now, u32::from(lost), 256);
            self.decide(now);
        }
    }

    /// What is thought of the path now.
    pub fn estimate(&self) -> Estimate {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the limits of a u32")]
        let rate = self.rate.rate() as u32;
        let round_trip = self.round_trips.iter().map(|(_, time)| *time).min();
        let loss = self.loss().unwrap_or(0.0);
        let is_full = self.is_full;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let carried = self.pace().filter(|_| is_full).map(|bits| bits as u32);
        Estimate {
            rate,
            loss,
            round_trip,
            carried,
            queue: self.delay.queue(),
            is_congested: is_full || self.sure_loss() > HEAVY_LOSS,
        }
    }

    /// Nothing was reported for a long time of what was sent: likely nothing arrives, in one of the directions.
    pub fn is_unheard(&self, now: Duration) -> bool {
        self.has_transport_feedback
            && self.history.unreported_since(now).is_some_and(|at| now.saturating_sub(at) > SILENCE)
    }

    /// What to do then.
    pub fn unheard(&mut self, now: Duration) {
        self.rate.decide(
            now,
            &Signals { usage: Usage::Over, loss: None, sure_loss: 0.0, acknowledged: 0.0, sent: 1.0, is_full: true },
        );
    }

    /// Bits a second at which the last packets arrived.
    fn pace(&self) -> Option<f64> {
        let newest = self.acknowledged.iter().map(|(at, _)| *at).max()?;
        let window = i64::try_from(PACE_WINDOW.as_micros()).unwrap_or(i64::MAX);
        let lately = self.acknowledged.iter().filter(|(at, _)| newest - at <= window);
        let (oldest, bytes, first) = lately.fold((newest, 0u32, 0u32), |(oldest, sum, first), (at, bytes)| {
            let sum = sum.saturating_add(*bytes);
            if *at < oldest { (*at, sum, *bytes) } else { (oldest, sum, first) }
        });
        let span = u32::try_from(newest - oldest).ok().filter(|span| *span >= LEAST_PACE_MICROSECONDS)?;
        Some(f64::from(bytes - first.min(bytes)) * 8e6 / f64::from(span))
    }

    fn count(&mut self, now: Duration, lost: u32, all: u32) {
        match self.losses.back_mut() {
            // However often a peer reports, there is little to count.
            Some((at, of_lost, of_all)) if now.saturating_sub(*at) < BETWEEN_COUNTS => {
                *of_lost = of_lost.saturating_add(lost);
                *of_all = of_all.saturating_add(all);
            }
            _ => self.losses.push_back((now, lost, all)),
        }
        while self.losses.front().is_some_and(|(at, ..)| now.saturating_sub(*at) > LOSS_WINDOW) {
            self.losses.pop_front();
        }
    }

    fn loss(&self) -> Option<f64> {
        self.counted().map(|(lost, all)| lost / all)
    }

    /// What of it is no chance: of few packets some more are lost now and then.
    fn sure_loss(&self) -> f64 {
        self.counted().map_or(0.0, |(lost, all)| {
            let share = lost / all;
            (share - BY_CHANCE * (share * (1.0 - share) / all).sqrt()).max(0.0)
        })
    }

    fn counted(&self) -> Option<(f64, f64)> {
        let (lost, all) = self.losses.iter().fold((0u32, 0u32), |(lost, all), (_, of_lost, of_all)| {
            (lost.saturating_add(*of_lost), all.saturating_add(*of_all))
        });
        (all >= LOSS_PACKETS).then(|| (f64::from(lost), f64::from(all)))
    }

    fn decide(&mut self, now: Duration) {
        let per_second = |bytes: u32| f64::from(bytes) * 8.0 / ACKNOWLEDGED_WINDOW.as_secs_f64();
        let sent = per_second(self.history.bytes_since(now.saturating_sub(ACKNOWLEDGED_WINDOW)));
        let is_less = self.pace().is_some_and(|pace| pace < OF_SENT * sent);
        let is_full = self.delay.queue() > LONG_QUEUE || is_less && self.delay.last_delay() > LONG_DELAY;
        self.is_full = is_full;
        let bytes: u32 = self.acknowledged.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes));
        // Out of a queue packets come one after the other as fast as the path carries them, so few of them tell.
        let lately = if is_full { self.pace() } else { None };
        let usage = match self.delay.usage() {
            Usage::Over if self.delay.queue() < SHORT_QUEUE => Usage::Normal,
            usage => usage,
        };
        let signals = Signals {
            usage,
            loss: self.loss(),
            sure_loss: self.sure_loss(),
            acknowledged: lately.unwrap_or_else(|| per_second(bytes)),
            sent,
            is_full,
        };
        if self.rate.decide(now, &signals) {
            // What was lost until now is answered for.
            self.losses.clear();
        }
    }
}

/// A receiver keeps some packets for a while before it reports them, and others not.
const ROUND_TRIP_WINDOW: Duration = Duration::from_secs(3);
/// Receivers report several times a second.
const SILENCE: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests;
