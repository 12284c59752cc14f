//! What goes wrong with a pipeline description, by file, line, column and element.

use super::super::elements::{debian_package, needs_hardware};
use super::place::Place;

/// Why a description cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DescriptionError {
    /// It is not there, or may not be read.
    #[error("pipeline {file} cannot be read: {reason}")]
    Unreadable {
        /// The file, or the folder that cannot be listed.
        file: String,
        /// The system's own words.
        reason: String,
    },
    /// Its name does not say what it is for.
    #[error(
        "pipeline {file}: its name must begin with publish-, viewer-, render- or output-, which says what it is for"
    )]
    UnknownKind {
        /// The file.
        file: String,
    },
    /// GStreamer cannot parse it.
    #[error("pipeline {file}{}: {reason}", within(*at))]
    Syntax {
        /// The file.
        file: String,
        /// Where, as far as GStreamer's message tells.
        at: Option<Place>,
        /// GStreamer's own words.
        reason: String,
    },
    /// It uses an element that is not installed.
    #[error("pipeline {file}{}: no element {element:?}{}", within(*at), package_hint(element))]
    MissingElement {
        /// The file.
        file: String,
        /// Where it is first used.
        at: Option<Place>,
        /// The element that is not installed.
        element: String,
    },
    /// It uses a placeholder that its kind does not have.
    #[error("pipeline {file}{}: placeholder {{{name}}} is unknown here; there are {known}", within(*at))]
    UnknownPlaceholder {
        /// The file.
        file: String,
        /// Where it stands.
        at: Option<Place>,
        /// Without its braces.
        name: String,
        /// Those that there are, with braces.
        known: String,
    },
    /// It breaks the contract of `pipelines/README.md`.
    #[error("pipeline {file}{}, {element}: {problem}; {fix}", within(*at))]
    Contract {
        /// The file.
        file: String,
        /// Where the element or its property stands, if it is there.
        at: Option<Place>,
        /// The element that is not as it has to be.
        element: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        fix: String,
    },
}

impl DescriptionError {
    /// Where in the file.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Self::Unreadable { .. } | Self::UnknownKind { .. } => None,
            Self::Syntax { at, .. }
            | Self::MissingElement { at, .. }
            | Self::UnknownPlaceholder { at, .. }
            | Self::Contract { at, .. } => *at,
        }
    }

    /// Whether it says no more than that this machine lacks a piece of hardware.
    pub(crate) fn is_missing_hardware(&self) -> bool {
        matches!(self, Self::MissingElement { element, .. } if needs_hardware(element))
    }
}

fn within(at: Option<Place>) -> String {
    at.map(|at| format!(", {at}")).unwrap_or_default()
}

fn package_hint(element: &str) -> String {
    match debian_package(element) {
        Some(package) => format!("; it is in Debian's {package}"),
        None => "; check the spelling with gst-inspect-1.0".to_owned(),
    }
}
