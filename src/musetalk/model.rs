//! A whole model, loaded and ready to draw: the [`LipSync`] that the engine runs.
//!
//! Runs on the engine's thread and never panics: everything libtorch refuses comes back as an error. The file is long because
//! loading, avatars and drawing share the one struct that owns all tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor, nn};

use super::Result;
use super::audio::{AudioFrontEnd, Stretch};
use super::canvas::{self, Canvas};
use super::config::{AutoencoderConfig, ModelConfig};
use super::layers::{blank, channels_last};
use super::network::{Inputs, write_outputs};
use super::picture::to_rgb8;
use super::precision::{Precision, Precisions};
use super::small_decoder::SmallDecoder;
use super::stopwatch::{StageTimes, Stopwatch};
use super::tiny_vae::TinyVaeDecoder;
use super::unet::Unet;
use super::vae::AutoencoderKlDecoder;
use super::weights::{Mapping, load_safetensors, read_safetensors, set_kind_of, use_channels_last};
use crate::avatar;
use crate::lipsync::{AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};
use crate::models::catalog::PARTS;
use crate::models::names::current_name;
use crate::picture::MouthFrame;
use crate::timeline::FPS;

/// The half of the autoencoder that serving needs, of either kind.
#[derive(Debug)]
pub enum Decoder {
    Kl(Box<AutoencoderKlDecoder>),
    Tiny(TinyVaeDecoder),
}

impl Decoder {
    /// `p` is the path of `autoencoder`.
    pub fn new(p: &nn::Path<'_>, config: &AutoencoderConfig) -> Result<Self> {
        match config {
            AutoencoderConfig::Kl(kl) => Ok(Self::Kl(Box::new(AutoencoderKlDecoder::new(p, kl)?))),
            AutoencoderConfig::Tiny(tiny) => Ok(Self::Tiny(TinyVaeDecoder::new(&(p / "decoder"), tiny)?)),
        }
    }

    /// The part of the picture that belongs to `rows` rows of the latent; see [`TinyVaeDecoder::decode_rows`]. The KL
    /// decoder's norms and attention see the whole latent, so it decodes all of it.
    pub fn decode_rows(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        match self {
            Self::Tiny(tiny) => tiny.decode_rows(latent, first, rows),
            Self::Kl(kl) => {
                let picture = kl.decode(latent)?;
                let scale = picture.size4()?.2 / latent.size4()?.2;
                Ok(picture.f_narrow(2, first * scale, rows * scale)?)
            }
        }
    }
}

/// All networks' weights in one file, each tensor's name with its network's before it.
pub const WHOLE: &str = "model.safetensors";

/// On a CPU, a model of more numbers than this keeps its weights in the 16 bits of the file, even if it computes in 32:
/// MuseTalk has 900 million, and casting each layer when it runs is little beside running it, while the demo's few would
/// only be slower.
const LARGE: usize = 100_000_000;

#[derive(Debug)]
struct Avatar {
    path: String,
    /// `[frames, in_channels, height, width]`
    latents: Tensor,
    /// First and one past the last latent row that is decoded.
    decode_rows: [i64; 2],
    /// What its mouths are pasted into on the device, if they are.
    canvas: Option<Canvas>,
    /// Which of the small decoders draws it instead of the model's.
    decoder: Option<usize>,
}

#[derive(Debug)]
pub struct MuseTalk {
    config: ModelConfig,
    device: Device,
    /// The UNet's, and so of latents and tokens.
    kind: Kind,
    precisions: Precisions,
    audio: AudioFrontEnd,
    unet: Unet,
    decoder: Decoder,
    /// Per channel, `[1, channels, 1, 1]`: what turns the UNet's latent into the autoencoder's.
    latent_std: Tensor,
    latent_mean: Tensor,
    /// Whether mouths are pasted on the device.
    pastes: bool,
    avatars: BTreeMap<usize, Avatar>,
    /// How many avatars there have been.
    added: usize,
    /// Those that avatars have chosen; `None` where no avatar has it any more.
    small_decoders: Vec<Option<SmallDecoder>>,
}

