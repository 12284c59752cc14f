//! Speech becomes pictures of a mouth.
//!
//! In here: the trait between the engine and the network, and the plain data that crosses it. `engine` is the thread that
//! owns the network on one device, `device_pool` knows those of all; `scheduler` says what is drawn next and `capacity` how
//! long that takes; `networks` are several of them, each for its own avatars; `window` says which audio a frame needs, `batch` how many frames are drawn in one go.
//! Not in here: the network (`musetalk`, the home of libtorch), the stream of speech (`animation`), pasting the mouth into a
//! frame, which `compose` does where the network has not (on a GPU it does).

pub mod batch;
mod capacity;
pub mod device_pool;
pub mod engine;
pub mod networks;
mod scheduler;
pub mod window;

use std::path::PathBuf;
use std::sync::Arc;

use crate::avatar::Avatar;
use crate::picture::{MouthFrame, RegionPlanes};

/// What the network needs to draw a run of consecutive frames of one sentence.
#[derive(Clone, Debug)]
pub struct MouthRun {
    /// Which avatar, by the handle that [`LipSync::add_avatar`] gave.
    pub avatar: AvatarHandle,
    /// The avatar's own frame behind each mouth, one for each frame to draw.
    pub poses: Vec<usize>,
    /// 16 kHz mono, -1.0 to 1.0: everything of the sentence's audio that the first to the last frame may hear.
    pub audio: Arc<[f32]>,
    /// Where, in samples from the start of `audio`, the first frame to draw begins; 640 samples on begins the second.
    /// Sound before the start and after the end of `audio` is silence.
    pub first_frame_at: usize,
}

/// An avatar that a network has prepared; an index, so cheap to send along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvatarHandle(pub usize);

/// An avatar as a network is given it.
#[derive(Clone, Debug)]
pub struct AvatarAssets {
    /// Its own frames, and the folder with what was prepared for its model.
    pub avatar: Arc<Avatar>,
    /// The folder of the small decoder that it is drawn with instead of the model's.
    pub decoder: Option<PathBuf>,
}

/// A mouth as it comes from a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mouth {
    /// To be pasted into whichever frame it is shown with.
    Crop(MouthFrame),
    /// Pasted into the frame that it was drawn for, and no other.
    Pasted(RegionPlanes),
}

impl Mouth {
    /// Whether it may be shown with another pose than it was drawn for.
    pub fn can_move(&self) -> bool {
        matches!(self, Self::Crop(_))
    }

    /// Its own pixels; `None` once it is pasted.
    pub fn into_crop(self) -> Option<MouthFrame> {
        if let Self::Crop(crop) = self { Some(crop) } else { None }
    }
}

/// A network that draws mouths. Built, used and dropped on the engine thread, so it need not be `Send`.
pub trait LipSync {
    /// How much sound before a frame, in samples of 16 kHz, makes a difference to it. What is older need not be in a
    /// [`MouthRun`]. Only adding an avatar may make it more.
    fn context_samples(&self) -> usize;

    /// Keeps ready what was prepared of an avatar for this network. An error if that does not fit the network, or if the
    /// avatar wants a decoder of its own of a network that has no use for one.
    fn add_avatar(&mut self, assets: &AvatarAssets) -> Result<AvatarHandle, LipSyncError>;

    /// Lets go of all that is kept of an avatar. Its handle is never given to another.
    fn remove_avatar(&mut self, avatar: AvatarHandle);

    /// Which of its networks draws an avatar, where there are several: what one has been warmed up for, another has not.
    fn network_of(&self, _: AvatarHandle) -> usize {
        0
    }

    /// Whether the first batch of each size takes many times as long as those after it, so that nobody should wait for it:
    /// all sizes are warmed up before this avatar is ready then, and not those of first words alone.
    fn is_slow_at_first(&self, _: AvatarHandle) -> bool {
        false
    }

    /// As [`LipSync::draw`], while nobody waits: what a batch like this takes only once is done now.
    fn warm_up(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        self.draw(runs)
    }

    /// Draws runs of frames, of whichever avatars, in one go: for each run, one mouth for each of its `poses`.
    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError>;
}

/// Draws one run as crops; an error if the network pastes this avatar's mouths by itself.
pub fn draw_crops(network: &mut dyn LipSync, run: &MouthRun) -> Result<Vec<MouthFrame>, LipSyncError> {
    let mouths = network.draw(std::slice::from_ref(run))?;
    let pasted = || {
        let problem = "its mouths are pasted on the device, so there are no crops of them".to_owned();
        LipSyncError::Config { field: "avatar".to_owned(), problem }
    };
    mouths.into_iter().flatten().map(|mouth| mouth.into_crop().ok_or_else(pasted)).collect()
}

/// What can go wrong with a network, its files and its avatars.
#[derive(Debug, thiserror::Error)]
pub enum LipSyncError {
    /// A file of a model that cannot be read or written, or is not what is wanted.
    #[error("model file {path}: {problem}")]
    Model {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Tensors that do not fit the network, by name; nothing was loaded.
    #[error(
        "weights {path} do not fit the configuration: missing {missing:?}, unexpected {unexpected:?}, of another shape {misshapen:?}"
    )]
    Weights {
        /// The file.
        path: String,
        /// What the network has and the file has not.
        missing: Vec<String>,
        /// What the file has and the network has not.
        unexpected: Vec<String>,
        /// What both have, with the shapes of either.
        misshapen: Vec<String>,
    },
    /// A setting that cannot be, by its name.
    #[error("model configuration {field}: {problem}")]
    Config {
        /// Its name, with dots between the levels.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of weights that is damaged or of no known kind.
    #[error("weights {0}")]
    Checkpoint(#[from] crate::models::CheckpointError),
    /// A model's folder without a file that it must have.
    #[error(transparent)]
    Folder(#[from] crate::models::folder::MissingFile),
    /// Latents that do not fit the model, or a pose or an avatar that is not there.
    #[error("avatar latents {path}: {problem}")]
    Latents {
        /// Their file; empty if there is none.
        path: String,
        /// What is wrong with them.
        problem: String,
    },
    /// Another engine of the same device draws the avatars of this model, which is too large to have twice.
    #[error("model {0} is drawn by another engine")]
    LeftToAnother(String),
    /// The network panicked, or gave what it must not.
    #[error("drawing panicked: {0}")]
    Panicked(String),
    /// What libtorch refused.
    #[error("inference: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
}

impl LipSyncError {
    /// Whether a smaller batch may succeed: memory, of the device or of the machine, was not enough.
    fn is_out_of_memory(&self) -> bool {
        let says = |message: &str| message.contains("out of memory") || message.contains("can't allocate memory");
        matches!(self, Self::Torch(error) if says(&error.to_string()))
    }

    /// Whether the device will do nothing more in this process: CUDA fails every call after such an error.
    fn is_the_devices_end(&self) -> bool {
        !self.is_out_of_memory() && matches!(self, Self::Torch(error) if error.to_string().contains("CUDA error"))
    }
}

/// libtorch's messages go on with a native stack trace of many lines.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
