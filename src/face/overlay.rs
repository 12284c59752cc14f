//! A picture that shows what was found: boxes with numbers, the mesh, lips, lids, and where a mouth would move.
//!
//! In here: drawing. Not in here: what is drawn. Lines are smoothed by how far a pixel's middle is from them.

use super::judging::from_the_left;
use super::sampling::{Beyond, Crop, Levels};
use super::{Face, Mesh, parts, topology};
use crate::picture::RgbPicture;

/// Longest side of the picture, in pixels.
const MOST_SIDE: u32 = 800;
const LIPS: [u8; 3] = [255, 92, 122];
const LIDS: [u8; 3] = [64, 214, 255];
const MESH: [u8; 3] = [255, 255, 255];
const MOUTH: [u8; 3] = [120, 235, 150];
const CHOSEN: [u8; 3] = [120, 235, 150];
const OTHER: [u8; 3] = [255, 196, 60];

/// Rows of the digits 0 to 9, three bits each, from the top.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 1, 1, 1],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// The picture, made smaller if it is large, with every face of it; `chosen` is the place in `faces` of the one that is
/// used. Faces have the numbers that [`super::choose`] knows them by.
pub fn overlay(picture: &RgbPicture, faces: &[Face], chosen: Option<usize>) -> RgbPicture {
    let mut canvas = Canvas::of(picture);
    for (number, at) in (1..).zip(from_the_left(faces)) {
        let Some(face) = faces.get(at) else { continue };
        let used = chosen == Some(at);
        if used {
            canvas.mesh(&face.mesh);
        } else if face.mesh.presence >= super::mesh::LEAST_PRESENCE {
            canvas.features(&face.mesh, 0.6);
        }
        canvas.frame(face, if used { CHOSEN } else { OTHER }, (faces.len() > 1).then_some(number));
    }
    canvas.picture
}

struct Canvas {
    picture: RgbPicture,
    /// From pixels of the picture to those of the canvas.
    scale: f32,
    /// Width of a plain line.
    pen: f32,
}

impl Canvas {
    fn of(picture: &RgbPicture) -> Self {
        let longest = picture.width.max(picture.height);
        if longest <= MOST_SIDE {
            let pen = (longest as f32 / 400.0).clamp(1.0, 2.0);
            return Self { picture: picture.clone(), scale: 1.0, pen };
        }
        // A square crop is taken whole and cut, so that the one way of reducing pictures serves here too.
        let side = longest as f32;
        let crop = Crop { centre: [side / 2.0; 2], side, roll: 0.0 };
        let planes = crop.take(picture, MOST_SIDE, Levels { black: 0.0 }, Beyond::Edge, false);
        let scale = MOST_SIDE as f32 / side;
        let [width, height] =
            [picture.width, picture.height].map(|side| bounded(side as f32 * scale, MOST_SIDE).max(1));
        let plane = MOST_SIDE as usize * MOST_SIDE as usize;
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        for y in 0..height as usize {
            for x in 0..width as usize {
                let at = y * MOST_SIDE as usize + x;
                rgb.extend(planes.get(at..).into_iter().flat_map(|rest| rest.iter().step_by(plane)).map(level));
            }
        }
        Self { picture: RgbPicture { width, height, rgb }, scale, pen: 2.0 }
    }

    fn place(&self, mesh: &Mesh, at: usize) -> [f32; 2] {
        let [x, y, _] = mesh.point(at);
        [x * self.scale, y * self.scale]
    }

    fn mesh(&mut self, mesh: &Mesh) {
        let mut edges: Vec<(u16, u16)> = topology::TRIANGLES
            .iter()
            .flat_map(|[a, b, c]| [(*a, *b), (*b, *c), (*c, *a)])
            .map(|(from, to)| (from.min(to), from.max(to)))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        self.region(mesh);
        for (from, to) in edges {
            let (from, to) = (self.place(mesh, from.into()), self.place(mesh, to.into()));
            self.line(from, to, 0.6 * self.pen, MESH, 0.3);
        }
        self.features(mesh, 1.0);
    }

    /// The lower face, which a mouth moves.
    fn region(&mut self, mesh: &Mesh) {
        let jaw = parts::OUTLINE.iter().skip(10).take(17).copied();
        let above = [50, 205, 98, parts::NOSE_BASE, 327, 425, 280];
        let corners: Vec<[f32; 2]> = jaw.chain(above).map(|at| self.place(mesh, at)).collect();
        self.fill(&corners, MOUTH, 0.22);
    }

    fn features(&mut self, mesh: &Mesh, strength: f32) {
        let lips =
            [&parts::UPPER_LIP_OUTER[..], &parts::LOWER_LIP_OUTER, &parts::UPPER_LIP_INNER, &parts::LOWER_LIP_INNER];
        let lids =
            [&parts::LEFT_UPPER_LID[..], &parts::LEFT_LOWER_LID, &parts::RIGHT_UPPER_LID, &parts::RIGHT_LOWER_LID];
        let rest = [&parts::LEFT_BROW[..], &parts::RIGHT_BROW, &parts::OUTLINE];
        for (lines, colour, strength) in
            [(&rest[..], MESH, 0.7 * strength), (&lips, LIPS, strength), (&lids, LIDS, strength)]
        {
            for line in lines {
                self.run(mesh, line, colour, strength);
            }
        }
        let ends = (parts::OUTLINE[35], parts::OUTLINE[0]);
        self.run(mesh, &[ends.0, ends.1], MESH, 0.7 * strength);
    }

