//! The lips: first moved as a whole to where there is lip within their edge and skin around it, then their outer edge, then
//! their inner one.
//!
//! In here: what each step looks for, and whether it was found. Not in here: how an edge is looked for (`contour`).

use super::divide::{Divide, median};
use super::{Contour, DENSE, FOLLOWS, ROUNDS, flat, follow};
use crate::face::sampling::colour;
use crate::face::{Mesh, parts};
use crate::picture::RgbPicture;

/// The lips' outer edge, clockwise from the left corner.
#[rustfmt::skip]
pub(super) const RING: [usize; 20] =
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146];
/// Places on the ring's dense contour from one corner to the other.
const HALF: usize = 10 * DENSE;

// Lengths are in shares of the eyes' distance.
const STEP: f32 = 0.008;
const REACH: usize = 20;
/// Beyond the lips by so much is skin.
const SKIN: f32 = 0.22;
/// How far inside and outside of the edge its two sides are looked at while the lips are moved as a whole.
const SIDES: [f32; 2] = [0.02, 0.05];
/// What is tried of moves of the lips as a whole, and of stretches of their width and height.
const ACROSS: [f32; 3] = [-0.035, 0.0, 0.035];
const DOWN: [f32; 5] = [-0.03, 0.0, 0.03, 0.06, 0.09];
const WIDTHS: [f32; 5] = [0.66, 0.77, 0.88, 1.0, 1.12];
const HEIGHTS: [f32; 5] = [0.7, 0.85, 1.0, 1.2, 1.45];
/// An edge all around that is better by less is not worth a move.
const WORTH: f32 = 0.02;
/// An edge must be so clear to be that of the lips, and clearer than where the network put it by so much.
const CLEAR: f32 = 0.4;
const CLEARER: f32 = 0.1;
/// Lips do not become smaller or larger by more: what is smaller is the dark between them.
const GROWTH: std::ops::Range<f32> = 0.53..1.4;
/// How many places of the ring a corner slides along it at most.
const SLIDE: usize = 2 * DENSE + DENSE / 2;
/// Lips that are less apart are shut, and lines between shut lips lie in their seam.
const SHUT: f32 = 0.035;
const INNER_STEP: f32 = 0.006;
const INNER_REACH: usize = 14;

/// Whether the lips were found; if not, they are left where they were.
pub(super) fn fit(picture: &RgbPicture, mesh: &mut Mesh, unit: f32, fixed: &[usize]) -> bool {
    let found = mesh.clone();
    for _ in 0..2 {
        shift(picture, mesh, unit);
    }
    let middle = mesh.clone();
    for _ in 0..ROUNDS {
        let ring = Contour::new(mesh, &RING, true);
        let offsets = ring.settle(&costs(picture, mesh, &ring, unit), 0.02, STEP * unit, REACH, 4);
        let moves = ring.moves(&offsets);
        follow(mesh, &RING, &moves, unit * FOLLOWS, fixed);
        turn_to_corners(mesh);
    }
    // On photographs the network knows lips better than colour does, unless colour is clear about them.
    let (before, now) = (clarity(picture, &found, unit), clarity(picture, mesh, unit));
    let grown = area(mesh) / area(&found).max(1e-3);
    if now < CLEAR.max(before + CLEARER) || !GROWTH.contains(&grown) {
        *mesh = found;
        return false;
    }
    inner(picture, mesh, &middle, unit);
    let moved: Vec<[f32; 2]> = RING
        .iter()
        .map(|at| {
            let (to, from) = (flat(&middle, *at), flat(&found, *at));
            [to[0] - from[0], to[1] - from[1]]
        })
        .collect();
    let lips: Vec<usize> =
        fixed.iter().chain(&RING).chain(&parts::UPPER_LIP_INNER).chain(&parts::LOWER_LIP_INNER).copied().collect();
    // What is around the lips goes with their shift, too.
    let own: Vec<[f32; 3]> = lips.iter().map(|at| mesh.point(*at)).collect();
    follow(mesh, &RING, &moved, unit * FOLLOWS, &lips);
    for (at, own) in lips.iter().zip(own) {
        mesh.points[*at] = own;
    }
    true
}

