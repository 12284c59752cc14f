//! A drawn eye of known lids and iris, found and moved.

use super::*;
use crate::face::{POINTS, parts};

const MIDDLE: [f32; 2] = [80.0, 60.0];

/// A head of which only what an eye is found by has a place: 160 wide, its left eye 40 wide and 16 high about `MIDDLE`.
fn mesh() -> Mesh {
    let mut points = vec![[0.0; 3]; POINTS];
    let mut line = |lids: &[usize], height: f32| {
        for (at, point) in lids.iter().enumerate() {
            let part = at as f32 / (lids.len() - 1) as f32;
            points[*point] = [MIDDLE[0] - 20.0 + 40.0 * part, MIDDLE[1] + height * 4.0 * part * (1.0 - part), 0.0];
        }
    };
    line(&parts::LEFT_UPPER_LID, -8.0);
    line(&parts::LEFT_LOWER_LID, 8.0);
    points[parts::OUTER_EYE_CORNERS[1]] = [MIDDLE[0] + 100.0, MIDDLE[1], 0.0];
    for (at, point) in parts::LEFT_BROW.into_iter().enumerate() {
        points[point] = [MIDDLE[0] - 24.0 + 12.0 * at as f32, MIDDLE[1] - 30.0, 0.0];
    }
    let [left, right] = parts::CHEEKS;
    (points[left], points[right]) = ([20.0, 80.0, 0.0], [180.0, 80.0, 0.0]);
    points[parts::CHIN] = [100.0, 180.0, 0.0];
    Mesh { points, presence: 1.0 }
}

/// The same eye drawn, its lower lid so much lower and its iris so far to the right, or shut.
fn picture(lower: f32, iris: Option<f32>) -> RgbPicture {
    let pixels = (0..200 * 200).flat_map(|at| {
        let [x, y] = [(at % 200) as f32 + 0.5 - MIDDLE[0], (at / 200) as f32 + 0.5 - MIDDLE[1]];
        let arch = 1.0 - (x / 20.0).powi(2);
        let open = y > -8.0 * arch && y < (8.0 + lower) * arch;
        match iris {
            Some(right) if open && (x - right).hypot(y) < 8.0 => [60, 90, 50],
            Some(_) if open => [235, 235, 235],
            _ => [220, 170, 140],
        }
    });
    RgbPicture { width: 200, height: 200, rgb: pixels.collect() }
}

fn eye(picture: &RgbPicture) -> Eye {
    let mesh = mesh();
    Eye::find(picture, &mesh, &HeadFrame::of(&mesh).unwrap(), &EYES[0]).unwrap()
}

fn looking(gaze: [f32; 2]) -> HeadPose {
    HeadPose { gaze, ..HeadPose::default() }
}

#[test]
fn the_iris_is_found_where_it_is() {
    for right in [-4.0, 0.0, 4.0] {
        let iris = eye(&picture(0.0, Some(right))).iris.unwrap();
        assert!((iris.middle[0] - right).abs() <= 2.0 && iris.middle[1].abs() <= 2.5, "{iris:?} at {right}");
        assert!((6.5..10.0).contains(&iris.radius), "{iris:?}");
    }
}

#[test]
fn where_no_iris_is_seen_nothing_looks_about() {
    let blank = eye(&picture(0.0, None));
    assert!(blank.iris.is_none() && blank.at(&looking([9.0, 9.0])).is_none());
    let mut pair = [eye(&picture(0.0, Some(0.0))), blank];
    Eye::pair(&mut pair);
    assert!(pair.iter().all(|eye| eye.at(&looking([9.0, 9.0])).is_none()), "neither does the other eye");
}

#[test]
fn the_lower_lid_snaps_to_the_picture() {
    for lower in [0.0, 3.0, 5.0] {
        let eye = eye(&picture(lower, Some(0.0)));
        let middle = eye.column(0.0).unwrap();
        assert!((middle.lower - 8.0 - lower).abs() < 1.6, "{middle:?} for {lower} lower");
    }
}

#[test]
fn the_iris_moves_as_one_and_the_corners_and_lids_rest() {
    let eye = eye(&picture(0.0, Some(0.0)));
    let map = eye.at(&looking([9.0, 0.0])).unwrap();
    let by = |u: f32, v: f32| map.source([MIDDLE[0] + u, MIDDLE[1] + v]).by;
    let moved = EYEBALL * eye.width * 9_f32.to_radians().sin();
    for u in [-5.0, 0.0, 5.0] {
        assert!((by(u, 0.5)[0] + moved).abs() < 0.3, "{:?} at {u}", by(u, 0.5));
    }
    for still in [by(-19.0, 0.0), by(19.0, 0.0), by(0.0, -7.5), by(0.0, 8.5), by(0.0, -20.0), by(60.0, 0.0)] {
        assert!(still[0].abs() < 0.1, "{still:?}");
    }
    // Neighbours never change places, so the white of the eye is not torn.
    for u in -30..30 {
        let step = by(u as f32 + 1.0, 0.5)[0] - by(u as f32, 0.5)[0];
        assert!((-0.8..0.8).contains(&step), "{step} at {u}");
    }
}

