//! What is made of meshes that are given.

use super::smoothing::shot;
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
    let network: Vec<_> = (0..10).map(|frame| Ok(mesh(frame as f32, 2.0, frame, 0.0))).collect();
    let fit = |frame: usize| Some(mesh(frame as f32, 5.0, frame, 0.0));
    let lip = |seen: &[Result<Mesh, FaceProblem>], at: usize| {
        let points = &seen[at].as_ref().unwrap().points;
        points[14][1] - points[13][1]
    };
    let fits: Vec<_> = (0..10).map(|frame| if frame == 4 || frame == 9 { None } else { fit(frame) }).collect();
    let mut most = network.clone();
    most[2] = lost();
    fitting::shot(&mut most, &fits);
    assert!((0..10).filter(|at| *at != 2).all(|at| (lip(&most, at) - 5.0).abs() < 1e-3));
    assert_eq!(most[9].as_ref().unwrap().points[0][0], 9.0);
    assert!(most[2].is_err());
    let mut few = network.clone();
    fitting::shot(&mut few, &[vec![None; 5], fits[5..].to_vec()].concat());
    assert_eq!(few, network);
}
