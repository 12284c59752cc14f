//! [`Portrait`]: the [`LipSync`] of portraits, which the engine runs.
//!
//! In here: the avatars that it knows, and from runs of frames to pictures. Of a still all that does not change is made
//! when it is added; of a clip each frame's is made when it is drawn. Never panics: everything that libtorch refuses comes
//! back as an error.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::Result;
use super::analysis::Analysis;
use super::field::{Field, Grid, Reach};
use super::file::PortraitFile;
use super::hearing::Hearing;
use super::inside::{Ground, Mouths, Paint, to_bytes};
use super::plate::{Complexion, MouthPlate};
use super::shape::{Articulation, Deformation};
use super::tensors::{Face, Held};
use crate::avatar::Avatar;
use crate::lipsync::{AvatarAssets, AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use crate::picture::{CropBox, MouthFrame, Region};

/// The model that hears mouths, and the avatars that it draws them for.
#[derive(Debug)]
pub struct Portrait {
    hearing: Hearing,
    avatars: BTreeMap<usize, Sitter>,
    next: usize,
}

/// What is drawn: an avatar's own frames and the mouths in them. An error says what is wrong.
pub(super) trait Frames {
    /// How many there are.
    fn count(&self) -> usize;
    /// The mouth of one.
    fn plate(&self, frame: usize) -> std::result::Result<MouthPlate, String>;
    /// Where a generated crop belongs in it.
    fn crop(&self, frame: usize) -> std::result::Result<CropBox, String>;
    /// Its pixels there.
    fn region(&self, frame: usize) -> std::result::Result<Region, String>;
}

/// An avatar and its file of mouths.
struct Prepared {
    avatar: Arc<Avatar>,
    mouths: PortraitFile,
}

impl Frames for Prepared {
    fn count(&self) -> usize {
        self.mouths.frames()
    }

    fn plate(&self, frame: usize) -> std::result::Result<MouthPlate, String> {
        self.mouths.plate(frame)
    }

    fn crop(&self, frame: usize) -> std::result::Result<CropBox, String> {
        self.avatar.crop(frame).map_err(|error| error.to_string())
    }

    fn region(&self, frame: usize) -> std::result::Result<Region, String> {
        self.avatar.region(frame).map_err(|error| error.to_string())
    }
}

/// Pixels of crops that are drawn together on a CPU, where more of them together are no quicker and take more memory.
const MOST_PIXELS: usize = 400_000;

/// One avatar.
pub(super) struct Sitter {
    /// Its file of mouths, for messages.
    path: String,
    frames: Box<dyn Frames>,
    size: (u32, u32),
    grid: Grid,
    paint: Paint,
    device: Device,
    /// Of an avatar of one frame.
    still: Option<Scene>,
}

impl std::fmt::Debug for Sitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sitter").field("path", &self.path).field("frames", &self.frames.count()).finish_non_exhaustive()
    }
}

/// What is to be drawn of one avatar: which frames, held how, and of which run each is.
#[derive(Debug, Default)]
struct Wanted {
    frames: Vec<usize>,
    held: Vec<Articulation>,
    runs: Vec<usize>,
}

/// What of some frames does not depend on what is said.
struct Scene {
    plates: Vec<MouthPlate>,
    face: Face,
    field: Field,
    ground: Ground,
    /// The crops at rest, `[frames, 3, height, width]`, 0 to 255.
    pictures: Tensor,
}

impl Sitter {
    /// An avatar with a mouth in each frame; `path` is what errors call it.
    pub(super) fn new(path: &Path, frames: Box<dyn Frames>, complexion: &Complexion, device: Device) -> Result<Self> {
        let path = path.display().to_string();
        let wrong = |problem: String| LipSyncError::Latents { path: path.clone(), problem };
        let (first, crop) = (frames.plate(0).map_err(wrong)?, frames.crop(0).map_err(wrong)?);
        let size = (crop.width, crop.height);
        let mut reach = Reach::default();
        for frame in 0..frames.count() {
            let crop = frames.crop(frame).map_err(wrong)?;
            if (crop.width, crop.height) != size || crop.width < 16 || crop.height < 16 {
                return Err(wrong("its boxes must be of one size, at least 16 pixels a side".to_owned()));
            }
            reach.add(&frames.plate(frame).map_err(wrong)?, crop);
        }
        let grid = Grid::new(size, first.scale, &reach, device)?;
        let paint = Paint::new(complexion, first.scale, first.half, device)?;
        let mut sitter = Self { path, frames, size, grid, paint, device, still: None };
        if sitter.frames.count() == 1 {
            sitter.still = Some(sitter.scene(&[0])?);
        }
        Ok(sitter)
    }

