//! Eyes and brows of the demo character.

use super::canvas::{Canvas, Fill, Shape, lerp};
use super::head::MIDDLE;
use super::palette as ink;
use super::pose::Pose;

const APART: f32 = 45.0;
const LEVEL: f32 = 231.0;

pub fn draw(canvas: &mut Canvas, pose: &Pose) {
    canvas.set_layer(pose.features());
    for side in [-1.0, 1.0] {
        draw_eye(canvas, pose, side);
        draw_brow(canvas, pose, side);
    }
}

fn draw_eye(canvas: &mut Canvas, pose: &Pose, side: f32) {
    // Outwards from the nose is positive for both eyes.
    let p = |x: f32, y: f32| (MIDDLE + side * (APART + x), LEVEL + y);
    let shut = pose.blink;
    let lid = |open: (f32, f32), closed: (f32, f32)| p(lerp(open.0, closed.0, shut), lerp(open.1, closed.1, shut));
    let inner = p(-22.0, 4.5);
    let outer = lid((23.5, -2.0), (23.0, 1.5));
    let (up1, up2) = (lid((-15.0, -12.5), (-13.0, 10.5)), lid((10.0, -21.0), (11.0, 13.0)));
    let (low1, low2) = (p(17.0, 9.6), p(-9.0, 12.6));

    // The socket is a little darker than the cheek.
    let (x, y) = p(1.0, -8.0);
    let shade =
        [(0.0, ink::SKIN_SHADE.alpha(0.5)), (0.5, ink::SKIN_SHADE.alpha(0.26)), (1.0, ink::SKIN_SHADE.alpha(0.0))];
    canvas.fill(&Shape::ellipse(x, y, 34.0, 22.0), &Fill::Radial([x, y, 34.0, 22.0], &shade));

    let opening = Shape::at(inner.0, inner.1).curve(up1, up2, outer).curve(low1, low2, inner).close();
    if shut < 0.97
        && let Some(clip) = canvas.clip(&opening)
    {
        let white = [(0.0, ink::EYE_SHADE), (0.35, ink::EYE_WHITE), (1.0, ink::EYE_WHITE.mix(ink::EYE_SHADE, 0.3))];
        canvas.fill(&opening, &Fill::Linear([0.0, LEVEL - 16.0, 0.0, LEVEL + 11.0], &white));
        // Gaze is the same way for both eyes, so it is not mirrored.
        let (x, y) = (MIDDLE + side * (APART + 0.5) + pose.gaze.0, LEVEL - 2.2 + pose.gaze.1);
        let r = 14.0;
        let iris = [
            (0.0, ink::IRIS_LIGHT),
            (0.45, ink::IRIS),
            (0.82, ink::IRIS.mix(ink::IRIS_DARK, 0.6)),
            (1.0, ink::IRIS_DARK),
        ];
        canvas.fill_in(
            &Shape::ellipse(x, y, r, r),
            &Fill::Radial([x, y + 5.0, r * 1.25, r * 1.25], &iris),
            Some(&clip),
        );
        canvas.fill_in(&Shape::ellipse(x, y, 6.6, 6.6), &Fill::Flat(ink::PUPIL), Some(&clip));
        let glow = [(0.0, ink::IRIS_LIGHT.mix(ink::WHITE, 0.4).alpha(0.65)), (1.0, ink::IRIS_LIGHT.alpha(0.0))];
        let (gx, gy) = (x + 2.0, y + 8.5);
        canvas.fill_in(&Shape::ellipse(gx, gy, 9.0, 4.5), &Fill::Radial([gx, gy, 9.0, 4.5], &glow), Some(&clip));
        // The upper lid shades the ball.
        let lid = Shape::at(inner.0, inner.1).curve(up1, up2, outer).open();
        canvas.stroke_in(&lid, &Fill::Flat(ink::LASH.alpha(0.28)), 9.0, Some(&clip));
        canvas.fill_in(&Shape::ellipse(x - 4.6, y - 4.8, 4.0, 4.3), &Fill::Flat(ink::WHITE), Some(&clip));
        canvas.fill_in(&Shape::ellipse(x + 5.0, y + 4.6, 1.9, 1.9), &Fill::Flat(ink::WHITE.alpha(0.85)), Some(&clip));
        let tear = p(-20.5, 4.4);
        canvas.fill_in(&Shape::ellipse(tear.0, tear.1, 3.4, 2.6), &Fill::Flat(ink::BLUSH.alpha(0.5)), Some(&clip));
    }

    // Lower lid: a fine line that fades inwards.
    let lower = Shape::tapered(p(23.0, 0.0), p(8.0, 14.6), p(-17.0, 8.0), 1.5, 0.3);
    canvas.fill(&lower, &Fill::Flat(ink::HAIR_DARK.alpha(0.5)));
    let pouch = Shape::tapered(p(18.0, 11.5), p(2.0, 17.5), p(-16.0, 12.5), 2.6, 0.5);
    canvas.fill(&pouch, &Fill::Flat(ink::SKIN_SHADE.alpha(0.4)));

    // Upper lash line, thickest outside, with a short wing.
    let wing = lid((30.0, -8.5), (26.5, 1.2));
    let (back2, back1) = (lid((12.0, -25.6), (12.5, 8.2)), lid((-15.5, -15.4), (-13.0, 6.2)));
    let lash = Shape::at(inner.0, inner.1 - 0.4)
        .curve(up1, up2, outer)
        .line(wing.0, wing.1)
        .curve(back2, back1, (inner.0, inner.1 - 0.8))
        .close();
    canvas.fill(&lash, &Fill::Flat(ink::LASH));
    // Root and tip of each lash, first of the open eye, then of the closed one.
    for [root, tip, shut_root, shut_tip] in [
        [(25.0, -4.5), (33.0, -13.5), (21.0, 0.8), (28.0, 4.6)],
        [(20.0, -9.0), (27.5, -18.5), (16.5, 4.4), (22.5, 9.6)],
        [(13.5, -13.0), (19.0, -22.0), (11.5, 6.8), (15.5, 12.6)],
    ] {
        let (root, tip) = (lid(root, shut_root), lid(tip, shut_tip));
        let bend = (lerp(root.0, tip.0, 0.6) + side * 1.6 * (1.0 - shut), lerp(root.1, tip.1, lerp(0.35, 0.6, shut)));
        canvas.fill(&Shape::tapered(root, bend, tip, 2.6, lerp(0.3, 0.14, shut)), &Fill::Flat(ink::LASH));
    }
    let crease = Shape::tapered(
        lid((-17.0, -9.0), (-17.0, -3.5)),
        lid((4.0, -29.0), (4.0, -13.0)),
        lid((27.0, -11.0), (26.0, -3.0)),
        2.0,
        0.55,
    );
    canvas.fill(&crease, &Fill::Flat(ink::SKIN_DEEP.alpha(0.6)));
}

fn draw_brow(canvas: &mut Canvas, pose: &Pose, side: f32) {
    let dip = pose.blink * 1.2;
    let p = |x: f32, y: f32| (MIDDLE + side * (APART + x), LEVEL + y + dip);
    let end = p(31.0, -28.5);
    let brow = Shape::at(p(-22.5, -29.0).0, p(-22.5, -29.0).1)
        .curve(p(-23.0, -33.0), p(-21.5, -35.5), p(-18.0, -36.0))
        .curve(p(-4.0, -40.5), p(12.0, -45.0), end)
        .curve(p(14.0, -37.5), p(-2.0, -34.0), p(-17.0, -28.4))
        .curve(p(-19.5, -27.6), p(-22.0, -27.6), p(-22.5, -29.0))
        .close();
    let start = p(-24.0, 0.0).0;
    canvas.fill(
        &brow,
        &Fill::Linear(
            [start, 0.0, end.0, 0.0],
            &[(0.0, ink::BROW.alpha(0.3)), (0.3, ink::BROW.alpha(0.9)), (1.0, ink::BROW)],
        ),
    );
}
