//! Whether a face will do, and which of several is meant.
//!
//! In here: limits and the words for what is beyond them. Not in here: finding (`face`), showing (`overlay`).

use super::sampling::{Beyond, Crop, Levels};
use super::{Face, Mesh, parts};
use crate::picture::RgbPicture;

/// A face of fewer pixels from ear to ear is placed too roughly: a mouth is then about ten pixels wide.
const LEAST_WIDTH: f32 = 40.0;
/// Degrees to a side, up or down: beyond, half of the mouth is out of sight.
const MOST_TURN: f32 = 38.0;
const MOST_NOD: f32 = 35.0;
/// Degrees that the picture may be turned; beyond, it is more likely on its side than a head is.
const MOST_ROLL: f32 = 60.0;
/// The mesh is surer of faces than that, and the detector unless the mesh has no doubt at all.
const LEAST_PRESENCE: f32 = 0.9;
const LEAST_SCORE: f32 = 0.6;
const NO_DOUBT: f32 = 0.995;
/// This share of the face's width may be outside the picture; more of the forehead, which does not move.
const MOST_OUTSIDE: f32 = 0.02;
const MOST_FOREHEAD_OUTSIDE: f32 = 0.15;
/// Faces whose width is nearer to the largest one's are alike.
const ALIKE: f32 = 0.85;
/// What [`blur`] gives for faces whose features are gone: sharp ones have 0.3 to 0.6, soft ones up to 0.7.
const MOST_BLUR: f32 = 0.8;
/// Pixels of a side that the sharpness is judged at: a large face may be as soft as a small one is.
const BLUR_SIZE: f32 = 160.0;

/// How far lips and lids may lie apart in crops that differ, in shares of the face's width: where something is in front of
/// them, the network guesses, and each crop gives another guess. Free ones have 0.006 to 0.015, covered ones 0.017 to 0.026.
const MOST_SPREAD: [(f32, &[&[usize]], &str); 2] = [
    (
        0.0165,
        &[&parts::UPPER_LIP_OUTER, &parts::LOWER_LIP_OUTER, &parts::UPPER_LIP_INNER, &parts::LOWER_LIP_INNER],
        "mouth is",
    ),
    (
        0.0175,
        &[&parts::LEFT_UPPER_LID, &parts::LEFT_LOWER_LID, &parts::RIGHT_UPPER_LID, &parts::RIGHT_LOWER_LID],
        "eyes are",
    ),
];

/// Why a face cannot be used, and what would be right.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaceProblem {
    /// Nothing looks like one.
    #[error("no face was found: it should be well lit and look towards the camera")]
    None,
    /// There is no such number.
    #[error("there is no face {asked}: {found} found, numbered from the left")]
    NoSuch {
        /// From 1.
        asked: usize,
        /// How many there are.
        found: usize,
    },
    /// Which one is meant cannot be told by size.
    #[error("{count} faces are about as large: say which one is meant by its number, from 1 at the left")]
    SeveralAlike {
        /// Faces of nearly the size of the largest.
        count: usize,
    },
    /// It has too few pixels.
    #[error("the face is {width} pixels wide, at least {LEAST_WIDTH} are needed: come closer or take a larger picture")]
    Small {
        /// From ear to ear, in pixels.
        width: u32,
    },
    /// It is in profile or looks up or down.
    #[error("the face is turned {degrees} degrees {towards}, at most {most} will do: look towards the camera")]
    Turned {
        /// From straight ahead.
        degrees: u32,
        /// `to a side`, `up` or `down`.
        towards: &'static str,
        /// The limit.
        most: u32,
    },
    /// It is on its side or upside down.
    #[error("the head leans {degrees} degrees: turn the picture upright")]
    Leaning {
        /// From upright.
        degrees: u32,
    },
    /// Part of it is outside the picture.
    #[error("the face is cut off at the {edge} edge: leave some room around it")]
    CutOff {
        /// `left`, `right`, `upper` or `lower`.
        edge: &'static str,
    },
    /// Its features cannot be told apart.
    #[error("the face is blurred: hold the camera still and let it focus")]
    Blurred,
    /// Something is in front of it, or it is out of sight otherwise: where it should be can only be guessed.
    #[error(
        "the {what} covered, turned away or in the dark: nothing should be in front of the face, and light on all of it"
    )]
    Covered {
        /// `mouth is` or `eyes are`.
        what: &'static str,
    },
    /// Something is there that is a face only in part.
    #[error(
        "the face is hardly seen (sure to {percent} percent): is it covered, in the dark, or a drawing unlike a face?"
    )]
    Unclear {
        /// The lower of the detector's and the mesh's certainty.
        percent: u32,
    },
}

