//! The drawn face of the demo avatar at all sorts of poses; meshes and poses that make no sense.

use std::path::Path;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::face::{FaceFinder, fit, parts};
use crate::kit::drawn_face::{Bearing, Glasses, Person, draw};
use crate::picture::png;

struct Drawn {
    still: Still,
    mesh: Mesh,
}

/// The drawn face of the demo avatar.
fn drawn() -> &'static Drawn {
    static DRAWN: OnceLock<Drawn> = OnceLock::new();
    DRAWN.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let picture = png::read_rgb(&root.join("avatars/demo/frames/0000.png")).unwrap();
        let mut finder = FaceFinder::load(&root.join("face")).unwrap();
        let mesh = finder.find(&picture).unwrap().swap_remove(0).mesh;
        Drawn { still: Still::new(&picture, &mesh).unwrap(), mesh }
    })
}

fn drawn_at(pose: HeadPose) -> I420Frame {
    let still = &drawn().still;
    still.draw(still.base(), &pose)
}

/// Poses that go as far as any that a motion with gestures asks for.
fn far() -> Vec<HeadPose> {
    let sides = [-1.0, 1.0];
    let turns = sides.into_iter().flat_map(|yaw| sides.map(|pitch| [yaw, pitch]));
    let turns = turns.flat_map(|turn| sides.map(|roll| (turn, roll)));
    turns
        .map(|([yaw, pitch], roll)| HeadPose {
            yaw: 7.0 * yaw,
            pitch: 5.0 * pitch,
            roll: 4.0 * roll,
            shift: [0.01 * roll, 0.01 * yaw],
            scale: 0.015 * pitch,
            breath: 0.02,
            lids: 0.6,
            gaze: [9.0 * yaw, 6.0 * roll],
        })
        .collect()
}

/// What of two frames' luma differs: left, top, right and bottom, the last two inclusive.
fn difference(one: &I420Frame, other: &I420Frame) -> Option<[usize; 4]> {
    let width = one.width as usize;
    let luma = width * one.height as usize;
    let places = (0..luma).filter(|at| one.data[*at] != other.data[*at]).map(|at| [at % width, at / width]);
    places.fold(None, |bounds: Option<[usize; 4]>, [x, y]| {
        let [left, top, right, bottom] = bounds.unwrap_or([x, y, x, y]);
        Some([left.min(x), top.min(y), right.max(x), bottom.max(y)])
    })
}

#[test]
fn the_default_pose_is_the_picture_bit_for_bit() {
    let still = &drawn().still;
    assert_eq!(drawn_at(HeadPose::default()), **still.base());
    let nothing = HeadPose { yaw: f32::NAN, gaze: [f32::INFINITY, 0.0], lids: -3.0, ..HeadPose::default() };
    assert_eq!(drawn_at(nothing), **still.base());
}

#[test]
fn the_edge_of_the_picture_never_moves() {
    let base = drawn().still.base();
    let (width, height) = (base.width as usize, base.height as usize);
    for pose in far() {
        let [left, top, right, bottom] = difference(base, &drawn_at(pose)).unwrap();
        assert!(left > 0 && top > 0 && right < width - 1 && bottom < height - 1, "{left} {top} {right} {bottom}");
    }
}

#[test]
fn nothing_is_folded_over_or_torn_at_any_pose() {
    let Drawn { still, .. } = drawn();
    for pose in far() {
        let map = still.field.map(&pose, &still.head);
        for row in 0..64 {
            for column in 0..64 {
                let [x, y] = map.cell(column, row, 1).stretch();
                let room = 0.3..1.7;
                assert!(room.contains(&x) && room.contains(&y), "{x} {y} at {column} {row}: {pose:?}");
            }
        }
    }
}

#[test]
fn what_is_near_turns_further_than_what_is_deep_and_both_to_the_side_that_was_asked_for() {
    let Drawn { still, mesh } = drawn();
    let moved = |pose: HeadPose, at: usize| {
        let [x, y, _] = mesh.point(at);
        still.field.map(&pose, &still.head).at([x, y]).map(|by| -by)
    };
    let yaw = HeadPose { yaw: 5.0, ..HeadPose::default() };
    let [nose, ear] = [parts::NOSE_TIP, parts::CHEEKS[0]].map(|at| moved(yaw, at)[0]);
    assert!(nose > 4.0 && ear < 0.5 * nose, "nose {nose}, ear {ear}");
    let pitch = HeadPose { pitch: 4.0, ..HeadPose::default() };
    assert!(moved(pitch, parts::NOSE_TIP)[1] > 3.0, "down");
    let roll = HeadPose { roll: 3.0, ..HeadPose::default() };
    assert!(moved(roll, 10)[0] > 3.0, "the forehead to the right");
}

