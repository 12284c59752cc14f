//! The picture that shows what was found for an avatar that was made: the mesh, and what its mouth may change.
//!
//! Taken from the avatar's own files, so that it shows what will be used.

use std::path::Path;

use crate::avatar::film::Film;
use crate::avatar::manifest::Kind;
use crate::avatar::{Manifest, files, mesh_file};
use crate::face::{self, Face, FaceFinder, overlay};
use crate::picture::{CropBox, Cutout, Mask, RgbPicture, color, matte, png};

/// Of what the mask lets change, and how strongly.
const CHANGES: [u8; 3] = [96, 165, 255];
const STRENGTH: u32 = 90;
/// Pixels of a square's side.
const SQUARE: u32 = 16;

/// The picture of the avatar in this folder; an error is for the log.
pub(super) fn picture(folder: &Path, models: &Path) -> Result<RgbPicture, String> {
    let manifest = Manifest::load(&folder.join(files::MANIFEST)).map_err(text)?;
    let mask = png::read_mask(&folder.join(files::MASK)).map_err(text)?;
    if manifest.kind == Kind::Clip {
        let film = Film::open(folder, &manifest).map_err(text)?;
        let frame = film.picture(0).map_err(text)?;
        let mut picture = match manifest.matte {
            Some(_) => over_checks(&matte::cutout(&frame, (manifest.width, manifest.height))),
            None => color::i420_to_rgb(&frame),
        };
        let mut finder = FaceFinder::load(&models.join(face::FOLDER)).map_err(text)?;
        let faces = finder.find(&picture).map_err(text)?;
        let crop = film.crop(0).ok_or("it has no frames")?;
        // Of several, the one whose mouth it is.
        let middle = [crop.x as f32 + crop.width as f32 / 2.0, crop.y as f32 + crop.height as f32 / 2.0];
        let distance = |face: &Face| {
            let [x, y] = face.mesh.bounds().centre();
            (x - middle[0]).hypot(y - middle[1])
        };
        let nearest = (0..faces.len()).min_by(|a, b| match (faces.get(*a), faces.get(*b)) {
            (Some(a), Some(b)) => distance(a).total_cmp(&distance(b)),
            _ => std::cmp::Ordering::Equal,
        });
        tint(&mut picture, crop, &mask);
        return Ok(overlay(&picture, &faces, nearest));
    }
    let source = folder.join(files::SOURCE);
    let mut picture = match manifest.matte {
        Some(_) => over_checks(&png::read_cutout(&source).map_err(text)?),
        None => png::read_rgb(&source).map_err(text)?,
    };
    let (mesh, crop) = mesh_file::read(&folder.join(files::MESH)).map_err(text)?;
    tint(&mut picture, crop, &mask);
    let face = Face { score: 1.0, bounds: mesh.bounds(), mesh };
    Ok(overlay(&picture, &[face], Some(0)))
}

/// With what is transparent as light and dark squares.
fn over_checks(cutout: &Cutout) -> RgbPicture {
    let (picture, Some(matte)) = (&cutout.picture, &cutout.matte) else { return cutout.picture.clone() };
    let squares = (0_u32..).map(|at| {
        let (x, y) = (at % picture.width.max(1), at / picture.width.max(1));
        if (x / SQUARE + y / SQUARE).is_multiple_of(2) { 225 } else { 185 }
    });
    let pixels = picture.rgb.as_chunks::<3>().0.iter().zip(&matte.alpha).zip(squares);
    let seen = pixels.flat_map(|((rgb, alpha), square): (_, u32)| {
        let part = u32::from(*alpha);
        rgb.map(|own| u8::try_from((u32::from(own) * part + square * (255 - part) + 127) / 255).unwrap_or(u8::MAX))
    });
    RgbPicture { rgb: seen.collect(), ..*picture }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Colours what the mask lets change.
fn tint(picture: &mut RgbPicture, crop: CropBox, mask: &Mask) {
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    for down in 0..crop.height {
        for across in 0..crop.width {
            let (x, y) = (i64::from(crop.x) + i64::from(across), i64::from(crop.y) + i64::from(down));
            if !(0..width).contains(&x) || !(0..height).contains(&y) {
                continue;
            }
            // The mask is laid over the crop, whatever the size of either.
            let scaled = |at: u32, length: u32, of: u32| u64::from(at) * u64::from(of) / u64::from(length.max(1));
            let place =
                scaled(down, crop.height, mask.height) * u64::from(mask.width) + scaled(across, crop.width, mask.width);
            let alpha = usize::try_from(place).ok().and_then(|place| mask.alpha.get(place)).copied().unwrap_or(0);
            let share = u32::from(alpha) * STRENGTH / 255;
            let start = usize::try_from((y * width + x) * 3).unwrap_or(usize::MAX);
            let pixel = picture.rgb.get_mut(start..).and_then(|rest| rest.get_mut(..3)).unwrap_or_default();
            for (level, ink) in pixel.iter_mut().zip(CHANGES) {
                let mixed = (u32::from(*level) * (255 - share) + u32::from(ink) * share) / 255;
                *level = u8::try_from(mixed).unwrap_or(u8::MAX);
            }
        }
    }
}
