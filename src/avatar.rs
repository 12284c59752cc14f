//! An avatar's prepared material: its manifest, its own frames, where the mouth goes and through which mask.
//!
//! In here: loading and validating one folder into memory. Not in here: libtorch (the latents are only pointed to),
//! pasting (`compose`), preparing an avatar (`preparation`).
//! Runs on: whoever loads it, at start-up; afterwards it is read-only and shared.

pub mod archive;
pub mod check;
pub mod cycle;
pub mod draft;
pub mod files;
pub mod film;
pub mod manifest;
mod material;
pub mod mesh_file;
pub mod own_frames;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::picture::{AvatarFrame, CropBox, Cutout, I420Frame, Mask, Region, color, matte, png};
use crate::still::Still;

use film::Film;
use manifest::Kind;

pub use cycle::{Cycle, CycleKind};
pub use manifest::Manifest;
pub use material::{Material, OwnFrame, Photo};
pub use own_frames::{FrameMakers, FrameThreads, OwnFrames};
pub use store::AvatarStore;

/// The model family that needs no weights of its own, and knows of an avatar what [`files::PORTRAIT`] holds.
pub const PORTRAIT_MODEL: &str = "portrait";
/// Frames of one avatar are kept in memory; this bounds what a folder may ask for (1000 frames of 512x512 are 400 MB).
const MAX_FRAMES: usize = 3000;

/// An avatar in memory.
#[derive(Clone, Debug)]
pub struct Avatar {
    /// Its `avatar.toml`.
    pub manifest: Manifest,
    /// The folder that it was read from.
    pub folder: PathBuf,
    /// Its own frames, or what they are made of.
    pub material: Material,
    /// What stands while no other frame is ready: the first of its own.
    pub base: Arc<I420Frame>,
    /// Through which mouths are pasted, the same for all frames.
    pub mask: Mask,
    /// In which order the frames follow each other for ever.
    pub cycle: Cycle,
    /// What its model knows of it: `latents.safetensors` or `portrait.safetensors`, read by the engine.
    pub latents: PathBuf,
}

