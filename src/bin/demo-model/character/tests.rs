//! Tests of the drawn character's contract with the network that learns it.

use super::*;

const SIDE: usize = CROP_SIZE as usize;

fn corners_and_blends() -> Vec<MouthShape> {
    let rest = MouthShape::default();
    let mut shapes = Vec::new();
    for bits in 0..128_u8 {
        let bit = |i: u8| f32::from(bits >> i & 1);
        shapes.push(MouthShape {
            open: bit(0),
            wide: bit(1),
            round: bit(2),
            press: bit(3),
            bite: bit(4),
            tongue: bit(5),
            teeth: bit(6),
        });
    }
    for step in 1..8_u8 {
        let t = f32::from(step) / 8.0;
        shapes.push(MouthShape { open: t, ..rest });
        shapes.push(MouthShape { open: t, wide: 1.0 - t, round: 0.3, tongue: t * t, ..rest });
        shapes.push(MouthShape { open: 1.0 - t, press: t, teeth: 0.5, bite: 0.5 * t, ..rest });
    }
    shapes
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2)).sum();
    sum / f64::from(u32::try_from(a.len()).unwrap())
}

#[test]
fn speech_moves_no_pixel_that_the_mask_leaves_out() {
    let mask = paste_mask();
    let shapes = corners_and_blends();
    for frame in (0..IDLE_FRAMES).step_by(6) {
        let pose = idle_pose(frame);
        let rest = draw_crop(&pose, &MouthShape::default());
        for mouth in shapes.iter().skip(frame % 3).step_by(3) {
            let crop = draw_crop(&pose, mouth);
            for (i, (was, is)) in rest.chunks_exact(3).zip(crop.chunks_exact(3)).enumerate() {
                assert!(was == is || mask[i] == 255, "frame {frame}, x {}, y {}, {mouth:?}", i % SIDE, i / SIDE);
            }
        }
    }
}

#[test]
fn mask_is_empty_along_the_border_and_full_in_the_middle() {
    let mask = paste_mask();
    assert_eq!(mask.len(), SIDE * SIDE);
    for (i, &alpha) in mask.iter().enumerate() {
        let (x, y) = (i % SIDE, i / SIDE);
        let border = x.min(y).min(SIDE - 1 - x).min(SIDE - 1 - y);
        assert!(border >= 4 || alpha == 0, "x {x}, y {y}");
    }
    assert_eq!(mask[64 * SIDE + 64], 255);
    assert!(mask.iter().any(|&alpha| alpha > 0 && alpha < 255));
}

#[test]
fn crop_is_the_same_region_of_the_frame() {
    for (frame, open) in [(0, 0.0), (17, 1.0), (63, 0.4), (124, 0.7)] {
        let pose = idle_pose(frame);
        let mouth = MouthShape { open, ..MouthShape::default() };
        let (picture, crop) = (draw_frame(&pose, &mouth), draw_crop(&pose, &mouth));
        let (x, y) = crop_origin(&pose);
        for row in 0..SIDE {
            let start = ((y as usize + row) * FRAME_SIZE as usize + x as usize) * 3;
            assert_eq!(picture[start..][..SIDE * 3], crop[row * SIDE * 3..][..SIDE * 3], "frame {frame}, row {row}");
        }
    }
}

#[test]
fn crop_is_cut_from_the_frame_without_a_seam() {
    let pose = idle_pose(40);
    let mouth = MouthShape { open: 0.8, ..MouthShape::default() };
    let (origin, crop) = (crop_origin(&pose), draw_crop(&pose, &mouth));
    let whole = draw(FRAME_SIZE, (0, 0), &pose, &mouth);
    let mut unlike = 0;
    for row in 0..SIDE {
        let start = ((origin.1 as usize + row) * FRAME_SIZE as usize + origin.0 as usize) * 3;
        for (a, b) in whole[start..][..SIDE * 3].iter().zip(&crop[row * SIDE * 3..]) {
            // A curve cut by the window's edge is flattened into other segments, a fraction of a pixel away.
            assert!(a.abs_diff(*b) <= 48, "row {row}: {a} and {b}");
            unlike += u32::from(a.abs_diff(*b) > 2);
        }
    }
    assert!(unlike < 500, "{unlike} of 49152 values");
}

#[test]
fn crop_origin_is_even_and_follows_the_head() {
    let origins: Vec<_> = (0..IDLE_FRAMES).map(|frame| crop_origin(&idle_pose(frame))).collect();
    assert!(origins.iter().all(|&(x, y)| x % 2 == 0 && y % 2 == 0));
    assert!(origins.iter().any(|origin| origin != &origins[0]));
    for (a, b) in origins.iter().zip(origins.iter().cycle().skip(1)) {
        assert!(a.0.abs_diff(b.0) <= 2 && a.1.abs_diff(b.1) <= 2, "{a:?} to {b:?}");
    }
}