/// How many pixels of the demo's green irises are seen.
fn green(frame: &I420Frame) -> usize {
    let (width, height) = (frame.width as usize / 2, frame.height as usize / 2);
    let (u, v) = frame.data[4 * width * height..].split_at(width * height);
    let Drawn { mesh, .. } = drawn();
    let [left, right] = parts::OUTER_EYE_CORNERS.map(|at| mesh.point(at)[0] as usize / 2);
    let row = mesh.point(parts::OUTER_EYE_CORNERS[0])[1] as usize / 2;
    let places = (row - 20..row + 20).flat_map(|y| (left..right).map(move |x| y * width + x));
    places.filter(|at| u[*at] < 126 && v[*at] < 122).count()
}

#[test]
fn lids_cover_the_eyes_little_by_little_and_nothing_else_moves() {
    let base = drawn().still.base();
    let open = green(base);
    assert!(open > 100, "{open} pixels of iris");
    let seen: Vec<usize> =
        [0.25, 0.5, 0.75, 1.0].map(|lids| green(&drawn_at(HeadPose { lids, ..HeadPose::default() }))).to_vec();
    assert!(seen.is_sorted_by(|more, less| more > less) && seen[0] < open, "of {open}: {seen:?}");
    assert!(seen[3] * 50 < open, "of {open} shut: {seen:?}");
    let [left, top, right, bottom] =
        difference(base, &drawn_at(HeadPose { lids: 1.0, ..HeadPose::default() })).unwrap();
    let mesh = &drawn().mesh;
    let [x, y] = [0, 1].map(|axis| parts::CHEEKS.map(|at| mesh.point(at)[axis] as usize));
    assert!(left > x[0] && right < x[1] && top > mesh.point(10)[1] as usize && bottom < y[0].max(y[1]) + 20);
}

#[test]
fn looking_about_moves_nothing_but_the_irises() {
    let base = drawn().still.base();
    let corners = parts::OUTER_EYE_CORNERS.map(|at| drawn().mesh.point(at));
    for gaze in [[9.0, 0.0], [-9.0, 0.0], [0.0, 9.0], [0.0, -9.0]] {
        let looking = drawn_at(HeadPose { gaze, ..HeadPose::default() });
        let [left, top, right, bottom] = difference(base, &looking).unwrap();
        assert!(left as f32 > corners[0][0] - 6.0 && (right as f32) < corners[1][0] + 6.0);
        assert!(bottom - top < 40, "{top} to {bottom}");
        let (before, after) = (green(base), green(&looking));
        assert!(after * 3 > before * 2, "{after} of {before} pixels of iris are left");
    }
}

#[test]
fn what_is_drawn_is_made_of_the_base_that_is_given_and_of_nothing_else() {
    let still = &drawn().still;
    let grey = I420Frame { data: vec![90; still.base().data.len()], ..**still.base() };
    for pose in far() {
        let open = HeadPose { lids: 0.0, ..pose };
        assert!(still.draw(&grey, &open) == grey, "{open:?}");
        // Skin from below the eye is as much lighter on a lid as it is in the still; the rest is the base's there too.
        let pale =
            I420Frame { data: still.base().data.iter().map(|level| level / 2 + 100).collect(), ..**still.base() };
        let paler = I420Frame { data: pale.data.iter().map(|level| level + 8).collect(), ..pale };
        let (one, other) = (still.draw(&pale, &pose), still.draw(&paler, &pose));
        assert!(one.data.iter().zip(&other.data).all(|(one, other)| other.abs_diff(*one).abs_diff(8) <= 1), "{pose:?}");
    }
    let smaller = I420Frame { width: 2, height: 2, data: vec![0; 6] };
    assert_eq!(still.draw(&smaller, &far()[0]), smaller);
}

