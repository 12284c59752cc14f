//! Speech becomes pictures of a mouth.
//!
//! In here: the trait between the engine and the network, and the plain data that crosses it.
//! `musetalk` is the network and, with `demo` that trains it, the home of libtorch; `engine` is the thread that owns it on one
//! device, `devices` knows those of all; `scheduler` says what is drawn next and `capacity` how long that takes; `window` says
//! which audio a frame needs; `driver` takes a stream of speech through all of them to playout. Not in here: pasting the mouth
//! into a frame, which `compose` does where the network has not (on a GPU it does).

pub mod capacity;
pub mod devices;
pub mod engine;
pub mod scheduler;
pub mod window;

use std::sync::Arc;

use crate::avatar::Avatar;
use crate::picture::{MouthFrame, RegionPlanes};
use crate::timeline::LIPSYNC_RATE;

/// Sound before a frame that any network hears: Whisper's 30 s, in samples.
pub const LONGEST_CONTEXT: usize = LIPSYNC_RATE as usize * 30;

/// What the network needs to draw a run of consecutive frames of one segment of speech.
#[derive(Clone, Debug)]
pub struct MouthRun {
    /// Which avatar, by the handle that [`LipSync::add_avatar`] gave.
    pub avatar: AvatarHandle,
    /// The avatar's own frame behind each mouth, one for each frame to draw.
    pub poses: Vec<usize>,
    /// 16 kHz mono, -1.0 to 1.0: everything of the segment's audio that the first to the last frame may hear.
    pub audio: Arc<[f32]>,
    /// Where, in samples from the start of `audio`, the first frame to draw begins; 640 samples on begins the second.
    /// Sound before the start and after the end of `audio` is silence.
    pub first_frame_at: usize,
}

/// An avatar that the engine has prepared; an index, so cheap to send along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvatarHandle(pub usize);

/// A mouth as it comes from a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mouth {
    /// To be pasted into whichever frame it is shown with.
    Crop(MouthFrame),
    /// Pasted into the frame that it was drawn for, and no other.
    Pasted(RegionPlanes),
}

impl Mouth {
    /// For another pose than it was drawn for.
    pub fn can_move(&self) -> bool {
        matches!(self, Self::Crop(_))
    }
}

/// A network that draws mouths. Built, used and dropped on the engine thread, so it need not be `Send`.
pub trait LipSync {
    /// Keeps an avatar's latents (`[frames, channels, height, width]`, from its folder) ready. Only `decode_rows`
    /// (first and one past the last) of each latent need be decoded, all of them if `None`.
    fn add_avatar(
        &mut self,
        latents: &std::path::Path,
        decode_rows: Option<[i64; 2]>,
    ) -> Result<AvatarHandle, LipSyncError>;

    /// How much sound before a frame, in samples, makes a difference to it. What is older need not be in a [`MouthRun`].
    fn hears_back(&self) -> usize {
        LONGEST_CONTEXT
    }

    /// Lets go of all that is kept of an avatar. Its handle is never given to another.
    fn remove_avatar(&mut self, avatar: AvatarHandle);

    /// Draws runs of frames, of whichever avatars, in one go: for each, one crop for each of its `poses`.
    fn infer_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError>;

    /// Keeps what it needs of an avatar's own frames to paste mouths into them by itself, if it does that.
    fn add_canvas(&mut self, avatar: AvatarHandle, canvas: &Avatar) -> Result<(), LipSyncError>;

    /// Draws an avatar with the small decoder in this folder instead of the model's own.
    fn set_decoder(&mut self, _: AvatarHandle, folder: &std::path::Path) -> Result<(), LipSyncError> {
        let problem = format!("{}: this network has no other decoder than its own", folder.display());
        Err(LipSyncError::Config { field: "decoder".to_owned(), problem })
    }

    /// As [`LipSync::infer_all`], pasted where the network does that by itself.
    fn draw_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        let crops = self.infer_all(runs)?;
        Ok(crops.into_iter().map(|run| run.into_iter().map(Mouth::Crop).collect()).collect())
    }

    /// Draws one run.
    fn infer(&mut self, run: &MouthRun) -> Result<Vec<MouthFrame>, LipSyncError> {
        Ok(self.infer_all(std::slice::from_ref(run))?.pop().unwrap_or_default())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LipSyncError {
    #[error("model file {path}: {problem}")]
    Model { path: String, problem: String },
    #[error(
        "weights {path} do not fit the configuration: missing {missing:?}, unexpected {unexpected:?}, of another shape {misshapen:?}"
    )]
    Weights { path: String, missing: Vec<String>, unexpected: Vec<String>, misshapen: Vec<String> },
    #[error("model configuration {field}: {problem}")]
    Config { field: String, problem: String },
    #[error("weights {0}")]
    Checkpoint(#[from] crate::models::CheckpointError),
    #[error(transparent)]
    Folder(#[from] crate::models::folder::MissingFile),
    #[error("avatar latents {path}: {problem}")]
    Latents { path: String, problem: String },
    #[error("drawing panicked: {0}")]
    Panicked(String),
    #[error("inference: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
}

impl LipSyncError {
    /// As libtorch says it.
    #[cfg(test)]
    pub(crate) fn torch(message: &str) -> Self {
        tch::TchError::Torch(message.to_owned()).into()
    }

    /// Whether a smaller batch may succeed: memory, of the device or of the machine, was not enough.
    pub fn is_out_of_memory(&self) -> bool {
        let says = |message: &str| message.contains("out of memory") || message.contains("can't allocate memory");
        matches!(self, Self::Torch(error) if says(&error.to_string()))
    }

    /// Whether the device will do nothing more in this process: CUDA fails every call after such an error.
    pub fn is_the_devices_end(&self) -> bool {
        !self.is_out_of_memory() && matches!(self, Self::Torch(error) if error.to_string().contains("CUDA error"))
    }
}

/// libtorch's messages go on with a native stack trace of many lines.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
