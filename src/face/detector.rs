//! Where faces are: BlazeFace, in two builds, on the whole picture and, where that finds none, on parts of it.
//!
//! In here: anchors, decoding, merging of boxes that mean one face. Not in here: the mesh. After MediaPipe's
//! `ssd_anchors_calculator.cc`, `tensors_to_detections_calculator.cc` and `non_max_suppression_calculator.cc` (Apache-2.0).

use std::path::Path;
use std::sync::Arc;

use rten::ThreadPool;

use super::network::{Layout, Network};
use super::sampling::{Beyond, Crop, Levels};
use super::{FaceBox, FaceError};
use crate::picture::RgbPicture;

/// Raw scores are cut to this before the sigmoid, which overflows a float beyond.
const RAW_SCORE: f32 = 80.0;
/// Boxes below that are no face.
const LEAST_SCORE: f32 = 0.5;
/// Boxes that share more of their union than this are one face.
const SAME_FACE: f32 = 0.3;
/// Numbers of a raw box: centre, size, six points.
const BOX: usize = 16;
/// Faces of a picture, at most: the largest.
const MOST_FACES: usize = 16;

const SHORT_RANGE: Layout = Layout {
    file: "face_detection_short_range.onnx",
    input: "input",
    size: 128,
    outputs: ["regressors", "classificators"],
    lengths: [896 * BOX, 896],
};
const FULL_RANGE: Layout = Layout {
    file: "face_detection_full_range.onnx",
    input: "input",
    size: 192,
    outputs: ["reshaped_regressor_face_4", "reshaped_classifier_face_4"],
    lengths: [2304 * BOX, 2304],
};
/// Anchors: cells along a side, and how many anchors lie in each cell.
const SHORT_RANGE_ANCHORS: [(u16, usize); 2] = [(16, 2), (8, 6)];
const FULL_RANGE_ANCHORS: [(u16, usize); 1] = [(48, 1)];

/// A face as the detector sees it, in pixels of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Detection {
    /// 0 to 1.
    pub(super) score: f32,
    pub(super) bounds: FaceBox,
    /// Middles of the eyes, the left one in the picture first.
    pub(super) eyes: [[f32; 2]; 2],
}

pub(super) struct Detector {
    short_range: Network,
    full_range: Network,
    short_anchors: Vec<[f32; 2]>,
    full_anchors: Vec<[f32; 2]>,
}

impl Detector {
    pub(super) fn load(folder: &Path, pool: &Arc<ThreadPool>) -> Result<Self, FaceError> {
        Ok(Self {
            short_range: Network::load(folder, &SHORT_RANGE, pool)?,
            full_range: Network::load(folder, &FULL_RANGE, pool)?,
            short_anchors: anchors(&SHORT_RANGE_ANCHORS),
            full_anchors: anchors(&FULL_RANGE_ANCHORS),
        })
    }

    /// Faces, the largest first. The full range sees smaller ones but loses drawn ones, so it comes second; parts of the
    /// picture, in which faces are larger, come last.
    pub(super) fn find(&self, picture: &RgbPicture) -> Result<Vec<Detection>, FaceError> {
        let mut found = self.find_large(picture)?;
        if found.is_empty() {
            for part in parts(picture) {
                found.extend(self.look(&self.short_range, &self.short_anchors, picture, part)?);
            }
            found = largest(merge(found));
        }
        Ok(found)
    }

    /// Faces that are found without looking at parts.
    pub(super) fn find_large(&self, picture: &RgbPicture) -> Result<Vec<Detection>, FaceError> {
        let whole = letterbox(picture);
        let mut found = self.look(&self.short_range, &self.short_anchors, picture, whole)?;
        if found.is_empty() {
            found = self.look(&self.full_range, &self.full_anchors, picture, whole)?;
        }
        Ok(largest(found))
    }

