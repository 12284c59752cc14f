//! Background, neck and clothing of the demo character.

use tiny_skia::Transform;

use super::canvas::{Canvas, Fill, Shape};
use super::head::{MIDDLE, chin_shadow};
use super::palette as ink;
use super::pose::Pose;

pub fn draw_background(canvas: &mut Canvas) {
    canvas.set_layer(Transform::identity());
    let frame = Shape::at(0.0, 0.0).line(512.0, 0.0).line(512.0, 512.0).line(0.0, 512.0).close();
    let wall = [(0.0, ink::WALL_LIGHT.mix(ink::WALL, 0.55)), (0.35, ink::WALL), (1.0, ink::WALL_DARK)];
    canvas.fill(&frame, &Fill::Linear([0.0, 0.0, 0.0, 512.0], &wall));
    // Light from the upper left, on the wall behind the head.
    let glow = [(0.0, ink::WHITE.alpha(0.55)), (0.5, ink::WHITE.alpha(0.2)), (1.0, ink::WHITE.alpha(0.0))];
    canvas.fill(&frame, &Fill::Radial([190.0, 170.0, 250.0, 230.0], &glow));
}

/// `drop`: how far the chin has dropped, for its shadow.
pub fn draw(canvas: &mut Canvas, pose: &Pose, drop: f32) {
    let x = |x: f32| MIDDLE + x;
    // The neck hangs between head and chest; it is drawn with the head and its foot hides under the collar.
    canvas.set_layer(pose.head());
    let neck = Shape::at(x(-37.0), 300.0)
        .line(x(37.0), 300.0)
        .curve((x(37.0), 350.0), (x(36.0), 388.0), (x(48.0), 410.0))
        .curve((x(60.0), 424.0), (x(60.0), 450.0), (x(0.0), 456.0))
        .curve((x(-60.0), 450.0), (x(-60.0), 424.0), (x(-48.0), 410.0))
        .curve((x(-36.0), 388.0), (x(-37.0), 350.0), (x(-37.0), 300.0))
        .close();
    let skin =
        [(0.0, ink::SKIN_SHADE), (0.3, ink::NECK), (0.62, ink::NECK), (1.0, ink::SKIN_SHADE.mix(ink::SKIN_DEEP, 0.4))];
    canvas.fill(&neck, &Fill::Linear([x(-42.0), 0.0, x(42.0), 0.0], &skin));
    if let Some(clip) = canvas.clip(&neck) {
        canvas.soft(&chin_shadow(drop), ink::SKIN_DEEP.alpha(0.62), 2, Some(&clip));
    }
    for side in [-1.0, 1.0] {
        let line = Shape::tapered((x(side * 30.0), 388.0), (x(side * 22.0), 412.0), (x(side * 8.0), 430.0), 4.0, 0.6);
        canvas.fill(&line, &Fill::Flat(ink::SKIN_DEEP.alpha(0.22)));
    }
    draw_clothes(canvas, pose);
}

fn draw_clothes(canvas: &mut Canvas, pose: &Pose) {
    let x = |x: f32| MIDDLE + x;
    canvas.set_layer(pose.chest());
    let knit = Shape::at(x(-60.0), 424.0)
        .curve((x(-96.0), 440.0), (x(-158.0), 446.0), (x(-186.0), 480.0))
        .curve((x(-200.0), 498.0), (x(-206.0), 520.0), (x(-208.0), 540.0))
        .line(x(208.0), 540.0)
        .curve((x(206.0), 520.0), (x(200.0), 498.0), (x(186.0), 480.0))
        .curve((x(158.0), 446.0), (x(96.0), 440.0), (x(60.0), 424.0))
        .curve((x(44.0), 462.0), (x(-44.0), 462.0), (x(-60.0), 424.0))
        .close();
    canvas.soft(&knit, ink::HAIR_DEEP.alpha(0.25), 4, None);
    let wool = [(0.0, ink::KNIT_LIGHT), (0.5, ink::KNIT), (1.0, ink::KNIT_DARK)];
    canvas.fill(&knit, &Fill::Linear([x(-80.0), 420.0, x(90.0), 620.0], &wool));
    for (a, b, c, width, color) in [
        ((-150.0, 470.0), (-128.0, 492.0), (-132.0, 530.0), 9.0, ink::KNIT_DARK.alpha(0.4)),
        ((150.0, 470.0), (128.0, 492.0), (132.0, 530.0), 9.0, ink::KNIT_DARK.alpha(0.5)),
        ((-84.0, 446.0), (-70.0, 480.0), (-30.0, 506.0), 7.0, ink::KNIT_DARK.alpha(0.28)),
        ((84.0, 446.0), (70.0, 480.0), (30.0, 506.0), 7.0, ink::KNIT_DARK.alpha(0.36)),
        ((-140.0, 456.0), (-110.0, 448.0), (-76.0, 440.0), 6.0, ink::WHITE.alpha(0.25)),
    ] {
        let [a, b, c] = [a, b, c].map(|(px, py)| (x(px), py));
        canvas.fill(&Shape::tapered(a, b, c, width, 0.5), &Fill::Flat(color));
    }
    // Ribbed neckline.
    let rib = Shape::at(x(-62.0), 422.0)
        .curve((x(-46.0), 470.0), (x(46.0), 470.0), (x(62.0), 422.0))
        .line(x(52.0), 418.0)
        .curve((x(38.0), 456.0), (x(-38.0), 456.0), (x(-52.0), 418.0))
        .close();
    canvas.fill(&rib, &Fill::Linear([0.0, 420.0, 0.0, 462.0], &[(0.0, ink::KNIT_DARK), (1.0, ink::KNIT_LIGHT)]));
    // Shirt collar over it.
    for side in [-1.0, 1.0] {
        let s = |v: f32| MIDDLE + side * v;
        let wing = Shape::at(s(50.0), 404.0)
            .curve((s(56.0), 410.0), (s(64.0), 418.0), (s(68.0), 428.0))
            .curve((s(60.0), 446.0), (s(48.0), 462.0), (s(38.0), 474.0))
            .curve((s(28.0), 464.0), (s(10.0), 454.0), (s(1.0), 444.0))
            .curve((s(24.0), 438.0), (s(40.0), 424.0), (s(50.0), 404.0))
            .close();
        canvas.set_layer(pose.chest().pre_translate(0.0, 3.0));
        canvas.soft(&wing, ink::KNIT_DARK.mix(ink::HAIR_DEEP, 0.4).alpha(0.45), 2, None);
        canvas.set_layer(pose.chest());
        let cloth = [(0.0, ink::COLLAR_SHADE), (0.45, ink::COLLAR), (1.0, ink::COLLAR.mix(ink::COLLAR_SHADE, 0.3))];
        canvas.fill(&wing, &Fill::Linear([s(20.0), 420.0, s(60.0), 456.0], &cloth));
    }
}
