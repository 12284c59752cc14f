//! One face through a clip: where it is in each frame, without jitter and without lag.
//!
//! In here: following, and what is made of the frames afterwards (`fitting`, `smoothing`). Not in here: decoding a clip
//! (`media::clip`). Meshes are on the disk, 12 kB a frame (`mesh_list`), so that memory does not grow with the clip.

mod fitting;
mod mesh_list;
mod smoothing;

use std::path::Path;

use super::judging::FaceProblem;
use super::sampling::{Beyond, Crop, Levels};
use super::{FaceBox, FaceError, FaceFinder, Mesh, fit};
use crate::picture::RgbPicture;
use mesh_list::MeshList;

/// Rows and columns of the thumbnail by which a face is known again.
const THUMBNAIL: u32 = 24;
/// Thumbnails of two frames that are less alike (correlation) are of different faces.
const LEAST_ALIKE: f32 = 0.5;
/// Nobody moves by more of the face's width from one frame to the next, nor grows by more.
const FARTHEST: f32 = 0.75;
const MOST_GROWTH: f32 = 1.4;
/// A lost face is looked for in parts of the picture every so many frames.
const PARTS_EVERY: usize = 12;

/// How a frame's mesh came to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// The face was found.
    Seen,
    /// It was not, for a moment; its mesh lies between those around it.
    Between,
    /// It was not, at an end of a stretch; it has the mesh of the nearest frame.
    Held,
    /// It was not for longer, or cannot be used here: the frame is to be shown as it is.
    Lost(FaceProblem),
}

/// One frame of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// The smoothed mesh; none where the face is [`Sight::Lost`].
    pub mesh: Option<Mesh>,
    /// Where it is from.
    pub sight: Sight,
}

/// A face through a whole clip.
#[derive(Debug)]
pub struct Track {
    meshes: MeshList,
    sights: Vec<Sight>,
    /// The frames with which a new shot or another face begins, but for the first.
    pub cuts: Vec<usize>,
}

impl Track {
    /// Of each frame, where its mesh is from.
    pub fn sights(&self) -> &[Sight] {
        &self.sights
    }

    /// The smoothed mesh of a frame; none where the face is [`Sight::Lost`], nor of a frame that there is not.
    pub fn mesh(&self, frame: usize) -> Result<Option<Mesh>, FaceError> {
        self.meshes.get(frame)
    }

    /// All frames, one at a time.
    pub fn frames(&self) -> impl Iterator<Item = Result<Tracked, FaceError>> {
        let frame = |(at, sight): (usize, &Sight)| Ok(Tracked { mesh: self.mesh(at)?, sight: sight.clone() });
        self.sights.iter().enumerate().map(frame)
    }
}

/// Follows a face from frame to frame.
pub struct Tracker<'a> {
    finder: &'a mut FaceFinder,
    number: Option<usize>,
    /// Of each frame, but for those that have a problem.
    seen: MeshList,
    problems: Vec<Option<FaceProblem>>,
    /// The same with lips and jaw where the pictures have them, if those are clear about it.
    fits: MeshList,
    cuts: Vec<usize>,
    last: Option<Last>,
    lost: usize,
}

/// The face when it was last seen.
struct Last {
    mesh: Mesh,
    thumbnail: Vec<f32>,
}

impl<'a> Tracker<'a> {
    /// Follows the face of the first frame that [`super::choose`] takes for `number`. Meshes are kept on the disk of `folder`,
    /// without a trace.
    pub fn new(finder: &'a mut FaceFinder, number: Option<usize>, folder: &Path) -> Result<Self, FaceError> {
        let (seen, fits) = (MeshList::new(folder)?, MeshList::new(folder)?);
        Ok(Self { finder, number, seen, problems: Vec::new(), fits, cuts: Vec::new(), last: None, lost: 0 })
    }

    /// Looks at the next frame; says where its face is, before smoothing, or why there is none.
    pub fn push(&mut self, picture: &RgbPicture) -> Result<Result<Mesh, FaceProblem>, FaceError> {
        let seen = self.look(picture)?;
        self.lost = if seen.is_ok() { 0 } else { self.lost + 1 };
        let fit = seen.as_ref().ok().map(|mesh| fit(picture, mesh)).filter(|fit| fit.lips);
        self.fits.push(fit.as_ref().map(|fit| &fit.mesh))?;
        self.seen.push(seen.as_ref().ok())?;
        self.problems.push(seen.as_ref().err().cloned());
        Ok(seen)
    }

