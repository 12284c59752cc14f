//! MuseTalk, loaded and ready to draw: the [`LipSync`] that the engine runs.
//!
//! In here: what runs of frames are to the networks, and mouths from their pictures. Never panics: everything that libtorch
//! refuses comes back as an error. Not in here: the networks (`model`), what an avatar is to them (`avatars`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Tensor};

use super::audio::Stretch;
use super::avatars::{AvatarTensors, Avatars};
use super::canvas::{self, Canvas};
use super::model::Model;
use super::pixels::to_rgb8;
use super::steady::Steady;
use crate::avatar::Avatar;
use crate::lipsync::{AvatarAssets, AvatarHandle, LipSync, Mouth, MouthRun};
use crate::musetalk::Result;
use crate::musetalk::device::{Precision, Precisions};
use crate::musetalk::gpu::graphs::Graphs;
use crate::musetalk::measuring::{StageTimes, Stopwatch};
use crate::musetalk::network::config::{AutoencoderConfig, ModelConfig};
use crate::picture::MouthFrame;
use crate::timeline::FPS;

/// A model and the avatars that it knows.
#[derive(Debug)]
pub struct MuseTalk {
    model: Model,
    avatars: Avatars,
    /// Whether mouths are pasted on the device.
    pastes: bool,
    graphs: Graphs<Steady>,
}

impl MuseTalk {
    /// Loads `config.json` and the weights of a model's folder: `model.safetensors`, or a file for each network.
    /// `threads` is libtorch's, for this process. Computes in the floats that are quickest on the device; in 32 bits, a large
    /// model's weights stay in the 16 that the file has them in.
    pub fn load(folder: &Path, device: Device, threads: i32) -> Result<Self> {
        Ok(Self::new(Model::load(folder, device, threads, None)?))
    }

    /// [`MuseTalk::load`] in these floats throughout.
    pub fn load_as(folder: &Path, device: Device, threads: i32, precision: Precision) -> Result<Self> {
        Ok(Self::new(Model::load(folder, device, threads, Some(precision))?))
    }

    /// The model that `config` describes, in 32 bits, with the weights of one safetensors file.
    pub fn with_weights(config: ModelConfig, weights: &Path, device: Device) -> Result<Self> {
        Ok(Self::new(Model::with_weights(config, weights, device)?))
    }

    fn new(model: Model) -> Self {
        // Integers are quicker on a CPU, and nothing has to be copied there.
        let pastes = model.device.is_cuda();
        let graphs = Graphs::new(model.device);
        Self { model, avatars: Avatars::default(), pastes, graphs }
    }

    /// Pastes mouths by itself, or leaves that to `compose`, for the avatars whose frames are added from now on.
    pub fn paste_on_device(&mut self, pastes: bool) {
        self.pastes = pastes;
    }

