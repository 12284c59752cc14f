//! A person cut out of a picture whose background is plain: a green screen, or a wall of one colour.
//!
//! In here: what the background looks like by the picture's edge, what of the picture is it, and how much of each pixel along
//! the person's edge is person: with the colours of both known around it, that is where between them the pixel's own lies (as
//! in all matting with a known background: Smith and Blinn, "Blue screen matting", 1996). Colours that a screen throws on the
//! edge are taken out of it, and those of the person go on behind it (`picture::extension`). Not in here: pictures that have an
//! alpha channel of their own. Pure.
//!
//! The lower part of a picture's edge is where shoulders are, so it is not looked at. What is enclosed by the person is
//! background only if the background has a colour that people do not have, and if it is large: eyes have no holes. A shadow
//! on a grey or white wall stays with the person.

use super::PreparationError;
use crate::picture::{Cutout, Mask, RgbPicture, extension};

/// How much of the edge that is looked at must be background, of one colour.
const LEAST_PLAIN: f32 = 0.8;
/// How far a background's pixels may be from its colour, in levels: at least, and at most, whatever the noise.
const NEAR: [f32; 2] = [10.0, 26.0];
/// A pixel that is farther than this from all mixtures is of a colour of its own, in levels.
const UNEXPLAINED: f32 = 40.0;
/// Two colours that are nearer to each other than this do not say what is between them.
const ALIKE: f32 = 20.0;
/// A background of more colour than this, in levels, is one that people do not have.
const COLOURFUL: f32 = 40.0;
/// Brightness counts so much of colour there: screens have shadows and creases.
const BRIGHTNESS: f32 = 0.5;
/// What is enclosed and of a colourful background's colour is it if it has one of so many pixels of the picture.
const LARGE_ENOUGH: usize = 667;
/// Below it a pixel is transparent and above one minus it opaque: noise of a camera is no glass.
const SPECK: f32 = 0.06;

/// The colour of a plain background, which may change slowly over the picture.
#[derive(Clone, Debug)]
pub(super) struct Backdrop {
    /// Of 1, x, y, x², xy and y² for luma, blue and red chroma; x and y are -1 to 1 from side to side.
    surface: [[f32; 6]; 3],
    /// How far from it a pixel may be that is background.
    near: f32,
    /// Unit vector of its chroma, if it is colourful.
    hue: Option<[f32; 2]>,
}

/// Why a picture cannot be cut out of its background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct NotPlain {
    /// How much of the edge is of one colour.
    share: f32,
}

impl NotPlain {
    /// As an error of the file.
    pub(super) fn of(self, file: &str) -> PreparationError {
        let percent = |share: f32| (share * 100.0).floor();
        let problem = format!(
            "has no plain background: {} % of its edge (the lower part aside) is of one colour, {} % must be; use a picture \
             with an alpha channel and --alpha own, or one before a green screen or an evenly lit wall",
            percent(self.share),
            percent(LEAST_PLAIN)
        );
        PreparationError::Clip { file: file.to_owned(), problem }
    }
}

/// Luma, blue and red chroma, in levels; chroma around 0.
fn split([red, green, blue]: [u8; 3]) -> [f32; 3] {
    let [red, green, blue] = [red, green, blue].map(f32::from);
    let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
    [luma, 0.564 * (blue - luma), 0.713 * (red - luma)]
}

fn joined([luma, cb, cr]: [f32; 3]) -> [f32; 3] {
    let (red, blue) = (luma + cr / 0.713, luma + cb / 0.564);
    [red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue]
}

/// What a surface's coefficients are multiplied with.
fn terms(x: usize, y: usize, width: usize, height: usize) -> [f32; 6] {
    let across = 2.0 * x as f32 / width.max(2) as f32 - 1.0;
    let down = 2.0 * y as f32 / height.max(2) as f32 - 1.0;
    [1.0, across, down, across * across, across * down, down * down]
}

/// One pixel of the edge.
struct Sample {
    terms: [f32; 6],
    colour: [f32; 3],
}

