//! What an avatar's own frames are made of.
//!
//! Not in here: when one is made and for whom (`own_frames`).

use crate::picture::AvatarFrame;

/// Where an avatar's own frames come from.
#[derive(Clone, Debug)]
pub enum Material {
    /// All of them are in memory, ready for the encoder and for pasting; at least one.
    Frames(Vec<AvatarFrame>),
}