    fn scene(&self, frames: &[usize]) -> Result<Scene> {
        let wrong = |problem: String| LipSyncError::Latents { path: self.path.clone(), problem };
        let (mut plates, mut crops, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for frame in frames {
            let crop = self.frames.crop(*frame).map_err(wrong)?;
            plates.push(self.frames.plate(*frame).map_err(wrong)?);
            append_crop(&mut bytes, &self.frames.region(*frame).map_err(wrong)?, &crop);
            crops.push(crop);
        }
        let places: Vec<(&MouthPlate, CropBox)> = plates.iter().zip(crops).collect();
        let face = Face::new(&places, self.device)?;
        let field = Field::new(&self.grid, &face)?;
        let ground = Ground::new(&self.grid, &face, &self.paint)?;
        let pictures = Tensor::f_from_slice(&bytes)?.f_to_device(self.device)?;
        let pictures = pictures.f_view([-1, self.grid.height, self.grid.width, 3])?.f_permute([0, 3, 1, 2])?;
        Ok(Scene { face, field, ground, pictures: pictures.f_to_kind(Kind::Float)?.f_contiguous()?, plates })
    }

    /// The crops of its frames with mouths held so.
    pub(super) fn draw(&self, frames: &[usize], held: &[Articulation]) -> Result<Vec<MouthFrame>> {
        let pixels = self.size.0 as usize * self.size.1 as usize;
        let most = if self.device.is_cuda() { frames.len() } else { MOST_PIXELS / pixels.max(1) };
        let mut drawn = Vec::with_capacity(frames.len());
        for (frames, held) in frames.chunks(most.max(1)).zip(held.chunks(most.max(1))) {
            drawn.extend(self.draw_together(frames, held)?);
        }
        Ok(drawn)
    }

    fn draw_together(&self, frames: &[usize], held: &[Articulation]) -> Result<Vec<MouthFrame>> {
        let made;
        let scene = match &self.still {
            _ if frames.is_empty() => return Ok(Vec::new()),
            Some(still) => still,
            None => {
                made = self.scene(frames)?;
                &made
            }
        };
        // A still has one plate for all.
        let plates = scene.plates.iter().cycle();
        let shape = |(held, plate)| Deformation::new(held, plate, self.paint.own_teeth);
        let shapes: Vec<Deformation> = held.iter().zip(plates).map(shape).collect();
        let held = Held::new(&shapes, self.device)?;
        let count = i64::try_from(shapes.len()).unwrap_or(0);
        let pictures = scene.pictures.f_expand([count, -1, -1, -1], false)?;
        let sources = scene.field.sources(&self.grid, &scene.face, &held)?;
        let mouths =
            Mouths { grid: &self.grid, face: &scene.face, ground: &scene.ground, paint: &self.paint, held: &held };
        let bytes = to_bytes(&mouths.draw(&pictures, &sources)?)?.f_to_device(Device::Cpu)?;
        let (width, height) = self.size;
        let length = width as usize * height as usize * 3;
        (0..count)
            .map(|at| {
                let mut rgb = vec![0; length];
                bytes.f_get(at)?.f_copy_data_u8(&mut rgb, length)?;
                Ok(MouthFrame { width, height, rgb })
            })
            .collect()
    }
}

/// A frame of its own, for what is drawn once.
struct Single {
    plate: MouthPlate,
    crop: CropBox,
    region: Region,
}

impl Frames for Single {
    fn count(&self) -> usize {
        1
    }

    fn plate(&self, _: usize) -> std::result::Result<MouthPlate, String> {
        Ok(self.plate.clone())
    }

    fn crop(&self, _: usize) -> std::result::Result<CropBox, String> {
        Ok(self.crop)
    }