/// How a head is held, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attitude {
    /// To the right as seen is positive.
    pub yaw: f32,
    /// Down is positive.
    pub pitch: f32,
    /// Clockwise as seen is positive.
    pub roll: f32,
}

impl Mesh {
    /// How the head is held, from the depth of the mesh.
    pub fn attitude(&self) -> Attitude {
        let across = self.between(parts::CHEEKS[0], parts::CHEEKS[1]);
        let down = self.between(parts::OUTLINE[0], parts::CHIN);
        Attitude {
            yaw: across[2].atan2(across[0].hypot(across[1])).to_degrees(),
            pitch: (-down[2]).atan2(down[0].hypot(down[1])).to_degrees(),
            roll: self.roll().to_degrees(),
        }
    }

    /// From ear to ear in pixels, depth included.
    pub fn width(&self) -> f32 {
        self.between(parts::CHEEKS[0], parts::CHEEKS[1]).iter().map(|part| part * part).sum::<f32>().sqrt()
    }

    fn between(&self, from: usize, to: usize) -> [f32; 3] {
        let (from, to) = (self.point(from), self.point(to));
        [0, 1, 2].map(|axis| to[axis] - from[axis])
    }

    /// What is wrong with how it lies in a picture of that size, sharpness aside.
    pub(super) fn problem(&self, width: u32, height: u32) -> Option<FaceProblem> {
        if self.presence < LEAST_PRESENCE {
            return Some(FaceProblem::Unclear { percent: whole(self.presence * 100.0) });
        }
        let (own_width, attitude) = (self.width(), self.attitude());
        if own_width < LEAST_WIDTH {
            return Some(FaceProblem::Small { width: whole(own_width) });
        }
        if attitude.roll.abs() > MOST_ROLL {
            return Some(FaceProblem::Leaning { degrees: whole(attitude.roll.abs()) });
        }
        if attitude.yaw.abs() > MOST_TURN {
            let degrees = whole(attitude.yaw.abs());
            return Some(FaceProblem::Turned { degrees, towards: "to a side", most: whole(MOST_TURN) });
        }
        if attitude.pitch.abs() > MOST_NOD {
            let towards = if attitude.pitch > 0.0 { "down" } else { "up" };
            return Some(FaceProblem::Turned { degrees: whole(attitude.pitch.abs()), towards, most: whole(MOST_NOD) });
        }
        let (bounds, room) = (self.bounds(), own_width * MOST_OUTSIDE);
        let beyond = [
            (bounds.x < -room, "left"),
            (bounds.x + bounds.width > width as f32 + room, "right"),
            (bounds.y < -own_width * MOST_FOREHEAD_OUTSIDE, "upper"),
            (bounds.y + bounds.height > height as f32 + room, "lower"),
        ];
        beyond.into_iter().find(|(is, _)| *is).map(|(_, edge)| FaceProblem::CutOff { edge })
    }
}

/// What keeps a face of a picture from being used, as far as the picture and its mesh tell.
pub(super) fn problem(picture: &RgbPicture, face: &Face) -> Option<FaceProblem> {
    let problem = face.mesh.problem(picture.width, picture.height);
    if problem.is_some() {
        return problem;
    }
    if face.score < LEAST_SCORE && face.mesh.presence < NO_DOUBT {
        return Some(FaceProblem::Unclear { percent: whole(face.score * 100.0) });
    }
    (blur(picture, &face.mesh) > MOST_BLUR).then_some(FaceProblem::Blurred)
}

/// Crops that show the same face a little differently.
pub(super) fn variations(mesh: &Mesh) -> impl Iterator<Item = Crop> {
    const AWAY: f32 = 0.06;
    const ROLL: f32 = 0.15;
    let crop = Crop::follow(mesh);
    let moved = [[AWAY, 0.0], [-AWAY, 0.0], [0.0, AWAY], [0.0, -AWAY]];
    let moved = moved.map(|[x, y]| Crop { centre: crop.place([0.5 + x, 0.5 + y]), ..crop });
    let scaled = [1.15, 0.9].map(|scale| Crop { side: crop.side * scale, ..crop });
    let turned = [ROLL, -ROLL].map(|roll| Crop { roll: crop.roll + roll, ..crop });
    moved.into_iter().chain(scaled).chain(turned)
}

