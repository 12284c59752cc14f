//! What an avatar's own frames are made of.
//!
//! In here: the three kinds, and a frame of each. Not in here: when one is made and for whom (`own_frames`).
//! Runs on: whoever asks; a frame that is not in memory takes milliseconds.

use std::sync::Arc;

use super::film::Film;
use crate::picture::{AvatarFrame, I420Frame, Mask, matte};
use crate::still::{HeadPose, Still};

/// Where an avatar's own frames come from. Cheap to clone but for frames in memory.
#[derive(Clone, Debug)]
pub enum Material {
    /// All of them are in memory, ready for the encoder and for pasting; at least one.
    Frames(Vec<AvatarFrame>),
    /// A clip: they are compressed, on disk.
    Film(Arc<Film>),
    /// A photo: they are drawn.
    Photo(Arc<Photo>),
}

/// A photo that comes alive.
#[derive(Debug)]
pub struct Photo {
    /// What draws it at a pose.
    pub still: Still,
    /// The photo itself, the pixels around its mouth, and where the mouth is: before it is turned.
    pub frame: AvatarFrame,
    /// Of the photo, if it is cut out.
    pub matte: Option<Mask>,
}

impl Photo {
    /// The photo as it is shown before it is turned.
    pub fn base(&self) -> Arc<I420Frame> {
        match &self.matte {
            Some(matte) => Arc::new(matte::framed(&self.frame.picture, matte)),
            None => Arc::clone(&self.frame.picture),
        }
    }

    /// The head at a pose, and its matte with it. `colours` is the photo, or that with a mouth in it.
    pub fn draw(&self, colours: &I420Frame, pose: &HeadPose) -> I420Frame {
        let drawn = self.still.draw(colours, pose);
        match &self.matte {
            Some(matte) => matte::framed(&drawn, &self.still.draw_matte(matte, pose)),
            None => drawn,
        }
    }
}

/// One own frame, ready to be shown.
#[derive(Clone, Debug)]
pub struct OwnFrame {
    /// What is shown while nothing is said.
    pub picture: Arc<I420Frame>,
    /// The same of a film, for a mouth to be pasted into; a photo has its mouth before it is turned.
    pub canvas: Option<Arc<AvatarFrame>>,
}