impl Backdrop {
    /// Looks at the edge of a picture.
    pub(super) fn find(picture: &RgbPicture) -> Result<Self, NotPlain> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let (across, down) = ((width / 24).max(2), (height / 24).max(2));
        let pixels = picture.rgb.as_chunks::<3>().0;
        let mut samples = Vec::new();
        for y in (0..height * 3 / 5).step_by(2) {
            for x in (0..width).step_by(2) {
                if y >= down && (across..width.saturating_sub(across)).contains(&x) {
                    continue;
                }
                let Some(pixel) = pixels.get(y * width + x) else { continue };
                samples.push(Sample { terms: terms(x, y, width, height), colour: split(*pixel) });
            }
        }
        let middle = |at: usize| {
            let mut levels: Vec<f32> = samples.iter().map(|sample| sample.colour[at]).collect();
            let half = levels.len() / 2;
            if levels.is_empty() { 0.0 } else { *levels.select_nth_unstable_by(half, f32::total_cmp).1 }
        };
        let colour = [middle(0), middle(1), middle(2)];
        let strength = colour[1].hypot(colour[2]);
        let hue = (strength > COLOURFUL).then(|| [colour[1] / strength, colour[2] / strength]);
        let surface = colour.map(|level| [level, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let mut backdrop = Self { surface, near: 2.0 * NEAR[1], hue };
        // First what is near the colour of most, then closer and closer to a surface through those.
        for _ in 0..4 {
            let inside =
                samples.iter().filter(|sample| backdrop.distance(sample.colour, &sample.terms) < backdrop.near);
            let inside: Vec<&Sample> = inside.collect();
            if (inside.len() as f32) < LEAST_PLAIN * 0.7 * samples.len() as f32 {
                break;
            }
            backdrop.surface = fitted(&inside);
            let squares = inside.iter().map(|sample| backdrop.distance(sample.colour, &sample.terms).powi(2));
            let deviation = (squares.sum::<f32>() / inside.len().max(1) as f32).sqrt();
            backdrop.near = (3.5 * deviation + 4.0).clamp(NEAR[0], NEAR[1]);
        }
        let inside = samples.iter().filter(|sample| backdrop.distance(sample.colour, &sample.terms) < backdrop.near);
        let share = inside.count() as f32 / samples.len().max(1) as f32;
        if share >= LEAST_PLAIN { Ok(backdrop) } else { Err(NotPlain { share }) }
    }

    /// How far a colour is from the background's at a place, in levels.
    fn distance(&self, colour: [f32; 3], terms: &[f32; 6]) -> f32 {
        let own = self.surface.map(|surface| surface.iter().zip(terms).map(|(factor, term)| factor * term).sum());
        self.unlike(colour, own)
    }

    /// How far two colours are apart, in levels.
    fn unlike(&self, one: [f32; 3], other: [f32; 3]) -> f32 {
        let off: [f32; 3] = std::array::from_fn(|at| one[at] - other[at]);
        let brightness = if self.hue.is_some() { BRIGHTNESS } else { 1.0 };
        // Chroma has about half the range that luma has.
        ((brightness * off[0]).powi(2) + (2.0 * off[1]).powi(2) + (2.0 * off[2]).powi(2)).sqrt()
    }

    /// Whether much of what must be opaque, a polygon in pixels, looks like the background.
    pub(super) fn takes(&self, picture: &RgbPicture, solid: &[[f32; 2]]) -> bool {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let (mut all, mut alike) = (0_u32, 0_u32);
        let pixels = picture.rgb.as_chunks::<3>().0.iter().zip(inside(solid, width, height)).enumerate();
        for (at, (pixel, _)) in pixels.filter(|(_, (_, inside))| *inside) {
            all += 1;
            let distance = self.distance(split(*pixel), &terms(at % width, at / width, width, height));
            alike += u32::from(distance < self.near);
        }
        alike * 3 > all
    }

    /// The picture cut out. What lies within `solid`, a polygon in pixels, is opaque whatever its colour.
    pub(super) fn cut(&self, picture: &RgbPicture, solid: &[[f32; 2]]) -> Cutout {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let pixels = picture.rgb.as_chunks::<3>().0;
        let mut distances = Vec::with_capacity(pixels.len());
        for (at, pixel) in pixels.iter().enumerate() {
            distances.push(self.distance(split(*pixel), &terms(at % width, at / width, width, height)));
        }
        let solid = inside(solid, width, height);
        let mut empty = self.background(&distances, &solid, width);
        let mut behind = extension::extended(picture, &known(&empty));
        // Light falls off in more ways than a surface has: what is like the background beside it is background too.
        for _ in 0..2 {
            let around = behind.rgb.as_chunks::<3>().0;
            let pairs = pixels.iter().zip(around);
            let distances: Vec<f32> = pairs.map(|(own, behind)| self.unlike(split(*own), split(*behind))).collect();
            let grown = self.background(&distances, &solid, width);
            empty.iter_mut().zip(grown).for_each(|(empty, grown)| *empty |= grown);
            behind = extension::extended(picture, &known(&empty));
        }
        let away = steps_from(&empty, width);
        // As far as the blur of a lens and of a JPEG reaches.
        let blur = (height / 140).max(3);
        let full: Vec<bool> = away.iter().zip(&solid).map(|(away, solid)| *away > blur || *solid).collect();
        let person = extension::extended(picture, &known(&full));
        let matting =
            Matting { pixels, behind: behind.rgb.as_chunks().0, person: person.rgb.as_chunks().0, width, blur };
        let mut alpha = Vec::with_capacity(pixels.len());
        let mut colours = Vec::with_capacity(picture.rgb.len());
        let mut trusted = Vec::with_capacity(pixels.len());
        for (at, pixel) in pixels.iter().enumerate() {
            let is = |set: &[bool]| set.get(at) == Some(&true);
            let (part, colour) = match (is(&empty), is(&full)) {
                (true, _) => (0.0, pixel.map(f32::from)),
                (_, true) => (1.0, pixel.map(f32::from)),
                _ => matting.solve(at),
            };
            // Hair scatters light that comes from behind it.
            let fade = (5.0 - away.get(at).copied().unwrap_or(0) as f32 / blur as f32) / 3.0;
            colours.extend(self.without_spill(colour, fade).map(level));
            alpha.push(level(part * 255.0));
            trusted.push(part);
        }
        let picture = RgbPicture { rgb: colours, ..*picture };
        let matte = Some(Mask { width: picture.width, height: picture.height, alpha });
        Cutout { picture: extension::extended(&picture, &trusted), matte }
    }

    /// Which pixels are nothing but background.
    fn background(&self, distances: &[f32], solid: &[bool], width: usize) -> Vec<bool> {
        let height = distances.len() / width.max(1);
        let like = |at: usize| {
            distances.get(at).is_some_and(|distance| *distance < self.near) && solid.get(at) == Some(&false)
        };
        let mut empty = vec![false; distances.len()];
        let mut seen = vec![false; distances.len()];
        let least = distances.len().div_ceil(LARGE_ENOUGH);
        for start in 0..distances.len() {
            if seen.get(start) != Some(&false) || !like(start) {
                continue;
            }
            let (mut region, mut next, mut at_edge) = (Vec::new(), vec![start], false);
            seen[start] = true;
            while let Some(at) = next.pop() {
                region.push(at);
                let (x, y) = (at % width, at / width);
                at_edge |= x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                let beside = [
                    (x > 0, at.wrapping_sub(1)),
                    (x + 1 < width, at + 1),
                    (y > 0, at.wrapping_sub(width)),
                    (y + 1 < height, at + width),
                ];
                for other in beside.into_iter().filter_map(|(is, other)| is.then_some(other)) {
                    if seen.get(other) == Some(&false) && like(other) {
                        seen[other] = true;
                        next.push(other);
                    }
                }
            }
            // A few pixels at the edge are a light spot on a sleeve.
            let is_large = region.len() >= least;
            if is_large && (at_edge || self.hue.is_some()) {
                region.into_iter().for_each(|at| empty[at] = true);
            }
        }
        empty
    }

    /// A colour of the person without what the background throws on it, all of which is gone where `fade` is 1.
    fn without_spill(&self, rgb: [f32; 3], fade: f32) -> [f32; 3] {
        let Some([blue, red]) = self.hue.filter(|_| fade > 0.0) else { return rgb };
        let [luma, cb, cr] = split(rgb.map(level));
        let spill = cb * blue + cr * red;
        if spill <= 0.0 {
            return rgb;
        }
        let off = spill * fade.min(1.0);
        joined([luma, cb - off * blue, cr - off * red]).map(|value| value.clamp(0.0, 255.0))
    }
}

/// What is known around pixels of which some part is background.
struct Matting<'a> {
    pixels: &'a [[u8; 3]],
    /// The background's colour at each pixel.
    behind: &'a [[u8; 3]],
    /// That of the person, of what is surely all person around.
    person: &'a [[u8; 3]],
    width: usize,
    blur: usize,
}

