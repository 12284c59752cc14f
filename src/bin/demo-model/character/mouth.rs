//! The mouth: how an articulation bends the lips and the jaw, and how the mouth is drawn.
//!
//! Not here: the skin around it (`head`). Every quantity is a continuous function of the articulation, so any blend of
//! two articulations is a mouth too.

use tiny_skia::{Mask, Path};

use super::MouthShape;
use super::canvas::{Canvas, Fill, Shape, lerp, smoothstep};
use super::palette as ink;

/// Where the lips meet, in feature coordinates.
pub const CENTRE: (f32, f32) = (256.0, 313.0);

/// A mouth in pixels; heights are relative to `CENTRE`, positive downwards.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Half the distance of the outer lip corners.
    half: f32,
    /// Half the distance of the corners of the opening.
    inner: f32,
    /// Height of the corners.
    corner: f32,
    /// Lower edge of the upper lip and upper edge of the lower lip, in the middle.
    upper: f32,
    lower: f32,
    upper_lip: f32,
    lower_lip: f32,
    round: f32,
    gap: f32,
    /// How far the chin has dropped.
    pub jaw: f32,
    shape: MouthShape,
}

impl Geometry {
    pub fn new(mouth: &MouthShape) -> Geometry {
        let unit = |x: f32| if x.is_finite() { x.clamp(0.0, 1.0) } else { 0.0 };
        let press = unit(mouth.press);
        let free = 1.0 - press;
        let shape = MouthShape {
            open: unit(mouth.open) * free,
            wide: unit(mouth.wide),
            round: unit(mouth.round),
            press,
            bite: unit(mouth.bite) * free,
            tongue: unit(mouth.tongue) * free,
            teeth: unit(mouth.teeth) * free,
        };
        let MouthShape { open, wide, round, bite, tongue, teeth, .. } = shape;
        // What parts the lips adds up like the sides of a box: the largest part decides, and nothing jumps.
        let parts =
            [26.0 * open * (1.0 - 0.3 * round), 7.5 * teeth, 10.0 * tongue, 7.0 * round * free, 4.0 * wide * free];
        let parted = parts.iter().map(|p| p * p * p).sum::<f32>().cbrt();
        let gap = lerp(parted, 5.5, bite * 0.9);
        let lift = gap * lerp(0.2, 0.36, round) * (1.0 - 0.35 * open) + 1.2 * bite;
        let seam = 1.6;
        let half = 33.5 + 6.0 * wide * (1.0 - 0.5 * round) - 13.5 * round - 1.5 * open - 1.0 * press - 2.0 * bite;
        Geometry {
            half,
            inner: half - 2.0 - 1.6 * smoothstep(0.0, 12.0, gap),
            corner: -5.2 - 0.8 * wide + 4.8 * round + 0.16 * gap + 2.0 * press,
            upper: seam - lift,
            lower: seam - lift + gap,
            upper_lip: (9.8 - 1.4 * wide + 2.0 * round - 0.05 * gap) * (1.0 - 0.42 * press),
            lower_lip: (10.4 - 1.2 * wide + 1.6 * round - 0.07 * gap) * (1.0 - 0.4 * press) * (1.0 - 0.34 * bite),
            round,
            gap,
            jaw: 0.43 * (gap - lift) + 1.2 * open - 1.2 * bite - 0.6 * press,
            shape,
        }
    }

    fn x(&self, x: f32) -> f32 {
        CENTRE.0 + x
    }

    fn y(&self, y: f32) -> f32 {
        CENTRE.1 + y
    }