#[test]
fn measured_opening_grows_with_the_jaw() {
    let rest = MouthShape::default();
    for base in [
        rest,
        MouthShape { wide: 0.6, ..rest },
        MouthShape { round: 0.7, ..rest },
        MouthShape { tongue: 0.6, ..rest },
        MouthShape { teeth: 0.5, ..rest },
    ] {
        for frame in [0, 31, 80] {
            let opening = |step: u8| {
                mouth_opening(&draw_crop(&idle_pose(frame), &MouthShape { open: f32::from(step) / 10.0, ..base }))
            };
            for step in 0..10 {
                let (less, more) = (opening(step), opening(step + 1));
                assert!(more >= less - 2e-4, "{base:?} frame {frame} step {step}: {less} then {more}");
            }
            assert!(opening(10) > opening(0) + 0.008, "{base:?}");
        }
    }
}

#[test]
fn shut_lips_measure_shut() {
    let rest = MouthShape::default();
    for frame in (0..IDLE_FRAMES).step_by(5) {
        let pose = idle_pose(frame);
        for mouth in [
            rest,
            MouthShape { press: 1.0, ..rest },
            MouthShape { press: 1.0, open: 1.0, teeth: 1.0, tongue: 1.0, ..rest },
            MouthShape { press: 0.5, ..rest },
        ] {
            let opening = mouth_opening(&draw_crop(&pose, &mouth));
            assert!(opening < 5e-4, "frame {frame}, {mouth:?}: {opening}");
        }
    }
    assert_eq!(mouth_opening(&[]), 0.0);
}

#[test]
fn measured_opening_survives_blur_and_a_tint() {
    let crop = draw_crop(&idle_pose(3), &MouthShape { open: 0.7, wide: 0.2, ..MouthShape::default() });
    let spoilt: Vec<u8> = (0..crop.len())
        .map(|i| {
            let near = [i, i.saturating_sub(3), i + 3, i.saturating_sub(SIDE * 3), i + SIDE * 3];
            let sum: u32 = near.iter().map(|&k| u32::from(crop[k.min(crop.len() - 1)])).sum();
            let tint = [3, 0, -2][i % 3];
            u8::try_from((i32::try_from(sum / 5).unwrap() + tint).clamp(0, 255)).unwrap()
        })
        .collect();
    let (clean, spoilt) = (mouth_opening(&crop), mouth_opening(&spoilt));
    assert!((clean - spoilt).abs() < 0.1 * clean, "{clean} and {spoilt}");
}

#[test]
fn last_idle_frame_leads_back_to_the_first() {
    let rest = MouthShape::default();
    let frames: Vec<_> = (0..IDLE_FRAMES).step_by(4).map(|f| (f, draw_frame(&idle_pose(f), &rest))).collect();
    let largest = frames
        .iter()
        .map(|(f, picture)| difference(picture, &draw_frame(&idle_pose(f + 1), &rest)))
        .fold(0.0, f64::max);
    let closing = difference(&draw_frame(&idle_pose(IDLE_FRAMES - 1), &rest), &frames[0].1);
    assert!(closing <= largest, "{closing} against {largest}");
    assert_eq!(idle_pose(IDLE_FRAMES + 7), idle_pose(7));
}

#[test]
fn same_call_draws_the_same_bytes() {
    let mouth = MouthShape { open: 0.4, tongue: 0.7, ..MouthShape::default() };
    assert_eq!(draw_frame(&idle_pose(12), &mouth), draw_frame(&idle_pose(12), &mouth));
}

#[test]
fn small_steps_of_articulation_make_small_changes() {
    let rest = MouthShape::default();
    let field: [fn(f32) -> MouthShape; 7] = [
        |v| MouthShape { open: v, ..MouthShape::default() },
        |v| MouthShape { wide: v, ..MouthShape::default() },
        |v| MouthShape { round: v, ..MouthShape::default() },
        |v| MouthShape { press: v, ..MouthShape::default() },
        |v| MouthShape { bite: v, ..MouthShape::default() },
        |v| MouthShape { tongue: v, ..MouthShape::default() },
        |v| MouthShape { teeth: v, ..MouthShape::default() },
    ];
    let pose = idle_pose(0);
    for (which, make) in field.iter().enumerate() {
        let whole = difference(&draw_crop(&pose, &rest), &draw_crop(&pose, &make(1.0)));
        for step in 0..40_u8 {
            let (a, b) = (make(f32::from(step) / 40.0), make(f32::from(step + 1) / 40.0));
            let change = difference(&draw_crop(&pose, &a), &draw_crop(&pose, &b));
            assert!(change < 0.25 * whole, "field {which} step {step}: {change} of {whole}");
        }
    }
}