    fn look(&mut self, picture: &RgbPicture) -> Result<Result<Mesh, FaceProblem>, FaceError> {
        if let Some(last) = &self.last
            && let Some(mesh) = self.finder.follow(picture, &last.mesh)?
        {
            let thumbnail = thumbnail(picture, &mesh);
            if near(&last.mesh, &mesh) && alike(&last.thumbnail, &thumbnail) > LEAST_ALIKE {
                return Ok(self.take(picture, mesh, thumbnail));
            }
        }
        let faces = match self.lost % PARTS_EVERY {
            0 => self.finder.find(picture)?,
            _ => self.finder.find_large(picture)?,
        };
        let Some(last) = &self.last else {
            return Ok(match super::choose(&faces, self.number) {
                Err(problem) => Err(problem),
                Ok(at) => match faces.into_iter().nth(at) {
                    Some(face) => {
                        let thumbnail = thumbnail(picture, &face.mesh);
                        self.take(picture, face.mesh, thumbnail)
                    }
                    None => Err(FaceProblem::None),
                },
            });
        };
        // The same face elsewhere goes before another one; the largest of the others is a cut.
        let mut known: Option<(f32, Mesh, Vec<f32>)> = None;
        for face in &faces {
            let thumbnail = thumbnail(picture, &face.mesh);
            let likeness = alike(&last.thumbnail, &thumbnail);
            if known.as_ref().is_none_or(|(most, ..)| likeness > *most) {
                known = Some((likeness, face.mesh.clone(), thumbnail));
            }
        }
        let Some((likeness, mesh, thumbnail)) = known else { return Ok(Err(FaceProblem::None)) };
        let same = likeness > LEAST_ALIKE && (near(&last.mesh, &mesh) || self.lost > 0);
        if !same {
            self.cuts.push(self.seen.len());
        }
        Ok(self.take(picture, mesh, thumbnail))
    }

    /// Goes on from a mesh, even where it is of no use to others.
    fn take(&mut self, picture: &RgbPicture, mesh: Mesh, thumbnail: Vec<f32>) -> Result<Mesh, FaceProblem> {
        let problem = mesh.problem(picture.width, picture.height);
        self.last = Some(Last { mesh: mesh.clone(), thumbnail });
        problem.map_or(Ok(mesh), Err)
    }

    /// The whole clip, fitted and smoothed.
    pub fn finish(self) -> Result<Track, FaceError> {
        let Self { seen: mut meshes, problems, fits, cuts, .. } = self;
        let begins = [0].into_iter().chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([meshes.len()]);
        let mut sights = Vec::with_capacity(meshes.len());
        for (begin, end) in begins.zip(ends) {
            fitting::shot(&mut meshes, &fits, begin..end)?;
            sights.extend(smoothing::shot(&mut meshes, &problems, begin..end)?);
        }
        Ok(Track { meshes, sights, cuts })
    }
}

/// Whether a face can have come from one place to the other in a frame's time.
fn near(before: &Mesh, after: &Mesh) -> bool {
    let (from, to): (FaceBox, FaceBox) = (before.bounds(), after.bounds());
    let ([x, y], [to_x, to_y]) = (from.centre(), to.centre());
    let growth = after.width() / before.width().max(1.0);
    let farthest = FARTHEST * before.width();
    (x - to_x).hypot(y - to_y) < farthest && growth < MOST_GROWTH && growth > 1.0 / MOST_GROWTH
}

/// A small grey picture of a face, upright, of mean 0 and length 1.
fn thumbnail(picture: &RgbPicture, mesh: &Mesh) -> Vec<f32> {
    let crop = Crop::follow(mesh);
    let crop = Crop { side: crop.side * 0.75, ..crop };
    let planes = crop.take(picture, THUMBNAIL, Levels { black: 0.0 }, Beyond::Edge, false);
    let plane = THUMBNAIL as usize * THUMBNAIL as usize;
    let colour = |at: usize| planes.get(at * plane..(at + 1) * plane).into_iter().flatten();
    let mut grey: Vec<f32> = colour(0).zip(colour(1)).zip(colour(2)).map(|((r, g), b)| r + 2.0 * g + b).collect();
    let mean = grey.iter().sum::<f32>() / plane as f32;
    grey.iter_mut().for_each(|value| *value -= mean);
    let length = grey.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-6);
    grey.iter_mut().for_each(|value| *value /= length);
    grey
}

/// The correlation of two thumbnails, -1 to 1.
fn alike(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests;
