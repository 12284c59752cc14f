//! How an avatar comes by its matte, and pictures that have one: cut, scaled and mirrored with it.
//!
//! In here: the alpha channel of the source itself, whose colours go on behind what is opaque; `backdrop` cuts what has none.

use super::PreparationError;
use super::backdrop::Backdrop;
use super::framing::{self, Part};
use crate::avatar::manifest::MatteSource;
use crate::face::{Mesh, parts};
use crate::picture::{Cutout, Mask, RgbPicture, extension, resize};

/// The part of a face that is opaque whatever its colour, of its outline: hair and ears may be beside that.
const SOLID: f32 = 0.9;

/// Cuts frame after frame of one source.
pub(super) struct Cutter {
    source: Option<MatteSource>,
    file: String,
    backdrop: Option<Backdrop>,
    /// What is opaque in all frames so far is refused after the first.
    begun: bool,
}

impl Cutter {
    /// None if it is not to be cut out.
    pub(super) fn new(source: Option<MatteSource>, file: &str) -> Self {
        Self { source, file: file.to_owned(), backdrop: None, begun: false }
    }

    /// The frame as it belongs into the avatar, whose face has this mesh.
    pub(super) fn cut(&mut self, frame: Cutout, mesh: &Mesh) -> Result<Cutout, PreparationError> {
        let wrong = |problem: &str| PreparationError::Clip { file: self.file.clone(), problem: problem.to_owned() };
        let cut = match self.source {
            None => return Ok(frame),
            Some(MatteSource::Own) => {
                let Some(matte) = &frame.matte else {
                    return Err(wrong("has no alpha channel; --alpha plain cuts from a plain background"));
                };
                if !self.begun && matte.alpha.iter().all(|alpha| *alpha == u8::MAX) {
                    return Err(wrong("has an alpha channel in which nothing is transparent"));
                }
                going_on(&frame)
            }
            Some(MatteSource::Plain) => {
                // A hand before the edge of one frame does not make the background another.
                self.backdrop = match (Backdrop::find(&frame.picture), self.backdrop.take()) {
                    (Ok(found), _) => Some(found),
                    (Err(_), Some(before)) => Some(before),
                    (Err(problem), None) => return Err(problem.of(&self.file)),
                };
                let outline = solid(mesh);
                match &self.backdrop {
                    Some(backdrop) if backdrop.takes(&frame.picture, &outline) => {
                        return Err(wrong("has a face of the colour of its background, so nothing can be cut out"));
                    }
                    Some(backdrop) => backdrop.cut(&frame.picture, &outline),
                    None => frame,
                }
            }
        };
        self.begun = true;
        Ok(cut)
    }
}

fn solid(mesh: &Mesh) -> Vec<[f32; 2]> {
    let [x, y] = mesh.bounds().centre();
    let nearer = |at: &usize| {
        let point = mesh.point(*at);
        [x + SOLID * (point[0] - x), y + SOLID * (point[1] - y)]
    };
    parts::OUTLINE.iter().map(nearer).collect()
}

/// What a change of pictures makes of a picture and its matte.
fn both(cutout: &Cutout, change: impl Fn(&RgbPicture) -> RgbPicture) -> Cutout {
    let picture = change(&cutout.picture);
    let matte = cutout.matte.as_ref().map(|matte| {
        let rgb = matte.alpha.iter().flat_map(|alpha| [*alpha; 3]).collect();
        let grey = change(&RgbPicture { width: matte.width, height: matte.height, rgb });
        let alpha = grey.rgb.as_chunks::<3>().0.iter().map(|[level, ..]| *level).collect();
        Mask { width: grey.width, height: grey.height, alpha }
    });
    Cutout { picture, matte }
}

/// A part of it.
pub(super) fn cut(cutout: &Cutout, part: Part) -> Cutout {
    both(cutout, |picture| framing::cut(picture, part))
}

/// Left and right swapped.
pub(super) fn mirrored(cutout: &Cutout) -> Cutout {
    both(cutout, |picture| {
        let rows = picture.rgb.chunks_exact(picture.width as usize * 3);
        let rgb = rows.flat_map(|row| row.as_chunks::<3>().0.iter().rev().flatten()).copied().collect();
        RgbPicture { width: picture.width, height: picture.height, rgb }
    })
}

/// Scaled down, so that colours of what is transparent do not get into those of what is not.
pub(super) fn smaller(cutout: &Cutout, width: u32, height: u32) -> Cutout {
    both(&going_on(cutout), |picture| resize::smaller(picture, width, height))
}

/// The same picture, whose colours go on behind what is opaque.
fn going_on(cutout: &Cutout) -> Cutout {
    let Some(matte) = &cutout.matte else { return cutout.clone() };
    let known: Vec<f32> = matte.alpha.iter().map(|alpha| (f32::from(*alpha) / 255.0).powi(2)).collect();
    Cutout { picture: extension::extended(&cutout.picture, &known), matte: cutout.matte.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_takes_no_colour_from_what_is_transparent() {
        let (width, height) = (40, 40);
        let left = |at: u32| at % width < 22;
        let rgb = (0..width * height).flat_map(|at| if left(at) { [200, 90, 40] } else { [0, 255, 0] }).collect();
        let alpha = (0..width * height).map(|at| if left(at) { 255 } else { 0 }).collect();
        let cutout = Cutout { picture: RgbPicture { width, height, rgb }, matte: Some(Mask { width, height, alpha }) };
        let Cutout { picture, matte } = smaller(&cutout, 12, 12);
        let matte = matte.unwrap();
        assert!(matte.alpha.iter().any(|alpha| (60..200).contains(alpha)), "an edge between two pixels");
        for (pixel, alpha) in picture.rgb.chunks(3).zip(&matte.alpha).filter(|(_, alpha)| **alpha > 100) {
            assert!(pixel[0].abs_diff(200) <= 4 && pixel[1].abs_diff(90) <= 4, "{pixel:?} {alpha}");
        }
    }
}
