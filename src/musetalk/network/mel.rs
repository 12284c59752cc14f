//! The log-mel spectrogram that Whisper's feature extractor makes: 25 ms Hann windows every 10 ms, Slaney mel filters.
//!
//! In here: the filters, computed rather than shipped, and two ways to cut the audio: whole segments with reflected
//! ends as Whisper does it, and stretches of a stream with silence around them. Not in here: resampling.

use tch::{Device, Kind, Tensor};

use super::config::{MelConfig, MelFloor};
use crate::musetalk::Result;

/// Filters and window, made once.
#[derive(Debug)]
pub struct LogMel {
    config: MelConfig,
    window: Tensor,
    /// `[bins, n_mels]`
    filters: Tensor,
}

impl LogMel {
    /// Those of a configuration, for sound on `device`.
    pub fn new(config: &MelConfig, device: Device) -> Result<Self> {
        config.validate()?;
        let window = Tensor::f_hann_window(config.n_fft, (Kind::Float, device))?;
        let filters = Tensor::f_from_slice(&slaney_filters(config))?.f_view([config.n_mels, config.n_fft / 2 + 1])?;
        // Transposed and contiguous, so that the product below is one plain matrix product.
        let filters = filters.f_transpose(0, 1)?.f_contiguous()?.f_to_kind(Kind::Float)?.f_to_device(device)?;
        Ok(Self { config: config.clone(), window, filters })
    }

    /// The spectrogram of a whole segment, `[n_mels, samples / hop]`, of `[samples]` mono f32, its ends reflected.
    ///
    /// Whisper's own extractor first pads the audio with zeros to 30 s; so must the caller who wants the same numbers.
    pub fn segment(&self, audio: &Tensor) -> Result<Tensor> {
        Ok(self.reflected(&audio.f_unsqueeze(0)?)?.f_squeeze_dim(0)?)
    }

    /// [`LogMel::segment`] of several at once, `[segments, samples]`.
    pub(in crate::musetalk) fn reflected(&self, audio: &Tensor) -> Result<Tensor> {
        let samples = audio.size2()?.1;
        let (frames, half) = (samples / self.config.hop, self.config.n_fft / 2);
        // Reflection needs more samples than it adds.
        let missing = (half + 1 - samples).max(0);
        self.scale(&audio.f_constant_pad_nd([0, missing])?.f_reflection_pad1d([half, half])?, frames)
    }

    /// The spectrogram, `[n_mels, frames]`, of `frames` frames of a stream, the first centred on sample `first` of `audio`; outside of `audio` is silence.
    pub fn stretch(&self, audio: &[f32], first: i64, frames: i64) -> Result<Tensor> {
        Ok(self.stretches(&[(audio, first)], frames)?.f_squeeze_dim(0)?)
    }

    /// [`LogMel::stretch`] of several at once, `[stretches, n_mels, frames]`: each of a sound and the sample of it that the
    /// first frame is centred on.
    pub fn stretches(&self, sounds: &[(&[f32], i64)], frames: i64) -> Result<Tensor> {
        let half = self.config.n_fft / 2;
        let from: Vec<(&[f32], i64)> = sounds.iter().map(|(sound, first)| (*sound, first - half)).collect();
        self.scale(&self.cut(&from, (frames - 1) * self.config.hop + self.config.n_fft)?, frames)
    }

    /// `samples` of each sound from a sample on, `[sounds, samples]`, in one copy to the device; outside of a sound is silence.
    pub(in crate::musetalk) fn cut(&self, sounds: &[(&[f32], i64)], samples: i64) -> Result<Tensor> {
        let length = usize::try_from(samples).unwrap_or(0);
        let mut all = vec![0.0; length * sounds.len()];
        for ((sound, start), cut) in sounds.iter().zip(all.chunks_exact_mut(length.max(1))) {
            let (skipped, before) = (start.max(&0), (-start).max(0));
            let heard = usize::try_from(*skipped).ok().and_then(|from| sound.get(from..)).unwrap_or_default();
            let room = usize::try_from(before).ok().and_then(|from| cut.get_mut(from..)).unwrap_or_default();
            room.iter_mut().zip(heard).for_each(|(to, sample)| *to = *sample);
        }
        let count = i64::try_from(sounds.len()).unwrap_or(0);
        Ok(Tensor::f_from_slice(&all)?.f_view([count, samples])?.f_to_device(self.window.device())?)
    }

    /// Of `[sounds, samples]`, `[sounds, n_mels, frames]`.
    fn scale(&self, padded: &Tensor, frames: i64) -> Result<Tensor> {
        let cut = padded.f_unfold(1, self.config.n_fft, self.config.hop)?.f_narrow(1, 0, frames)?;
        let spectrum = cut.f_mul(&self.window)?.f_fft_rfft(None, -1, "backward")?;
        // Not by way of the magnitude, whose root takes four times as long as all of this.
        let parts = spectrum.f_view_as_real()?;
        let square = |part: i64| parts.f_select(-1, part)?.f_square();
        let power = square(0)?.f_add(&square(1)?)?;
        let mel = power.f_matmul(&self.filters)?.f_transpose(1, 2)?;
        let log = match self.config.floor {
            MelFloor::Absolute(floor) => mel.f_clamp_min(floor)?.f_log10()?,
            MelFloor::SegmentMax => {
                let log = mel.f_clamp_min(1e-10)?.f_log10()?;
                if frames == 0 { log } else { log.f_maximum(&log.f_amax([1, 2], true)?.f_sub_scalar(8.0)?)? }
            }
        };
        Ok(log.f_add_scalar(4.0)?.f_div_scalar(4.0)?.f_contiguous()?)
    }
}

/// Slaney's mel scale: linear to 1 kHz, logarithmic above.
fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz >= 1000.0 { 15.0 + (hertz / 1000.0).ln() * 27.0 / 6.4_f64.ln() } else { 3.0 * hertz / 200.0 }
}

fn mel_to_hertz(mel: f64) -> f64 {
    if mel >= 15.0 { 1000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp() } else { 200.0 * mel / 3.0 }
}

/// Triangles of equal area, row by row: `n_mels` rows of `n_fft / 2 + 1`.
fn slaney_filters(config: &MelConfig) -> Vec<f64> {
    let float = |value: i64| f64::from(i32::try_from(value).unwrap_or(i32::MAX));
    let nyquist = float(config.sample_rate) / 2.0;
    let bins = config.n_fft / 2 + 1;
    let top = hertz_to_mel(nyquist);
    let corner = |index: i64| mel_to_hertz(top * float(index) / float(config.n_mels + 1));
    let mut filters = Vec::new();
    for mel in 0..config.n_mels {
        let (low, centre, high) = (corner(mel), corner(mel + 1), corner(mel + 2));
        for bin in 0..bins {
            let hertz = nyquist * float(bin) / float(bins - 1);
            let height = ((hertz - low) / (centre - low)).min((high - hertz) / (high - centre)).max(0.0);
            filters.push(height * 2.0 / (high - low));
        }
    }
    filters
}