/// Lets the ring's points slide along it until its corners are where it reaches farthest to either side: the moves to an edge
/// are across it, so a corner that the network put too high or too low on it stayed so.
fn turn_to_corners(mesh: &mut Mesh) {
    let ring = Contour::new(mesh, &RING, true).places;
    let (sin, cos) = mesh.roll().sin_cos();
    let across = |at: usize| ring[at % ring.len()][0] * cos + ring[at % ring.len()][1] * sin;
    let near = |corner: usize, side: f32| {
        let places = corner + ring.len() - SLIDE..=corner + ring.len() + SLIDE;
        places.max_by(|one, other| (side * across(*one)).total_cmp(&(side * across(*other)))).unwrap_or(corner)
    };
    let (left, right) = (near(0, -1.0), near(HALF, 1.0));
    // Clockwise from the left corner over the upper lip, then back over the lower one.
    for (from, to, first) in [(left, right, 0), (right, left + ring.len(), RING.len() / 2)] {
        let from = if from > to { from - ring.len() } else { from };
        for step in 0..RING.len() / 2 {
            let at = from as f32 + (to - from) as f32 * step as f32 / (RING.len() / 2) as f32;
            let (whole, part) = (at.floor(), at.fract());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place on the ring")]
            let whole = whole as usize;
            let (a, b) = (ring[whole % ring.len()], ring[(whole + 1) % ring.len()]);
            if let Some(point) = RING.get(first + step).and_then(|point| mesh.points.get_mut(*point)) {
                (point[0], point[1]) = (a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part);
            }
        }
    }
}

/// What the lips' outer edge encloses, in pixels.
fn area(mesh: &Mesh) -> f32 {
    let next = RING.iter().cycle().skip(1);
    let twice = RING.iter().zip(next).map(|(at, next)| {
        let (a, b) = (flat(mesh, *at), flat(mesh, *next));
        a[0] * b[1] - a[1] * b[0]
    });
    twice.sum::<f32>().abs() / 2.0
}

/// The colours of each lip against those of the skin around it.
fn divides(picture: &RgbPicture, mesh: &Mesh, ring: &Contour, unit: f32) -> [Divide; 2] {
    let lips = [
        (parts::UPPER_LIP_OUTER, parts::UPPER_LIP_INNER, 0..HALF + 1),
        (parts::LOWER_LIP_OUTER, parts::LOWER_LIP_INNER, HALF..ring.places.len()),
    ];
    let [upper, lower] = lips.map(|(outer, inner, places)| {
        let middle = |at: usize| {
            let (a, b) = (flat(mesh, outer[at]), flat(mesh, inner[at]));
            colour(picture, [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0])
        };
        let skin = |at: usize| colour(picture, ring.beside(at, SKIN * unit));
        ((1..10).map(middle).collect::<Vec<_>>(), places.map(skin).collect::<Vec<_>>())
    });
    // Where the network puts the upper lip, there may be skin; the lower one it hits.
    let (own, other) = (Divide::new(&upper.0, &upper.1), Divide::new(&lower.0, &upper.1));
    [if 3.0 * own.apart > other.apart { own } else { other }, Divide::new(&lower.0, &lower.1)]
}

