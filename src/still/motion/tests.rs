//! The hour, the dialogue and the loop of a motion, pose by pose.

use std::collections::HashSet;

use super::*;

const HOUR: u64 = 25 * 3600;

fn numbers(pose: &HeadPose) -> [f32; 10] {
    let HeadPose { yaw, pitch, roll, shift, scale, breath, lids, gaze } = *pose;
    [yaw, pitch, roll, shift[0] * 100.0, shift[1] * 100.0, scale * 100.0, breath * 100.0, lids, gaze[0], gaze[1]]
}

/// What is not eyes or lids: it never moves fast.
fn head(pose: &HeadPose) -> [f32; 7] {
    let [all @ .., _, _, _] = numbers(pose);
    all
}

fn change(from_pose: u64, attention: Attention) -> AttentionChange {
    AttentionChange { from_pose, attention }
}

/// A dialogue: each attention in turn, now for long, now shorter than the way to it.
fn dialogue(poses: u64) -> Vec<AttentionChange> {
    let turns = [Attention::Listening, Attention::Thinking, Attention::Speaking, Attention::Idle];
    let lengths = [130, 60, 240, 7, 3, 90, 11, 400];
    let mut at = 40;
    let steps = turns.into_iter().cycle().zip(lengths.into_iter().cycle());
    steps
        .map(|(attention, length)| {
            at += length;
            change(at, attention)
        })
        .take_while(|change| change.from_pose < poses)
        .collect()
}

/// The changes that matter at a pose, as a caller keeps them.
fn lately(changes: &[AttentionChange], at: u64) -> &[AttentionChange] {
    let end = changes.partition_point(|change| change.from_pose <= at);
    let begin = changes.partition_point(|change| change.from_pose + 25 <= at).saturating_sub(1);
    &changes[begin..end]
}

/// The largest of a step, and of a change of steps, of anything of the head.
fn largest_steps(poses: &[HeadPose]) -> (f32, f32) {
    let mut largest = (0.0_f32, 0.0_f32);
    for three in poses.windows(3) {
        let [a, b, c] = [0, 1, 2].map(|at| head(&three[at]));
        for axis in 0..a.len() {
            largest.0 = largest.0.max((b[axis] - a[axis]).abs());
            largest.1 = largest.1.max((c[axis] - 2.0 * b[axis] + a[axis]).abs());
        }
    }
    largest
}

#[test]
fn no_second_of_an_hour_is_like_another() {
    let motion = Motion::new(7);
    let poses: Vec<HeadPose> = (0..HOUR).map(|at| motion.pose(&[], &[], at)).collect();
    let same: HashSet<[u32; 10]> = poses.iter().map(|pose| numbers(pose).map(f32::to_bits)).collect();
    assert_eq!(same.len(), poses.len(), "two poses are the same");
    let seconds: Vec<&[HeadPose]> = poses.chunks_exact(25).collect();
    let alike = |one: &HeadPose, other: &HeadPose| {
        numbers(one).iter().zip(numbers(other)).all(|(one, other)| (one - other).abs() < 0.1)
    };
    for (at, second) in seconds.iter().enumerate() {
        for other in &seconds[at + 1..] {
            let like = second.iter().zip(*other).all(|(one, other)| alike(one, other));
            assert!(!like, "second {at} comes again");
        }
    }
}

#[test]
fn the_head_never_jumps_whatever_it_attends_to() {
    let motion = Motion::new(3);
    let changes = dialogue(HOUR / 4);
    let poses: Vec<HeadPose> = (0..HOUR / 4).map(|at| motion.pose(lately(&changes, at), &[], at)).collect();
    let (step, bend) = largest_steps(&poses);
    assert!(step < 1.0 && bend < 0.35, "steps of {step}, which change by {bend}");
}

#[test]
fn gestures_begin_and_end_without_a_jump_however_many_there_are() {
    let motion = Motion::new(3);
    for gesture in [Gesture::Nod, Gesture::Shake, Gesture::Tilt] {
        let alone = [GestureAt { from_pose: 10, gesture }];
        let many = [8, 10, 12, 30].map(|from_pose| GestureAt { from_pose, gesture });
        for (gestures, most) in [(&alone[..], (1.6, 0.6)), (&many[..], (3.5, 1.6))] {
            let poses: Vec<HeadPose> = (0..120).map(|at| motion.pose(&[], gestures, at)).collect();
            let (step, bend) = largest_steps(&poses);
            assert!(step < most.0 && bend < most.1, "{gesture:?}: steps of {step}, which change by {bend}");
        }
        let moved = |at| motion.pose(&[], &alone, at) != motion.pose(&[], &[], at);
        assert!(!moved(9) && moved(14) && !moved(10 + gesture.poses()), "{gesture:?}");
    }
}

