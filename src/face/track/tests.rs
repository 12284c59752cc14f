//! What is made of meshes that are given.

use proptest::prelude::*;

use super::*;
use crate::face::POINTS;

/// A face of 100 pixels whose points lie on a grid, its lips open by so much, with noise that repeats itself every 7 frames.
fn mesh(x: f32, open: f32, frame: usize, noise: f32) -> Mesh {
    let point = |at: usize| {
        let wobble = noise * ((at * 31 + frame * 17) as f32).sin();
        let lower = if at == 14 { open } else { 0.0 };
        [x + (at % 22) as f32 * 4.5 + wobble, (at / 22) as f32 * 5.0 + lower + wobble, 0.0]
    };
    let mut points: Vec<[f32; 3]> = (0..POINTS).map(point).collect();
    (points[234], points[454]) = ([x, 50.0, 0.0], [x + 100.0, 50.0, 0.0]);
    Mesh { points, presence: 1.0 }
}

/// A list that has these.
fn list<'a>(meshes: impl Iterator<Item = Option<&'a Mesh>>) -> MeshList {
    let mut list = MeshList::new(&std::env::temp_dir()).unwrap();
    meshes.for_each(|mesh| list.push(mesh).unwrap());
    list
}

/// A shot of what was seen, smoothed.
fn shot(seen: &[Result<Mesh, FaceProblem>]) -> Vec<Tracked> {
    let mut meshes = list(seen.iter().map(|seen| seen.as_ref().ok()));
    let problems: Vec<Option<FaceProblem>> = seen.iter().map(|seen| seen.as_ref().err().cloned()).collect();
    let sights = smoothing::shot(&mut meshes, &problems, 0..seen.len()).unwrap();
    Track { meshes, sights, cuts: Vec::new() }.frames().map(Result::unwrap).collect()
}

fn lost() -> Result<Mesh, FaceProblem> {
    Err(FaceProblem::None)
}

#[test]
fn a_face_at_rest_is_smoothed() {
    let seen: Vec<_> = (0..40).map(|frame| Ok(mesh(0.0, 0.0, frame, 0.3))).collect();
    let frames = shot(&seen);
    let jitter = |of: &dyn Fn(usize) -> [f32; 3]| {
        let steps = (10..30).map(|frame| (of(frame)[0] - of(frame - 1)[0]).abs());
        steps.sum::<f32>() / 20.0
    };
    let raw = jitter(&|frame| seen[frame].as_ref().unwrap().points[100]);
    let smooth = jitter(&|frame| frames[frame].mesh.as_ref().unwrap().points[100]);
    assert!(smooth < 0.4 * raw, "{smooth} {raw}");
}

#[test]
fn lips_that_close_for_one_frame_stay_closed_in_that_frame() {
    let open = |frame: usize| if frame == 20 { 0.0 } else { 6.0 };
    let seen: Vec<_> = (0..40).map(|frame| Ok(mesh(0.0, open(frame), frame, 0.1))).collect();
    let frames = shot(&seen);
    let gap = |frame: usize| {
        let mesh = frames[frame].mesh.as_ref().unwrap();
        mesh.points[14][1] - mesh.points[13][1]
    };
    assert!(gap(20) < 0.5 && gap(19) > 5.5 && gap(21) > 5.5, "{} {} {}", gap(19), gap(20), gap(21));
}

#[test]
fn a_moving_head_does_not_lag() {
    let seen: Vec<_> = (0..60).map(|frame| Ok(mesh(3.0 * frame as f32, 0.0, frame, 0.0))).collect();
    for (frame, tracked) in shot(&seen).iter().enumerate() {
        let x = tracked.mesh.as_ref().unwrap().points[0][0];
        assert!((x - 3.0 * frame as f32).abs() < 0.05, "frame {frame}: {x}");
    }
}

#[test]
fn short_losses_are_filled_and_long_ones_are_passed_through() {
    let mut seen: Vec<Result<Mesh, FaceProblem>> = Vec::new();
    seen.extend((0..2).map(|_| lost()));
    seen.extend((0..10).map(|frame| Ok(mesh(0.0, 0.0, frame, 0.0))));
    seen.extend((0..5).map(|_| lost()));
    seen.extend((0..10).map(|frame| Ok(mesh(60.0, 0.0, frame, 0.0))));
    seen.extend((0..30).map(|_| lost()));
    let frames = shot(&seen);
    assert!(frames[..2].iter().all(|frame| frame.sight == Sight::Held));
    assert!(frames[12..17].iter().all(|frame| frame.sight == Sight::Between));
    let x = |frame: usize| frames[frame].mesh.as_ref().unwrap().points[0][0];
    assert!((x(14) - 30.0).abs() < 3.0, "{}", x(14));
    assert!(frames[27..].iter().all(|frame| frame.mesh.is_none() && frame.sight == Sight::Lost(FaceProblem::None)));
    assert_eq!(shot(&[lost(), lost()]).len(), 2);
    assert_eq!(shot(&[]), []);
}

