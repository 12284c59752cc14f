//! Teaches a small decoder to draw one avatar's mouth as the model's own decoder does.
//!
//! In here: what it learns from (the latents of the avatar's own frames and of speech, as the UNet gives them), the loss,
//! and the error before and after on frames it never saw. Not in here: where the files lie (`commands`). Runs on: the
//! thread that calls, with gradients.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tch::nn::OptimizerConfig;
use tch::{Kind, Tensor, nn};

use crate::avatar::Avatar;
use crate::lipsync::{AvatarHandle, LipSyncError, MouthRun};
use crate::musetalk::Result;
use crate::musetalk::network::layers::channels_last;
use crate::musetalk::serving::{MuseTalk, SmallDecoder};
use crate::picture::Mask;
use crate::timeline::LIPSYNC_SAMPLES_PER_FRAME;

/// Frames drawn or taught at once.
const BATCH: usize = 4;
/// One frame of so many is kept for judging.
const HELD_OUT: usize = 8;
/// What the rest of the decoded rows counts beside the part that is pasted: nobody sees it, but it must not run wild.
const AROUND: f64 = 0.02;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    /// Batches to learn from.
    pub steps: usize,
    /// Frames to learn from and to be judged by, half of them the avatar's own and half spoken.
    pub frames: usize,
    /// Adam's, falling to nothing.
    pub learning_rate: f64,
    /// Of the choice of frames for each step.
    pub seed: u64,
}

/// How far the pasted part of the held-out frames is from the model's own decoder.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct MouthError {
    /// Mean absolute difference, in levels of 255.
    pub levels: f64,
    /// Peak signal to noise ratio, in decibels.
    pub psnr_db: f64,
}

/// What tuning achieved.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Tuned {
    /// With the decoder as it came.
    pub before: MouthError,
    /// With the tuned one.
    pub after: MouthError,
    /// Frames that both were judged by and that nothing was learned from.
    pub held_out: usize,
}

/// Latents, what the model's decoder makes of them, and where the mouth is.
struct Examples {
    latents: Tensor,
    /// `[n, 3, rows, columns]`, 16-bit to halve what they take.
    pictures: Tensor,
    /// `[1, 1, rows, columns]`, 0 to 1.
    weight: Tensor,
    rows: [i64; 2],
}

/// Tunes `student` for `avatar`, whose handle is `handle`, on its own frames and on `speech` (16 kHz). `progress` is told
/// after every step.
pub fn tune(
    model: &mut MuseTalk,
    (avatar, handle): (&Avatar, AvatarHandle),
    student: &SmallDecoder,
    speech: &[f32],
    lesson: Lesson,
    progress: &mut dyn FnMut(usize),
) -> Result<Tuned> {
    let examples = tch::no_grad(|| Examples::collect(model, (avatar, handle), speech, lesson.frames))?;
    let count = usize::try_from(examples.latents.size4()?.0).unwrap_or(0);
    let (held_out, taught): (Vec<usize>, Vec<usize>) = (0..count).partition(|at| at % HELD_OUT == 0);
    if taught.is_empty() {
        let problem = format!("{count} are too few, at least {HELD_OUT} are needed");
        return Err(LipSyncError::Config { field: "frames".to_owned(), problem });
    }
    let before = examples.judge(student, &held_out)?;
    let mut rng = StdRng::seed_from_u64(lesson.seed);
    let mut optimizer = nn::Adam::default().build(&student.store, lesson.learning_rate)?;
    for step in 0..lesson.steps {
        let batch: Vec<usize> = (0..BATCH).map(|_| taught[rng.random_range(0..taught.len())]).collect();
        let loss = examples.loss(student, &batch)?;
        optimizer.set_lr(lesson.learning_rate * falling(step, lesson.steps));
        optimizer.zero_grad();
        loss.f_backward()?;
        optimizer.clip_grad_norm(1.0);
        optimizer.step();
        progress(step + 1);
    }
    Ok(Tuned { before, after: examples.judge(student, &held_out)?, held_out: held_out.len() })
}

/// Half a cosine from 1 to 0.
#[allow(clippy::cast_precision_loss, reason = "steps are thousands")]
fn falling(step: usize, steps: usize) -> f64 {
    (1.0 + (std::f64::consts::PI * step as f64 / steps.max(1) as f64).cos()) / 2.0
}

