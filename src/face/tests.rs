//! Faces found in the drawn avatar's own frame.

use std::path::Path;

use super::*;
use crate::picture::png;

fn finder() -> FaceFinder {
    FaceFinder::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/face")).unwrap()
}

fn mika() -> RgbPicture {
    png::read_rgb(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/avatars/demo/frames/0000.png")).unwrap()
}

#[test]
fn the_drawn_avatar_has_one_face_and_it_is_followed() {
    let (mut finder, picture) = (finder(), mika());
    let faces = finder.find(&picture).unwrap();
    assert_eq!(faces.len(), 1);
    let face = &faces[0];
    assert!(face.score > 0.6 && face.mesh.presence > 0.9, "{} {}", face.score, face.mesh.presence);
    let followed = finder.follow(&picture, &face.mesh).unwrap().unwrap();
    let moved = |at: usize| (followed.points[at][0] - face.mesh.points[at][0]).abs();
    assert!((0..POINTS).all(|at| moved(at) < 4.0));
}
