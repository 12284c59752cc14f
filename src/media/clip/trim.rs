//! Which part of a clip is used, as it is typed: `START..END`.

use std::str::FromStr;
use std::time::Duration;

/// A part of a clip, from its first frame on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trim {
    /// Where it starts.
    pub start: Duration,
    /// Where it ends; the clip's own end where there is none.
    pub end: Option<Duration>,
}

/// A part that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no part of a clip: write START..END in seconds or as 1:02.5, either may be left out, {wrong}")]
pub struct TrimError {
    text: String,
    wrong: &'static str,
}

impl Trim {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Trim {
    type Err = TrimError;

    fn from_str(text: &str) -> Result<Self, TrimError> {
        let failed = |wrong| TrimError { text: text.to_owned(), wrong };
        let (start, end) = text.split_once("..").ok_or_else(|| failed("with two dots between"))?;
        let time = |text: &str| match text.trim() {
            "" => Some(None),
            typed => seconds(typed).map(Some),
        };
        let wrong_time = || failed("each a number of at most a day");
        let start = time(start).ok_or_else(wrong_time)?.unwrap_or_default();
        let end = time(end).ok_or_else(wrong_time)?;
        if end.is_some_and(|end| end <= start) {
            return Err(failed("the end after the start"));
        }
        Ok(Self { start, end })
    }
}

/// `2.5`, `1:02.5` or `1:00:02`.
fn seconds(text: &str) -> Option<Duration> {
    let mut whole: f64 = 0.0;
    let parts: Vec<&str> = text.split(':').collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter().enumerate() {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_digit() || (byte == b'.' && at == last));
        let number: f64 = part.parse().ok().filter(|_| is_plain)?;
        if at > 2 || (at > 0 && number >= 60.0) {
            return None;
        }
        whole = whole * 60.0 + number;
    }
    (whole <= 86_400.0).then(|| Duration::from_secs_f64(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_in_every_form_in_which_people_write_times() {
        let part = |text: &str| text.parse::<Trim>().unwrap();
        let at = Duration::from_millis;
        assert_eq!(part("2.5..10"), Trim { start: at(2_500), end: Some(at(10_000)) });
        assert_eq!(part("1:02.5.."), Trim { start: at(62_500), end: None });
        assert_eq!(part("..1:00:02"), Trim { start: at(0), end: Some(at(3_602_000)) });
        assert_eq!(part(".."), Trim::default());
    }

    #[test]
    fn what_is_no_part_is_told_what_would_be() {
        for text in [
            "",
            "5",
            "a..b",
            "-1..2",
            "3..3",
            "9..2",
            "1:75..",
            "1:2:3:4..",
            "..inf",
            "..nan",
            "1e3..",
            "..90000",
            "1.5:3..",
        ] {
            let error = text.parse::<Trim>().unwrap_err().to_string();
            assert!(error.contains("START..END"), "{text}: {error}");
        }
    }
}
