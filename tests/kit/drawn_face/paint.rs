//! How a drawn face looks: skin shaded by its mesh, and on it eyes, brows, lips, nostrils, hair, a beard, glasses.

use mouthpiece::face::{parts, topology};
use mouthpiece::picture::RgbPicture;
use tiny_skia::{
    Color, FillRule, FilterQuality, LineCap, LineJoin, Mask, Paint, Path, PathBuilder, Pixmap, PixmapPaint, Stroke,
    Transform,
};

use super::shape::Shape;
use super::{Chance, Glasses, Person};

/// Everything is drawn so much larger and averaged.
const FINE: u32 = 2;
const LEFT_BROW: [usize; 10] = [70, 63, 105, 66, 107, 55, 65, 52, 53, 46];
const RIGHT_BROW: [usize; 10] = [300, 293, 334, 296, 336, 285, 295, 282, 283, 276];

struct Canvas {
    map: Pixmap,
}

fn ink(colour: [u8; 3], share: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(Color::from_rgba8(colour[0], colour[1], colour[2], (share * 255.0) as u8));
    paint
}

fn shade(colour: [u8; 3], factor: f32) -> [u8; 3] {
    colour.map(|level| (f32::from(level) * factor).clamp(0.0, 255.0) as u8)
}

/// A closed curve through points (Catmull-Rom), or a polygon.
fn outline(points: &[[f32; 2]], curved: bool) -> Path {
    let count = points.len();
    let mut path = PathBuilder::new();
    path.move_to(points[0][0], points[0][1]);
    for at in 0..count {
        let [a, b, c, d] = [(at + count - 1) % count, at, (at + 1) % count, (at + 2) % count].map(|at| points[at]);
        match curved {
            true => path.cubic_to(
                b[0] + (c[0] - a[0]) / 6.0,
                b[1] + (c[1] - a[1]) / 6.0,
                c[0] - (d[0] - b[0]) / 6.0,
                c[1] - (d[1] - b[1]) / 6.0,
                c[0],
                c[1],
            ),
            false => path.line_to(c[0], c[1]),
        }
    }
    path.close();
    path.finish().unwrap()
}

fn line(points: &[[f32; 2]]) -> Path {
    let mut path = PathBuilder::new();
    path.move_to(points[0][0], points[0][1]);
    points[1..].iter().for_each(|[x, y]| path.line_to(*x, *y));
    path.finish().unwrap()
}

impl Canvas {
    fn fill(&mut self, path: &Path, colour: [u8; 3], share: f32, clip: Option<&Mask>) {
        self.map.fill_path(path, &ink(colour, share), FillRule::Winding, Transform::identity(), clip);
    }

    fn stroke(&mut self, path: &Path, colour: [u8; 3], share: f32, width: f32, clip: Option<&Mask>) {
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.map.stroke_path(path, &ink(colour, share), &stroke, Transform::identity(), clip);
    }

    fn circle(&mut self, [x, y]: [f32; 2], radius: f32, colour: [u8; 3], share: f32, clip: Option<&Mask>) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.fill(&path, colour, share, clip);
        }
    }

    fn clip(&self, path: &Path) -> Mask {
        let mut mask = Mask::new(self.map.width(), self.map.height()).unwrap();
        mask.fill_path(path, FillRule::Winding, true, Transform::identity());
        mask
    }
}

pub fn paint(person: &Person, shape: &Shape, side: u32) -> RgbPicture {
    let mut canvas = Canvas { map: Pixmap::new(side * FINE, side * FINE).unwrap() };
    let fine = FINE as f32;
    let at = |point: usize| [shape.points[point][0] * fine, shape.points[point][1] * fine];
    let run = |points: &[usize]| points.iter().map(|point| at(*point)).collect::<Vec<_>>();
    let head = |x: f32, y: f32, z: f32| shape.place([x, y, z]).map(|value| value * fine);
    let cm = shape.scale * fine;

    let [r, g, b] = person.background;
    canvas.map.fill(Color::from_rgba8(r, g, b, 255));
    behind(&mut canvas, person, &run, &head, cm);
    skin(&mut canvas, person, shape);

    if person.beard > 0.0 {
        beard(&mut canvas, person, &run, cm);
    }
    for nostril in [[-0.75, -2.0, 5.4], [0.75, -2.0, 5.4]] {
        let [x, y] = head(nostril[0], nostril[1], nostril[2]);
        canvas.circle([x, y], 0.26 * cm, shade(person.skin, 0.35), 0.75, None);
    }
    for wing in [[98, 64, 48, 115], [327, 294, 278, 344]] {
        canvas.stroke(&line(&run(&wing)), shade(person.skin, 0.55), 0.35, 0.12 * cm, None);
    }
    mouth(&mut canvas, person, &run, cm);
    for (upper, lower, ball) in [
        (parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID, [-1.0, 0.0]),
        (parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID, [1.0, 0.0]),
    ] {
        eye(&mut canvas, person, &run(&upper), &run(&lower), ball[0], cm);
    }
    for brow in [LEFT_BROW, RIGHT_BROW] {
        canvas.fill(&outline(&run(&brow), true), shade(person.hair, 0.8), 0.85, None);
    }
    fringe(&mut canvas, person, &run, &head, cm);
    if let Some(kind) = person.glasses {
        glasses(&mut canvas, kind, &head, cm, person.eyes_apart);
    }

    let mut small = Pixmap::new(side, side).unwrap();
    let paint = PixmapPaint { quality: FilterQuality::Bilinear, ..PixmapPaint::default() };
    let half = 1.0 / fine;
    small.draw_pixmap(0, 0, canvas.map.as_ref(), &paint, Transform::from_scale(half, half), None);
    let rgb = small.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    RgbPicture { width: side, height: side, rgb }
}

