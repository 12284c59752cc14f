//! Tells lips from skin by colour.
//!
//! In here: Fisher's linear discriminant of two groups of colours. Not in here: which pixels they are (`lips`).

/// Tells two groups of colours apart (Fisher's linear discriminant).
pub(super) struct Divide {
    from: [f32; 3],
    along: [f32; 3],
    /// The squared distance of the groups, in deviations.
    pub(super) apart: f32,
}

impl Divide {
    pub(super) fn new(lip: &[[f32; 3]], skin: &[[f32; 3]]) -> Self {
        let (from, to) = (median(skin), median(lip));
        let mut spread = [[0.0_f32; 3]; 3];
        let away = lip.iter().map(|colour| (colour, to)).chain(skin.iter().map(|colour| (colour, from)));
        for (colour, middle) in away {
            for row in 0..3 {
                for column in 0..3 {
                    spread[row][column] += (colour[row] - middle[row]) * (colour[column] - middle[column]);
                }
            }
        }
        let count = (lip.len() + skin.len()).max(1) as f32;
        // The noise that a picture has even where all colours are the same.
        let noise = 30.0;
        for (row, values) in spread.iter_mut().enumerate() {
            values.iter_mut().for_each(|value| *value /= count);
            values[row] += noise;
        }
        let difference = [0, 1, 2].map(|axis| to[axis] - from[axis]);
        let along = solve(spread, difference);
        let apart = along.iter().zip(difference).map(|(a, b)| a * b).sum();
        Self { from, along, apart }
    }

    /// 0 for skin, 1 for lips.
    pub(super) fn lip(&self, colour: [f32; 3]) -> f32 {
        let sum: f32 = (0..3).map(|axis| (colour[axis] - self.from[axis]) * self.along[axis]).sum();
        (sum / self.apart.max(1e-3)).clamp(-1.0, 2.0)
    }

    /// How much it can be relied on: nothing where the groups overlap.
    pub(super) fn weight(&self) -> f32 {
        ((self.apart - 2.0) / 6.0).clamp(0.0, 1.0)
    }
}

pub(super) fn median(colours: &[[f32; 3]]) -> [f32; 3] {
    [0, 1, 2].map(|axis| {
        let mut levels: Vec<f32> = colours.iter().map(|colour| colour[axis]).collect();
        levels.sort_by(f32::total_cmp);
        levels.get(levels.len() / 2).copied().unwrap_or_default()
    })
}

/// Cramer's rule; the matrix is positive definite.
fn solve(matrix: [[f32; 3]; 3], right: [f32; 3]) -> [f32; 3] {
    let determinant = |m: [[f32; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(matrix).max(1e-6);
    [0, 1, 2].map(|axis| {
        let mut part = matrix;
        part.iter_mut().zip(right).for_each(|(row, value)| row[axis] = value);
        determinant(part) / whole
    })
}