/// Per channel, `[1, channels, 1, 1]`: deviation and mean that turn the UNet's latents into the autoencoder's.
pub(super) fn latent_scale(config: &ModelConfig, kind: Kind, device: Device) -> Result<(Tensor, Tensor)> {
    let channels = config.autoencoder.latent_channels();
    let per_channel = |values: &Option<Vec<f32>>, default: f64| -> Result<Tensor> {
        let values = match values {
            Some(values) => Tensor::f_from_slice(values)?,
            None => Tensor::f_full([channels], default, (Kind::Float, Device::Cpu))?,
        };
        Ok(values.f_view([1, channels, 1, 1])?.f_to_kind(kind)?.f_to_device(device)?)
    };
    // The mean counts in the autoencoder's unscaled latents, so only the deviation carries the scaling factor.
    let std = per_channel(&config.latent_std, 1.0)?.f_div_scalar(config.autoencoder.scaling_factor())?;
    Ok((std, per_channel(&config.latent_mean, 0.0)?))
}

impl MuseTalk {
    /// Loads `config.json` and the weights of a model's folder: `model.safetensors`, or a file for each network.
    /// `threads` is libtorch's, for this process. Computes in the floats that are [`Precisions::quickest`]; in 32 bits, a
    /// large model's weights stay in the 16 that the file has them in.
    pub fn load(folder: &Path, device: Device, threads: i32) -> Result<Self> {
        Self::load_with(folder, device, threads, None)
    }

    /// [`MuseTalk::load`] in these floats throughout.
    pub fn load_as(folder: &Path, device: Device, threads: i32, precision: Precision) -> Result<Self> {
        Self::load_with(folder, device, threads, Some(precision))
    }

    fn load_with(folder: &Path, device: Device, threads: i32, precision: Option<Precision>) -> Result<Self> {
        // All cores while it loads, when nothing else runs.
        let cores = std::thread::available_parallelism().map_or(1, |cores| i32::try_from(cores.get()).unwrap_or(1));
        tch::set_num_threads(cores.max(threads));
        let config = ModelConfig::load(&folder.join("config.json"))?;
        let precisions = precision.map_or_else(|| Precisions::quickest(device, &config), Precisions::all);
        let parts = PARTS.map(|part| folder.join(format!("{part}.safetensors")));
        let in_parts = parts.iter().any(|part| part.is_file());
        let whole = [folder.join(WHOLE)];
        let model = Self::build(config, if in_parts { &parts } else { &whole }, device, precisions);
        tch::set_num_threads(threads.max(1));
        model
    }

    /// The model that `config` describes with the weights of one safetensors file.
    pub fn with_weights(config: ModelConfig, weights: &Path, device: Device) -> Result<Self> {
        Self::build(config, &[weights.to_owned()], device, Precisions::all(Precision::Fp32))
    }

    /// `weights` is one file, or one for each of [`PARTS`].
    fn build(config: ModelConfig, weights: &[PathBuf], device: Device, precisions: Precisions) -> Result<Self> {
        config.validate()?;
        let kind = precisions.unet.kind();
        let mut store = nn::VarStore::new(device);
        let root = store.root();
        let (mut audio, mut unet, decoder) = blank(|| {
            let audio = AudioFrontEnd::new(&(&root / "audio_encoder"), &config)?;
            let unet = Unet::new(&(&root / "unet"), &config.unet)?;
            Ok::<_, LipSyncError>((audio, unet, Decoder::new(&(&root / "autoencoder"), &config.autoencoder)?))
        })?;
        // A checkpoint may keep what training and avatar preparation need beside what serving needs.
        let ignored = ["autoencoder.encoder.", "autoencoder.quant_conv.", "helper_head."];
        let numbers: usize = store.variables().values().map(Tensor::numel).sum();
        let keep_16_bits = device == Device::Cpu && numbers > LARGE;
        let mapping = Mapping {
            ignored: &ignored,
            rename: current_name,
            channels_last: true,
            keep_16_bits,
            ..Mapping::default()
        };
        match weights {
            [whole] => load_safetensors(&store, whole, mapping)?,
            parts => {
                for (part, file) in PARTS.iter().zip(parts) {
                    let ignored: &[&str] = if *part == "autoencoder" { &["encoder.", "quant_conv."] } else { &[] };
                    load_safetensors(&store, file, Mapping { into: &format!("{part}."), ignored, ..mapping })?;
                }
            }
        }
        store.freeze();
        if kind != Kind::Float {
            store.set_kind(kind);
            audio.set_kind(kind)?;
        }
        if precisions.decoder != precisions.unet {
            set_kind_of(&store, "autoencoder.", precisions.decoder.kind())?;
        }
        use_channels_last(&store)?;
        unet.fold_time()?;
        let (latent_std, latent_mean) = latent_scale(&config, kind, device)?;
        Ok(Self {
            config,
            device,
            kind,
            precisions,
            audio,
            unet,
            decoder,
            latent_std,
            latent_mean,
            // Integers are quicker on a CPU, and nothing has to be copied there.
            pastes: device.is_cuda(),
            avatars: BTreeMap::new(),
            added: 0,
            small_decoders: Vec::new(),
        })
    }