/// Hair behind the head, neck, shoulders and ears.
fn behind(
    canvas: &mut Canvas,
    person: &Person,
    run: &impl Fn(&[usize]) -> Vec<[f32; 2]>,
    head: &impl Fn(f32, f32, f32) -> [f32; 2],
    cm: f32,
) {
    let dome = [
        [-8.9, 1.0],
        [-9.2, 6.0],
        [-7.4, 10.6],
        [-3.6, 13.0],
        [0.0, 13.5],
        [3.6, 13.0],
        [7.4, 10.6],
        [9.2, 6.0],
        [8.9, 1.0],
    ];
    let low: &[[f32; 2]] =
        if person.long_hair { &[[9.6, -8.0], [7.5, -14.0], [-7.5, -14.0], [-9.6, -8.0]] } else { &[] };
    let points: Vec<_> = dome.iter().chain(low).map(|[x, y]| head(*x, *y, -4.0)).collect();
    canvas.fill(&outline(&points, true), person.hair, 1.0, None);
    let dark = shade(person.skin, 0.45);
    let neck: Vec<_> = [
        [-5.2, -5.0],
        [-5.6, -14.0],
        [-20.0, -19.0],
        [-22.0, -40.0],
        [22.0, -40.0],
        [20.0, -19.0],
        [5.6, -14.0],
        [5.2, -5.0],
    ]
    .iter()
    .map(|[x, y]| head(*x, *y, -5.0))
    .collect();
    let neck = outline(&neck[..], false);
    canvas.fill(&neck, dark, 1.0, None);
    // The jaw keeps light from the neck below it, or the chin would end where nothing is to be seen.
    let (shaded, jaw) = (canvas.clip(&neck), line(&run(&parts::OUTLINE[9..28])));
    for width in [3.6, 2.4, 1.2] {
        canvas.stroke(&jaw, shade(person.skin, 0.12), 0.3, width * cm, Some(&shaded));
    }
    let shirt: Vec<_> =
        [[-7.0, -15.5], [-20.0, -18.5], [-26.0, -42.0], [26.0, -42.0], [20.0, -18.5], [7.0, -15.5], [0.0, -19.0]]
            .iter()
            .map(|[x, y]| head(*x, *y, -5.0))
            .collect();
    canvas.fill(&outline(&shirt, false), [92, 104, 128], 1.0, None);
    if !person.long_hair {
        for x in [-8.1, 8.1] {
            canvas.circle(head(x, 1.6, -3.0), 1.3 * cm, shade(person.skin, 0.8), 1.0, None);
            canvas.circle(head(x, -0.2, -3.0), 1.0 * cm, shade(person.skin, 0.75), 1.0, None);
        }
    }
}

