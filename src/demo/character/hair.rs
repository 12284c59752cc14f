//! Hair of the demo character: a bob with a side parting, behind the head and in front of it.

use tiny_skia::Path;

use super::canvas::{Canvas, Fill, Shape};
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
    let tone = [(0.0, ink::HAIR_DARK), (0.5, ink::HAIR_DEEP), (1.0, ink::HAIR_DARK)];
    canvas.fill(&back, &Fill::Linear([MIDDLE - 142.0, 0.0, MIDDLE + 142.0, 0.0], &tone));
    for side in [-1.0, 1.0] {
        let p = |x: f32, y: f32| (MIDDLE + side * x, y);
        for (a, b, c, width, color) in [
            (p(116.0, 190.0), p(142.0, 300.0), p(112.0, 398.0), 15.0, ink::HAIR.alpha(0.75)),
            (p(124.0, 200.0), p(150.0, 310.0), p(126.0, 390.0), 6.0, ink::HAIR_LIGHT.alpha(0.5)),
            (p(104.0, 250.0), p(122.0, 330.0), p(88.0, 402.0), 12.0, ink::HAIR.alpha(0.5)),
        ] {
            canvas.fill(&Shape::tapered(a, b, c, width, 0.5), &Fill::Flat(color));
        }
    }
}

/// The sweep from the parting over the forehead to the left, ending in a lock beside the cheek.
fn sweep() -> Option<Path> {
    let x = |x: f32| MIDDLE + x;
    Shape::at(x(30.0), 98.0)
        .curve((x(14.0), 138.0), (x(-34.0), 172.0), (x(-76.0), 192.0))
        .curve((x(-92.0), 204.0), (x(-94.0), 240.0), (x(-92.0), 276.0))
        .curve((x(-90.0), 310.0), (x(-86.0), 350.0), (x(-104.0), 384.0))
        .curve((x(-128.0), 380.0), (x(-142.0), 350.0), (x(-138.0), 310.0))
        .curve((x(-132.0), 260.0), (x(-136.0), 220.0), (x(-132.0), 176.0))
        .curve((x(-126.0), 110.0), (x(-74.0), 58.0), (x(2.0), 58.0))
        .curve((x(20.0), 60.0), (x(34.0), 74.0), (x(30.0), 98.0))
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

    if let Some(clip) = canvas.clip(&sweep) {
        for (a, b, c, width, color) in [
            ((24.0, 76.0), (-60.0, 100.0), (-112.0, 230.0), 26.0, ink::HAIR_LIGHT.alpha(0.4)),
            ((26.0, 84.0), (-40.0, 120.0), (-96.0, 196.0), 12.0, ink::HAIR_LIGHT.alpha(0.5)),
            ((20.0, 68.0), (-80.0, 80.0), (-124.0, 210.0), 9.0, ink::HAIR_LIGHT.alpha(0.35)),
            ((28.0, 92.0), (-10.0, 140.0), (-84.0, 190.0), 7.0, ink::HAIR_DARK.alpha(0.55)),
            ((26.0, 80.0), (-54.0, 108.0), (-104.0, 214.0), 4.0, ink::HAIR_DARK.alpha(0.4)),
            ((8.0, 60.0), (-96.0, 72.0), (-130.0, 210.0), 7.0, ink::HAIR_DARK.alpha(0.5)),
            ((-100.0, 210.0), (-96.0, 290.0), (-108.0, 376.0), 9.0, ink::HAIR_DARK.alpha(0.5)),
            ((-118.0, 210.0), (-110.0, 290.0), (-116.0, 376.0), 10.0, ink::HAIR_LIGHT.alpha(0.42)),
            ((-130.0, 220.0), (-124.0, 290.0), (-130.0, 360.0), 5.0, ink::HAIR_DARK.alpha(0.5)),
        ] {
            let [a, b, c] = [a, b, c].map(|(px, py)| (x(px), py));
            canvas.fill_in(&Shape::tapered(a, b, c, width, 0.5), &Fill::Flat(color), Some(&clip));
        }
    }
    if let Some(clip) = canvas.clip(&tuck) {
        for (a, b, c, width, color) in [
            ((34.0, 84.0), (84.0, 110.0), (110.0, 222.0), 18.0, ink::HAIR_LIGHT.alpha(0.42)),
            ((34.0, 92.0), (76.0, 130.0), (98.0, 214.0), 6.0, ink::HAIR_LIGHT.alpha(0.5)),
            ((32.0, 96.0), (60.0, 140.0), (96.0, 216.0), 5.0, ink::HAIR_DARK.alpha(0.5)),
            ((24.0, 70.0), (104.0, 100.0), (122.0, 230.0), 8.0, ink::HAIR_DARK.alpha(0.45)),
            ((34.0, 80.0), (92.0, 110.0), (116.0, 230.0), 3.5, ink::HAIR_DARK.alpha(0.4)),
        ] {
            let [a, b, c] = [a, b, c].map(|(px, py)| (x(px), py));
            canvas.fill_in(&Shape::tapered(a, b, c, width, 0.5), &Fill::Flat(color), Some(&clip));
        }
    }
    // The parting.
    let parting = Shape::tapered((x(6.0), 59.0), (x(26.0), 70.0), (x(30.0), 100.0), 3.4, 0.5);
    canvas.fill(&parting, &Fill::Flat(ink::HAIR_DEEP.alpha(0.8)));
}
