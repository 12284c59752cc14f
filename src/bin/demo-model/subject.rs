//! The drawn character as the face that training learns: any mouth in any pose, drawn when it is asked for.

use mouthpiece::training::TrainingError;
use mouthpiece::training::speeches::{Speech, pick_frame};
use mouthpiece::training::subject::{Crop, Layout, Rectangle, Subject};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::character::{CROP_SIZE, IDLE_FRAMES, MouthShape, draw_crop, idle_pose};
use crate::opening;
use crate::visemes::{PARAMETERS, shape};

/// How much each parameter counts: open, wide, round, press, bite, tongue, teeth.
const WEIGHTS: [f32; PARAMETERS] = [2.0, 1.0, 1.5, 2.0, 1.5, 0.7, 1.0];

/// The demo avatar's character.
#[derive(Clone, Copy, Debug)]
pub struct DrawnCharacter;

impl Subject for DrawnCharacter {
    fn layout(&self) -> Layout {
        Layout {
            hidden_from: 20,
            mouth: Rectangle { top: 14, height: 64, left: 18, width: 92 },
            mouth_begins: [4..=32, 12..=52],
            mouth_cells: Rectangle { top: 1, height: 10, left: 2, width: 12 },
            mouth_patch: Rectangle { top: 0, height: 11, left: 1, width: 14 },
            jaw_patch: Rectangle { top: 6, height: 10, left: 1, width: 14 },
        }
    }

    fn parameter_weights(&self) -> &[f32] {
        &WEIGHTS
    }

    fn poses(&self) -> usize {
        IDLE_FRAMES
    }

    fn crops(&self, wanted: &[Crop]) -> Result<Tensor, TrainingError> {
        let shapes = wanted.iter().map(|crop| Ok((crop.pose, shape_of(&crop.mouth)?)));
        let shapes: Result<Vec<(usize, MouthShape)>, TrainingError> = shapes.collect();
        Ok(draw_crops(&shapes?)?)
    }

    fn examples(&self, count: usize, speeches: &[Speech], rng: &mut ChaCha8Rng) -> Result<Tensor, TrainingError> {
        let mut wanted: Vec<_> = (0..IDLE_FRAMES).map(|pose| (pose, MouthShape::default())).collect();
        while wanted.len() < count {
            let pose = rng.random_range(0..IDLE_FRAMES);
            let shape = if rng.random_bool(0.25) {
                random_shape(rng)
            } else {
                let (speech, frame) = pick_frame(speeches, rng);
                shape_of(speeches[speech].mouth(frame))?
            };
            wanted.push((pose, shape));
        }
        Ok(draw_crops(&wanted)?)
    }

    fn openings(&self, pictures: &Tensor, part: Rectangle) -> Result<Tensor, TrainingError> {
        Ok(opening::areas(pictures, part)?)
    }
}

fn shape_of(mouth: &[f32]) -> Result<MouthShape, TrainingError> {
    let wrong = |_| TrainingError::Parameters { found: mouth.len(), wanted: PARAMETERS };
    Ok(shape(<[f32; PARAMETERS]>::try_from(mouth).map_err(wrong)?))
}

/// Shapes at random, for the autoencoder: also those that no phone makes.
fn random_shape(rng: &mut ChaCha8Rng) -> MouthShape {
    let mut values = [0.0; PARAMETERS];
    for value in &mut values {
        if rng.random_bool(0.45) {
            *value = rng.random_range(0.0..1.0);
        }
    }
    shape(values)
}

/// Draws crops on all cores: `[n, 128, 128, 3]` bytes.
fn draw_crops(wanted: &[(usize, MouthShape)]) -> Result<Tensor, tch::TchError> {
    let side = CROP_SIZE as usize;
    let size = side * side * 3;
    let mut bytes = vec![0_u8; wanted.len() * size];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = wanted.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (wanted, out) in wanted.chunks(share).zip(bytes.chunks_mut(share * size)) {
            scope.spawn(move || {
                for ((pose, shape), out) in wanted.iter().zip(out.chunks_exact_mut(size)) {
                    out.copy_from_slice(&draw_crop(&idle_pose(*pose), shape));
                }
            });
        }
    });
    let side = i64::from(CROP_SIZE);
    Tensor::f_from_slice(&bytes)?.f_view([-1, side, side, 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_is_given_the_very_crop_that_is_drawn() {
        let mouth = vec![0.7, 0.2, 0.1, 0.0, 0.0, 0.4, 0.0];
        let drawn = draw_crop(
            &idle_pose(17),
            &MouthShape { open: 0.7, wide: 0.2, round: 0.1, tongue: 0.4, ..MouthShape::default() },
        );
        let crops =
            DrawnCharacter.crops(&[Crop { pose: 3, mouth: vec![0.0; PARAMETERS] }, Crop { pose: 17, mouth }]).unwrap();
        assert_eq!(crops.size(), [2, 128, 128, 3]);
        assert_eq!(Vec::<u8>::try_from(crops.get(1).reshape([-1])).unwrap(), drawn);
        let short = DrawnCharacter.crops(&[Crop { pose: 0, mouth: vec![0.0; 2] }]).unwrap_err();
        assert_eq!(short.to_string(), "a mouth has 2 parameters, must have 7");
    }
}
