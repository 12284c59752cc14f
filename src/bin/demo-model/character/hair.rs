//! Hair of the demo character: a bob with a side parting, behind the head and in front of it.

use tiny_skia::{Mask, Path};

use super::canvas::{Canvas, Fill, Rgba, Shape};
use super::head::{MIDDLE, face};
use super::palette as ink;
use super::pose::Pose;

/// The part of the frame (left, top, right, bottom) that no front hair and no outer edge of the hair enters in any pose.
const CALM: [f32; 4] = [184.0, 262.0, 328.0, 410.0];

fn at(points: &[(f32, f32)]) -> Vec<(f32, f32)> {
    points.iter().map(|&(x, y)| (MIDDLE + x, y)).collect()
}

pub fn draw_back(canvas: &mut Canvas, pose: &Pose) {
    canvas.set_layer(pose.behind());
    let back = Shape::smooth(&at(&[
        (0.0, 62.0),
        (62.0, 72.0),
        (108.0, 112.0),
        (127.0, 175.0),
        (133.0, 245.0),
        (141.0, 310.0),
        (142.0, 362.0),
        (124.0, 398.0),
        (94.0, 414.0),
        (62.0, 416.0),
        (0.0, 412.0),
        (-62.0, 416.0),
        (-96.0, 415.0),
        (-127.0, 400.0),
        (-144.0, 362.0),
        (-141.0, 310.0),
        (-133.0, 245.0),
        (-127.0, 175.0),
        (-108.0, 112.0),
        (-62.0, 72.0),
    ]));
    if !canvas.lies_within(CALM) {
        canvas.soft(&back, ink::WALL_DARK.mix(ink::HAIR_DEEP, 0.35).alpha(0.35), 5, None);
    }
    let tone = [(0.0, ink::HAIR_DARK), (0.25, ink::HAIR_DEEP), (0.75, ink::HAIR_DEEP), (1.0, ink::HAIR_DARK)];
    canvas.fill(&back, &Fill::Linear([MIDDLE - 142.0, 0.0, MIDDLE + 142.0, 0.0], &tone));
    if canvas.lies_within(CALM) {
        return;
    }
    let Some(clip) = canvas.clip(&back) else { return };
    for side in [-1.0, 1.0] {
        strands(canvas, &clip, side, &BACK_STRANDS);
    }
}

/// A strand: start, bend and end as offsets from the middle of the head, width, colour.
type Strand = ((f32, f32), (f32, f32), (f32, f32), f32, Rgba);

/// Ends lie beyond the hair's outline, which cuts them.
const BACK_STRANDS: [Strand; 5] = [
    ((108.0, 200.0), (146.0, 320.0), (74.0, 440.0), 24.0, ink::HAIR.alpha(0.55)),
    ((122.0, 190.0), (158.0, 320.0), (104.0, 440.0), 11.0, ink::HAIR_LIGHT.alpha(0.4)),
    ((102.0, 240.0), (124.0, 340.0), (56.0, 436.0), 9.0, ink::HAIR.alpha(0.5)),
    ((116.0, 230.0), (148.0, 330.0), (92.0, 440.0), 4.0, ink::HAIR_DEEP.alpha(0.5)),
    ((128.0, 210.0), (160.0, 330.0), (116.0, 430.0), 4.0, ink::HAIR_DEEP.alpha(0.4)),
];
const SWEEP_STRANDS: [Strand; 12] = [
    ((24.0, 76.0), (-66.0, 96.0), (-116.0, 250.0), 28.0, ink::HAIR_LIGHT.alpha(0.34)),
    ((27.0, 86.0), (-40.0, 122.0), (-100.0, 206.0), 12.0, ink::HAIR_LIGHT.alpha(0.42)),
    ((20.0, 66.0), (-84.0, 74.0), (-126.0, 230.0), 9.0, ink::HAIR_LIGHT.alpha(0.32)),
    ((29.0, 92.0), (-8.0, 140.0), (-86.0, 194.0), 8.0, ink::HAIR_DARK.alpha(0.5)),
    ((27.0, 80.0), (-54.0, 106.0), (-108.0, 226.0), 4.0, ink::HAIR_DARK.alpha(0.4)),
    ((25.0, 72.0), (-78.0, 92.0), (-122.0, 250.0), 3.5, ink::HAIR_DARK.alpha(0.4)),
    ((10.0, 59.0), (-104.0, 66.0), (-132.0, 230.0), 7.0, ink::HAIR_DARK.alpha(0.45)),
    ((-104.0, 190.0), (-94.0, 290.0), (-92.0, 430.0), 11.0, ink::HAIR_DARK.alpha(0.5)),
    ((-112.0, 210.0), (-104.0, 300.0), (-112.0, 430.0), 13.0, ink::HAIR_LIGHT.alpha(0.36)),
    ((-122.0, 200.0), (-116.0, 300.0), (-130.0, 430.0), 5.0, ink::HAIR_DARK.alpha(0.45)),
    ((-128.0, 210.0), (-126.0, 300.0), (-146.0, 410.0), 8.0, ink::HAIR_LIGHT.alpha(0.26)),
    ((-108.0, 200.0), (-100.0, 300.0), (-102.0, 430.0), 3.0, ink::HAIR_DEEP.alpha(0.4)),
];
const TUCK_STRANDS: [Strand; 5] = [
    ((34.0, 84.0), (86.0, 106.0), (112.0, 236.0), 18.0, ink::HAIR_LIGHT.alpha(0.36)),
    ((34.0, 92.0), (78.0, 130.0), (100.0, 222.0), 7.0, ink::HAIR_LIGHT.alpha(0.44)),
    ((32.0, 98.0), (62.0, 144.0), (96.0, 218.0), 5.0, ink::HAIR_DARK.alpha(0.45)),
    ((24.0, 68.0), (108.0, 92.0), (126.0, 250.0), 8.0, ink::HAIR_DARK.alpha(0.4)),
    ((34.0, 80.0), (94.0, 108.0), (118.0, 240.0), 3.5, ink::HAIR_DARK.alpha(0.4)),
];