/// Moves and stretches the lips as a whole to where there is most lip within their edge and most skin beyond it.
fn shift(picture: &RgbPicture, mesh: &mut Mesh, unit: f32) {
    let ring = Contour::new(mesh, &RING, true);
    let divides = divides(picture, mesh, &ring, unit);
    let count = ring.places.len() as f32;
    let middle = [0, 1].map(|axis| ring.places.iter().map(|place| place[axis]).sum::<f32>() / count);
    let (sin, cos) = mesh.roll().sin_cos();
    let moved = |[x, y]: [f32; 2], [dx, dy, wide, high]: [f32; 4]| {
        let (x, y) = (x - middle[0], y - middle[1]);
        let (u, v) = ((x * cos + y * sin) * wide + dx * unit, (y * cos - x * sin) * high + dy * unit);
        [middle[0] + u * cos - v * sin, middle[1] + u * sin + v * cos]
    };
    let score = |change: [f32; 4]| {
        let edges = ring.places.iter().zip(&ring.normals).enumerate().step_by(2).map(|(at, (place, normal))| {
            let divide = &divides[usize::from(at > HALF)];
            let [x, y] = moved(*place, change);
            let lip = |away: f32| divide.lip(colour(picture, [x + normal[0] * away, y + normal[1] * away]));
            let edge: f32 = SIDES.iter().map(|side| lip(-side * unit) - lip(side * unit)).sum::<f32>();
            divide.weight() * (edge / SIDES.len() as f32).clamp(-0.5, 1.0)
        });
        let [dx, dy, wide, high] = change;
        let far = (dx / 0.15).powi(2) + (dy / 0.2).powi(2) + (wide.ln() / 0.6).powi(2) + (high.ln() / 0.8).powi(2);
        2.0 * edges.sum::<f32>() / count - 0.15 * far
    };
    let none = [0.0, 0.0, 1.0, 1.0];
    let mut best = (score(none) + WORTH, none);
    let look = |change: [f32; 4], best: &mut (f32, [f32; 4])| {
        let score = score(change);
        if score > best.0 {
            *best = (score, change);
        }
    };
    for across in ACROSS {
        for down in DOWN {
            for wide in WIDTHS {
                for high in HEIGHTS {
                    look([across, down, wide, high], &mut best);
                }
            }
        }
    }
    if best.1 == none {
        return;
    }
    for at in RING.iter().chain(&parts::UPPER_LIP_INNER).chain(&parts::LOWER_LIP_INNER[1..10]) {
        if let Some(point) = mesh.points.get_mut(*at) {
            [point[0], point[1]] = moved([point[0], point[1]], best.1);
        }
    }
}

/// How clear an edge between lip and skin the lips' outer edge lies on, at most 1.
fn clarity(picture: &RgbPicture, mesh: &Mesh, unit: f32) -> f32 {
    let ring = Contour::new(mesh, &RING, true);
    let divides = divides(picture, mesh, &ring, unit);
    let edges = (0..ring.places.len()).map(|at| {
        let divide = &divides[usize::from(at > HALF)];
        let lip = |away: f32| divide.lip(colour(picture, ring.beside(at, away)));
        let edge: f32 = SIDES.iter().map(|side| lip(-side * unit) - lip(side * unit)).sum();
        divide.weight() * (edge / SIDES.len() as f32).clamp(-0.5, 1.0)
    });
    edges.sum::<f32>() / ring.places.len() as f32
}

