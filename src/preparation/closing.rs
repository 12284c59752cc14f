//! A mouth that is open or speaks in the source is shut in the avatar's own frames.
//!
//! In here: drawing it shut by the portrait's own means, and looking for the face anew, whose mesh has shut lips then.

use super::{PreparationError, Work};
use crate::face::Mesh;
use crate::picture::{CropBox, Region, RgbPicture};
use crate::portrait::shape::Articulation;
use crate::portrait::{self, draw_once, place};

/// The lips meet, lightly.
const SHUT: Articulation =
    Articulation { open: 0.0, wide: 0.0, round: 0.0, press: 0.6, bite: 0.0, tongue: 0.0, teeth: 0.0, rest: 0.0 };

/// The picture with the mouth of its face shut, and the mesh of that.
pub(super) fn shut(
    work: &mut Work<'_>,
    picture: &RgbPicture,
    mesh: &Mesh,
) -> Result<(RgbPicture, Mesh), PreparationError> {
    let found = portrait::analyse(picture, mesh)?;
    let crops = place::crops(std::slice::from_ref(&found.plate), picture.width, picture.height)?;
    let Some(crop) = crops.first().copied() else { return Ok((picture.clone(), mesh.clone())) };
    let mouths = draw_once(&found, crop, region(picture, crop), &[SHUT])
        .map_err(|error| PreparationError::Clip { file: work.request.file_name.clone(), problem: error.to_string() })?;
    let mut closed = picture.clone();
    if let Some(mouth) = mouths.first() {
        let alpha = place::mask(&crop).alpha;
        let pixels = mouth.rgb.as_chunks::<3>().0.iter().zip(&alpha);
        for (at, (new, alpha)) in (0_u32..).zip(pixels) {
            let (x, y) = (crop.x.unsigned_abs() + at % crop.width, crop.y.unsigned_abs() + at / crop.width);
            let start = (y as usize * picture.width as usize + x as usize) * 3;
            let Some(own) = closed.rgb.get_mut(start..start + 3) else { continue };
            own.iter_mut().zip(new).for_each(|(own, new)| *own = mixed(*own, *new, *alpha));
        }
    }
    let mesh = work.finder.follow(&closed, mesh)?.unwrap_or_else(|| mesh.clone());
    Ok((closed, mesh))
}

fn mixed(own: u8, new: u8, alpha: u8) -> u8 {
    let (own, new, alpha) = (u32::from(own), u32::from(new), u32::from(alpha));
    u8::try_from((new * alpha + own * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
}

/// A crop lies inside its picture.
fn region(picture: &RgbPicture, crop: CropBox) -> Region {
    let (x, y) = (crop.x.unsigned_abs(), crop.y.unsigned_abs());
    let part = super::framing::Part { x, y, width: crop.width, height: crop.height };
    Region { x, y, width: crop.width, height: crop.height, rgb: super::framing::cut(picture, part).rgb }
}