    /// Pastes mouths by itself, or leaves that to `compose`, for the avatars whose canvas is added from now on.
    pub fn paste_on_device(&mut self, pastes: bool) {
        self.pastes = pastes;
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    pub fn device(&self) -> Device {
        self.device
    }

    /// What its networks compute in.
    pub fn precisions(&self) -> Precisions {
        self.precisions
    }

    /// The latent of the talking face, as the autoencoder wants it: `sample` is `[batch, in_channels, h, w]`.
    pub fn generate(&self, sample: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let mut latent = self.unet.forward(sample, tokens)?;
        if self.config.residual {
            let channels = self.config.unet.out_channels;
            latent = latent.f_add(&sample.f_narrow(1, self.config.unet.in_channels - channels, channels)?)?;
        }
        Ok(latent.f_mul(&self.latent_std)?.f_add(&self.latent_mean)?)
    }

    /// The part of the picture that belongs to `rows` rows of the latent from `first` on.
    pub(super) fn decode(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        let latent = latent.f_to_kind(self.precisions.decoder.kind())?;
        Ok(self.decoder.decode_rows(&latent, first, rows)?.f_to_kind(self.kind)?)
    }

    /// Draws from the `sample` and `tokens` of one safetensors file, and writes the `latent` and the whole `picture` into
    /// another: what serving computes, for comparisons.
    pub fn draw_file(&self, inputs: &Path, outputs: &Path) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let inputs = Inputs::read(inputs, self.device, self.kind)?;
        let size = self.config.latent_size();
        let sample = inputs.get("sample", &[0, self.config.unet.in_channels, size, size])?;
        let tokens = inputs.get("tokens", &[sample.size4()?.0, 0, self.config.unet.cross_attention_dim])?;
        let latent = self.generate(&channels_last(&sample)?, &tokens)?;
        let picture = self.decode(&latent, 0, size)?;
        write_outputs(outputs, vec![("latent", latent), ("picture", picture)])
    }

    /// How long one frame takes on this device: the quicker of two, drawn from nothing.
    pub fn time_frame(&mut self) -> Result<Duration> {
        let avatar = self.add_nobody()?;
        let mut frame = || -> Result<Duration> {
            let batch = MouthRun { avatar, poses: vec![0], audio: vec![0.0; 16_000].into(), first_frame_at: 0 };
            let started = Instant::now();
            self.infer(&batch)?;
            Ok(started.elapsed())
        };
        let times = [frame(), frame()];
        self.remove_avatar(avatar);
        let [first, second] = times;
        Ok(first?.min(second?))
    }

    /// An avatar of one pose, drawn from nothing, of which everything is decoded that may have to be: to measure with.
    pub fn add_nobody(&mut self) -> Result<AvatarHandle> {
        let (size, channels) = (self.config.latent_size(), self.config.unet.in_channels);
        let latents = Tensor::f_zeros([1, channels, size, size], (self.kind, self.device))?;
        let decode_rows = self.config.decode_rows.unwrap_or([0, size]);
        Ok(self.keep(Avatar { path: String::new(), latents, decode_rows, canvas: None, decoder: None }))
    }

    fn keep(&mut self, avatar: Avatar) -> AvatarHandle {
        let handle = self.added;
        self.added += 1;
        self.avatars.insert(handle, avatar);
        AvatarHandle(handle)
    }

    /// Refuses what no avatar of ours can be asked for.
    fn avatar_of(&self, run: &MouthRun) -> Result<&Avatar> {
        let handle = run.avatar.0;
        let Some(avatar) = self.avatars.get(&handle) else {
            let problem = format!("avatar {handle} is not there: it was never added, or removed");
            return Err(LipSyncError::Latents { path: String::new(), problem });
        };
        let poses = avatar.latents.size4()?.0;
        if let Some(pose) = run.poses.iter().find(|&&pose| i64::try_from(pose).map_or(true, |pose| pose >= poses)) {
            let problem = format!("pose {pose} was asked for, the avatar has {poses}");
            return Err(LipSyncError::Latents { path: avatar.path.clone(), problem });
        }
        Ok(avatar)
    }

