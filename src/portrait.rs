//! The model family without weights of a face: any portrait speaks, its own pixels bent by what is heard.
//!
//! An audio encoder (`models/portrait`) hears how a mouth is held (`hearing`); that becomes lengths (`shape`), which bend
//! the lower half of the picture (`field`), and where lips part, the inside of a mouth is painted in the picture's own
//! light (`inside`). What of a picture this takes is measured once, when the avatar is prepared (`analysis`), and kept in
//! its folder (`file`).
//!
//! In here: [`Portrait`], which is the `LipSync`, and all of that. Not in here: finding the face (`face`), moving the head
//! (`still`), the encoder's layers (`musetalk`), making avatar folders (`preparation`).

pub mod analysis;
mod field;
pub mod file;
mod hearing;
mod inside;
mod light;
mod model;
mod pixels;
pub mod place;
pub mod plate;
mod seam;
pub mod shape;
mod tensors;

pub use analysis::{Analysis, analyse, steady};
pub use hearing::{FAMILY, HearingConfig};
pub use model::{Portrait, draw_once};

/// Why a picture cannot become a portrait, or a portrait not be used.
#[derive(Debug, thiserror::Error)]
pub enum PortraitError {
    /// The mouth cannot be made to speak.
    #[error("the mouth cannot be used: {0}")]
    Mouth(String),
    /// A file cannot be read or written, or is not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl PortraitError {
    /// Whether the picture is at fault, and not one of our files.
    pub fn is_of_the_picture(&self) -> bool {
        matches!(self, Self::Mouth(_))
    }

    /// What is wrong, without the file's name.
    fn problem(self) -> String {
        match self {
            Self::Mouth(problem) | Self::File { problem, .. } => problem,
        }
    }
}

type Result<T> = std::result::Result<T, crate::lipsync::LipSyncError>;

#[cfg(test)]
mod tests;
