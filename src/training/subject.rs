//! What training needs to know of the face that a network learns to draw.
//!
//! A face is drawn or filmed elsewhere; here is only what the stages ask of it. Its pictures are mouth crops, square, of
//! the side that the network's configuration names, and a mouth is a list of parameters, each within 0 and 1, whose
//! meaning and number are the face's own. All 0 is the mouth at rest.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use super::Result;
use super::speeches::Speech;

/// A part of a picture: of pixels or of latent cells, from the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Its first row.
    pub top: i64,
    /// Rows.
    pub height: i64,
    /// Its first column.
    pub left: i64,
    /// Columns.
    pub width: i64,
}

impl Rectangle {
    /// This part of `[n, channels, height, width]`, as a view.
    pub(super) fn of(self, pictures: &Tensor) -> Result<Tensor> {
        Ok(pictures.f_narrow(2, self.top, self.height)?.f_narrow(3, self.left, self.width)?)
    }

    /// In pixels, for a part in latent cells that are `scale` pixels wide, less a cell on each side.
    pub(super) fn inside(self, scale: i64) -> Self {
        Self {
            top: (self.top + 1) * scale,
            height: (self.height - 2) * scale,
            left: (self.left + 1) * scale,
            width: (self.width - 2) * scale,
        }
    }
}

/// Where the mouth is in a face's crops, whatever the pose.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The first row of pixels that the network is not shown; speech moves nothing above it.
    pub hidden_from: i64,
    /// Pixels in which a mouth is judged.
    pub mouth: Rectangle,
    /// Rows and columns of pixels at which patches begin that hold the mouth.
    pub mouth_begins: [RangeInclusive<i64>; 2],
    /// Latent cells that the mouth moves in.
    pub mouth_cells: Rectangle,
    /// Latent cells that are decoded to be looked at. Both keep the mouth or the jaw a cell away from the patch's border,
    /// where the decoder sees padding.
    pub mouth_patch: Rectangle,
    /// Now and then this one instead.
    pub jaw_patch: Rectangle,
}

/// A crop that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    /// A frame of the idle loop.
    pub pose: usize,
    /// The mouth's parameters.
    pub mouth: Vec<f32>,
}

/// A face that a network learns to draw. The same call gives the same pictures; several threads may ask at once.
pub trait Subject: Sync {
    /// Where to look for the mouth.
    fn layout(&self) -> Layout;

    /// How much each of the mouth's parameters counts; there are as many as these.
    fn parameter_weights(&self) -> &[f32];

    /// Frames of the idle loop.
    fn poses(&self) -> usize;

    /// The crops asked for, or those that come nearest: `[n, side, side, 3]` RGB bytes.
    fn crops(&self, wanted: &[Crop]) -> Result<Tensor>;

    /// What the autoencoder learns from, `[count, side, side, 3]` RGB bytes: all that the face shows at rest and in speech.
    /// The last of them are only judged, so they are of all kinds.
    fn examples(&self, count: usize, speeches: &[Speech], rng: &mut ChaCha8Rng) -> Result<Tensor>;

    /// How far each mouth stands open, `[n]`, in pixels, from pictures `[n, 3, height, width]` from -1 to 1 of a `part` of
    /// the crop, in pixels. It has a slope: the network learns from it.
    fn openings(&self, pictures: &Tensor, part: Rectangle) -> Result<Tensor>;
}
