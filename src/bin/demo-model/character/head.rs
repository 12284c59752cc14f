//! Face, ears, nose and cheeks of the demo character. Only the jaw between `HINGE` and its mirror image follows speech.
//!
//! Not here: eyes, mouth and hair.

use tiny_skia::Path;

use super::canvas::{Canvas, Fill, Shape};
use super::palette as ink;
use super::pose::Pose;

pub const MIDDLE: f32 = 256.0;
/// Where the moving part of the jaw line begins, from the middle of the face: well inside the mouth crop.
const HINGE: (f32, f32) = (50.0, 339.0);
const CHIN: f32 = 358.0;

/// The lower edge of the face from the left hinge over the chin to the right one.
fn jaw_line(shape: Shape, drop: f32, shift: f32) -> Shape {
    let chin = CHIN + drop + shift;
    let (hinge_x, hinge_y) = (HINGE.0, HINGE.1 + shift);
    let near = hinge_y + 10.5 + 0.4 * drop;
    let wide = 20.0 + 0.1 * drop;
    shape.curve((MIDDLE - hinge_x + 13.0, near), (MIDDLE - wide, chin), (MIDDLE, chin)).curve(
        (MIDDLE + wide, chin),
        (MIDDLE + hinge_x - 13.0, near),
        (MIDDLE + hinge_x, hinge_y),
    )
}

pub fn face(drop: f32) -> Option<Path> {
    let x = |x: f32| MIDDLE + x;
    let shape = Shape::at(x(-HINGE.0), HINGE.1);
    jaw_line(shape, drop, 0.0)
        .curve((x(75.0), 319.0), (x(93.0), 288.0), (x(97.0), 248.0))
        .curve((x(101.0), 200.0), (x(98.0), 150.0), (x(70.0), 118.0))
        .curve((x(40.0), 92.0), (x(-40.0), 92.0), (x(-70.0), 118.0))
        .curve((x(-98.0), 150.0), (x(-101.0), 200.0), (x(-97.0), 248.0))
        .curve((x(-93.0), 288.0), (x(-75.0), 319.0), (x(-HINGE.0), HINGE.1))
        .close()
}

/// What throws the chin's shadow on the neck.
pub fn chin_shadow(drop: f32) -> Option<Path> {
    let shift = 9.0;
    let shape = Shape::at(MIDDLE - HINGE.0, HINGE.1 + shift);
    jaw_line(shape, drop, shift).line(MIDDLE + HINGE.0, 320.0).line(MIDDLE - HINGE.0, 320.0).close()
}

pub fn draw_ears(canvas: &mut Canvas, pose: &Pose) {
    canvas.set_layer(pose.head());
    for side in [-1.0, 1.0] {
        let x = |x: f32| MIDDLE + side * x;
        let ear = Shape::at(x(92.0), 238.0)
            .curve((x(98.0), 220.0), (x(119.0), 222.0), (x(116.0), 246.0))
            .curve((x(114.0), 262.0), (x(108.0), 280.0), (x(97.0), 279.0))
            .curve((x(91.0), 278.0), (x(90.0), 260.0), (x(92.0), 238.0))
            .close();
        canvas.fill(&ear, &Fill::Linear([x(90.0), 0.0, x(118.0), 0.0], &[(0.0, ink::SKIN_SHADE), (1.0, ink::SKIN)]));
        let fold = Shape::tapered((x(101.0), 236.0), (x(114.0), 236.0), (x(104.0), 268.0), 4.0, 0.4);
        canvas.fill(&fold, &Fill::Flat(ink::SKIN_DEEP.alpha(0.4)));
        let (px, py) = (x(105.0), 284.0);
        let pearl = [(0.0, ink::WHITE), (0.35, ink::GOLD), (1.0, ink::KNIT_DARK)];
        canvas.fill(&Shape::ellipse(px, py, 4.0, 4.0), &Fill::Radial([px - 1.0, py - 1.4, 5.4, 5.4], &pearl));
    }
}