    /// The run's frames as stretches of sound of which one audio window serves each.
    fn stretches<'a>(&self, run: &'a MouthRun) -> Vec<Stretch<'a>> {
        let most = usize::try_from(self.audio.most_frames()).unwrap_or(1);
        let frame_samples = self.config.mel.sample_rate / i64::from(FPS);
        let mut at = i64::try_from(run.first_frame_at).unwrap_or(i64::MAX / 2);
        let mut stretches = Vec::with_capacity(1);
        for poses in run.poses.chunks(most) {
            let frames = i64::try_from(poses.len()).unwrap_or(0);
            stretches.push(Stretch { audio: &run.audio, first_frame_at: at, frames });
            at += frame_samples * frames;
        }
        stretches
    }

    /// [`LipSync::draw_all`], and how long each stage took if `watch` runs.
    pub fn draw(&mut self, runs: &[MouthRun], watch: &mut Stopwatch) -> Result<(Vec<Vec<Mouth>>, StageTimes)> {
        let _no_grad = tch::no_grad_guard();
        let Some((picture, first, mut times)) = self.picture(runs, watch)? else {
            return Ok((vec![Vec::new(); runs.len()], StageTimes::default()));
        };
        let canvases: Option<Vec<&Canvas>> =
            runs.iter().map(|run| self.avatar_of(run).ok().and_then(|avatar| avatar.canvas.as_ref())).collect();
        let Some(canvases) = canvases else {
            let mut crops = self.to_frames(&picture, first)?.into_iter().map(Mouth::Crop);
            times.copy = watch.lap();
            return Ok((runs.iter().map(|run| crops.by_ref().take(run.poses.len()).collect()).collect(), times));
        };
        let whole = self.with_rows_before_and_after(&picture, first)?;
        let (mut planes, mut at) = (Vec::new(), 0);
        for (run, canvas) in runs.iter().zip(canvases) {
            let frames = i64::try_from(run.poses.len()).unwrap_or(0);
            planes.extend(canvas.paste(&whole.f_narrow(0, at, frames)?, &run.poses)?);
            at += frames;
        }
        times.paste = watch.lap();
        let mut pasted = canvas::fetch(&planes)?.into_iter().map(Mouth::Pasted);
        times.copy = watch.lap();
        Ok((runs.iter().map(|run| pasted.by_ref().take(run.poses.len()).collect()).collect(), times))
    }

    /// The decoder's picture of all the frames of all runs, from which latent row on, and what it took. `None` if there is
    /// nothing to draw.
    fn picture(&mut self, runs: &[MouthRun], watch: &mut Stopwatch) -> Result<Option<(Tensor, i64, StageTimes)>> {
        let avatars = runs.iter().map(|run| self.avatar_of(run)).collect::<Result<Vec<_>>>()?;
        // Rows that only another run's avatar needs are decoded for all: they lie outside of the others' masks.
        let first = avatars.iter().map(|avatar| avatar.decode_rows[0]).min().unwrap_or(0);
        let end = avatars.iter().map(|avatar| avatar.decode_rows[1]).max().unwrap_or(0);
        let stretches: Vec<Stretch<'_>> = runs.iter().flat_map(|run| self.stretches(run)).collect();
        if stretches.is_empty() {
            return Ok(None);
        }
        let sample = self.samples(runs)?;
        let started = Instant::now();
        let tokens = self.audio.tokens(&stretches)?;
        crate::metrics::features_took(started.elapsed());
        let features = watch.lap();
        let latent = self.generate(&sample, &tokens)?;
        let unet = watch.lap();
        let picture = self.decode_each(runs, &latent, [first, end])?;
        let decode = watch.lap();
        Ok(Some((picture, first, StageTimes { features, unet, decode, ..StageTimes::default() })))
    }

    /// The UNet's input for each frame of all runs.
    fn samples(&self, runs: &[MouthRun]) -> Result<Tensor> {
        let samples = runs.iter().map(|run| {
            let poses: Vec<i64> = run.poses.iter().map(|&pose| i64::try_from(pose).unwrap_or(i64::MAX)).collect();
            let index = Tensor::f_from_slice(&poses)?.f_to_device(self.device)?;
            Ok(self.avatar_of(run)?.latents.f_index_select(0, &index)?)
        });
        channels_last(&Tensor::f_cat(&samples.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The latents of the avatar's own frames of a run and those of the talking face, as the decoder wants them.
    pub(super) fn latents(&mut self, run: &MouthRun) -> Result<(Tensor, Tensor)> {
        let run = std::slice::from_ref(run);
        let sample = self.samples(run)?;
        let stretches: Vec<Stretch<'_>> = run.iter().flat_map(|run| self.stretches(run)).collect();
        let tokens = self.audio.tokens(&stretches)?;
        let channels = self.config.unet.out_channels;
        let own = sample.f_narrow(1, self.config.unet.in_channels - channels, channels)?;
        Ok((own.f_mul(&self.latent_std)?.f_add(&self.latent_mean)?, self.generate(&sample, &tokens)?))
    }

    /// The decoder that an avatar is drawn with: the model's or its own.
    pub fn decoder_of(&self, avatar: AvatarHandle) -> AutoencoderConfig {
        let own = self.avatars.get(&avatar.0).and_then(|avatar| self.small_decoder(avatar.decoder));
        own.map_or_else(|| self.config.autoencoder.clone(), |small| AutoencoderConfig::Tiny(small.config().clone()))
    }

    fn small_decoder(&self, at: Option<usize>) -> Option<&SmallDecoder> {
        self.small_decoders.get(at?)?.as_ref()
    }

    /// First and one past the last latent row that is decoded for an avatar.
    pub(super) fn decode_rows_of(&self, avatar: AvatarHandle) -> Result<[i64; 2]> {
        let run = MouthRun { avatar, poses: vec![0], audio: Arc::from([]), first_frame_at: 0 };
        Ok(self.avatar_of(&run)?.decode_rows)
    }

    /// Each run's latents through the decoder that its avatar has chosen, those of one decoder together.
    fn decode_each(&self, runs: &[MouthRun], latent: &Tensor, [first, end]: [i64; 2]) -> Result<Tensor> {
        let mut frames: BTreeMap<Option<usize>, Vec<i64>> = BTreeMap::new();
        let mut at = 0;
        for run in runs {
            let of = frames.entry(self.avatar_of(run)?.decoder).or_default();
            let next = at + i64::try_from(run.poses.len()).unwrap_or(0);
            of.extend(at..next);
            at = next;
        }
        let draw = |decoder: Option<usize>, latent: &Tensor| match self.small_decoder(decoder) {
            None => self.decode(latent, first, end - first),
            Some(small) => {
                let latent = latent.f_to_kind(self.precisions.decoder.kind())?;
                Ok(small.decode_rows(&latent, first, end - first)?.f_to_kind(self.kind)?)
            }
        };
        if frames.len() == 1
            && let Some(decoder) = frames.keys().next()
        {
            return draw(*decoder, latent);
        }
        let (mut pictures, mut order) = (Vec::new(), Vec::new());
        for (decoder, frames) in frames {
            let index = Tensor::f_from_slice(&frames)?.f_to_device(self.device)?;
            pictures.push(draw(decoder, &channels_last(&latent.f_index_select(0, &index)?)?)?);
            order.extend(frames);
        }
        // Back in the order of the runs.
        let back = Tensor::f_from_slice(&order)?.f_argsort(0, false)?.f_to_device(self.device)?;
        Ok(Tensor::f_cat(&pictures, 0)?.f_index_select(0, &back)?)
    }

    /// The picture in whole crops; rows that were not decoded are black.
    fn with_rows_before_and_after(&self, picture: &Tensor, first: i64) -> Result<Tensor> {
        let before = first * self.config.autoencoder.scale();
        let after = self.config.crop_size - before - picture.size4()?.2;
        Ok(picture.f_pad([0, 0, before, after], "constant", -1.0)?)
    }

    /// Whole crops of the rows from latent row `first` on; rows that were not decoded are black.
    fn to_frames(&self, picture: &Tensor, first: i64) -> Result<Vec<MouthFrame>> {
        let bytes = to_rgb8(picture)?.f_to_device(Device::Cpu)?;
        let (frames, rows, columns, channels) = bytes.size4()?;
        let size = self.config.crop_size;
        let scale = self.config.autoencoder.scale();
        let (before, drawn) = (first * scale * columns * channels, rows * columns * channels);
        let to_usize = |value: i64| usize::try_from(value).unwrap_or(0);
        let mut drawing = Vec::with_capacity(to_usize(frames));
        for index in 0..frames {
            let mut rgb = vec![0; to_usize(size * columns * channels)];
            if let Some(target) = rgb.get_mut(to_usize(before)..to_usize(before + drawn)) {
                bytes.f_get(index)?.f_copy_data_u8(target, to_usize(drawn))?;
            }
            let side = u32::try_from(size).unwrap_or(0);
            drawing.push(MouthFrame { width: side, height: side, rgb });
        }
        Ok(drawing)
    }
}

impl LipSync for MuseTalk {
    fn add_avatar(&mut self, latents: &Path, decode_rows: Option<[i64; 2]>) -> Result<AvatarHandle> {
        let path = latents.display().to_string();
        let wrong = |problem: String| LipSyncError::Latents { path: path.clone(), problem };
        let tensors = read_safetensors(latents).map_err(|error| wrong(error.to_string()))?;
        let found = tensors.into_iter().find(|(name, _)| name == "latents");
        let (_, tensor) = found.ok_or_else(|| wrong("has no tensor named \"latents\"".to_owned()))?;
        let (size, channels) = (self.config.latent_size(), self.config.unet.in_channels);
        let shape = tensor.size();
        if shape.len() != 4 || shape[0] < 1 || shape[1..] != [channels, size, size] {
            return Err(wrong(format!("are {shape:?}, the model wants [frames, {channels}, {size}, {size}]")));
        }
        if !matches!(tensor.kind(), Kind::Half | Kind::Float) {
            return Err(wrong(format!("are of type {:?}, not 16- or 32-bit floats", tensor.kind())));
        }
        let latents = tensor.f_to_kind(self.kind)?.f_to_device(self.device)?;
        let decode_rows = decode_rows.or(self.config.decode_rows).unwrap_or([0, size]);
        if !(0 <= decode_rows[0] && decode_rows[0] < decode_rows[1] && decode_rows[1] <= size) {
            return Err(wrong(format!("have {size} rows, decode_rows of the avatar is {decode_rows:?}")));
        }
        Ok(self.keep(Avatar { path, latents, decode_rows, canvas: None, decoder: None }))
    }

    fn remove_avatar(&mut self, avatar: AvatarHandle) {
        self.avatars.remove(&avatar.0);
        for (at, small) in self.small_decoders.iter_mut().enumerate() {
            if self.avatars.values().all(|avatar| avatar.decoder != Some(at)) {
                *small = None;
            }
        }
    }

    fn hears_back(&self) -> usize {
        self.audio.hears_back()
    }

    fn infer_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>> {
        let _no_grad = tch::no_grad_guard();
        let Some((picture, first, _)) = self.picture(runs, &mut Stopwatch::off())? else {
            return Ok(vec![Vec::new(); runs.len()]);
        };
        let mut frames = self.to_frames(&picture, first)?.into_iter();
        Ok(runs.iter().map(|run| frames.by_ref().take(run.poses.len()).collect()).collect())
    }

    fn add_canvas(&mut self, avatar: AvatarHandle, canvas: &avatar::Avatar) -> Result<()> {
        let side = u32::try_from(self.config.crop_size).unwrap_or(0);
        if self.pastes
            && let Some(avatar) = self.avatars.get_mut(&avatar.0)
        {
            avatar.canvas = Some(Canvas::new(canvas, side, self.device)?);
        }
        Ok(())
    }

    fn set_decoder(&mut self, avatar: AvatarHandle, folder: &Path) -> Result<()> {
        // Avatars that share one are decoded in one batch.
        let is_it = |small: &Option<SmallDecoder>| small.as_ref().is_some_and(|small| small.folder() == folder);
        let at = match self.small_decoders.iter().position(is_it) {
            Some(at) => at,
            None => {
                let mut small = SmallDecoder::load(folder, &self.config.autoencoder, self.device)?;
                small.freeze(self.precisions.decoder.kind())?;
                let free = self.small_decoders.iter().position(Option::is_none);
                let at = free.unwrap_or(self.small_decoders.len());
                self.small_decoders.resize_with(self.small_decoders.len().max(at + 1), || None);
                self.small_decoders[at] = Some(small);
                at
            }
        };
        if let Some(avatar) = self.avatars.get_mut(&avatar.0) {
            avatar.decoder = Some(at);
        }
        Ok(())
    }

    fn draw_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>> {
        Ok(self.draw(runs, &mut Stopwatch::off())?.0)
    }
}
