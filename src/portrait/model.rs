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
use super::field::{Field, Grid};
use super::file::PortraitData;
use super::hearing::Hearing;
use super::inside::{Ground, Mouths, Paint, to_bytes};
use super::plate::MouthPlate;
use super::shape::{Articulation, Deformation};
use super::tensors::{Face, Held};
use crate::lipsync::{AvatarAssets, AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use crate::picture::{CropBox, MouthFrame, Region};

/// The model that hears mouths, and the avatars that it draws them for.
#[derive(Debug)]
pub struct Portrait {
    hearing: Hearing,
    avatars: BTreeMap<usize, Sitter>,
    next: usize,
}

/// Where an avatar's own pixels about the mouth come from.
pub(crate) type Regions = Arc<dyn Fn(usize) -> std::result::Result<Region, String>>;

/// One avatar.
pub(crate) struct Sitter {
    /// Its file of mouths, for messages.
    path: String,
    data: PortraitData,
    crops: Vec<CropBox>,
    regions: Regions,
    grid: Grid,
    paint: Paint,
    device: Device,
    /// Of an avatar of one frame.
    still: Option<Scene>,
}

impl std::fmt::Debug for Sitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sitter").field("path", &self.path).field("crops", &self.crops.len()).finish_non_exhaustive()
    }
}

/// What of some frames does not depend on what is said.
#[derive(Debug)]
struct Scene {
    face: Face,
    field: Field,
    ground: Ground,
    /// The crops at rest, `[frames, 3, height, width]`, 0 to 255.
    pictures: Tensor,
}

impl Sitter {
    /// An avatar with a mouth and a box for each frame; `path` is what errors call it.
    pub(crate) fn new(
        path: &Path,
        data: PortraitData,
        crops: Vec<CropBox>,
        regions: Regions,
        device: Device,
    ) -> Result<Self> {
        let path = path.display().to_string();
        let wrong = |problem: String| LipSyncError::Latents { path: path.clone(), problem };
        if data.plates.len() != crops.len() {
            return Err(wrong(format!("has mouths of {} frames, the avatar has {}", data.plates.len(), crops.len())));
        }
        let size = crops.first().map(|crop| (crop.width, crop.height));
        if crops.iter().any(|crop| Some((crop.width, crop.height)) != size || crop.width < 16 || crop.height < 16) {
            return Err(wrong("its boxes must be of one size, at least 16 pixels a side".to_owned()));
        }
        let places: Vec<(&MouthPlate, CropBox)> = data.plates.iter().zip(crops.iter().copied()).collect();
        let grid = Grid::new(&places, device)?.ok_or_else(|| wrong("has no frames".to_owned()))?;
        let paint = Paint::new(&data.complexion, device)?;
        let mut sitter = Self { path, data, crops, regions, grid, paint, device, still: None };
        if sitter.crops.len() == 1 {
            sitter.still = Some(sitter.scene(&[0])?);
        }
        Ok(sitter)
    }

    fn wrong(&self, problem: String) -> LipSyncError {
        LipSyncError::Latents { path: self.path.clone(), problem }
    }

    fn plate(&self, frame: usize) -> Result<(&MouthPlate, CropBox)> {
        let found = self.data.plates.get(frame).zip(self.crops.get(frame).copied());
        found.ok_or_else(|| self.wrong(format!("there is no frame {frame} among {}", self.crops.len())))
    }

    fn scene(&self, frames: &[usize]) -> Result<Scene> {
        let places = frames.iter().map(|frame| self.plate(*frame)).collect::<Result<Vec<_>>>()?;
        let face = Face::new(&places, self.device)?;
        let field = Field::new(&self.grid, &face)?;
        let ground = Ground::new(&self.grid, &face, &self.paint)?;
        let mut bytes = Vec::new();
        for (frame, (_, crop)) in frames.iter().zip(&places) {
            let region = (self.regions)(*frame).map_err(|problem| self.wrong(problem))?;
            append_crop(&mut bytes, &region, crop);
        }
        let pictures = Tensor::f_from_slice(&bytes)?.f_to_device(self.device)?;
        let pictures = pictures.f_view([-1, self.grid.height, self.grid.width, 3])?.f_permute([0, 3, 1, 2])?;
        Ok(Scene { face, field, ground, pictures: pictures.f_to_kind(Kind::Float)?.f_contiguous()? })
    }

    /// The crops of its frames with mouths held so.
    pub(crate) fn draw(&self, frames: &[usize], held: &[Articulation]) -> Result<Vec<MouthFrame>> {
        let plates = frames.iter().map(|frame| Ok(self.plate(*frame)?.0)).collect::<Result<Vec<_>>>()?;
        let shapes: Vec<Deformation> =
            held.iter().zip(plates).map(|(held, plate)| Deformation::new(held, plate)).collect();
        if shapes.is_empty() {
            return Ok(Vec::new());
        }
        let held = Held::new(&shapes, self.device)?;
        let made;
        let scene = match &self.still {
            Some(still) => still,
            None => {
                made = self.scene(frames)?;
                &made
            }
        };
        let count = i64::try_from(shapes.len()).unwrap_or(0);
        let pictures = scene.pictures.f_expand([count, -1, -1, -1], false)?;
        let sources = scene.field.sources(&self.grid, &scene.face, &held)?;
        let mouths =
            Mouths { grid: &self.grid, face: &scene.face, ground: &scene.ground, paint: &self.paint, held: &held };
        let bytes = to_bytes(&mouths.draw(&pictures, &sources)?)?.f_to_device(Device::Cpu)?;
        let (width, height) = self.crops.first().map_or((0, 0), |crop| (crop.width, crop.height));
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

/// The pixels of a crop from those of a region of the same frame; where the region does not reach, its edge goes on.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the region")]
fn append_crop(bytes: &mut Vec<u8>, region: &Region, crop: &CropBox) {
    let inside = |at: i64, start: u32, length: u32| (at - i64::from(start)).clamp(0, i64::from(length) - 1) as usize;
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
        let mut wanted: BTreeMap<usize, (Vec<usize>, Vec<Articulation>, Vec<usize>)> = BTreeMap::new();
        let mut heard = heard.into_iter();
        for (index, run) in runs.iter().enumerate() {
            let (frames, held, of) = wanted.entry(run.avatar.0).or_default();
            frames.extend_from_slice(&run.poses);
            held.extend(heard.by_ref().take(run.poses.len()));
            of.extend(std::iter::repeat_n(index, run.poses.len()));
        }
        let mut drawn: Vec<Vec<Mouth>> = runs.iter().map(|run| Vec::with_capacity(run.poses.len())).collect();
        for (avatar, (frames, held, of)) in wanted {
            let crops = self.sitter(AvatarHandle(avatar))?.draw(&frames, &held)?;
            for (crop, run) in crops.into_iter().zip(of) {
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
        let data = PortraitData::read(&path).map_err(|error| wrong(error.problem()))?;
        let crops = (0..avatar.frame_count())
            .map(|frame| avatar.crop(frame).map_err(|error| wrong(error.to_string())))
            .collect::<Result<Vec<_>>>()?;
        let regions: Regions = Arc::new(move |frame| avatar.region(frame).map_err(|error| error.to_string()));
        let sitter = Sitter::new(&path, data, crops, regions, self.hearing.device())?;
        Ok(self.add(sitter))
    }

    fn remove_avatar(&mut self, avatar: AvatarHandle) {
        self.avatars.remove(&avatar.0);
    }

    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        self.draw_runs(runs)
    }
}