#[test]
fn a_head_turned_there_and_back_by_motion_keeps_its_detail() {
    let still = &drawn().still;
    let detail = |frame: &I420Frame| {
        let width = frame.width as usize;
        let lines = (170..360).flat_map(|y| (170..350).map(move |x| y * width + x));
        lines
            .map(|at| {
                (i32::from(frame.data[at]) * 2 - i32::from(frame.data[at - 1]) - i32::from(frame.data[at + 1])).pow(2)
            })
            .sum::<i32>()
    };
    let motion = Motion::new(1);
    let own = f64::from(detail(still.base()));
    for at in (0..250).step_by(10) {
        let pose = HeadPose { lids: 0.0, ..motion.pose(&[], &[], at) };
        let kept = f64::from(detail(&still.draw(still.base(), &pose))) / own;
        assert!((0.7..1.1).contains(&kept), "{kept} at {at}");
    }
}

#[test]
fn what_is_no_still_is_refused_in_words() {
    let mesh = &drawn().mesh;
    let of = |width: u32, height: u32, mesh: &Mesh| {
        let picture = RgbPicture::new(width, height, vec![0; (width * height * 3) as usize]).unwrap();
        Still::new(&picture, mesh).map(drop).map_err(|error| error.to_string())
    };
    for (width, height) in [(511, 512), (512, 0), (1922, 512)] {
        let said = of(width, height, mesh).unwrap_err();
        assert!(said.contains(&format!("{width}x{height}")) && said.contains("1920"), "{said}");
    }
    let short = Mesh { points: vec![[0.0; 3]; 5], presence: 1.0 };
    let at_one_place = Mesh { points: vec![[9.0; 3]; POINTS], presence: 1.0 };
    let mut infinite = mesh.clone();
    infinite.points[7][2] = f32::NAN;
    for mesh in [&short, &at_one_place, &infinite] {
        let said = of(512, 512, mesh).unwrap_err();
        assert!(said.contains("468"), "{said}");
    }
    assert_eq!(of(512, 512, mesh), Ok(()));
}

#[test]
fn glasses_stay_in_one_piece_while_the_eyes_behind_them_shut() {
    let mut finder = FaceFinder::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/face")).unwrap();
    for (number, glasses) in [1, 3, 6, 0, 4].into_iter().zip(Glasses::ALL) {
        let person = Person { glasses: Some(glasses), ..Person::number(number) };
        let drawn = draw(&person, &Bearing::default(), 512, 230.0);
        let without = draw(&Person { glasses: None, ..person }, &Bearing::default(), 512, 230.0);
        let faces = finder.find(&drawn.picture).unwrap();
        assert_eq!(finder.judge(&drawn.picture, &faces[0]).unwrap(), None, "{glasses:?}");
        let still = Still::new(&drawn.picture, &fit(&drawn.picture, &faces[0].mesh).mesh).unwrap();
        let plain = crate::picture::color::rgb_to_i420(&without.picture.rgb, 512, 512);
        let shut = still.draw(still.base(), &HeadPose { lids: 1.0, ..HeadPose::default() });
        let apart = |one: &I420Frame, other: &I420Frame, at: usize| one.data[at].abs_diff(other.data[at]);
        // The shine on a glass is in it, too, and goes with the lid.
        let rim: Vec<usize> = (0..512 * 512).filter(|at| apart(still.base(), &plain, *at) > 24).collect();
        let moved = (0..512 * 512).filter(|at| apart(still.base(), &shut, *at) > 24).count();
        let torn = rim.iter().filter(|at| apart(still.base(), &shut, **at) > 24).count();
        assert!(moved > 200, "{glasses:?}: the eyes stay open");
        assert!(rim.len() > 200 && torn * 10 < rim.len(), "{glasses:?}: {torn} of {} torn", rim.len());
    }
}

