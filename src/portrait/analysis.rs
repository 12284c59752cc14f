//! Finds the mouth plate in a picture: the mesh says roughly where the lips are, the picture says exactly.
//!
//! In here: measures of the face and the order of the steps. `seam` finds the line between the lips, `light` the colours.
//! Not in here: finding the face (`face`). Pure; takes a few milliseconds a picture, on the caller's thread.

use super::PortraitError;
use super::light::{self, Tone};
use super::pixels::Pixels;
use super::plate::{COLUMNS, Complexion, LEAST_SCALE, MouthPlate};
use super::seam;
use crate::face::{Mesh, parts};
use crate::picture::RgbPicture;

/// The distances of the outer eye corners and of the cheeks of the drawn character, in units.
const EYES: f32 = 117.0;
const CHEEKS: f32 = 206.0;
/// Points at the angles of the jaw.
const JAW: [usize; 2] = [172, 397];
/// Points of the outline at the height of the mouth.
const CONTOUR: [usize; 2] = [132, 361];
/// A mouth of which the lips' edges are further apart than this share of its half width is open, unless lips are all that
/// is seen between them.
const OPEN: f32 = 0.17;
/// One of which they are less apart than this is shut, and between the two the picture decides.
const SHUT: f32 = 0.08;
/// One cheek may be this much nearer to the nose than the other.
const MOST_TURNED: f32 = 3.6;

/// One picture's mouth, and the light on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Its shape.
    pub plate: MouthPlate,
    /// Its colours.
    pub complexion: Complexion,
}

/// Measures the mouth of the face with this mesh. An error says why it cannot be made to speak.
pub fn analyse(picture: &RgbPicture, mesh: &Mesh) -> Result<Analysis, PortraitError> {
    let pixels = Pixels::new(picture);
    let (mut plate, outline) = rough(mesh)?;
    check_place(&plate, &pixels)?;
    let tone = Tone::measure(&pixels, mesh, &plate, &outline);
    if plate.open > 0.5 && seam::is_shut(&plate, &pixels, &tone, seam::gap(&plate) < OPEN * plate.half) {
        plate.open = 0.0;
    }
    if plate.open > 0.5 {
        seam::find_edges(&mut plate, &pixels, &tone);
    } else {
        seam::find_seam(&mut plate, &pixels);
        seam::find_corners(&mut plate, &pixels, &tone);
    }
    outline.thickness(&mut plate);
    let complexion = light::complexion(&pixels, mesh, &plate, &tone);
    Ok(Analysis { plate, complexion })
}

/// The mouth as the mesh alone says where it is: enough to know what room it takes.
pub fn of_mesh(mesh: &Mesh) -> Result<MouthPlate, PortraitError> {
    Ok(rough(mesh)?.0)
}

/// The mouths of a clip's frames in order, and the light of all: lines are steadied over three frames, colours are the
/// frames' medians.
pub fn steady(frames: &[Analysis]) -> Option<(Vec<MouthPlate>, Complexion)> {
    let plates = (0..frames.len())
        .map(|at| {
            let mut plate = frames[at].plate.clone();
            let before = &frames[at.saturating_sub(1)].plate;
            let after = &frames[(at + 1).min(frames.len() - 1)].plate;
            let mean = |before: f32, own: f32, after: f32| 0.25 * before + 0.5 * own + 0.25 * after;
            plate.half = mean(before.half, plate.half, after.half);
            plate.open = mean(before.open, plate.open, after.open);
            for column in 0..COLUMNS {
                plate.upper[column] = mean(before.upper[column], plate.upper[column], after.upper[column]);
                plate.lower[column] = mean(before.lower[column], plate.lower[column], after.lower[column]);
            }
            for lip in [0, 1] {
                plate.lips[lip] = mean(before.lips[lip], plate.lips[lip], after.lips[lip]);
            }
            plate
        })
        .collect();
    let all: Vec<_> = frames.iter().map(|frame| frame.complexion.numbers()).collect();
    let first = all.first()?;
    let medians: Vec<f32> =
        (0..first.len()).filter_map(|at| median(all.iter().map(|numbers| numbers[at]).collect())).collect();
    Some((plates, Complexion::from_numbers(&medians).ok()?))
}

/// The lips' four curves in units, each from left to right.
pub(super) struct Outline {
    pub upper_inner: Vec<[f32; 2]>,
    pub lower_inner: Vec<[f32; 2]>,
    pub upper_outer: Vec<[f32; 2]>,
    pub lower_outer: Vec<[f32; 2]>,
}

impl Outline {
    /// Both lips' thickness as the outer curves and the plate's edges have it, over the middle of the mouth.
    fn thickness(&self, plate: &mut MouthPlate) {
        let columns: Vec<usize> = (COLUMNS / 5..=COLUMNS - COLUMNS / 5).collect();
        let u = |column: usize| plate.half * (column as f32 / HALF_COLUMNS - 1.0);
        let upper = columns.iter().map(|&at| plate.upper[at] - height_at(&self.upper_outer, u(at))).collect();
        let lower = columns.iter().map(|&at| height_at(&self.lower_outer, u(at)) - plate.lower[at]).collect();
        let lips = [median(upper), median(lower)].map(|lip| lip.unwrap_or(6.0).clamp(2.5, 40.0));
        plate.lips = lips;
    }
}

/// Columns from the middle of the mouth to a corner.
pub(super) const HALF_COLUMNS: f32 = (COLUMNS / 2) as f32;

