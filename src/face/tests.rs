//! What needs no drawn people: boxes, crops, choosing, pictures without a face.

use std::path::Path;

use super::sampling::{Beyond, Levels};
use super::*;
use crate::picture::png;

fn models() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/face")
}

fn mika() -> RgbPicture {
    png::read_rgb(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/avatars/demo/frames/0000.png")).unwrap()
}

/// Shapes of one brightness, with nothing like a face.
fn empty() -> RgbPicture {
    RgbPicture { width: 320, height: 200, rgb: (0..320 * 200 * 3).map(|at| (at / 3 % 320 / 2) as u8).collect() }
}

fn face(x: f32, width: f32) -> Face {
    let mesh = Mesh { points: vec![[x, 0.0, 0.0]; POINTS], presence: 1.0 };
    Face { score: 0.9, bounds: FaceBox { x, y: 0.0, width, height: width }, mesh }
}

#[test]
fn the_drawn_avatar_has_one_usable_face_and_it_is_followed() {
    let mut finder = FaceFinder::load(&models()).unwrap();
    let picture = mika();
    let faces = finder.find(&picture).unwrap();
    assert_eq!(faces.len(), 1);
    assert_eq!(finder.judge(&picture, &faces[0]).unwrap(), None);
    let followed = finder.follow(&picture, &faces[0].mesh).unwrap().unwrap();
    let moved = |at: usize| (followed.points[at][0] - faces[0].mesh.points[at][0]).abs();
    assert!((0..POINTS).all(|at| moved(at) < 4.0));
    let shown = overlay(&picture, &faces, Some(0));
    assert_eq!((shown.width, shown.height), (512, 512));
    assert_ne!(shown, picture);
}

#[test]
fn a_picture_without_a_face_has_none_and_says_so() {
    let mut finder = FaceFinder::load(&models()).unwrap();
    let faces = finder.find(&empty()).unwrap();
    assert_eq!(faces, []);
    assert_eq!(choose(&faces, None), Err(FaceProblem::None));
    assert_eq!(overlay(&empty(), &faces, None), empty());
    for side in [0, 1, 3] {
        let none = RgbPicture { width: side, height: side, rgb: vec![0; (side * side * 3) as usize] };
        assert_eq!(finder.find(&none).unwrap(), [], "{side}x{side}");
    }
}

#[test]
fn a_missing_or_foreign_network_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = |folder: &Path| FaceFinder::load(folder).err().unwrap().to_string();
    assert!(error(folder.path()).contains("face_detection_short_range.onnx"));
    std::fs::write(folder.path().join("face_detection_short_range.onnx"), "no network").unwrap();
    assert!(error(folder.path()).contains("is no ONNX network"));
    std::fs::copy(models().join("face_landmark.onnx"), folder.path().join("face_detection_short_range.onnx")).unwrap();
    assert!(error(folder.path()).contains("has no value named input"));
}

#[test]
fn the_largest_face_is_taken_unless_another_is_as_large_or_a_number_is_given() {
    let faces = [face(200.0, 100.0), face(20.0, 60.0), face(400.0, 50.0)];
    assert_eq!(choose(&faces, None), Ok(0));
    assert_eq!((1..=3).map(|number| choose(&faces, Some(number)).unwrap()).collect::<Vec<_>>(), [1, 0, 2]);
    assert_eq!(choose(&faces, Some(4)), Err(FaceProblem::NoSuch { asked: 4, found: 3 }));
    assert_eq!(choose(&faces, Some(0)), Err(FaceProblem::NoSuch { asked: 0, found: 3 }));
    let twins = [face(0.0, 100.0), face(200.0, 95.0), face(400.0, 50.0)];
    assert_eq!(choose(&twins, None), Err(FaceProblem::SeveralAlike { count: 2 }));
}

#[test]
fn boxes_overlap_by_what_they_share() {
    let square = |x: f32| FaceBox { x, y: 0.0, width: 2.0, height: 2.0 };
    assert_eq!(square(0.0).overlap(&square(0.0)), 1.0);
    assert_eq!(square(0.0).overlap(&square(1.0)), 1.0 / 3.0);
    assert_eq!(square(0.0).overlap(&square(2.0)), 0.0);
}

#[test]
fn a_crop_shows_the_picture_turned_and_leads_back_to_it() {
    let picture = RgbPicture { width: 4, height: 4, rgb: (0..48).map(|at| at / 3 * 10).collect() };
    let whole = Crop { centre: [2.0, 2.0], side: 4.0, roll: 0.0 };
    let take = |crop: Crop, mirrored| crop.take(&picture, 4, Levels { black: 0.0 }, Beyond::Edge, mirrored);
    let levels = |planes: Vec<f32>| planes[..16].iter().map(|value| (value * 25.5).round() as u8).collect::<Vec<_>>();
    assert_eq!(levels(take(whole, false)), (0..16).collect::<Vec<_>>());
    assert_eq!(levels(take(whole, true))[..4], [3, 2, 1, 0]);
    // A quarter clockwise: the crop's upper edge is the picture's right one.
    let turned = Crop { roll: std::f32::consts::FRAC_PI_2, ..whole };
    assert_eq!(levels(take(turned, false))[..4], [3, 7, 11, 15]);
    let [x, y] = turned.place([0.125, 0.125]);
    assert!((x - 3.5).abs() < 1e-5 && (y - 0.5).abs() < 1e-5);
    // Beyond the picture is black, or its edge.
    let beyond = Crop { centre: [-10.0, 2.0], ..whole };
    assert_eq!(levels(take(beyond, false))[..5], [0, 0, 0, 0, 4]);
    assert!(beyond.take(&picture, 4, Levels { black: -1.0 }, Beyond::Black, false).iter().all(|value| *value == -1.0));
}

#[test]
fn the_mirror_image_of_the_mirror_image_is_the_face() {
    let mirror = |at: usize| usize::from(topology::MIRROR[at]);
    assert!((0..POINTS).all(|at| mirror(mirror(at)) == at));
    for (left, right) in [
        (&parts::LEFT_UPPER_LID[..], &parts::RIGHT_UPPER_LID[..]),
        (&parts::LEFT_LOWER_LID, &parts::RIGHT_LOWER_LID),
        (&parts::LEFT_BROW, &parts::RIGHT_BROW),
    ] {
        assert!(left.iter().zip(right).all(|(left, right)| mirror(*left) == *right));
    }
    let lips = parts::UPPER_LIP_INNER;
    assert!(lips.iter().zip(lips.iter().rev()).all(|(left, right)| mirror(*left) == *right));
}