#[test]
fn eyes_behind_glasses_are_covered_when_the_lids_are_shut() {
    let mut finder = FaceFinder::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/face")).unwrap();
    let turned = Bearing { yaw: 8.0, ..Bearing::default() };
    // Pale, of middle tone, dark, and dark with the head turned.
    for (number, bearing) in [(0, turned), (3, Bearing::default()), (7, Bearing::default()), (6, turned)] {
        for glasses in Glasses::ALL {
            // Nothing else in the picture is blue.
            let person = Person { glasses: Some(glasses), iris: [40, 90, 190], ..Person::number(number) };
            let drawn = draw(&person, &bearing, 512, 230.0);
            let truth = draw(&person, &Bearing { blink: 1.0, ..bearing }, 512, 230.0);
            let truth = crate::picture::color::rgb_to_i420(&truth.picture.rgb, 512, 512);
            let faces = finder.find(&drawn.picture).unwrap();
            let still = Still::new(&drawn.picture, &fit(&drawn.picture, &faces[0].mesh).mesh).unwrap();
            let shut = still.draw(still.base(), &HeadPose { lids: 1.0, ..HeadPose::default() });
            // White is brighter than any skin, or bright without being red.
            let [r, g, b] = person.skin.map(usize::from);
            let skin = (66 * r + 129 * g + 25 * b) / 256 + 16;
            let is_eye = |frame: &I420Frame, x: usize, y: usize| {
                let at = 512 * 512 + (y / 2) * 256 + x / 2;
                let (light, blue, red) = (frame.data[y * 512 + x], frame.data[at], frame.data[at + 256 * 256]);
                usize::from(light) > skin + 20 || blue > 136 || (light > 150 && red < 132)
            };
            let eyes =
                [(parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID), (parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID)];
            let within = eyes.iter().flat_map(|(upper, lower)| (1..8).map(move |at| (upper[at], lower[at])));
            let places = within.flat_map(|(upper, lower)| {
                let [[x, top], [_, bottom]] = [upper, lower].map(|at| drawn.points[at]);
                // Drawn lids have an edge; what is left below the eye would be seen as well.
                (top as usize..bottom as usize + 8).flat_map(move |y| (0..3).map(move |by| (x as usize - 1 + by, y)))
            });
            // Not the shine on a glass.
            let places: Vec<(usize, usize)> = places.filter(|(x, y)| !is_eye(&truth, *x, *y)).collect();
            let [open, left] = [still.base(), &shut]
                .map(|frame: &I420Frame| places.iter().filter(|(x, y)| is_eye(frame, *x, *y)).count());
            assert!(open > 100, "{number} with {glasses:?}: {open} pixels of the eyes are seen");
            assert!(left * 10 < open, "{number} with {glasses:?}: {left} of {open} pixels are not covered");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_mesh_and_no_pose_is_too_odd(
        points in prop::collection::vec(prop::array::uniform3(prop_oneof![
            4 => -50_f32..250.0, 1 => -1e4_f32..1e4, 1 => Just(0.0_f32), 1 => prop::num::f32::NORMAL
        ]), POINTS),
        size in (1_u32..60, 1_u32..60),
        turn in prop::array::uniform10(prop::num::f32::ANY),
    ) {
        let (width, height) = (size.0 * 2, size.1 * 2);
        let picture = RgbPicture::new(width, height, vec![77; (width * height * 3) as usize]).unwrap();
        if let Ok(still) = Still::new(&picture, &Mesh { points, presence: 1.0 }) {
            let [yaw, pitch, roll, right, down, scale, breath, lids, x, y] = turn;
            let pose = HeadPose { yaw, pitch, roll, shift: [right, down], scale, breath, lids, gaze: [x, y] };
            prop_assert_eq!(still.draw(still.base(), &pose), (**still.base()).clone());
        }
    }
}

/// Nanoseconds that this thread has computed; others' work on a busy machine is not in it.
fn computed() -> u64 {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    read.split_whitespace().next().unwrap().parse().unwrap()
}

/// `cargo test --release --lib still::tests::how_long -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout)]
fn how_long_a_frame_takes() {
    const FRAMES: u64 = 200;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let picture = png::read_rgb(&root.join("avatars/demo/frames/0000.png")).unwrap();
    for side in [512, 1080] {
        let larger = crate::picture::resize::lanczos4(&picture, side, side);
        let mut mesh = drawn().mesh.clone();
        mesh.points.iter_mut().flatten().for_each(|value| *value *= side as f32 / 512.0);
        let started = computed();
        let still = Still::new(&larger, &mesh).unwrap();
        println!("{side}x{side}: ready in {:.1} ms", (computed() - started) as f64 / 1e6);
        let motion = Motion::new(1);
        for lids in [0.0, 0.8] {
            let started = computed();
            for at in 0..FRAMES {
                let pose = HeadPose { lids, ..motion.pose(&[], &[], at) };
                std::hint::black_box(still.draw(still.base(), &pose));
            }
            println!("lids {lids}: {:.2} ms a frame", (computed() - started) as f64 / 1e6 / FRAMES as f64);
        }
    }
}
