//! Drawing primitives of the demo character: a window onto the frame, shapes, gradients and blurred shadows.
//!
//! Not here: what is drawn. Pure computation, runs on whichever thread calls it.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Mask, Paint, Path, PathBuilder, Pixmap, Point,
    RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

/// Red, green, blue, each 0..=255, and alpha 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rgba(pub u8, pub u8, pub u8, pub f32);

impl Rgba {
    pub const fn alpha(self, alpha: f32) -> Rgba {
        Rgba(self.0, self.1, self.2, alpha)
    }

    /// The colour `t` of the way to `other`.
    pub fn mix(self, other: Rgba, t: f32) -> Rgba {
        let channel = |a: u8, b: u8| to_u8(lerp(f32::from(a), f32::from(b), t));
        Rgba(channel(self.0, other.0), channel(self.1, other.1), channel(self.2, other.2), lerp(self.3, other.3, t))
    }

    fn color(self) -> Color {
        Color::from_rgba8(self.0, self.1, self.2, to_u8(self.3 * 255.0))
    }
}

pub fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, with a continuous slope between.
pub fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of u8 first")]
pub fn to_u8(x: f32) -> u8 {
    x.round().clamp(0.0, 255.0) as u8
}

#[expect(clippy::cast_possible_truncation, reason = "coordinates lie within a few thousand pixels")]
pub fn to_i32(x: f32) -> i32 {
    x.round() as i32
}

/// What fills a shape. Coordinates are those of the layer that the shape is drawn in.
pub enum Fill<'a> {
    Flat(Rgba),
    /// From (x0, y0) to (x1, y1).
    Linear([f32; 4], &'a [(f32, Rgba)]),
    /// Centre and the two radii of an ellipse.
    Radial([f32; 4], &'a [(f32, Rgba)]),
}

impl Fill<'_> {
    fn shader(&self) -> Option<Shader<'static>> {
        let stops = |stops: &[(f32, Rgba)]| stops.iter().map(|&(at, c)| GradientStop::new(at, c.color())).collect();
        match *self {
            Fill::Flat(color) => Some(Shader::SolidColor(color.color())),
            Fill::Linear([x0, y0, x1, y1], s) => LinearGradient::new(
                Point::from_xy(x0, y0),
                Point::from_xy(x1, y1),
                stops(s),
                SpreadMode::Pad,
                Transform::identity(),
            ),
            Fill::Radial([x, y, rx, ry], s) => RadialGradient::new(
                Point::from_xy(x, y),
                Point::from_xy(x, y),
                rx,
                stops(s),
                SpreadMode::Pad,
                Transform::from_row(1.0, 0.0, 0.0, ry / rx, 0.0, y * (1.0 - ry / rx)),
            ),
        }
    }
}

/// An outline under construction. Curves are cubic; `smooth` runs a curve through points.
#[derive(Default)]
pub struct Shape(PathBuilder);

impl Shape {
    pub fn at(x: f32, y: f32) -> Shape {
        let mut builder = PathBuilder::new();
        builder.move_to(x, y);
        Shape(builder)
    }

    pub fn line(mut self, x: f32, y: f32) -> Shape {
        self.0.line_to(x, y);
        self
    }

    pub fn curve(mut self, c1: (f32, f32), c2: (f32, f32), end: (f32, f32)) -> Shape {
        self.0.cubic_to(c1.0, c1.1, c2.0, c2.1, end.0, end.1);
        self
    }

    pub fn close(mut self) -> Option<Path> {
        self.0.close();
        self.0.finish()
    }

    pub fn open(self) -> Option<Path> {
        self.0.finish()
    }

    pub fn ellipse(x: f32, y: f32, rx: f32, ry: f32) -> Option<Path> {
        tiny_skia::Rect::from_ltrb(x - rx, y - ry, x + rx, y + ry).and_then(PathBuilder::from_oval)
    }

    /// A closed curve through all points (Catmull-Rom).
    pub fn smooth(points: &[(f32, f32)]) -> Option<Path> {
        let n = points.len();
        let first = points.first()?;
        let mut shape = Shape::at(first.0, first.1);
        for i in 0..n {
            let [p0, p1, p2, p3] = [(i + n - 1) % n, i, (i + 1) % n, (i + 2) % n].map(|k| points[k]);
            shape = shape.curve(
                (p1.0 + (p2.0 - p0.0) / 6.0, p1.1 + (p2.1 - p0.1) / 6.0),
                (p2.0 - (p3.0 - p1.0) / 6.0, p2.1 - (p3.1 - p1.1) / 6.0),
                p2,
            );
        }
        shape.close()
    }