#[test]
fn a_shot_is_fitted_as_a_whole_or_not_at_all() {
    let network: Vec<_> = (0..10).map(|frame| mesh(frame as f32, 2.0, frame, 0.0)).collect();
    let fit = |frame: usize| mesh(frame as f32, 5.0, frame, 0.0);
    let lip = |meshes: &MeshList, at: usize| {
        let points = meshes.get(at).unwrap().unwrap().points;
        points[14][1] - points[13][1]
    };
    let fits: Vec<_> = (0..10).map(fit).collect();
    let of = |without: &'static [usize]| (0..10).map(move |at| !without.contains(&at));
    let list = |meshes: &[Mesh], without| list(meshes.iter().zip(of(without)).map(|(mesh, has)| has.then_some(mesh)));
    let mut most = list(&network, &[2]);
    fitting::shot(&mut most, &list(&fits, &[4, 9]), 0..10).unwrap();
    assert!((0..10).filter(|at| *at != 2).all(|at| (lip(&most, at) - 5.0).abs() < 1e-3));
    assert_eq!(most.get(9).unwrap().unwrap().points[0][0], 9.0);
    assert!(!most.has(2));
    let mut few = list(&network, &[]);
    fitting::shot(&mut few, &list(&fits, &[0, 1, 2, 3, 4]), 0..10).unwrap();
    for (at, mesh) in network.iter().enumerate() {
        assert_eq!(few.get(at).unwrap().as_ref(), Some(mesh));
    }
}

#[test]
fn shots_are_smoothed_each_by_itself() {
    let seen: Vec<Mesh> = (0..30).map(|frame| mesh(if frame < 13 { 0.0 } else { 80.0 }, 1.0, frame, 0.3)).collect();
    let mut both = list(seen.iter().map(Some));
    smoothing::shot(&mut both, &vec![None; 30], 0..13).unwrap();
    smoothing::shot(&mut both, &vec![None; 30], 13..30).unwrap();
    let alone = |seen: &[Mesh]| shot(&seen.iter().cloned().map(Ok).collect::<Vec<_>>());
    for (at, tracked) in alone(&seen[..13]).into_iter().chain(alone(&seen[13..])).enumerate() {
        assert_eq!(both.get(at).unwrap(), tracked.mesh, "frame {at}");
    }
}

