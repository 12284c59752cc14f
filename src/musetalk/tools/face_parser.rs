//! Which pixels of a picture are skin, nose, lips, hair or neck: upstream's face parsing, which an avatar's mask may be made of.
//!
//! In here: the network as upstream runs it. Not in here: which part of a frame it sees, and the mask that is made of what it
//! finds (`preparation`). Runs on: the thread that calls.

use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor, nn};

use crate::models::Checkpoint;
use crate::models::catalog::{FACE_PARSER, FACE_PARSER_WEIGHTS};
use crate::musetalk::Result;
use crate::musetalk::network::bisenet::{BiSeNet, COUNTS, TRAINING};
use crate::musetalk::network::layers::{blank, channels_last};
use crate::musetalk::weights::{Mapping, load_checkpoint};
use crate::picture::RgbPicture;
use crate::picture::pillow::{Filter, scaled};

/// ImageNet's mean and deviation of red, green and blue.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// The network with its weights.
#[derive(Debug)]
pub struct FaceParser {
    network: BiSeNet,
    device: Device,
}

impl FaceParser {
    /// Rows and columns of what it finds.
    pub const SIDE: usize = 512;

    /// Where its weights are, in the folder of all models: where upstream's own download puts them.
    pub fn path(models: &Path) -> PathBuf {
        models.join(FACE_PARSER).join(FACE_PARSER_WEIGHTS)
    }

    /// Reads the weights of a file of any dialect, all of which must fit; in 32-bit floats, as upstream runs it.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        let mut store = nn::VarStore::new(device);
        let network = blank(|| BiSeNet::new(&store.root()))?;
        let mapping =
            Mapping { ignored: &TRAINING, ignored_ends: &[COUNTS], channels_last: true, ..Mapping::default() };
        load_checkpoint(&store, &Checkpoint::open(path)?, mapping)?;
        store.freeze();
        Ok(Self { network, device })
    }

    /// The class of each pixel of the picture, scaled to [`FaceParser::SIDE`] each way, rows from the top: 0 background, 1 skin,
    /// 2 and 3 brows, 4 and 5 eyes, 6 glasses, 7 and 8 ears, 9 an earring, 10 the nose, 11 the mouth's inside, 12 and 13 the
    /// lips, 14 the neck, 15 a necklace, 16 clothes, 17 hair, 18 a hat.
    pub fn classes(&self, picture: &RgbPicture) -> Result<Vec<u8>> {
        let _no_grad = tch::no_grad_guard();
        let size = [picture.width, picture.height].map(|length| usize::try_from(length).unwrap_or(0));
        let pixels = scaled(picture.rgb.as_chunks::<3>().0, size, [Self::SIDE; 2], Filter::Bilinear);
        let side = i64::try_from(Self::SIDE).unwrap_or(0);
        let levels = Tensor::f_from_slice(pixels.as_flattened())?.f_view([1, side, side, 3])?;
        let levels = levels.f_to_device(self.device)?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
        let of_colours = |numbers: &[f32]| -> Result<Tensor> { Ok(Tensor::f_from_slice(numbers)?.f_to(self.device)?) };
        let normalised = levels.f_sub(&of_colours(&MEAN)?)?.f_div(&of_colours(&DEVIATION)?)?;
        let seen = self.network.forward(&channels_last(&normalised.f_permute([0, 3, 1, 2])?)?)?;
        let classes = seen.f_argmax(1, false)?.f_to_kind(Kind::Uint8)?.f_to_device(Device::Cpu)?;
        Ok(Vec::<u8>::try_from(classes.f_contiguous()?.f_view([-1])?)?)
    }
}