    /// A stroke that is thin at both ends: the quadratic curve a-b-c, `width` wide where it is widest (at `belly`, 0..1).
    pub fn tapered(a: (f32, f32), b: (f32, f32), c: (f32, f32), width: f32, belly: f32) -> Option<Path> {
        const STEPS: u8 = 14;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for i in 0..=STEPS {
            let t = f32::from(i) / f32::from(STEPS);
            let point = |p: f32, q: f32, r: f32| (1.0 - t) * (1.0 - t) * p + 2.0 * t * (1.0 - t) * q + t * t * r;
            let slope = |p: f32, q: f32, r: f32| (1.0 - t) * (q - p) + t * (r - q);
            let (x, y) = (point(a.0, b.0, c.0), point(a.1, b.1, c.1));
            let (dx, dy) = (slope(a.0, b.0, c.0), slope(a.1, b.1, c.1));
            let length = dx.hypot(dy).max(1e-3);
            let bulge = if t < belly { t / belly } else { (1.0 - t) / (1.0 - belly) };
            let half = 0.5 * width * (bulge * std::f32::consts::FRAC_PI_2).sin();
            left.push((x - dy / length * half, y + dx / length * half));
            right.push((x + dy / length * half, y - dx / length * half));
        }
        let mut shape = Shape::at(a.0, a.1);
        for &(x, y) in left.iter().chain(right.iter().rev()) {
            shape = shape.line(x, y);
        }
        shape.close()
    }
}

/// A window onto the frame: `origin` is the frame pixel of its top-left corner.
pub struct Canvas {
    pixmap: Pixmap,
    origin: (f32, f32),
    layer: Transform,
}

impl Canvas {
    pub fn new(size: u32, origin: (u32, u32)) -> Option<Canvas> {
        let pixmap = Pixmap::new(size, size)?;
        #[expect(clippy::cast_precision_loss, reason = "a frame is 512 pixels wide")]
        let origin = (origin.0 as f32, origin.1 as f32);
        let mut canvas = Canvas { pixmap, origin, layer: Transform::identity() };
        canvas.set_layer(Transform::identity());
        Some(canvas)
    }

    /// Sets the transform from the coordinates of the shapes to those of the frame.
    pub fn set_layer(&mut self, to_frame: Transform) {
        self.layer = to_frame.post_translate(-self.origin.0, -self.origin.1);
    }

    pub fn into_rgb(self) -> Vec<u8> {
        self.pixmap.data().chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
    }