fn strands(canvas: &mut Canvas, clip: &Mask, side: f32, strands: &[Strand]) {
    let at = |(x, y): (f32, f32)| (MIDDLE + side * x, y);
    for &(a, b, c, width, color) in strands {
        canvas.fill_in(&Shape::tapered(at(a), at(b), at(c), width, 0.5), &Fill::Flat(color), Some(clip));
    }
}

/// The sweep from the parting over the forehead to the left, ending in a lock beside the cheek.
fn sweep() -> Option<Path> {
    let x = |x: f32| MIDDLE + x;
    Shape::at(x(30.0), 98.0)
        .curve((x(14.0), 138.0), (x(-34.0), 172.0), (x(-76.0), 192.0))
        .curve((x(-92.0), 204.0), (x(-96.0), 236.0), (x(-94.0), 272.0))
        .curve((x(-92.0), 316.0), (x(-102.0), 366.0), (x(-88.0), 415.0))
        .curve((x(-112.0), 421.0), (x(-148.0), 406.0), (x(-145.0), 356.0))
        .curve((x(-143.0), 310.0), (x(-132.0), 270.0), (x(-133.0), 216.0))
        .curve((x(-134.0), 106.0), (x(-80.0), 56.0), (x(2.0), 57.0))
        .curve((x(20.0), 59.0), (x(34.0), 74.0), (x(30.0), 98.0))
        .close()
}

/// The shorter side, tucked behind the ear.
fn tuck() -> Option<Path> {
    let x = |x: f32| MIDDLE + x;
    Shape::at(x(30.0), 99.0)
        .curve((x(44.0), 140.0), (x(82.0), 158.0), (x(92.0), 204.0))
        .curve((x(95.0), 220.0), (x(98.0), 232.0), (x(104.0), 238.0))
        .curve((x(118.0), 226.0), (x(124.0), 240.0), (x(120.0), 276.0))
        .curve((x(132.0), 268.0), (x(136.0), 220.0), (x(132.0), 176.0))
        .curve((x(126.0), 112.0), (x(76.0), 58.0), (x(2.0), 58.0))
        .curve((x(14.0), 66.0), (x(28.0), 80.0), (x(30.0), 99.0))
        .close()
}

pub fn draw_front(canvas: &mut Canvas, pose: &Pose, drop: f32) {
    if canvas.lies_within(CALM) {
        return;
    }
    canvas.set_layer(pose.head());
    let (sweep, tuck) = (sweep(), tuck());
    if let Some(clip) = canvas.clip(&face(drop)) {
        canvas.set_layer(pose.head().pre_translate(2.0, 6.0));
        for lock in [&sweep, &tuck] {
            canvas.soft(lock, ink::SKIN_DEEP.alpha(0.42), 3, Some(&clip));
        }
        canvas.set_layer(pose.head());
    }
    let x = |x: f32| MIDDLE + x;
    let tone = [(0.0, ink::HAIR.mix(ink::HAIR_LIGHT, 0.35)), (0.45, ink::HAIR), (1.0, ink::HAIR_DARK)];
    canvas.fill(&tuck, &Fill::Radial([x(58.0), 96.0, 120.0, 190.0], &tone));
    canvas.fill(&sweep, &Fill::Radial([x(-50.0), 104.0, 150.0, 280.0], &tone));

    let shine = ink::HAIR_LIGHT.mix(ink::WHITE, 0.2).alpha(0.4);
    if let Some(clip) = canvas.clip(&sweep) {
        strands(canvas, &clip, 1.0, &SWEEP_STRANDS);
        let band = Shape::tapered((x(-122.0), 196.0), (x(-88.0), 104.0), (x(14.0), 88.0), 20.0, 0.55);
        canvas.soft(&band, shine, 4, Some(&clip));
        let lock = Shape::tapered((x(-116.0), 250.0), (x(-110.0), 310.0), (x(-122.0), 372.0), 12.0, 0.5);
        canvas.soft(&lock, shine.alpha(0.3), 3, Some(&clip));
    }
    if let Some(clip) = canvas.clip(&tuck) {
        strands(canvas, &clip, 1.0, &TUCK_STRANDS);
        let band = Shape::tapered((x(38.0), 94.0), (x(92.0), 110.0), (x(118.0), 186.0), 16.0, 0.5);
        canvas.soft(&band, shine, 4, Some(&clip));
    }
    // The parting.
    let parting = Shape::tapered((x(6.0), 59.0), (x(26.0), 70.0), (x(30.0), 100.0), 3.4, 0.5);
    canvas.fill(&parting, &Fill::Flat(ink::HAIR_DEEP.alpha(0.8)));
}