#[test]
fn changes_forgotten_after_a_second_do_not_show() {
    let motion = Motion::new(11);
    let changes = dialogue(4000);
    for at in 0..4000 {
        assert_eq!(motion.pose(&changes, &[], at), motion.pose(lately(&changes, at), &[], at), "at {at}");
    }
}

#[test]
fn another_seed_moves_otherwise_and_the_same_one_moves_the_same() {
    let seconds = |seed| (0..50).map(|at| Motion::new(seed).pose(&[], &[], 3 + at)).collect::<Vec<_>>();
    assert_eq!(seconds(1), seconds(1));
    assert_ne!(seconds(1), seconds(2));
}

#[test]
fn no_motion_is_the_picture_as_it_is() {
    let speaking = [change(0, Attention::Speaking)];
    let nod = [GestureAt { from_pose: 0, gesture: Gesture::Nod }];
    for at in [0, 5, 1000, u64::MAX] {
        assert_eq!(Motion::none().pose(&speaking, &nod, at), HeadPose::default());
    }
}

#[test]
fn a_loop_closes_without_a_seam() {
    for (seed, length) in [(1, 200), (2, 225), (3, 250)] {
        let motion = Motion::looped(seed, length);
        let twice: Vec<HeadPose> = (0..2 * length).map(|at| motion.pose(&[], &[], at)).collect();
        let (first, second) = twice.split_at(twice.len() / 2);
        assert_eq!(first, second);
        let (step, bend) = largest_steps(&twice);
        assert!(step < 0.8 && bend < 0.3, "{length}: steps of {step}, which change by {bend}");
        assert!(first.iter().any(|pose| pose.lids > 0.9), "it blinks");
    }
}

/// The first poses of each blink.
fn blinks(poses: &[HeadPose]) -> Vec<usize> {
    let shut = |at: usize| poses[at].lids > 0.99;
    (1..poses.len()).filter(|at| shut(*at) && !shut(at - 1)).collect()
}

#[test]
fn blinks_come_every_two_to_six_seconds_some_of_them_double_and_fewer_while_it_listens() {
    let motion = Motion::new(5);
    let during = |changes: &[AttentionChange]| -> Vec<HeadPose> {
        (0..25 * 600).map(|at| motion.pose(changes, &[], at)).collect()
    };
    let idle = blinks(&during(&[]));
    let gaps: Vec<usize> = idle.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let double = gaps.iter().filter(|gap| **gap == 10).count();
    assert!((5..40).contains(&double), "{double} double ones");
    assert!(gaps.iter().all(|gap| *gap == 10 || (40..=150).contains(gap)), "{gaps:?}");
    let listening = blinks(&during(&[change(0, Attention::Listening)]));
    assert!(listening.len() * 4 < idle.len() * 3, "{} idle, {} listening", idle.len(), listening.len());
}

#[test]
fn each_attention_has_its_manner() {
    let motion = Motion::new(9);
    let mean = |attention, of: &dyn Fn(&HeadPose) -> f32| {
        let changes = [change(0, attention)];
        let poses = (100..25 * 300).map(|at| motion.pose(&changes, &[], at));
        poses.map(|pose| of(&pose)).sum::<f32>() / (25.0 * 300.0 - 100.0)
    };
    let up = |pose: &HeadPose| -(pose.gaze[1] + pose.pitch);
    let aside = |pose: &HeadPose| (pose.gaze[0] + pose.yaw).abs();
    assert!(mean(Attention::Thinking, &up) > mean(Attention::Idle, &up) + 2.0, "thinking looks up");
    assert!(mean(Attention::Thinking, &aside) > mean(Attention::Listening, &aside) + 2.0, "and aside");
    let near = |pose: &HeadPose| pose.scale;
    assert!(mean(Attention::Listening, &near) > mean(Attention::Idle, &near) + 0.005, "listening leans in");
    let busy = |attention| {
        let changes = [change(0, attention)];
        let pitch = |at| motion.pose(&changes, &[], at).pitch;
        (100..25 * 300).map(|at| (pitch(at + 1) - pitch(at)).abs()).sum::<f32>()
    };
    assert!(busy(Attention::Speaking) > 1.5 * busy(Attention::Idle), "speaking is livelier");
    assert!(1.5 * busy(Attention::Thinking) < busy(Attention::Speaking), "thinking is slower");
}

#[test]
fn eyes_stay_within_what_an_eye_does_and_lids_within_open_and_shut() {
    let motion = Motion::new(13);
    let changes = dialogue(20_000);
    for at in 0..20_000 {
        let pose = motion.pose(&changes, &[], at);
        assert!(pose.gaze.iter().all(|turn| turn.abs() <= MOST_GAZE), "{pose:?}");
        assert!((0.0..=1.0).contains(&pose.lids), "{pose:?}");
    }
    let last = motion.pose(&changes, &[], u64::MAX);
    assert!(numbers(&last).iter().all(|number| number.is_finite()), "{last:?}");
}