impl Examples {
    fn collect(
        model: &mut MuseTalk,
        (avatar, handle): (&Avatar, AvatarHandle),
        speech: &[f32],
        frames: usize,
    ) -> Result<Self> {
        let rows = model.decode_rows_of(handle)?;
        let spoken = speech.len() / LIPSYNC_SAMPLES_PER_FRAME;
        let poses = avatar.frame_count().max(1);
        let (mut latents, mut pictures) = (Vec::new(), Vec::new());
        for first in (0..frames / 2).step_by(BATCH) {
            // Spread over all the avatar has and all that is said.
            let run = MouthRun {
                avatar: handle,
                poses: (first..first + BATCH).map(|at| (at * poses / (frames / 2).max(1)) % poses).collect(),
                audio: speech.into(),
                first_frame_at: (first * spoken.saturating_sub(BATCH) / (frames / 2).max(1))
                    * LIPSYNC_SAMPLES_PER_FRAME,
            };
            let (own, talking) = model.latents(&run)?;
            let both = Tensor::f_cat(&[own, talking], 0)?;
            pictures.push(model.decode(&both, rows[0], rows[1] - rows[0])?.f_to_kind(Kind::Half)?);
            latents.push(both.f_to_kind(Kind::Float)?);
        }
        let weight = weight_of(&avatar.mask, model, rows)?;
        Ok(Self { latents: Tensor::f_cat(&latents, 0)?, pictures: Tensor::f_cat(&pictures, 0)?, weight, rows })
    }

    /// What the student draws and what it should have drawn, both within what a screen can show only when judged.
    fn drawn(&self, student: &SmallDecoder, which: &[usize]) -> Result<(Tensor, Tensor)> {
        let which: Vec<i64> = which.iter().map(|&at| i64::try_from(at).unwrap_or(0)).collect();
        let index = Tensor::f_from_slice(&which)?.f_to_device(self.latents.device())?;
        let latents = channels_last(&self.latents.f_index_select(0, &index)?)?;
        let drawn = student.decode_rows(&latents, self.rows[0], self.rows[1] - self.rows[0])?;
        Ok((drawn, self.pictures.f_index_select(0, &index)?.f_to_kind(Kind::Float)?))
    }

    /// Mean absolute difference of colours and of edges where the mouth is, and a little of the rest.
    fn loss(&self, student: &SmallDecoder, which: &[usize]) -> Result<Tensor> {
        let (drawn, truth) = self.drawn(student, which)?;
        let difference = drawn.f_sub(&truth)?;
        let weight = self.weight.f_add_scalar(AROUND)?;
        let weighed = |values: &Tensor, weight: &Tensor| -> Result<Tensor> {
            Ok(values.f_abs()?.f_mul(weight)?.f_mean(Kind::Float)?.f_div(&weight.f_mean(Kind::Float)?)?)
        };
        let mut loss = weighed(&difference, &weight)?;
        for dim in [2, 3] {
            let length = weight.size()[usize::try_from(dim).unwrap_or(0)] - 1;
            let edges = difference.f_diff(1, dim, None::<&Tensor>, None::<&Tensor>)?;
            loss = loss.f_add(&weighed(&edges, &weight.f_narrow(dim, 0, length)?)?)?;
        }
        Ok(loss)
    }

    fn judge(&self, student: &SmallDecoder, which: &[usize]) -> Result<MouthError> {
        let (mut absolute, mut square, mut count) = (0.0, 0.0, 0.0);
        tch::no_grad(|| {
            for which in which.chunks(BATCH) {
                let (drawn, truth) = self.drawn(student, which)?;
                let difference = drawn.f_clamp(-1.0, 1.0)?.f_sub(&truth.f_clamp(-1.0, 1.0)?)?.f_mul_scalar(127.5)?;
                let sum = |values: Tensor| values.f_mul(&self.weight)?.f_sum(Kind::Double)?.f_double_value(&[]);
                absolute += sum(difference.f_abs()?)?;
                square += sum(difference.f_square()?)?;
                count += sum(difference.f_ones_like()?)?;
            }
            Ok::<(), LipSyncError>(())
        })?;
        let mean = |sum: f64| sum / count.max(1e-9);
        Ok(MouthError { levels: mean(absolute), psnr_db: 10.0 * (255.0 * 255.0 / mean(square).max(1e-9)).log10() })
    }
}

/// The mask as large as the crop, cut to the rows that are decoded.
fn weight_of(mask: &Mask, model: &MuseTalk, rows: [i64; 2]) -> Result<Tensor> {
    let side = model.config().crop_size;
    let scale = model.config().autoencoder.scale();
    let alpha = Tensor::f_from_slice(&mask.alpha)?.f_view([1, 1, i64::from(mask.height), i64::from(mask.width)])?;
    let unit = alpha.f_to_device(model.device())?.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    let scaled = unit.f_upsample_bilinear2d([side, side], false, None, None)?;
    Ok(scaled.f_narrow(2, rows[0] * scale, (rows[1] - rows[0]) * scale)?)
}
