//! Pixels: frames, the regions of them that change, and what is done to them on the CPU.
//!
//! In here: plain data and pure functions: `color` converts, `blend` pastes a mouth through a mask, `matte` puts frames and
//! mattes together, `extension` invents colours behind an edge, `resize` and `pillow` scale; and `png` and `jpeg`, their files.
//! Not in here: where pictures come from (`avatar`, `lipsync`) and when they are shown (`playout`).

pub mod blend;
pub mod color;
pub mod extension;
pub mod jpeg;
pub mod matte;
pub mod pillow;
pub mod png;
pub mod resize;

use std::sync::Arc;

/// A finished picture: planar YUV 4:2:0, BT.601 limited range, rows without padding. `width` and `height` are even.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct I420Frame {
    /// In pixels, even.
    pub width: u32,
    /// In pixels, even.
    pub height: u32,
    /// Y (`width * height`), then U, then V (a quarter of that each).
    pub data: Vec<u8>,
}

/// Where the generated crop lies in a frame, in pixels; may reach outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CropBox {
    /// Of the left edge.
    pub x: i32,
    /// Of the top edge.
    pub y: i32,
    /// 1 to 4096.
    pub width: u32,
    /// 1 to 4096.
    pub height: u32,
}

/// 8-bit RGB, rows from the top without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbPicture {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each pixel.
    pub rgb: Vec<u8>,
}

impl RgbPicture {
    /// A picture of these pixels, `None` unless they are as many as its sides say.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        (rgb.len() as u64 == u64::from(width) * u64::from(height) * 3).then_some(Self { width, height, rgb })
    }
}

/// How opaque each pixel is, 0 to 255: of a crop when it is pasted, or of a picture over what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// In pixels; a crop's mask is stretched over it, whatever the size of either.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width * height` bytes, rows from the top.
    pub alpha: Vec<u8>,
}

/// A picture, and how opaque it is where it is not all opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cutout {
    /// Colours are straight: not multiplied with the matte.
    pub picture: RgbPicture,
    /// Of the same size; `None` if all of it is opaque.
    pub matte: Option<Mask>,
}

impl From<RgbPicture> for Cutout {
    fn from(picture: RgbPicture) -> Self {
        Self { picture, matte: None }
    }
}

/// A rectangle of pixels; `right` and `bottom` are one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The first column.
    pub left: u32,
    /// The first row.
    pub top: u32,
    /// One past the last column.
    pub right: u32,
    /// One past the last row.
    pub bottom: u32,
}

impl Mask {
    /// The rectangle of what is not fully transparent, if anything is.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        let mut bounds: Option<Bounds> = None;
        for (row, alphas) in (0u32..).zip(self.alpha.chunks_exact(self.width as usize)) {
            for (column, _) in (0u32..).zip(alphas).filter(|(_, alpha)| **alpha > 0) {
                let known = bounds.get_or_insert(Bounds { left: column, top: row, right: column + 1, bottom: row + 1 });
                known.left = known.left.min(column);
                known.right = known.right.max(column + 1);
                known.bottom = row + 1;
            }
        }
        bounds
    }
}

/// A rectangle of a frame in RGB; all four of its numbers are even and it lies inside the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Of the left edge.
    pub x: u32,
    /// Of the top edge.
    pub y: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width * height * 3` bytes, rows from the top.
    pub rgb: Vec<u8>,
}

/// One of the avatar's own frames.
#[derive(Clone, Debug)]
pub struct AvatarFrame {
    /// Ready for the encoder; idle pairs carry this very picture.
    pub picture: Arc<I420Frame>,
    /// Where a generated crop belongs.
    pub crop: CropBox,
    /// The part that a mouth is pasted into, even-aligned so that it covers whole chroma samples.
    pub region: Region,
}

/// One generated crop, 8-bit RGB, rows from the top without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MouthFrame {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

/// The finished I420 planes of the changed region of one of an avatar's own frames: Y, U and V, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionPlanes {
    /// `width * height` bytes of Y and a quarter of that of U and V each, of a region of that size.
    pub data: Vec<u8>,
}
