//! Windows of sound, cut and analysed as the server does it.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::{Result, augment};
use crate::musetalk::ModelConfig;
use crate::musetalk::network::audio_rows::{FRAME_ROWS, LOCAL_MARGIN, ROW_STEP, local_window};
use crate::musetalk::network::config::AudioWindow;
use crate::musetalk::network::mel::LogMel;
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// Samples around a window that its outermost mel frames see.
const MARGIN: i64 = 400;
/// Share of the windows that are heard as they are: what is served is clean more often than not.
const CLEAN: f64 = 0.5;
/// Frames of a window that are drawn from it at once: the server's largest usual batch.
pub(super) const BATCH: usize = 4;

/// Cuts and analyses windows of sound.
#[derive(Debug)]
pub(super) struct Windows {
    mel: LogMel,
    rows: i64,
    hop: i64,
}

impl Windows {
    pub fn new(config: &ModelConfig) -> Result<Self> {
        let rows = match config.audio_window {
            AudioWindow::Local { rows } => rows,
            AudioWindow::Utterance => config.audio_encoder.max_source_positions,
        };
        Ok(Self { mel: LogMel::new(&config.mel, Device::Cpu)?, rows, hop: config.mel.hop })
    }

    /// The log-mel spectrogram, `[n_mels, 2 * rows]`, that the encoder gets when frame `last` is the last of a batch;
    /// `disturb` is given the sound first.
    pub fn mel(&self, samples: &[f32], last: usize, disturb: impl FnOnce(&mut [f32])) -> Result<Tensor> {
        let whole = |value: usize| i64::try_from(value).unwrap_or(i64::MAX / 2);
        let [start, end] = local_window(1, self.rows);
        let first = whole(last * LIPSYNC_SAMPLES_PER_FRAME) + 2 * self.hop * start - MARGIN;
        let length = 2 * self.hop * (end - start) + 2 * MARGIN;
        let mut sound = vec![0.0; usize::try_from(length).unwrap_or(0)];
        for (at, out) in (first..).zip(&mut sound) {
            *out = usize::try_from(at).ok().and_then(|at| samples.get(at)).copied().unwrap_or(0.0);
        }
        disturb(&mut sound);
        Ok(self.mel.stretch(&sound, MARGIN, 2 * self.rows)?)
    }

    /// [`Windows::mel`] of a recording as it is, or with all that may happen to one.
    pub fn heard(&self, samples: &[f32], last: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        if rng.random_bool(CLEAN) {
            return self.mel(samples, last, |_| ());
        }
        augment::disturb_bands(&self.mel(samples, last, |sound| augment::disturb(sound, rng))?, rng)
    }

    /// The tokens, `[batch, tokens, d]`, of the frame `before_last` frames before a window's last, from the encoder's
    /// `[batch, rows, states, d]`.
    pub fn tokens(&self, hidden: &Tensor, before_last: usize) -> Result<Tensor> {
        let before_last = i64::try_from(before_last).unwrap_or(0);
        let row = self.rows - LOCAL_MARGIN - FRAME_ROWS - ROW_STEP * before_last;
        Ok(hidden.f_narrow(1, row, FRAME_ROWS)?.f_flatten(1, 2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::musetalk::network::audio_rows::frame_tokens;

    #[test]
    fn training_hears_what_serving_hears() {
        let config: ModelConfig = serde_json::from_str(include_str!("../../models/demo/config.json")).unwrap();
        let windows = Windows::new(&config).unwrap();
        let hidden = Tensor::arange(64 * 3 * 2, (tch::Kind::Float, Device::Cpu)).view([64, 3, 2]);
        for frames in [1_i64, 2, 4] {
            let [start, _] = local_window(frames, 64);
            let served = frame_tokens(&hidden, start, frames).unwrap();
            for frame in 0..frames {
                let before_last = usize::try_from(frames - 1 - frame).unwrap();
                let trained = windows.tokens(&hidden.unsqueeze(0), before_last).unwrap();
                assert_eq!(trained.squeeze_dim(0), served.get(frame));
            }
        }
        // The same sound, too: a click shows in the same mel frame.
        let mut samples = vec![0.0; 640 * 30];
        samples[640 * 20 + 100] = 1.0;
        let trained = windows.mel(&samples, 21, |_| ()).unwrap();
        let served = LogMel::new(&config.mel, Device::Cpu).unwrap().stretch(
            &samples,
            640 * 21 + 320 * local_window(1, 64)[0],
            128,
        );
        assert_eq!(trained, served.unwrap());
    }
}
