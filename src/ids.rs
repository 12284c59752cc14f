//! Identifiers that travel with work: avatar, session, viewer, utterance, sentence.
//!
//! In here: newtypes, their text form on the wire and in logs, and what makes an avatar's id or a session's name acceptable.
//! Not in here: looking anything up by them.

mod told;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a session, or a tenant, may have this name: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Name of an avatar, also the name of its folder: 1 to 64 of `a-z 0-9 _ -`, starting with a letter or digit.
///
/// The narrow alphabet is what keeps an id from a URL or a command line inside the avatars' folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AvatarId(String);

/// A name that no avatar can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("avatar id {given:?} is not valid: use 1 to 64 of a-z, 0-9, '_' and '-', starting with a letter or digit")]
pub struct InvalidAvatarId {
    /// What was given, its first 80 characters.
    pub given: String,
}

impl AvatarId {
    /// As it is written everywhere: on the wire, in logs, as the folder's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AvatarId {
    type Err = InvalidAvatarId;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        let starts_well = given.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if starts_well && given.len() <= 64 && given.bytes().all(allowed) {
            Ok(Self(given.to_owned()))
        } else {
            // The id may come from a URL of any length; the error must not carry all of it into logs.
            Err(InvalidAvatarId { given: given.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for AvatarId {
    type Error = InvalidAvatarId;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        given.parse()
    }
}

impl From<AvatarId> for String {
    fn from(id: AvatarId) -> Self {
        id.0
    }
}

impl fmt::Display for AvatarId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

macro_rules! counted_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The next one of this process; never the same twice.
            pub fn next() -> Self {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                Self(NEXT.fetch_add(1, Ordering::Relaxed))
            }
        }

        impl fmt::Display for $name {
            /// As it is told, in logs too: nobody can tell from one what others are, or how many there were.
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!($prefix, "-{:016x}"), told::told(self.0))
            }
        }
    };
}

counted_id!(
    /// One conversation with one avatar: its dialogue, playout and publish pipeline.
    SessionId,
    "s"
);
counted_id!(
    /// One WebRTC peer watching a session.
    ViewerId,
    "v"
);
counted_id!(
    /// One way out of a session besides its viewers, such as a recording.
    OutputId,
    "o"
);
counted_id!(
    /// A session's way to a media server.
    PushId,
    "p"
);
counted_id!(
    /// What the avatar speaks in one turn, from its first sentence to its last; what an interruption cancels.
    UtteranceId,
    "u"
);

/// Something is not the id of an utterance.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this is not the id of an utterance: they look like u-0123456789abcdef")]
pub struct InvalidUtteranceId;

impl FromStr for UtteranceId {
    type Err = InvalidUtteranceId;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let told = given.strip_prefix("u-").and_then(|told| u64::from_str_radix(told, 16).ok());
        let number = told::meant(told.ok_or(InvalidUtteranceId)?);
        // Only as it is written: no capitals, no `+`, all of its digits.
        Some(Self(number)).filter(|id| id.to_string() == given).ok_or(InvalidUtteranceId)
    }
}

/// One sentence of an utterance: the unit that is voiced, drawn, scheduled and captioned.
///
/// A client's own audio is one sentence too, of an utterance of its own and without words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentenceId {
    /// What it is part of.
    pub utterance: UtteranceId,
    /// From 0, over the sentences of the utterance that are given to a voice; those that turn out to be without a sound count.
    pub number: usize,
}

impl UtteranceId {
    /// The sentence of this number, from 0.
    pub const fn sentence(self, number: usize) -> SentenceId {
        SentenceId { utterance: self, number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_avatar_id_cannot_leave_its_folder() {
        for bad in ["", "../demo", "a/b", "a\\b", ".hidden", "-x", "Anna", "a b", "a\0", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<AvatarId>().is_err(), "{bad:?} was accepted");
        }
        for good in ["demo", "anna-2", "0_x"] {
            assert_eq!(good.parse::<AvatarId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_invalid_id_is_quoted_in_part_only() {
        let error = "x/".repeat(10_000).parse::<AvatarId>().unwrap_err();
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn an_utterance_is_known_by_the_id_it_was_told_under() {
        let utterance = UtteranceId::next();
        assert_eq!(utterance.to_string().parse(), Ok(utterance));
        for bad in [
            "",
            "u-",
            "7",
            "u-7",
            "u-+000000000000007",
            "u-0000000000000000 ",
            "v-0000000000000007",
            "u-000000000000000A",
            "u--000000000000007",
            "u-00000000000000007",
        ] {
            assert_eq!(bad.parse::<UtteranceId>(), Err(InvalidUtteranceId), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_never_handed_out_twice() {
        assert_ne!(UtteranceId::next(), UtteranceId::next());
    }

    #[test]
    fn sentences_are_in_the_order_in_which_they_are_spoken() {
        let (first, second) = (UtteranceId::next(), UtteranceId::next());
        let spoken = [first.sentence(0), first.sentence(1), second.sentence(0), second.sentence(1)];
        assert!(spoken.is_sorted_by(|before, after| before < after));
    }
}