/// The inner lines: each goes with the outer one of its lip, then to the edge or the seam that the picture has near it.
fn inner(picture: &RgbPicture, mesh: &mut Mesh, before: &Mesh, unit: f32) {
    let lips = [
        (parts::UPPER_LIP_OUTER, parts::UPPER_LIP_INNER, 1.0_f32),
        (parts::LOWER_LIP_OUTER, parts::LOWER_LIP_INNER, -1.0),
    ];
    let gap = |mesh: &Mesh| {
        let (a, b) = (flat(mesh, 13), flat(mesh, 14));
        (b[0] - a[0]).hypot(b[1] - a[1]) / unit
    };
    let moves = lips.map(|(outer, ..)| {
        outer.map(|at| {
            let (to, from) = (flat(mesh, at), flat(before, at));
            [to[0] - from[0], to[1] - from[1]]
        })
    });
    let apart = ((gap(before) - SHUT) / SHUT).clamp(0.0, 1.0);
    for (side, (_, line, _)) in lips.iter().enumerate() {
        for (at, index) in line.iter().enumerate().take(10).skip(1) {
            let (own, other) = (moves[side][at], moves[1 - side][at]);
            let [x, y] = flat(before, *index);
            let both = [0, 1].map(|axis| own[axis] + (other[axis] - own[axis]) * 0.5 * (1.0 - apart));
            (mesh.points[*index][0], mesh.points[*index][1]) = (x + both[0], y + both[1]);
        }
    }
    for (index, corner) in [(78, 0), (308, 10)] {
        let ([x, y], by) = (flat(before, index), moves[0][corner]);
        (mesh.points[index][0], mesh.points[index][1]) = (x + by[0], y + by[1]);
    }
    if gap(mesh) < SHUT {
        return;
    }
    for _ in 0..2 {
        let found = lips.map(|(outer, line, side)| {
            let middle = |at: usize| {
                let (a, b) = (flat(mesh, outer[at]), flat(mesh, line[at]));
                colour(picture, [0.6 * a[0] + 0.4 * b[0], 0.6 * a[1] + 0.4 * b[1]])
            };
            let own = median(&(2..9).map(middle).collect::<Vec<_>>());
            let contour = Contour::new(mesh, &line, false);
            let costs: Vec<Vec<f32>> = (0..contour.places.len())
                .map(|at| {
                    let values: Vec<f32> = (0..2 * INNER_REACH + 7)
                        .map(|step| (step as f32 - INNER_REACH as f32 - 3.0) * INNER_STEP * unit)
                        .map(|offset| {
                            let there = colour(picture, contour.beside(at, offset));
                            let away = (0..3).map(|axis| (there[axis] - own[axis]).powi(2)).sum::<f32>();
                            (-away / (2.0 * 40.0_f32.powi(2))).exp()
                        })
                        .collect();
                    (0..=2 * INNER_REACH)
                        .map(|column| {
                            let offset = (column as f32 - INNER_REACH as f32) * INNER_STEP;
                            let mean = |from: usize| values[from..from + 3].iter().sum::<f32>() / 3.0;
                            let edge = (side * (mean(column) - mean(column + 4))).clamp(-0.5, 1.0);
                            0.5 * (offset / 0.08).powi(2) - edge
                        })
                        .collect()
                })
                .collect();
            let offsets = contour.settle(&costs, 0.02, INNER_STEP * unit, INNER_REACH, 2);
            contour.moves(&offsets)
        });
        for ((_, line, _), moves) in lips.iter().zip(found) {
            for (index, by) in line.iter().zip(moves).take(10).skip(1) {
                (mesh.points[*index][0], mesh.points[*index][1]) =
                    (mesh.points[*index][0] + by[0], mesh.points[*index][1] + by[1]);
            }
        }
    }
}

/// What it costs the lips' outer edge to be at each offset: nothing pays but lip inside and skin outside. Both lips have
/// their own colours; a pale one stays where it is.
fn costs(picture: &RgbPicture, mesh: &Mesh, ring: &Contour, unit: f32) -> Vec<Vec<f32>> {
    let lips = [(parts::UPPER_LIP_OUTER, parts::UPPER_LIP_INNER), (parts::LOWER_LIP_OUTER, parts::LOWER_LIP_INNER)];
    let divides = divides(picture, mesh, ring, unit);
    (0..ring.places.len())
        .map(|at| {
            let side = usize::from(at > HALF);
            let (divide, (outer, inner)) = (&divides[side], &lips[side]);
            let near = if side == 0 { at / DENSE } else { 20_usize.saturating_sub(at / DENSE) }.min(10);
            let (a, b) = (flat(mesh, outer[near]), flat(mesh, inner[near]));
            let thick = (a[0] - b[0]).hypot(a[1] - b[1]);
            // Lips as the contour would have them, three steps beyond either end.
            let values: Vec<f32> = (0..2 * REACH + 7)
                .map(|step| (step as f32 - REACH as f32 - 3.0) * STEP * unit)
                .map(|offset| divide.lip(colour(picture, ring.beside(at, offset))))
                .collect();
            (0..=2 * REACH)
                .map(|column| {
                    let offset = (column as f32 - REACH as f32) * STEP;
                    let mean = |from: usize| values[from..from + 3].iter().sum::<f32>() / 3.0;
                    let edge = (mean(column) - mean(column + 4)).clamp(-0.5, 1.0);
                    // Half of a lip is left at least.
                    let squeezed = -offset * unit > (0.5 * thick).max(STEP * unit);
                    0.5 * (offset / 0.12).powi(2) - divide.weight() * edge + if squeezed { 4.0 } else { 0.0 }
                })
                .collect()
        })
        .collect()
}
