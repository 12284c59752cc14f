//! Geometry and masks against upstream's arithmetic, as `scripts/make_musetalk_fixtures.py` has it.

use std::path::PathBuf;

use serde::Deserialize;

use super::geometry::{Framing, Surroundings, face_box, points};
use super::mask::{MeanMask, of_frame};
use super::parsing::Classes;
use crate::face::{Mesh, POINTS};
use crate::kit::drawn_face::{Bearing, Person, draw};
use crate::picture::{CropBox, Mask, RgbPicture, png};
use crate::preparation::ParsingMode;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/musetalk").join(name)
}

#[derive(Deserialize)]
struct Case {
    points: Vec<[i32; 2]>,
    shift: i32,
    height: u32,
    first: [i32; 4],
    latest: [i32; 4],
    first_around: [i32; 4],
    latest_around: [i32; 4],
}

/// From its ends.
fn crop([left, top, right, bottom]: [i32; 4]) -> CropBox {
    CropBox { x: left, y: top, width: (right - left) as u32, height: (bottom - top) as u32 }
}

fn around(crop: CropBox) -> [i32; 4] {
    let Surroundings { x, y, side } = Surroundings::of(crop);
    [x, y, x + side as i32, y + side as i32]
}

#[test]
fn boxes_and_what_is_round_them_are_upstreams() {
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(fixture("geometry.json")).unwrap()).unwrap();
    let mut cut = 0;
    for case in cases {
        let points = <[[i32; 2]; 68]>::try_from(case.points).unwrap();
        // Wide enough for none to be cut.
        let size = (2000, case.height);
        let first = face_box(&points, Framing::Shifted(case.shift), (2000, 2000)).unwrap();
        let latest = face_box(&points, Framing::Margin(10), size).unwrap();
        assert_eq!((first, latest), (crop(case.first), crop(case.latest)));
        assert_eq!((around(first), around(latest)), (case.first_around, case.latest_around));
        cut += usize::from(latest.y == 0) + usize::from(case.latest[3] == case.height as i32);
    }
    assert!(cut > 4, "only {cut} boxes reach the frame's edge");
}

#[test]
fn a_box_stays_in_the_frame_or_is_none() {
    let mut points = [[50, 60]; 68];
    points[0] = [-20, 40];
    points[16] = [130, 40];
    points[8] = [50, 95];
    let found = face_box(&points, Framing::Margin(10), (100, 100)).unwrap();
    assert_eq!(found, crop([0, 25, 100, 100]));
    assert_eq!(face_box(&points.map(|[x, y]| [x + 500, y]), Framing::Margin(10), (100, 100)), None);
    assert_eq!(face_box(&[[50, 60]; 68], Framing::Shifted(0), (100, 100)), None);
}

#[test]
fn the_pixels_round_a_box_are_black_outside_the_frame() {
    // A frame of three by two pixels that are 1 to 6, seen from one that begins left of it and above it.
    let frame = RgbPicture { width: 3, height: 2, rgb: (1..=6).flat_map(|level| [level; 3]).collect() };
    let levels = |x: i32, y: i32, side: u32| {
        let rgb = Surroundings { x, y, side }.pixels(&frame).rgb;
        rgb.chunks_exact(3).map(|pixel| pixel[0]).collect::<Vec<u8>>()
    };
    assert_eq!(levels(-1, -1, 4), [0, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 0, 0, 0]);
    assert_eq!(levels(1, 0, 2), [2, 3, 5, 6]);
    assert_eq!(levels(2, 1, 2), [6, 0, 0, 0]);
    assert_eq!(levels(7, -9, 2), [0; 4]);
}

/// A round face of 100 pixels, whose every point lies somewhere else.
fn mesh() -> Mesh {
    let place = |at: usize| {
        let turn = at as f32 * 2.4;
        let away = 50.0 * (at as f32 / POINTS as f32).sqrt();
        [150.0 + away * turn.cos(), 150.0 + away * turn.sin(), 0.0]
    };
    Mesh { points: (0..POINTS).map(place).collect(), presence: 1.0 }
}

#[test]
fn the_points_are_cut_off_to_whole_pixels_and_are_as_many_places_of_the_mesh() {
    let mesh = mesh();
    let points = points(&mesh);
    assert_eq!(points[30], [mesh.point(4)[0] as i32, mesh.point(4)[1] as i32]);
    let mut all = points.to_vec();
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 60, "{} of 68 points are apart", all.len());
}

fn classes() -> Classes {
    Classes(png::read_mask(&fixture("classes.png")).unwrap().alpha)
}

#[test]
fn all_ways_from_classes_to_a_mask_are_upstreams_to_the_pixel() {
    for (name, mode) in [("jaw.png", ParsingMode::Jaw), ("raw.png", ParsingMode::Raw), ("neck.png", ParsingMode::Neck)]
    {
        let ours = classes().shown(mode);
        let theirs = png::read_mask(&fixture(name)).unwrap().alpha;
        let differ = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).count();
        assert_eq!((ours.len(), differ), (theirs.len(), 0), "{name}");
    }
}

