//! What is asked for when an avatar is made, how far it is, and why it cannot be made.

use std::path::PathBuf;

use crate::avatar::AvatarError;
use crate::avatar::manifest::MatteSource;
use crate::avatar::store::StoreError;
use crate::face::{FaceError, FaceProblem};
use crate::ids::AvatarId;
use crate::lipsync::LipSyncError;
use crate::media::{ClipOptions, SourceError};
use crate::picture::RgbPicture;
use crate::portrait::PortraitError;
use crate::speech::Voice;

/// The longer side of an avatar from a photo unless another is asked for, in pixels. All of it is drawn anew 25 times a
/// second.
pub const PHOTO_SIDE: u32 = 720;
/// The same of an avatar from a clip, whose frames are only decoded.
pub const CLIP_SIDE: u32 = 1280;

/// What the map of a face is made of that MuseTalk's mask comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MaskSource {
    /// The points that were found in it: skin is what is inside their outline.
    Mesh,
    /// Upstream's face parsing, which sees hair and hands too.
    Parsing,
}

impl MaskSource {
    /// As it is typed, and as a manifest has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Parsing => "parsing",
        }
    }
}

/// Which part of a map of a face MuseTalk's mouth is pasted into: upstream's `parsing_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ParsingMode {
    /// Skin grown over the jaw and worn off at the cheeks, without the nose, and the mouth: 1.5's.
    Jaw,
    /// Skin and mouth: 1.0's.
    Raw,
    /// Skin, mouth and neck.
    Neck,
}

impl ParsingMode {
    /// As it is typed, and as a manifest has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jaw => "jaw",
            Self::Raw => "raw",
            Self::Neck => "neck",
        }
    }
}

/// An avatar to be made.
#[derive(Clone, Debug)]
pub struct Request {
    /// The photo or clip.
    pub source: PathBuf,
    /// The name that the file had where it comes from.
    pub file_name: String,
    /// What it will be called by programs.
    pub id: AvatarId,
    /// What it will be called by people.
    pub name: String,
    /// Which model will draw its mouth: a folder of `models/`.
    pub model: String,
    /// How it speaks.
    pub voice: Voice,
    /// Under which terms the pictures may be used.
    pub licence: String,
    /// Who agreed to what.
    pub consent: String,
    /// Which face, from 1 at the left; the largest if left out.
    pub face: Option<usize>,
    /// A photo that does not move but for its mouth.
    pub still: bool,
    /// A mouth that is open in the source is shut in the avatar's own frames.
    pub closed: bool,
    /// All of a photo, even if the head is small in it.
    pub whole: bool,
    /// The longer side of its frames, in pixels, at most; [`PHOTO_SIDE`] or [`CLIP_SIDE`] if left out.
    pub side: Option<u32>,
    /// What is taken of a clip; its size is `side`'s.
    pub clip: ClipOptions,
    /// Where the matte comes from that cuts it out; without one it is shown as it is.
    pub alpha: Option<MatteSource>,
    /// How far down the middle of the box is moved that MuseTalk 1.0 redraws, in pixels: it opens the mouth further. 0 for all
    /// other models.
    pub bbox_shift: i32,
    /// What MuseTalk's mask is made of; face parsing if left out and its weights are there, else the mesh. `None` for
    /// `portrait`.
    pub mask: Option<MaskSource>,
    /// Which part of the face that mask shows; upstream's own of the model's version if left out. `None` for `portrait`.
    pub parsing_mode: Option<ParsingMode>,
    /// Whether an avatar of this id is replaced.
    pub replace: bool,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Decoding the source.
    Reading,
    /// Looking for the face, in a clip in every frame.
    FindingFace,
    /// Measuring the mouth and the light on it.
    MeasuringMouth,
    /// Computing what the model wants to know of each frame.
    Encoding,
    /// Writing the avatar's files.
    Writing,
}

impl Stage {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::FindingFace => "finding the face",
            Self::MeasuringMouth => "measuring the mouth",
            Self::Encoding => "encoding",
            Self::Writing => "writing",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of the whole is done, 0 to 1.
    pub share: f64,
}

/// Why an avatar is not made.
#[derive(Debug, thiserror::Error)]
pub enum PreparationError {
    /// The photo or clip cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no face that can be used.
    #[error("{file}: {problem}")]
    Face {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: FaceProblem,
        /// The picture with what was found in it.
        found: Box<RgbPicture>,
    },
    /// The source has no stretch, or no mouth, that can be used.
    #[error("{file}: {problem}")]
    Clip {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Faces cannot be looked for.
    #[error(transparent)]
    Finder(#[from] FaceError),
    /// Its mouth cannot be used.
    #[error(transparent)]
    Portrait(#[from] PortraitError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of its files cannot be written.
    #[error(transparent)]
    Avatar(#[from] AvatarError),
    /// Its model is not there, or nobody can prepare for it.
    #[error("model {model}: {problem}")]
    Model {
        /// The model that was asked for.
        model: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder of upstream's cannot be used.
    #[error(transparent)]
    Upstream(AvatarError),
    /// A network fails, or there is no device for it.
    #[error(transparent)]
    Network(Box<LipSyncError>),
    /// Whoever asked for it has stopped it.
    #[error("stopped")]
    Stopped,
}

impl From<LipSyncError> for PreparationError {
    fn from(error: LipSyncError) -> Self {
        Self::Network(Box::new(error))
    }
}

impl PreparationError {
    /// The same, with the file that it is about.
    pub(super) fn about(self, file: &str) -> Self {
        match self {
            Self::Portrait(error @ PortraitError::Mouth(_)) => {
                Self::Clip { file: file.to_owned(), problem: error.to_string() }
            }
            other => other,
        }
    }

    /// Whether what was brought is at fault, and not the machine.
    pub fn is_bad_input(&self) -> bool {
        match self {
            Self::Source(_)
            | Self::Face { .. }
            | Self::Clip { .. }
            | Self::Portrait(_)
            | Self::Model { .. }
            | Self::Upstream(_) => true,
            Self::Store(error) => matches!(error, StoreError::Exists { .. } | StoreError::Busy { .. }),
            Self::Finder(_) | Self::Avatar(_) | Self::Network(_) | Self::Stopped => false,
        }
    }
}