/// The same filter over all frames at once, in double precision and as its definition has it: every frame counts, the weights of
/// time being cut off beyond six frames.
fn in_memory(meshes: &[Mesh]) -> Vec<Vec<[f64; 3]>> {
    const FIRM: [usize; 24] =
        [6, 8, 9, 10, 67, 297, 103, 332, 54, 284, 21, 251, 162, 389, 127, 356, 168, 197, 195, 5, 4, 1, 98, 327];
    type Place = [f64; 3];
    let points: Vec<Vec<Place>> =
        meshes.iter().map(|mesh| mesh.points.iter().map(|p| p.map(f64::from)).collect()).collect();
    let width = f64::from(meshes[0].width());
    let middle = |points: &[Place]| [0, 1, 2].map(|axis| FIRM.iter().map(|at| points[*at][axis]).sum::<f64>() / 24.0);
    let first = middle(&points[0]);
    let heads: Vec<(Place, [f64; 2])> = points
        .iter()
        .map(|points| {
            let own = middle(points);
            let (mut turn, mut size) = ([0.0; 2], 0.0);
            for at in FIRM {
                let [x, y] = [0, 1].map(|axis| f64::from(meshes[0].points[at][axis]) - first[axis]);
                let [px, py] = [0, 1].map(|axis| points[at][axis] - own[axis]);
                turn = [turn[0] + x * px + y * py, turn[1] + x * py - y * px];
                size += x * x + y * y;
            }
            (own, turn.map(|part| part / size))
        })
        .collect();
    let scale = |turn: [f64; 2]| turn[0].hypot(turn[1]);
    let inward = |frame: usize, point: Place| {
        let (middle, [c, s]) = heads[frame];
        let [x, y] = [point[0] - middle[0], point[1] - middle[1]];
        let square = c * c + s * s;
        [(c * x + s * y) / square, (c * y - s * x) / square, (point[2] - middle[2]) / scale([c, s])]
    };
    let time =
        |a: usize, b: usize| if a.abs_diff(b) > 6 { 0.0 } else { (-(a.abs_diff(b) as f64 / 3.0).powi(2) / 2.0).exp() };
    let all = 0..meshes.len();
    all.clone()
        .map(|at| {
            let (own, turn) = heads[at];
            let weight = |other: usize| {
                let (there, turned) = heads[other];
                let moved = (own[0] - there[0]).powi(2) + (own[1] - there[1]).powi(2);
                let turned = ((turn[0] - turned[0]).powi(2) + (turn[1] - turned[1]).powi(2)) * width * width / 4.0;
                time(at, other) * (-(moved + turned) / (2.0 * (0.004 * width * scale(turn)).powi(2))).exp()
            };
            let total: f64 = all.clone().map(weight).sum();
            let mean =
                |of: &dyn Fn(usize) -> f64| all.clone().map(|other| weight(other) * of(other)).sum::<f64>() / total;
            let middle = [0, 1, 2].map(|axis| mean(&|other| heads[other].0[axis]));
            let [c, s] = [0, 1].map(|part| mean(&|other| heads[other].1[part]));
            (0..POINTS)
                .map(|point| {
                    let here = inward(at, points[at][point]);
                    let (mut sum, mut total) = ([0.0; 3], 0.0);
                    for other in all.clone() {
                        let there = inward(other, points[other][point]);
                        let moved = (there[0] - here[0]).powi(2) + (there[1] - here[1]).powi(2);
                        let weight = time(at, other) * (-moved / (2.0 * (0.006 * width).powi(2))).exp();
                        sum = [0, 1, 2].map(|axis| sum[axis] + weight * there[axis]);
                        total += weight;
                    }
                    let [x, y, z] = sum.map(|sum| sum / total);
                    [middle[0] + c * x - s * y, middle[1] + s * x + c * y, middle[2] + z * scale([c, s])]
                })
                .collect()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_shot_on_the_disk_becomes_what_it_becomes_in_memory(
        steps in prop::collection::vec((-2_f32..2.0, 0_f32..6.0), 1..26),
        noise in 0_f32..0.6,
    ) {
        let mut x = 40.0;
        let seen: Vec<Mesh> = steps
            .iter()
            .enumerate()
            .map(|(frame, (by, open))| {
                x += by;
                mesh(x, *open, frame, noise)
            })
            .collect();
        let smoothed = shot(&seen.iter().cloned().map(Ok).collect::<Vec<_>>());
        for (at, (tracked, wanted)) in smoothed.iter().zip(in_memory(&seen)).enumerate() {
            for (point, wanted) in tracked.mesh.as_ref().unwrap().points.iter().zip(wanted) {
                for (value, wanted) in point.iter().zip(wanted) {
                    prop_assert!((f64::from(*value) - wanted).abs() < 0.02, "frame {at}: {value} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn meshes_come_back_from_the_disk_as_they_were(
        frames in prop::collection::vec((any::<bool>(), -1e4_f32..1e4, 0_f32..1.0), 0..20),
        changed in any::<prop::sample::Index>(),
    ) {
        let of = |(has, x, presence): (bool, f32, f32)| has.then(|| Mesh { presence, ..mesh(x, 1.0, 3, 0.5) });
        let mut kept: Vec<Option<Mesh>> = frames.into_iter().map(of).collect();
        let mut list = list(kept.iter().map(Option::as_ref));
        if !kept.is_empty() {
            let at = changed.index(kept.len());
            let other = mesh(7.0, 2.0, 1, 0.0);
            list.set(at, &other).unwrap();
            kept[at] = Some(other);
        }
        prop_assert_eq!(list.len(), kept.len());
        for (at, mesh) in kept.iter().enumerate() {
            prop_assert_eq!(list.has(at), mesh.is_some());
            prop_assert_eq!(&list.get(at).unwrap(), mesh);
        }
        prop_assert_eq!(list.get(kept.len()).unwrap(), None);
    }
}