    /// Whether nothing outside of a part of the frame (left, top, right, bottom) can be seen here.
    pub fn lies_within(&self, [left, top, right, bottom]: [f32; 4]) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a frame is 512 pixels wide")]
        let size = self.pixmap.width() as f32;
        let (x, y) = self.origin;
        x >= left && y >= top && x + size <= right && y + size <= bottom
    }

    fn misses(&self, path: &Path, margin: f32) -> bool {
        let Some(bounds) = path.bounds().transform(self.layer) else { return true };
        #[expect(clippy::cast_precision_loss, reason = "a frame is 512 pixels wide")]
        let size = self.pixmap.width() as f32 + margin;
        bounds.right() < -margin || bounds.bottom() < -margin || bounds.left() > size || bounds.top() > size
    }

    /// The area inside `path`, to clip what is drawn next.
    pub fn clip(&self, path: &Option<Path>) -> Option<Mask> {
        let mut mask = Mask::new(self.pixmap.width(), self.pixmap.height())?;
        if let Some(path) = path {
            mask.fill_path(path, FillRule::Winding, true, self.layer);
        }
        Some(mask)
    }

    pub fn fill(&mut self, path: &Option<Path>, fill: &Fill<'_>) {
        self.fill_in(path, fill, None);
    }

    pub fn fill_in(&mut self, path: &Option<Path>, fill: &Fill<'_>, clip: Option<&Mask>) {
        let (Some(path), Some(shader)) = (path, fill.shader()) else { return };
        if self.misses(path, 1.0) {
            return;
        }
        let paint = Paint { shader, ..Paint::default() };
        self.pixmap.fill_path(path, &paint, FillRule::Winding, self.layer, clip);
    }

    pub fn stroke_in(&mut self, path: &Option<Path>, fill: &Fill<'_>, width: f32, clip: Option<&Mask>) {
        let (Some(path), Some(shader)) = (path, fill.shader()) else { return };
        if self.misses(path, width) {
            return;
        }
        let paint = Paint { shader, ..Paint::default() };
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.pixmap.stroke_path(path, &paint, &stroke, self.layer, clip);
    }

    /// Fills `path` with its edge blurred. `radius` is that of each of three box blurs, so colour reaches
    /// exactly 3 * `radius` pixels beyond the path and no further.
    pub fn soft(&mut self, path: &Option<Path>, color: Rgba, radius: u16, clip: Option<&Mask>) {
        let Some(path) = path else { return };
        let reach = i32::from(radius) * 3 + 1;
        let Some(bounds) = path.bounds().transform(self.layer) else { return };
        let (width, height) = (self.pixmap.width().cast_signed(), self.pixmap.height().cast_signed());
        // The part of the blurred shape that can be seen, and around it what the blur draws in from.
        let left = to_i32(bounds.left().floor()).max(-reach) - reach;
        let top = to_i32(bounds.top().floor()).max(-reach) - reach;
        let right = to_i32(bounds.right().ceil()).min(width + reach) + reach;
        let bottom = to_i32(bounds.bottom().ceil()).min(height + reach) + reach;
        if right <= left.max(-reach) || bottom <= top.max(-reach) || left >= width || top >= height {
            return;
        }
        let (w, h) = ((right - left).cast_unsigned(), (bottom - top).cast_unsigned());
        let Some(mut mask) = Mask::new(w, h) else { return };
        #[expect(clippy::cast_precision_loss, reason = "a frame is 512 pixels wide")]
        let shift = self.layer.post_translate(-left as f32, -top as f32);
        mask.fill_path(path, FillRule::Winding, true, shift);
        let (w, h) = (w as usize, h as usize);
        let mut line = vec![0; w.max(h)];
        for _ in 0..3 {
            for y in 0..h {
                box_blur(mask.data_mut(), y * w, 1, w, usize::from(radius), &mut line);
            }
            for x in 0..w {
                box_blur(mask.data_mut(), x, w, h, usize::from(radius), &mut line);
            }
        }
        let ink = [color.0, color.1, color.2].map(u32::from);
        let strength = u32::from(to_u8(color.3 * 255.0));
        let (x0, x1) = (left.max(0), right.min(width));
        for y in top.max(0)..bottom.min(height) {
            let source = (y - top).cast_unsigned() as usize * w + (x0 - left).cast_unsigned() as usize;
            let target = (y * width + x0).cast_unsigned() as usize;
            for i in 0..(x1 - x0).max(0).cast_unsigned() as usize {
                let mut alpha = u32::from(mask.data()[source + i]) * strength;
                if let Some(clip) = clip {
                    alpha = alpha * u32::from(clip.data()[target + i]) / 255;
                }
                if alpha > 0 {
                    let pixel = &mut self.pixmap.data_mut()[(target + i) * 4..][..3];
                    for (value, &ink) in pixel.iter_mut().zip(&ink) {
                        let mixed = (u32::from(*value) * (65025 - alpha) + ink * alpha + 32512) / 65025;
                        *value = u8::try_from(mixed).unwrap_or(255);
                    }
                }
            }
        }
    }
}

/// Averages a line of `count` values that lie `step` apart over 2 * `radius` + 1 neighbours; beyond the ends is 0.
fn box_blur(data: &mut [u8], start: usize, step: usize, count: usize, radius: usize, line: &mut [u8]) {
    for (i, value) in line[..count].iter_mut().enumerate() {
        *value = data[start + i * step];
    }
    let window = u32::try_from(2 * radius + 1).unwrap_or(u32::MAX);
    let mut sum: u32 = line[..count.min(radius)].iter().copied().map(u32::from).sum();
    for i in 0..count {
        if i + radius < count {
            sum += u32::from(line[i + radius]);
        }
        if i > radius {
            sum -= u32::from(line[i - radius - 1]);
        }
        data[start + i * step] = u8::try_from((sum + window / 2) / window).unwrap_or(255);
    }
}