/// What is covered, by how little the meshes of [`variations`] agree.
pub(super) fn covered(meshes: &[Mesh]) -> Option<FaceProblem> {
    let count = meshes.len() as f32;
    let width = meshes.iter().map(Mesh::width).sum::<f32>() / count;
    let spread = |at: usize| {
        let mean = |axis: usize| meshes.iter().map(|mesh| mesh.point(at)[axis]).sum::<f32>() / count;
        let middle = [mean(0), mean(1)];
        let away = |mesh: &Mesh| (0..2).map(|axis| (mesh.point(at)[axis] - middle[axis]).powi(2)).sum::<f32>();
        (meshes.iter().map(away).sum::<f32>() / count).sqrt()
    };
    MOST_SPREAD.iter().find_map(|(most, lines, what)| {
        let points = || lines.iter().copied().flatten();
        let mean = points().map(|at| spread(*at)).sum::<f32>() / points().count() as f32;
        (mean > most * width).then_some(FaceProblem::Covered { what })
    })
}

/// The face that is meant, as its place in `faces`, which are the largest first: that of a number, counted from 1 at the
/// left, or without a number the largest, if no other is nearly as large. It need not be usable: see [`super::FaceFinder::judge`].
pub fn choose(faces: &[Face], number: Option<usize>) -> Result<usize, FaceProblem> {
    if faces.is_empty() {
        return Err(FaceProblem::None);
    }
    if let Some(asked) = number {
        let place = asked.checked_sub(1).and_then(|at| from_the_left(faces).get(at).copied());
        return place.ok_or(FaceProblem::NoSuch { asked, found: faces.len() });
    }
    let most = faces.iter().map(|face| face.bounds.width).fold(0.0, f32::max);
    let alike = faces.iter().filter(|face| face.bounds.width > most * ALIKE).count();
    if alike > 1 { Err(FaceProblem::SeveralAlike { count: alike }) } else { Ok(0) }
}

/// Places in `faces` from the left one to the right one.
pub(super) fn from_the_left(faces: &[Face]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..faces.len()).collect();
    let middle = |at: &usize| faces.get(*at).map_or(0.0, |face| face.bounds.centre()[0]);
    places.sort_by(|a, b| middle(a).total_cmp(&middle(b)));
    places
}

/// How blurred a face is, 0 to 1: the share of its contrast that blurring once more leaves (F. Crete et al., "The blur
/// effect", 2007), between the brows and the lower lip.
fn blur(picture: &RgbPicture, mesh: &Mesh) -> f32 {
    let full = Crop::follow(mesh);
    // The middle of the crop has eyes, nose and mouth, and neither hair nor what is behind it.
    let crop = Crop { side: full.side * 0.5, ..full };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the bounds")]
    let size = crop.side.clamp(16.0, BLUR_SIZE) as u32;
    let planes = crop.take(picture, size, Levels { black: 0.0 }, Beyond::Edge, false);
    let (side, plane) = (size as usize, size as usize * size as usize);
    let luma: Vec<f32> = (0..plane)
        .map(|at| [0.299, 0.587, 0.114].iter().zip(planes[at..].iter().step_by(plane)).map(|(k, v)| k * v).sum())
        .collect();
    let share = |step: usize| {
        let (mut before, mut lost) = (0.0_f32, 0.0_f32);
        let smooth = |at: usize| {
            let reach = 4 * step;
            let first = at.saturating_sub(reach);
            let values = (0..9).filter_map(|tap| luma.get(first + tap * step));
            let (sum, count) = values.fold((0.0, 0.0_f32), |(sum, count), value| (sum + value, count + 1.0));
            sum / count.max(1.0)
        };
        for row in 5..side.saturating_sub(5) {
            for column in 5..side.saturating_sub(5) {
                let at = row * side + column;
                let sharp = (luma[at] - luma[at - step]).abs();
                let soft = (smooth(at) - smooth(at - step)).abs();
                before += sharp;
                lost += (sharp - soft).max(0.0);
            }
        }
        if before > 0.0 { (before - lost) / before } else { 1.0 }
    };
    share(1).max(share(side))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred, not below zero")]
fn whole(value: f32) -> u32 {
    value.round().max(0.0) as u32
}