/// The mesh, lit, nearer triangles over farther ones.
fn skin(canvas: &mut Canvas, person: &Person, shape: &Shape) {
    let side = canvas.map.width();
    let mut depth = vec![f32::NEG_INFINITY; (side * side) as usize];
    let length = person.light.iter().map(|part| part * part).sum::<f32>().sqrt();
    let lit: Vec<f32> = shape
        .normals
        .iter()
        .map(|normal| {
            let facing: f32 = normal.iter().zip(person.light).map(|(a, b)| a * b / length).sum();
            let rim = normal[2].max(0.0).powf(0.4);
            // What looks down sees the chest, not the sky.
            let under = 1.0 - 0.45 * (-normal[1]).max(0.0);
            (person.ambient * under + (1.05 - person.ambient) * facing.max(0.0)) * (0.86 + 0.14 * rim)
        })
        .collect();
    // Eyes are holes in the mesh: what is behind them is skin until they are drawn.
    let fine = FINE as f32;
    let colours = canvas.map.data_mut();
    for corners in topology::TRIANGLES {
        let corners = corners.map(usize::from);
        let [a, b, c] = corners.map(|at| [shape.points[at][0] * fine, shape.points[at][1] * fine, shape.points[at][2]]);
        let area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
        if area.abs() < 1e-6 {
            continue;
        }
        let low = |axis: usize| (a[axis].min(b[axis]).min(c[axis]).floor().max(0.0)) as u32;
        let high = |axis: usize| (a[axis].max(b[axis]).max(c[axis]).ceil().max(0.0) as u32).min(side);
        for y in low(1)..high(1) {
            for x in low(0)..high(0) {
                let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
                let v = ((px - a[0]) * (c[1] - a[1]) - (py - a[1]) * (c[0] - a[0])) / area;
                let w = ((b[0] - a[0]) * (py - a[1]) - (b[1] - a[1]) * (px - a[0])) / area;
                let u = 1.0 - v - w;
                if u < 0.0 || v < 0.0 || w < 0.0 {
                    continue;
                }
                let z = u * a[2] + v * b[2] + w * c[2];
                let at = (y * side + x) as usize;
                if z <= depth[at] {
                    continue;
                }
                depth[at] = z;
                let light = u * lit[corners[0]] + v * lit[corners[1]] + w * lit[corners[2]];
                for (value, level) in colours[at * 4..at * 4 + 3].iter_mut().zip(person.skin) {
                    *value = (f32::from(level) * light).clamp(0.0, 255.0) as u8;
                }
                colours[at * 4 + 3] = 255;
            }
        }
    }
}

fn beard(canvas: &mut Canvas, person: &Person, run: &impl Fn(&[usize]) -> Vec<[f32; 2]>, cm: f32) {
    let edge: Vec<usize> =
        parts::OUTLINE.iter().skip(10).take(17).copied().chain([50, 205, 98, 2, 327, 425, 280]).collect();
    let region = outline(&run(&edge), true);
    let clip = canvas.clip(&region);
    canvas.fill(&region, shade(person.hair, 0.9), 0.45 * person.beard, None);
    let bounds = region.bounds();
    let mut chance = Chance(5);
    for _ in 0..(900.0 * person.beard) as usize {
        let [x, y] = [chance.within(bounds.left(), bounds.right()), chance.within(bounds.top(), bounds.bottom())];
        let hair = line(&[[x, y], [x + cm * chance.within(-0.1, 0.1), y + cm * chance.within(0.1, 0.3)]]);
        canvas.stroke(&hair, shade(person.hair, 0.7), 0.5, 0.05 * cm, Some(&clip));
    }
}

fn mouth(canvas: &mut Canvas, person: &Person, run: &impl Fn(&[usize]) -> Vec<[f32; 2]>, cm: f32) {
    let ring = |above: &[usize], below: &[usize]| {
        let mut points = run(above);
        points.extend(run(below).into_iter().rev().skip(1).take(below.len() - 2));
        points
    };
    let inside = outline(&ring(&parts::UPPER_LIP_INNER, &parts::LOWER_LIP_INNER), true);
    canvas.fill(&inside, [58, 22, 24], 1.0, None);
    let clip = canvas.clip(&inside);
    let upper = run(&parts::UPPER_LIP_INNER);
    let teeth: Vec<[f32; 2]> =
        upper[2..9].iter().copied().chain(upper[2..9].iter().rev().map(|[x, y]| [*x, y + 0.7 * cm])).collect();
    canvas.fill(&outline(&teeth, false), [232, 226, 214], 1.0, Some(&clip));
    let lip = |outer: &[usize], inner: &[usize]| {
        let mut points = run(outer);
        points.extend(run(inner).into_iter().rev());
        points
    };
    canvas.fill(
        &outline(&lip(&parts::UPPER_LIP_OUTER, &parts::UPPER_LIP_INNER), false),
        shade(person.lips, 0.9),
        0.92,
        None,
    );
    canvas.fill(&outline(&lip(&parts::LOWER_LIP_OUTER, &parts::LOWER_LIP_INNER), false), person.lips, 0.92, None);
    canvas.stroke(&line(&upper), shade(person.lips, 0.45), 0.8, 0.12 * cm, None);
    let under = run(&[181, 84, 17, 314, 405]).iter().map(|[x, y]| [*x, y + 0.25 * cm]).collect::<Vec<_>>();
    canvas.stroke(&line(&under), shade(person.skin, 0.6), 0.3, 0.25 * cm, None);
}

