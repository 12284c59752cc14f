//! The avatars that a model knows, as tensors on its device.
//!
//! In here: loading an avatar's latents and refusing what does not fit the model; the small decoders that avatars have
//! chosen, each loaded once; what a run may ask of an avatar. Not in here: drawing (`musetalk`).

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Kind, Tensor};

use super::canvas::Canvas;
use super::model::Model;
use super::small_decoder::SmallDecoder;
use crate::lipsync::{AvatarHandle, LipSyncError, MouthRun};
use crate::musetalk::Result;
use crate::musetalk::weights::read_safetensors;

/// One avatar.
#[derive(Debug)]
pub(super) struct AvatarTensors {
    /// The file of its latents, for messages.
    path: String,
    /// `[frames, in_channels, height, width]`: those of all avatars' that are its own, which [`Avatars`] keeps.
    latents: Tensor,
    /// Which of them is its first.
    first: i64,
    /// First and one past the last latent row that is decoded.
    pub decode_rows: [i64; 2],
    /// What its mouths are pasted into on the device, if they are.
    pub canvas: Option<Canvas>,
    /// Which of the small decoders draws it instead of the model's.
    pub decoder: Option<usize>,
}

/// All avatars by handle.
#[derive(Debug, Default)]
pub(super) struct Avatars {
    by_handle: BTreeMap<usize, AvatarTensors>,
    /// The latents of all of them, one after the other, so that those of a batch are gathered at once, whosever they are.
    latents: Option<Tensor>,
    /// How many there have been.
    added: usize,
    /// Those that avatars have chosen; `None` where no avatar has it any more.
    small_decoders: Vec<Option<SmallDecoder>>,
}

impl AvatarTensors {
    /// From a file with a tensor `latents`, which must be of the model's shape.
    pub fn load(latents: &Path, decode_rows: Option<[i64; 2]>, model: &Model) -> Result<Self> {
        let path = latents.display().to_string();
        let wrong = |problem: String| LipSyncError::Latents { path: path.clone(), problem };
        let tensors = read_safetensors(latents).map_err(|error| wrong(error.to_string()))?;
        let found = tensors.into_iter().find(|(name, _)| name == "latents");
        let (_, tensor) = found.ok_or_else(|| wrong("has no tensor named \"latents\"".to_owned()))?;
        let (size, channels) = (model.config.latent_size(), model.config.unet.in_channels);
        let shape = tensor.size();
        if shape.len() != 4 || shape[0] < 1 || shape[1..] != [channels, size, size] {
            return Err(wrong(format!("are {shape:?}, the model wants [frames, {channels}, {size}, {size}]")));
        }
        if !matches!(tensor.kind(), Kind::Half | Kind::Float) {
            return Err(wrong(format!("are of type {:?}, not 16- or 32-bit floats", tensor.kind())));
        }
        let latents = tensor.f_to_kind(model.kind)?.f_to_device(model.device)?;
        let decode_rows = decode_rows.or(model.config.decode_rows).unwrap_or([0, size]);
        if !(0 <= decode_rows[0] && decode_rows[0] < decode_rows[1] && decode_rows[1] <= size) {
            return Err(wrong(format!("have {size} rows, decode_rows of the avatar is {decode_rows:?}")));
        }
        Ok(Self { path, latents, first: 0, decode_rows, canvas: None, decoder: None })
    }

    /// One pose of zeros, of which everything is decoded that the model may have to decode.
    pub fn blank(model: &Model) -> Result<Self> {
        let (size, channels) = (model.config.latent_size(), model.config.unet.in_channels);
        let latents = Tensor::f_zeros([1, channels, size, size], (model.kind, model.device))?;
        let decode_rows = model.config.decode_rows.unwrap_or([0, size]);
        Ok(Self { path: String::new(), latents, first: 0, decode_rows, canvas: None, decoder: None })
    }
}

impl AvatarTensors {
    fn frames(&self) -> i64 {
        self.latents.size().first().copied().unwrap_or(0)
    }
}

impl Avatars {
    /// Takes in an avatar under a handle that no other has had.
    pub fn add(&mut self, avatar: AvatarTensors) -> Result<AvatarHandle> {
        let handle = self.added;
        self.by_handle.insert(handle, avatar);
        if let Err(error) = self.join_latents() {
            self.by_handle.remove(&handle);
            return Err(error);
        }
        self.added += 1;
        Ok(AvatarHandle(handle))
    }