/// Why an avatar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AvatarError {
    /// There is no avatar of this id.
    #[error("avatar {id:?} does not exist in {folder}; there is: {available}")]
    Unknown {
        /// The id that was asked for.
        id: String,
        /// The folder that is meant.
        folder: String,
        /// The ids that there are.
        available: String,
    },
    /// It was prepared for a model that is not there.
    #[error(
        "avatar {id:?} needs model {model}, which is not in {folder}: `mouthpiece models list` says what is and can be"
    )]
    NoModel {
        /// The id that was asked for.
        id: String,
        /// The model that the avatar was prepared for.
        model: String,
        /// The folder of models.
        folder: String,
    },
    /// The id is none.
    #[error(transparent)]
    InvalidId(#[from] crate::ids::InvalidAvatarId),
    /// A file of the avatar's folder is missing or wrong.
    #[error("{path}: {problem}")]
    BadFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl AvatarError {
    pub(crate) fn file(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::BadFile { path: path.display().to_string(), problem: problem.to_string() }
    }
}

impl Avatar {
    /// Reads a prepared folder: `avatar.toml`, `mask.png`, what its kind of material is made of ([`files`]), and its model's
    /// file.
    pub fn load(folder: &Path) -> Result<Self, AvatarError> {
        let manifest = Manifest::load(&folder.join(files::MANIFEST))?;
        let mask = load_mask(&folder.join(files::MASK))?;
        let (material, base) = match manifest.kind {
            Kind::Drawn => load_drawn(folder, &manifest, &mask)?,
            Kind::Clip => {
                let film = Film::open(folder, &manifest)?;
                let base = Arc::new(film.picture(0)?);
                (Material::Film(Arc::new(film)), base)
            }
            Kind::Photo => {
                let photo = load_photo(folder, &manifest, &mask)?;
                let base = photo.base();
                (Material::Photo(Arc::new(photo)), base)
            }
        };
        let latents = folder.join(if manifest.model == PORTRAIT_MODEL { files::PORTRAIT } else { files::LATENTS });
        if !latents.is_file() {
            return Err(AvatarError::file(&latents, "is missing; prepare the avatar again"));
        }
        let frames = match &material {
            Material::Frames(frames) => frames.len(),
            Material::Film(film) => film.len(),
            Material::Photo(_) => 1,
        };
        let cycle = Cycle::new(manifest.cycle, manifest.idle_frames(frames));
        Ok(Self { manifest, folder: folder.to_owned(), material, base, mask, cycle, latents })
    }

    /// Its own frames, if they are all in memory.
    pub fn frames(&self) -> &[AvatarFrame] {
        match &self.material {
            Material::Frames(frames) => frames,
            Material::Film(_) | Material::Photo(_) => &[],
        }
    }

    /// How many own frames its material has; 1 if it is a photo.
    pub fn frame_count(&self) -> usize {
        match &self.material {
            Material::Frames(frames) => frames.len(),
            Material::Film(film) => film.len(),
            Material::Photo(_) => 1,
        }
    }

    /// One of its own frames, in which a mouth is drawn: decoded if it has to be, which takes milliseconds. A photo is the one
    /// before it is turned.
    pub fn canvas(&self, index: usize) -> Result<AvatarFrame, AvatarError> {
        match &self.material {
            Material::Frames(frames) => frames.get(index).cloned().ok_or_else(|| self.no_frame(index)),
            Material::Film(film) => film.frame(index),
            Material::Photo(photo) => Ok(photo.frame.clone()),
        }
    }

    /// The pixels around the mouth of one of its own frames, decoded if they have to be.
    pub fn region(&self, index: usize) -> Result<Region, AvatarError> {
        match &self.material {
            Material::Frames(frames) => Ok(frames.get(index).ok_or_else(|| self.no_frame(index))?.region.clone()),
            Material::Film(film) => film.region(index),
            Material::Photo(photo) => Ok(photo.frame.region.clone()),
        }
    }

    /// Where a generated crop belongs in one of its own frames.
    pub fn crop(&self, index: usize) -> Result<CropBox, AvatarError> {
        match &self.material {
            Material::Frames(frames) => Ok(frames.get(index).ok_or_else(|| self.no_frame(index))?.crop),
            Material::Film(film) => film.crop(index).ok_or_else(|| self.no_frame(index)),
            Material::Photo(photo) => Ok(photo.frame.crop),
        }
    }

    fn no_frame(&self, index: usize) -> AvatarError {
        AvatarError::file(&self.folder, format!("frame {index} was asked for, there are {}", self.frame_count()))
    }
}

/// A drawn avatar: every frame is a file, and all are kept in memory.
fn load_drawn(folder: &Path, manifest: &Manifest, mask: &Mask) -> Result<(Material, Arc<I420Frame>), AvatarError> {
    let path = folder.join(files::BOXES);
    let boxes = load_boxes(&path)?;
    let mut frames = Vec::with_capacity(boxes.len());
    for (index, crop) in boxes.iter().enumerate() {
        frames.push(load_frame(&folder.join(files::picture(index)), manifest, *crop, mask)?);
    }
    let base = frames.first().map(|frame| Arc::clone(&frame.picture));
    let base = base.ok_or_else(|| AvatarError::file(&path, "has no boxes"))?;
    Ok((Material::Frames(frames), base))
}

/// A photo and the face in it.
fn load_photo(folder: &Path, manifest: &Manifest, mask: &Mask) -> Result<Photo, AvatarError> {
    let path = folder.join(files::SOURCE);
    let Cutout { picture, matte } = load_picture(&path, manifest)?;
    let wanted = (manifest.width, manifest.height);
    let mesh_path = folder.join(files::MESH);
    let (mesh, crop) = mesh_file::read(&mesh_path)?;
    let still = Still::new(&picture, &mesh).map_err(|error| AvatarError::file(&mesh_path, error))?;
    let region = mask_region(&picture.rgb, wanted, crop, mask)
        .ok_or_else(|| AvatarError::file(&mesh_path, format!("its mouth box {crop:?} lies outside the photo")))?;
    let frame = AvatarFrame { picture: Arc::clone(still.base()), crop, region };
    Ok(Photo { still, frame, matte })
}

fn load_boxes(path: &Path) -> Result<Vec<CropBox>, AvatarError> {
    let text = std::fs::read(path).map_err(|error| AvatarError::file(path, error))?;
    let boxes: Vec<CropBox> = serde_json::from_slice(&text).map_err(|error| AvatarError::file(path, error))?;
    if boxes.is_empty() || boxes.len() > MAX_FRAMES {
        return Err(AvatarError::file(path, format!("has {} boxes, must have 1 to {MAX_FRAMES}", boxes.len())));
    }
    for (index, crop) in boxes.iter().enumerate() {
        if !(1..=4096).contains(&crop.width) || !(1..=4096).contains(&crop.height) {
            return Err(AvatarError::file(path, format!("box {index} is {}x{}", crop.width, crop.height)));
        }
    }
    Ok(boxes)
}

fn load_mask(path: &Path) -> Result<Mask, AvatarError> {
    let mask = png::read_mask(path).map_err(|error| AvatarError::file(path, error))?;
    if mask.bounds().is_none() {
        return Err(AvatarError::file(path, "is all black, so no mouth would ever be pasted"));
    }
    Ok(mask)
}

fn load_frame(path: &Path, manifest: &Manifest, crop: CropBox, mask: &Mask) -> Result<AvatarFrame, AvatarError> {
    let Cutout { picture, matte } = load_picture(path, manifest)?;
    let wanted = (manifest.width, manifest.height);
    let region = mask_region(&picture.rgb, wanted, crop, mask)
        .ok_or_else(|| AvatarError::file(path, format!("its mouth box {crop:?} lies outside the frame")))?;
    let colours = color::rgb_to_i420(&picture.rgb, wanted.0, wanted.1);
    let picture = Arc::new(match &matte {
        Some(matte) => matte::framed(&colours, matte),
        None => colours,
    });
    Ok(AvatarFrame { picture, crop, region })
}

/// A picture of the manifest's size, with the alpha channel that it must have if the avatar is cut out.
fn load_picture(path: &Path, manifest: &Manifest) -> Result<Cutout, AvatarError> {
    let read = if manifest.matte.is_some() { png::read_cutout(path) } else { png::read_rgb(path).map(Cutout::from) };
    let cutout = read.map_err(|error| AvatarError::file(path, error))?;
    let size = (cutout.picture.width, cutout.picture.height);
    let wanted = (manifest.width, manifest.height);
    if size != wanted {
        let problem = format!("is {}x{}, but avatar.toml says {}x{}", size.0, size.1, wanted.0, wanted.1);
        return Err(AvatarError::file(path, problem));
    }
    Ok(cutout)
}

/// The part of the frame under the mask's opaque pixels, grown to even coordinates and cut at the frame's edge.
fn mask_region(rgb: &[u8], frame: (u32, u32), crop: CropBox, mask: &Mask) -> Option<Region> {
    let bounds = mask.bounds()?;
    // The mask is laid over the crop's box, whatever the size of either.
    let place = |at: u32, origin: i32, length: u32, mask_length: u32, end: u32| {
        let position = i64::from(origin) + i64::from(at) * i64::from(length) / i64::from(mask_length);
        u32::try_from(position.clamp(0, i64::from(end))).unwrap_or(end)
    };
    let across = |at| place(at, crop.x, crop.width, mask.width, frame.0);
    let down = |at| place(at, crop.y, crop.height, mask.height, frame.1);
    let (x, y) = (across(bounds.left) & !1, down(bounds.top) & !1);
    let (end_x, end_y) = ((across(bounds.right) + 1) & !1, (down(bounds.bottom) + 1) & !1);
    if end_x <= x || end_y <= y {
        return None;
    }
    let (width, height) = (end_x - x, end_y - y);
    let mut part = Vec::with_capacity((width * height * 3) as usize);
    for row in y..end_y {
        let start = ((row * frame.0 + x) * 3) as usize;
        part.extend_from_slice(&rgb[start..start + (width * 3) as usize]);
    }
    Some(Region { x, y, width, height, rgb: part })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit;

    #[test]
    fn a_prepared_folder_loads_with_even_regions_under_the_mask() {
        let avatar = kit::avatar::tiny();
        assert_eq!(avatar.frame_count(), 4);
        let region = avatar.region(0).unwrap();
        assert_eq!((region.x, region.y, region.width, region.height), (20, 28, 22, 16));
        assert_eq!(&region.rgb[..3], &[0, 80, 112]);
        assert_eq!(avatar.cycle.frame(6), 2);
        assert_ne!(avatar.crop(0).unwrap(), avatar.crop(1).unwrap());
        assert!(avatar.region(4).unwrap_err().to_string().contains("there are 4"));
    }

    #[test]
    fn a_frame_of_another_size_is_named() {
        let folder = tempfile::tempdir().unwrap();
        kit::avatar::write(folder.path());
        png::write_rgb(&folder.path().join("frames/0002.png"), 16, 32, &[0; 16 * 32 * 3]).unwrap();
        let error = Avatar::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("0002.png") && error.contains("16x32") && error.contains("64x64"), "{error}");
    }

    #[test]
    fn a_drawn_avatar_with_a_matte_has_it_beside_the_same_colours() {
        let folder = tempfile::tempdir().unwrap();
        kit::avatar::write(folder.path());
        let opaque = Avatar::load(folder.path()).unwrap();
        kit::avatar::give_matte(folder.path());
        let avatar = Avatar::load(folder.path()).unwrap();
        assert_eq!(avatar.manifest.frame_size(), (128, 64));
        for (own, colours) in avatar.frames().iter().zip(opaque.frames()) {
            let [left, right] = matte::parted(&own.picture, (64, 64));
            assert_eq!(left, *colours.picture);
            assert_eq!((own.crop, &own.region), (colours.crop, &colours.region));
            assert_eq!((right.data[0], right.data[32 * 64 + 32]), (16, 235));
        }
        let path = folder.path().join("frames/0001.png");
        png::write_rgb(&path, 64, 64, &[0; 64 * 64 * 3]).unwrap();
        let error = Avatar::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("0001.png") && error.contains("no alpha channel"), "{error}");
    }

    #[test]
    fn every_missing_file_is_named() {
        for name in ["avatar.toml", "boxes.json", "mask.png", "latents.safetensors", "frames/0003.png"] {
            let folder = tempfile::tempdir().unwrap();
            kit::avatar::write(folder.path());
            std::fs::remove_file(folder.path().join(name)).unwrap();
            let error = Avatar::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn a_mask_that_pastes_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        kit::avatar::write(folder.path());
        png::write_grey(&folder.path().join("mask.png"), 16, 16, &[0; 16 * 16]).unwrap();
        assert!(Avatar::load(folder.path()).unwrap_err().to_string().contains("mask.png"));
    }
}
