//! What somebody may be allowed, in the words of a token's claim `may`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One thing that somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See and hear sessions that are open, and be told what is said in them.
    View,
    /// Open sessions and have the avatar say given words, or speak with a voice of one's own.
    Speak,
    /// Open sessions and have the avatar answer.
    Converse,
    /// Be heard by the avatar.
    Microphone,
    /// See which avatars there are, and make some.
    Avatars,
    /// What is the operator's: metrics, outputs, pushes, deleting and replacing avatars.
    Administer,
}

/// A word that is no permission.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such permission: they are {}", Permission::ALL.map(Permission::as_str).join(", "))]
pub struct UnknownPermission;

impl Permission {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::View, Self::Speak, Self::Converse, Self::Microphone, Self::Avatars, Self::Administer];

    /// As it is in a token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Speak => "speak",
            Self::Converse => "converse",
            Self::Microphone => "microphone",
            Self::Avatars => "avatars",
            Self::Administer => "administer",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == given).ok_or(UnknownPermission)
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions(u8);

impl Permissions {
    const fn bit(permission: Permission) -> u8 {
        1 << permission as u8
    }

    /// Whether this one is among them.
    pub const fn has(self, permission: Permission) -> bool {
        self.0 & Self::bit(permission) != 0
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | Self::bit(permission)))
    }
}
