//! One photo.

use super::closing::shut;
use super::cutting::{self, Cutter};
use super::framing;
use super::{Made, PHOTO_SIDE, PreparationError, Stage, Work};
use crate::avatar::manifest::{Kind, MatteSource};
use crate::avatar::{CycleKind, files, mesh_file};
use crate::face::{self, Face, FaceProblem, Mesh, overlay};
use crate::media;
use crate::picture::{Cutout, RgbPicture};
use crate::portrait::file::PortraitData;
use crate::portrait::{self, place};

/// The longer side of a photo in which the head is looked for, in pixels: enough to take a head out of a scene.
const SEARCHED_SIDE: u32 = 2880;

/// A photo as it is used.
pub(super) struct Framed {
    pub cutout: Cutout,
    pub mesh: Mesh,
    /// Size of the photo that it is part of.
    pub source: (u32, u32),
}

/// Reads the photo, finds the face and frames it, which takes so much of the whole.
pub(super) fn framed(work: &mut Work<'_>, share: f64) -> Result<Framed, PreparationError> {
    let request = work.request;
    let side = request.side.unwrap_or(PHOTO_SIDE);
    let largest = SEARCHED_SIDE.max(side);
    let mut photo = match request.alpha {
        Some(MatteSource::Own) => media::read_cutout(&request.source, largest)?,
        Some(MatteSource::Plain) | None => media::read_photo(&request.source, largest)?.into(),
    };
    if request.clip.mirror {
        photo = cutting::mirrored(&photo);
    }
    let source = (photo.picture.width, photo.picture.height);
    work.reached(Stage::FindingFace, 0.2 * share)?;
    let number = request.face;
    let face = find(work, &photo.picture, |faces| face::choose(faces, number))?;
    let part = if request.whole { None } else { framing::head_and_shoulders(source, &face.mesh.bounds()) };
    let framed = part.map_or_else(|| photo.clone(), |part| cutting::cut(&photo, part));
    let (corner, width) = (part.map_or([0, 0], |part| [part.x, part.y]), framed.picture.width);
    let framed = within(framed, side);
    let picture = &framed.picture;
    let scale = picture.width as f32 / width as f32;
    let [x, y] = face.mesh.bounds().centre();
    let place = [(x - corner[0] as f32) * scale, (y - corner[1] as f32) * scale];
    work.reached(Stage::FindingFace, 0.65 * share)?;
    // Once more, as a mesh that was found in these very pixels is the more exact; of several faces, the one that was meant.
    let mesh = find(work, picture, |faces| nearest(faces, place))?.mesh;
    let mesh = face::fit(picture, &mesh).mesh;
    let mut cutout = Cutter::new(request.alpha, &request.file_name).cut(framed, &mesh)?;
    if !request.closed {
        return Ok(Framed { cutout, mesh, source });
    }
    let (closed, mesh) = shut(work, &cutout.picture, &mesh)?;
    let mesh = face::fit(&closed, &mesh).mesh;
    cutout.picture = closed;
    Ok(Framed { cutout, mesh, source })
}

pub(super) fn prepare(mut work: Work<'_>) -> Result<Made, PreparationError> {
    let request = work.request;
    let Framed { cutout, mesh, source } = framed(&mut work, 0.7)?;
    let picture = &cutout.picture;
    work.reached(Stage::MeasuringMouth, 0.7)?;
    let found = portrait::analyse(picture, &mesh)?;
    let crops = place::crops(std::slice::from_ref(&found.plate), picture.width, picture.height)?;
    let crop = crops.first().copied().ok_or_else(|| PreparationError::Clip {
        file: request.file_name.clone(),
        problem: "has no place for a mouth".to_owned(),
    })?;
    work.reached(Stage::Writing, 0.8)?;
    work.write_picture(files::SOURCE, &cutout)?;
    mesh_file::write(&work.path(files::MESH), &mesh, crop)?;
    work.write_mask(&place::mask(&crop))?;
    let data = PortraitData { plates: vec![found.plate], complexion: found.complexion };
    data.write(&work.path(files::PORTRAIT))?;
    work.write_preview(&cutout)?;
    let (width, height) = (picture.width, picture.height);
    let options = toml::Table::new();
    Ok(Made { kind: Kind::Photo, width, height, frames: 1, cycle: CycleKind::Loop, source, options, decode_rows: None })
}

/// The face whose middle is nearest to a place in the picture.
fn nearest(faces: &[Face], [x, y]: [f32; 2]) -> Result<usize, FaceProblem> {
    let away = |face: &Face| {
        let [middle_x, middle_y] = face.mesh.bounds().centre();
        (middle_x - x).hypot(middle_y - y)
    };
    let found = faces.iter().enumerate().min_by(|(_, one), (_, other)| away(one).total_cmp(&away(other)));
    found.map(|(at, _)| at).ok_or(FaceProblem::None)
}

/// The face that is meant, if it can be used.
fn find(
    work: &mut Work<'_>,
    picture: &RgbPicture,
    choose: impl Fn(&[Face]) -> Result<usize, FaceProblem>,
) -> Result<Face, PreparationError> {
    let faces = work.finder.find(picture)?;
    let refused = |problem: FaceProblem, chosen: Option<usize>| PreparationError::Face {
        file: work.request.file_name.clone(),
        problem,
        found: Box::new(overlay(picture, &faces, chosen)),
    };
    let at = choose(&faces).map_err(|problem| refused(problem, None))?;
    let Some(face) = faces.get(at) else { return Err(refused(FaceProblem::None, None)) };
    match work.finder.judge(picture, face)? {
        Some(problem) => Err(PreparationError::Face {
            file: work.request.file_name.clone(),
            problem,
            found: Box::new(overlay(picture, &faces, Some(at))),
        }),
        None => Ok(face.clone()),
    }
}

/// Not larger than so many pixels on its longer side, and even.
fn within(cutout: Cutout, side: u32) -> Cutout {
    let picture = &cutout.picture;
    let longest = picture.width.max(picture.height);
    if longest <= side && picture.width.is_multiple_of(2) && picture.height.is_multiple_of(2) {
        return cutout;
    }
    let most = side.min(longest);
    let length = |own: u32| ((u64::from(own) * u64::from(most) / u64::from(longest.max(1))) & !1).max(2);
    let length = |own: u32| u32::try_from(length(own)).unwrap_or(2);
    cutting::smaller(&cutout, length(picture.width), length(picture.height))
}
