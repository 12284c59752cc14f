//! Whether a queue on the path grows, by how the packets' time on it changes.
//!
//! In here: the trend of the delay over the last groups of packets against a threshold that adapts to the path's own
//! jitter (draft-ietf-rmcat-gcc, sections 5.2 to 5.4, with the line that browsers fit in place of its filter).
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Packets that leave within such a time are one group: a frame, or a part of one.
const GROUP: Duration = Duration::from_millis(5);
/// Groups that the trend is of.
const GROUPS: usize = 16;
const SMOOTHING: f64 = 0.8;
const GAIN: f64 = 4.0;
const MOST_DELTAS: f64 = 60.0;
/// In milliseconds, as the trend is compared with it.
const THRESHOLD: (f64, f64) = (6.0, 200.0);
const THRESHOLD_AT_FIRST: f64 = 12.5;
const THRESHOLD_GROWS: f64 = 0.0087;
const THRESHOLD_SHRINKS: f64 = 0.039;
/// Beyond this a value is an outlier that the threshold does not follow.
const OUTLIER: f64 = 15.0;
/// Where the shortest time on the path is looked for.
const SHORTEST_WINDOW: i64 = 10_000_000;
/// A queue delays all packets of such a time; a machine or a radio that stands still for a moment delays some.
const STANDING_WINDOW: i64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// A queue shrinks: wait until it is empty.
    Under,
    Normal,
    /// A queue grows.
    Over,
}

#[derive(Debug)]
pub struct DelayDetector {
    group: Option<Group>,
    before: Option<Group>,
    /// Milliseconds.
    accumulated: f64,
    smoothed: f64,
    deltas: f64,
    /// Arrival and smoothed delay, both in milliseconds.
    points: VecDeque<(f64, f64)>,
    threshold: f64,
    trend_before: f64,
    /// Groups in a row over the threshold.
    over: u32,
    usage: Usage,
    /// Time on the path by two clocks that differ by a constant: when it was found, and how long, in microseconds.
    shortest: VecDeque<(i64, i64)>,
    /// The same of the last packets.
    lately: VecDeque<(i64, i64)>,
    last: i64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: Duration,
    last_sent: Duration,
    /// By the receiver's clock, in microseconds.
    arrived: i64,
}

impl Default for DelayDetector {
    fn default() -> Self {
        Self {
            group: None,
            before: None,
            accumulated: 0.0,
            smoothed: 0.0,
            deltas: 0.0,
            points: VecDeque::new(),
            threshold: THRESHOLD_AT_FIRST,
            trend_before: 0.0,
            over: 0,
            usage: Usage::Normal,
            shortest: VecDeque::new(),
            lately: VecDeque::new(),
            last: 0,
        }
    }
}

impl DelayDetector {
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// How long all of the last packets stood in queues, of which the shortest time on the path is taken to have none.
    pub fn queue(&self) -> Duration {
        let shortest = self.shortest.front().map_or(self.last, |(_, time)| *time);
        let lately = self.lately.front().map_or(self.last, |(_, time)| *time);
        Duration::from_micros(u64::try_from(lately - shortest).unwrap_or(0))
    }

    /// How long the last packet alone stood there, or came late for another reason.
    pub fn last_delay(&self) -> Duration {
        let shortest = self.shortest.front().map_or(self.last, |(_, time)| *time);
        Duration::from_micros(u64::try_from(self.last - shortest).unwrap_or(0))
    }

    /// A packet, in the order that they were sent; `arrived` by the receiver's clock, in microseconds.
    pub fn arrived(&mut self, sent: Duration, arrived: i64) {
        self.note_time(sent, arrived);
        match &mut self.group {
            Some(group) if sent < group.first_sent => {}
            Some(group) if sent - group.first_sent <= GROUP => {
                group.last_sent = group.last_sent.max(sent);
                group.arrived = group.arrived.max(arrived);
            }
            group => {
                let whole = group.replace(Group { first_sent: sent, last_sent: sent, arrived });
                if let Some(whole) = whole {
                    if let Some(before) = self.before {
                        self.compare(before, whole);
                    }
                    self.before = Some(whole);
                }
            }
        }
    }

    fn note_time(&mut self, sent: Duration, arrived: i64) {
        let time = arrived - i64::try_from(sent.as_micros()).unwrap_or(i64::MAX);
        self.last = time;
        for (times, window) in [(&mut self.shortest, SHORTEST_WINDOW), (&mut self.lately, STANDING_WINDOW)] {
            while times.back().is_some_and(|(_, longer)| *longer >= time) {
                times.pop_back();
            }
            times.push_back((arrived, time));
            while times.front().is_some_and(|(at, _)| arrived - at > window) {
                times.pop_front();
            }
        }
    }

