//! What training draws on: speech with a mouth shape for every frame, drawn crops, and windows of sound cut as the
//! server cuts them.

use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Tensor};

use super::character::{self, CROP_SIZE, IDLE_FRAMES, MouthShape, idle_pose};
use super::corpus::Clip;
use super::visemes::{MouthTrack, PARAMETERS, Phone, shape};
use super::{Result, augment};
use crate::musetalk::ModelConfig;
use crate::musetalk::audio::{FRAME_ROWS, LOCAL_MARGIN, ROW_STEP, local_window};
use crate::musetalk::config::AudioWindow;
use crate::musetalk::mel::LogMel;
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// Samples around a window that its outermost mel frames see.
const MARGIN: i64 = 400;
/// Share of the windows that are heard as they are: what is served is clean more often than not.
const CLEAN: f64 = 0.5;
/// Frames of a window that are drawn from it at once: the server's largest usual batch.
pub const BATCH: usize = 4;

/// A recording, or a resampled copy of one, and what the mouth does in each of its frames.
#[derive(Clone, Debug)]
pub struct Speech {
    pub samples: Arc<[f32]>,
    pub shapes: Vec<MouthShape>,
}

impl Speech {
    pub fn new(samples: Arc<[f32]>, phones: &[Phone]) -> Self {
        let track = MouthTrack::new(phones, &samples);
        let frames = samples.len().div_ceil(LIPSYNC_SAMPLES_PER_FRAME);
        Self { samples, shapes: (0..frames).map(|frame| track.frame(frame)).collect() }
    }
}

/// Every clip as it is, and most of them again with another voice.
pub fn speeches(clips: &[Clip], rng: &mut ChaCha8Rng) -> Vec<Speech> {
    let mut all = Vec::new();
    for clip in clips {
        let phones = &clip.entry.phones;
        all.push(Speech::new(Arc::clone(&clip.samples), phones));
        if rng.random_bool(0.75) {
            let factor = rng.random_range(0.82..1.22_f64);
            let samples = augment::resample(&clip.samples, factor);
            let moved = |phone: &Phone| Phone { start: phone.start / factor, end: phone.end / factor, ..phone.clone() };
            let phones: Vec<Phone> = phones.iter().map(moved).collect();
            all.push(Speech::new(samples.into(), &phones));
        }
    }
    all
}

/// How much a frame teaches: closures, rounded lips, wide openings and fast changes are rare and matter.
fn value(shapes: &[MouthShape], frame: usize) -> f32 {
    let now = shapes.get(frame).copied().unwrap_or_default();
    if now == MouthShape::default() {
        return 0.5;
    }
    let before = frame.checked_sub(1).and_then(|at| shapes.get(at)).copied().unwrap_or_default();
    let rare = now.press.max(now.bite).max(((now.round - 0.4) * 2.5).max(0.0));
    1.0 + 2.5 * rare + 1.5 * (now.open - 0.4).max(0.0) + 4.0 * (now.open - before.open).abs()
}

/// A frame of some speech, valuable ones more often.
pub fn pick_frame(speeches: &[Speech], rng: &mut ChaCha8Rng) -> (usize, usize) {
    loop {
        let speech = rng.random_range(0..speeches.len());
        let shapes = &speeches[speech].shapes;
        // A quarter of a second of rest after the end, too.
        let frame = rng.random_range(0..shapes.len() + 6);
        if rng.random_range(0.0..3.5) < value(shapes, frame) {
            return (speech, frame);
        }
    }
}

/// Shapes at random, for the autoencoder: also those that no phone makes.
pub fn random_shape(rng: &mut ChaCha8Rng) -> MouthShape {
    let mut values = [0.0; PARAMETERS];
    for value in &mut values {
        if rng.random_bool(0.45) {
            *value = rng.random_range(0.0..1.0);
        }
    }
    shape(values)
}

/// Draws crops on all cores: `[n, 128, 128, 3]` bytes.
pub fn draw_crops(jobs: &[(usize, MouthShape)]) -> Result<Tensor> {
    let side = CROP_SIZE as usize;
    let size = side * side * 3;
    let mut bytes = vec![0_u8; jobs.len() * size];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = jobs.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (jobs, out) in jobs.chunks(share).zip(bytes.chunks_mut(share * size)) {
            scope.spawn(move || {
                for ((pose, shape), out) in jobs.iter().zip(out.chunks_exact_mut(size)) {
                    out.copy_from_slice(&character::draw_crop(&idle_pose(*pose), shape));
                }
            });
        }
    });
    let side = i64::from(CROP_SIZE);
    Ok(Tensor::f_from_slice(&bytes)?.f_view([-1, side, side, 3])?)
}

/// What the autoencoder learns from: every pose at rest, shapes of speech, and shapes at random.
pub fn autoencoder_jobs(speeches: &[Speech], crops: usize, rng: &mut ChaCha8Rng) -> Vec<(usize, MouthShape)> {
    let mut jobs: Vec<_> = (0..IDLE_FRAMES).map(|pose| (pose, MouthShape::default())).collect();
    while jobs.len() < crops {
        let pose = rng.random_range(0..IDLE_FRAMES);
        let shape = if rng.random_bool(0.25) {
            random_shape(rng)
        } else {
            let (speech, frame) = pick_frame(speeches, rng);
            speeches[speech].shapes.get(frame).copied().unwrap_or_default()
        };
        jobs.push((pose, shape));
    }
    jobs
}

/// Cuts and analyses windows of sound.
#[derive(Debug)]
pub struct Windows {
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
    use crate::musetalk::audio::frame_tokens;

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
