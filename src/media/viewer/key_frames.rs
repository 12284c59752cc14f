//! How many key frames one viewer may ask for: all viewers of an encode get each of them, and each is many pictures large.
//!
//! Not in here: the least time between two of one encode, whoever asks (`publisher`).
//! Pure.

use std::time::Duration;

/// A receiver asks again until it has one, which takes the encode as long as this.
const ANSWERED: Duration = Duration::from_millis(500);
/// At once, as on a path that breaks off, and after that one each so often.
const AT_ONCE: f64 = 5.0;
const EACH: Duration = Duration::from_secs(1);

/// What one viewer asked for.
#[derive(Debug)]
pub(super) struct KeyFrames {
    left: f64,
    last: Option<Duration>,
}

impl Default for KeyFrames {
    fn default() -> Self {
        Self { left: AT_ONCE, last: None }
    }
}

impl KeyFrames {
    /// Whether a request is passed on.
    pub fn admits(&mut self, now: Duration) -> bool {
        let since = self.last.map(|last| now.saturating_sub(last));
        if since.is_some_and(|since| since < ANSWERED) {
            return false;
        }
        self.left = since.map_or(self.left, |since| (self.left + since.div_duration_f64(EACH)).min(AT_ONCE));
        // What came since is counted from here on, whether or not it was enough.
        self.last = Some(now);
        let admits = self.left >= 1.0;
        if admits {
            self.left -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_all_the_time_gets_a_key_frame_a_second() {
        let mut asked = KeyFrames::default();
        let admitted: Vec<u64> =
            (0..30_000).step_by(50).filter(|ms| asked.admits(Duration::from_millis(*ms))).collect();
        assert_eq!(admitted[..5], [0, 500, 1000, 1500, 2000]);
        assert!((31..=36).contains(&admitted.len()), "{admitted:?}");
        assert!(admitted.windows(2).skip(10).all(|pair| pair[1] - pair[0] >= 900), "{admitted:?}");
        assert!(asked.admits(Duration::from_secs(60)), "and at once when it was content for a while");
    }
}