fn eye(canvas: &mut Canvas, person: &Person, upper: &[[f32; 2]], lower: &[[f32; 2]], _side: f32, cm: f32) {
    let ring: Vec<[f32; 2]> = upper.iter().copied().chain(lower[1..8].iter().rev().copied()).collect();
    let opening = outline(&ring, true);
    let clip = canvas.clip(&opening);
    canvas.fill(&opening, [236, 234, 230], 1.0, None);
    let ends = [upper[0], upper[8]];
    let level = |points: &[[f32; 2]]| points[4][1];
    let ball = [(ends[0][0] + ends[1][0]) / 2.0, (level(upper) * 0.55 + level(lower) * 0.45)];
    canvas.circle(ball, 0.62 * cm, person.iris, 1.0, Some(&clip));
    canvas.circle(ball, 0.27 * cm, [14, 12, 12], 1.0, Some(&clip));
    canvas.circle([ball[0] - 0.18 * cm, ball[1] - 0.2 * cm], 0.1 * cm, [250, 250, 250], 0.9, Some(&clip));
    canvas.stroke(&line(upper), [30, 20, 18], 0.28, 0.4 * cm, Some(&clip));
    canvas.stroke(&line(upper), shade(person.skin, 0.22), 0.95, 0.13 * cm, None);
    canvas.stroke(&line(lower), shade(person.skin, 0.5), 0.7, 0.07 * cm, None);
    let crease: Vec<[f32; 2]> = upper[1..8].iter().map(|[x, y]| [*x, y - 0.45 * cm]).collect();
    canvas.stroke(&line(&crease), shade(person.skin, 0.6), 0.5, 0.09 * cm, None);
}

/// Hair that begins at the forehead's edge.
fn fringe(
    canvas: &mut Canvas,
    person: &Person,
    run: &impl Fn(&[usize]) -> Vec<[f32; 2]>,
    head: &impl Fn(f32, f32, f32) -> [f32; 2],
    cm: f32,
) {
    let mut points = run(&[127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356]);
    canvas.stroke(&line(&points), person.hair, 1.0, 0.7 * cm, None);
    points.extend(
        [
            [9.0, 3.0],
            [9.2, 6.0],
            [7.4, 10.6],
            [3.6, 13.0],
            [0.0, 13.5],
            [-3.6, 13.0],
            [-7.4, 10.6],
            [-9.2, 6.0],
            [-9.0, 3.0],
        ]
        .map(|[x, y]| head(x, y, -2.0)),
    );
    canvas.fill(&outline(&points, false), person.hair, 1.0, None);
}

fn glasses(canvas: &mut Canvas, kind: Glasses, head: &impl Fn(f32, f32, f32) -> [f32; 2], cm: f32, apart: f32) {
    const ANGULAR: &[[f32; 2]] = &[[-2.3, 1.2], [2.3, 1.0], [2.2, -1.6], [0.0, -2.0], [-2.1, -1.6]];
    const ROUND: &[[f32; 2]] =
        &[[-2.2, 0.0], [-1.6, 1.5], [0.0, 2.1], [1.6, 1.5], [2.2, 0.0], [1.6, -1.6], [0.0, -2.2], [-1.6, -1.6]];
    const NARROW: &[[f32; 2]] = &[[-2.4, 0.9], [2.4, 0.9], [2.3, -1.1], [-2.2, -1.1]];
    const LARGE: &[[f32; 2]] = &[[-2.5, 2.0], [2.7, 1.9], [2.5, -2.2], [0.0, -2.7], [-2.2, -2.2]];
    let (corners, colour, width) = match kind {
        Glasses::Dark => (ANGULAR, [28, 28, 32], 0.26),
        Glasses::Round => (ROUND, [150, 130, 90], 0.14),
        Glasses::Thick => (NARROW, [16, 16, 18], 0.46),
        Glasses::Browline => (ANGULAR, [40, 26, 20], 0.12),
        Glasses::Large => (LARGE, [92, 58, 34], 0.34),
    };
    for side in [-1.0, 1.0] {
        let at = |x: f32, y: f32| head(side * 3.2 * apart + x, 2.5 + y, 5.0);
        let ring: Vec<_> = corners.iter().map(|[x, y]| at(*x, *y)).collect();
        if kind == Glasses::Browline {
            canvas.stroke(&outline(&ring, true), [170, 170, 172], 0.8, 0.1 * cm, None);
            canvas.stroke(
                &line(&[at(-2.4, 0.9), at(-2.3, 1.25), at(2.3, 1.05), at(2.35, 0.7)]),
                colour,
                1.0,
                0.42 * cm,
                None,
            );
            canvas.stroke(&line(&[at(-1.4, -1.2), at(-0.4, 0.4)]), [255, 255, 255], 0.25, 0.5 * cm, None);
        } else {
            canvas.stroke(&outline(&ring, true), colour, 1.0, width * cm, None);
        }
        canvas.stroke(&line(&[head(side * 5.6, 3.0, 4.6), head(side * 7.9, 2.6, -2.0)]), colour, 1.0, 0.22 * cm, None);
    }
    canvas.stroke(&line(&[head(-0.9, 3.0, 5.6), head(0.9, 3.0, 5.6)]), colour, 1.0, (0.9 * width).max(0.16) * cm, None);
}