    fn p(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x(x), self.y(y))
    }

    /// Control points, from the corner inwards, of the left half of an edge of the opening.
    fn edge(&self, middle: f32, bulge: f32) -> [(f32, f32); 3] {
        let steep = lerp(0.24, 0.02, self.round);
        [
            (-self.inner * (1.0 - steep), lerp(self.corner, middle, bulge)),
            (-self.inner * lerp(0.48, 0.56, self.round), middle),
            (0.0, middle),
        ]
    }

    /// Appends the edge of the opening, from the left corner to the right one or back.
    fn run(&self, shape: Shape, [a, b, c]: [(f32, f32); 3], rightwards: bool) -> Shape {
        let s = if rightwards { 1.0 } else { -1.0 };
        let at = |(x, y): (f32, f32), side: f32| self.p(x * side, y);
        shape.curve(at(a, s), at(b, s), at(c, s)).curve(at(b, -s), at(a, -s), self.p(s * self.inner, self.corner))
    }

    fn upper_edge(&self) -> [(f32, f32); 3] {
        self.edge(self.upper, lerp(0.5, 0.62, self.round))
    }

    fn lower_edge(&self) -> [(f32, f32); 3] {
        self.edge(self.lower, lerp(0.5, 0.66, smoothstep(2.0, 16.0, self.gap).max(self.round)))
    }

    fn opening(&self) -> Option<Path> {
        let shape = Shape::at(self.x(-self.inner), self.y(self.corner));
        self.run(self.run(shape, self.upper_edge(), true), self.lower_edge(), false).close()
    }

    fn upper_lip(&self) -> Option<Path> {
        let top = self.upper - self.upper_lip;
        let bow = lerp(7.5, 5.0, self.round);
        let dip = 2.3 * (1.0 - 0.5 * self.shape.press);
        let half = self.half;
        // Where the lip leaves the corner, it rises towards the bow in a hollow curve.
        let hollow = |side: f32| {
            [self.p(side * half * 0.8, lerp(self.corner, top, 0.34)), self.p(side * half * 0.44, top + 0.4)]
        };
        let ([l1, l2], [r1, r2]) = (hollow(-1.0), hollow(1.0));
        let shape = Shape::at(self.x(-half), self.y(self.corner))
            .curve(l1, l2, self.p(-bow, top))
            .curve(self.p(-bow * 0.45, top), self.p(-bow * 0.4, top + dip), self.p(0.0, top + dip))
            .curve(self.p(bow * 0.4, top + dip), self.p(bow * 0.45, top), self.p(bow, top))
            .curve(r2, r1, self.p(half, self.corner))
            .line(self.x(self.inner), self.y(self.corner));
        self.run(shape, self.upper_edge(), false).close()
    }

    fn lower_lip(&self) -> Option<Path> {
        let bottom = self.lower + self.lower_lip;
        let half = self.half;
        let (near, far) = (lerp(0.9, 1.0, self.round), lerp(0.5, 0.56, self.round));
        let low = lerp(self.corner, bottom, lerp(0.6, 0.72, smoothstep(4.0, 22.0, self.gap).max(self.round)));
        let shape = Shape::at(self.x(-half), self.y(self.corner))
            .curve(self.p(-half * near, low), self.p(-half * far, bottom), self.p(0.0, bottom))
            .curve(self.p(half * far, bottom), self.p(half * near, low), self.p(half, self.corner))
            .line(self.x(self.inner), self.y(self.corner));
        self.run(shape, self.lower_edge(), false).close()
    }

    /// The line along which closed lips meet.
    fn seam(&self) -> Option<Path> {
        let corner = (-self.half + 0.6, self.corner);
        let [a, b, c] = self.upper_edge();
        let middle = lerp(self.upper, self.lower, 0.5) - self.upper;
        let at = |(x, y): (f32, f32), side: f32| self.p(x * side, y + middle);
        Shape::at(self.x(corner.0), self.y(corner.1))
            .curve(at(a, 1.0), at(b, 1.0), at(c, 1.0))
            .curve(at(b, -1.0), at(a, -1.0), self.p(-corner.0, corner.1))
            .open()
    }

    /// Height of the cutting edge of the upper teeth. They belong to the skull, so the jaw does not move them.
    fn upper_teeth(&self) -> f32 {
        let MouthShape { open, wide, round, teeth, .. } = self.shape;
        3.2 + 1.2 * wide + 1.0 * teeth + 1.6 * open - 7.5 * round * (1.0 - 0.5 * teeth)
    }

    pub fn draw(&self, canvas: &mut Canvas) {
        self.draw_surroundings(canvas);
        let opening = self.opening();
        // Lips and opening meet in one curve; without a ground under it, the skin would shine through as a pale fringe.
        canvas.stroke_in(&opening, &Fill::Flat(ink::LIP_SEAM), 1.8, None);
        if let Some(clip) = canvas.clip(&opening) {
            self.draw_inside(canvas, &opening, &clip);
        }
        self.draw_lips(canvas);
    }

    /// Shading of the skin that follows the lips.
    fn draw_surroundings(&self, canvas: &mut Canvas) {
        let bottom = self.y(self.lower + self.lower_lip);
        // The hollow between lower lip and chin.
        let (x, y, rx, ry) = (CENTRE.0, bottom + 4.2, self.half * 0.72, 6.5);
        let shade = ink::SKIN_DEEP;
        let stops = [(0.0, shade.alpha(0.42)), (0.5, shade.alpha(0.2)), (1.0, shade.alpha(0.0))];
        canvas.fill(&Shape::ellipse(x, y, rx, ry), &Fill::Radial([x, y, rx, ry], &stops));
        // A smile's shadow at the corners.
        for side in [-1.0, 1.0] {
            let (x, y, r) = (self.x(side * (self.half + 1.4)), self.y(self.corner + 0.2), 6.0 + self.shape.wide);
            let stops = [(0.0, shade.alpha(0.45)), (0.45, shade.alpha(0.2)), (1.0, shade.alpha(0.0))];
            canvas.fill(&Shape::ellipse(x, y, r, r), &Fill::Radial([x, y, r, r], &stops));
        }
    }

    fn draw_inside(&self, canvas: &mut Canvas, opening: &Option<Path>, clip: &Mask) {
        let (top, bottom) = (self.y(self.upper), self.y(self.lower));
        let cavity = [(0.0, ink::CAVITY_DEEP), (0.55, ink::CAVITY_DEEP.mix(ink::CAVITY, 0.5)), (1.0, ink::CAVITY)];
        canvas.fill(opening, &Fill::Linear([0.0, top, 0.0, bottom + 1.0], &cavity));

        let MouthShape { tongue, teeth, .. } = self.shape;
        let biting = self.upper_teeth();
        // At rest the tongue lies low; raised, its tip meets the edge of the upper teeth.
        let low = lerp(self.lower - 0.1 * self.gap, self.lower - 0.4 * self.gap, smoothstep(5.0, 20.0, self.gap));
        let low = low.max(biting + 1.5) + 3.0 * teeth;
        let tip = lerp(low, biting - 2.6, tongue);
        let width = self.inner * lerp(0.62, 0.56, tongue);
        let height = self.lower + 9.0 - tip;
        let body = Shape::ellipse(CENTRE.0, self.y(tip + height), width, height);
        let flesh = [(0.0, ink::TONGUE), (0.45, ink::TONGUE.mix(ink::TONGUE_DARK, 0.45)), (1.0, ink::TONGUE_DARK)];
        let flesh = Fill::Linear([0.0, self.y(tip), 0.0, self.y(self.lower + 2.0).max(self.y(tip) + 4.0)], &flesh);
        canvas.fill_in(&body, &flesh, Some(clip));

        // Lower teeth ride on the jaw; closed, they meet the upper ones.
        let shown = self.lower - 3.4 * smoothstep(10.0, 24.0, self.gap);
        let ridge = lerp(shown + 1.0, biting + 0.9, teeth);
        self.draw_row(canvas, clip, (ridge, self.lower + 8.0), self.inner * 0.62, -1.0);
        self.draw_row(canvas, clip, (self.upper - 10.0, biting), self.inner * 0.84, 1.0);

        if tongue > 0.0 {
            // The tip passes in front of the teeth.
            let wide = width * 0.84;
            let y = self.y(tip + 7.0);
            let tip_body = Shape::ellipse(CENTRE.0, y, wide, 7.0);
            let stops = [
                (0.0, ink::TONGUE.mix(ink::LIP_SHINE, 0.12).alpha(smoothstep(0.1, 0.6, tongue))),
                (1.0, ink::TONGUE.mix(ink::TONGUE_DARK, 0.3).alpha(smoothstep(0.1, 0.6, tongue))),
            ];
            canvas.fill_in(&tip_body, &Fill::Linear([0.0, y - 7.0, 0.0, y + 4.0], &stops), Some(clip));
        }
        // Lips shade what lies behind them.
        let depth = 0.5 * smoothstep(1.0, 9.0, self.gap);
        let shade = [(0.0, ink::CAVITY_DEEP.alpha(depth)), (1.0, ink::CAVITY_DEEP.alpha(0.0))];
        canvas.fill_in(opening, &Fill::Linear([0.0, top - 1.0, 0.0, top + 5.0], &shade), Some(clip));
    }

    /// A row of teeth from `span.0` down to `span.1`, its free edge bowed: downwards for `side` 1, upwards for -1.
    fn draw_row(&self, canvas: &mut Canvas, clip: &Mask, span: (f32, f32), half: f32, side: f32) {
        let (top, bottom) = (self.y(span.0), self.y(span.1));
        let bow = 3.2;
        let left = CENTRE.0 - half;
        let right = CENTRE.0 + half;
        let row = if side > 0.0 {
            Shape::at(left, top)
                .line(right, top)
                .line(right, bottom - bow - 1.5)
                .curve((right - 2.0, bottom - bow * 0.3), (CENTRE.0 + half * 0.5, bottom), (CENTRE.0, bottom))
                .curve((CENTRE.0 - half * 0.5, bottom), (left + 2.0, bottom - bow * 0.3), (left, bottom - bow - 1.5))
        } else {
            Shape::at(left, bottom)
                .line(right, bottom)
                .line(right, top + 1.5)
                .curve((right - 2.0, top), (CENTRE.0 + half * 0.5, top), (CENTRE.0, top))
                .curve((CENTRE.0 - half * 0.5, top), (left + 2.0, top), (left, top + 1.5))
        };
        let dim = if side > 0.0 { 0.0 } else { 0.55 };
        let bright = ink::TEETH.mix(ink::TEETH_SHADE, dim);
        let edge = bright.mix(ink::TEETH_SHADE, 0.75);
        let stops = [(0.0, edge), (0.26, bright), (0.74, bright), (1.0, edge)];
        let row = row.close();
        canvas.fill_in(&row, &Fill::Linear([left, 0.0, right, 0.0], &stops), Some(clip));
        if side > 0.0 {
            for gap in [-0.62, -0.33, 0.0, 0.33, 0.62] {
                let x = CENTRE.0 + gap * half;
                let line = Shape::at(x, top).line(x, bottom - 1.2 - bow * gap * gap).open();
                canvas.stroke_in(&line, &Fill::Flat(ink::TEETH_SHADE.alpha(0.35)), 0.9, Some(clip));
            }
        }
    }

    fn draw_lips(&self, canvas: &mut Canvas) {
        let lower = self.lower_lip();
        let (top, bottom) = (self.y(self.lower), self.y(self.lower + self.lower_lip));
        let body = [
            (0.0, ink::LIP_LOWER.mix(ink::LIP_UPPER, 0.55)),
            (0.4, ink::LIP_LOWER),
            (1.0, ink::LIP_LOWER.mix(ink::LIP_UPPER, 0.45)),
        ];
        canvas.fill(&lower, &Fill::Linear([0.0, top, 0.0, bottom], &body));
        let (x, y) = (CENTRE.0, lerp(top, bottom, 0.45));
        let (rx, ry) = (self.half * 0.5, self.lower_lip * 0.34);
        let shine =
            [(0.0, ink::LIP_SHINE.alpha(0.5)), (0.5, ink::LIP_SHINE.alpha(0.26)), (1.0, ink::LIP_SHINE.alpha(0.0))];
        canvas.fill(&lower, &Fill::Radial([x, y, rx, ry], &shine));

        let upper = self.upper_lip();
        let (top, bottom) = (self.y(self.upper - self.upper_lip), self.y(self.upper));
        let body = [
            (0.0, ink::LIP_UPPER.mix(ink::LIP_LOWER, 0.5)),
            (0.55, ink::LIP_UPPER),
            (1.0, ink::LIP_UPPER.mix(ink::LIP_SEAM, 0.45)),
        ];
        canvas.fill(&upper, &Fill::Linear([0.0, top, 0.0, bottom + 1.0], &body));
        let shut = 1.0 - smoothstep(0.5, 5.0, self.gap);
        if shut > 0.0 {
            let width = 1.5 - 0.1 * self.gap;
            canvas.stroke_in(&self.seam(), &Fill::Flat(ink::LIP_SEAM.alpha(shut)), width, None);
        }
    }
}
