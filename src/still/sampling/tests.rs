//! Samples against the same filter in floating point.

use std::f64::consts::PI;

use super::*;

const SIDE: usize = 32;

fn plane(levels: &[u8]) -> Plane<'_> {
    Plane { width: SIDE, height: SIDE, levels }
}

fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..SIDE * SIDE).map(|_| next()).collect()
}

fn sampled(levels: &[u8], [x, y]: [usize; 2], by: [i16; 2]) -> [u8; LANES] {
    let [by_x, by_y] = by.map(i16x8::splat);
    Samples::new(x, y, Displacements { x: by_x, y: by_y }).of(&plane(levels))
}

/// The same filter in floating point, the last pixel going on beyond the edge.
fn lanczos(levels: &[u8], x: f64, y: f64) -> f64 {
    let sinc = |x: f64| if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) };
    let weights = |at: f64| {
        let raw: Vec<f64> = (-2..4).map(|tap| f64::from(tap) - at.fract()).map(|x| sinc(x) * sinc(x / 3.0)).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(move |weight| weight / sum)
    };
    let pixel = |x: f64, y: f64| {
        let [x, y] = [x, y].map(|at| at.clamp(0.0, SIDE as f64 - 1.0) as usize);
        f64::from(levels[y * SIDE + x])
    };
    let rows = weights(y).enumerate();
    rows.map(|(row, down)| {
        let across = weights(x).enumerate();
        down * across
            .map(|(column, across)| across * pixel(x.floor() - 2.0 + column as f64, y.floor() - 2.0 + row as f64))
            .sum::<f64>()
    })
    .sum()
}

#[test]
fn whole_pixels_are_moved_as_they_are() {
    let levels = noise();
    for (dx, dy) in [(0, 0), (3, -2), (-5, 7)] {
        let out = sampled(&levels, [8, 12], [dx * 256, dy * 256]);
        let start = (12 + isize::from(dy)) as usize * SIDE + (8 + isize::from(dx)) as usize;
        assert_eq!(out, levels[start..start + LANES]);
    }
}

#[test]
fn what_is_of_one_level_stays_so_wherever_it_is_sampled() {
    for level in [0, 1, 16, 127, 128, 200, 254, 255] {
        let levels = vec![level; SIDE * SIDE];
        for by in (0..256).step_by(5) {
            assert_eq!(sampled(&levels, [8, 8], [by, 255 - by]), [level; LANES], "{level} at {by}");
        }
    }
}

#[test]
fn between_pixels_it_is_lanczos_within_two_levels_at_the_edge_too() {
    let levels: Vec<u8> = noise().iter().map(|level| level / 2 + 64).collect();
    for ([x, y], [by_x, by_y]) in [
        ([8, 8], [100, 30]),
        ([0, 0], [-300, -700]),
        ([24, 31], [700, 129]),
        ([16, 3], [128, 128]),
        ([8, 30], [-77, 255]),
    ] {
        let out = sampled(&levels, [x, y], [by_x, by_y]);
        for (lane, level) in out.into_iter().enumerate() {
            let at = [(x + lane) as f64 + f64::from(by_x) / 256.0, y as f64 + f64::from(by_y) / 256.0];
            let expected = lanczos(&levels, at[0], at[1]).clamp(0.0, 255.0);
            assert!((f64::from(level) - expected).abs() < 2.0, "{level} for {expected} at {at:?}");
        }
    }
}

#[test]
fn lanes_that_begin_at_different_pixels_are_as_if_sampled_alone() {
    let levels = noise();
    let by = |lane: usize| [200 + 40 * lane as i16, 600 - 90 * lane as i16];
    let all = Displacements {
        x: i16x8::new(std::array::from_fn(|lane| by(lane)[0])),
        y: i16x8::new(std::array::from_fn(|lane| by(lane)[1])),
    };
    let together = Samples::new(8, 8, all).of(&plane(&levels));
    let alone: [u8; LANES] = std::array::from_fn(|lane| sampled(&levels, [8, 8], by(lane))[lane]);
    assert_eq!(together, alone);
}

#[test]
fn half_a_pixel_takes_little_of_fine_detail() {
    // Four pixels a period: half of what a picture can hold. Two taps keep 0.71 of it, and cubic ones 0.88 to 0.97.
    let levels: Vec<u8> = (0..SIDE * SIDE).map(|at| [78, 178, 178, 78][at % 4]).collect();
    let [low, high] = [128.0 - 50.0 * 2_f64.sqrt(), 128.0 + 50.0 * 2_f64.sqrt()];
    let out = sampled(&levels, [8, 8], [128, 0]).map(f64::from);
    let contrast = (out.iter().copied().fold(0.0, f64::max) - out.iter().copied().fold(255.0, f64::min)) / (high - low);
    assert!((0.98..1.04).contains(&contrast), "{contrast}");
}