    fn compare(&mut self, before: Group, group: Group) {
        #[allow(clippy::cast_precision_loss, reason = "some milliseconds")]
        let between_arrivals = (group.arrived - before.arrived) as f64 / 1000.0;
        let between_departures = (group.last_sent.saturating_sub(before.last_sent)).as_secs_f64() * 1000.0;
        // After a pause nothing is left of the queue that there was.
        if between_departures > 3000.0 || between_arrivals.abs() > 60_000.0 {
            let (shortest, lately) = (std::mem::take(&mut self.shortest), std::mem::take(&mut self.lately));
            let Self { group, before, last, .. } = *self;
            *self = Self { group, before, shortest, lately, last, ..Self::default() };
            return;
        }
        self.deltas = (self.deltas + 1.0).min(MOST_DELTAS);
        self.accumulated += between_arrivals - between_departures;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        #[allow(clippy::cast_precision_loss, reason = "fifty bits of microseconds are years")]
        let at = group.arrived as f64 / 1000.0;
        if self.points.len() == GROUPS {
            self.points.pop_front();
        }
        self.points.push_back((at, self.smoothed));
        let trend = if self.points.len() < 2 { 0.0 } else { slope(&self.points) };
        self.judge(trend, between_arrivals);
    }

    fn judge(&mut self, trend: f64, elapsed: f64) {
        let scaled = self.deltas * trend * GAIN;
        if scaled > self.threshold {
            self.over += 1;
            if self.over > 1 && trend >= self.trend_before {
                self.usage = Usage::Over;
            }
        } else {
            self.over = 0;
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.trend_before = trend;
        let distance = scaled.abs() - self.threshold;
        if distance <= OUTLIER {
            let pace = if distance < 0.0 { THRESHOLD_SHRINKS } else { THRESHOLD_GROWS };
            let next = self.threshold + pace * distance * elapsed.clamp(0.0, 100.0);
            self.threshold = next.clamp(THRESHOLD.0, THRESHOLD.1);
        }
    }
}

/// Of the line with the least squares through the points.
fn slope(points: &VecDeque<(f64, f64)>) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a dozen")]
    let count = points.len() as f64;
    let (across, up) = points.iter().fold((0.0, 0.0), |(across, up), (x, y)| (across + x, up + y));
    let (across, up) = (across / count, up / count);
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - across) * (y - up);
        variance += (x - across) * (x - across);
    }
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of so many packets every 40 ms, each on the path for as long as it is told.
    fn detector(frames: u64, path: impl Fn(u64) -> i64) -> DelayDetector {
        let mut detector = DelayDetector::default();
        for frame in 0..frames {
            let sent = Duration::from_millis(40 * frame);
            for packet in 0..4 {
                detector.arrived(sent, 40_000 * i64::try_from(frame).unwrap() + path(frame) + 300 * packet);
            }
        }
        detector
    }

    #[test]
    fn a_path_of_any_constant_length_is_used_normally() {
        for length in [-5_000_000, 0, 100_000, 5_000_000] {
            let detector = detector(100, |_| length);
            assert_eq!(detector.usage(), Usage::Normal);
            assert!(detector.queue() < Duration::from_millis(2));
        }
    }

    #[test]
    fn jitter_is_no_queue() {
        let detector = detector(200, |frame| i64::try_from(frame * 7919 % 13).unwrap() * 1500);
        assert_ne!(detector.usage(), Usage::Over);
    }

    #[test]
    fn a_frame_that_is_late_among_others_is_no_queue() {
        let late = |frame: u64| if frame.is_multiple_of(3) { 50_000 } else { 0 };
        assert!((50..60).all(|frames| detector(frames, late).queue() < Duration::from_millis(2)));
        assert!(detector(60, |frame| if frame < 50 { 0 } else { 90_000 }).queue() > Duration::from_millis(80));
    }

    #[test]
    fn a_queue_that_grows_is_found_within_a_quarter_of_a_second_and_its_end_too() {
        let growing = |frame: u64| i64::try_from(frame.saturating_sub(50)).unwrap() * 60_000;
        assert_eq!(detector(51, growing).usage(), Usage::Normal);
        let found = detector(57, growing);
        assert_eq!(found.usage(), Usage::Over);
        assert!(found.queue() > Duration::from_millis(200));
        let drained = |frame: u64| growing(frame.min(60)) - i64::try_from(frame.saturating_sub(60)).unwrap() * 35_000;
        assert_eq!(detector(76, drained).usage(), Usage::Under);
    }
}