    /// What the model is made of.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.model.device
    }

    /// What its networks compute in.
    pub fn precisions(&self) -> Precisions {
        self.model.precisions
    }

    /// The latent of the talking face as the autoencoder wants it, `[batch, out_channels, height, width]`, from the UNet's
    /// `sample`, `[batch, in_channels, height, width]`, and `tokens`, `[batch, tokens, cross_attention_dim]`.
    pub fn generate(&self, sample: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        self.model.generate(sample, tokens)
    }

    /// The part of the picture that belongs to `rows` rows of the autoencoder's latent from `first` on, by the model's own
    /// decoder.
    pub(in crate::musetalk) fn decode(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        self.model.decode(latent, first, rows)
    }

    /// Keeps an avatar's latents (`[frames, channels, height, width]`, from the file `latents`) ready. Only `decode_rows`
    /// (first and one past the last) of each latent need be decoded, all of them if `None`. An error if they do not fit.
    pub fn add_latents(&mut self, latents: &Path, decode_rows: Option<[i64; 2]>) -> Result<AvatarHandle> {
        self.avatars.add(AvatarTensors::load(latents, decode_rows, &self.model)?)
    }

    /// An avatar of one pose of zeros, of which everything is decoded that may have to be: to measure with.
    pub fn add_blank_avatar(&mut self) -> Result<AvatarHandle> {
        self.avatars.add(AvatarTensors::blank(&self.model)?)
    }

    /// Draws an avatar with the small decoder in this folder instead of the model's own.
    pub fn set_decoder(&mut self, avatar: AvatarHandle, folder: &Path) -> Result<()> {
        self.avatars.set_decoder(avatar, folder, &self.model)
    }

    /// Keeps what it needs of an avatar's own frames to paste mouths into them, if it does that on this device.
    pub fn add_frames(&mut self, avatar: AvatarHandle, frames: &Avatar) -> Result<()> {
        let side = u32::try_from(self.model.config.crop_size).unwrap_or(0);
        // Those that are not all in memory are pasted where they are decoded.
        if self.pastes
            && !frames.frames().is_empty()
            && let Some(avatar) = self.avatars.get_mut(avatar)
        {
            avatar.canvas = Some(Canvas::new(frames, side, self.model.device)?);
        }
        Ok(())
    }

    /// The decoder that an avatar is drawn with: the model's or its own.
    pub fn decoder_of(&self, avatar: AvatarHandle) -> AutoencoderConfig {
        let own = self.avatars.get(avatar).and_then(|avatar| self.avatars.small_decoder(avatar.decoder));
        own.map_or_else(|| self.config().autoencoder.clone(), |small| AutoencoderConfig::Tiny(small.config().clone()))
    }

    /// First and one past the last latent row that is decoded for an avatar.
    pub(in crate::musetalk) fn decode_rows_of(&self, avatar: AvatarHandle) -> Result<[i64; 2]> {
        let run = MouthRun { avatar, poses: vec![0], audio: Arc::from([]), first_frame_at: 0 };
        Ok(self.avatars.of_run(&run)?.decode_rows)
    }

    /// The latents of the avatar's own frames of a run and those of the talking face, as the decoder wants them.
    pub(in crate::musetalk) fn latents(&mut self, run: &MouthRun) -> Result<(Tensor, Tensor)> {
        let run = std::slice::from_ref(run);
        let sample = self.samples(run)?;
        let stretches: Vec<Stretch<'_>> = run.iter().flat_map(|run| self.stretches(run)).collect();
        let tokens = self.model.audio.tokens(&stretches)?;
        Ok((self.model.own_latent(&sample)?, self.generate(&sample, &tokens)?))
    }

    /// As [`LipSync::draw`], and how long each stage took if `watch` runs.
    pub(in crate::musetalk) fn draw_timed(
        &mut self,
        runs: &[MouthRun],
        watch: &mut Stopwatch,
    ) -> Result<(Vec<Vec<Mouth>>, StageTimes)> {
        let _no_grad = tch::no_grad_guard();
        let Some((picture, first, mut times)) = self.picture(runs, watch)? else {
            return Ok((vec![Vec::new(); runs.len()], StageTimes::default()));
        };
        let canvases: Option<Vec<&Canvas>> =
            runs.iter().map(|run| self.avatars.of_run(run).ok().and_then(|avatar| avatar.canvas.as_ref())).collect();
        let Some(canvases) = canvases else {
            let mut crops = self.to_crops(&picture, first)?.into_iter().map(Mouth::Crop);
            times.copy = watch.lap();
            return Ok((runs.iter().map(|run| crops.by_ref().take(run.poses.len()).collect()).collect(), times));
        };
        let before = first * self.config().autoencoder.scale();
        let frames =
            runs.iter().zip(canvases).flat_map(|(run, canvas)| run.poses.iter().map(move |&pose| (canvas, pose)));
        let planes = canvas::paste(&picture, before, &frames.collect::<Vec<_>>())?;
        times.paste = watch.lap();
        let mut pasted = planes.fetch()?.into_iter().map(Mouth::Pasted);
        times.copy = watch.lap();
        Ok((runs.iter().map(|run| pasted.by_ref().take(run.poses.len()).collect()).collect(), times))
    }

    /// The decoder's picture of all the frames of all runs, from which latent row on, and what it took. `None` if there is
    /// nothing to draw.
    fn picture(&mut self, runs: &[MouthRun], watch: &mut Stopwatch) -> Result<Option<(Tensor, i64, StageTimes)>> {
        let avatars = runs.iter().map(|run| self.avatars.of_run(run)).collect::<Result<Vec<_>>>()?;
        // Rows that only another run's avatar needs are decoded for all: they lie outside of the others' masks.
        let first = avatars.iter().map(|avatar| avatar.decode_rows[0]).min().unwrap_or(0);
        let end = avatars.iter().map(|avatar| avatar.decode_rows[1]).max().unwrap_or(0);
        let stretches: Vec<Stretch<'_>> = runs.iter().flat_map(|run| self.stretches(run)).collect();
        if stretches.is_empty() {
            return Ok(None);
        }
        let sample = self.samples(runs)?;
        let started = Instant::now();
        let tokens = self.model.audio.tokens_by(&stretches, &mut self.graphs)?;
        crate::metrics::features_took(started.elapsed());
        let features = watch.lap();
        let (model, steady) = (&self.model, Steady::Unet { frames: sample.size4()?.0 });
        let generate = |[sample, tokens]: [&Tensor; 2]| model.generate(sample, tokens);
        let latent = self.graphs.run(&steady, [&sample, &tokens], &generate)?;
        let unet = watch.lap();
        let picture = self.decode_each(runs, &latent, [first, end])?;
        let decode = watch.lap();
        Ok(Some((picture, first, StageTimes { features, unet, decode, ..StageTimes::default() })))
    }

    /// The run's frames as stretches of sound of which one audio window serves each.
    fn stretches<'a>(&self, run: &'a MouthRun) -> Vec<Stretch<'a>> {
        let most = usize::try_from(self.model.audio.most_frames()).unwrap_or(1);
        let frame_samples = self.model.config.mel.sample_rate / i64::from(FPS);
        let mut at = i64::try_from(run.first_frame_at).unwrap_or(i64::MAX / 2);
        let mut stretches = Vec::with_capacity(1);
        for poses in run.poses.chunks(most) {
            let frames = i64::try_from(poses.len()).unwrap_or(0);
            stretches.push(Stretch { audio: &run.audio, first_frame_at: at, frames });
            at += frame_samples * frames;
        }
        stretches
    }

    /// The UNet's input for each frame of all runs.
    fn samples(&self, runs: &[MouthRun]) -> Result<Tensor> {
        self.avatars.latents(runs)
    }

    /// Each run's latents through the decoder that its avatar has chosen, those of one decoder together.
    fn decode_each(&mut self, runs: &[MouthRun], latent: &Tensor, [first, end]: [i64; 2]) -> Result<Tensor> {
        let mut frames: BTreeMap<Option<usize>, Vec<i64>> = BTreeMap::new();
        let mut at = 0;
        for run in runs {
            let of = frames.entry(self.avatars.of_run(run)?.decoder).or_default();
            let next = at + i64::try_from(run.poses.len()).unwrap_or(0);
            of.extend(at..next);
            at = next;
        }
        let (model, avatars) = (&self.model, &self.avatars);
        let draw = |decoder: Option<usize>, latent: &Tensor, [first, end]: [i64; 2]| {
            let Some(small) = avatars.small_decoder(decoder) else { return model.decode(latent, first, end - first) };
            let latent = latent.f_to_kind(model.precisions.decoder.kind())?;
            small.decode_rows(&latent, first, end - first)?.f_to_kind(model.kind).map_err(Into::into)
        };
        if frames.len() == 1
            && let Some(&decoder) = frames.keys().next()
        {
            // More rows than are wanted are no fault, and they may have been captured for another avatar.
            let covers = |(frames, of, rows): (i64, Option<usize>, [i64; 2])| {
                frames == at && of == decoder && rows[0] <= first && end <= rows[1]
            };
            let rows = self.graphs.find(|work| work.decode().filter(|decode| covers(*decode)).map(|(.., rows)| rows));
            let rows = rows.unwrap_or([first, end]);
            let steady = Steady::Decode { frames: at, decoder, rows };
            let picture = self.graphs.run(&steady, [latent], &|[latent]| draw(decoder, latent, rows))?;
            let scale = model.config.autoencoder.scale();
            return Ok(picture.f_narrow(2, (first - rows[0]) * scale, (end - first) * scale)?);
        }
        let (mut pictures, mut order) = (Vec::new(), Vec::new());
        for (decoder, frames) in frames {
            let index = Tensor::f_from_slice(&frames)?.f_to_device(self.model.device)?;
            pictures.push(draw(decoder, &latent.f_index_select(0, &index)?, [first, end])?);
            order.extend(frames);
        }
        // Back in the order of the runs.
        let back = Tensor::f_from_slice(&order)?.f_argsort(0, false)?.f_to_device(self.model.device)?;
        Ok(Tensor::f_cat(&pictures, 0)?.f_index_select(0, &back)?)
    }

    /// Whole crops of the rows from latent row `first` on; rows that were not decoded are black.
    fn to_crops(&self, picture: &Tensor, first: i64) -> Result<Vec<MouthFrame>> {
        let bytes = to_rgb8(picture)?.f_to_device(Device::Cpu)?;
        let (_, rows, columns, channels) = bytes.size4()?;
        // In one copy, however many frames there are.
        let mut all = vec![0; bytes.numel()];
        let total = all.len();
        bytes.f_copy_data_u8(&mut all, total)?;
        let size = self.config().crop_size;
        let scale = self.config().autoencoder.scale();
        let to_usize = |value: i64| usize::try_from(value).unwrap_or(0);
        let before = to_usize(first * scale * columns * channels);
        let side = u32::try_from(size).unwrap_or(0);
        let crop = |drawn: &[u8]| {
            let mut rgb = vec![0; to_usize(size * columns * channels)];
            if let Some(target) = rgb.get_mut(before..before + drawn.len()) {
                target.copy_from_slice(drawn);
            }
            MouthFrame { width: side, height: side, rgb }
        };
        Ok(all.chunks_exact(to_usize(rows * columns * channels).max(1)).map(crop).collect())
    }
}