    /// Lets go of an avatar, and of its small decoder if no other avatar has chosen it.
    pub fn remove(&mut self, avatar: AvatarHandle) {
        self.by_handle.remove(&avatar.0);
        for (at, small) in self.small_decoders.iter_mut().enumerate() {
            if self.by_handle.values().all(|avatar| avatar.decoder != Some(at)) {
                *small = None;
            }
        }
        // Without memory for it the old ones stay, and those that are left are still where they were.
        if let Err(error) = self.join_latents() {
            tracing::debug!(%error, "the latents of an avatar that is gone stay");
        }
    }

    /// Puts the latents of all avatars one after the other.
    fn join_latents(&mut self) -> Result<()> {
        if self.by_handle.is_empty() {
            self.latents = None;
            return Ok(());
        }
        let parts: Vec<&Tensor> = self.by_handle.values().map(|avatar| &avatar.latents).collect();
        let joined = Tensor::f_cat(&parts, 0)?;
        let mut first = 0;
        for avatar in self.by_handle.values_mut() {
            let frames = avatar.frames();
            // A part of the whole from now on, so that nothing is kept twice.
            avatar.latents = joined.f_narrow(0, first, frames)?;
            avatar.first = first;
            first += frames;
        }
        self.latents = Some(joined);
        Ok(())
    }

    /// The latents of the frames of all runs, one after the other, `[frames, in_channels, height, width]`.
    pub fn latents(&self, runs: &[MouthRun]) -> Result<Tensor> {
        let mut places = Vec::new();
        for run in runs {
            let avatar = self.of_run(run)?;
            places.extend(run.poses.iter().map(|&pose| avatar.first + i64::try_from(pose).unwrap_or(0)));
        }
        let all = self
            .latents
            .as_ref()
            .ok_or_else(|| LipSyncError::Latents { path: String::new(), problem: "there is no avatar".to_owned() })?;
        Ok(all.f_index_select(0, &Tensor::f_from_slice(&places)?.f_to_device(all.device())?)?)
    }

    /// The avatar of a handle, while it is there.
    pub fn get(&self, avatar: AvatarHandle) -> Option<&AvatarTensors> {
        self.by_handle.get(&avatar.0)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, avatar: AvatarHandle) -> Option<&mut AvatarTensors> {
        self.by_handle.get_mut(&avatar.0)
    }

    /// The avatar of a run, which must have all of the run's poses.
    pub fn of_run(&self, run: &MouthRun) -> Result<&AvatarTensors> {
        let handle = run.avatar.0;
        let Some(avatar) = self.by_handle.get(&handle) else {
            let problem = format!("avatar {handle} is not there: it was never added, or removed");
            return Err(LipSyncError::Latents { path: String::new(), problem });
        };
        let poses = avatar.frames();
        if let Some(pose) = run.poses.iter().find(|&&pose| i64::try_from(pose).map_or(true, |pose| pose >= poses)) {
            let problem = format!("pose {pose} was asked for, the avatar has {poses}");
            return Err(LipSyncError::Latents { path: avatar.path.clone(), problem });
        }
        Ok(avatar)
    }

    /// One of those that [`AvatarTensors::decoder`] names.
    pub fn small_decoder(&self, at: Option<usize>) -> Option<&SmallDecoder> {
        self.small_decoders.get(at?)?.as_ref()
    }

    /// Has an avatar drawn by the small decoder in `folder`. Avatars that share one are decoded in one batch.
    pub fn set_decoder(&mut self, avatar: AvatarHandle, folder: &Path, model: &Model) -> Result<()> {
        let is_it = |small: &Option<SmallDecoder>| small.as_ref().is_some_and(|small| small.folder() == folder);
        let at = match self.small_decoders.iter().position(is_it) {
            Some(at) => at,
            None => {
                let mut small = SmallDecoder::load(folder, &model.config.autoencoder, model.device)?;
                small.freeze(model.precisions.decoder.kind())?;
                let free = self.small_decoders.iter().position(Option::is_none);
                let at = free.unwrap_or(self.small_decoders.len());
                self.small_decoders.resize_with(self.small_decoders.len().max(at + 1), || None);
                self.small_decoders[at] = Some(small);
                at
            }
        };
        if let Some(avatar) = self.get_mut(avatar) {
            avatar.decoder = Some(at);
        }
        Ok(())
    }
}
