//! Pictures at 25 a second out of pictures at whatever times: at each 40 ms the one that is on the screen then.
//!
//! In here: which picture that is, and where a clip begins and ends. Pure. Not in here: where pictures come from.

use std::time::Duration;

use super::Trim;
use crate::timeline::FRAME_DURATION;

/// Containers round times to a millisecond; a picture is not late by that.
const ROUNDING: Duration = Duration::from_millis(1);
/// How long the last picture may be said to stay.
const LONGEST_LAST: Duration = Duration::from_secs(10);

/// A picture and when it is shown, from the clip's first one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timed<P> {
    pub at: Duration,
    /// As the file says; `None` where it does not.
    pub lasts: Option<Duration>,
    pub picture: P,
}

/// Chooses pictures by their times.
#[derive(Debug)]
pub(super) struct Sampler<P> {
    trim: Trim,
    /// Of the next one to give.
    index: u32,
    on_screen: Option<Timed<P>>,
    upcoming: Option<Timed<P>>,
    /// Between the last two.
    interval: Option<Duration>,
    source_ended: bool,
}

/// What is shown at one of the 25 instants of a second.
#[derive(Debug)]
pub(super) struct Shown<'a, P> {
    pub picture: &'a P,
    /// Whether another one was shown at the instant before.
    pub is_new: bool,
}

impl<P> Sampler<P> {
    pub fn new(trim: Trim) -> Self {
        Self { trim, index: 0, on_screen: None, upcoming: None, interval: None, source_ended: false }
    }

    /// Instants given so far.
    pub fn given(&self) -> u32 {
        self.index
    }

    /// Of the next instant, from the clip's first picture on.
    pub fn position(&self) -> Duration {
        self.trim.start + FRAME_DURATION * self.index
    }

    /// Where the last picture that came ends.
    pub fn end(&self) -> Duration {
        self.on_screen.as_ref().map_or(Duration::ZERO, |last| {
            // Of many a file the last picture is said to last no time at all.
            let usual = self.interval.unwrap_or(FRAME_DURATION);
            let lasts = last.lasts.map_or(usual, |lasts| lasts.max(usual.min(FRAME_DURATION)));
            last.at + lasts.min(LONGEST_LAST)
        })
    }

    /// The picture at the next instant; `None` at the end of the part or of the clip. `pull` gives the next picture.
    pub fn next<E>(
        &mut self,
        mut pull: impl FnMut() -> Result<Option<Timed<P>>, E>,
    ) -> Result<Option<Shown<'_, P>>, E> {
        let now = self.position();
        if self.trim.end.is_some_and(|end| now + ROUNDING >= end) {
            return Ok(None);
        }
        let mut is_new = false;
        loop {
            if self.upcoming.is_none() && !self.source_ended {
                self.upcoming = pull()?;
                self.source_ended = self.upcoming.is_none();
            }
            let is_due = |next: &mut Timed<P>| self.on_screen.is_none() || next.at <= now + ROUNDING;
            let Some(next) = self.upcoming.take_if(is_due) else { break };
            self.interval =
                self.on_screen.as_ref().map(|last| next.at.saturating_sub(last.at)).filter(|it| !it.is_zero());
            self.on_screen = Some(next);
            is_new = true;
        }
        if self.upcoming.is_none() && now + ROUNDING >= self.end() {
            return Ok(None);
        }
        self.index += 1;
        Ok(self.on_screen.as_ref().map(|shown| Shown { picture: &shown.picture, is_new }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(trim: Trim, times: &[u64], lasts: Option<u64>) -> Vec<usize> {
        let mut source = times.iter().enumerate().map(|(picture, at)| Timed {
            at: Duration::from_millis(*at),
            lasts: lasts.map(Duration::from_millis),
            picture,
        });
        let mut sampler = Sampler::new(trim);
        let mut given = Vec::new();
        while let Some(shown) = sampler.next(|| Ok::<_, ()>(source.next())).unwrap() {
            assert_eq!(shown.is_new, given.last() != Some(shown.picture), "at {}", given.len());
            given.push(*shown.picture);
        }
        assert_eq!(sampler.given() as usize, given.len());
        given
    }

    #[test]
    fn pictures_at_25_a_second_are_each_given_once() {
        let times: Vec<u64> = (0..50).map(|index| index * 40).collect();
        assert_eq!(sampled(Trim::default(), &times, Some(40)), (0..50).collect::<Vec<_>>());
        // As Matroska rounds what is not quite at 25 a second.
        let rounded: Vec<u64> = times.iter().map(|at| at + at % 3 % 2).collect();
        assert_eq!(sampled(Trim::default(), &rounded, Some(40)), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_second_is_25_pictures_whatever_its_rate() {
        for rate in [1, 10, 12, 24, 30, 50, 60, 120] {
            let times: Vec<u64> = (0..rate * 2).map(|index| index * 1000 / rate).collect();
            let given = sampled(Trim::default(), &times, Some(1000 / rate));
            assert_eq!(given.len(), 50, "at {rate} a second");
            for (index, picture) in given.iter().enumerate() {
                let now = index as u64 * 40;
                let on_screen = times.iter().rposition(|at| *at <= now + 1).unwrap();
                assert_eq!(*picture, on_screen, "at {rate} a second, {now} ms");
            }
        }
    }

    #[test]
    fn a_picture_that_stays_is_given_again_and_one_that_is_gone_at_once_is_left_out() {
        assert_eq!(sampled(Trim::default(), &[0, 100, 105, 110, 240], Some(40)), [0, 0, 0, 3, 3, 3, 4]);
    }

    #[test]
    fn a_clip_that_begins_with_a_gap_shows_its_first_picture_meanwhile() {
        assert_eq!(sampled(Trim::default(), &[90, 130], Some(40)), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_part_begins_with_what_is_on_the_screen_then_and_ends_where_it_says() {
        let times: Vec<u64> = (0..100).map(|index| index * 40).collect();
        let part = |text: &str| sampled(text.parse().unwrap(), &times, Some(40));
        assert_eq!(part("1..2"), (25..50).collect::<Vec<_>>());
        assert_eq!(part("0.06..0.1"), [1]);
        assert_eq!(part("3.9.."), [97, 98, 99]);
        assert_eq!(part("7.."), [0; 0]);
    }

    #[test]
    fn pictures_without_durations_last_as_long_as_the_one_before() {
        assert_eq!(sampled(Trim::default(), &[0, 80], None), [0, 0, 1, 1]);
        assert_eq!(sampled(Trim::default(), &[0], None), [0]);
        assert_eq!(sampled(Trim::default(), &[0, 0, 0], Some(0)), [2]);
        assert_eq!(sampled(Trim::default(), &[0, 40, 80], Some(1)), [0, 1, 2]);
    }

    #[test]
    fn the_last_picture_does_not_stay_for_hours() {
        assert_eq!(sampled(Trim::default(), &[0, 40], Some(8 * 3_600_000)).len(), 251);
    }
}
