//! Writes a film frame by frame, as the frames come: memory grows by some bytes a frame only.
//!
//! Runs on: whoever prepares an avatar; a frame of 1080p takes a core for some 12 ms.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{FRAMES, INDEX, MOST_FRAMES, REGIONS, index, region_of};
use crate::avatar::AvatarError;
use crate::picture::jpeg::{self, Chroma};
use crate::picture::{CropBox, Cutout, Mask, RgbPicture, matte};

/// Of whole frames: hardly to be told from the source, and about a bit a pixel.
const FRAME_QUALITY: u8 = 93;
/// Of regions, from which mouths are drawn: what is lost here would be lost twice.
const REGION_QUALITY: u8 = 96;

/// A film that is being written.
#[derive(Debug)]
pub struct FilmWriter {
    folder: PathBuf,
    width: u32,
    height: u32,
    frames: Out,
    regions: Out,
    crops: Vec<CropBox>,
    /// Whether its frames have mattes, as the first says.
    matte: bool,
}

impl FilmWriter {
    /// Begins a film of frames of this size in a folder, which is there.
    pub fn create(folder: &Path, width: u32, height: u32) -> Result<Self, AvatarError> {
        let (frames, regions) = (Out::create(folder.join(FRAMES))?, Out::create(folder.join(REGIONS))?);
        Ok(Self { folder: folder.to_owned(), width, height, frames, regions, crops: Vec::new(), matte: false })
    }

    /// Adds a frame, with its matte if those of this film have one, and where the generated crop belongs in it: partly in the frame at least, and at most 4096 pixels a side
    /// and away.
    pub fn push(&mut self, cutout: &Cutout, crop: CropBox) -> Result<(), AvatarError> {
        let picture = &cutout.picture;
        let number = self.crops.len();
        let wrong = |problem: String| AvatarError::file(&self.frames.path, format!("frame {number} {problem}"));
        if (picture.width, picture.height) != (self.width, self.height) {
            let (width, height) = (picture.width, picture.height);
            return Err(wrong(format!("is {width}x{height}, must be {}x{}", self.width, self.height)));
        }
        let matte = cutout.matte.as_ref();
        if number == 0 {
            self.matte = matte.is_some();
        }
        let fits = |matte: &Mask| (matte.width, matte.height) == (self.width, self.height);
        if self.matte != matte.is_some() || !matte.is_none_or(fits) {
            return Err(wrong("must have a matte of its own size if the first has, and none otherwise".to_owned()));
        }
        if number == MOST_FRAMES {
            return Err(wrong(format!("is one too many, the most are {MOST_FRAMES}")));
        }
        let beside = || wrong(format!("has its mouth in {crop:?}, which lies outside it"));
        let place = region_of(crop, (self.width, self.height)).filter(|_| index::is_near(crop)).ok_or_else(beside)?;
        let mut rgb = Vec::with_capacity(place.width as usize * place.height as usize * 3);
        let rows = picture.rgb.chunks_exact(self.width as usize * 3);
        let across = place.x as usize * 3..(place.x + place.width) as usize * 3;
        for row in rows.skip(place.y as usize).take(place.height as usize) {
            rgb.extend_from_slice(row.get(across.clone()).unwrap_or_default());
        }
        let region = RgbPicture { width: place.width, height: place.height, rgb };
        self.frames.write(&matte::framed_rgb(cutout), FRAME_QUALITY, Chroma::Quarter)?;
        self.regions.write(&region, REGION_QUALITY, Chroma::Full)?;
        self.crops.push(crop);
        Ok(())
    }

    /// Writes the index and gives the number of frames. An unfinished film cannot be opened.
    pub fn finish(self) -> Result<usize, AvatarError> {
        let path = self.folder.join(INDEX);
        if self.crops.is_empty() {
            return Err(AvatarError::file(&path, "would have no frame"));
        }
        let ends = [self.frames.finish()?, self.regions.finish()?];
        index::write(&path, &ends, &self.crops)?;
        Ok(self.crops.len())
    }
}

/// One of the two files of pictures.
#[derive(Debug)]
struct Out {
    path: PathBuf,
    file: BufWriter<File>,
    /// Where each picture ends.
    ends: Vec<u64>,
}

impl Out {
    fn create(path: PathBuf) -> Result<Self, AvatarError> {
        let file = File::create(&path).map_err(|error| AvatarError::file(&path, error))?;
        Ok(Self { path, file: BufWriter::new(file), ends: Vec::new() })
    }

    fn write(&mut self, picture: &RgbPicture, quality: u8, chroma: Chroma) -> Result<(), AvatarError> {
        let bytes = jpeg::write_rgb(picture, quality, chroma).map_err(|error| AvatarError::file(&self.path, error))?;
        self.file.write_all(&bytes).map_err(|error| AvatarError::file(&self.path, error))?;
        self.ends.push(self.ends.last().copied().unwrap_or_default() + bytes.len() as u64);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u64>, AvatarError> {
        self.file.flush().map_err(|error| AvatarError::file(&self.path, error))?;
        Ok(self.ends)
    }
}
