//! Drawn people before plain backgrounds, cut out and held against the truth: each is drawn before black and before white,
//! and what differs is what is transparent.

use super::*;
use crate::kit::drawn_face::{Bearing, Chance, Person, draw, noisy};

const SIDE: u32 = 320;
const GREEN: [u8; 3] = [48, 176, 72];

fn person(number: u64, background: [u8; 3]) -> RgbPicture {
    let person = Person { background, long_hair: true, glasses: None, ..Person::number(number) };
    draw(&person, &Bearing { yaw: 8.0, ..Bearing::default() }, SIDE, 120.0).picture
}

/// How opaque each pixel is, 0 to 255.
fn truth(number: u64) -> Vec<f32> {
    let [black, white] = [person(number, [0; 3]), person(number, [255; 3])];
    let pixels = black.rgb.chunks(3).zip(white.rgb.chunks(3));
    let sum = |(black, white): (&[u8], &[u8])| {
        white.iter().zip(black).map(|(white, black)| f32::from(*white) - f32::from(*black)).sum::<f32>()
    };
    pixels.map(|pixels| 255.0 - sum(pixels) / 3.0).collect()
}

/// Over a colour.
fn over(cutout: &Cutout, colour: [u8; 3]) -> Vec<f32> {
    let alpha = &cutout.matte.as_ref().unwrap().alpha;
    let pixels = cutout.picture.rgb.as_chunks::<3>().0.iter().zip(alpha);
    let mixed = pixels.flat_map(|(rgb, alpha)| {
        let part = f32::from(*alpha) / 255.0;
        [0, 1, 2].map(|at| part * f32::from(rgb[at]) + (1.0 - part) * f32::from(colour[at]))
    });
    mixed.collect()
}

fn cut(picture: &RgbPicture) -> Cutout {
    Backdrop::find(picture).unwrap().cut(picture, &[])
}

#[test]
fn a_matte_is_the_true_one_within_a_few_levels_also_with_a_cameras_noise() {
    for (number, background) in [(1, GREEN), (3, GREEN), (4, [60, 90, 190]), (2, [206, 200, 190])] {
        let picture = noisy(&person(number, background), 2.0, &mut Chance(number));
        let alpha = cut(&picture).matte.unwrap().alpha;
        let truth = truth(number);
        let off: Vec<f32> = alpha.iter().zip(&truth).map(|(is, was)| (f32::from(*is) - was).abs()).collect();
        let mean = off.iter().sum::<f32>() / off.len() as f32;
        let far = off.iter().filter(|off| **off > 90.0).count();
        assert!(mean < 1.0 && far < off.len() / 500, "{number}: {mean} levels off, {far} pixels by much");
        // No specks far from the edge, and no holes.
        let sure = alpha.iter().zip(&truth).filter(|(_, was)| **was == 0.0);
        assert!(sure.filter(|(is, _)| **is > 60).count() < 20, "{number}");
    }
}

#[test]
fn nothing_of_the_screen_is_seen_over_another_background() {
    for number in [1, 3, 5] {
        let cutout = cut(&noisy(&person(number, GREEN), 1.5, &mut Chance(number)));
        let colour = [200, 30, 120];
        let (seen, wanted) = (over(&cutout, colour), person(number, colour));
        let greener = seen.chunks(3).zip(wanted.rgb.chunks(3)).map(|(seen, wanted)| {
            let green = |rgb: [f32; 3]| rgb[1] - rgb[0].max(rgb[2]);
            green([seen[0], seen[1], seen[2]]) - green([wanted[0], wanted[1], wanted[2]].map(f32::from))
        });
        let greenest = greener.filter(|off| *off > 30.0).count();
        assert!(greenest < 30, "person {number}: {greenest} pixels of {} are greener by much", SIDE * SIDE);
    }
}

/// A wall whose light falls off, as a lamp's does.
#[test]
fn a_background_may_change_slowly_over_the_picture() {
    let wall = |x: u32, y: u32| {
        let light = 1.0 - 0.25 * (x as f32 / SIDE as f32) - 0.15 * (y as f32 / SIDE as f32).powi(2);
        GREEN.map(|level| f32::from(level) * light)
    };
    let (black, truth) = (person(6, [0; 3]), truth(6));
    let pixels = (0..SIDE * SIDE).map(|at| (at % SIDE, at / SIDE));
    let rgb = pixels.zip(black.rgb.as_chunks::<3>().0).zip(&truth).flat_map(|(((x, y), rgb), alpha)| {
        let wall = wall(x, y);
        [0, 1, 2].map(|at| level(f32::from(rgb[at]) + (1.0 - alpha / 255.0) * wall[at]))
    });
    let alpha = cut(&RgbPicture { width: SIDE, height: SIDE, rgb: rgb.collect() }).matte.unwrap().alpha;
    let mean = alpha.iter().zip(&truth).map(|(is, was)| (f32::from(*is) - was).abs()).sum::<f32>();
    assert!(mean / truth.len() as f32 <= 1.0, "{} levels off", mean / truth.len() as f32);
}

#[test]
fn what_must_be_opaque_is_and_small_patches_of_the_screens_colour_are_no_holes() {
    let mut picture = person(1, GREEN);
    let paint = |picture: &mut RgbPicture, side: u32, (left, top): (u32, u32)| {
        for (x, y) in (0..side * side).map(|at| (left + at % side, top + at / side)) {
            let at = ((y * SIDE + x) * 3) as usize;
            picture.rgb[at..at + 3].copy_from_slice(&GREEN);
        }
    };
    // Eyes of this colour, and a hole that is large enough to be one.
    paint(&mut picture, 8, (140, 150));
    paint(&mut picture, 26, (150, 170));
    let at = |cutout: &Cutout, x: u32, y: u32| cutout.matte.as_ref().unwrap().alpha[(y * SIDE + x) as usize];
    let backdrop = Backdrop::find(&picture).unwrap();
    let open = backdrop.cut(&picture, &[]);
    assert_eq!((at(&open, 143, 153), at(&open, 162, 182)), (255, 0));
    let face = [[110.0, 100.0], [210.0, 100.0], [210.0, 220.0], [110.0, 220.0]];
    let solid = backdrop.cut(&picture, &face);
    assert_eq!((at(&solid, 143, 153), at(&solid, 162, 182)), (255, 255));
    assert!(!backdrop.takes(&picture, &face));
    assert!(backdrop.takes(&picture, &[[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [0.0, 40.0]]));
}

#[test]
fn a_background_that_is_not_plain_is_refused_in_words() {
    let mut chance = Chance(5);
    let mut picture = person(1, GREEN);
    // Patches of any colour.
    let patches: Vec<[u8; 3]> = (0..100).map(|_| [0; 3].map(|_| (chance.next() * 255.0) as u8)).collect();
    for (at, pixel) in picture.rgb.chunks_mut(3).enumerate() {
        let (x, y) = (at as u32 % SIDE * 10 / SIDE, at as u32 / SIDE * 10 / SIDE);
        pixel.copy_from_slice(&patches[(y * 10 + x) as usize]);
    }
    let error = Backdrop::find(&picture).unwrap_err().of("anna.jpg").to_string();
    assert!(error.starts_with("anna.jpg: has no plain background") && error.contains("80 % must be"), "{error}");
}
