//! Channels mixed to one, and rates that nobody speaks at brought down.
//!
//! In here: both, for a stream of frames. Not in here: where frames come from. Runs on: whoever reads a sound.

use super::{MAX_CHANNELS, SoundError};
use crate::speech::pcm::SAMPLE_RATES;
use crate::speech::resample::{Resampler, SOURCE_RATES};

/// Louder than that nothing is recorded on purpose: it is another kind of number, and would be played as noise.
const LOUDEST: f32 = 16.0;

pub(super) struct Mono {
    channels: usize,
    rate: u32,
    /// For what is faster than speech comes in.
    resampler: Option<Resampler>,
}

impl Mono {
    pub fn new(channels: u16, rate: u32) -> Result<Self, SoundError> {
        if !(1..=MAX_CHANNELS).contains(&channels) || !SOURCE_RATES.contains(&rate) {
            return Err(SoundError::Shape { channels, rate });
        }
        let fastest = *SAMPLE_RATES.end();
        let resampler = (rate > fastest).then(|| Resampler::new(rate, fastest)).transpose();
        let resampler = resampler.map_err(|_| SoundError::Shape { channels, rate })?;
        Ok(Self { channels: channels.into(), rate: rate.min(fastest), resampler })
    }

    pub fn sample_rate(&self) -> u32 {
        self.rate
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Whole frames, one sample of each channel after another. Every channel counts the same: what is in one only is heard
    /// too, whatever the channel is called.
    pub fn push(&mut self, frames: &[f32]) -> Result<Vec<f32>, SoundError> {
        if let Some(sample) = frames.iter().find(|sample| !(-LOUDEST..=LOUDEST).contains(*sample)) {
            return Err(SoundError::TooLoud(sample.to_string()));
        }
        #[allow(clippy::cast_precision_loss, reason = "at most eight")]
        let share = 1.0 / self.channels as f32;
        let mixed: Vec<f32> = match self.channels {
            1 => frames.to_vec(),
            channels => frames.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() * share).collect(),
        };
        match &mut self.resampler {
            None => Ok(mixed),
            Some(resampler) => resampler.push(&mixed).map_err(damaged),
        }
    }

    /// What is left at the end of the sound.
    pub fn finish(&mut self) -> Result<Vec<f32>, SoundError> {
        self.resampler.as_mut().map_or(Ok(Vec::new()), Resampler::finish).map_err(damaged)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn damaged(error: crate::speech::SpeechError) -> SoundError {
    SoundError::Damaged { form: "sound", problem: error.to_string() }
}