impl Matting<'_> {
    /// How much of a pixel is person, and of which colour that is: the person's colour around it, or that of the pixel near it
    /// which is least like the background, whichever explains it better; or else its own.
    fn solve(&self, at: usize) -> (f32, [f32; 3]) {
        let colour = |of: &[[u8; 3]]| of.get(at).copied().unwrap_or_default().map(f32::from);
        let (own, behind) = (colour(self.pixels), colour(self.behind));
        let candidates = [colour(self.person), self.purest(at, behind)];
        let solved = candidates.into_iter().filter_map(|person| {
            let part = between(own, behind, person)?.clamp(0.0, 1.0);
            let mixed: [f32; 3] = std::array::from_fn(|at| part * person[at] + (1.0 - part) * behind[at]);
            Some((apart(own, mixed), part, person))
        });
        let best = solved.min_by(|(one, ..), (other, ..)| one.total_cmp(other));
        let Some((_, part, person)) = best.filter(|(off, ..)| *off < UNEXPLAINED) else { return (1.0, own) };
        let part = ((part - SPECK) / (1.0 - 2.0 * SPECK)).clamp(0.0, 1.0);
        if part >= 1.0 {
            return (1.0, own);
        }
        // Where little of the person is in a pixel, its own colour says little.
        let alone = |at: usize| ((own[at] - (1.0 - part) * behind[at]) / part.max(0.05)).clamp(0.0, 255.0);
        (part, std::array::from_fn(|at| part * alone(at) + (1.0 - part) * person[at]))
    }

    /// The colour near a pixel that is farthest from the background's.
    fn purest(&self, at: usize, behind: [f32; 3]) -> [f32; 3] {
        let (x, y) = (at % self.width, at / self.width);
        let around = |at: usize| at.saturating_sub(self.blur)..at + self.blur + 1;
        let (mut purest, mut farthest) = ([0.0; 3], -1.0);
        for row in around(y) {
            for column in around(x).filter(|column| *column < self.width) {
                let Some(pixel) = self.pixels.get(row * self.width + column) else { continue };
                let colour = pixel.map(f32::from);
                let distance = apart(colour, behind);
                if distance > farthest {
                    (purest, farthest) = (colour, distance);
                }
            }
        }
        purest
    }
}