impl LipSync for MuseTalk {
    fn context_samples(&self) -> usize {
        self.model.audio.context_samples()
    }

    fn add_avatar(&mut self, assets: &AvatarAssets) -> Result<AvatarHandle> {
        let avatar = &assets.avatar;
        let handle = self.add_latents(&avatar.latents, avatar.manifest.decode_rows)?;
        let decoder = assets.decoder.as_deref().map_or(Ok(()), |folder| self.set_decoder(handle, folder));
        match decoder.and_then(|()| self.add_frames(handle, avatar)) {
            Ok(()) => Ok(handle),
            Err(error) => {
                self.avatars.remove(handle);
                Err(error)
            }
        }
    }

    fn remove_avatar(&mut self, avatar: AvatarHandle) {
        self.avatars.remove(avatar);
        let avatars = &self.avatars;
        self.graphs.retain(|work| match work {
            Steady::Decode { decoder, .. } => decoder.is_none() || avatars.small_decoder(*decoder).is_some(),
            Steady::Hear { .. } | Steady::Unet { .. } => true,
        });
    }

    fn is_slow_at_first(&self, _: AvatarHandle) -> bool {
        // Kernels are loaded, and graphs captured.
        self.model.device.is_cuda()
    }

    fn warm_up(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        self.graphs.warm_up(true);
        let drawn = self.draw(runs);
        self.graphs.warm_up(false);
        drawn
    }

    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        Ok(self.draw_timed(runs, &mut Stopwatch::off())?.0)
    }
}
