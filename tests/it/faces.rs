//! Faces are found where they are: against LiteRT, against what was drawn, through clips, and in a photograph.

use std::path::{Path, PathBuf};

use mouthpiece::face::track::{Sight, Tracker};
use mouthpiece::face::{FaceFinder, FaceProblem, Mesh, POINTS, choose, fit, parts};
use mouthpiece::picture::{RgbPicture, png};

use crate::kit::drawn_face::{Bearing, Chance, Drawn, Person, draw, noisy};

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn finder() -> FaceFinder {
    FaceFinder::load(&project().join("models/face")).unwrap()
}

fn read(path: &Path) -> RgbPicture {
    png::read_rgb(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Between the middles of the eyes of what was drawn.
fn eye_distance(truth: &[[f32; 2]]) -> f32 {
    let middle = |outer: usize, inner: usize| [0, 1].map(|axis| (truth[outer][axis] + truth[inner][axis]) / 2.0);
    let [left, right] = [0, 1].map(|side| middle(parts::OUTER_EYE_CORNERS[side], parts::INNER_EYE_CORNERS[side]));
    apart(left, right)
}

/// The distance of a place to a line through points.
fn beside(place: [f32; 2], line: &[[f32; 2]]) -> f32 {
    let edges = line.windows(2).map(|edge| {
        let (along, away) =
            ([0, 1].map(|axis| edge[1][axis] - edge[0][axis]), [0, 1].map(|axis| place[axis] - edge[0][axis]));
        let square = along[0] * along[0] + along[1] * along[1];
        let share = ((along[0] * away[0] + along[1] * away[1]) / square.max(1e-9)).clamp(0.0, 1.0);
        (away[0] - share * along[0]).hypot(away[1] - share * along[1])
    });
    edges.fold(f32::INFINITY, f32::min)
}

/// What of a face is to be seen in a picture: its edges, and where they meet. Only across an edge has a place on it a true
/// value, so that is what is measured there; in the middle of a cheek nothing has. The forehead's edge is under the hair.
const EDGES: [(&str, &[&[usize]]); 7] = [
    ("upper lip", &[&parts::UPPER_LIP_OUTER]),
    ("lower lip", &[&parts::LOWER_LIP_OUTER]),
    ("upper lip's inside", &[&parts::UPPER_LIP_INNER]),
    ("lower lip's inside", &[&parts::LOWER_LIP_INNER]),
    ("upper lids", &[&parts::LEFT_UPPER_LID, &parts::RIGHT_UPPER_LID]),
    ("lower lids", &[&parts::LEFT_LOWER_LID, &parts::RIGHT_LOWER_LID]),
    ("jaw", &[&JAW]),
];
const CORNERS: [usize; 6] = [33, 133, 362, 263, 61, 291];
const JAW: [usize; 19] = [323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93];

/// The errors of a mesh at edges and corners, in percent of the distance between the eyes, with what they belong to.
fn errors(mesh: &Mesh, truth: &[[f32; 2]]) -> Vec<(&'static str, f32)> {
    let eyes = eye_distance(truth) / 100.0;
    let place = |at: usize| [mesh.points[at][0], mesh.points[at][1]];
    let mut errors: Vec<(&str, f32)> = CORNERS.map(|at| ("corners", apart(place(at), truth[at]) / eyes)).to_vec();
    for (name, lines) in EDGES {
        for line in lines {
            let drawn: Vec<[f32; 2]> = line.iter().map(|at| truth[*at]).collect();
            errors.extend(line[1..line.len() - 1].iter().map(|at| (name, beside(place(*at), &drawn) / eyes)));
        }
    }
    errors
}

fn mean_of(errors: &[(&str, f32)], name: &str) -> f32 {
    let own: Vec<f32> =
        errors.iter().filter(|(of, _)| name.is_empty() || *of == name).map(|(_, error)| *error).collect();
    own.iter().sum::<f32>() / own.len() as f32
}

fn table(errors: &[(&str, f32)]) -> String {
    let names = EDGES.map(|(name, _)| name).into_iter().chain(["corners"]);
    let rows: Vec<String> = names.map(|name| format!("{name} {:.2}", mean_of(errors, name))).collect();
    format!("{:.2} percent; {}", mean_of(errors, ""), rows.join(", "))
}

#[test]
fn the_networks_say_what_they_say_in_their_own_runtime() {
    let text = std::fs::read_to_string(project().join("tests/fixtures/face/expected.json")).unwrap();
    let expected: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 3);
    let mut finder = finder();
    for (path, expected) in expected {
        let faces = finder.find(&read(&project().join(&path))).unwrap();
        assert_eq!(faces.len(), 1, "{path}");
        let face = &faces[0];
        let number = |value: &serde_json::Value| value.as_f64().unwrap() as f32;
        assert!((face.score - number(&expected["score"])).abs() < 1e-4, "{path}: score {}", face.score);
        assert!((face.mesh.presence - number(&expected["presence"])).abs() < 1e-4, "{path}");
        let bounds = [face.bounds.x, face.bounds.y, face.bounds.width, face.bounds.height];
        for (side, expected) in bounds.iter().zip(expected["bounds"].as_array().unwrap()) {
            assert!((side - number(expected)).abs() < 2e-3, "{path}: {bounds:?}");
        }
        let points = expected["points"].as_array().unwrap();
        assert_eq!(points.len(), POINTS);
        let values = points.iter().flat_map(|point| point.as_array().unwrap());
        let farthest = face
            .mesh
            .points
            .iter()
            .flatten()
            .zip(values)
            .map(|(found, expected)| (found - number(expected)).abs())
            .fold(0.0, f32::max);
        assert!(farthest < 2e-3, "{path}: {farthest} px");
    }
}

#[test]
fn drawn_people_are_found_where_they_were_drawn() {
    let (mut finder, mut chance) = (finder(), Chance(1));
    let (mut fitted, mut rough) = (Vec::new(), Vec::new());
    for number in 0..32 {
        let bearing = if number < 8 { Bearing::default() } else { Bearing::by_chance(&mut chance) };
        let drawn = draw(&Person::number(number), &bearing, 384, 160.0);
        let faces = finder.find(&drawn.picture).unwrap();
        assert_eq!(choose(&faces, None), Ok(0), "person {number}");
        let mesh = fit(&drawn.picture, &faces[0].mesh).mesh;
        let own = errors(&mesh, &drawn.points);
        assert!(mean_of(&own, "") < 5.0, "person {number}: {}", table(&own));
        fitted.extend(own);
        rough.extend(errors(&faces[0].mesh, &drawn.points));
    }
    println!("fitted {}\nnetwork {}", table(&fitted), table(&rough));
    assert!(mean_of(&fitted, "") < 2.0, "{}", table(&fitted));
    // The network alone is farther off.
    assert!(mean_of(&rough, "") > 2.0 * mean_of(&fitted, ""), "{}", table(&rough));
}

#[test]
fn people_who_talk_and_move_are_found_where_they_were_drawn() {
    let mut finder = finder();
    let mut all = Vec::new();
    for number in [0, 3, 5, 6, 9, 12] {
        let drawn: Vec<Drawn> = (0..8)
            .map(|frame| draw(&Person::number(number), &Bearing::talking(frame as f32 / 25.0), 384, 160.0))
            .collect();
        let mut tracker = Tracker::new(&mut finder, None, &std::env::temp_dir()).unwrap();
        for frame in &drawn {
            tracker.push(&frame.picture).unwrap().unwrap();
        }
        for (tracked, drawn) in tracker.finish().unwrap().frames().map(Result::unwrap).zip(&drawn) {
            all.extend(errors(tracked.mesh.as_ref().unwrap(), &drawn.points));
        }
    }
    println!("{}", table(&all));
    assert!(mean_of(&all, "") < 2.0, "{}", table(&all));
}

#[test]
fn a_face_at_rest_does_not_tremble_in_noise() {
    let mut finder = finder();
    for (width, deviation) in [(92.0, 10.0), (180.0, 3.0)] {
        let drawn = draw(&Person::number(3), &Bearing::default(), 384, width);
        let mut chance = Chance(9);
        let mut tracker = Tracker::new(&mut finder, None, &std::env::temp_dir()).unwrap();
        for _ in 0..16 {
            tracker.push(&noisy(&drawn.picture, deviation, &mut chance)).unwrap().unwrap();
        }
        let track = tracker.finish().unwrap();
        let meshes: Vec<Mesh> = track.frames().filter_map(|frame| frame.unwrap().mesh).collect();
        assert_eq!(meshes.len(), 16);
        let deviation = |at: usize, axis: usize| {
            let mean = meshes.iter().map(|mesh| mesh.points[at][axis]).sum::<f32>() / 16.0;
            meshes.iter().map(|mesh| (mesh.points[at][axis] - mean).powi(2)).sum::<f32>() / 16.0
        };
        let jitter = ((0..POINTS).map(|at| deviation(at, 0) + deviation(at, 1)).sum::<f32>() / POINTS as f32).sqrt();
        assert!(jitter < 0.3, "{jitter} px at {width}");
    }
}

/// How far the lips are apart.
fn gap(upper: [f32; 2], lower: [f32; 2]) -> f32 {
    apart(upper, lower)
}

fn correlation(a: &[f32], b: &[f32]) -> f32 {
    let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
    let (a_mean, b_mean) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f32, f32) -> f32| a.iter().zip(b).map(|(a, b)| f(a - a_mean, b - b_mean)).sum::<f32>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

#[test]
fn lips_in_a_clip_move_when_they_were_drawn_moving() {
    let (mut finder, mut chance) = (finder(), Chance(4));
    let drawn: Vec<Drawn> =
        (0..50).map(|frame| draw(&Person::number(3), &Bearing::talking(frame as f32 / 25.0), 320, 140.0)).collect();
    let mut tracker = Tracker::new(&mut finder, None, &std::env::temp_dir()).unwrap();
    for frame in &drawn {
        tracker.push(&noisy(&frame.picture, 3.0, &mut chance)).unwrap().unwrap();
    }
    let track = tracker.finish().unwrap();
    assert!(track.cuts.is_empty(), "{:?}", track.cuts);
    assert!(track.sights().iter().all(|sight| *sight == Sight::Seen));
    let flat = |point: [f32; 3]| [point[0], point[1]];
    let found: Vec<f32> = track
        .frames()
        .map(|frame| frame.unwrap().mesh.unwrap())
        .map(|mesh| gap(flat(mesh.points[13]), flat(mesh.points[14])))
        .collect();
    let truth: Vec<f32> = drawn.iter().map(|frame| gap(frame.points[13], frame.points[14])).collect();
    let now = correlation(&found, &truth);
    assert!(now > 0.93, "{now}");
    assert!(now > correlation(&found[1..], &truth[..49]) && now > correlation(&found[..49], &truth[1..]));
}

#[test]
fn losses_and_other_faces_in_a_clip_are_told_apart() {
    let mut finder = finder();
    let mut tracker = Tracker::new(&mut finder, None, &std::env::temp_dir()).unwrap();
    for frame in 0..44 {
        let person = Person::number(if frame < 20 { 3 } else { 13 });
        let mut picture = draw(&person, &Bearing::talking(frame as f32 / 25.0), 256, 110.0).picture;
        if (8..12).contains(&frame) || (26..40).contains(&frame) {
            picture.rgb.fill(90);
        }
        let seen = tracker.push(&picture).unwrap().is_ok();
        assert_eq!(seen, !((8..12).contains(&frame) || (26..40).contains(&frame)), "frame {frame}");
    }
    let track = tracker.finish().unwrap();
    assert_eq!(track.cuts, [20]);
    for (at, frame) in track.frames().map(Result::unwrap).enumerate() {
        match at {
            8..12 => assert_eq!(frame.sight, Sight::Between, "frame {at}"),
            26..40 => assert_eq!(frame.sight, Sight::Lost(FaceProblem::None), "frame {at}"),
            _ => assert_eq!(frame.sight, Sight::Seen, "frame {at}"),
        }
        assert_eq!(frame.mesh.is_none(), matches!(frame.sight, Sight::Lost(_)));
    }
}

/// What is wrong with the only face of a picture.
fn problem(finder: &mut FaceFinder, picture: &RgbPicture) -> Option<FaceProblem> {
    let faces = finder.find(picture).unwrap();
    match choose(&faces, None) {
        Ok(at) => finder.judge(picture, &faces[at]).unwrap(),
        Err(problem) => Some(problem),
    }
}

/// A part of a picture.
fn cut(picture: &RgbPicture, left: u32, top: u32, width: u32, height: u32) -> RgbPicture {
    let row = |y: u32| {
        let start = ((top + y) * picture.width + left) as usize * 3;
        &picture.rgb[start..start + width as usize * 3]
    };
    RgbPicture { width, height, rgb: (0..height).flat_map(|y| row(y).to_vec()).collect() }
}

/// The mean of the pixels around each, `reach` to every side, thrice.
fn blurred(picture: &RgbPicture, reach: i64) -> RgbPicture {
    let (width, height) = (i64::from(picture.width), i64::from(picture.height));
    let mut blurred = picture.clone();
    for _ in 0..3 {
        for (dx, dy) in [(1, 0), (0, 1)] {
            let from = blurred.rgb.clone();
            for at in 0..width * height * 3 {
                let (x, y, channel) = (at / 3 % width, at / 3 / width, at % 3);
                let pixel = |step: i64| {
                    let (x, y) = ((x + dx * step).clamp(0, width - 1), (y + dy * step).clamp(0, height - 1));
                    u32::from(from[((y * width + x) * 3 + channel) as usize])
                };
                let sum: u32 = (-reach..=reach).map(pixel).sum();
                blurred.rgb[at as usize] = (sum / (2 * reach as u32 + 1)) as u8;
            }
        }
    }
    blurred
}

#[test]
fn faces_that_cannot_be_used_are_refused_with_the_reason() {
    let mut finder = finder();
    let person = Person::number(1);
    let plain = draw(&person, &Bearing::default(), 320, 140.0);
    assert_eq!(problem(&mut finder, &plain.picture), None);

    let small = draw(&person, &Bearing::default(), 128, 30.0).picture;
    assert!(matches!(problem(&mut finder, &small), Some(FaceProblem::Small { width: 20..40 })));
    let turned = draw(&person, &Bearing { yaw: 55.0, ..Bearing::default() }, 320, 140.0).picture;
    assert!(matches!(problem(&mut finder, &turned), Some(FaceProblem::Turned { .. } | FaceProblem::Covered { .. })));
    let leaning = draw(&person, &Bearing { roll: 80.0, ..Bearing::default() }, 320, 140.0).picture;
    assert!(matches!(problem(&mut finder, &leaning), Some(FaceProblem::Leaning { degrees: 70..90 })));
    let cut_off = cut(&plain.picture, 112, 0, 208, 320);
    assert_eq!(problem(&mut finder, &cut_off), Some(FaceProblem::CutOff { edge: "left" }));
    assert_eq!(problem(&mut finder, &blurred(&plain.picture, 4)), Some(FaceProblem::Blurred));

    let mut covered = plain.picture.clone();
    let [x, y] = plain.points[13].map(|value| value as u32);
    for row in y - 24..y + 40 {
        let start = ((row * 320 + x - 50) * 3) as usize;
        covered.rgb[start..start + 300].fill(120);
    }
    assert_eq!(problem(&mut finder, &covered), Some(FaceProblem::Covered { what: "mouth is" }));

    let row = |y: u32| cut(&plain.picture, 0, y, 320, 1).rgb.repeat(2);
    let twins = RgbPicture { width: 640, height: 320, rgb: (0..320).flat_map(row).collect() };
    assert_eq!(problem(&mut finder, &twins), Some(FaceProblem::SeveralAlike { count: 2 }));
    let faces = finder.find(&twins).unwrap();
    let second = &faces[choose(&faces, Some(2)).unwrap()];
    assert!(second.bounds.x > 320.0);
}

#[test]
fn a_photograph_has_the_face_that_it_shows() {
    let path = project().join(".deps/pictures/astronaut.png");
    assert!(path.is_file(), "scripts/setup.sh --test installs {}", path.display());
    let (mut finder, picture) = (finder(), read(&path));
    let faces = finder.find(&picture).unwrap();
    assert_eq!(choose(&faces, None), Ok(0));
    let face = &faces[0];
    assert_eq!(finder.judge(&picture, face).unwrap(), None);
    // Where the eyes, the nose, the lips and the chin are in this picture, read off by hand.
    let mesh = fit(&picture, &face.mesh).mesh;
    let places = [
        (33, [193.0, 101.0]),
        (133, [214.0, 102.5]),
        (362, [236.5, 104.0]),
        (263, [258.0, 105.0]),
        (1, [223.0, 127.0]),
        (61, [201.5, 139.5]),
        (291, [246.0, 140.5]),
        (17, [223.5, 154.5]),
        (152, [223.0, 178.5]),
    ];
    for (at, place) in places {
        let found = mesh.point(at);
        let away = apart([found[0], found[1]], place);
        assert!(away < 3.0, "point {at} is {away} px away: {found:?}");
    }
}