#[test]
fn a_lid_half_down_has_its_edge_half_way_and_leaves_the_eye_below_as_it_is() {
    let eye = eye(&picture(0.0, Some(0.0)));
    let column = eye.column(0.0).unwrap();
    let map = eye.at(&HeadPose { lids: 0.5, ..HeadPose::default() }).unwrap();
    let source = |v: f32| map.source([MIDDLE[0], MIDDLE[1] + v]);
    let edge = column.upper + 0.5 * column.travel;
    assert!((source(edge - 1.0).by[1] + 0.5 * column.travel).abs() < 0.2, "the edge comes from above");
    assert_eq!(source(edge + 1.0).by, [0.0; 2]);
    let part = source(edge).second.unwrap().part;
    assert!((part - 0.5).abs() < 0.1, "{part} of the pixel on the edge is eye");
    assert_eq!(source(column.top - 1.0).by, [0.0; 2], "the brow rests");
    let mut last = column.top - 1.0;
    for at in 0..400 {
        let v = column.top + 0.1 * at as f32;
        let from = v + source(v).by[1];
        if v < edge {
            assert!(from >= last - 1e-3, "{from} after {last}");
            last = from;
        }
    }
}

#[test]
fn an_eye_that_the_edge_of_the_picture_cuts_is_known() {
    let eye = eye(&picture(0.0, Some(0.0)));
    assert!(eye.lies_within(200, 200) && !eye.lies_within(90, 200) && !eye.lies_within(200, 60));
}

#[test]
fn an_eye_on_the_far_side_of_a_turned_head_is_left_alone() {
    let mut mesh = mesh();
    let seen = picture(0.0, Some(0.0));
    let mut far = |width: f32| {
        for (lids, height) in [(parts::RIGHT_UPPER_LID, -8.0), (parts::RIGHT_LOWER_LID, 8.0)] {
            for (at, point) in lids.into_iter().enumerate() {
                let part = at as f32 / 8.0;
                mesh.points[point] =
                    [MIDDLE[0] + 100.0 - width * part, MIDDLE[1] + height * 4.0 * part * (1.0 - part), 0.0];
            }
        }
        for (at, point) in parts::RIGHT_BROW.into_iter().enumerate() {
            mesh.points[point] = [MIDDLE[0] + 100.0 - width * at as f32 / 4.0, MIDDLE[1] - 30.0, 0.0];
        }
        Eye::both(&seen, &mesh, &HeadFrame::of(&mesh).unwrap()).len()
    };
    assert_eq!((far(40.0), far(30.0), far(15.0)), (2, 2, 1));
}

/// That eye with other colours in some places, given as x and y from its middle.
fn with(paint: impl Fn(f32, f32) -> Option<[u8; 3]>) -> RgbPicture {
    let mut picture = picture(0.0, Some(0.0));
    for (at, pixel) in picture.rgb.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let [x, y] = [(at % 200) as f32 + 0.5 - MIDDLE[0], (at / 200) as f32 + 0.5 - MIDDLE[1]];
        *pixel = paint(x, y).unwrap_or(*pixel);
    }
    picture
}

#[test]
fn a_shine_on_glass_does_not_go_down_with_the_lid() {
    let shines = |x: f32| (-12.0..-7.0).contains(&x);
    let eye = eye(&with(|x, y| (shines(x) && y.abs() < 30.0).then_some([255; 3])));
    let map = eye.at(&HeadPose { lids: 1.0, ..HeadPose::default() }).unwrap();
    let column = eye.column(-9.5).unwrap();
    for v in [0.0, 4.0, column.upper + column.travel - 2.0] {
        let skin = map.source([MIDDLE[0] - 9.5, MIDDLE[1] + v]).second.unwrap();
        assert!(skin.part > 0.8 && !shines(-9.5 + skin.by[0]), "{} of {:?} at {v}", skin.part, skin.by);
    }
    let beside = eye.column(8.0).unwrap();
    assert_eq!((beside.shine, beside.aside), (0.0, 0.0), "and the rest of the lid is as it was");
}

#[test]
fn spots_of_light_above_a_dark_eye_are_not_taken_for_its_white() {
    let spot = |at: f32| at.rem_euclid(3.0) < 1.0;
    let eye = eye(&with(|x, y| match y {
        -20.0..-9.0 if spot(x) && spot(y) => Some([255; 3]),
        -9.0..9.0 if y.abs() < 8.0 * (1.0 - (x / 20.0).powi(2)) => Some([60, 90, 50]),
        _ => None,
    }));
    let middle = eye.column(0.0).unwrap();
    assert!((middle.upper + 8.0).abs() < 1.5, "{middle:?}");
}

#[test]
fn a_dark_rim_stays_where_it_is_on_almost_black_skin_too() {
    for (skin, rim) in [([220, 170, 140], [28, 28, 32]), ([46, 36, 30], [28, 28, 32])] {
        let eye = eye(&with(|x, y| match y {
            -25.0..-20.0 => Some(rim),
            _ => (y.abs() > 8.0 * (1.0 - (x / 20.0).powi(2))).then_some(skin),
        }));
        let middle = eye.column(0.0).unwrap();
        assert!((-20.0..-17.0).contains(&middle.top), "{middle:?} on {skin:?}");
    }
}