/// The height of a curve at u, held at its ends.
pub(super) fn height_at(curve: &[[f32; 2]], u: f32) -> f32 {
    let (Some(first), Some(last)) = (curve.first(), curve.last()) else { return 0.0 };
    if u <= first[0] {
        return first[1];
    }
    let pair = curve.windows(2).find(|pair| u <= pair[1][0]);
    pair.map_or(last[1], |pair| {
        let share = (u - pair[0][0]) / (pair[1][0] - pair[0][0]).max(1e-3);
        pair[0][1] + share * (pair[1][1] - pair[0][1])
    })
}

pub(super) fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What the mesh alone says.
fn rough(mesh: &Mesh) -> Result<(MouthPlate, Outline), PortraitError> {
    let point = |index: usize| {
        let found = mesh.points.get(index).filter(|point| point.iter().all(|at| at.is_finite()));
        found.copied().ok_or_else(|| PortraitError::Mouth(format!("point {index} of its mesh is missing")))
    };
    let distance = |[a, b]: [usize; 2]| -> Result<f32, PortraitError> {
        let (a, b) = (point(a)?, point(b)?);
        Ok((0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f32>().sqrt())
    };
    let scale = 0.5 * (distance(parts::OUTER_EYE_CORNERS)? / EYES + distance(parts::CHEEKS)? / CHEEKS);
    let [left_eye, right_eye] = parts::OUTER_EYE_CORNERS;
    let (left_eye, right_eye) = (point(left_eye)?, point(right_eye)?);
    let (dx, dy) = (right_eye[0] - left_eye[0], right_eye[1] - left_eye[1]);
    let length = dx.hypot(dy);
    let (left, right) = (point(parts::MOUTH_CORNERS[0])?, point(parts::MOUTH_CORNERS[1])?);
    if !(scale >= LEAST_SCALE && length > 1.0) {
        let eyes = length.round();
        return Err(PortraitError::Mouth(format!(
            "the face is too small: its eyes are {eyes} pixels apart, it takes {}",
            (LEAST_SCALE * EYES).ceil()
        )));
    }
    let mut plate = MouthPlate {
        origin: [(left[0] + right[0]) / 2.0, (left[1] + right[1]) / 2.0],
        along: [dx / length, dy / length],
        scale,
        half: 0.0,
        open: 0.0,
        lips: [6.0; 2],
        nose: 0.0,
        chin: 0.0,
        side: 0.0,
        contour: 0.0,
        upper: [0.0; COLUMNS],
        lower: [0.0; COLUMNS],
    };
    let units = |index: usize| point(index).map(|[x, y, _]| plate.to_units([x, y]));
    let half_width = |[a, b]: [usize; 2]| Ok::<_, PortraitError>((units(b)?[0] - units(a)?[0]) / 2.0);
    let curve = |indices: &[usize]| indices.iter().map(|index| units(*index)).collect::<Result<Vec<_>, _>>();
    let ends = [units(parts::MOUTH_CORNERS[0])?, units(parts::MOUTH_CORNERS[1])?];
    let inner = |indices: &[usize]| {
        let mut whole = curve(indices)?;
        whole.insert(0, ends[0]);
        whole.push(ends[1]);
        Ok::<_, PortraitError>(whole)
    };
    let outline = Outline {
        upper_inner: inner(&parts::UPPER_LIP_INNER)?,
        lower_inner: inner(&parts::LOWER_LIP_INNER)?,
        upper_outer: curve(&parts::UPPER_LIP_OUTER)?,
        lower_outer: curve(&parts::LOWER_LIP_OUTER)?,
    };
    let nose = units(parts::NOSE_TIP)?[0];
    let (left_cheek, right_cheek) = (nose - units(parts::CHEEKS[0])?[0], units(parts::CHEEKS[1])?[0] - nose);
    let turned = left_cheek.max(right_cheek) / left_cheek.min(right_cheek).max(1e-3);
    let [nose_base, chin] = [units(parts::NOSE_BASE)?[1], units(parts::CHIN)?[1]];
    let (half, side, contour) = (half_width(parts::MOUTH_CORNERS)?, half_width(JAW)?, half_width(CONTOUR)?);
    let gap = units(14)?[1] - units(13)?[1];
    if !(1.0..=MOST_TURNED).contains(&turned) {
        return Err(PortraitError::Mouth("the head is turned too far to the side".to_owned()));
    }
    plate.half = half;
    plate.open = if gap > SHUT * half { 1.0 } else { 0.0 };
    (plate.nose, plate.chin, plate.side, plate.contour) = (-nose_base, chin, side.max(half), contour.max(half));
    for column in 0..COLUMNS {
        let u = half * (column as f32 / HALF_COLUMNS - 1.0);
        let (upper, lower) = (height_at(&outline.upper_inner, u), height_at(&outline.lower_inner, u));
        (plate.upper[column], plate.lower[column]) = (upper, lower.max(upper));
    }
    outline.thickness(&mut plate);
    // What no face can have is a mesh gone wrong.
    MouthPlate::from_numbers(&plate.numbers())
        .map_err(|problem| PortraitError::Mouth(format!("the lips were not found: {problem}")))?;
    Ok((plate, outline))
}

/// The mouth and the chin must be in the picture.
fn check_place(plate: &MouthPlate, pixels: &Pixels<'_>) -> Result<(), PortraitError> {
    let corners = [[-1.2 * plate.half, 0.0], [1.2 * plate.half, 0.0], [0.0, 0.85 * plate.chin], [0.0, -plate.nose]];
    match corners.iter().all(|corner| pixels.contains(plate.to_pixels(*corner))) {
        true => Ok(()),
        false => Err(PortraitError::Mouth("the mouth or the chin is cut off by the picture's edge".to_owned())),
    }
}
