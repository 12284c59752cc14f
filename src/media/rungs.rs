//! The rungs of one picture: the same pictures in fewer bits, and which of them a viewer gets.
//!
//! In here: how many bits each has, and the choice of one by what the network carries. Not in here: the encodes
//! (`publisher`), what the network carries (`congestion`), how a viewer gets from one to another (`viewer::adaptation`).
//! Pure.

use std::time::Duration;

/// One of the encodes of a picture. What its description has besides the first is in its own paragraphs, by these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    #[default]
    Full,
    Middle,
    Low,
}

impl Rung {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Middle, Self::Low];

    /// What a description puts behind the names of a rung's elements.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Middle => "_middle",
            Self::Low => "_low",
        }
    }

    /// A label in the metrics and in messages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Middle => "middle",
            Self::Low => "low",
        }
    }

    /// Of the bits of the full picture, at most.
    pub(super) const fn share(self) -> f64 {
        match self {
            Self::Full => 1.0,
            Self::Middle => 0.4,
            Self::Low => 0.16,
        }
    }
}

/// The lowest rung goes down to this share of the full picture's bits, and the only one too.
const LEAST_SHARE: f64 = 0.06;
/// Of what the network carries; the rest is for retransmissions and for what an encoder takes too much.
const OF_ESTIMATE: f64 = 0.88;
/// So much more than a rung's least must be there before a viewer climbs to it.
const MARGIN: f64 = 1.15;
/// Between two climbs, at first and at most; each climb that did not last doubles it.
const WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A climb that lasted so long was right.
const LASTING: Duration = Duration::from_secs(8);

/// The rungs that a description has, from the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ladder(pub Vec<Rung>);

impl Ladder {
    /// The fewest and the most bits a second of a rung, of pictures that have `full` of them.
    pub fn range(&self, rung: Rung, full: u32) -> (u32, u32) {
        let next = self.0.iter().find(|other| **other > rung);
        (of(full, next.map_or(LEAST_SHARE, |next| next.share())), of(full, rung.share()))
    }
}

fn of(full: u32, share: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a u32 is one")]
    let bits = (f64::from(full) * share) as u32;
    bits
}

/// What a viewer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub rung: Rung,
    /// Bits a second that its encode should have for this viewer.
    pub rate: u32,
}

/// Where one viewer stands on the ladder.
#[derive(Debug)]
pub(super) struct Climber {
    rung: Rung,
    moved: Duration,
    climbed: Option<Duration>,
    wait: Duration,
}

impl Climber {
    pub fn new() -> Self {
        Self { rung: Rung::Full, moved: Duration::ZERO, climbed: None, wait: WAIT }
    }

    /// Down at once, up by one rung when there is room, later and later if it did not last.
    pub fn choose(&mut self, now: Duration, ladder: &Ladder, estimate: u32, full: u32) -> Choice {
        let usable = of(estimate, OF_ESTIMATE);
        let fits = |rung: &Rung| usable >= ladder.range(*rung, full).0;
        let since = now.saturating_sub(self.moved);
        if !fits(&self.rung) || !ladder.0.contains(&self.rung) {
            let mut below = ladder.0.iter().copied().filter(|rung| *rung > self.rung);
            let lower = below.clone().find(fits).or_else(|| below.next_back());
            if let Some(lower) = lower {
                if self.climbed.take().is_some_and(|climbed| now.saturating_sub(climbed) < LASTING) {
                    self.wait = (2 * self.wait).min(LONGEST_WAIT);
                }
                (self.rung, self.moved) = (lower, now);
            }
        } else if let Some(upper) = ladder.0.iter().copied().rfind(|rung| *rung < self.rung)
            && f64::from(usable) >= MARGIN * f64::from(ladder.range(upper, full).0)
            && since >= self.wait
        {
            (self.rung, self.moved, self.climbed) = (upper, now, Some(now));
        }
        if self.climbed.is_some_and(|climbed| now.saturating_sub(climbed) >= LASTING) {
            (self.climbed, self.wait) = (None, WAIT);
        }
        let (least, most) = ladder.range(self.rung, full);
        Choice { rung: self.rung, rate: usable.clamp(least, most.max(least)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: u32 = 1_500_000;

    fn ladder() -> Ladder {
        Ladder(Rung::ALL.to_vec())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_viewer_gets_the_rung_that_fits_at_the_rate_that_fits() {
        let at_once = |estimate| Climber::new().choose(seconds(9), &ladder(), estimate, FULL);
        for (estimate, rung, rate) in [
            (3_000_000, Rung::Full, FULL),
            (1_000_000, Rung::Full, 880_000),
            (500_000, Rung::Middle, 440_000),
            (250_000, Rung::Low, 220_000),
            (10_000, Rung::Low, 90_000),
        ] {
            assert_eq!(at_once(estimate), Choice { rung, rate }, "{estimate}");
        }
    }

    #[test]
    fn the_only_rung_follows_the_network_alone() {
        let only = Ladder(vec![Rung::Full]);
        let choice = Climber::new().choose(seconds(9), &only, 200_000, FULL);
        assert_eq!(choice, Choice { rung: Rung::Full, rate: 176_000 });
    }

    #[test]
    fn climbs_that_do_not_last_come_later_and_later() {
        let mut climber = Climber::new();
        let mut climbs = Vec::new();
        let mut before = Rung::Full;
        for now in 0..120 {
            // The path carries the middle rung alone, which shows only once there is more.
            let estimate = if before == Rung::Full { 500_000 } else { 900_000 };
            let rung = climber.choose(seconds(now), &ladder(), estimate, FULL).rung;
            if rung < before {
                climbs.push(now);
            }
            before = rung;
        }
        let waits: Vec<u64> = climbs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(waits.is_sorted() && *waits.last().unwrap() >= 30, "{climbs:?}");
    }

    proptest! {
        #[test]
        fn the_rate_is_always_within_its_rung(estimates in prop::collection::vec(0..5_000_000u32, 1..50), full in 200_000..12_000_000u32) {
            let mut climber = Climber::new();
            for (at, estimate) in (0u64..).zip(estimates) {
                let Choice { rung, rate } = climber.choose(seconds(at), &ladder(), estimate, full);
                let (least, most) = ladder().range(rung, full);
                prop_assert!((least..=most).contains(&rate));
            }
        }
    }
}