    fn look(
        &self,
        network: &Network,
        anchors: &[[f32; 2]],
        picture: &RgbPicture,
        crop: Crop,
    ) -> Result<Vec<Detection>, FaceError> {
        let planes = crop.take(picture, network.size(), Levels { black: -1.0 }, Beyond::Black, false);
        let [boxes, scores] = network.run(planes)?;
        let (boxes, _) = boxes.as_chunks::<BOX>();
        let mut found = Vec::new();
        for ((raw, score), anchor) in boxes.iter().zip(scores).zip(anchors) {
            let score = 1.0 / (1.0 + (-score.clamp(-RAW_SCORE, RAW_SCORE)).exp());
            let finite = raw.iter().all(|value| value.is_finite());
            if score >= LEAST_SCORE && finite && raw[2] > 0.0 && raw[3] > 0.0 {
                found.push(detection(score, raw, *anchor, network.size() as f32, &crop));
            }
        }
        Ok(merge(found))
    }
}

fn largest(mut found: Vec<Detection>) -> Vec<Detection> {
    found.sort_by(|a, b| b.bounds.area().total_cmp(&a.bounds.area()));
    found.truncate(MOST_FACES);
    found
}

/// A raw box of a crop that is not turned.
fn detection(score: f32, raw: &[f32; BOX], anchor: [f32; 2], size: f32, crop: &Crop) -> Detection {
    let point = |x: f32, y: f32| crop.place([x / size + anchor[0], y / size + anchor[1]]);
    let [x, y] = point(raw[0], raw[1]);
    let [width, height] = [raw[2], raw[3]].map(|side| side / size * crop.side);
    Detection {
        score,
        bounds: FaceBox { x: x - width / 2.0, y: y - height / 2.0, width, height },
        eyes: [point(raw[4], raw[5]), point(raw[6], raw[7])],
    }
}

/// The whole picture in the middle of a square.
fn letterbox(picture: &RgbPicture) -> Crop {
    let (width, height) = (picture.width as f32, picture.height as f32);
    Crop { centre: [width / 2.0, height / 2.0], side: width.max(height), roll: 0.0 }
}

/// Overlapping squares of a half and of a quarter of the longer side.
fn parts(picture: &RgbPicture) -> Vec<Crop> {
    let (width, height) = (picture.width as f32, picture.height as f32);
    let mut parts = Vec::new();
    for share in [2.0, 4.0] {
        let side = width.max(height) / share;
        for y in centres(height, side) {
            parts.extend(centres(width, side).into_iter().map(|x| Crop { centre: [x, y], side, roll: 0.0 }));
        }
    }
    parts
}

/// Middles of squares that cover a length and overlap by at least a third.
fn centres(length: f32, side: f32) -> Vec<f32> {
    let free = (length - side).max(0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful")]
    let steps = (free / (side / 1.5)).ceil() as u8;
    if steps == 0 {
        return vec![length / 2.0];
    }
    (0..=steps).map(|step| side / 2.0 + free * f32::from(step) / f32::from(steps)).collect()
}

fn anchors(layers: &[(u16, usize)]) -> Vec<[f32; 2]> {
    let mut anchors = Vec::new();
    for &(cells, repeats) in layers {
        let centre = |cell: u16| (f32::from(cell) + 0.5) / f32::from(cells);
        for y in 0..cells {
            for x in 0..cells {
                anchors.extend(std::iter::repeat_n([centre(x), centre(y)], repeats));
            }
        }
    }
    anchors
}

/// One detection for each face: the mean of all that overlap with the best, weighted by score.
fn merge(mut found: Vec<Detection>) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut merged = Vec::new();
    while let Some(best) = found.first().copied() {
        let (same, others): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|one| *one == best || one.bounds.overlap(&best.bounds) > SAME_FACE);
        let total: f32 = same.iter().map(|one| one.score).sum();
        let mean = |of: fn(&Detection) -> f32| same.iter().map(|one| one.score * of(one)).sum::<f32>() / total;
        merged.push(Detection {
            score: best.score,
            bounds: FaceBox {
                x: mean(|one| one.bounds.x),
                y: mean(|one| one.bounds.y),
                width: mean(|one| one.bounds.width),
                height: mean(|one| one.bounds.height),
            },
            eyes: [
                [mean(|one| one.eyes[0][0]), mean(|one| one.eyes[0][1])],
                [mean(|one| one.eyes[1][0]), mean(|one| one.eyes[1][1])],
            ],
        });
        found = others;
    }
    merged
}
