//! The demo avatar and its model: drawing the character, and training and judging the network that speaks for it.
//!
//! Nothing in here runs in the server; `src/bin/demo-model.rs` is its only user.

pub mod augment;
pub mod character;
pub mod corpus;
pub mod dataset;
pub mod eval;
pub mod judge;
pub mod loudness;
pub mod network;
pub mod perform;
pub mod prepare;
pub mod sheet;
pub mod train;
pub mod visemes;

use std::path::{Path, PathBuf};

use crate::avatar::AvatarError;
use crate::lipsync::LipSyncError;

/// What can go wrong while making or judging the demo model.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error(transparent)]
    LipSync(#[from] LipSyncError),
    #[error(transparent)]
    Avatar(#[from] AvatarError),
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl DemoError {
    fn file(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), problem: problem.to_string() }
    }
}

type Result<T> = std::result::Result<T, DemoError>;

/// What is judged, and by which clips.
#[derive(Debug, clap::Args)]
pub struct Subject {
    /// The model's folder.
    #[arg(long, default_value = "models/demo")]
    pub model: PathBuf,
    /// The avatar's folder.
    #[arg(long, default_value = "models/avatars/demo")]
    pub avatar: PathBuf,
    /// Clips with phone times, as scripts/make_corpus.py writes them; those meant for training are left out.
    #[arg(long, default_value = "models/demo/eval")]
    pub corpus: PathBuf,
}