fn apart(one: [f32; 3], other: [f32; 3]) -> f32 {
    one.iter().zip(other).map(|(one, other)| (one - other).powi(2)).sum::<f32>().sqrt()
}

fn known(set: &[bool]) -> Vec<f32> {
    set.iter().map(|is| if *is { 1.0 } else { 0.0 }).collect()
}

/// How far a colour is on the way from one to another; `None` if these are too much alike to say.
fn between(colour: [f32; 3], from: [f32; 3], to: [f32; 3]) -> Option<f32> {
    let way: [f32; 3] = std::array::from_fn(|at| to[at] - from[at]);
    let length: f32 = way.iter().map(|step| step * step).sum();
    let gone: f32 = (0..3).map(|at| (colour[at] - from[at]) * way[at]).sum();
    (length > ALIKE * ALIKE).then(|| gone / length)
}

/// How many pixels each is away from one that is set, at most 250; up, down and across count one.
fn steps_from(set: &[bool], width: usize) -> Vec<usize> {
    const FARTHEST: usize = 250;
    let mut steps: Vec<usize> = set.iter().map(|is| if *is { 0 } else { FARTHEST }).collect();
    let height = set.len() / width.max(1);
    let mut reach = |at: usize, from: usize| {
        let near = steps.get(from).copied().unwrap_or(FARTHEST) + 1;
        if let Some(own) = steps.get_mut(at).filter(|own| **own > near) {
            *own = near;
        }
    };
    for at in 0..set.len() {
        if at % width > 0 {
            reach(at, at - 1);
        }
        if at >= width {
            reach(at, at - width);
        }
    }
    for at in (0..set.len()).rev() {
        if at % width + 1 < width {
            reach(at, at + 1);
        }
        if at / width + 1 < height {
            reach(at, at + width);
        }
    }
    steps
}

/// Which pixels lie within a polygon, by the even-odd rule.
fn inside(polygon: &[[f32; 2]], width: usize, height: usize) -> Vec<bool> {
    let mut within = vec![false; width * height];
    let closed = || polygon.iter().zip(polygon.iter().cycle().skip(1));
    for (y, row) in within.chunks_exact_mut(width.max(1)).enumerate() {
        let y = y as f32 + 0.5;
        let crossings = closed().filter(|([_, from], [_, to])| (*from > y) != (*to > y));
        let mut crossings: Vec<f32> =
            crossings.map(|([x, from], [to_x, to])| x + (y - from) / (to - from) * (to_x - x)).collect();
        crossings.sort_by(f32::total_cmp);
        for pair in crossings.chunks_exact(2) {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel |= (pair[0]..pair[1]).contains(&(x as f32 + 0.5));
            }
        }
    }
    within
}

/// The surface of least squares through the samples.
fn fitted(samples: &[&Sample]) -> [[f32; 6]; 3] {
    let mut normal = [[0.0_f64; 9]; 6];
    for Sample { terms, colour } in samples {
        for (row, own) in normal.iter_mut().zip(terms) {
            for (value, other) in row.iter_mut().zip(terms.iter().chain(colour)) {
                *value += f64::from(*own) * f64::from(*other);
            }
        }
    }
    // What the samples do not tell stays flat.
    for (at, row) in normal.iter_mut().enumerate() {
        row[at] += if at == 0 { 1e-6 } else { 1e-3 * samples.len() as f64 };
    }
    for at in 0..6 {
        let pivot = normal[at];
        for (other, row) in normal.iter_mut().enumerate() {
            let factor = if other == at { 0.0 } else { row[at] / pivot[at] };
            for (value, own) in row.iter_mut().zip(pivot) {
                *value -= factor * own;
            }
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "levels")]
    [6, 7, 8].map(|colour| std::array::from_fn(|at| (normal[at][colour] / normal[at][at]) as f32))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn level(value: f32) -> u8 {
    value.round() as u8
}

#[cfg(test)]
mod tests;
