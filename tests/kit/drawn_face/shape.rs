//! Where each point of a drawn face is: the canonical model, bent into somebody's, speaking, turned, seen by a camera.

use mouthpiece::face::parts;

use super::{Bearing, Person};

/// Centimetres from ear to ear of the canonical model, and from the camera.
const WIDTH: f32 = 15.33;
const CAMERA: f32 = 70.0;

pub struct Shape {
    /// x and y in pixels, depth in centimetres towards the camera.
    pub points: Vec<[f32; 3]>,
    /// Of each point, of length 1, y down.
    pub normals: Vec<[f32; 3]>,
    /// Pixels in a centimetre.
    pub scale: f32,
    /// Where a place in the head's own coordinates is drawn.
    place: Place,
}

#[derive(Clone, Copy)]
struct Place {
    turn: [[f32; 3]; 3],
    middle: [f32; 2],
    scale: f32,
}

impl Shape {
    /// The middle of an eyeball, from its place in the model.
    pub fn place(&self, at: [f32; 3]) -> [f32; 2] {
        let [x, y, _] = self.place.of(at);
        [x, y]
    }
}

impl Place {
    fn turned(&self, at: [f32; 3]) -> [f32; 3] {
        self.turn.map(|row| row.iter().zip(at).map(|(a, b)| a * b).sum())
    }

    fn of(&self, at: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = self.turned(at);
        let zoom = self.scale * CAMERA / (CAMERA - z);
        [self.middle[0] + x * zoom, self.middle[1] - y * zoom, z]
    }
}

fn canonical() -> Vec<[f32; 3]> {
    include_str!("../../fixtures/face/canonical.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let numbers: Vec<f32> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            [numbers[0], numbers[1], numbers[2]]
        })
        .collect()
}

fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 at a place and 0 far from it.
fn bell(x: f32, y: f32, wide: f32, high: f32) -> f32 {
    (-(x / wide).powi(2) - (y / high).powi(2)).exp()
}

pub fn of(person: &Person, bearing: &Bearing, side: u32, width: f32) -> Shape {
    let mut points = canonical();
    let seam = -4.25;
    for [x, y, z] in &mut points {
        *x *= 1.0 + (person.jaw - 1.0) * smooth(0.0, -6.0, *y);
        let below = (-1.0 - *y).max(0.0);
        *y -= below * (person.chin - 1.0);
        let eye = x.signum() * 3.15;
        let near = bell(*x - eye, *y - 2.6, 2.4, 1.6);
        *x += near * ((*x - eye) * (person.eyes - 1.0) + eye * (person.eyes_apart - 1.0));
        *y += near * (*y - 2.6) * (person.eyes - 1.0);
        let near = bell(*x, *y + 1.2, 2.0, 2.0);
        *x *= 1.0 + near * (person.nose - 1.0);
        *z += near * (person.nose - 1.0) * 1.5;
    }
    let seam = seam - (-1.0 - seam) * (person.chin - 1.0);
    for point in &mut points {
        let near = bell(point[0], point[1] - seam, 3.4, 1.7);
        point[0] *= 1.0 + near * (person.mouth - 1.0 + 0.16 * bearing.smile - 0.34 * bearing.round);
        point[2] += near * (0.5 * bearing.round - 0.25 * bearing.smile);
    }
    let lines = [
        (parts::UPPER_LIP_OUTER, parts::UPPER_LIP_INNER, 1.0_f32),
        (parts::LOWER_LIP_OUTER, parts::LOWER_LIP_INNER, -1.0),
    ];
    // Lips are closed in the middle of their inner edges first, made thicker, then parted.
    let middle: Vec<f32> = (0..11)
        .map(|at| (points[parts::UPPER_LIP_INNER[at]][1] + points[parts::LOWER_LIP_INNER[at]][1]) / 2.0)
        .collect();
    for (outer, inner, up) in lines {
        for at in 1..10 {
            let thick = (points[outer[at]][1] - points[inner[at]][1]) * person.lip;
            points[inner[at]][1] = middle[at] + up * 0.02;
            points[outer[at]][1] = middle[at] + thick;
        }
    }
    let drop = 2.3 * bearing.open;
    let corner = points[parts::MOUTH_CORNERS[1]][0];
    let lower: Vec<usize> =
        [&parts::LOWER_LIP_INNER[1..10], &parts::LOWER_LIP_OUTER[1..10]].into_iter().flatten().copied().collect();
    for (at, point) in points.iter_mut().enumerate() {
        let [x, y, _] = *point;
        let within = (1.0 - (x / corner).powi(2)).max(0.0).sqrt();
        let sink = if lower.contains(&at) {
            within
        } else if parts::LOWER_LIP_OUTER.contains(&at) || parts::UPPER_LIP_INNER.contains(&at) {
            0.0
        } else {
            smooth(seam - 0.6, seam - 2.4, y) * (1.0 - smooth(3.5, 7.5, x.abs()))
        };
        point[1] -= drop * sink;
        point[2] -= 0.35 * drop * sink;
        let near = bell(x.abs() - corner, y - seam, 1.4, 1.2);
        point[1] += 0.75 * bearing.smile * near;
    }
    for (upper, under) in
        [(parts::LEFT_UPPER_LID, parts::LEFT_LOWER_LID), (parts::RIGHT_UPPER_LID, parts::RIGHT_LOWER_LID)]
    {
        for at in 1..8 {
            let low = points[under[at]];
            points[upper[at]][1] += (low[1] + 0.05 - points[upper[at]][1]) * bearing.blink;
        }
    }

    let [yaw, pitch, roll] = [bearing.yaw, bearing.pitch, -bearing.roll].map(f32::to_radians);
    let ((sy, cy), (sp, cp), (sr, cr)) = (yaw.sin_cos(), pitch.sin_cos(), roll.sin_cos());
    let about_y = [[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]];
    let about_x = [[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]];
    let about_z = [[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]];
    let turn = product(about_z, product(about_x, about_y));
    let half = side as f32 / 2.0;
    let place = Place { turn, middle: [half + bearing.shift[0], half + bearing.shift[1]], scale: width / WIDTH };
    let turned: Vec<[f32; 3]> = points.iter().map(|point| place.turned(*point)).collect();
    Shape {
        normals: normals(&turned),
        points: points.iter().map(|point| place.of(*point)).collect(),
        scale: place.scale,
        place,
    }
}

fn product(a: [[f32; 3]; 3], b: [[f32; 3]; 3]) -> [[f32; 3]; 3] {
    a.map(|row| [0, 1, 2].map(|column| (0..3).map(|at| row[at] * b[at][column]).sum()))
}

fn normals(points: &[[f32; 3]]) -> Vec<[f32; 3]> {
    let mut normals = vec![[0.0_f32; 3]; points.len()];
    for corners in mouthpiece::face::topology::TRIANGLES {
        let [a, b, c] = corners.map(|at| points[usize::from(at)]);
        let (u, v) = ([0, 1, 2].map(|i| b[i] - a[i]), [0, 1, 2].map(|i| c[i] - a[i]));
        let cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        let outward = if cross[2] < 0.0 { -1.0 } else { 1.0 };
        for at in corners {
            normals[usize::from(at)].iter_mut().zip(cross).for_each(|(sum, part)| *sum += outward * part);
        }
    }
    for normal in &mut normals {
        let length = normal.iter().map(|part| part * part).sum::<f32>().sqrt().max(1e-6);
        normal.iter_mut().for_each(|part| *part /= length);
    }
    normals
}