pub fn draw_face(canvas: &mut Canvas, pose: &Pose, drop: f32) {
    canvas.set_layer(pose.head());
    let face = face(drop);
    let skin =
        [(0.0, ink::SKIN_LIGHT), (0.5, ink::SKIN), (0.8, ink::SKIN.mix(ink::SKIN_SHADE, 0.4)), (1.0, ink::SKIN_SHADE)];
    canvas.fill(&face, &Fill::Radial([MIDDLE - 10.0, 228.0, 122.0, 168.0], &skin));
    canvas.set_layer(pose.features());
    for side in [-1.0, 1.0] {
        let (x, y) = (MIDDLE + side * 62.0, 279.0);
        let blush = [(0.0, ink::BLUSH.alpha(0.42)), (0.4, ink::BLUSH.alpha(0.27)), (1.0, ink::BLUSH.alpha(0.0))];
        canvas.fill(&face, &Fill::Radial([x, y, 38.0, 27.0], &blush));
        let (x, y) = (MIDDLE + side * 56.0, 256.0);
        let light = [(0.0, ink::SKIN_LIGHT.alpha(0.35)), (1.0, ink::SKIN_LIGHT.alpha(0.0))];
        canvas.fill(&face, &Fill::Radial([x, y, 28.0, 12.0], &light));
    }
    let (x, y) = (MIDDLE, 345.0 + drop * 0.9);
    let light = [(0.0, ink::SKIN_LIGHT.alpha(0.45)), (1.0, ink::SKIN_LIGHT.alpha(0.0))];
    canvas.fill(&face, &Fill::Radial([x, y, 17.0, 9.0], &light));
    draw_nose(canvas);
}

fn draw_nose(canvas: &mut Canvas) {
    let x = |x: f32| MIDDLE + x;
    let shade = ink::SKIN_DEEP;
    // The bridge: light along it, shade on the side away from the light and in the corner of the eye.
    for (px, py, rx, ry, strength) in
        [(9.0, 250.0, 9.0, 34.0, 0.17), (15.0, 222.0, 12.0, 20.0, 0.15), (-15.0, 222.0, 11.0, 18.0, 0.10)]
    {
        let soft = [(0.0, shade.alpha(strength)), (0.5, shade.alpha(strength * 0.5)), (1.0, shade.alpha(0.0))];
        canvas.fill(&Shape::ellipse(x(px), py, rx, ry), &Fill::Radial([x(px), py, rx, ry], &soft));
    }
    let bridge = [(0.0, ink::WHITE.alpha(0.3)), (0.5, ink::WHITE.alpha(0.13)), (1.0, ink::WHITE.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x(-2.0), 244.0, 6.0, 30.0), &Fill::Radial([x(-2.0), 248.0, 6.0, 30.0], &bridge));
    // Under the tip.
    let under = [(0.0, shade.alpha(0.42)), (0.5, shade.alpha(0.2)), (1.0, shade.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x(0.0), 286.0, 19.0, 8.0), &Fill::Radial([x(0.0), 286.0, 19.0, 8.0], &under));
    let tip =
        [(0.0, ink::SKIN_LIGHT), (0.55, ink::SKIN_LIGHT.mix(ink::SKIN, 0.6).alpha(0.9)), (1.0, ink::SKIN.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x(0.0), 274.0, 15.0, 12.0), &Fill::Radial([x(-1.0), 272.0, 15.0, 13.0], &tip));
    for s in [-1.0, 1.0] {
        let nostril = Shape::tapered((x(s * 3.5), 284.2), (x(s * 8.0), 280.4), (x(s * 12.5), 283.4), 3.2, 0.55);
        canvas.fill(&nostril, &Fill::Flat(ink::SKIN_DEEP.mix(ink::HAIR_DEEP, 0.35).alpha(0.8)));
        let wing = Shape::tapered((x(s * 13.0), 284.0), (x(s * 18.5), 281.0), (x(s * 15.8), 273.5), 2.0, 0.35);
        canvas.fill(&wing, &Fill::Flat(shade.alpha(0.42)));
    }
    let glint = [(0.0, ink::WHITE.alpha(0.6)), (1.0, ink::WHITE.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x(-2.0), 270.0, 5.0, 4.0), &Fill::Radial([x(-2.0), 270.0, 5.0, 4.0], &glint));
    // The groove from nose to lip.
    let groove = [(0.0, shade.alpha(0.2)), (1.0, shade.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x(0.0), 295.0, 4.0, 7.0), &Fill::Radial([x(0.0), 295.0, 4.0, 7.0], &groove));
}