    fn region(&self, _: usize) -> std::result::Result<Region, String> {
        Ok(self.region.clone())
    }
}

/// Draws the mouth of one picture, held in each of these ways, without a model and on the CPU: to show what an avatar would
/// look like, or to close a mouth that is open. `region` has the picture's pixels about `crop`.
pub fn draw_once(found: &Analysis, crop: CropBox, region: Region, held: &[Articulation]) -> Result<Vec<MouthFrame>> {
    let _no_grad = tch::no_grad_guard();
    let frame = Box::new(Single { plate: found.plate.clone(), crop, region });
    let sitter = Sitter::new(Path::new("the picture"), frame, &found.complexion, Device::Cpu)?;
    sitter.draw(&vec![0; held.len()], held)
}

/// The pixels of a crop from those of a region of the same frame; where the region does not reach, its edge goes on.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the region")]
fn append_crop(bytes: &mut Vec<u8>, region: &Region, crop: &CropBox) {
    let inside =
        |at: i64, start: u32, length: u32| (at - i64::from(start)).clamp(0, i64::from(length.max(1)) - 1) as usize;
    for y in 0..i64::from(crop.height) {
        let row = inside(i64::from(crop.y) + y, region.y, region.height) * region.width as usize;
        for x in 0..i64::from(crop.width) {
            let start = (row + inside(i64::from(crop.x) + x, region.x, region.width)) * 3;
            bytes.extend_from_slice(region.rgb.get(start..start + 3).unwrap_or(&[0; 3]));
        }
    }
}

impl Portrait {
    /// Loads `config.json` and `model.safetensors` of a model's folder. `threads` is libtorch's, for this process.
    pub fn load(folder: &Path, device: Device, threads: i32) -> Result<Self> {
        tch::set_num_threads(threads.max(1));
        Ok(Self { hearing: Hearing::load(folder, device)?, avatars: BTreeMap::new(), next: 0 })
    }

    /// How mouths are held in each frame of runs, run after run: what [`LipSync::draw`] draws.
    pub fn hear(&mut self, runs: &[MouthRun]) -> Result<Vec<Articulation>> {
        let _no_grad = tch::no_grad_guard();
        self.hearing.hear(runs)
    }

    fn sitter(&self, avatar: AvatarHandle) -> Result<&Sitter> {
        let missing = || LipSyncError::Latents { path: String::new(), problem: format!("avatar {} is gone", avatar.0) };
        self.avatars.get(&avatar.0).ok_or_else(missing)
    }

    fn add(&mut self, sitter: Sitter) -> AvatarHandle {
        let handle = self.next;
        self.next += 1;
        self.avatars.insert(handle, sitter);
        AvatarHandle(handle)
    }

    /// Draws runs; the frames of one avatar together, whichever runs they are of.
    fn draw_runs(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        let _no_grad = tch::no_grad_guard();
        let heard = self.hearing.hear(runs)?;
        let mut wanted: BTreeMap<usize, Wanted> = BTreeMap::new();
        let mut heard = heard.into_iter();
        for (index, run) in runs.iter().enumerate() {
            let of = wanted.entry(run.avatar.0).or_default();
            of.frames.extend_from_slice(&run.poses);
            of.held.extend(heard.by_ref().take(run.poses.len()));
            of.runs.extend(std::iter::repeat_n(index, run.poses.len()));
        }
        let mut drawn: Vec<Vec<Mouth>> = runs.iter().map(|run| Vec::with_capacity(run.poses.len())).collect();
        for (avatar, of) in wanted {
            let crops = self.sitter(AvatarHandle(avatar))?.draw(&of.frames, &of.held)?;
            for (crop, run) in crops.into_iter().zip(of.runs) {
                if let Some(mouths) = drawn.get_mut(run) {
                    mouths.push(Mouth::Crop(crop));
                }
            }
        }
        Ok(drawn)
    }
}

impl LipSync for Portrait {
    fn context_samples(&self) -> usize {
        self.hearing.context_samples()
    }

    fn add_avatar(&mut self, assets: &AvatarAssets) -> Result<AvatarHandle> {
        if let Some(folder) = &assets.decoder {
            let problem = format!("{}: a portrait has no decoder", folder.display());
            return Err(LipSyncError::Config { field: "decoder".to_owned(), problem });
        }
        let _no_grad = tch::no_grad_guard();
        let avatar = Arc::clone(&assets.avatar);
        let path = avatar.latents.clone();
        let wrong = |problem: String| LipSyncError::Latents { path: path.display().to_string(), problem };
        let mouths = PortraitFile::open(&path).map_err(|error| wrong(error.problem()))?;
        if mouths.frames() != avatar.frame_count() {
            let problem = format!("has mouths of {} frames, the avatar has {}", mouths.frames(), avatar.frame_count());
            return Err(wrong(problem));
        }
        let complexion = mouths.complexion;
        let frames = Box::new(Prepared { avatar, mouths });
        let sitter = Sitter::new(&path, frames, &complexion, self.hearing.device())?;
        Ok(self.add(sitter))
    }

    fn remove_avatar(&mut self, avatar: AvatarHandle) {
        self.avatars.remove(&avatar.0);
    }

    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        self.draw_runs(runs)
    }
}
