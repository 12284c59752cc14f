//! Sound as this program passes it on: chunks of mono samples, and a stream of them for each sentence.
//!
//! In here: the chunk, the stream and what makes one of a channel; 16-bit samples to floats and back. Not in here: other
//! rates (`resample`), what the sound is (`tts`, `sound`). Pure; a stream runs on the task that polls it.

use std::ops::RangeInclusive;

use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use super::SpeechError;

/// Samples a second that speech comes at or is asked for.
pub const SAMPLE_RATES: RangeInclusive<u32> = 8_000..=48_000;

/// Some mono speech as a synthesiser or a client delivered it.
#[derive(Clone, Debug, PartialEq)]
pub struct PcmChunk {
    /// -1.0 to 1.0
    pub samples: Vec<f32>,
    /// Samples a second, the same in every chunk of a stream.
    pub sample_rate: u32,
    /// The same as people are to hear it, as long as `samples`, where that is not as loud as it came.
    pub levelled: Option<Vec<f32>>,
    /// When the next words of the text begin, in milliseconds from the beginning of the stream; comes with the first sound of
    /// each part of it, from voices that know it. A word is what stands between white space.
    pub words: Vec<u32>,
}

impl PcmChunk {
    /// As loud as it is, and without words.
    pub fn new(samples: Vec<f32>, sample_rate: u32) -> Self {
        Self { samples, sample_rate, levelled: None, words: Vec::new() }
    }

    /// The samples that people are to hear.
    pub fn heard(&self) -> &[f32] {
        self.levelled.as_deref().unwrap_or(&self.samples)
    }
}

/// The chunks of one spoken sentence, in order; an error is the last item. What makes them reads ahead of whoever polls, as
/// far as its own channel has room, and stops at once when the stream is dropped.
pub type PcmStream = BoxStream<'static, Result<PcmChunk, SpeechError>>;

/// What a task or a thread sends, which learns by the closed channel that the stream was dropped.
pub fn received(mut chunks: mpsc::Receiver<Result<PcmChunk, SpeechError>>) -> PcmStream {
    Box::pin(stream::poll_fn(move |context| chunks.poll_recv(context)))
}

/// The stream of a text in which nothing can be said.
pub(super) fn silent() -> PcmStream {
    Box::pin(stream::empty())
}

/// The nearest 16-bit sample; what is too loud is clipped and what is not a number is silent.
pub fn to_i16(sample: f32) -> i16 {
    // `as` saturates and turns NaN into 0, which is what is wanted here.
    #[allow(clippy::cast_possible_truncation)]
    let rounded = (sample * 32_768.0).round() as i16;
    rounded
}

/// A 16-bit sample as a float from -1.0 to below 1.0; `to_i16` turns it back exactly.
pub fn from_i16(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_samples_are_rounded_clipped_and_never_noise() {
        assert_eq!(to_i16(0.0), 0);
        assert_eq!(to_i16(1.0), i16::MAX);
        assert_eq!(to_i16(-1.0), i16::MIN);
        assert_eq!(to_i16(9.0), i16::MAX);
        assert_eq!(to_i16(f32::NEG_INFINITY), i16::MIN);
        assert_eq!(to_i16(f32::NAN), 0);
        assert_eq!(to_i16(0.6 / 32_768.0), 1);
        assert_eq!(to_i16(-0.6 / 32_768.0), -1);
        for sample in [i16::MIN, -1, 0, 1, 12_345, i16::MAX] {
            assert_eq!(to_i16(from_i16(sample)), sample);
        }
    }
}