    fn run(&mut self, mesh: &Mesh, points: &[usize], colour: [u8; 3], strength: f32) {
        for (from, to) in points.iter().zip(points.iter().skip(1)) {
            let (from, to) = (self.place(mesh, *from), self.place(mesh, *to));
            self.line(from, to, self.pen, colour, strength);
        }
    }

    /// A box of which only the corners are drawn, and a number in it.
    fn frame(&mut self, face: &Face, colour: [u8; 3], number: Option<usize>) {
        let bounds = face.bounds;
        let [left, top] = [bounds.x * self.scale, bounds.y * self.scale];
        let [width, height] = [bounds.width * self.scale, bounds.height * self.scale];
        let arm = 0.18 * width.min(height);
        for (x, y, right, down) in [
            (left, top, arm, arm),
            (left + width, top, -arm, arm),
            (left, top + height, arm, -arm),
            (left + width, top + height, -arm, -arm),
        ] {
            self.line([x, y], [x + right, y], 1.5 * self.pen, colour, 1.0);
            self.line([x, y], [x, y + down], 1.5 * self.pen, colour, 1.0);
        }
        if let Some(number) = number {
            self.number(number, [left, top], (0.03 * width).max(2.0 * self.pen), colour);
        }
    }

    /// Digits of dots that are `dot` wide, on a plate whose lower left corner is given, or upper one where there is no room.
    fn number(&mut self, number: usize, [x, y]: [f32; 2], dot: f32, colour: [u8; 3]) {
        let digits: Vec<u32> = number.to_string().chars().filter_map(|digit| digit.to_digit(10)).collect();
        let y = (y - 8.0 * dot).max(0.0);
        let right = x + dot * (4.0 * digits.len() as f32 + 1.0);
        self.fill(&[[x, y], [right, y], [right, y + 7.0 * dot], [x, y + 7.0 * dot]], [20, 24, 28], 0.75);
        for (place, digit) in (0_u16..).zip(digits) {
            let rows = DIGITS.get(digit as usize).copied().unwrap_or_default();
            for (row, bits) in (0_u16..).zip(rows) {
                for column in (0..3_u16).filter(|column| bits & (4 >> column) != 0) {
                    let at = x + dot * (1.0 + 4.0 * f32::from(place) + f32::from(column));
                    let down = y + dot * (1.0 + f32::from(row));
                    let (across, below) = (at + dot, down + dot);
                    self.fill(&[[at, down], [across, down], [across, below], [at, below]], colour, 1.0);
                }
            }
        }
    }

    fn line(&mut self, from: [f32; 2], to: [f32; 2], width: f32, colour: [u8; 3], strength: f32) {
        let reach = width / 2.0 + 1.0;
        let along = [to[0] - from[0], to[1] - from[1]];
        let length = (along[0] * along[0] + along[1] * along[1]).max(1e-6);
        let low = [from[0].min(to[0]) - reach, from[1].min(to[1]) - reach];
        let high = [from[0].max(to[0]) + reach, from[1].max(to[1]) + reach];
        self.paint(low, high, colour, |[x, y]| {
            let [dx, dy] = [x - from[0], y - from[1]];
            let at = ((dx * along[0] + dy * along[1]) / length).clamp(0.0, 1.0);
            let distance = (dx - at * along[0]).hypot(dy - at * along[1]);
            strength * (width / 2.0 + 0.5 - distance).clamp(0.0, 1.0) * width.min(1.0)
        });
    }

    /// A polygon, by the even-odd rule, in four samples a pixel.
    fn fill(&mut self, corners: &[[f32; 2]], colour: [u8; 3], strength: f32) {
        let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
        for corner in corners {
            for axis in [0, 1] {
                low[axis] = low[axis].min(corner[axis]);
                high[axis] = high[axis].max(corner[axis]);
            }
        }
        let edges = || corners.iter().zip(corners.iter().cycle().skip(1));
        let inside = |[x, y]: [f32; 2]| {
            let crosses = |a: &[f32; 2], b: &[f32; 2]| {
                (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
            };
            edges().filter(|(a, b)| crosses(a, b)).count() % 2 == 1
        };
        self.paint(low, high, colour, |[x, y]| {
            let samples = [[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]];
            let hits = samples.iter().filter(|[dx, dy]| inside([x + dx, y + dy])).count();
            strength * hits as f32 / 4.0
        });
    }

    /// Mixes a colour in, as much as `share` says for the middle of each pixel of a rectangle.
    fn paint(&mut self, low: [f32; 2], high: [f32; 2], colour: [u8; 3], share: impl Fn([f32; 2]) -> f32) {
        let (width, height) = (self.picture.width, self.picture.height);
        let (left, right) = (bounded(low[0].floor(), width), bounded(high[0].ceil(), width));
        let (top, bottom) = (bounded(low[1].floor(), height), bounded(high[1].ceil(), height));
        let (pixels, _) = self.picture.rgb.as_chunks_mut::<3>();
        for y in top..bottom {
            for x in left..right {
                let share = share([x as f32 + 0.5, y as f32 + 0.5]);
                let at = y as usize * width as usize + x as usize;
                if let Some(pixel) = pixels.get_mut(at).filter(|_| share > 0.0) {
                    for (value, ink) in pixel.iter_mut().zip(colour) {
                        *value = level(&((f32::from(*value) * (1.0 - share) + f32::from(ink) * share) / 255.0));
                    }
                }
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
fn bounded(value: f32, most: u32) -> u32 {
    (value.max(0.0) as u32).min(most)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
fn level(value: &f32) -> u8 {
    (value * 255.0).round().clamp(0.0, 255.0) as u8
}