#[test]
fn a_frames_mask_is_within_a_level_of_upstreams() {
    let boxes: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("boxes.json")).unwrap()).unwrap();
    for (name, ends) in boxes.as_object().unwrap() {
        let crop = crop(serde_json::from_value(ends.clone()).unwrap());
        let ours = of_frame(&classes().shown(ParsingMode::Jaw), crop, Surroundings::of(crop));
        let theirs = png::read_mask(&fixture(&format!("mask-{name}.png"))).unwrap();
        assert_eq!((ours.width, ours.height), (theirs.width, theirs.height));
        let apart = ours.alpha.iter().zip(&theirs.alpha).map(|(ours, theirs)| ours.abs_diff(*theirs));
        let (most, sum) = apart.fold((0, 0_u32), |(most, sum), apart| (most.max(apart), sum + u32::from(apart)));
        let mean = f64::from(sum) / ours.alpha.len() as f64;
        assert!(most <= 1 && mean < 0.3, "{name}: {most} levels apart, {mean} on average");
    }
}

#[test]
fn the_mean_of_masks_has_every_size_and_says_which_rows_are_seen() {
    let mut mean = MeanMask::new(64, 3);
    for (width, height) in [(80, 120), (81, 119), (33, 47)] {
        let alpha = (0..width * height).map(|at| if at / width >= height * 3 / 4 { 200 } else { 0 }).collect();
        mean.add(&Mask { width, height, alpha });
    }
    mean.add(&Mask { width: 0, height: 0, alpha: Vec::new() });
    let (mask, rows) = mean.finish(8);
    assert_eq!((mask.width, mask.alpha[63 * 64 + 5], mask.alpha[40 * 64 + 5], rows), (64, 200, 0, [5, 8]));
    assert_eq!([0, 1, 2, 3].map(|frame| MeanMask::new(64, 129).wants(frame)), [true, false, false, true]);
    let (none, rows) = MeanMask::new(64, 3).finish(8);
    assert!(none.bounds().is_none() && rows == [0, 8]);
}

/// A drawn face's mesh, without what a network would get wrong of it.
fn drawn(bearing: &Bearing) -> Mesh {
    let points = draw(&Person::number(3), bearing, 512, 260.0).points;
    Mesh { points: points.into_iter().map(|[x, y]| [x, y, 0.0]).collect(), presence: 1.0 }
}

fn mask(mesh: &Mesh) -> Mask {
    let crop = face_box(&points(mesh), Framing::Margin(10), (512, 512)).unwrap();
    let around = Surroundings::of(crop);
    of_frame(&Classes::drawn(mesh, around).shown(ParsingMode::Jaw), crop, around)
}

#[test]
fn one_mask_is_near_that_of_each_frame_of_a_head_that_turns() {
    let turned = [-12.0_f32, -6.0, 0.0, 6.0, 12.0].map(|yaw| Bearing {
        yaw,
        pitch: yaw / 3.0,
        roll: yaw / 2.0,
        ..Bearing::default()
    });
    let masks = turned.map(|bearing| mask(&drawn(&bearing)));
    let stretched = |masks: &[Mask]| {
        let mut mean = MeanMask::new(128, masks.len());
        masks.iter().for_each(|mask| mean.add(mask));
        mean.finish(32).0.alpha
    };
    let mean = stretched(&masks);
    for (own, bearing) in masks.chunks(1).map(stretched).zip(&turned) {
        let apart: Vec<u8> = own.iter().zip(&mean).map(|(own, mean)| own.abs_diff(*mean)).collect();
        let average = apart.iter().map(|levels| f64::from(*levels)).sum::<f64>() / apart.len() as f64;
        let far = apart.iter().filter(|levels| **levels > 64).count() as f64 / apart.len() as f64;
        println!("yaw {}: {average:.1} levels on average, {:.1} % by more than 64", bearing.yaw, 100.0 * far);
        assert!(average < 10.0 && far < 0.05, "yaw {}: {average} levels, {far} far", bearing.yaw);
    }
}

#[test]
fn a_map_drawn_from_a_mesh_has_skin_a_nose_and_a_mouth_where_they_are() {
    // The canonical places of a face, which a drawn one has.
    let mesh = drawn(&Bearing::default());
    let crop = face_box(&super::geometry::points(&mesh), Framing::Margin(10), (512, 512)).unwrap();
    let around = Surroundings::of(crop);
    let classes = Classes::drawn(&mesh, around);
    let at = |point: usize| {
        let scale = 512.0 / around.side as f32;
        let [x, y, _] = mesh.point(point);
        let place = |value: f32, origin: i32| ((value - origin as f32) * scale) as usize;
        classes.0[place(y, around.y) * 512 + place(x, around.x)]
    };
    // The tip of the nose, the middle between the lips, a cheek, and what is no face.
    assert_eq!([at(4), at(13), at(50), classes.0[0]], [10, 11, 1, 0]);
    let mask = of_frame(&classes.shown(ParsingMode::Jaw), crop, around);
    let value = |x: u32, y: u32| mask.alpha[(y * crop.width + x) as usize];
    // The mouth is pasted whole, the brow not at all.
    let [x, y, _] = mesh.point(13);
    assert_eq!(value(x as u32 - crop.x as u32, y as u32 - crop.y as u32), 255);
    assert_eq!(value(crop.width / 2, crop.height / 4), 0);
}
